// SPDX-License-Identifier: Apache-2.0
//
// /nodes/{node}/qemu: VMs, their configuration, creating, cloning and removing them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/guest/guest_cloudinit.h"
#include "node/guest/guest_plug.h"
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

#define HIDDEN "**********" // instead of passwords

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
    if (json_object_get(config, "cipassword"))
        json_object_set_new(config, "cipassword", json_string(HIDDEN));
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
    json_t *running =
        api_boolean(call, "current")
            ? guest_running_config(rest_node(call)->guests, vmid_of(call->params), record)
            : NULL;
    call->data = config_of(record, api_string(call, "snapshot"), err);
    if (call->data && running) {
        const char *key;
        json_t *value;
        json_object_foreach(json_object_get(record, "config"), key,
                            value) if (!json_object_get(running, key))
            json_object_del(call->data, key);
        json_object_update(call->data, running);
        if (json_object_get(running, "cipassword"))
            json_object_set_new(call->data, "cipassword", json_string(HIDDEN));
    }
    json_decref(running);
    json_decref(record);
    return call->data ? 0 : -1;
}

static void pending_row(json_t *rows, const char *key, const json_t *now, json_t *next)
{
    bool hidden = !strcmp(key, "cipassword");
    json_t *row = json_pack("{s:s}", "key", key);
    if (now)
        json_object_set_new(row, "value",
                            hidden ? json_string(HIDDEN) : json_incref((json_t *)(uintptr_t)now));
    if (next && !json_equal(now, next))
        json_object_set_new(row, "pending", hidden ? json_string(HIDDEN) : json_incref(next));
    if (!next)
        json_object_set_new(row, "delete", json_integer(1));
    json_array_append_new(rows, row);
}

static int get_pending(struct api_call *call, struct err *err)
{
    json_t *record = guest_get(rest_node(call)->guests, vmid_of(call->params));
    if (!record)
        return rest_no_guest(call, err);
    json_t *config = json_object_get(record, "config"), *value;
    json_t *running = guest_running_config(rest_node(call)->guests, vmid_of(call->params), record);
    const char *key;
    call->data = json_array();
    json_object_foreach(config, key, value)
        pending_row(call->data, key, running ? json_object_get(running, key) : value, value);
    json_object_foreach(running, key, value) if (!json_object_get(config, key))
        pending_row(call->data, key, value, NULL);
    json_decref(running);
    json_decref(record);
    return 0;
}

// ---- cloud-init.

static int get_cloudinit(struct api_call *call, struct err *err)
{
    static const char *const keys[] = {"ciuser",     "cipassword",   "sshkeys",
                                       "nameserver", "searchdomain", "cicustom"};
    json_t *record = guest_get(rest_node(call)->guests, vmid_of(call->params));
    if (!record)
        return rest_no_guest(call, err);
    const char *key;
    json_t *value;
    call->data = json_array();
    json_object_foreach(json_object_get(record, "config"), key, value)
    {
        bool ours = !strncmp(key, "ipconfig", 8);
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
            ours |= !strcmp(key, keys[i]);
        if (!ours)
            continue;
        json_t *row = json_pack("{s:s, s:O}", "key", key, "value", value);
        if (!strcmp(key, "cipassword"))
            json_object_set_new(row, "value", json_string(HIDDEN));
        json_array_append_new(call->data, row);
    }
    json_decref(record);
    return 0;
}

static int put_cloudinit(struct api_call *call, struct err *err)
{
    struct guests *guests = rest_node(call)->guests;
    int64_t vmid = vmid_of(call->params);
    if (guest_lock(guests, vmid, "cloudinit", false, 4, err))
        return -1;
    json_t *record = guest_get(guests, vmid);
    int result = record ? cloudinit_write(guests, vmid, json_object_get(record, "config"), err)
                        : guest_missing(guests, vmid, err);
    json_decref(record);
    guest_unlock(guests, vmid, false);
    return result;
}

static int get_cloudinit_dump(struct api_call *call, struct err *err)
{
    struct guests *guests = rest_node(call)->guests;
    json_t *record = guest_get(guests, vmid_of(call->params));
    if (!record)
        return rest_no_guest(call, err);
    char *text =
        cloudinit_document(guests, vmid_of(call->params), json_object_get(record, "config"),
                           cloudinit_document_named(api_string(call, "type")), err);
    json_decref(record);
    call->data = text ? json_string(text) : NULL;
    free(text);
    return call->data ? 0 : err->code ? -1 : err_set(err, ERR_INPUT, "the snippet is not UTF-8");
}

