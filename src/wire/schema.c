// SPDX-License-Identifier: Apache-2.0
#include "wire/schema.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_BYTES 160

static const char *const type_names[] = {"a string", "a whole number", "true or false", "a list",
                                         "an object"};
static_assert(sizeof(type_names) / sizeof(type_names[0]) == SCHEMA_TYPE_COUNT,
              "a name for each type");

static bool has_type(const json_t *value, enum schema_type type)
{
    switch (type) {
    case SCHEMA_STRING:
        return json_is_string(value);
    case SCHEMA_INTEGER:
        return json_is_integer(value);
    case SCHEMA_BOOLEAN:
        return json_is_boolean(value);
    case SCHEMA_ARRAY:
        return json_is_array(value);
    case SCHEMA_OBJECT:
        return json_is_object(value);
    case SCHEMA_TYPE_COUNT:
        break;
    }
    return false;
}

// The value, cut short, and what it should be.
static int refuse_type(const json_t *value, const char *right, const char *path, struct err *err)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    err_set(err, ERR_USAGE, "%s%s%.60s is not %s", path, *path ? ": " : "", text ? text : "this",
            right);
    free(text);
    return -1;
}

static int check_values(const struct schema_member *member, const char *text, const char *path,
                        struct err *err)
{
    char list[200] = "";
    size_t used = 0;
    for (const char *const *value = member->values; *value; value++) {
        if (!strcmp(*value, text))
            return 0;
        int n = snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "", *value);
        used += n > 0 && (size_t)n < sizeof(list) - used ? (size_t)n : 0;
    }
    return err_set(err, ERR_USAGE, "%s: \"%.60s\" is none of %s", path, text, list);
}

static int check_string(const struct schema_member *member, const json_t *value, const char *path,
                        struct err *err)
{
    size_t length = json_string_length(value);
    if (strlen(json_string_value(value)) != length)
        return err_set(err, ERR_USAGE, "%s: contains a zero byte", path);
    if ((int64_t)length < member->min || (int64_t)length > member->max)
        return err_set(err, ERR_USAGE, "%s: has %zu bytes, not %" PRId64 " to %" PRId64, path,
                       length, member->min, member->max);
    return member->values ? check_values(member, json_string_value(value), path, err) : 0;
}

static int check_value(const struct schema_member *member, enum schema_type type,
                       const json_t *value, const char *path, struct err *err)
{
    assert(type < SCHEMA_TYPE_COUNT);
    if (!has_type(value, type))
        return refuse_type(value, type_names[type], path, err);
    if (type == SCHEMA_OBJECT)
        return member->object ? schema_check(member->object, value, path, err) : 0;
    if (type == SCHEMA_STRING)
        return check_string(member, value, path, err);
    if (type == SCHEMA_INTEGER) {
        json_int_t n = json_integer_value(value);
        if (n < member->min || n > member->max)
            return err_set(err, ERR_USAGE,
                           "%s: %" JSON_INTEGER_FORMAT " is not in %" PRId64 " to %" PRId64, path,
                           n, member->min, member->max);
    }
    return 0;
}

static int check_array(const struct schema_member *member, const json_t *array, const char *path,
                       struct err *err)
{
    if ((int64_t)json_array_size(array) > member->max)
        return err_set(err, ERR_USAGE, "%s: has %zu entries, %" PRId64 " at most", path,
                       json_array_size(array), member->max);
    // The range of an array of strings or numbers is not given in the schema: elements may be any.
    struct schema_member element = *member;
    element.min = INT64_MIN;
    element.max = INT64_MAX;
    size_t index;
    json_t *value;
    json_array_foreach(array, index, value)
    {
        char inner[PATH_BYTES];
        if (snprintf(inner, sizeof(inner), "%s[%zu]", path, index) >= PATH_BYTES)
            return err_set(err, ERR_USAGE, "%.40s…: is nested too deep", path);
        if (check_value(&element, member->element_type, value, inner, err))
            return -1;
    }
    return 0;
}

static const struct schema_member *find_member(const struct schema_object *schema, const char *name)
{
    for (const struct schema_member *m = schema->members; m->name; m++)
        if (!strcmp(m->name, name))
            return m;
    return NULL;
}

int schema_check(const struct schema_object *schema, const json_t *value, const char *path,
                 struct err *err)
{
    if (!json_is_object(value))
        return refuse_type(value, type_names[SCHEMA_OBJECT], path, err);
    const char *key;
    json_t *member_value;
    json_object_foreach((json_t *)value, key, member_value)
    {
        char inner[PATH_BYTES];
        if (snprintf(inner, sizeof(inner), "%s%s%.40s", path, *path ? "." : "", key) >= PATH_BYTES)
            return err_set(err, ERR_USAGE, "%.40s…: is nested too deep", path);
        const struct schema_member *member = find_member(schema, key);
        if (!member)
            return err_set(err, ERR_USAGE, "%s: there is no such member in %s", inner,
                           schema->name);
        if (check_value(member, member->type, member_value, inner, err))
            return -1;
        if (member->type == SCHEMA_ARRAY && check_array(member, member_value, inner, err))
            return -1;
    }
    for (const struct schema_member *m = schema->members; m->name; m++)
        if (m->required && !json_object_get(value, m->name))
            return err_set(err, ERR_USAGE, "%s%s%s: is missing", path, *path ? "." : "", m->name);
    return 0;
}

const struct schema_command *schema_find_command(const char *name)
{
    for (unsigned i = 0; i < schema_command_count; i++)
        if (!strcmp(schema_commands[i].name, name))
            return &schema_commands[i];
    return NULL;
}
