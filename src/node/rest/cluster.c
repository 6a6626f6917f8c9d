// SPDX-License-Identifier: Apache-2.0
//
// /version, /cluster: what there is, over all nodes; there is one.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/rest/resource_rows.h"
#include "node/rest/rest.h"
#include "os/directory.h"
#include "os/file.h"
#include "os/node_facts.h"

#define LOG_BYTES (256 * 1024) // of the audit log that is looked at

static int get_version(struct api_call *call, struct err *err)
{
    (void)err;
    call->data = json_pack("{s:s, s:s, s:s, s:s}", "version", "8.2.4", "release", "8.2", "repoid",
                           "wirt", "wirt", WIRT_VERSION);
    return 0;
}

// ---- Resources.

static json_t *make_row(struct node *node, const struct store_entry *guest, const char *pool)
{
    const char *id = guest->key + strlen("/guest/");
    char text[64];
    json_t *row = guest_row(node->guests, strtoll(id, NULL, 10), guest->value);
    snprintf(text, sizeof(text), "qemu/%s", id);
    json_object_set_new(row, "id", json_string(text));
    json_object_set_new(row, "type", json_string("qemu"));
    json_object_set_new(row, "node", json_string(node->name));
    json_object_set(row, "maxcpu", json_object_get(row, "cpus"));
    json_object_del(row, "cpus");
    json_object_del(row, "pid");
    const char *state = json_string_value(json_object_get(row, "qmpstatus"));
    if (!state || strcmp(state, "paused") != 0) // which `status` does not tell
        json_object_del(row, "qmpstatus");
    if (!json_object_get(row, "template"))
        json_object_set_new(row, "template", json_integer(0));
    if (pool)
        json_object_set_new(row, "pool", json_string(pool));
    return row;
}

// A guest's row, as it is kept when the guest does not run.
static json_t *guest_resource(struct node *node, const struct store_entry *guest, const char *pool)
{
    struct guest_status status;
    guest_status(node->guests, strtoll(guest->key + strlen("/guest/"), NULL, 10), &status);
    json_t *row = status.running ? NULL : resource_rows_take(node->rows, guest, pool);
    if (row)
        return row;
    row = make_row(node, guest, pool);
    if (!strcmp(json_string_value(json_object_get(row, "status")), "stopped"))
        resource_rows_keep(node->rows, guest, row);
    return row;
}

static void add_guests(struct api_call *call, json_t *rows)
{
    struct store_list list, pools;
    struct node *node = rest_node(call);
    json_t *pool_of = json_object();
    store_list(node->store, "/pool/", &pools);
    for (size_t i = 0; i < pools.count; i++) {
        size_t index;
        json_t *member;
        json_array_foreach(json_object_get(pools.entries[i].value, "members"), index, member)
            json_object_set_new(pool_of, json_string_value(member),
                                json_string(pools.entries[i].key + strlen("/pool/")));
    }
    store_list_free(&pools);
    store_list(node->store, "/guest/", &list);
    privilege_set audit = privilege_find("VM.Audit");
    resource_rows_begin(node->rows, list.count);
    for (size_t i = 0; i < list.count; i++) {
        const struct store_entry *guest = &list.entries[i];
        const char *id = guest->key + strlen("/guest/");
        char path[64];
        snprintf(path, sizeof(path), "/vms/%s", id);
        const char *pool = json_string_value(json_object_get(pool_of, id));
        json_t *row = guest_resource(node, guest, pool);
        if (auth_privileges(node->auth, &call->who, path) & audit)
            json_array_append(rows, row);
        json_decref(row);
    }
    resource_rows_end(node->rows);
    store_list_free(&list);
    json_decref(pool_of);
}

static void add_storages(struct api_call *call, json_t *rows)
{
    struct node *node = rest_node(call);
    json_t *list = storage_list(node->storage);
    size_t index;
    json_t *one;
    json_array_foreach(list, index, one)
    {
        const char *id = api_param_string(one, "storage");
        char path[128];
        snprintf(path, sizeof(path), "/storage/%s", id);
        if (!rest_may(call, path, "Datastore.Audit|Datastore.AllocateSpace"))
            continue;
        json_t *status = storage_status(node->storage, id, NULL);
        if (!status)
            continue;
        snprintf(path, sizeof(path), "storage/%s/%s", node->name, id);
        json_array_append_new(rows, json_pack("{s:s, s:s, s:s, s:s, s:s, s:O, s:O, s:i, s:O, s:O}",
                                              "id", path, "type", "storage", "storage", id, "node",
                                              node->name, "status", "available", "plugintype",
                                              json_object_get(status, "type"), "content",
                                              json_object_get(status, "content"), "shared", 0,
                                              "disk", json_object_get(status, "used"), "maxdisk",
                                              json_object_get(status, "total")));
        json_decref(status);
    }
    json_decref(list);
}

