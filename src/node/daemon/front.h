// SPDX-License-Identifier: Apache-2.0
//
// Between the front door and the table: which request goes to the interface, which to the page, and how answers are written.
#ifndef WIRT_NODE_DAEMON_FRONT_H
#define WIRT_NODE_DAEMON_FRONT_H

#include "node/api/api.h"
#include "node/http/http.h"
#include "node/rest/rest.h"

struct front {
    struct api *api;
    struct node *node;
    const char *web; // folder, or NULL
};

extern const struct http_ops front_ops; // user: struct front

// front_page.c: a file of the page.
void front_page(struct front *front, struct http_exchange *exchange,
                const struct http_request *request);
void front_error(struct http_exchange *exchange, int status, const char *reason);

#endif