static int configure(struct node *node, const json_t *params, struct task *task, struct err *err)
{
    int64_t vmid = vmid_of(params);
    json_t *values = rest_guest_values(params);
    struct guest_change change = {.changes = values,
                                  .remove = json_object_get(params, "delete"),
                                  .digest = api_param_string(params, "digest"),
                                  .force = api_param_integer(params, "force", 0) != 0,
                                  .task = task};
    int result = guest_lock(node->guests, vmid, "config", false, 4, err);
    if (!result) {
        result = guest_reconfigure(node->guests, task, vmid, &change, err);
        guest_unlock(node->guests, vmid, false);
    }
    json_decref(values);
    return result;
}

static bool names_key(const json_t *list, const char *key)
{
    size_t index;
    json_t *one;
    json_array_foreach(list, index, one) if (!strcmp(json_string_value(one), key)) return true;
    return false;
}

// Whether the request itself says something else of the key.
static bool is_given(const struct api_call *call, const char *key)
{
    return json_object_get(call->params, key) ||
           names_key(json_object_get(call->params, "delete"), key);
}

// Taking the change of a key back is another change, to what the machine runs with; nothing for what does not wait.
static int revert(struct api_call *call, const json_t *config, const json_t *running,
                  struct err *err)
{
    json_t *values = json_object(), *gone = json_array(), *key;
    size_t index;
    int result = 0;
    json_array_foreach(json_object_get(call->params, "revert"), index, key)
    {
        const char *name = json_string_value(key);
        json_t *next = json_object_get(config, name), *now = json_object_get(running, name);
        if (is_given(call, name))
            result = api_refuse(call, err, "revert", "'%s' is changed by the same request", name);
        else if (now && !json_equal(now, next))
            json_object_set(values, name, now);
        else if (next && !now)
            json_array_append(gone, key);
    }
    json_object_update(call->params, values);
    json_array_extend(gone, json_object_get(call->params, "delete"));
    if (json_array_size(gone))
        json_object_set(call->params, "delete", gone);
    json_decref(values);
    json_decref(gone);
    return result;
}

static int revert_keys(struct api_call *call, struct err *err)
{
    struct guests *guests = rest_node(call)->guests;
    json_t *record = guest_get(guests, vmid_of(call->params));
    json_t *running = guest_running_config(guests, vmid_of(call->params), record);
    int result = running ? revert(call, json_object_get(record, "config"), running, err) : 0;
    json_decref(running);
    json_decref(record);
    return result;
}

static int check_config(struct api_call *call, struct err *err)
{
    return rest_no_guest(call, err) || revert_keys(call, err) || rest_check_disks(call, err) ? -1
                                                                                             : 0;
}

static int put_config(struct api_call *call, struct err *err)
{
    return check_config(call, err) ? -1 : configure(rest_node(call), call->params, NULL, err);
}

static int work_config(struct task *task, void *node, const json_t *params, struct err *err)
{
    return configure(node, params, task, err);
}

