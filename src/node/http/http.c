// SPDX-License-Identifier: Apache-2.0
//
// How it works: one callback gets every event of every connection. A request is collected in an exchange, handed on when it is whole, and
// its reply is written in pieces as the socket takes them; the head is written by us, for the sake of the reason phrase. A client that
// goes away leaves the exchange to its handler, whose answer is then dropped.
#define LOG_MODULE "http"
#include "node/http/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/log.h"
#include "node/http/http_internal.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/loop.h"

#define HEAD_BYTES        2048
#define PIECE_BYTES       65536
#define HEADER_DATA_BYTES 24576
#define HEADER_TABLES     512
#define IDLE_S            60

struct http_server *http_server_of(struct lws *wsi)
{
    return lws_context_user(lws_get_context(wsi));
}

// ---- Exchanges.

static void free_exchange(struct http_exchange *exchange)
{
    http_upload_forget(exchange);
    json_decref(exchange->request.query);
    json_decref(exchange->request.body);
    free(exchange->body);
    free(exchange->out);
    free(exchange);
}

static const char *usual_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {{200, "OK"},
                   {304, "Not Modified"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {413, "Payload Too Large"},
                   {414, "URI Too Long"},
                   {415, "Unsupported Media Type"},
                   {431, "Request Header Fields Too Large"},
                   {501, "Not Implemented"}};
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Error";
}

static size_t write_head(const struct http_exchange *exchange, const struct http_reply *reply,
                         char head[HEAD_BYTES])
{
    char date[64];
    time_t now = (time_t)(os_clock_wall_ns() / 1000000000u);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    int n = snprintf(head, HEAD_BYTES,
                     "HTTP/1.1 %d %.400s\r\n"
                     "Date: %s\r\n"
                     "Server: pve-api-daemon/3.0\r\n"
                     "Connection: %s\r\n"
                     "Content-Length: %zu\r\n"
                     "Content-Type: %s\r\n"
                     "X-Content-Type-Options: nosniff\r\n"
                     "X-Frame-Options: DENY\r\n"
                     "Referrer-Policy: no-referrer\r\n"
                     "%s\r\n",
                     reply->status, reply->reason ? reply->reason : usual_reason(reply->status),
                     date, exchange->close ? "close" : "Keep-Alive", reply->length, reply->type,
                     reply->headers ? reply->headers : "");
    return n > 0 && n < HEAD_BYTES ? (size_t)n : 0;
}

void http_answer(struct http_exchange *exchange, const struct http_reply *reply)
{
    char head[HEAD_BYTES];
    http_upload_forget(exchange);
    if (!exchange->wsi) {
        free(reply->body);
        free_exchange(exchange);
        return;
    }
    bool bodyless = !strcmp(exchange->request.method, "HEAD");
    size_t head_length = write_head(exchange, reply, head);
    size_t body_length = bodyless ? 0 : reply->length;
    exchange->out = malloc(head_length + body_length + 1);
    if (!exchange->out)
        abort();
    memcpy(exchange->out, head, head_length);
    if (body_length)
        memcpy(exchange->out + head_length, reply->body, body_length);
    free(reply->body);
    exchange->out_length = head_length + body_length;
    exchange->answered = true;
    lws_callback_on_writable(exchange->wsi);
}

static void refuse(struct http_exchange *exchange, int status, char *text)
{
    for (char *c = text; c && *c; c++)
        *c = *c >= ' ' && *c < 127 ? *c : ' ';
    char *body = NULL;
    int length = asprintf(&body, "{\"data\":null,\"message\":\"%s\"}", usual_reason(status));
    struct http_reply reply = {.status = status,
                               .reason = text && *text ? text : NULL,
                               .type = "application/json;charset=UTF-8",
                               .body = body,
                               .length = length > 0 ? (size_t)length : 0};
    exchange->dispatched = true;
    exchange->close = true; // what is left of the request is not read
    http_answer(exchange, &reply);
}

static void dispatch(struct http_exchange *exchange)
{
    struct err err = {0};
    exchange->dispatched = true;
    int status =
        exchange->multipart ? http_upload_end(exchange, &err) : http_read_body(exchange, &err);
    free(exchange->body);
    exchange->body = NULL;
    lws_set_timeout(exchange->wsi, NO_PENDING_TIMEOUT,
                    0); // how long it takes is the handler's business
    if (status) {
        refuse(exchange, status, err.text);
    } else {
        const struct http_options *options = &exchange->server->options;
        options->ops->request(options->user, exchange, &exchange->request);
    }
}

static uint64_t announced_length(struct lws *wsi)
{
    char text[24] = "";
    lws_hdr_copy(wsi, text, sizeof(text), WSI_TOKEN_HTTP_CONTENT_LENGTH);
    return strtoull(text, NULL, 10);
}

