// SPDX-License-Identifier: Apache-2.0
//
// Contexts: the nodes that a user knows by name, each with an address, an API token and the node's own certificate. They are one JSON
// file of the user's (mode 0600), written anew and renamed into place, so that it is never half there.
//
// Which node is meant, first match wins: --host (with WIRT_TOKEN), --context, WIRT_CONTEXT, the current context, the machine's own node by its socket.
#ifndef WIRT_CLIENT_CONTEXT_H
#define WIRT_CLIENT_CONTEXT_H

#include <jansson.h>

#include "client/client.h"

// The file as {"current": NAME, "contexts": {NAME: {"url", "token", "certificate"}}}; an empty one when there is none. The caller's to release.
json_t *context_load(struct err *err);
int context_save(const json_t *contexts, struct err *err);

// The certificate that a server at `url` shows, in PEM, and the SHA-256 of its DER form as "AB:CD:…"; both are the caller's to free.
int context_fetch_certificate(const char *url, char **pem, char **fingerprint, struct err *err);

// "host", "host:8006" or a whole URL becomes a URL; 8006 is the port where none is said.
void context_url(const char *host, char *url, size_t size);

// A client for whatever is meant by the words (NULL: not given) and the environment; `local_socket` is where the machine's own node listens.
struct client *context_open(const char *host, const char *name, const char *local_socket,
                            struct err *err);

#endif
