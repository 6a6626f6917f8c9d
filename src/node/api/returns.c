// SPDX-License-Identifier: Apache-2.0
//
// The types of answers, as the table writes them, held against answers. A recursive descent through both at once.
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "node/api/api_internal.h"

#define NAME_BYTES 64

static int check(const char **type, const json_t *value, const char *where, struct err *err);

static void blanks(const char **type)
{
    while (**type == ' ')
        (*type)++;
}

static bool take(const char **type, char c)
{
    blanks(type);
    if (**type != c)
        return false;
    (*type)++;
    return true;
}

static void name(const char **type, char *to)
{
    size_t n = 0;
    blanks(type);
    for (; **type && (isalnum((unsigned char)**type) || strchr("_-", **type)); (*type)++)
        if (n + 1 < NAME_BYTES)
            to[n++] = **type;
    to[n] = 0;
}

static int differs(struct err *err, const char *where, const char *wanted)
{
    return err_set(err, ERR_INPUT, "the answer's %s is no %s", where, wanted);
}

static int check_word(const char *word, const json_t *value, const char *where, struct err *err)
{
    bool right = !strcmp(word, "any") || !value; // without a value a type is only read over
    if (!strcmp(word, "null"))
        right |= json_is_null(value);
    else if (!strcmp(word, "string"))
        right |= json_is_string(value);
    else if (!strcmp(word, "int"))
        right |= json_is_integer(value);
    else if (!strcmp(word, "number"))
        right |= json_is_number(value);
    else if (!strcmp(word, "bool")) // as clients want it: 0 or 1
        right |= json_is_integer(value) && json_integer_value(value) / 2 == 0;
    else if (!strcmp(word, "upid"))
        right |= json_is_string(value) && !strncmp(json_string_value(value), "UPID:", 5);
    return right ? 0 : differs(err, where, word);
}

static int check_members(const char **type, const json_t *value, const char *where, struct err *err)
{
    size_t known = 0;
    bool more = false;
    if (value && !json_is_object(value))
        return differs(err, where, "object");
    while (!take(type, '}') && **type) {
        char member[NAME_BYTES], below[256];
        if (take(type, '*')) {
            more = true;
        } else {
            name(type, member);
            bool optional = take(type, '?');
            const json_t *part = json_object_get(value, member);
            snprintf(below, sizeof(below), "%.150s.%s", where, member);
            if (!part && !optional && value)
                return err_set(err, ERR_INPUT, "the answer lacks %s", below);
            known += part != NULL;
            if (take(type, ':') && check(type, part, below, err))
                return -1;
        }
        take(type, ',');
    }
    if (value && !more && known < json_object_size(value))
        return err_set(err, ERR_INPUT, "the answer's %s has members that are not declared", where);
    return 0;
}

static int check_elements(const char **type, const json_t *value, const char *where,
                          struct err *err)
{
    if (value && !json_is_array(value))
        return differs(err, where, "array");
    const char *element = *type;
    for (size_t i = 0; i < json_array_size(value); i++) {
        char below[256];
        *type = element;
        snprintf(below, sizeof(below), "%.150s[%zu]", where, i);
        if (check(type, json_array_get(value, i), below, err))
            return -1;
    }
    if (!json_array_size(value) && check(type, NULL, where, err))
        return -1;
    take(type, ']');
    return 0;
}

static int check(const char **type, const json_t *value, const char *where, struct err *err)
{
    char word[NAME_BYTES];
    if (take(type, '{'))
        return check_members(type, value, where, err);
    if (take(type, '['))
        return check_elements(type, value, where, err);
    name(type, word);
    return check_word(word, value, where, err);
}

int api_check_reply(const char *type, const json_t *value, struct err *err)
{
    json_t *null = json_null();
    return check(&type, value ? value : null, "data", err);
}
