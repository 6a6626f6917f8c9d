// SPDX-License-Identifier: Apache-2.0
//
// Privileges and the roles that bundle them. A set of privileges is a word with a bit for each.
//
// The names are Proxmox VE's, of its version 8 and of 9 together: what one version renamed is granted under both names, so that a
// client of either finds what it asks for. Pure.
#ifndef WIRT_NODE_AUTH_PRIVILEGE_H
#define WIRT_NODE_AUTH_PRIVILEGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

typedef uint64_t privilege_set;

unsigned privilege_count(void);
const char *privilege_name(unsigned number);
// The bit of a name; 0 when there is no such privilege.
privilege_set privilege_find(const char *name);
// Names separated by commas, semicolons or spaces. -1 and the unknown one in *err.
int privilege_parse(const char *names, privilege_set *set, struct err *err);
// {"VM.Audit": 1, …}
json_t *privilege_object(privilege_set set);
// With what the old and new names of each other's imply.
privilege_set privilege_widen(privilege_set set);

// The roles that every node has.
struct role {
    const char *name;
    privilege_set privileges;
};
unsigned role_builtin_count(void);
void role_builtin(unsigned number, struct role *role);
bool role_builtin_find(const char *name, privilege_set *set);

#endif
