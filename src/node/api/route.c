// SPDX-License-Identifier: Apache-2.0
//
// From a method and a path to an endpoint, segment by segment. A segment that is spelled in the table goes before one that is a variable.
#include <string.h>

#include "node/api/api_internal.h"

struct segment {
    const char *at;
    size_t length;
};

// Takes the next segment off; false at the end.
static bool next(const char **path, struct segment *segment)
{
    *path += strspn(*path, "/");
    segment->at = *path;
    segment->length = strcspn(*path, "/");
    *path += segment->length;
    return segment->length > 0;
}

static bool is_variable(const struct segment *segment)
{
    return segment->at[0] == '{';
}

static bool takes_rest(const struct segment *segment)
{
    return segment->length > 2 && segment->at[segment->length - 2] == '*';
}

static void put_variable(json_t *variables, const struct segment *name, const char *value,
                         size_t length)
{
    char key[64];
    size_t n = name->length - 2 - takes_rest(name);
    if (n >= sizeof(key))
        return;
    memcpy(key, name->at + 1, n);
    key[n] = 0;
    json_object_set_new(variables, key, json_stringn(value, length));
}

// How well a path fits: 0 not at all, else more for each spelled segment, the earlier the more.
static unsigned fit(const char *pattern, const char *path, json_t *variables)
{
    unsigned weight = 1, bit = 1u << 30;
    struct segment want, have;
    for (;; bit >>= 1) {
        bool more_pattern = next(&pattern, &want), more_path = next(&path, &have);
        if (!more_pattern || !more_path)
            return more_pattern == more_path ? weight : 0;
        if (!is_variable(&want)) {
            if (want.length != have.length || memcmp(want.at, have.at, want.length) != 0)
                return 0;
            weight += bit;
            continue;
        }
        if (takes_rest(&want)) {
            if (variables)
                put_variable(variables, &want, have.at, strlen(have.at));
            return weight;
        }
        if (variables)
            put_variable(variables, &want, have.at, have.length);
    }
}

const struct endpoint *api_route(const struct api *api, const char *method, const char *path,
                                 json_t *variables)
{
    const struct endpoint *best = NULL;
    unsigned best_weight = 0;
    for (const struct endpoint *const *table = api->options.tables; *table; table++)
        for (const struct endpoint *e = *table; e->method; e++) {
            unsigned weight = fit(e->path, path, NULL);
            if (weight > best_weight && !strcmp(e->method, method)) {
                best = e;
                best_weight = weight;
            }
        }
    if (best)
        fit(best->path, path, variables);
    return best;
}

// Is `path` the beginning of the pattern? Then the segment behind it.
static bool below(const char *pattern, const char *path, struct segment *child)
{
    struct segment want, have;
    while (next(&path, &have)) {
        if (!next(&pattern, &want))
            return false;
        if (!is_variable(&want) &&
            (want.length != have.length || memcmp(want.at, have.at, want.length) != 0))
            return false;
    }
    return next(&pattern, child);
}

static bool listed(const json_t *children, const struct segment *child)
{
    size_t index;
    json_t *row;
    json_array_foreach(children, index, row)
    {
        const char *name = json_string_value(json_object_get(row, "subdir"));
        if (strlen(name) == child->length && !memcmp(name, child->at, child->length))
            return true;
    }
    return false;
}

json_t *api_children(const struct api *api, const char *path)
{
    json_t *children = json_array();
    for (const struct endpoint *const *table = api->options.tables; *table; table++)
        for (const struct endpoint *e = *table; e->method; e++) {
            struct segment child;
            if (!below(e->path, path, &child) || is_variable(&child) || listed(children, &child))
                continue;
            json_array_append_new(children,
                                  json_pack("{s:s%, s:s%}", "subdir", child.at, child.length,
                                            "name", child.at, child.length));
        }
    if (json_array_size(children))
        return children;
    json_decref(children);
    return NULL;
}
