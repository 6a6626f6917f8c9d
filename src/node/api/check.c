// SPDX-License-Identifier: Apache-2.0
//
// Parameters: from what clients write (strings of forms, JSON of any kind) to what a handler may rely on.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/api/api_internal.h"

#define STRING_BYTES_MAX 65536
#define LIST_MAX         1024

// "net[32]" fits net0 to net31.
static bool name_fits(const char *declared, const char *name)
{
    const char *bracket = strchr(declared, '[');
    if (!bracket)
        return !strcmp(declared, name);
    size_t length = (size_t)(bracket - declared);
    if (strncmp(declared, name, length) != 0)
        return false;
    const char *digits = name + length;
    size_t count = strspn(digits, "0123456789");
    if (!count || count > 3 || digits[count] || (digits[0] == '0' && count > 1))
        return false;
    return strtol(digits, NULL, 10) < strtol(bracket + 1, NULL, 10);
}

static const struct api_param *find_in(const struct api_param *params, const char *name)
{
    for (; params && params->name; params++)
        if (name_fits(params->name, name))
            return params;
    return NULL;
}

const struct api_param *api_find_param(const struct endpoint *endpoint,
                                       const struct api_param *common, const char *name)
{
    const struct api_param *param = find_in(endpoint->params, name);
    if (!param)
        param = find_in(endpoint->more, name);
    if (param || !common)
        return param;
    char variable[64];
    snprintf(variable, sizeof(variable), "{%s}", name);
    if (!strstr(endpoint->path, variable)) {
        snprintf(variable, sizeof(variable), "{%s*}", name);
        if (!strstr(endpoint->path, variable))
            return NULL;
    }
    return find_in(common, name);
}

json_t *api_reason(char *text)
{
    json_t *reason = json_string(text);
    if (reason)
        return reason;
    for (char *c = text; *c; c++)
        *c = *c & 0x80 ? '?' : *c;
    return json_string(text);
}

