// SPDX-License-Identifier: Apache-2.0
//
// The head of a request as libwebsockets has parsed it, into ours; then the body.
#include <stdio.h>
#include <string.h>

#include "node/http/http_internal.h"
#include "os/unix_socket.h"

static const char *const methods[] = {
    [LWSHUMETH_GET] = "GET",         [LWSHUMETH_POST] = "POST",   [LWSHUMETH_OPTIONS] = "OPTIONS",
    [LWSHUMETH_PUT] = "PUT",         [LWSHUMETH_PATCH] = "PATCH", [LWSHUMETH_DELETE] = "DELETE",
    [LWSHUMETH_CONNECT] = "CONNECT", [LWSHUMETH_HEAD] = "HEAD",
};

// A header that does not fit is a reason to refuse the request: half a ticket is none.
static bool copy(struct lws *wsi, enum lws_token_indexes token, char *to, size_t size)
{
    int length = lws_hdr_total_length(wsi, token);
    to[0] = 0;
    if (length <= 0)
        return true;
    return (size_t)length < size && lws_hdr_copy(wsi, to, (int)size, token) >= 0;
}

static bool copy_custom(struct lws *wsi, const char *name, char *to, size_t size)
{
    int name_length = (int)strlen(name);
    int length = lws_hdr_custom_length(wsi, name, name_length);
    to[0] = 0;
    if (length <= 0)
        return true;
    if ((size_t)length >= size)
        return false;
    int n = lws_hdr_custom_copy(wsi, to, (int)size, name, name_length);
    if (n >= 0)
        to[n] = 0;
    return n >= 0;
}

// Each argument is a fragment, decoded already.
static bool read_query(struct lws *wsi, json_t *query)
{
    char text[8192];
    for (int i = 0;; i++) {
        int n = lws_hdr_copy_fragment(wsi, text, sizeof(text), WSI_TOKEN_HTTP_URI_ARGS, i);
        if (n < 0)
            return n != -2; // too long
        if (!n)
            continue;
        const char *equals = memchr(text, '=', (size_t)n);
        size_t name = equals ? (size_t)(equals - text) : (size_t)n;
        if (http_add_param(query, text, name, equals ? equals + 1 : "",
                           equals ? (size_t)n - name - 1 : 0, NULL))
            return false;
    }
}

static void read_peer(struct lws *wsi, struct http_request *request)
{
    static const char mapped[] = "::ffff:"; // IPv4, on a socket that takes both
    lws_get_peer_simple(wsi, request->address, sizeof(request->address));
    size_t n = sizeof(mapped) - 1;
    if (!strncmp(request->address, mapped, n))
        memmove(request->address, request->address + n, strlen(request->address + n) + 1);
    request->owner = os_unix_peer_is_owner(lws_get_socket_fd(wsi));
    if (request->owner)
        snprintf(request->address, sizeof(request->address), "local");
}

int http_read_head(struct lws *wsi, struct http_request *request, bool websocket)
{
    char *path = NULL;
    int length = 0, method = LWSHUMETH_GET;
    if (!websocket) {
        method = lws_http_get_uri_and_method(wsi, &path, &length);
        if (method < 0 || (size_t)method >= sizeof(methods) / sizeof(methods[0]) || !path)
            return 400;
        if ((size_t)length >= sizeof(request->path))
            return 414;
        memcpy(request->path, path, (size_t)length);
        request->path[length] = 0;
    } else if (!copy(wsi, WSI_TOKEN_GET_URI, request->path, sizeof(request->path))) {
        return 414;
    }
    if (request->path[0] != '/')
        return 400;
    request->method = methods[method];
    request->query = json_object();
    if (!copy(wsi, WSI_TOKEN_HTTP_COOKIE, request->cookie, sizeof(request->cookie)) ||
        !copy(wsi, WSI_TOKEN_HTTP_AUTHORIZATION, request->authorization,
              sizeof(request->authorization)) ||
        !copy(wsi, WSI_TOKEN_HTTP_CONTENT_TYPE, request->content_type,
              sizeof(request->content_type)) ||
        !copy(wsi, WSI_TOKEN_ORIGIN, request->origin, sizeof(request->origin)) ||
        !copy(wsi, WSI_TOKEN_HOST, request->host, sizeof(request->host)) ||
        !copy_custom(wsi, "csrfpreventiontoken:", request->csrf, sizeof(request->csrf)))
        return 431;
    read_peer(wsi, request);
    return read_query(wsi, request->query) ? 0 : 400;
}

int http_read_body(struct http_exchange *exchange, struct err *err)
{
    struct http_request *request = &exchange->request;
    if (!exchange->body_length)
        return 0;
    const char *type = request->content_type;
    if (!strncasecmp(type, "application/json", 16)) {
        request->body = http_parse_json(exchange->body, exchange->body_length, err);
        return request->body ? 0 : 400;
    }
    if (*type && strncasecmp(type, "application/x-www-form-urlencoded", 33) != 0) {
        err_set(err, ERR_USAGE, "content type '%.100s' is not understood", type);
        return 415;
    }
    request->body = json_object();
    return http_parse_form(exchange->body, exchange->body_length, request->body, err) ? 400 : 0;
}
