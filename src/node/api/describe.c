// SPDX-License-Identifier: Apache-2.0
//
// The table as JSON, for documentation, clients and tests.
#include <string.h>

#include "node/api/api_internal.h"

static const char *type_name(enum api_type type)
{
    switch (type) {
    case API_STRING:
        return "string";
    case API_INTEGER:
        return "integer";
    case API_NUMBER:
        return "number";
    case API_BOOLEAN:
        return "boolean";
    case API_LIST:
        return "list";
    case API_WORDS:
        return "words";
    }
    return "";
}

static void set_text(json_t *object, const char *name, const char *text)
{
    if (text)
        json_object_set_new(object, name, json_string(text));
}

static json_t *describe_param(const struct api_param *param)
{
    json_t *row = json_pack("{s:s, s:s}", "name", param->name, "type", type_name(param->type));
    if (param->optional || param->fallback)
        json_object_set_new(row, "optional", json_integer(1));
    if (param->min || param->max) {
        json_object_set_new(row, "minimum", json_integer(param->min));
        json_object_set_new(row, "maximum", json_integer(param->max));
    }
    set_text(row, "enum", param->values);
    set_text(row, "format", param->format ? param->format->name : NULL);
    set_text(row, "default", param->fallback);
    set_text(row, "description", param->about);
    set_text(row, "permission", param->permission);
    set_text(row, "permission_by_value", param->permission_told);
    return row;
}

static void add_params(json_t *rows, const struct api_param *params)
{
    for (; params && params->name; params++)
        json_array_append_new(rows, describe_param(params));
}

// Variables of the path that the endpoint has in common with others.
static void add_variables(json_t *rows, const struct endpoint *endpoint,
                          const struct api_param *common)
{
    for (; common && common->name; common++)
        if (api_find_param(endpoint, common, common->name) == common)
            json_array_append_new(rows, describe_param(common));
}

static json_t *describe_endpoint(const struct endpoint *endpoint, const struct api_param *common)
{
    json_t *params = json_array();
    add_variables(params, endpoint, common);
    add_params(params, endpoint->params);
    add_params(params, endpoint->more);
    json_t *row = json_pack("{s:s, s:s, s:o}", "method", endpoint->method, "path", endpoint->path,
                            "parameters", params);
    set_text(row, "description", endpoint->about);
    set_text(row, "permission", endpoint->permission);
    set_text(row, "filter", endpoint->filter);
    set_text(row, "also", endpoint->also);
    set_text(row, "returns", endpoint->task ? "upid" : endpoint->returns);
    set_text(row, "task", endpoint->task);
    return row;
}

json_t *api_describe(const struct endpoint *const *tables, const struct api_param *common)
{
    json_t *rows = json_array();
    for (; *tables; tables++)
        for (const struct endpoint *e = *tables; e->method; e++)
            json_array_append_new(rows, describe_endpoint(e, common));
    return rows;
}