static int put_unlink(struct api_call *call, struct err *err)
{
    json_t *params = json_pack("{s:O, s:O, s:O*}", "vmid", json_object_get(call->params, "vmid"),
                               "delete", json_object_get(call->params, "idlist"), "force",
                               json_object_get(call->params, "force"));
    int result = configure(rest_node(call), params, NULL, err);
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

#define EXPRESSION_BYTES 512

// A stranger's backup names datastores of media and bridges of cards: those expressions of its values that hold for the caller.
static json_t *expressions_that_hold(struct api_call *call, const char *archive)
{
    json_t *header = guest_backup_config(rest_node(call)->guests, archive, NULL), *value;
    json_t *hold = json_array();
    const char *key;
    json_object_foreach(json_object_get(header, "config"), key, value)
    {
        char expression[EXPRESSION_BYTES];
        rest_value_permission(key, value, expression, sizeof(expression));
        if (expression[0] && api_permitted(call, expression, NULL))
            json_array_append_new(hold, json_string(expression));
    }
    json_decref(header);
    return hold;
}

// Whoever restores over a guest must be allowed to; what few may set is taken over for those few.
static int check_restore(struct api_call *call, struct err *err)
{
    const char *archive = api_string(call, "archive");
    struct node *node = rest_node(call);
    int64_t vmid = vmid_of(call->params);
    char path[VOLUME_PATH_BYTES];
    if (archive[0] != '/' && volume_path(node->storage, archive, path, NULL, err))
        return -1;
    if (archive[0] != '/' && !strstr(archive, ":backup/"))
        return api_refuse(call, err, "archive", "is no backup");
    bool trusted = api_permitted(call, "root | / Sys.Modify", NULL);
    json_object_set_new(call->params, "trusted", json_boolean(trusted));
    if (!trusted)
        json_object_set_new(call->params, "hold", expressions_that_hold(call, archive));
    if (!trusted &&
        !api_string(call, "storage")) // where one may put something, as `archive` asks for
        json_object_set_new(call->params, "storage", json_stringn(archive, strcspn(archive, ":")));
    if (!guest_exists(node->guests, vmid))
        return claim(call, "vmid", "create", err);
    if (!api_boolean(call, "force"))
        return api_refuse(call, err, "vmid", "VM %lld already exists on node '%s'", (long long)vmid,
                          node->name);
    json_object_set_new(call->params, "replace", json_true());
    return 0;
}

static int check_create(struct api_call *call, struct err *err)
{
    return api_string(call, "archive") ? check_restore(call, err)
                                       : claim(call, "vmid", "create", err);
}

// A volume, whose datastore's name becomes a part of the permission, or a file, which is root's.
static int check_archive(const char *text, struct err *err)
{
    return text[0] == '/' ? 0 : rest_format_volume.check(text, err);
}
static const struct api_format archive_format = {"archive", "STORE:backup/FILE", check_archive};

// Restoring over a guest is making it disappear.
static void force_permission(const char *value, char *expression, size_t size)
{
    snprintf(expression, size, "%s", value[0] == '1' ? "/vms/{vmid} VM.Backup" : "");
}

static bool holds(const json_t *hold, const char *key, const json_t *value)
{
    char expression[EXPRESSION_BYTES];
    size_t index;
    json_t *one;
    rest_value_permission(key, value, expression, sizeof(expression));
    bool found = !expression[0];
    json_array_foreach(hold, index, one) found |= !strcmp(json_string_value(one), expression);
    return found;
}

// May a backup's key be taken over? `user`: the expressions that hold; NULL for who may set all keys.
static bool key_permitted(void *user, const char *key, const json_t *value)
{
    const char *permission = rest_guest_permission(key);
    bool restricted = permission && !strncmp(permission, "root", 4);
    if (user && (restricted || !strcmp(key, "cicustom") || !holds(user, key, value)))
        return false;
    return permission && strcmp(key, "lock") != 0 && api_value_fits(rest_guest_keys, key, value);
}

static int restore(struct node *node, struct task *task, const json_t *params, const json_t *values,
                   struct err *err)
{
    bool trusted = json_is_true(json_object_get(params, "trusted"));
    struct guest_restore how = {.archive = api_param_string(params, "archive"),
                                .storage = api_param_string(params, "storage"),
                                .unique = api_param_integer(params, "unique", 0) != 0,
                                .replace = json_object_get(params, "replace") != NULL,
                                .changes = values,
                                .permitted = key_permitted,
                                .user = trusted ? NULL : json_object_get(params, "hold")};
    return guest_restore(node->guests, task, vmid_of(params), &how, err);
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
    int result = api_param_string(params, "archive")
                     ? restore(node, task, params, values, err)
                     : guest_create(node->guests, task, vmid_of(params), values, err);
    json_decref(values);
    if (!result && pool)
        result = join_pool(node, pool, vmid_of(params), err);
    if (!result && api_param_integer(params, "start", 0))
        result = guest_start(node->guests, task, vmid_of(params), err);
    return result;
}

// Copies that are put nowhere else take space where the disks lie.
static int check_disks_space(struct api_call *call, const json_t *config, struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)config, key, value)
    {
        char volid[VOLUME_ID_BYTES], expression[128];
        bool cdrom;
        if (!guest_is_disk_key(key) ||
            !guest_disk_volume(json_string_value(value), volid, &cdrom) || cdrom)
            continue;
        snprintf(expression, sizeof(expression), "/storage/%.*s Datastore.AllocateSpace",
                 (int)strcspn(volid, ":"), volid);
        if (!api_permitted(call, expression, err))
            return -1;
    }
    return 0;
}

// Of a machine that runs, what it runs with is cloned.
static int check_space(struct api_call *call, const json_t *record, struct err *err)
{
    const char *snapshot = api_string(call, "snapname");
    if (snapshot)
        record = json_object_get(json_object_get(record, "snapshots"), snapshot);
    return check_disks_space(call, json_object_get(record, "config"), err) ||
                   (!snapshot && check_disks_space(call, json_object_get(record, "running"), err))
               ? -1
               : 0;
}

