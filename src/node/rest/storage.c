// SPDX-License-Identifier: Apache-2.0
//
// /storage, /nodes/{node}/storage: datastores and what lies in them.
#include <stdio.h>
#include <string.h>

#include "base/units.h"
#include "node/rest/rest.h"
#include "os/directory.h"

static bool may_see(struct api_call *call, const char *id)
{
    char path[128];
    snprintf(path, sizeof(path), "/storage/%s", id);
    return rest_may(call, path, "Datastore.Audit|Datastore.AllocateSpace");
}

static int get_storages(struct api_call *call, struct err *err)
{
    (void)err;
    const char *type = api_string(call, "type");
    json_t *list = storage_list(rest_node(call)->storage);
    size_t index;
    json_t *row;
    call->data = json_array();
    json_array_foreach(list, index,
                       row) if (may_see(call, api_param_string(row, "storage")) &&
                                (!type || !strcmp(type, api_param_string(row, "type"))))
        json_array_append(call->data, row);
    json_decref(list);
    return 0;
}

static int get_storage(struct api_call *call, struct err *err)
{
    call->data = storage_get(rest_node(call)->storage, api_string(call, "storage"));
    return call->data ? 0
                      : err_set(err, ERR_NOT_FOUND, "storage '%s' does not exist",
                                api_string(call, "storage"));
}

static int get_node_storages(struct api_call *call, struct err *err)
{
    struct node *node = rest_node(call);
    const char *content = api_string(call, "content"), *only = api_string(call, "storage");
    json_t *list = storage_list(node->storage);
    size_t index;
    json_t *row;
    (void)err;
    call->data = json_array();
    json_array_foreach(list, index, row)
    {
        const char *id = api_param_string(row, "storage");
        if (!may_see(call, id) || (only && strcmp(only, id) != 0) ||
            (content && !storage_takes(node->storage, id, content)))
            continue;
        json_t *status = storage_status(node->storage, id, NULL);
        if (status)
            json_array_append_new(call->data, status);
    }
    json_decref(list);
    return 0;
}

static int get_status(struct api_call *call, struct err *err)
{
    call->data = storage_status(rest_node(call)->storage, api_string(call, "storage"), err);
    return call->data ? 0 : -1;
}

static int get_content(struct api_call *call, struct err *err)
{
    call->data = storage_content(rest_node(call)->storage, api_string(call, "storage"),
                                 api_string(call, "content"), api_integer(call, "vmid", 0), err);
    return call->data ? 0 : -1;
}

// ---- Datastores come, change and go.

static json_t *given_keys(const struct api_call *call)
{
    static const char *const keys[] = {"type",   "path",          "content", "nodes",
                                       "shared", "prune-backups", "disable", "comment"};
    json_t *record = json_object();
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        json_t *value = json_object_get(call->params, keys[i]);
        if (json_is_boolean(value))
            json_object_set_new(record, keys[i], json_integer(json_is_true(value)));
        else if (value)
            json_object_set(record, keys[i], value);
    }
    return record;
}

static int post_storage(struct api_call *call, struct err *err)
{
    const char *id = api_string(call, "storage");
    if (storage_add(rest_node(call)->storage, id, given_keys(call), err))
        return -1;
    call->data = json_pack("{s:s, s:s}", "storage", id, "type", api_string(call, "type"));
    return 0;
}

static int put_storage(struct api_call *call, struct err *err)
{
    const char *id = api_string(call, "storage");
    json_t *changes = given_keys(call);
    int result = storage_change(rest_node(call)->storage, id, changes,
                                json_object_get(call->params, "delete"), err);
    json_decref(changes);
    if (!result)
        call->data = json_pack("{s:s, s:s}", "storage", id, "type", "dir");
    return result;
}

static int delete_storage(struct api_call *call, struct err *err)
{
    const char *id = api_string(call, "storage");
    char path[128];
    if (guests_use_storage(rest_node(call)->guests, id))
        return err_set(err, ERR_BUSY, "storage '%s' is in use by a guest", id);
    snprintf(path, sizeof(path), "/storage/%s", id);
    return storage_remove(rest_node(call)->storage, id, err) ||
                   rest_forget_rights(rest_node(call), NULL, "path", path, err)
               ? -1
               : 0;
}

