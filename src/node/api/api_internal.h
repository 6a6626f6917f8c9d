// SPDX-License-Identifier: Apache-2.0
//
// What the files of this folder share.
#ifndef WIRT_NODE_API_API_INTERNAL_H
#define WIRT_NODE_API_API_INTERNAL_H

#include "node/api/api.h"

struct api {
    struct api_options options;
};

// ---- check.c: parameters.
// A reason as JSON; where it quotes a value and cuts a letter in two, its letters beyond ASCII become '?': it must not get lost.
json_t *api_reason(char *text);
// The declared parameter of a name; those of the path are found in `common` when the endpoint has none.
const struct api_param *api_find_param(const struct endpoint *endpoint,
                                       const struct api_param *common, const char *name);
// Puts the typed value into `params`, or the reason into `errors`.
void api_check_value(const struct api_param *param, const char *name, const json_t *value,
                     json_t *params, json_t *errors);
// What is missing is filled in or told.
void api_check_missing(const struct endpoint *endpoint, json_t *params, json_t *errors);

// ---- route.c
// The endpoint of a method and a path, or NULL; its variables are put into `variables`.
const struct endpoint *api_route(const struct api *api, const char *method, const char *path,
                                 json_t *variables);
// The names one level below a path of the table, or NULL when it has none there.
json_t *api_children(const struct api *api, const char *path);

// ---- permission.c
// -1 and a text that names who, where and what is missing.
int api_check_permission(struct api_call *call, const char *expression, struct err *err);

// ---- returns.c
// Is the value of the declared type? -1 and where it is not.
int api_check_reply(const char *type, const json_t *value, struct err *err);

#endif
