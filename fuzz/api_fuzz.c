// SPDX-License-Identifier: Apache-2.0
//
// "METHOD PATH", a line with a query, and the rest as a body (a form, or JSON when it begins with '{'), against the real table of endpoints.
// Each parameter that an endpoint knows becomes a value of its declared type and range or an error that names it, never neither and never both;
// and no value writes itself into the expression of the permission that it needs.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/api/api_internal.h"
#include "node/http/http.h"
#include "node/rest/rest.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void demand(bool true_of_it)
{
    if (!true_of_it)
        abort();
}

static void check_in_range(const struct api_param *param, double value)
{
    demand(isfinite(value));
    if (param->min || param->max)
        demand(value >= (double)param->min && value <= (double)param->max);
}

static void check_text(const struct api_param *param, const json_t *value)
{
    struct err err = {0};
    const char *text = json_string_value(value);
    if (!text)
        abort();
    demand(strlen(text) == json_string_length(value));
    demand(strlen(text) >= (size_t)param->min);
    demand(!param->max || strlen(text) <= (size_t)param->max);
    demand(!param->format || !param->format->check(text, &err));
}

// "root", or terms of "PATH PRIVILEGE".
static void check_expression(const char *expression)
{
    if (!*expression || !strcmp(expression, "root"))
        return;
    for (const char *term = expression; term;) {
        const char *space = strchr(term, ' ');
        demand(term[0] == '/' && space && space[1] >= 'A' && space[1] <= 'Z');
        const char *end = strchr(space + 1, ' ');
        demand(!end || !strncmp(end, " & ", 3) || !strncmp(end, " | ", 3));
        term = end ? end + 3 : NULL;
    }
}

// Nothing that joins terms comes from the value.
static void check_own(const struct api_param *param, const char *value, const char *expression)
{
    char other[512] = "", *plain = strdup(value);
    for (char *c = plain; *c; c++)
        *c = *c == '|' || *c == '&' ? '_' : *c;
    param->permission_of(plain, other, sizeof(other));
    demand(!strcmp(expression, other));
    free(plain);
}

static void check_permission(const struct api_param *param, const json_t *value)
{
    char expression[512] = "";
    if (!param->permission_of || !json_is_string(value))
        return;
    param->permission_of(json_string_value(value), expression, sizeof(expression));
    demand(strlen(expression) < sizeof(expression) - 1); // nothing was cut off
    check_expression(expression);
    check_own(param, json_string_value(value), expression);
}

static void check_typed(const struct api_param *param, const json_t *value)
{
    size_t index;
    json_t *element;
    switch (param->type) {
    case API_INTEGER:
        demand(json_is_integer(value));
        check_in_range(param, (double)json_integer_value(value));
        return;
    case API_NUMBER:
        demand(json_is_real(value));
        check_in_range(param, json_real_value(value));
        return;
    case API_BOOLEAN:
        demand(json_is_boolean(value));
        return;
    case API_STRING:
        check_text(param, value);
        check_permission(param, value);
        return;
    case API_LIST:
    case API_WORDS:
        demand(json_is_array(value));
        json_array_foreach(value, index, element)
        {
            check_text(param, element);
            check_permission(param, element);
        }
    }
}

static void check_given(const struct endpoint *endpoint, const json_t *given)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)given, name, value)
    {
        json_t *params = json_object(), *errors = json_object();
        const struct api_param *param = api_find_param(endpoint, rest_common, name);
        if (param) {
            api_check_value(param, name, value, params, errors);
            const json_t *typed = json_object_get(params, name);
            bool list = param->type == API_LIST || param->type == API_WORDS;
            demand(list || !typed != !json_object_size(errors));
            demand(typed || json_object_get(errors, name));
            if (typed && !json_object_size(errors))
                check_typed(param, typed);
        }
        json_decref(params);
        json_decref(errors);
    }
}

// All at once, as a request does it.
static void check_together(const struct endpoint *endpoint, const json_t *given)
{
    const char *name;
    json_t *value, *params = json_object(), *errors = json_object();
    json_object_foreach((json_t *)(uintptr_t)given, name, value)
    {
        const struct api_param *param = api_find_param(endpoint, rest_common, name);
        if (param)
            api_check_value(param, name, value, params, errors);
    }
    api_check_missing(endpoint, params, errors);
    for (const struct api_param *p = endpoint->params; p && p->name; p++)
        demand(p->optional || strchr(p->name, '[') || json_object_get(params, p->name) ||
               json_object_get(errors, p->name));
    json_decref(params);
    json_decref(errors);
}

static json_t *read_body(const char *text, size_t length)
{
    struct err err = {0};
    if (length && text[0] == '{')
        return http_parse_json(text, length, &err);
    json_t *object = json_object();
    http_parse_form(text, length, object, &err);
    return object;
}

// The next line, to be freed.
static char *take_line(const char **at, const char *end)
{
    const char *stop = memchr(*at, '\n', (size_t)(end - *at));
    char *line = strndup(*at, (size_t)((stop ? stop : end) - *at));
    *at = stop ? stop + 1 : end;
    return line;
}

static void try_request(const char *method, const char *path, const char *query, const char *body,
                        size_t length)
{
    struct err err = {0};
    struct api api = {.options = {.tables = rest_tables, .common = rest_common}};
    json_t *variables = json_object(), *given = json_object();
    const struct endpoint *endpoint = api_route(&api, method, path, variables);
    json_t *children = endpoint ? NULL : api_children(&api, path);
    http_parse_form(query, strlen(query), given, &err);
    json_t *more = read_body(body, length);
    if (endpoint) {
        check_given(endpoint, variables);
        check_given(endpoint, given);
        check_given(endpoint, more);
        json_object_update_missing(given, more);
        check_together(endpoint, given);
    }
    json_decref(children);
    json_decref(variables);
    json_decref(given);
    json_decref(more);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    const char *at = (const char *)bytes, *end = at + length;
    if (length < 1)
        return 0;
    char *line = take_line(&at, end), *query = take_line(&at, end);
    char *space = strchr(line, ' ');
    if (space && http_percent_decode(space + 1, false)) {
        *space = 0;
        try_request(line, space + 1, query, at, (size_t)(end - at));
    }
    free(line);
    free(query);
    return 0;
}