static int begin(struct lws *wsi)
{
    struct http_exchange *exchange = calloc(1, sizeof(*exchange));
    if (!exchange)
        abort();
    exchange->thing.kind = HTTP_EXCHANGE;
    exchange->server = http_server_of(wsi);
    exchange->wsi = wsi;
    exchange->request.method = "GET";
    exchange->upload_fd = -1;
    lws_set_opaque_user_data(wsi, exchange);
    int status = http_read_head(wsi, &exchange->request, false);
    uint64_t length = announced_length(wsi);
    bool chunked = lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0;
    bool upload = !strncasecmp(exchange->request.content_type, "multipart/form-data", 19);
    char how[] = "send a Content-Length";
    struct err err = {0};
    if (!status && !chunked && upload && length)
        status = http_upload_begin(exchange, length, &err);
    if (status || chunked)
        refuse(exchange, status ? status : 501, chunked ? how : err.text);
    else if (length > HTTP_BODY_MAX && !upload)
        refuse(exchange, 413, NULL);
    else if (!length) // libwebsockets tells the end of an empty body for POST only
        dispatch(exchange);
    return 0;
}

static int take_body(struct http_exchange *exchange, const void *bytes, size_t length)
{
    if (!exchange || exchange->dispatched)
        return 0;
    struct err err = {0};
    int status = exchange->multipart ? http_upload_take(exchange, bytes, length, &err) : 0;
    if (status)
        refuse(exchange, status, err.text);
    if (exchange->multipart)
        return 0;
    if (exchange->body_length + length > HTTP_BODY_MAX) {
        refuse(exchange, 413, NULL);
        return 0;
    }
    if (exchange->body_length + length + 1 > exchange->body_room) {
        exchange->body_room = 2 * (exchange->body_length + length) + 512;
        exchange->body = realloc(exchange->body, exchange->body_room);
        if (!exchange->body)
            abort();
    }
    memcpy(exchange->body + exchange->body_length, bytes, length);
    exchange->body_length += length;
    exchange->body[exchange->body_length] = 0;
    return 0;
}

// Did bytes come behind the request that was just completed, before its answer went? Then, and only then, libwebsockets keeps its table of
// headers, and only where it has one does it empty the copy.
static bool came_early(struct lws *wsi)
{
    char text[4] = "?";
    lws_hdr_custom_copy(wsi, text, sizeof(text), "-:", 2);
    return !text[0];
}

// The request is over: false when the connection is, too. What a client sent ahead of its answer is not served: libwebsockets 4.1 takes the
// body of such a request from its head's memory, which it has freed. The client sees the end of the connection, and asks again.
static bool go_on(struct lws *wsi)
{
    return !lws_http_transaction_completed(wsi) && !came_early(wsi);
}

// The head goes out as HTTP_HEADERS, whatever is behind it as the body.
static int write_reply(struct lws *wsi, struct http_exchange *exchange)
{
    static char piece[LWS_PRE + PIECE_BYTES];
    if (!exchange || !exchange->answered)
        return 0;
    size_t left = exchange->out_length - exchange->out_sent;
    size_t n = left < PIECE_BYTES ? left : PIECE_BYTES;
    memcpy(piece + LWS_PRE, exchange->out + exchange->out_sent, n);
    if (lws_write(wsi, (unsigned char *)piece + LWS_PRE, n, LWS_WRITE_HTTP) < (int)n)
        return -1;
    exchange->out_sent += n;
    if (exchange->out_sent < exchange->out_length) {
        lws_callback_on_writable(wsi);
        return 0;
    }
    bool close = exchange->close;
    lws_set_opaque_user_data(wsi, NULL);
    free_exchange(exchange);
    return close || !go_on(wsi) ? -1 : 0;
}

static int gone(struct lws *wsi, struct http_exchange *exchange)
{
    if (!exchange)
        return 0;
    lws_set_opaque_user_data(wsi, NULL);
    exchange->wsi = NULL;
    if (!exchange->dispatched || exchange->answered)
        free_exchange(exchange);
    return 0;
}

// ---- The callback.

static int http_event(struct lws *wsi, enum lws_callback_reasons reason, void *in, size_t length)
{
    struct http_thing *thing = lws_get_opaque_user_data(wsi);
    if (thing && thing->kind == HTTP_SOCKET)
        return 0;
    struct http_exchange *exchange = (struct http_exchange *)(void *)thing; // its first member
    if (reason == LWS_CALLBACK_HTTP)
        return exchange ? -1 : begin(wsi);
    if (reason == LWS_CALLBACK_HTTP_BODY)
        return take_body(exchange, in, length);
    if (reason == LWS_CALLBACK_HTTP_BODY_COMPLETION) {
        if (exchange && !exchange->dispatched)
            dispatch(exchange);
        return 0;
    }
    if (reason == LWS_CALLBACK_HTTP_WRITEABLE)
        return write_reply(wsi, exchange);
    return gone(wsi, exchange);
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t length)
{
    (void)user;
    switch ((int)reason) { // of many; the rest is not for us
    case LWS_CALLBACK_HTTP:
    case LWS_CALLBACK_HTTP_BODY:
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
    case LWS_CALLBACK_HTTP_WRITEABLE:
    case LWS_CALLBACK_CLOSED_HTTP:
        return http_event(wsi, reason, in, length);
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
    case LWS_CALLBACK_ESTABLISHED:
    case LWS_CALLBACK_RECEIVE:
    case LWS_CALLBACK_SERVER_WRITEABLE:
    case LWS_CALLBACK_CLOSED:
        return http_socket_event(wsi, reason, in, length);
    case LWS_CALLBACK_RAW_RX_FILE:
        os_loop_turn(http_server_of(wsi)->options.loop, 0);
        return 0;
    case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
        return 0;
    default:
        return lws_callback_http_dummy(wsi, reason, user, in, length);
    }
}