json_t *rest_node_row(struct node *node)
{
    struct os_node_facts host;
    char id[128];
    os_node_facts(&host);
    snprintf(id, sizeof(id), "node/%s", node->name);
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "id", id, "type", "node",
        "node", node->name, "status", "online", "cpu", host.cpu, "maxcpu", (json_int_t)host.cpus,
        "mem", (json_int_t)(host.memory_bytes - host.memory_free_bytes), "maxmem",
        (json_int_t)host.memory_bytes, "disk", (json_int_t)host.root_used_bytes, "maxdisk",
        (json_int_t)host.root_bytes, "uptime", (json_int_t)host.uptime_s, "level", "");
}

static int get_resources(struct api_call *call, struct err *err)
{
    (void)err;
    const char *type = api_string(call, "type");
    call->data = json_array();
    if (!type || !strcmp(type, "vm"))
        add_guests(call, call->data);
    if ((!type || !strcmp(type, "node")))
        json_array_append_new(call->data, rest_node_row(rest_node(call)));
    if (!type || !strcmp(type, "storage"))
        add_storages(call, call->data);
    return 0;
}

static int get_status(struct api_call *call, struct err *err)
{
    char id[128], address[64];
    struct node *node = rest_node(call);
    (void)err;
    snprintf(id, sizeof(id), "node/%s", node->name);
    os_node_address(address, sizeof(address));
    call->data =
        json_pack("[{s:s, s:s, s:s, s:i, s:i, s:i}, {s:s, s:s, s:s, s:i, s:i, s:i, s:s, s:s}]",
                  "type", "cluster", "id", "cluster", "name", node->name, "version", 1, "quorate",
                  1, "nodes", 1, "type", "node", "id", id, "name", node->name, "nodeid", 1,
                  "online", 1, "local", 1, "ip", address, "level", "");
    return 0;
}

static int get_nextid(struct api_call *call, struct err *err)
{
    char text[24];
    struct node *node = rest_node(call);
    int64_t probe = api_integer(call, "vmid", 0);
    if (probe && guest_exists(node->guests, probe))
        return api_refuse(call, err, "vmid", "VM %lld already exists", (long long)probe);
    snprintf(text, sizeof(text), "%lld",
             (long long)(probe ? probe : guest_next_id(node->guests, call->who.id)));
    call->data = json_string(text);
    return 0;
}

static int get_tasks(struct api_call *call, struct err *err)
{
    uint64_t total;
    (void)err;
    bool all = rest_may(call, "/", "Sys.Audit");
    struct task_filter filter = {
        .active = true, .archived = true, .limit = 50, .owner = all ? NULL : call->who.id};
    call->data = tasks_list(rest_node(call)->tasks, &filter, &total);
    return 0;
}

static int get_nothing(struct api_call *call, struct err *err)
{
    (void)err;
    call->data = json_array();
    return 0;
}

// The end of a file that grows, from a line's beginning; to be freed.
static char *read_tail(const char *path, size_t most, size_t *length, struct err *err)
{
    uint64_t size = 0;
    int fd = os_file_open(path, 0, err);
    if (fd < 0)
        return NULL;
    os_file_size(fd, &size);
    *length = size < most ? (size_t)size : most;
    char *text = malloc(*length + 1);
    if (!text)
        abort();
    os_pread(fd, text, *length, size - *length);
    os_file_close(&fd);
    return text;
}

// The last acts of the audit log, newest first: all of them, or one's own.
static int get_log(struct api_call *call, struct err *err)
{
    struct node *node = rest_node(call);
    bool all = rest_may(call, "/", "Sys.Syslog");
    int64_t max = api_integer(call, "max", 50);
    size_t length = 0;
    char *text = read_tail(node->audit_path, LOG_BYTES, &length, err);
    if (!text)
        return -1;
    call->data = json_array();
    for (char *end = text + length; end > text && (int64_t)json_array_size(call->data) < max;) {
        char *start = end - 1;
        while (start > text && start[-1] != '\n')
            start--;
        json_t *line = json_loadb(start, (size_t)(end - start), 0, NULL);
        const char *user = api_param_string(line, "user");
        char message[800];
        snprintf(message, sizeof(message), "%s: %s", api_param_string(line, "act"),
                 api_param_string(line, "result"));
        if (user && (all || !strcmp(user, call->who.id)))
            json_array_append_new(call->data,
                                  json_pack("{s:I, s:s, s:s, s:s, s:s, s:i, s:i, s:i}", "time",
                                            (json_int_t)api_param_integer(line, "time", 0), "node",
                                            node->name, "user", user, "msg", message, "tag",
                                            "wirtd", "pri", 6, "uid",
                                            (int)json_array_size(call->data) + 1, "pid", 0));
        json_decref(line);
        end = start;
    }
    free(text);
    return 0;
}