static int check_clone(struct api_call *call, struct err *err)
{
    const char *target = api_string(call, "target");
    json_t *record = guest_get(rest_node(call)->guests, vmid_of(call->params));
    if (!record)
        return rest_no_guest(call, err);
    int result = api_string(call, "storage") ? 0 : check_space(call, record, err);
    json_decref(record);
    if (result)
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
                                .full = (int)api_param_integer(params, "full", -1),
                                .bytes_per_s =
                                    1024u * (uint64_t)api_param_integer(params, "bwlimit", 0)};
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

#define SETTINGS(name_, about_)                                                                    \
    {                                                                                              \
        .name = name_, .type = API_LIST, .optional = true, .max = 64,                              \
        .format = &rest_format_setting, .permission_of = rest_setting_permission,                  \
        .permission_told = "of each what setting it needs", .about = about_                        \
    }
#define CONFIG_MORE                                                                                \
    {.name = "digest",                                                                             \
     .type = API_STRING,                                                                           \
     .optional = true,                                                                             \
     .max = 64,                                                                                    \
     .about = "the configuration must have this one"},                                             \
        SETTINGS("delete", "keys to remove"),                                                      \
        SETTINGS("revert", "keys whose change waits for the next start: it is taken back"),        \
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
#define P_POOL                                                                                     \
    {                                                                                              \
        .name = "pool", .type = API_STRING, .optional = true, .max = 60,                           \
        .format = &rest_format_pool, .about = "join this pool",                                    \
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
     .permission = ON_GUEST("VM.Allocate"),
     .slow = true, // a backup is looked into
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
                                          {.name = "archive",
                                           .type = API_STRING,
                                           .optional = true,
                                           .max = 250,
                                           .format = &archive_format,
                                           .about = "restore this backup",
                                           .permission_of = rest_backup_permission,
                                           .permission_told = BACKUP_TOLD ", root@pam for a path"},
                                          P_BOOLEAN_FOR("start", "start it", rest_power_permission,
                                                        "/vms/{vmid} VM.PowerMgmt"),
                                          P_BOOLEAN_FOR("force", "restore over a VM that is there",
                                                        force_permission, "/vms/{vmid} VM.Backup"),
                                          P_BOOLEAN("unique", "restored cards get new addresses"),
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
     .params = (const struct api_param[]){P_BOOLEAN("current", "as the machine runs with it"),
                                          P_STRING("snapshot", 40, "as it was then"),
                                          {.name = NULL}}},
    {.method = "GET",
     .path = "/nodes/{node}/qemu/{vmid}/pending",
     .about = "The configuration with what waits for the machine's next start.",
     .permission = "/vms/{vmid} VM.Audit",
     .returns = "[{key:string, value?:any, pending?:any, delete?:int}]",
     .handler = get_pending},
    {.method = "GET",
     .path = "/nodes/{node}/qemu/{vmid}/cloudinit",
     .about = "The keys that cloud-init's drive is made of.",
     .permission = "/vms/{vmid} VM.Audit",
     .returns = "[{key:string, value:any}]",
     .handler = get_cloudinit},
    {.method = "PUT",
     .path = "/nodes/{node}/qemu/{vmid}/cloudinit",
     .about = "Write cloud-init's drive anew; it is written at each start, too.",
     .permission = "/vms/{vmid} VM.Config.Cloudinit",
     .returns = "null",
     .slow = true,
     .handler = put_cloudinit},
    {.method = "GET",
     .path = "/nodes/{node}/qemu/{vmid}/cloudinit/dump",
     .about = "A document of cloud-init's drive, as the guest reads it.",
     .permission = "/vms/{vmid} VM.Audit",
     .returns = "string",
     .slow = true,
     .handler = get_cloudinit_dump,
     .params =
         (const struct api_param[]){
             {.name = "type", .type = API_STRING, .values = "user|network|meta", .about = "which"},
             {.name = NULL}}},
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
     .params = (const struct api_param[]){{.name = "idlist",
                                           .type = API_LIST,
                                           .max = 64,
                                           .format = &rest_format_setting,
                                           .permission_of = rest_setting_permission,
                                           .permission_told = "of each what setting it needs",
                                           .about = "which"},
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
     .permission = "/vms/{vmid} VM.Clone & /vms/{newid} VM.Allocate | /vms/{vmid} VM.Clone & "
                   "/pool/{pool} VM.Allocate",
     .also =
         "without `storage`, /storage/STORE Datastore.AllocateSpace of each that its disks lie in",
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
              .about = "KiB a second, of a machine that runs"},
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
