// SPDX-License-Identifier: Apache-2.0
//
// /nodes/{node}/qemu: VMs, their configuration, creating, cloning and removing them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/rest/rest.h"

static int64_t vmid_of(const json_t *params)
{
    return api_param_integer(params, "vmid", 0);
}

// ---- Lists.

static int get_list(struct api_call *call, struct err *err)
{
    struct store_list list;
    struct node *node = rest_node(call);
    (void)err;
    call->data = json_array();
    store_list(node->store, "/guest/", &list);
    for (size_t i = 0; i < list.count; i++) {
        const char *id = list.entries[i].key + strlen("/guest/");
        char path[64];
        snprintf(path, sizeof(path), "/vms/%s", id);
        if (!rest_may(call, path, "VM.Audit"))
            continue;
        json_t *row = guest_row(node->guests, strtoll(id, NULL, 10), list.entries[i].value);
        if (!api_boolean(call, "full"))
            json_object_del(row, "qmpstatus");
        json_array_append_new(call->data, row);
    }
    store_list_free(&list);
    return 0;
}

// ---- Configuration.

static json_t *config_of(const json_t *record, const char *snapshot, struct err *err)
{
    const json_t *from = record;
    char digest[41];
    if (snapshot) {
        from = json_object_get(json_object_get(record, "snapshots"), snapshot);
        if (!from) {
            err_set(err, ERR_NOT_FOUND, "snapshot '%s' does not exist", snapshot);
            return NULL;
        }
    }
    json_t *config = json_copy(json_object_get(from, "config"));
    guest_digest(json_object_get(record, "config"), digest);
    json_object_set_new(config, "digest", json_string(digest));
    if (json_object_get(from, "parent"))
        json_object_set(config, "parent", json_object_get(from, "parent"));
    if (!snapshot && json_object_get(record, "lock"))
        json_object_set(config, "lock", json_object_get(record, "lock"));
    return config;
}

static int get_config(struct api_call *call, struct err *err)
{
    json_t *record = guest_get(rest_node(call)->guests, vmid_of(call->params));
    if (!record)
        return rest_no_guest(call, err);
    call->data = config_of(record, api_string(call, "snapshot"), err);
    json_decref(record);
    return call->data ? 0 : -1;
}

static int get_pending(struct api_call *call, struct err *err)
{
    json_t *record = guest_get(rest_node(call)->guests, vmid_of(call->params));
    if (!record)
        return rest_no_guest(call, err);
    const char *key;
    json_t *value;
    call->data = json_array();
    json_object_foreach(json_object_get(record, "config"), key, value)
        json_array_append_new(call->data, json_pack("{s:s, s:O}", "key", key, "value", value));
    json_decref(record);
    return 0;
}

static int configure(struct node *node, const json_t *params, struct err *err)
{
    int64_t vmid = vmid_of(params);
    json_t *values = rest_guest_values(params);
    struct guest_change change = {.changes = values,
                                  .remove = json_object_get(params, "delete"),
                                  .digest = api_param_string(params, "digest"),
                                  .force = api_param_integer(params, "force", 0) != 0};
    int result = guest_lock(node->guests, vmid, "config", false, 4, err);
    if (!result) {
        result = guest_configure(node->guests, vmid, &change, err);
        guest_unlock(node->guests, vmid, false);
    }
    json_decref(values);
    return result;
}

// What is deleted needs what setting it would.
static int check_deleted(struct api_call *call, const char *param, struct err *err)
{
    size_t index;
    json_t *key;
    json_array_foreach(json_object_get(call->params, param), index, key)
    {
        const char *name = json_string_value(key);
        const char *permission = rest_guest_permission(name);
        if (!permission)
            return api_refuse(call, err, param, "unknown setting '%.60s'", name);
        if (!api_permitted(call, permission, err))
            return -1;
    }
    return 0;
}

static int put_config(struct api_call *call, struct err *err)
{
    if (check_deleted(call, "delete", err))
        return -1;
    return configure(rest_node(call), call->params, err);
}

static int check_config(struct api_call *call, struct err *err)
{
    return rest_no_guest(call, err) ? -1 : check_deleted(call, "delete", err);
}

static int work_config(struct task *task, void *node, const json_t *params, struct err *err)
{
    (void)task;
    return configure(node, params, err);
}

static int put_unlink(struct api_call *call, struct err *err)
{
    if (check_deleted(call, "idlist", err))
        return -1;
    json_t *params = json_pack("{s:O, s:O, s:O*}", "vmid", json_object_get(call->params, "vmid"),
                               "delete", json_object_get(call->params, "idlist"), "force",
                               json_object_get(call->params, "force"));
    int result = configure(rest_node(call), params, err);
    json_decref(params);
    return result;
}

