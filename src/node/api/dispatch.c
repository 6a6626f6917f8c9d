// SPDX-License-Identifier: Apache-2.0
//
// A request's way: route, who is it, parameters, permission, handler (here, on the pool, or as a task), answer.
#define LOG_MODULE "api"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "node/api/api_internal.h"
#include "os/loop.h"

#define TOLD_PARAMS 64 // of a request, in the audit log
#define TOLD_BYTES  200

// A request under way, from dispatch to answer.
struct flight {
    struct api_call call;
    struct err err;
    int result;
    char address[64];
    char *upload; // owned
    char path[512];
    const char *method;
    void (*done)(void *user, struct api_reply *reply);
    void *user;
    struct os_loop_post post; // of a slow one
};

// ---- What handlers use.

const char *api_param_string(const json_t *params, const char *name)
{
    return json_string_value(json_object_get(params, name));
}

int64_t api_param_integer(const json_t *params, const char *name, int64_t missing)
{
    const json_t *value = json_object_get(params, name);
    return json_is_boolean(value) ? json_is_true(value)
           : value                ? json_integer_value(value)
                                  : missing;
}

const char *api_string(const struct api_call *call, const char *name)
{
    return api_param_string(call->params, name);
}

int64_t api_integer(const struct api_call *call, const char *name, int64_t missing)
{
    return api_param_integer(call->params, name, missing);
}

bool api_boolean(const struct api_call *call, const char *name)
{
    return json_is_true(json_object_get(call->params, name));
}

