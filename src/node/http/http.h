// SPDX-License-Identifier: Apache-2.0
//
// The front door: HTTP/1.1 and WebSocket over TLS, and the same in plain on a Unix socket, by libwebsockets on one event loop.
//
// It turns bytes into requests and replies into bytes and knows nothing of what they mean. What comes in is bounded before it is looked at:
// header lines, body, parameters, depth of JSON. There is no HTTP/2: clients read errors from the reason phrase, which it has not. The loop of
// os/loop.h runs inside: its descriptor is one of those that libwebsockets waits for.
//
// Threads: everything on the one that calls http_run(), but http_stop().
#ifndef WIRT_NODE_HTTP_HTTP_H
#define WIRT_NODE_HTTP_HTTP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define HTTP_BODY_MAX   (512 * 1024)
#define HTTP_DEPTH_MAX  32 // of JSON
#define HTTP_PARAMS_MAX 1024
#define HTTP_PATH_BYTES 4096

struct http_server;
struct http_exchange; // a request on its way to its reply
struct http_socket;   // a WebSocket
struct os_loop;

// As it came. Owned by the exchange; credentials may be empty strings.
struct http_request {
    const char *method;         // "GET", …: a constant
    char path[HTTP_PATH_BYTES]; // percent-decoded, begins with '/'
    json_t *query;              // {name: string or [strings]}
    json_t *body;               // the same, or what the JSON body held; NULL: none
    char cookie[4096], authorization[1024], csrf[256], content_type[256], origin[256], host[256];
    char address[64];
    bool owner; // came by the Unix socket from root or from the server's own user
    char upload
        [HTTP_PATH_BYTES]; // where the file of a multipart body lies, until the answer; "": none
};

struct http_reply {
    int status;
    const char *reason;  // one line; NULL: what is usual
    const char *type;    // content type
    const char *headers; // more of them, each ended by "\r\n"; or NULL
    char *body;          // taken over, freed by free()
    size_t length;
};

// What the rest of the program does. `user` as in the options.
struct http_ops {
    // A whole request: http_answer() once, now or later.
    void (*request)(void *user, struct http_exchange *exchange, const struct http_request *request);
    // A multipart body is about to come, of so many bytes: a file to write it to, whose path goes to `path`, or -1 with the status to refuse it with.
    int (*upload)(void *user, const struct http_request *request, uint64_t length,
                  char path[HTTP_PATH_BYTES], int *status, struct err *err);
    // Somebody wants a WebSocket: 0 and the caller's own thing in *mine, or -1 and it is refused.
    int (*upgrade)(void *user, const struct http_request *request, struct http_socket *socket,
                   void **mine);
    void (*opened)(void *mine); // it stands: bytes may be sent
    void (*received)(void *mine, const void *bytes, size_t length);
    void (*drained)(void *mine); // all that was sent is gone
    void (*closed)(void *mine);  // the last call
};

struct http_options {
    const struct http_ops *ops;
    void *user;
    struct os_loop *loop; // borrowed
    const char *address;  // NULL: all
    int port;             // 0: no TCP
    const char *certificate, *key;
    const char *socket; // path, or NULL
};
struct http_server *http_create(const struct http_options *options, struct err *err);
void http_destroy(struct http_server *server);
void http_run(struct http_server *server);       // until http_stop()
void http_stop(struct http_server *server);      // any thread
int http_port(const struct http_server *server); // as it became, when 0 < port was asked for

void http_answer(struct http_exchange *exchange, const struct http_reply *reply);

// Queues bytes for the other end. false: more than a megabyte waits, nothing was taken.
bool http_socket_send(struct http_socket *socket, const void *bytes, size_t length);
void http_socket_close(struct http_socket *socket);

// ---- http_parse.c: pure.
// "a=1&b=2" into an object; repeated names become arrays. -1 for what is no such form.
int http_parse_form(const char *text, size_t length, json_t *object, struct err *err);
// Adds one pair.
int http_add_param(json_t *object, const char *name, size_t name_length, const char *value,
                   size_t value_length, struct err *err);
json_t *http_parse_json(const char *text, size_t length, struct err *err);
// The value of a cookie, percent-decoded; false when there is none.
bool http_cookie(const char *header, const char *name, char *value, size_t size);
// Decodes %XX in place, and '+' when told so; false for wrong digits or a zero byte.
bool http_percent_decode(char *text, bool plus);

// ---- certificate.c
// Makes a self-signed certificate when the files are missing.
int http_certificate_make(const char *certificate, const char *key, const char *name,
                          struct err *err);
// "AB:CD:…" of the certificate's SHA-256.
int http_certificate_fingerprint(const char *certificate, char text[96], struct err *err);

#endif