static int work_resize(struct task *task, void *context, const json_t *params, struct err *err)
{
    struct node *node = context;
    return guest_resize_disk(node->guests, task, vmid_of(params), api_param_string(params, "disk"),
                             api_param_string(params, "size"), err);
}

// ---- Coming.

static int claim(struct api_call *call, const char *param, const char *lock, struct err *err)
{
    int64_t vmid = api_integer(call, param, 0);
    struct node *node = rest_node(call);
    if (!guest_claim(node->guests, vmid, lock, err))
        return 0;
    return err->code == ERR_EXISTS
               ? api_refuse(call, err, param, "VM %lld already exists on node '%s'",
                            (long long)vmid, node->name)
               : -1;
}

static int check_create(struct api_call *call, struct err *err)
{
    if (api_string(call, "archive"))
        return api_refuse(call, err, "archive", "restoring is not offered yet");
    return claim(call, "vmid", "create", err);
}

// The new guest joins a pool: what the interface has checked, once it is there.
static int join_pool(struct node *node, const char *pool, int64_t vmid, struct err *err)
{
    char key[128], member[24];
    int64_t revision;
    struct store_txn txn;
    snprintf(key, sizeof(key), "/pool/%.100s", pool);
    snprintf(member, sizeof(member), "%lld", (long long)vmid);
    json_t *old = store_get(node->store, key, &revision);
    if (!old)
        return err_set(err, ERR_NOT_FOUND, "pool '%s' does not exist", pool);
    json_t *changed = json_deep_copy(old);
    json_decref(old);
    json_array_append_new(json_object_get(changed, "members"), json_string(member));
    store_txn_begin(&txn);
    store_expect(&txn, key, revision);
    store_put(&txn, key, changed);
    return store_commit(node->store, &txn, err);
}

static int work_create(struct task *task, void *context, const json_t *params, struct err *err)
{
    struct node *node = context;
    json_t *values = rest_guest_values(params);
    const char *pool = api_param_string(params, "pool");
    int result = guest_create(node->guests, task, vmid_of(params), values, err);
    json_decref(values);
    if (!result && pool)
        result = join_pool(node, pool, vmid_of(params), err);
    if (!result && api_param_integer(params, "start", 0))
        result = guest_start(node->guests, task, vmid_of(params), err);
    return result;
}

static int check_clone(struct api_call *call, struct err *err)
{
    const char *target = api_string(call, "target");
    if (rest_no_guest(call, err))
        return -1;
    if (target && strcmp(target, rest_node(call)->name) != 0)
        return api_refuse(call, err, "target", "there is one node");
    return claim(call, "newid", "clone", err);
}

static int work_clone(struct task *task, void *context, const json_t *params, struct err *err)
{
    struct node *node = context;
    const char *pool = api_param_string(params, "pool");
    struct guest_clone clone = {.from = vmid_of(params),
                                .to = api_param_integer(params, "newid", 0),
                                .name = api_param_string(params, "name"),
                                .description = api_param_string(params, "description"),
                                .storage = api_param_string(params, "storage"),
                                .format = api_param_string(params, "format"),
                                .snapshot = api_param_string(params, "snapname"),
                                .full = (int)api_param_integer(params, "full", -1)};
    int result = guest_clone(node->guests, task, &clone, err);
    return result || !pool ? result : join_pool(node, pool, clone.to, err);
}

static int check_guest(struct api_call *call, struct err *err)
{
    return rest_no_guest(call, err);
}

static int work_template(struct task *task, void *context, const json_t *params, struct err *err)
{
    struct node *node = context;
    return guest_make_template(node->guests, task, vmid_of(params), err);
}

// ---- Going. Pools and the access list forget it too: the number may be somebody else's tomorrow.

static int forget(struct node *node, int64_t vmid, struct err *err)
{
    struct store_list list;
    struct store_txn txn;
    char member[24], prefix[64];
    store_txn_begin(&txn);
    snprintf(member, sizeof(member), "%lld", (long long)vmid);
    snprintf(prefix, sizeof(prefix), "/acl//vms/%lld|", (long long)vmid);
    store_list(node->store, prefix, &list);
    for (size_t i = 0; i < list.count; i++)
        store_delete(&txn, list.entries[i].key);
    store_list_free(&list);
    store_list(node->store, "/pool/", &list);
    for (size_t i = 0; i < list.count; i++) {
        json_t *changed = json_deep_copy(list.entries[i].value);
        json_t *members = json_object_get(changed, "members"), *one;
        size_t index;
        bool found = false;
        json_array_foreach(members, index, one) if (!strcmp(json_string_value(one), member))
        {
            found = true;
            break;
        }
        if (!found) {
            json_decref(changed);
            continue;
        }
        json_array_remove(members, index);
        store_put(&txn, list.entries[i].key, changed);
    }
    store_list_free(&list);
    return store_commit(node->store, &txn, err);
}

