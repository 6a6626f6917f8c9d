// SPDX-License-Identifier: Apache-2.0
//
// The endpoints: Proxmox VE's REST interface as tables (node/api/api.h) with their handlers, a file for each branch of the tree.
//
// A handler is small: what it may rely on is checked before, what it does is in the folders below. One that takes long is a task, one
// that hashes or asks a guest is `slow`; the others run on the event loop and must not wait. To add an endpoint, add a row: doc/node.md.
#ifndef WIRT_NODE_REST_REST_H
#define WIRT_NODE_REST_REST_H

#include "node/api/api.h"
#include "node/auth/secret.h"
#include "node/guest/guest.h"
#include "node/storage/storage.h"

// What handlers reach by call->node.
struct node {
    const char *name;
    struct os_loop *loop;
    struct store *store;
    struct auth *auth;
    struct tasks *tasks;
    struct storage *storage;
    struct guests *guests;
    struct resource_rows *rows;
    const char *fingerprint; // of the certificate
    uint64_t started_s;
    char setup_token
        [SECRET_UUID_BYTES]; // good for making the first administrator, once; "" when there is one
    const char *metrics_folder; // metrics.h
    const char *audit_path;     // the audit log
};

extern const struct endpoint *const rest_tables[]; // ends with NULL
extern const struct api_param rest_common[];       // parameters of paths

// The tables, one of each file.
extern const struct endpoint rest_access[], rest_access_users[], rest_cluster[], rest_nodes[],
    rest_tasks[], rest_qemu[], rest_qemu_life[], rest_agent[], rest_storage[], rest_storage_files[],
    rest_pools[], rest_console[], rest_backup[], rest_bulk[], rest_metrics[], rest_machine[];

// A console's promise, used up; who got it. console.c
bool rest_console_redeem(struct node *node, int64_t vmid, int64_t port, const char *ticket,
                         char user[AUTH_ID_BYTES]);

// Its privileges; false when there is no such role. access.c
bool rest_find_role(struct api_call *call, const char *name, privilege_set *set);
// Takes out of the access list what has this value: of `member` ("roleid", "ugid"), and of `type` unless that is NULL. access.c
int rest_forget_rights(struct node *node, const char *type, const char *member, const char *value,
                       struct err *err);

// ---- params.c: what several endpoints take.
extern const struct api_param rest_guest_keys[]; // the keys of a configuration
extern const struct api_format rest_format_name, rest_format_userid, rest_format_storage,
    rest_format_volume, rest_format_snapshot, rest_format_path, rest_format_id, rest_format_pool,
    rest_format_vmid;
// A boolean that needs a right when it is true.
#define P_BOOLEAN_FOR(NAME, ABOUT, PERMISSION_OF, TOLD)                                            \
    {                                                                                              \
        .name = NAME, .type = API_BOOLEAN, .optional = true, .about = ABOUT,                       \
        .permission_of = PERMISSION_OF, .permission_told = TOLD                                    \
    }
void rest_power_permission(const char *value, char *expression, size_t size);
// The members of params that are keys of a configuration.
json_t *rest_guest_values(const json_t *params);
const char *
rest_guest_permission(const char *key); // what changing it needs; NULL: there is no such key

extern const struct api_format rest_format_setting;
void rest_setting_permission(const char *value, char *expression, size_t size);
// Whoever may only change CD-ROMs puts them where no disk is, and none elsewhere.
int rest_check_disks(struct api_call *call, struct err *err);
// On the guest, or, of one that is being made in a pool, on the pool.
#define ON_GUEST(PRIVILEGE) "/vms/{vmid} " PRIVILEGE " | /pool/{pool} " PRIVILEGE
// What this value of it needs besides; nothing for what is not well formed.
void rest_value_permission(const char *key, const json_t *value, char *expression, size_t size);

// ---- Rows that several tables have: optional parameters, the path of a guest.
#define P_STRING(NAME, MAX, ABOUT)                                                                 \
    {                                                                                              \
        .name = NAME, .type = API_STRING, .optional = true, .max = MAX, .about = ABOUT             \
    }
#define P_BOOLEAN(NAME, ABOUT)                                                                     \
    {                                                                                              \
        .name = NAME, .type = API_BOOLEAN, .optional = true, .about = ABOUT                        \
    }
#define P_NUMBER(NAME, MAX, ABOUT)                                                                 \
    {                                                                                              \
        .name = NAME, .type = API_INTEGER, .optional = true, .max = MAX, .about = ABOUT            \
    }
#define VM "/nodes/{node}/qemu/{vmid}"

// ---- What several handlers do.
static inline struct node *rest_node(const struct api_call *call)
{
    return call->node;
}
json_t *rest_node_row(struct node *node); // as lists of nodes have it
bool rest_may(struct api_call *call, const char *path, const char *privileges); // "A|B"
int rest_no_guest(struct api_call *call, struct err *err); // 0 when {vmid} is there

// "local:iso/x.iso" of a request's volume, which may come without the datastore's name.
void rest_full_volume(const json_t *params, char volid[VOLUME_ID_BYTES]);
// The same; refused when it names another datastore than the path, of which the permission was asked.
int rest_volume_here(struct api_call *call, char volid[VOLUME_ID_BYTES], struct err *err);
// What using a backup needs, by the name of its volume. backup.c
void rest_backup_permission(const char *value, char *expression, size_t size);
#define BACKUP_TOLD                                                                                \
    "/storage/STORE Datastore.Allocate, or /storage/STORE Datastore.AllocateSpace and /vms/VMID "  \
    "VM.Backup"
// Removes a plain file and what is known of it, unless it is protected. backup.c
int rest_remove_file(struct node *node, const char *volid, struct err *err);

#endif