// A volume of a guest, attached to nothing yet: it becomes unusedN when the guest is there, and stays a volume when not.
static int post_content(struct api_call *call, struct err *err)
{
    char volid[VOLUME_ID_BYTES];
    uint64_t bytes;
    struct node *node = rest_node(call);
    struct store_txn txn;
    const char *format = api_string(call, "format");
    if (!units_parse_size(api_string(call, "size"), 1024, &bytes) || !bytes)
        return api_refuse(call, err, "size", "is no size, as 32G, or KiB as a number");
    if (volume_make(node->storage, api_string(call, "storage"), api_integer(call, "vmid", 0), NULL,
                    format ? format : "qcow2", bytes, volid, err))
        return -1;
    store_txn_begin(&txn);
    volume_ready(node->storage, &txn, volid);
    call->data = json_string(volid);
    return store_commit(node->store, &txn, err);
}

void rest_full_volume(const json_t *params, char volid[VOLUME_ID_BYTES])
{
    const char *volume = api_param_string(params, "volume");
    if (strchr(volume, ':'))
        snprintf(volid, VOLUME_ID_BYTES, "%s", volume);
    else
        snprintf(volid, VOLUME_ID_BYTES, "%s:%s", api_param_string(params, "storage"), volume);
}

int rest_volume_here(struct api_call *call, char volid[VOLUME_ID_BYTES], struct err *err)
{
    const char *storage = api_string(call, "storage");
    size_t n = strlen(storage);
    rest_full_volume(call->params, volid);
    return strncmp(volid, storage, n) != 0 || volid[n] != ':'
               ? api_refuse(call, err, "volume", "lies in another datastore")
               : 0;
}

// A guest's volume is the guest's, a backup too; files for all are for who may bring them.
static void removal_permission(const char *value, char *expression, size_t size)
{
    const char *colon = strchr(value, ':'), *name = colon ? colon + 1 : value;
    size_t kind = strcspn(name, "/");
    static const char *const files[] = {"iso", "vztmpl", "import", "snippets"};
    const char *backup = strstr(name, "vzdump-qemu-");
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        if (strlen(files[i]) == kind && !strncmp(name, files[i], kind)) {
            snprintf(expression, size,
                     "/storage/{storage} Datastore.Allocate|Datastore.AllocateTemplate");
            return;
        }
    bool is_backup = kind == 6 && !strncmp(name, "backup", 6);
    snprintf(expression, size,
             "/storage/{storage} Datastore.Allocate | /storage/{storage} Datastore.AllocateSpace & "
             "/vms/%lld %s",
             strtoll(is_backup && backup ? backup + 12 : name, NULL, 10),
             is_backup ? "VM.Backup" : "VM.Config.Disk");
}

static int check_delete(struct api_call *call, struct err *err)
{
    char volid[VOLUME_ID_BYTES], path[VOLUME_PATH_BYTES];
    if (rest_volume_here(call, volid, err))
        return -1;
    if (guests_use_volume(rest_node(call)->guests, volid))
        return err_set(err, ERR_BUSY, "volume '%s' is in use by a guest", volid);
    return volume_path(rest_node(call)->storage, volid, path, NULL, err);
}

static int work_delete(struct task *task, void *context, const json_t *params, struct err *err)
{
    struct node *node = context;
    char volid[VOLUME_ID_BYTES];
    rest_full_volume(params, volid);
    json_t *record = volume_record(node->storage, volid);
    json_decref(record);
    task_log(task, "removing '%s'", volid);
    if (record)
        return volume_remove(node->storage, volid, err);
    return rest_remove_file(node, volid, err);
}

static int get_volume(struct api_call *call, struct err *err)
{
    char volid[VOLUME_ID_BYTES], path[VOLUME_PATH_BYTES], format[16];
    if (rest_volume_here(call, volid, err) ||
        volume_path(rest_node(call)->storage, volid, path, format, err))
        return -1;
    json_t *record = volume_record(rest_node(call)->storage, volid);
    call->data = json_pack("{s:s, s:s, s:I}", "path", path, "format", format, "size",
                           (json_int_t)api_param_integer(record, "size", 0));
    json_decref(record);
    return 0;
}