static void refuse(json_t *errors, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void refuse(json_t *errors, const char *name, const char *format, ...)
{
    char text[ERR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is right above
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    json_object_set_new(errors, name, api_reason(text));
}

// A scalar as text; numbers as people write them. NULL for what is none.
static char *text_of(const json_t *value)
{
    if (json_is_string(value))
        return strdup(json_string_value(value));
    if (json_is_boolean(value))
        return strdup(json_is_true(value) ? "1" : "0");
    return json_is_number(value) ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
}

static bool among(const char *values, const char *text)
{
    size_t length = strlen(text);
    while (*values) {
        size_t n = strcspn(values, "|");
        if (n == length && !strncmp(values, text, n))
            return true;
        values += n + (values[n] != 0);
    }
    return false;
}

static json_t *check_string(const struct api_param *param, const char *name, const char *text,
                            json_t *errors)
{
    size_t length = strlen(text);
    size_t max = param->max ? (size_t)param->max : STRING_BYTES_MAX;
    if (length < (size_t)param->min || length > max) {
        refuse(errors, name,
               length > max ? "value may only be %zu characters long"
                            : "value must be at least %zu characters long",
               length > max ? max : (size_t)param->min);
        return NULL;
    }
    if (param->values && !among(param->values, text)) {
        refuse(errors, name, "value '%.100s' does not have a value in the enumeration '%s'", text,
               param->values);
        return NULL;
    }
    struct err err = {0};
    if (param->format && param->format->check(text, &err)) {
        refuse(errors, name, "invalid format - %s", err.text);
        return NULL;
    }
    json_t *string = json_string(text);
    if (!string)
        refuse(errors, name, "is not valid UTF-8");
    return string;
}

static json_t *check_integer(const struct api_param *param, const char *name, const char *text,
                             json_t *errors)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (end == text || *end || errno || strlen(text) > 20) {
        refuse(errors, name, "type check ('integer') failed - got '%.60s'", text);
        return NULL;
    }
    bool bounded = param->min || param->max;
    if (bounded && number < param->min) {
        refuse(errors, name, "value must have a minimum value of %lld", (long long)param->min);
        return NULL;
    }
    if (bounded && number > param->max) {
        refuse(errors, name, "value must have a maximum value of %lld", (long long)param->max);
        return NULL;
    }
    return json_integer(number);
}

static json_t *check_number(const struct api_param *param, const char *name, const char *text,
                            json_t *errors)
{
    char *end;
    double number = strtod(text, &end);
    bool plain = strspn(text, "0123456789.-") == strlen(text);
    if (end == text || *end || !plain || !isfinite(number)) {
        refuse(errors, name, "type check ('number') failed - got '%.60s'", text);
        return NULL;
    }
    if ((param->min || param->max) &&
        (number < (double)param->min || number > (double)param->max)) {
        refuse(errors, name, "value must be from %lld to %lld", (long long)param->min,
               (long long)param->max);
        return NULL;
    }
    return json_real(number);
}

static json_t *check_boolean(const char *name, const char *text, json_t *errors)
{
    if (among("1|true|on|yes", text))
        return json_true();
    if (among("0|false|off|no", text))
        return json_false();
    refuse(errors, name, "type check ('boolean') failed - got '%.60s'", text);
    return NULL;
}

static json_t *check_scalar(const struct api_param *param, const char *name, const char *text,
                            json_t *errors)
{
    switch (param->type) {
    case API_INTEGER:
        return check_integer(param, name, text, errors);
    case API_NUMBER:
        return check_number(param, name, text, errors);
    case API_BOOLEAN:
        return check_boolean(name, text, errors);
    case API_STRING:
    case API_LIST:
    case API_WORDS:
        break;
    }
    return check_string(param, name, text, errors);
}

static void add_parts(const struct api_param *param, const char *name, const char *text,
                      json_t *list, json_t *errors)
{
    const char *separators = param->type == API_WORDS ? "" : ",; ";
    do {
        size_t n = strcspn(text, separators);
        char *part = strndup(text, n);
        if ((n || param->type == API_WORDS) && json_array_size(list) < LIST_MAX)
            json_array_append_new(list, check_string(param, name, part, errors));
        free(part);
        text += n + (text[n] != 0);
    } while (*text);
}

static json_t *check_list(const struct api_param *param, const char *name, const json_t *value,
                          json_t *errors)
{
    json_t *list = json_array();
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    if (count > LIST_MAX)
        refuse(errors, name, "has more than %d elements", LIST_MAX);
    for (size_t i = 0; i < count && i < LIST_MAX; i++) {
        char *text = text_of(json_is_array(value) ? json_array_get(value, i) : value);
        if (text)
            add_parts(param, name, text, list, errors);
        else
            refuse(errors, name, "must be a list of strings");
        free(text);
    }
    return list;
}

// A string given several times, which some clients do with what they hold as a list, is one with commas.
static char *joined(const json_t *array)
{
    size_t used = 0, room = 1;
    size_t index;
    json_t *element;
    json_array_foreach(array, index, element) room += json_string_length(element) + 1;
    char *text = calloc(1, room);
    json_array_foreach(array, index, element)
    {
        const char *part = json_string_value(element);
        if (text && part)
            used += (size_t)snprintf(text + used, room - used, "%s%s", used ? "," : "", part);
    }
    return text;
}

void api_check_value(const struct api_param *param, const char *name, const json_t *value,
                     json_t *params, json_t *errors)
{
    json_t *checked;
    if (param->type == API_LIST || param->type == API_WORDS) {
        checked = check_list(param, name, value, errors);
    } else {
        bool several = json_is_array(value) && param->type == API_STRING;
        char *text = several ? joined(value) : text_of(value);
        checked = text ? check_scalar(param, name, text, errors) : NULL;
        if (!text)
            refuse(errors, name, "must be a single value");
        free(text);
    }
    if (checked)
        json_object_set_new(params, name, checked);
}

bool api_value_fits(const struct api_param *list, const char *name, const json_t *value)
{
    const struct api_param *param = find_in(list, name);
    json_t *checked = json_object(), *errors = json_object();
    if (param)
        api_check_value(param, name, value, checked, errors);
    bool fits = param && !json_object_size(errors);
    json_decref(checked);
    json_decref(errors);
    return fits;
}

static void fill_in(const struct api_param *list, json_t *params, json_t *errors)
{
    for (; list && list->name; list++) {
        if (strchr(list->name, '[') || json_object_get(params, list->name) ||
            json_object_get(errors, list->name))
            continue;
        if (list->fallback) {
            json_t *text = json_string(list->fallback);
            api_check_value(list, list->name, text, params, errors);
            json_decref(text);
        } else if (!list->optional) {
            refuse(errors, list->name, "property is missing and it is not optional");
        }
    }
}

void api_check_missing(const struct endpoint *endpoint, json_t *params, json_t *errors)
{
    fill_in(endpoint->params, params, errors);
    fill_in(endpoint->more, params, errors);
}
