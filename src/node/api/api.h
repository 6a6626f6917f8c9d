// SPDX-License-Identifier: Apache-2.0
//
// The interface as a table: what can be asked, with which parameters, by whom, and what comes back.
//
// An endpoint says all that is known about it before its handler runs: parameters with types, ranges and formats, the privileges that it
// needs, whether it is a task, what it returns. From the table come the checking (a handler sees only parameters that are known, typed, in
// range, with defaults filled in, from somebody who may), the description that clients read, the documentation, and the tests that try every
// endpoint as every kind of user. A handler that needs a privilege which its entry does not name is wrong.
//
// Permissions are an expression: terms joined by " & ", each "PATH PRIVILEGE[|PRIVILEGE]…" with {parameter} in the path, or one of these words:
//     world     anybody, without logging in
//     user      anybody who logged in
//     root      root@pam
//     self(p)   the user whose id is parameter p
//     own(p)    the user or token whose id is parameter p, or a token of that user
//     below(p)  for a user p who is not root@pam, and who may change the access list only if the caller may, too
//     task(p)   the user who started the task with the id in parameter p
// " | " between such conjunctions means either. A parameter may name another expression, that holds when the parameter is given.
//
// What comes back is a type: null, any, string, int, number, bool, upid, {a:int, b?:string, *} (where * permits more), [type].
//
// Threads: tables are constant. api_dispatch() is for the event loop. A handler runs there, so it must not wait for a disk or a guest, or, where the
// entry says `slow`, on a thread of the pool. A task's handler only looks whether it can begin, and its work runs on the task's own thread; whoever
// reads files to tell is slow, too.
#ifndef WIRT_NODE_API_API_H
#define WIRT_NODE_API_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "node/auth/auth.h"
#include "node/task/task.h"

struct os_loop;

enum api_type { API_STRING, API_INTEGER, API_NUMBER, API_BOOLEAN, API_LIST, API_WORDS };
// API_LIST: "a,b" or repeated, becomes an array. API_WORDS: repeated, commas stay.

// A form that a string must have; `check` may replace the value by its canonical writing.
struct api_format {
    const char *name;
    const char *about;
    int (*check)(const char *text, struct err *err);
};

struct api_param {
    const char *name; // "net[32]": net0 to net31
    enum api_type type;
    bool optional;
    int64_t min,
        max; // of the number, or the string's length; both 0: no bound but the general ones
    const char *values; // "a|b|c": the only ones
    const struct api_format *format;
    const char *fallback; // as text, when it is not given
    const char *about;
    const char *permission; // needed when it is given
    // A permission that depends on the value: writes an expression, or an empty string. Of a list each element is asked about, of a boolean "1" or
    // "0". `permission_told` says in words what it comes to.
    void (*permission_of)(const char *value, char *expression, size_t size);
    const char *permission_told;
    bool secret; // the audit log does not tell it
};

struct api_call;
typedef int api_handler(struct api_call *call, struct err *err);
typedef int api_work(struct task *task, void *node, const json_t *params, struct err *err);

struct endpoint {
    const char *method;
    const char
        *path; // "/nodes/{node}/qemu/{vmid}"; a last "{name*}" takes the rest with its slashes
    const char *about;
    const struct api_param
        *params; // ends with a NULL name; those in the path too, unless they are api_common_params
    const struct api_param *more; // the same, for lists that several endpoints have
    const char *permission;
    const char
        *filter; // the rows of the result are those for which this holds; told, done by the handler
    const char *also; // what else it needs by what is stored; told, looked at by the handler
    const char *returns;
    bool slow;            // the handler runs on a thread of the pool
    bool upload;          // takes a multipart body, whose file lies at call->upload
    api_handler *handler; // of a task: looks whether it can begin; may be NULL
    // A task.
    const char *task;    // type, or NULL
    const char *task_id; // which parameter names what it is about
    api_work *work;
};

// What a handler sees and fills.
struct api_call {
    void *node; // as given to api_create()
    struct api *api;
    const struct endpoint *endpoint;
    json_t *params; // checked; the handler may add to it what the task shall see
    struct auth_identity who;
    bool anonymous;
    const char *address;
    const char *upload; // a file that goes with the answer, unless the handler renames it; or NULL
    // The answer.
    json_t *data;   // NULL: null
    json_t *errors; // {parameter: reason}: makes it a 400
    json_t *extra;  // members beside data ("total")
    int status;     // 0: 200, or what follows from the error
};
const char *api_string(const struct api_call *call, const char *name); // NULL: not given
int64_t api_integer(const struct api_call *call, const char *name, int64_t missing);
bool api_boolean(const struct api_call *call, const char *name);
const char *api_param_string(const json_t *params, const char *name);
int64_t api_param_integer(const json_t *params, const char *name, int64_t missing);
// Refuse one parameter; returns -1.
int api_refuse(struct api_call *call, struct err *err, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
// Does the expression hold for this call? For filters and for what depends on stored state. *err says what is missing.
bool api_permitted(struct api_call *call, const char *expression, struct err *err);

// Would this value do for the parameter of that name in the list? For what comes by other ways than a request.
bool api_value_fits(const struct api_param *list, const char *name, const json_t *value);

// ---- The engine.
struct api;
struct api_options {
    const struct endpoint *const *tables; // each ends with a NULL method; ends with NULL
    const struct api_param *common;       // parameters of paths that mean the same everywhere
    void *node;
    const char *node_name;
    struct auth *auth;
    struct tasks *tasks;
    struct work_pool *pool;
    struct os_loop *loop;
    bool check_replies; // answers that differ from their declared type become errors: for tests
};
struct api *api_create(const struct api_options *options);
void api_destroy(struct api *api);

// A request as it came, credentials unlooked at. Strings are borrowed for the call.
struct api_request {
    const char *method;
    const char *path; // behind /api2/json
    json_t *query,
        *body; // objects of strings, arrays of strings or JSON values; borrowed; may be NULL
    const char *cookie_ticket, *header_ticket, *token, *csrf; // NULL: not given
    const char *address;
    bool local_root;    // came by the Unix socket from the node's owner
    const char *upload; // path of the file that came with it, or NULL
};
struct api_reply {
    int status;
    char reason[320]; // one line
    json_t *body;     // owned by the receiver: {"data": …}
};
// Calls `done` once on the event loop, perhaps before it returns.
void api_dispatch(struct api *api, const struct api_request *request,
                  void (*done)(void *user, struct api_reply *reply), void *user);

// May this upload come, as far as its head tells? 0 and the variables of its path in *params (the caller's), or the status to refuse it with and *err.
int api_admit(struct api *api, const struct api_request *request, json_t **params, struct err *err);

// Who is it? For what is not an endpoint (WebSockets, uploads).
int api_identify(struct api *api, const struct api_request *request, struct auth_identity *who,
                 struct err *err);

// The whole table as JSON: [{"method":…, "path":…, "parameters":[…], …}].
json_t *api_describe(const struct endpoint *const *tables, const struct api_param *common);

// The same as a page of HTML, to be freed; it asks for the script as "api.js".
char *api_document(const struct endpoint *const *tables, const struct api_param *common,
                   size_t *length);
extern const char api_document_script[];

#endif
