// SPDX-License-Identifier: Apache-2.0
//
// Checks JSON against the tables that tools/gen-protocol makes from protocol.json.
//
// What passes schema_check() has only known members, of the right types and inside their ranges, and no required one is missing: the code
// behind it needs no checks of its own. Pure; any thread.
#ifndef WIRT_WIRE_SCHEMA_H
#define WIRT_WIRE_SCHEMA_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum schema_type {
    SCHEMA_STRING,  // min, max: length in bytes
    SCHEMA_INTEGER, // min, max: value
    SCHEMA_BOOLEAN,
    SCHEMA_ARRAY, // max: elements
    SCHEMA_OBJECT,
    SCHEMA_TYPE_COUNT
};

struct schema_object;

struct schema_member {
    const char *name;
    enum schema_type type;
    enum schema_type element_type;      // of arrays
    const struct schema_object *object; // of objects, and of arrays of them; NULL: any
    bool required;
    int64_t min, max;
    const char *const *values; // of strings: the only ones, NULL-terminated; or NULL
};

struct schema_object {
    const char *name;
    const struct schema_member *members; // ends with a NULL name
};

struct schema_command {
    const char *name;
    const char *about;
    struct schema_object request;
    struct schema_object reply;
};

// Generated.
extern const struct schema_object schema_config;
extern const struct schema_object schema_disk;
extern const struct schema_object schema_net;
extern const struct schema_command schema_commands[];
extern const unsigned schema_command_count;

// 0, or -1 with a text such as `disks[1].queues: 99 is not in 1 to 16`. `path` stands before the member's name ("" at the top).
int schema_check(const struct schema_object *schema, const json_t *value, const char *path,
                 struct err *err);

const struct schema_command *schema_find_command(const char *name); // NULL if there is none

#endif