static int work_destroy(struct task *task, void *context, const json_t *params, struct err *err)
{
    struct node *node = context;
    if (guest_destroy(node->guests, task, vmid_of(params), err))
        return -1;
    return forget(node, vmid_of(params), err);
}

// ---- The table.

#define CONFIG_MORE                                                                                \
    {.name = "digest",                                                                             \
     .type = API_STRING,                                                                           \
     .optional = true,                                                                             \
     .max = 64,                                                                                    \
     .about = "the configuration must have this one"},                                             \
        {.name = "delete",                                                                         \
         .type = API_LIST,                                                                         \
         .optional = true,                                                                         \
         .max = 64,                                                                                \
         .about = "keys to remove; each needs what setting it needs"},                             \
        {.name = "revert",                                                                         \
         .type = API_LIST,                                                                         \
         .optional = true,                                                                         \
         .max = 64,                                                                                \
         .about = "accepted: nothing is pending"},                                                 \
        {.name = "force",                                                                          \
         .type = API_BOOLEAN,                                                                      \
         .optional = true,                                                                         \
         .about = "volumes of removed disks go too"},                                              \
        {.name = "skiplock",                                                                       \
         .type = API_BOOLEAN,                                                                      \
         .optional = true,                                                                         \
         .permission = "root",                                                                     \
         .about = "accepted"},                                                                     \
        {.name = "background_delay",                                                               \
         .type = API_INTEGER,                                                                      \
         .optional = true,                                                                         \
         .min = 1,                                                                                 \
         .max = 30,                                                                                \
         .about = "accepted"},                                                                     \
    {                                                                                              \
        .name = NULL                                                                               \
    }
#define CONFIGURE                                                                                  \
    "/vms/{vmid} "                                                                                 \
    "VM.Config.Disk|VM.Config.CDROM|VM.Config.CPU|VM.Config.Memory|VM.Config.Network|VM.Config."   \
    "HWType|VM.Config.Options|VM.Config.Cloudinit"
#define P_STRING(NAME, MAX, ABOUT)                                                                 \
    {                                                                                              \
        .name = NAME, .type = API_STRING, .optional = true, .max = MAX, .about = ABOUT             \
    }
#define P_BOOLEAN(NAME, ABOUT)                                                                     \
    {                                                                                              \
        .name = NAME, .type = API_BOOLEAN, .optional = true, .about = ABOUT                        \
    }
#define P_POOL                                                                                     \
    {                                                                                              \
        .name = "pool", .type = API_STRING, .optional = true, .max = 60,                           \
        .format = &rest_format_name, .about = "join this pool",                                    \
        .permission = "/pool/{pool} VM.Allocate"                                                   \
    }
#define P_STORAGE                                                                                  \
    {                                                                                              \
        .name = "storage", .type = API_STRING, .optional = true, .max = 63,                        \
        .format = &rest_format_storage, .about = "where its disks go",                             \
        .permission = "/storage/{storage} Datastore.AllocateSpace"                                 \
    }