#define AUDIT "/storage/{storage} Datastore.Audit|Datastore.AllocateSpace"
#define VOLUME_PARAM                                                                               \
    {                                                                                              \
        .name = "volume", .type = API_STRING, .max = 250,                                          \
        .about = "volume id, with or without its datastore's name"                                 \
    }

#define KEY(NAME, TYPE, MAX, ABOUT)                                                                \
    {                                                                                              \
        .name = NAME, .type = TYPE, .optional = true, .max = MAX, .about = ABOUT                   \
    }
#define STORAGE_KEYS                                                                               \
    KEY("content", API_STRING, 200, "what it takes, separated by commas"),                         \
        KEY("nodes", API_STRING, 200, "accepted"),                                                 \
        KEY("shared", API_BOOLEAN, 0, "other nodes have it too"),                                  \
        KEY("prune-backups", API_STRING, 200, "keep-last=3,… of its backups"),                     \
        KEY("disable", API_BOOLEAN, 0, "nothing is put there"),                                    \
        KEY("comment", API_STRING, 4096, "a note")

const struct endpoint rest_storage[] = {
    {.method = "GET",
     .path = "/storage",
     .about = "Datastores.",
     .permission = "user",
     .filter = AUDIT,
     .returns = "[{storage:string, type:string, content:string, *}]",
     .handler = get_storages,
     .params = (const struct api_param[]){{.name = "type",
                                           .type = API_STRING,
                                           .optional = true,
                                           .max = 32,
                                           .about = "only of this kind"},
                                          {.name = NULL}}},
    {.method = "POST",
     .path = "/storage",
     .about = "Make a datastore of a folder that the node may write to.",
     .permission = "/storage Datastore.Allocate",
     .returns = "{storage:string, type:string}",
     .slow = true,
     .handler = post_storage,
     .params =
         (const struct api_param[]){
             {.name = "storage",
              .type = API_STRING,
              .min = 2,
              .max = 63,
              .format = &rest_format_storage,
              .about = "its name"},
             {.name = "type", .type = API_STRING, .values = "dir", .about = "its kind"},
             {.name = "path",
              .type = API_STRING,
              .min = 2,
              .max = 1024,
              .permission = "/ Sys.Modify",
              .about = "the folder"},
             STORAGE_KEYS,
             {.name = NULL}}},
    {.method = "PUT",
     .path = "/storage/{storage}",
     .about = "Change a datastore.",
     .permission = "/storage/{storage} Datastore.Allocate",
     .returns = "{storage:string, type:string}",
     .slow = true,
     .handler = put_storage,
     .params = (const struct api_param[]){STORAGE_KEYS,
                                          {.name = "delete",
                                           .type = API_LIST,
                                           .optional = true,
                                           .max = 64,
                                           .about = "keys to remove"},
                                          {.name = "digest",
                                           .type = API_STRING,
                                           .optional = true,
                                           .max = 64,
                                           .about = "accepted"},
                                          {.name = NULL}}},
    {.method = "DELETE",
     .path = "/storage/{storage}",
     .about = "Forget a datastore that holds no guest's volume; its files stay.",
     .permission = "/storage/{storage} Datastore.Allocate",
     .returns = "null",
     .slow = true,
     .handler = delete_storage},
    {.method = "GET",
     .path = "/storage/{storage}",
     .about = "A datastore.",
     .permission = "/storage/{storage} Datastore.Allocate|Datastore.Audit",
     .returns = "{storage:string, type:string, *}",
     .handler = get_storage},
    {.method = "GET",
     .path = "/nodes/{node}/storage",
     .about = "Datastores with their usage.",
     .permission = "user",
     .filter = AUDIT,
     .returns = "[{storage:string, active:int, total:int, used:int, avail:int, *}]",
     .handler = get_node_storages,
     .params =
         (const struct api_param[]){
             {.name = "content",
              .type = API_STRING,
              .optional = true,
              .max = 64,
              .about = "only those that take it"},
             {.name = "enabled", .type = API_BOOLEAN, .optional = true, .about = "all are"},
             {.name = "format", .type = API_BOOLEAN, .optional = true, .about = "accepted"},
             {.name = "target",
              .type = API_STRING,
              .optional = true,
              .max = 63,
              .about = "accepted"},
             {.name = "storage",
              .type = API_STRING,
              .optional = true,
              .max = 63,
              .about = "only this one"},
             {.name = NULL}}},
    {.method = "GET",
     .path = "/nodes/{node}/storage/{storage}/status",
     .about = "A datastore's usage.",
     .permission = AUDIT,
     .returns = "{active:int, total:int, used:int, avail:int, *}",
     .handler = get_status},
    {.method = "GET",
     .path = "/nodes/{node}/storage/{storage}/content",
     .about = "What lies in it.",
     .permission = AUDIT,
     .slow = true,
     .handler = get_content,
     .returns = "[{volid:string, content:string, format:string, size:int, used?:int, ctime:int, "
                "vmid?:int, parent?:string, notes?:string, protected?:int, subtype?:string}]",
     .params = (const struct api_param[]){{.name = "content",
                                           .type = API_STRING,
                                           .optional = true,
                                           .max = 32,
                                           .about = "only of this kind"},
                                          {.name = "vmid",
                                           .type = API_INTEGER,
                                           .optional = true,
                                           .min = GUEST_ID_MIN,
                                           .max = GUEST_ID_MAX,
                                           .about = "only of this guest"},
                                          {.name = NULL}}},
    {.method = "POST",
     .path = "/nodes/{node}/storage/{storage}/content",
     .about = "Make a volume for a guest.",
     .permission = "/storage/{storage} Datastore.AllocateSpace",
     .returns = "string",
     .slow = true,
     .handler = post_content,
     .params = (const struct api_param[]){{.name = "vmid",
                                           .type = API_INTEGER,
                                           .min = GUEST_ID_MIN,
                                           .max = GUEST_ID_MAX,
                                           .about = "whose it is",
                                           .permission = "/vms/{vmid} VM.Config.Disk"},
                                          {.name = "size",
                                           .type = API_STRING,
                                           .max = 24,
                                           .about = "32G, 512M, or KiB as a number"},
                                          {.name = "filename",
                                           .type = API_STRING,
                                           .optional = true,
                                           .max = 200,
                                           .about = "accepted; the name is made"},
                                          {.name = "format",
                                           .type = API_STRING,
                                           .optional = true,
                                           .values = "qcow2|raw",
                                           .about = "qcow2 when not given"},
                                          {.name = NULL}}},
    {.method = "GET",
     .path = "/nodes/{node}/storage/{storage}/content/{volume*}",
     .about = "A volume.",
     .permission = AUDIT,
     .returns = "{path:string, format:string, size:int}",
     .handler = get_volume,
     .params = (const struct api_param[]){VOLUME_PARAM, {.name = NULL}}},
    {.method = "DELETE",
     .path = "/nodes/{node}/storage/{storage}/content/{volume*}",
     .about = "Remove a volume that nobody uses.",
     .permission = "/storage/{storage} "
                   "Datastore.Allocate|Datastore.AllocateTemplate|Datastore.AllocateSpace",
     .task = "imgdel",
     .task_id = "storage",
     .handler = check_delete,
     .work = work_delete,
     .params = (const struct api_param[]){{.name = "volume",
                                           .type = API_STRING,
                                           .max = 250,
                                           .permission_of = removal_permission,
                                           .permission_told =
                                               "/storage/{storage} Datastore.Allocate; "
                                               "Datastore.AllocateTemplate for files that are no "
                                               "guest's; Datastore.AllocateSpace and /vms/VMID "
                                               "VM.Backup or VM.Config.Disk for a guest's",
                                           .about = "volume id, with or without its datastore's "
                                                    "name"},
                                          {.name = "delay",
                                           .type = API_INTEGER,
                                           .optional = true,
                                           .min = 1,
                                           .max = 30,
                                           .about = "accepted"},
                                          {.name = NULL}}},
    {.method = NULL},
};