int api_refuse(struct api_call *call, struct err *err, const char *name, const char *format, ...)
{
    char text[ERR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is right above
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (!call->errors)
        call->errors = json_object();
    json_object_set_new(call->errors, name, api_reason(text));
    return err_set(err, ERR_USAGE, "Parameter verification failed.");
}

// ---- Answers.

static int status_of(const struct flight *flight)
{
    const struct api_call *call = &flight->call;
    if (call->status)
        return call->status;
    if (!flight->result)
        return 200;
    if (json_object_size(call->errors))
        return 400;
    if (flight->err.code == ERR_DENIED)
        return call->anonymous ? 401 : 403;
    if (flight->err.code == ERR_USAGE)
        return 400;
    return flight->err.code == ERR_UNSUPPORTED ? 501 : 500;
}

// One line of printable ASCII: it becomes a part of a header.
static void set_reason(struct api_reply *reply, const char *text)
{
    size_t n = 0;
    for (; *text && n + 1 < sizeof(reply->reason); text++)
        reply->reason[n++] = *text >= ' ' && *text < 127 ? *text : ' ';
    reply->reason[n] = 0;
}

static void set_body(struct flight *flight, struct api_reply *reply)
{
    struct api_call *call = &flight->call;
    bool good = reply->status == 200;
    reply->body = json_object();
    json_object_set(reply->body, "data", good && call->data ? call->data : json_null());
    if (good && call->extra)
        json_object_update(reply->body, call->extra);
    if (good)
        return;
    if (json_object_size(call->errors))
        json_object_set(reply->body, "errors", call->errors);
    json_object_set_new(reply->body, "message", json_string(reply->reason));
}

// What was asked for, as the audit log tells it: passwords and the like not, long values by their beginnings.
static json_t *told_params(const struct api_call *call)
{
    json_t *told = json_object(), *value;
    const char *name;
    json_object_foreach(call->params, name, value)
    {
        const struct api_param *param =
            call->endpoint ? api_find_param(call->endpoint, call->api->options.common, name) : NULL;
        if (!param || json_object_size(told) >= TOLD_PARAMS)
            continue;
        char *text = json_is_string(value) ? strdup(json_string_value(value))
                                           : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        if (text && strlen(text) > TOLD_BYTES)
            text[TOLD_BYTES] = 0;
        if (text)
            json_object_set_new(told, name, param->secret ? json_string("***") : api_reason(text));
        free(text);
    }
    return told;
}

static void audit(struct flight *flight, const struct api_reply *reply)
{
    char act[600];
    if (!strcmp(flight->method, "GET"))
        return;
    snprintf(act, sizeof(act), "%s %s", flight->method, flight->path);
    struct auth_act done = {.who = flight->call.anonymous ? "-" : flight->call.who.id,
                            .address = flight->address,
                            .act = act,
                            .result = reply->reason,
                            .params = told_params(&flight->call)};
    auth_audit(flight->call.api->options.auth, &done);
    json_decref(done.params);
}

static void finish(struct flight *flight)
{
    struct api_call *call = &flight->call;
    struct api_reply reply = {0};
    if (!flight->result && call->api->options.check_replies && call->endpoint && !call->status) {
        const char *type = call->endpoint->task ? "upid" : call->endpoint->returns;
        flight->result = type ? api_check_reply(type, call->data, &flight->err) : 0;
        if (flight->result)
            log_error("%s %s: %s", flight->method, flight->path, flight->err.text);
    }
    reply.status = status_of(flight);
    set_reason(&reply, reply.status == 200 ? "OK"
                       : json_object_size(call->errors) && reply.status == 400
                           ? "Parameter verification failed."
                           : flight->err.text);
    set_body(flight, &reply);
    audit(flight, &reply);
    flight->done(flight->user, &reply);
    json_decref(call->params);
    json_decref(call->data);
    json_decref(call->errors);
    json_decref(call->extra);
    free(flight->upload);
    free(flight);
}

// ---- Who.

int api_identify(struct api *api, const struct api_request *request, struct auth_identity *who,
                 struct err *err)
{
    const char *ticket = request->cookie_ticket ? request->cookie_ticket : request->header_ticket;
    if (ticket && *ticket)
        return auth_by_ticket(api->options.auth, ticket, who, err);
    if (request->token)
        return auth_by_token(api->options.auth, request->token, who, err);
    if (request->local_root) {
        auth_root(who);
        return 0;
    }
    return err_set(err, ERR_DENIED, "No ticket");
}

static int identify(struct flight *flight, const struct api_request *request)
{
    struct api_call *call = &flight->call;
    call->anonymous = true;
    bool world = call->endpoint && !strcmp(call->endpoint->permission, "world");
    if (api_identify(call->api, request, &call->who, &flight->err))
        return world ? 0 : -1;
    bool by_ticket = request->cookie_ticket || request->header_ticket;
    if (by_ticket && !world && strcmp(request->method, "GET") != 0 &&
        !(request->csrf && auth_csrf_valid(call->api->options.auth, &call->who, request->csrf))) {
        call->status = 401;
        return err_set(&flight->err, ERR_DENIED, "Permission denied - invalid csrf token");
    }
    call->anonymous = false;
    return 0;
}

// ---- Parameters.

static bool same(const json_t *a, const json_t *b)
{
    if (json_is_integer(a) && json_is_string(b)) {
        char text[32];
        snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(a));
        return !strcmp(text, json_string_value(b));
    }
    return json_equal(a, b);
}

static void add_given(struct flight *flight, const json_t *given, const json_t *variables)
{
    struct api_call *call = &flight->call;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)given, name, value)
    {
        const json_t *variable = json_object_get(variables, name);
        if (!strcmp(name, "_dc") || (variable && same(value, variable)))
            continue;
        if (!variable && json_object_get(call->params, name))
            continue; // the query goes before the body
        const struct api_param *param =
            variable ? NULL : api_find_param(call->endpoint, call->api->options.common, name);
        if (param)
            api_check_value(param, name, value, call->params, call->errors);
        else
            json_object_set_new(call->errors, name,
                                json_string(variable
                                                ? "duplicate parameter (already defined in URI)"
                                                : "property is not defined in schema and the "
                                                  "schema does not allow additional properties"));
    }
}

static void add_variables(struct api_call *call, const json_t *variables)
{
    const char *name;
    json_t *value;
    call->errors = json_object();
    json_object_foreach((json_t *)(uintptr_t)variables, name, value)
    {
        const struct api_param *param =
            api_find_param(call->endpoint, call->api->options.common, name);
        if (param)
            api_check_value(param, name, value, call->params, call->errors);
    }
}

