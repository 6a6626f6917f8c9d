// SPDX-License-Identifier: Apache-2.0
#include "node/daemon/front.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/daemon/console.h"

#define JSON_TYPE "application/json;charset=UTF-8"
#define NO_CACHE  "Pragma: no-cache\r\nCache-Control: max-age=0\r\n"

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
    if (http_cookie(from->cookie, "PVEAuthCookie", room->ticket, sizeof(room->ticket)))
        to->cookie_ticket = room->ticket;
    else
        to->header_ticket =
            credential(from->authorization, "PVEAuthCookie", room->ticket, sizeof(room->ticket));
    to->token = credential(from->authorization, "PVEAPIToken", room->token, sizeof(room->token));
}

static void request(void *user, struct http_exchange *exchange, const struct http_request *request)
{
    struct front *front = user;
    static const char json[] = "/api2/json", extjs[] = "/api2/extjs";
    bool is_json = !strncmp(request->path, json, strlen(json));
    bool is_extjs = !strncmp(request->path, extjs, strlen(extjs));
    const char *rest = request->path + (is_json ? strlen(json) : strlen(extjs));
    if ((!is_json && !is_extjs) || (*rest && *rest != '/')) {
        if (!strncmp(request->path, "/api2/", 6))
            front_error(exchange, 501, "no such uri");
        else
            front_page(front, exchange, request);
        return;
    }
    struct front_credentials room;
    struct api_request call = {.path = *rest ? rest : "/"};
    struct answer *answer = malloc(sizeof(*answer));
    if (!answer)
        abort();
    *answer = (struct answer){exchange, is_extjs};
    front_credentials(request, &room, &call);
    api_dispatch(front->api, &call, answered, answer);
}

const struct http_ops front_ops = {
    .request = request,
    .upgrade = console_upgrade,
    .opened = console_opened,
    .received = console_received,
    .drained = console_drained,
    .closed = console_closed,
};