const struct endpoint rest_qemu[] = {
    {.method = "GET",
     .path = "/nodes/{node}/qemu",
     .about = "VMs.",
     .permission = "user",
     .filter = "/vms/{vmid} VM.Audit",
     .handler = get_list,
     .returns = "[{vmid:int, name:string, status:string, cpus:int, maxmem:int, uptime:int, "
                "template?:int, tags?:string, lock?:string, pid?:int, *}]",
     .params =
         (const struct api_param[]){P_BOOLEAN("full", "with the machine's state"), {.name = NULL}}},
    {.method = "POST",
     .path = "/nodes/{node}/qemu",
     .about = "Create a VM.",
     .permission = "/vms/{vmid} VM.Allocate",
     .task = "qmcreate",
     .task_id = "vmid",
     .handler = check_create,
     .work = work_create,
     .more = rest_guest_keys,
     .params = (const struct api_param[]){{.name = "vmid",
                                           .type = API_INTEGER,
                                           .min = GUEST_ID_MIN,
                                           .max = GUEST_ID_MAX,
                                           .about = "its number"},
                                          P_POOL,
                                          P_STORAGE,
                                          P_STRING("archive", 250, "restore from it"),
                                          P_BOOLEAN("start", "start it"),
                                          P_BOOLEAN("force", "accepted"),
                                          P_BOOLEAN("unique", "accepted"),
                                          P_BOOLEAN("template", "accepted"),
                                          P_BOOLEAN("skiplock", "accepted"),
                                          P_STRING("digest", 64, "accepted"),
                                          P_STRING("format", 16, "accepted"),
                                          P_STRING("delete", 64, "accepted"),
                                          {.name = NULL}}},
    {.method = "GET",
     .path = "/nodes/{node}/qemu/{vmid}/config",
     .about = "A VM's configuration.",
     .permission = "/vms/{vmid} VM.Audit",
     .returns = "{digest:string, *}",
     .handler = get_config,
     .params = (const struct api_param[]){P_BOOLEAN("current", "accepted: nothing is pending"),
                                          P_STRING("snapshot", 40, "as it was then"),
                                          {.name = NULL}}},
    {.method = "GET",
     .path = "/nodes/{node}/qemu/{vmid}/pending",
     .about = "The configuration with what is pending: nothing is.",
     .permission = "/vms/{vmid} VM.Audit",
     .returns = "[{key:string, value?:any}]",
     .handler = get_pending},
    {.method = "PUT",
     .path = "/nodes/{node}/qemu/{vmid}/config",
     .about = "Change the configuration, at once.",
     .permission = CONFIGURE,
     .returns = "null",
     .slow = true,
     .handler = put_config,
     .more = rest_guest_keys,
     .params = (const struct api_param[]){CONFIG_MORE}},
    {.method = "POST",
     .path = "/nodes/{node}/qemu/{vmid}/config",
     .about = "Change the configuration, as a task.",
     .permission = CONFIGURE,
     .task = "qmconfig",
     .task_id = "vmid",
     .handler = check_config,
     .work = work_config,
     .more = rest_guest_keys,
     .params = (const struct api_param[]){CONFIG_MORE}},
    {.method = "PUT",
     .path = "/nodes/{node}/qemu/{vmid}/unlink",
     .about = "Detach disks.",
     .permission = "/vms/{vmid} VM.Config.Disk",
     .returns = "null",
     .slow = true,
     .handler = put_unlink,
     .params =
         (const struct api_param[]){
             {.name = "idlist", .type = API_LIST, .max = 64, .about = "which"},
             P_BOOLEAN("force", "their volumes go too"),
             {.name = NULL}}},
    {.method = "PUT",
     .path = "/nodes/{node}/qemu/{vmid}/resize",
     .about = "Make a disk larger.",
     .permission = "/vms/{vmid} VM.Config.Disk",
     .task = "resize",
     .task_id = "vmid",
     .handler = check_guest,
     .work = work_resize,
     .params =
         (const struct api_param[]){
             {.name = "disk", .type = API_STRING, .max = 32, .about = "which"},
             {.name = "size", .type = API_STRING, .max = 24, .about = "32G, or +5G"},
             P_STRING("digest", 64, "accepted"),
             P_BOOLEAN("skiplock", "accepted"),
             {.name = NULL}}},
    {.method = "POST",
     .path = "/nodes/{node}/qemu/{vmid}/clone",
     .about = "Make another one of it.",
     .permission = "/vms/{vmid} VM.Clone & /vms/{newid} VM.Allocate",
     .task = "qmclone",
     .task_id = "vmid",
     .handler = check_clone,
     .work = work_clone,
     .params =
         (const struct api_param[]){
             {.name = "newid",
              .type = API_INTEGER,
              .min = GUEST_ID_MIN,
              .max = GUEST_ID_MAX,
              .about = "the new one's number"},
             {.name = "name",
              .type = API_STRING,
              .optional = true,
              .max = 63,
              .format = &rest_format_name,
              .about = "its name"},
             P_STRING("description", 8192, "its notes"),
             P_POOL,
             P_STORAGE,
             {.name = "format",
              .type = API_STRING,
              .optional = true,
              .values = "qcow2|raw",
              .about = "of full clones' disks"},
             P_STRING("snapname", 40, "as it was then"),
             P_BOOLEAN("full", "copy the disks; linked when not, of templates"),
             P_STRING("target", 63, "this node"),
             {.name = "bwlimit",
              .type = API_INTEGER,
              .optional = true,
              .min = 0,
              .max = INT32_MAX,
              .about = "accepted"},
             {.name = NULL}}},
    {.method = "POST",
     .path = "/nodes/{node}/qemu/{vmid}/template",
     .about = "Make it a template.",
     .permission = "/vms/{vmid} VM.Allocate",
     .task = "qmtemplate",
     .task_id = "vmid",
     .handler = check_guest,
     .work = work_template,
     .params = (const struct api_param[]){P_STRING("disk", 32, "accepted"), {.name = NULL}}},
    {.method = "DELETE",
     .path = "/nodes/{node}/qemu/{vmid}",
     .about = "Remove a VM and its volumes.",
     .permission = "/vms/{vmid} VM.Allocate",
     .task = "qmdestroy",
     .task_id = "vmid",
     .handler = check_guest,
     .work = work_destroy,
     .params =
         (const struct api_param[]){
             P_BOOLEAN("purge", "from pools and the access list, which is always done"),
             P_BOOLEAN("destroy-unreferenced-disks", "always done"),
             P_BOOLEAN("skiplock", "accepted"),
             P_BOOLEAN("force", "accepted"),
             {.name = NULL}}},
    {.method = NULL},
};
