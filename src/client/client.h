// SPDX-License-Identifier: Apache-2.0
//
// A node's interface as the command line uses it: one request, one answer.
//
// A client belongs to one thread. It reaches a node through its Unix socket (the machine's own node) or by HTTPS with
// an API token. A node's certificate is usually its own: it is trusted when it is the very one that the context keeps (client/context.h), and
// otherwise when the system's authorities vouch for it. Redirects are not followed and nothing is tried twice.
#ifndef WIRT_CLIENT_CLIENT_H
#define WIRT_CLIENT_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct client;

// Where a node is and who asks. Strings are copied.
struct client_target {
    const char *socket;      // path of a Unix socket, or NULL
    const char *url;         // "https://host:8006" when there is no socket
    const char *token;       // "user@realm!name=secret", or NULL: the socket tells who asks
    const char *certificate; // PEM of the node's own certificate, or NULL
};

struct client *client_open(const struct client_target *target, struct err *err);
void client_close(struct client *client);

// "GET", "/cluster/resources" and parameters (an object of strings, numbers, booleans and arrays of strings; may be NULL): in the query for GET and
// DELETE, as a form else. On success *data is the answer's data, the caller's to release (json null is a value, too). An error's text is the
// node's own reason with its fields; its code tells not-found, denied, exists, busy, input and the rest.
int client_call(struct client *client, const char *method, const char *path,
                const json_t *parameters, json_t **data, struct err *err);

// Sends a file to a datastore; `progress` (may be NULL) is told bytes sent and in all. *data is the task's UPID.
typedef void client_progress(void *user, uint64_t done, uint64_t total);
int client_upload(struct client *client, const char *path, const char *content,
                  const char *file_path, const char *name, client_progress *progress, void *user,
                  json_t **data, struct err *err);

// A WebSocket (RFC 6455) to `path` below the API, subprotocol "binary". While it is open the client makes no other request. Messages are
// binary; receive gives what is there of the next one (0: nothing now, -1: closed or failed, err says which: ERR_CANCELLED is a close in order).
struct client_socket;
struct client_socket *client_socket_open(struct client *client, const char *path,
                                         const json_t *query, struct err *err);
int client_socket_fd(
    const struct client_socket *socket); // to wait for; always try receive before waiting
ssize_t client_socket_receive(struct client_socket *socket, void *buffer, size_t size,
                              struct err *err);
int client_socket_send(struct client_socket *socket, const void *bytes, size_t length,
                       struct err *err);
void client_socket_close(struct client_socket *socket);

#endif
