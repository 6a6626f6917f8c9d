// SPDX-License-Identifier: Apache-2.0
//
// What the files of this folder share.
#ifndef WIRT_NODE_HTTP_HTTP_INTERNAL_H
#define WIRT_NODE_HTTP_HTTP_INTERNAL_H

#include <libwebsockets.h>

#include "node/http/http.h"
#include "node/http/http_multipart.h"

struct http_server {
    struct http_options options;
    struct lws_context *context;
    struct lws_vhost *vhosts[2];
    int port;
    bool stopping;
};

// What a connection is at the moment; libwebsockets keeps the pointer (opaque user data). NULL: idle.
struct http_thing {
    enum http_thing_kind { HTTP_EXCHANGE, HTTP_SOCKET } kind;
};

struct http_exchange {
    struct http_thing thing;
    struct http_server *server;
    struct lws *wsi; // NULL: the client is gone
    struct http_request request;
    char *body;
    size_t body_length, body_room;
    struct http_multipart *multipart; // owned, of an upload
    int upload_fd;                    // -1: none
    uint64_t upload_bytes;
    bool dispatched; // handed on: further events of the request are none of ours
    bool answered;
    char *out; // head and body
    size_t out_length, out_sent;
    bool close;
};

struct http_socket {
    struct http_thing thing;
    struct http_server *server;
    struct lws *wsi;
    void *mine;
    bool established, closing;
    // Waits to be sent.
    char *out;
    size_t out_length, out_room;
};

// ---- http_read.c
// Fills the request from the head that arrived. 0, or the status to refuse it with.
int http_read_head(struct lws *wsi, struct http_request *request, bool websocket);
// The body by its content type. 0, or a status.
int http_read_body(struct http_exchange *exchange, struct err *err);

// ---- http_upload.c: a body that goes to a file as it comes. Each 0, or the status to refuse it with and *err.
int http_upload_begin(struct http_exchange *exchange, uint64_t length, struct err *err);
int http_upload_take(struct http_exchange *exchange, const void *bytes, size_t length,
                     struct err *err);
int http_upload_end(struct http_exchange *exchange, struct err *err);
void http_upload_forget(struct http_exchange *exchange); // the file goes, unless somebody took it

// ---- http_socket.c
int http_socket_event(struct lws *wsi, enum lws_callback_reasons reason, void *in, size_t length);
struct http_server *http_server_of(struct lws *wsi);

#endif