// The first takes what names no protocol; clients of consoles name "binary".
static const struct lws_protocols protocols[] = {
    {.name = "http", .callback = callback, .rx_buffer_size = 65536},
    {.name = "binary", .callback = callback, .rx_buffer_size = 65536},
    {.name = "wirt-loop", .callback = callback},
    {.name = NULL},
};

// ---- The server.

static void emit(int level, const char *line)
{
    char text[512];
    snprintf(text, sizeof(text), "%s", line);
    text[strcspn(text, "\n")] = 0;
    log_line(level == LLL_ERR ? LOG_WARN : LOG_DEBUG, "lws", "%s", text);
}

static struct lws_vhost *open_tcp(struct http_server *server, struct err *err)
{
    const struct http_options *options = &server->options;
    struct lws_context_creation_info info = {
        .port = options->port,
        .iface = options->address,
        .protocols = protocols,
        .options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
        .ssl_cert_filepath = options->certificate,
        .ssl_private_key_filepath = options->key,
        .alpn = "http/1.1",
        .vhost_name = "tls",
        .keepalive_timeout = IDLE_S,
    };
    struct lws_vhost *vhost = lws_create_vhost(server->context, &info);
    if (!vhost) {
        err_set(err, ERR_BUSY, "cannot listen on %s port %d; does another program?",
                options->address ? options->address : "any address", options->port);
        return NULL;
    }
    server->port = lws_get_vhost_listen_port(vhost);
    return vhost;
}

static struct lws_vhost *open_unix(struct http_server *server, struct err *err)
{
    struct lws_context_creation_info info = {
        .iface = server->options.socket,
        .protocols = protocols,
        .options = LWS_SERVER_OPTION_UNIX_SOCK,
        .vhost_name = "unix",
        .keepalive_timeout = IDLE_S,
    };
    struct lws_vhost *vhost = lws_create_vhost(server->context, &info);
    if (!vhost)
        err_set(err, ERR_BUSY, "cannot listen on the socket '%s'", server->options.socket);
    return vhost;
}

static int adopt_loop(struct http_server *server, struct err *err)
{
    lws_sock_file_fd_type descriptor = {
        .filefd = os_file_duplicate(os_loop_descriptor(server->options.loop))};
    struct lws_vhost *vhost = server->vhosts[0] ? server->vhosts[0] : server->vhosts[1];
    if (!lws_adopt_descriptor_vhost(vhost, LWS_ADOPT_RAW_FILE_DESC, descriptor, "wirt-loop", NULL))
        return err_set(err, ERR_HOST, "the event loop cannot be joined to the server's");
    return 0;
}

struct http_server *http_create(const struct http_options *options, struct err *err)
{
    struct http_server *server = calloc(1, sizeof(*server));
    if (!server)
        abort();
    server->options = *options;
    lws_set_log_level(LLL_ERR | LLL_WARN, emit);
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
        .user = server,
        .max_http_header_data = HEADER_DATA_BYTES,
        .max_http_header_pool = HEADER_TABLES,
        .timeout_secs = 30,
        .pt_serv_buf_size = 65536,
    };
    server->context = lws_create_context(&info);
    if (!server->context) {
        err_set(err, ERR_HOST, "libwebsockets does not start");
        free(server);
        return NULL;
    }
    bool failed = (options->port && !(server->vhosts[0] = open_tcp(server, err))) ||
                  (options->socket && !(server->vhosts[1] = open_unix(server, err))) ||
                  adopt_loop(server, err);
    if (!failed)
        return server;
    http_destroy(server);
    return NULL;
}

void http_destroy(struct http_server *server)
{
    if (!server)
        return;
    lws_context_destroy(server->context);
    free(server);
}

void http_run(struct http_server *server)
{
    while (!__atomic_load_n(&server->stopping, __ATOMIC_ACQUIRE))
        if (lws_service(server->context, 0) < 0)
            break;
}

void http_stop(struct http_server *server)
{
    __atomic_store_n(&server->stopping, true, __ATOMIC_RELEASE);
    lws_cancel_service(server->context);
}

int http_port(const struct http_server *server)
{
    return server->port;
}