#define OPTIONS_KEY "/options/cluster"
static const char *const option_names[] = {"keyboard", "language", "console", "description",
                                           "email_from"};
#define OPTION_COUNT (sizeof(option_names) / sizeof(option_names[0]))

static int get_options(struct api_call *call, struct err *err)
{
    (void)err;
    json_t *stored = store_get(rest_node(call)->store, OPTIONS_KEY, NULL);
    call->data = json_pack("{s:s, s:s}", "keyboard", "en-us", "mac_prefix", "BC:24:11");
    json_object_update(call->data, stored);
    json_decref(stored);
    return 0;
}

static int put_options(struct api_call *call, struct err *err)
{
    int64_t revision = 0;
    struct store_txn txn;
    size_t index;
    json_t *name, *stored = store_get(rest_node(call)->store, OPTIONS_KEY, &revision);
    json_t *changed = stored ? json_deep_copy(stored) : json_object();
    json_decref(stored);
    json_array_foreach(json_object_get(call->params, "delete"), index, name)
        json_object_del(changed, json_string_value(name));
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (api_string(call, option_names[i]))
            json_object_set(changed, option_names[i],
                            json_object_get(call->params, option_names[i]));
    store_txn_begin(&txn);
    store_expect(&txn, OPTIONS_KEY, stored ? revision : 0);
    store_put(&txn, OPTIONS_KEY, changed);
    return store_commit(rest_node(call)->store, &txn, err);
}

static int get_description(struct api_call *call, struct err *err)
{
    (void)err;
    call->data = api_describe(rest_tables, rest_common);
    return 0;
}

static int no_ha(struct api_call *call, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no such resource '%s'", api_string(call, "sid"));
}

// What other nodes have and this one has not: clients that look get an empty list.
#define NONE(PATH, PERMISSION, WHY)                                                                \
    {                                                                                              \
        .method = "GET", .path = PATH, .about = "None: " WHY ".", .permission = PERMISSION,        \
        .returns = "[any]", .handler = get_nothing                                                 \
    }
#define P_SID                                                                                      \
    {                                                                                              \
        .name = "sid", .type = API_STRING, .max = 64, .about = "as vm:100"                         \
    }