// No errors, and the node is this one.
static int check_collected(struct flight *flight)
{
    struct api_call *call = &flight->call;
    if (json_object_size(call->errors))
        return err_set(&flight->err, ERR_USAGE, "Parameter verification failed.");
    const char *node = api_string(call, "node");
    if (node && strcmp(node, call->api->options.node_name) != 0 && strcmp(node, "localhost") != 0 &&
        strstr(call->endpoint->path, "/{node}"))
        return err_set(&flight->err, ERR_NOT_FOUND, "no such cluster node '%s'", node);
    return 0;
}

static int collect(struct flight *flight, const struct api_request *request,
                   const json_t *variables)
{
    struct api_call *call = &flight->call;
    add_variables(call, variables);
    add_given(flight, request->query, variables);
    add_given(flight, request->body, variables);
    api_check_missing(call->endpoint, call->params, call->errors);
    return check_collected(flight);
}

// What one value, or one element of a list, needs by itself.
static int permit_value(struct api_call *call, const struct api_param *param, const json_t *value,
                        struct err *err)
{
    char expression[512] = "", number[24];
    const char *text = json_string_value(value);
    if (json_is_boolean(value))
        text = json_is_true(value) ? "1" : "0";
    if (json_is_integer(value)) {
        snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(value));
        text = number;
    }
    if (text)
        param->permission_of(text, expression, sizeof(expression));
    return *expression ? api_check_permission(call, expression, err) : 0;
}

static int permit_param(struct api_call *call, const struct api_param *param, const char *name,
                        struct err *err)
{
    const json_t *value = json_object_get(call->params, name);
    if (param->permission && api_check_permission(call, param->permission, err))
        return -1;
    if (!param->permission_of)
        return 0;
    if (!json_is_array(value))
        return permit_value(call, param, value, err);
    for (size_t i = 0; i < json_array_size(value); i++)
        if (permit_value(call, param, json_array_get(value, i), err))
            return -1;
    return 0;
}

static int permit(struct flight *flight)
{
    struct api_call *call = &flight->call;
    if (api_check_permission(call, call->endpoint->permission, &flight->err))
        return -1;
    const char *name;
    json_t *value;
    json_object_foreach(call->params, name, value)
    {
        const struct api_param *param =
            api_find_param(call->endpoint, call->api->options.common, name);
        if (param && permit_param(call, param, name, &flight->err))
            return -1;
    }
    return 0;
}

// ---- Running.

struct work {
    api_work *run;
    void *node;
    json_t *params;
};

static int run_work(struct task *task, void *argument, struct err *err)
{
    const struct work *work = argument;
    return work->run(task, work->node, work->params, err);
}

static void release_work(void *argument)
{
    struct work *work = argument;
    json_decref(work->params);
    free(work);
}

static int start_task(struct flight *flight)
{
    struct api_call *call = &flight->call;
    const struct endpoint *endpoint = call->endpoint;
    char id[128] = "", upid[TASK_UPID_BYTES];
    const json_t *about =
        endpoint->task_id ? json_object_get(call->params, endpoint->task_id) : NULL;
    if (json_is_integer(about))
        snprintf(id, sizeof(id), "%lld", (long long)json_integer_value(about));
    else if (about)
        snprintf(id, sizeof(id), "%s", json_string_value(about));
    struct work *work = malloc(sizeof(*work));
    if (!work)
        abort();
    *work = (struct work){endpoint->work, call->node, json_incref(call->params)};
    struct task_start start = {.type = endpoint->task,
                               .id = id,
                               .user = call->who.id,
                               .work = run_work,
                               .argument = work,
                               .release = release_work};
    if (tasks_start(call->api->options.tasks, &start, upid, &flight->err))
        return -1;
    call->data = json_string(upid);
    return 0;
}

static void answer_slow(void *context)
{
    finish(context);
}

// The handler, and the task that it lets begin. On the loop, or on a thread of the pool.
static void execute(struct flight *flight)
{
    const struct endpoint *endpoint = flight->call.endpoint;
    if (endpoint->handler)
        flight->result = endpoint->handler(&flight->call, &flight->err);
    if (!flight->result && endpoint->task)
        flight->result = start_task(flight);
}

