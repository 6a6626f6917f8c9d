// SPDX-License-Identifier: Apache-2.0
//
// What clients write, into JSON. Everything here is fed by strangers: every length is checked, nothing is believed.
#include <stdlib.h>
#include <string.h>

#include "node/http/http.h"

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool http_percent_decode(char *text, bool plus)
{
    char *to = text;
    for (const char *at = text; *at; at++) {
        if (*at != '%') {
            *to++ = plus && *at == '+' ? ' ' : *at;
            continue;
        }
        int high = digit(at[1]);
        int low = high < 0 ? -1 : digit(at[2]);
        if (low < 0 || !(high << 4 | low))
            return false;
        *to++ = (char)(high << 4 | low);
        at += 2;
    }
    *to = 0;
    return true;
}

int http_add_param(json_t *object, const char *name, size_t name_length, const char *value,
                   size_t value_length, struct err *err)
{
    char key[128];
    if (!name_length || name_length >= sizeof(key))
        return err_set(err, ERR_USAGE, "a parameter's name is empty or too long");
    if (json_object_size(object) >= HTTP_PARAMS_MAX)
        return err_set(err, ERR_LIMIT, "too many parameters");
    if (memchr(name, 0, name_length) || memchr(value, 0, value_length))
        return err_set(err, ERR_USAGE, "a zero byte in a parameter");
    memcpy(key, name, name_length);
    key[name_length] = 0;
    json_t *text = json_stringn(value, value_length);
    if (!text)
        return err_set(err, ERR_USAGE, "the value of a parameter is not UTF-8");
    json_t *old = json_object_get(object, key);
    int failed;
    if (!old) {
        failed = json_object_set_new(object, key, text);
    } else if (json_is_array(old)) {
        failed = json_array_size(old) >= HTTP_PARAMS_MAX;
        if (failed)
            json_decref(text);
        else
            failed = json_array_append_new(old, text);
    } else {
        json_t *both = json_pack("[O, o]", old, text);
        failed = json_object_set_new(object, key, both);
    }
    return failed
               ? err_set(err, ERR_USAGE, "a parameter's name is not UTF-8, or there are too many")
               : 0;
}

// One "name=value", encoded.
static int add_pair(const char *text, size_t length, json_t *object, struct err *err)
{
    char *name = strndup(text, length);
    if (!name)
        abort();
    char *value = strchr(name, '=');
    if (value)
        *value++ = 0;
    int result = -1;
    if (!http_percent_decode(name, true) || (value && !http_percent_decode(value, true)))
        err_set(err, ERR_USAGE, "wrong percent-encoding in a parameter");
    else
        result = http_add_param(object, name, strlen(name), value ? value : "",
                                value ? strlen(value) : 0, err);
    free(name);
    return result;
}

int http_parse_form(const char *text, size_t length, json_t *object, struct err *err)
{
    const char *end = text + length;
    if (memchr(text, 0, length))
        return err_set(err, ERR_USAGE, "a zero byte in a form");
    while (text < end) {
        const char *stop = memchr(text, '&', (size_t)(end - text));
        size_t n = (size_t)((stop ? stop : end) - text);
        if (n && add_pair(text, n, object, err))
            return -1;
        text += n + 1;
    }
    return 0;
}

// Nesting, told without building anything: the parser must not recurse as deep as a stranger likes.
static bool too_deep(const char *text, size_t length)
{
    unsigned depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else
                quoted = c != '"';
            continue;
        }
        quoted = c == '"';
        if (c == '{' || c == '[')
            depth++;
        else if ((c == '}' || c == ']') && depth)
            depth--;
        if (depth > HTTP_DEPTH_MAX)
            return true;
    }
    return false;
}

json_t *http_parse_json(const char *text, size_t length, struct err *err)
{
    json_error_t error;
    if (too_deep(text, length)) {
        err_set(err, ERR_LIMIT, "JSON is nested deeper than %d", HTTP_DEPTH_MAX);
        return NULL;
    }
    json_t *value = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(value) || json_object_size(value) > HTTP_PARAMS_MAX) {
        err_set(err, ERR_USAGE, "the body is no JSON object: %.200s", value ? "" : error.text);
        json_decref(value);
        return NULL;
    }
    return value;
}

bool http_cookie(const char *header, const char *name, char *value, size_t size)
{
    size_t length = strlen(name);
    while (*header) {
        header += strspn(header, " ;");
        size_t n = strcspn(header, ";");
        if (n > length && !strncmp(header, name, length) && header[length] == '=' &&
            n - length - 1 < size) {
            memcpy(value, header + length + 1, n - length - 1);
            value[n - length - 1] = 0;
            return http_percent_decode(value, false);
        }
        header += n;
    }
    return false;
}