const struct endpoint rest_cluster[] = {
    {.method = "GET",
     .path = "/version",
     .about = "Which interface this is: that of Proxmox VE 8.2, by wirt.",
     .permission = "user",
     .returns = "{version:string, release:string, repoid:string, wirt:string}",
     .handler = get_version},
    {.method = "GET",
     .path = "/describe",
     .about = "This table.",
     .permission = "world",
     .returns = "[{*}]",
     .handler = get_description},
    {.method = "GET",
     .path = "/cluster/resources",
     .about = "Everything that one may see.",
     .permission = "user",
     .filter = "/vms/{vmid} VM.Audit; /storage/{storage} Datastore.Audit|Datastore.AllocateSpace",
     .returns = "[{id:string, type:string, status:string, *}]",
     .handler = get_resources,
     .params = (const struct api_param[]){{.name = "type",
                                           .type = API_STRING,
                                           .optional = true,
                                           .values = "vm|storage|node|sdn",
                                           .about = "only of this kind"},
                                          {.name = NULL}}},
    {.method = "GET",
     .path = "/cluster/status",
     .about = "The cluster and its nodes.",
     .permission = "/ Sys.Audit",
     .returns = "[{type:string, id:string, name:string, *}]",
     .handler = get_status},
    {.method = "GET",
     .path = "/cluster/nextid",
     .about = "A number for a new guest, promised for some minutes to whoever got it; or whether "
              "one is free.",
     .permission = "user",
     .returns = "string",
     .handler = get_nextid,
     .params = (const struct api_param[]){{.name = "vmid",
                                           .type = API_INTEGER,
                                           .optional = true,
                                           .min = GUEST_ID_MIN,
                                           .max = GUEST_ID_MAX,
                                           .about = "is it free?"},
                                          {.name = NULL}}},
    {.method = "GET",
     .path = "/cluster/tasks",
     .about = "The latest tasks.",
     .permission = "user",
     .filter = "task(upid) | / Sys.Audit",
     .returns = "[{upid:string, *}]",
     .handler = get_tasks},
    {.method = "GET",
     .path = "/cluster/options",
     .about = "Options of the whole.",
     .permission = "user",
     .returns = "{*}",
     .handler = get_options},
    {.method = "PUT",
     .path = "/cluster/options",
     .about = "Change options of the whole. They are kept and told; the node itself heeds none.",
     .permission = "/ Sys.Modify",
     .returns = "null",
     .handler = put_options,
     .params = (const struct api_param[]){P_STRING("keyboard", 16, "layout of consoles"),
                                          P_STRING("language", 16, "of pages"),
                                          P_STRING("console", 16, "which console pages open"),
                                          P_STRING("description", 65535, "notes"),
                                          P_STRING("email_from", 254, "who sends mail"),
                                          {.name = "delete",
                                           .type = API_LIST,
                                           .optional = true,
                                           .max = 64,
                                           .about = "which are forgotten"},
                                          {.name = NULL}}},
    {.method = "GET",
     .path = "/cluster/log",
     .about = "Messages of the whole.",
     .permission = "user",
     .filter = "/ Sys.Syslog, or one's own",
     .returns = "[{time:int, node:string, user:string, msg:string, tag:string, pri:int, uid:int, "
                "pid:int}]",
     .slow = true,
     .handler = get_log,
     .params = (const struct api_param[]){{.name = "max",
                                           .type = API_INTEGER,
                                           .optional = true,
                                           .min = 1,
                                           .max = 5000,
                                           .about = "so many"},
                                          {.name = NULL}}},
    {.method = "GET",
     .path = "/nodes/{node}/version",
     .about = "The same of one node.",
     .permission = "user",
     .returns = "{version:string, release:string, repoid:string, wirt:string}",
     .handler = get_version},
    {.method = "GET",
     .path = "/cluster/ha/resources/{sid}",
     .about = "None: there is no HA yet.",
     .permission = "/ Sys.Audit",
     .returns = "{*}",
     .handler = no_ha,
     .params = (const struct api_param[]){P_SID, {.name = NULL}}},
    {.method = "DELETE",
     .path = "/cluster/ha/resources/{sid}",
     .about = "None: there is no HA yet.",
     .permission = "/ Sys.Console",
     .returns = "null",
     .handler = no_ha,
     .params = (const struct api_param[]){P_SID, {.name = NULL}}},
    NONE("/cluster/ha/resources", "/ Sys.Audit", "there is no HA yet"),
    NONE("/cluster/ha/groups", "/ Sys.Audit", "there is no HA yet"),
    NONE("/cluster/ha/rules", "/ Sys.Audit", "there is no HA yet"),
    NONE("/cluster/replication", "user", "there is no replication"),
    NONE("/cluster/backup", "/ Sys.Audit", "there are no jobs that make backups by the clock"),
    NONE("/cluster/sdn/zones", "user", "there is no software-defined network yet"),
    NONE("/cluster/sdn/vnets", "user", "there is no software-defined network yet"),
    NONE("/cluster/sdn/controllers", "user", "there is no software-defined network yet"),
    NONE("/cluster/sdn/ipams", "user", "there is no software-defined network yet"),
    NONE("/cluster/sdn/dns", "user", "there is no software-defined network yet"),
    NONE("/cluster/firewall/groups", "user", "there is no firewall yet"),
    NONE("/cluster/firewall/rules", "/ Sys.Audit", "there is no firewall yet"),
    NONE("/cluster/firewall/aliases", "/ Sys.Audit", "there is no firewall yet"),
    NONE("/cluster/firewall/ipset", "/ Sys.Audit", "there is no firewall yet"),
    NONE("/cluster/mapping/pci", "user", "no devices of the host are given to guests"),
    NONE("/cluster/mapping/usb", "user", "no devices of the host are given to guests"),
    NONE("/cluster/metrics/server", "/ Sys.Audit", "measurements are sent nowhere"),
    NONE("/cluster/acme/account", "user", "certificates are not asked for"),
    NONE("/cluster/acme/plugins", "/ Sys.Audit", "certificates are not asked for"),
    NONE(VM "/firewall/rules", "/vms/{vmid} VM.Audit", "there is no firewall yet"),
    NONE(VM "/firewall/aliases", "/vms/{vmid} VM.Audit", "there is no firewall yet"),
    NONE(VM "/firewall/ipset", "/vms/{vmid} VM.Audit", "there is no firewall yet"),
    {.method = NULL},
};
