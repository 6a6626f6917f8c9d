// SPDX-License-Identifier: Apache-2.0
//
// Who may do what where: users, groups, roles, tokens, pools and the access list, read from the store into one value that answers.
//
// Proxmox VE's rules. An entry of the access list gives a user, a group or a token a role on a path, with or without what lies below. On
// the way from "/" down to the path asked for, an entry for the user itself at one level replaces what came from above, and so does one for
// its groups where there is none for itself; NoAccess gives nothing. What a guest's pool grants is added to the guest. A token with separated
// privileges may do what both its own entries and its user's permit; one without them is its user. root@pam may do everything.
//
// A `struct rules` never changes once it is made: any thread may ask it.
#ifndef WIRT_NODE_AUTH_RULES_H
#define WIRT_NODE_AUTH_RULES_H

#include "node/auth/privilege.h"
#include "node/store/store.h"

#define AUTH_ID_BYTES 192 // user@realm!token

struct rules;

struct rules *rules_load(struct store *store);
void rules_destroy(struct rules *rules);

// `id` is user@realm or user@realm!token.
privilege_set rules_privileges(const struct rules *rules, const char *id, const char *path);

// All paths that the access list or a pool names, "/" first: where privileges can differ. Borrowed; ends with NULL.
const char *const *rules_paths(const struct rules *rules);

#endif
