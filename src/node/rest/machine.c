// SPDX-License-Identifier: Apache-2.0
//
// The rest of what clients ask of a VM: moving disks, keys and monitor commands, and what a migration would need.
#include <stdio.h>
#include <string.h>

#include "node/rest/rest.h"

static int64_t vmid_of(const json_t *params)
{
    return api_param_integer(params, "vmid", 0);
}

// ---- Disks.

static int check_move(struct api_call *call, struct err *err)
{
    int64_t other = api_integer(call, "target-vmid", vmid_of(call->params));
    if (other != vmid_of(call->params) || api_string(call, "target-disk"))
        return api_refuse(call, err, "target-vmid", "disks stay with their guest");
    if (!api_string(call, "storage"))
        return api_refuse(call, err, "storage", "is missing");
    return rest_no_guest(call, err);
}

static int work_move(struct task *task, void *context, const json_t *params, struct err *err)
{
    struct node *node = context;
    struct guest_move move = {
        .disk = api_param_string(params, "disk"),
        .storage = api_param_string(params, "storage"),
        .format = api_param_string(params, "format"),
        .remove = api_param_integer(params, "delete", 0) != 0,
        .bytes_per_s = 1024u * (uint64_t)api_param_integer(params, "bwlimit", 0),
    };
    return guest_move_disk(node->guests, task, vmid_of(params), &move, err);
}

// ---- Keys and the monitor.

static int check_running(struct api_call *call, struct guest_status *status, struct err *err)
{
    if (rest_no_guest(call, err))
        return -1;
    guest_status(rest_node(call)->guests, vmid_of(call->params), status);
    return status->running
               ? 0
               : err_set(err, ERR_BUSY, "VM %lld is not running", (long long)vmid_of(call->params));
}

static int put_sendkey(struct api_call *call, struct err *err)
{
    struct guest_status status;
    if (check_running(call, &status, err))
        return -1;
    return err_set(err, ERR_BUSY, "VM %lld has no keyboard: type on its serial console (termproxy)",
                   (long long)vmid_of(call->params));
}

// HMP is QEMU's; of it the questions that clients ask to see whether a machine is there.
static int post_monitor(struct api_call *call, struct err *err)
{
    struct guest_status status;
    char text[64];
    if (check_running(call, &status, err))
        return -1;
    const char *command = api_string(call, "command");
    if (!strcmp(command, "info status"))
        snprintf(text, sizeof(text), "VM status: %s\r\n", status.state);
    else if (!strcmp(command, "info version"))
        snprintf(text, sizeof(text), "wirt %s\r\n", WIRT_VERSION);
    else
        return err_set(err, ERR_UNSUPPORTED,
                       "there is no QEMU monitor: of its commands there are info status and info "
                       "version");
    call->data = json_string(text);
    return 0;
}

// ---- Migration: there is one node.

static int get_migrate(struct api_call *call, struct err *err)
{
    if (rest_no_guest(call, err))
        return -1;
    bool running = guest_is_running(rest_node(call)->guests, vmid_of(call->params));
    call->data = json_pack("{s:i, s:[], s:[], s:{}, s:[]}", "running", (int)running, "local_disks",
                           "local_resources", "not_allowed_nodes", "allowed_nodes");
    return 0;
}

static int check_migrate(struct api_call *call, struct err *err)
{
    const char *target = api_string(call, "target");
    if (rest_no_guest(call, err))
        return -1;
    return strcmp(target, rest_node(call)->name) != 0
               ? api_refuse(call, err, "target", "no such cluster node '%s'", target)
               : api_refuse(call, err, "target", "target is local node.");
}

static int work_migrate(struct task *task, void *node, const json_t *params, struct err *err)
{
    (void)task;
    (void)node;
    (void)params;
    return err_set(err, ERR_UNSUPPORTED, "there is one node");
}

// ---- The table.

const struct endpoint rest_machine[] = {
    {.method = "POST",
     .path = VM "/move_disk",
     .about = "Move a disk to another datastore or format, also of a machine that runs.",
     .permission = "/vms/{vmid} VM.Config.Disk",
     .task = "qmmove",
     .task_id = "vmid",
     .handler = check_move,
     .work = work_move,
     .params =
         (const struct api_param[]){
             {.name = "disk", .type = API_STRING, .max = 32, .about = "which"},
             {.name = "storage",
              .type = API_STRING,
              .optional = true,
              .max = 63,
              .format = &rest_format_storage,
              .permission = "/storage/{storage} Datastore.AllocateSpace",
              .about = "where to"},
             {.name = "format",
              .type = API_STRING,
              .optional = true,
              .values = "qcow2|raw",
              .about = "as it is when not given"},
             P_BOOLEAN("delete", "the old volume goes; else it stays, unused"),
             P_NUMBER("bwlimit", INT32_MAX, "KiB a second, of a machine that runs"),
             P_STRING("digest", 64, "accepted"),
             P_STRING("target-digest", 64, "accepted"),
             P_STRING("target-disk", 32, "refused: disks stay with their guest"),
             P_NUMBER("target-vmid", GUEST_ID_MAX, "this guest"),
             {.name = NULL}}},
    {.method = "PUT",
     .path = VM "/sendkey",
     .about = "Refused: there is no keyboard.",
     .permission = "/vms/{vmid} VM.Console",
     .returns = "null",
     .handler = put_sendkey,
     .params =
         (const struct api_param[]){
             {.name = "key", .type = API_STRING, .max = 64, .about = "as QEMU names it"},
             P_BOOLEAN("skiplock", "accepted"),
             {.name = NULL}}},
    {.method = "POST",
     .path = VM "/monitor",
     .about = "Of QEMU's monitor: info status, info version.",
     .permission = "/vms/{vmid} VM.Monitor | / Sys.Audit",
     .returns = "string",
     .handler = post_monitor,
     .params =
         (const struct api_param[]){
             {.name = "command", .type = API_STRING, .max = 1024, .about = "which"},
             {.name = NULL}}},
    {.method = "GET",
     .path = VM "/migrate",
     .about = "What a migration would need: there is one node, and nowhere to go.",
     .permission = "/vms/{vmid} VM.Migrate",
     .returns = "{running:bool, local_disks:[any], local_resources:[any], allowed_nodes:[any], "
                "not_allowed_nodes:any}",
     .handler = get_migrate,
     .params = (const struct api_param[]){P_STRING("target", 63, "accepted"), {.name = NULL}}},
    {.method = "POST",
     .path = VM "/migrate",
     .about = "Refused: there is one node.",
     .permission = "/vms/{vmid} VM.Migrate",
     .task = "qmigrate",
     .task_id = "vmid",
     .handler = check_migrate,
     .work = work_migrate,
     .params =
         (const struct api_param[]){
             {.name = "target", .type = API_STRING, .max = 63, .about = "a node"},
             P_BOOLEAN("online", "accepted"),
             P_BOOLEAN("force", "accepted"),
             P_BOOLEAN("with-local-disks", "accepted"),
             P_STRING("targetstorage", 63, "accepted"),
             P_STRING("migration_network", 64, "accepted"),
             P_STRING("migration_type", 16, "accepted"),
             P_NUMBER("bwlimit", INT32_MAX, "accepted"),
             {.name = NULL}}},
    {.method = NULL},
};
