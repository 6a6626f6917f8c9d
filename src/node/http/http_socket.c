// SPDX-License-Identifier: Apache-2.0
//
// WebSockets: bytes both ways. What is to be sent waits in one buffer, of which each writable event takes a piece.
#include <stdlib.h>
#include <string.h>

#include "node/http/http_internal.h"

#define BACKLOG_MAX (1024 * 1024)
#define PIECE_BYTES 16384

static void forget(struct http_socket *socket)
{
    if (socket->mine)
        socket->server->options.ops->closed(socket->mine);
    free(socket->out);
    free(socket);
}

// Its own origin, or a program's connection that has none: another page must not use the cookie.
static bool origin_fits(const struct http_request *request)
{
    const char *slashes = strstr(request->origin, "://");
    return !*request->origin || (slashes && !strcmp(slashes + 3, request->host));
}

static int upgrade(struct lws *wsi)
{
    struct http_server *server = http_server_of(wsi);
    struct http_request *request = calloc(1, sizeof(*request));
    struct http_socket *socket = calloc(1, sizeof(*socket));
    if (!request || !socket)
        abort();
    *socket = (struct http_socket){.thing.kind = HTTP_SOCKET, .server = server, .wsi = wsi};
    int refused =
        http_read_head(wsi, request, true) || !origin_fits(request) ||
        server->options.ops->upgrade(server->options.user, request, socket, &socket->mine);
    json_decref(request->query);
    free(request);
    if (refused) {
        free(socket);
        return -1;
    }
    lws_set_opaque_user_data(wsi, socket);
    return 0;
}

static int write_piece(struct http_socket *socket)
{
    static char piece[LWS_PRE + PIECE_BYTES];
    size_t n = socket->out_length < PIECE_BYTES ? socket->out_length : PIECE_BYTES;
    if (n) {
        memcpy(piece + LWS_PRE, socket->out, n);
        if (lws_write(socket->wsi, (unsigned char *)piece + LWS_PRE, n, LWS_WRITE_BINARY) < (int)n)
            return -1;
        socket->out_length -= n;
        memmove(socket->out, socket->out + n, socket->out_length);
    }
    if (socket->out_length)
        lws_callback_on_writable(socket->wsi);
    else if (socket->closing)
        return -1;
    else
        socket->server->options.ops->drained(socket->mine);
    return 0;
}

int http_socket_event(struct lws *wsi, enum lws_callback_reasons reason, void *in, size_t length)
{
    if (reason == LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION)
        return upgrade(wsi);
    struct http_socket *socket = lws_get_opaque_user_data(wsi);
    if (!socket)
        return -1;
    const struct http_ops *ops = socket->server->options.ops;
    if (reason == LWS_CALLBACK_ESTABLISHED) {
        socket->established = true;
        ops->opened(socket->mine);
    } else if (reason == LWS_CALLBACK_RECEIVE) {
        ops->received(socket->mine, in, length);
    } else if (reason == LWS_CALLBACK_SERVER_WRITEABLE) {
        return write_piece(socket);
    } else {
        lws_set_opaque_user_data(wsi, NULL);
        forget(socket);
    }
    return 0;
}

bool http_socket_send(struct http_socket *socket, const void *bytes, size_t length)
{
    if (socket->out_length + length > BACKLOG_MAX)
        return false;
    if (socket->out_length + length > socket->out_room) {
        size_t room = socket->out_length + length + PIECE_BYTES;
        char *bigger = realloc(socket->out, room);
        if (!bigger)
            return false;
        socket->out = bigger;
        socket->out_room = room;
    }
    memcpy(socket->out + socket->out_length, bytes, length);
    socket->out_length += length;
    if (socket->established)
        lws_callback_on_writable(socket->wsi);
    return true;
}

void http_socket_close(struct http_socket *socket)
{
    socket->closing = true;
    if (socket->established)
        lws_callback_on_writable(socket->wsi);
}
