// SPDX-License-Identifier: Apache-2.0
#include "node/daemon/front.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/daemon/console.h"

#define JSON_TYPE "application/json;charset=UTF-8"
// An answer is no page, whatever a browser makes of it.
#define NO_CACHE                                                                                   \
    "Pragma: no-cache\r\nCache-Control: max-age=0\r\n"                                             \
    "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n"

struct answer {
    struct http_exchange *exchange;
    bool extjs;
};

void front_error(struct http_exchange *exchange, int status, const char *reason)
{
    json_t *body = json_pack("{s:n, s:s}", "data", "message", reason);
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    struct http_reply reply = {.status = status,
                               .reason = reason,
                               .type = JSON_TYPE,
                               .headers = NO_CACHE,
                               .body = text,
                               .length = text ? strlen(text) : 0};
    http_answer(exchange, &reply);
}

// extjs: the status always says 200, what happened stands in the body.
static void answered(void *user, struct api_reply *reply)
{
    struct answer *answer = user;
    if (answer->extjs) {
        json_object_set_new(reply->body, "success", json_integer(reply->status == 200));
        json_object_set_new(reply->body, "status", json_integer(reply->status));
        if (reply->status != 200)
            json_object_set_new(reply->body, "message", json_string(reply->reason));
    }
    char *text = json_dumps(reply->body, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(reply->body);
    struct http_reply http = {.status = answer->extjs ? 200 : reply->status,
                              .reason = answer->extjs ? "OK" : reply->reason,
                              .type = JSON_TYPE,
                              .headers = NO_CACHE,
                              .body = text,
                              .length = text ? strlen(text) : 0};
    http_answer(answer->exchange, &http);
    free(answer);
}

// "KEY=value" or "KEY value" in an Authorization header, percent-decoded.
static const char *credential(const char *header, const char *name, char *value, size_t size)
{
    const char *at = strstr(header, name);
    size_t n = strlen(name);
    if (!at || (at != header && at[-1] != ' ') || (at[n] != '=' && at[n] != ' '))
        return NULL;
    snprintf(value, size, "%.*s", (int)strcspn(at + n + 1, ";"), at + n + 1);
    return http_percent_decode(value, false) ? value : NULL;
}

void front_credentials(const struct http_request *from, struct front_credentials *room,
                       struct api_request *to)
{
    to->method = from->method;
    to->query = from->query;
    to->body = from->body;
    to->address = from->address;
    to->local_root = from->owner;
    to->csrf = *from->csrf ? from->csrf : NULL;
    to->upload = *from->upload ? from->upload : NULL;
    if (http_cookie(from->cookie, "PVEAuthCookie", room->ticket, sizeof(room->ticket)))
        to->cookie_ticket = room->ticket;
    else
        to->header_ticket =
            credential(from->authorization, "PVEAuthCookie", room->ticket, sizeof(room->ticket));
    to->token = credential(from->authorization, "PVEAPIToken", room->token, sizeof(room->token));
}

// The path behind the interface's name; NULL when the request is not for it.
static const char *interface_path(const struct http_request *request, bool *extjs)
{
    static const char *const names[] = {"/api2/json", "/api2/extjs"};
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(names[i]);
        const char *rest = request->path + n;
        *extjs = i == 1;
        if (!strncmp(request->path, names[i], n) && (!*rest || *rest == '/'))
            return *rest ? rest : "/";
    }
    return NULL;
}

static void request(void *user, struct http_exchange *exchange, const struct http_request *request)
{
    struct front *front = user;
    bool is_extjs;
    const char *rest = interface_path(request, &is_extjs);
    if (!rest) {
        if (!strncmp(request->path, "/api2/", 6))
            front_error(exchange, 501, "no such uri");
        else
            front_page(front, exchange, request);
        return;
    }
    struct front_credentials room;
    struct api_request call = {.path = rest};
    struct answer *answer = malloc(sizeof(*answer));
    if (!answer)
        abort();
    *answer = (struct answer){exchange, is_extjs};
    front_credentials(request, &room, &call);
    api_dispatch(front->api, &call, answered, answer);
}

// Before the first byte is written it is known who sends it and that the datastore would take it from them.
static int upload(void *user, const struct http_request *request, uint64_t length,
                  char path[HTTP_PATH_BYTES], int *status, struct err *err)
{
    struct front *front = user;
    struct front_credentials room;
    json_t *params = NULL;
    bool is_extjs;
    struct api_request call = {.path = interface_path(request, &is_extjs)};
    *status = 415;
    if (!call.path)
        return err_set(err, ERR_USAGE, "nothing is uploaded here");
    front_credentials(request, &room, &call);
    *status = api_admit(front->api, &call, &params, err);
    int fd = -1;
    if (!*status) {
        *status = 500;
        fd = storage_spool(front->node->storage, api_param_string(params, "storage"), length, path,
                           err);
    }
    json_decref(params);
    return fd;
}

const struct http_ops front_ops = {
    .request = request,
    .upload = upload,
    .upgrade = console_upgrade,
    .opened = console_opened,
    .received = console_received,
    .drained = console_drained,
    .closed = console_closed,
};