static void run_slow(void *argument)
{
    struct flight *flight = argument;
    execute(flight);
    os_loop_post(flight->call.api->options.loop, &flight->post);
}

static void run(struct flight *flight)
{
    if (flight->call.endpoint->slow) {
        flight->post = (struct os_loop_post){.function = answer_slow, .context = flight};
        work_submit(flight->call.api->options.pool, run_slow, flight);
        return;
    }
    execute(flight);
    finish(flight);
}

// No such endpoint: a folder of the tree lists what is in it, anything else is not implemented.
static int no_endpoint(struct flight *flight)
{
    struct api_call *call = &flight->call;
    if (!strcmp(flight->method, "GET")) {
        call->data = api_children(call->api, flight->path);
        if (call->data)
            return 0;
    }
    call->status = 501;
    return err_set(&flight->err, ERR_UNSUPPORTED, "Method '%s %.300s' not implemented",
                   flight->method, flight->path);
}

// A flight to the endpoint that the request names, if there is one.
static struct flight *begin(struct api *api, const struct api_request *request, json_t *variables)
{
    struct flight *flight = calloc(1, sizeof(*flight));
    if (!flight)
        abort();
    flight->call.api = api;
    flight->call.node = api->options.node;
    flight->call.address = flight->address;
    flight->call.params = json_object();
    flight->method = request->method;
    snprintf(flight->address, sizeof(flight->address), "%s", request->address);
    snprintf(flight->path, sizeof(flight->path), "%s", request->path);
    flight->upload = request->upload ? strdup(request->upload) : NULL;
    flight->call.upload = flight->upload;
    flight->call.endpoint = api_route(api, request->method, request->path, variables);
    return flight;
}

void api_dispatch(struct api *api, const struct api_request *request,
                  void (*done)(void *user, struct api_reply *reply), void *user)
{
    json_t *variables = json_object();
    struct flight *flight = begin(api, request, variables);
    flight->done = done;
    flight->user = user;
    bool body_refused = !strcmp(request->method, "DELETE") && json_object_size(request->body);
    flight->result = identify(flight, request);
    if (!flight->result && (!flight->call.endpoint || body_refused))
        flight->result = no_endpoint(flight);
    else if (!flight->result)
        flight->result = collect(flight, request, variables) || permit(flight) ? -1 : 0;
    json_decref(variables);
    if (flight->result || !flight->call.endpoint)
        finish(flight);
    else
        run(flight);
}

static void admitted(void *user, struct api_reply *reply)
{
    *(int *)user = reply->status;
    json_decref(reply->body);
}

int api_admit(struct api *api, const struct api_request *request, json_t **params, struct err *err)
{
    int status = 200;
    json_t *variables = json_object();
    struct flight *flight = begin(api, request, variables);
    struct api_call *call = &flight->call;
    flight->done = admitted;
    flight->user = &status;
    flight->result = identify(flight, request);
    if (!flight->result && (!call->endpoint || !call->endpoint->upload)) {
        call->status = 415;
        flight->result = err_set(&flight->err, ERR_USAGE, "nothing is uploaded here");
    }
    if (!flight->result)
        add_variables(call, variables);
    if (!flight->result)
        flight->result =
            check_collected(flight) ||
                    api_check_permission(call, call->endpoint->permission, &flight->err)
                ? -1
                : 0;
    json_decref(variables);
    *err = flight->err;
    *params = flight->result ? NULL : json_incref(call->params);
    call->endpoint = NULL; // what it returns is not declared for this
    if (!flight->result) { // the audit log tells of it when it is there
        flight->method = "GET";
        call->data = NULL;
    }
    finish(flight);
    return status == 200 ? 0 : status;
}
struct api *api_create(const struct api_options *options)
{
    struct api *api = calloc(1, sizeof(*api));
    if (!api)
        abort();
    api->options = *options;
    return api;
}

void api_destroy(struct api *api)
{
    free(api);
}
