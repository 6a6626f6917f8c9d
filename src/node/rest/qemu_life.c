// SPDX-License-Identifier: Apache-2.0
//
// /nodes/{node}/qemu/{vmid}/status and /snapshot: starting, stopping, going back.
#include <stdlib.h>
#include <string.h>

#include "node/rest/rest.h"

static int64_t vmid_of(const json_t *params)
{
    return api_param_integer(params, "vmid", 0);
}

static struct guests *guests_of(void *node)
{
    return ((struct node *)node)->guests;
}

// ---- Status.

static int get_status(struct api_call *call, struct err *err)
{
    struct node *node = rest_node(call);
    json_t *record = guest_get(node->guests, vmid_of(call->params));
    if (!record)
        return rest_no_guest(call, err);
    call->data = guest_row(node->guests, vmid_of(call->params), record);
    json_object_set_new(call->data, "ha", json_pack("{s:i}", "managed", 0));
    const char *agent = api_param_string(json_object_get(record, "config"), "agent");
    if (agent && (agent[0] == '1' || strstr(agent, "enabled=1")))
        json_object_set_new(call->data, "agent", json_integer(1));
    if (!strcmp(api_param_string(call->data, "status"), "running")) {
        json_object_set_new(call->data, "running-qemu", json_string("9.0.0"));
        json_object_set_new(call->data, "running-machine", json_string("wirt"));
    }
    json_decref(record);
    return 0;
}

static int check_guest(struct api_call *call, struct err *err)
{
    return rest_no_guest(call, err);
}

static int work_start(struct task *task, void *node, const json_t *params, struct err *err)
{
    return guest_start(guests_of(node), task, vmid_of(params), err);
}

static int work_stop(struct task *task, void *node, const json_t *params, struct err *err)
{
    return guest_stop(guests_of(node), task, vmid_of(params),
                      api_param_integer(params, "overrule-shutdown", 0) != 0, err);
}

static unsigned timeout_of(const json_t *params)
{
    return (unsigned)api_param_integer(params, "timeout", 180);
}

static int work_shutdown(struct task *task, void *node, const json_t *params, struct err *err)
{
    return guest_shutdown(guests_of(node), task, vmid_of(params), timeout_of(params),
                          api_param_integer(params, "forceStop", 0) != 0, err);
}

static int work_reboot(struct task *task, void *node, const json_t *params, struct err *err)
{
    return guest_reboot(guests_of(node), task, vmid_of(params), timeout_of(params), err);
}

static int work_reset(struct task *task, void *node, const json_t *params, struct err *err)
{
    return guest_command(guests_of(node), task, vmid_of(params), "reset", err);
}

static int check_suspend(struct api_call *call, struct err *err)
{
    return api_boolean(call, "todisk")
               ? api_refuse(call, err, "todisk", "suspending to disk is not offered yet")
               : rest_no_guest(call, err);
}

static int work_suspend(struct task *task, void *node, const json_t *params, struct err *err)
{
    return guest_command(guests_of(node), task, vmid_of(params), "pause", err);
}

static int work_resume(struct task *task, void *node, const json_t *params, struct err *err)
{
    return guest_command(guests_of(node), task, vmid_of(params), "resume", err);
}

// ---- Snapshots. What is now stands last, as "current".

static json_t *snapshot_row(const char *name, const json_t *snapshot)
{
    json_t *row = json_pack("{s:s, s:O, s:O, s:i}", "name", name, "snaptime",
                            json_object_get(snapshot, "snaptime"), "description",
                            json_object_get(snapshot, "description"), "vmstate", 0);
    if (json_object_get(snapshot, "parent"))
        json_object_set(row, "parent", json_object_get(snapshot, "parent"));
    return row;
}

static int get_snapshots(struct api_call *call, struct err *err)
{
    json_t *record = guest_get(rest_node(call)->guests, vmid_of(call->params));
    if (!record)
        return rest_no_guest(call, err);
    char digest[41];
    const char *name;
    json_t *snapshot;
    bool running = guest_is_running(rest_node(call)->guests, vmid_of(call->params));
    guest_digest(json_object_get(record, "config"), digest);
    call->data = json_array();
    json_object_foreach(json_object_get(record, "snapshots"), name, snapshot)
        json_array_append_new(call->data, snapshot_row(name, snapshot));
    json_t *now = json_pack("{s:s, s:s, s:i, s:s}", "name", "current", "description",
                            "You are here!", "running", (int)running, "digest", digest);
    if (json_object_get(record, "parent"))
        json_object_set(now, "parent", json_object_get(record, "parent"));
    json_array_append_new(call->data, now);
    json_decref(record);
    return 0;
}

static int get_snapshot_config(struct api_call *call, struct err *err)
{
    json_t *record = guest_get(rest_node(call)->guests, vmid_of(call->params));
    if (!record)
        return rest_no_guest(call, err);
    const char *name = api_string(call, "snapname");
    const json_t *snapshot = json_object_get(json_object_get(record, "snapshots"), name);
    int result = 0;
    if (snapshot) {
        call->data = json_copy(json_object_get(snapshot, "config"));
        json_object_set(call->data, "snaptime", json_object_get(snapshot, "snaptime"));
        json_object_set(call->data, "description", json_object_get(snapshot, "description"));
    } else {
        result = err_set(err, ERR_NOT_FOUND, "snapshot '%s' does not exist", name);
    }
    json_decref(record);
    return result;
}

static int put_snapshot_config(struct api_call *call, struct err *err)
{
    return guest_snapshot_describe(rest_node(call)->guests, vmid_of(call->params),
                                   api_string(call, "snapname"), api_string(call, "description"),
                                   err);
}

static int check_snapshot(struct api_call *call, struct err *err)
{
    return api_boolean(call, "vmstate")
               ? api_refuse(call, err, "vmstate", "snapshots with RAM are not offered yet")
               : rest_no_guest(call, err);
}

static int work_snapshot(struct task *task, void *node, const json_t *params, struct err *err)
{
    return guest_snapshot_take(guests_of(node), task, vmid_of(params),
                               api_param_string(params, "snapname"),
                               api_param_string(params, "description"), err);
}

static int work_rollback(struct task *task, void *node, const json_t *params, struct err *err)
{
    return guest_snapshot_back(guests_of(node), task, vmid_of(params),
                               api_param_string(params, "snapname"),
                               api_param_integer(params, "start", 0) != 0, err);
}

static int work_drop(struct task *task, void *node, const json_t *params, struct err *err)
{
    return guest_snapshot_drop(guests_of(node), task, vmid_of(params),
                               api_param_string(params, "snapname"), err);
}

// ---- The table.

#define P_SECONDS(NAME, ABOUT)                                                                     \
    {                                                                                              \
        .name = NAME, .type = API_INTEGER, .optional = true, .min = 0, .max = 86400,               \
        .about = ABOUT                                                                             \
    }
#define PARAMS .params = (const struct api_param[])
#define POWER  "/vms/{vmid} VM.PowerMgmt"
#define ACTION(VERB, ABOUT, TASK, WORK)                                                            \
    .method = "POST", .path = VM "/status/" VERB, .about = ABOUT, .permission = POWER,             \
    .task = TASK, .task_id = "vmid", .work = WORK

const struct endpoint rest_qemu_life[] = {
    {.method = "GET",
     .path = VM "/status/current",
     .about = "How a VM is.",
     .permission = "/vms/{vmid} VM.Audit",
     .returns = "{vmid:int, name:string, status:string, qmpstatus:string, cpus:int, maxmem:int, "
                "mem:int, uptime:int, ha:any, *}",
     .handler = get_status},
    {ACTION("start", "Start it.", "qmstart", work_start), .handler = check_guest,
     PARAMS{P_SECONDS("timeout", "accepted"),
            P_BOOLEAN("skiplock", "accepted"),
            P_STRING("machine", 64, "accepted"),
            P_STRING("force-cpu", 256, "accepted"),
            {.name = NULL}}},
    {ACTION("stop", "Pull its plug.", "qmstop", work_stop), .handler = check_guest,
     PARAMS{P_SECONDS("timeout", "accepted"),
            P_BOOLEAN("skiplock", "accepted"),
            P_BOOLEAN("keepActive", "accepted"),
            P_BOOLEAN("overrule-shutdown", "a shutdown that waits for it gives up"),
            {.name = NULL}}},
    {ACTION("shutdown", "Ask it to end, by its agent or the power button, and wait.", "qmshutdown",
            work_shutdown),
     .handler = check_guest,
     PARAMS{P_SECONDS("timeout", "how long; 180"),
            P_BOOLEAN("forceStop", "then pull its plug"),
            P_BOOLEAN("skiplock", "accepted"),
            P_BOOLEAN("keepActive", "accepted"),
            {.name = NULL}}},
    {ACTION("reboot", "Shut it down and start it.", "qmreboot", work_reboot),
     .handler = check_guest,
     PARAMS{P_SECONDS("timeout", "how long to wait for the shutdown; 180"), {.name = NULL}}},
    {ACTION("reset", "Pull its reset line.", "qmreset", work_reset), .handler = check_guest,
     PARAMS{P_BOOLEAN("skiplock", "accepted"), {.name = NULL}}},
    {ACTION("suspend", "Pause it.", "qmpause", work_suspend), .handler = check_suspend,
     PARAMS{P_BOOLEAN("todisk", "with its RAM on disk"),
            P_STRING("statestorage", 63, "accepted"),
            P_BOOLEAN("skiplock", "accepted"),
            {.name = NULL}}},
    {ACTION("resume", "Go on.", "qmresume", work_resume), .handler = check_guest,
     PARAMS{P_BOOLEAN("skiplock", "accepted"), P_BOOLEAN("nocheck", "accepted"), {.name = NULL}}},
    {.method = "GET",
     .path = VM "/snapshot",
     .about = "Snapshots; what is now stands last.",
     .permission = "/vms/{vmid} VM.Audit",
     .handler = get_snapshots,
     .returns = "[{name:string, snaptime?:int, description:string, parent?:string, vmstate?:int, "
                "running?:int, digest?:string}]"},
    {.method = "POST",
     .path = VM "/snapshot",
     .about = "Take a snapshot of its disks.",
     .permission = "/vms/{vmid} VM.Snapshot",
     .task = "qmsnapshot",
     .task_id = "vmid",
     .handler = check_snapshot,
     .work = work_snapshot,
     PARAMS{{.name = "snapname",
             .type = API_STRING,
             .max = 40,
             .format = &rest_format_snapshot,
             .about = "its name"},
            P_STRING("description", 8192, "a note"),
            P_BOOLEAN("vmstate", "with RAM"),
            {.name = NULL}}},
    {.method = "DELETE",
     .path = VM "/snapshot/{snapname}",
     .about = "Drop a snapshot.",
     .permission = "/vms/{vmid} VM.Snapshot",
     .task = "qmdelsnapshot",
     .task_id = "vmid",
     .handler = check_guest,
     .work = work_drop,
     PARAMS{P_BOOLEAN("force", "accepted"), {.name = NULL}}},
    {.method = "POST",
     .path = VM "/snapshot/{snapname}/rollback",
     .about = "Go back to a snapshot.",
     .permission = "/vms/{vmid} VM.Snapshot|VM.Snapshot.Rollback",
     .task = "qmrollback",
     .task_id = "vmid",
     .handler = check_guest,
     .work = work_rollback,
     PARAMS{
         P_BOOLEAN_FOR("start", "start it then", rest_power_permission, "/vms/{vmid} VM.PowerMgmt"),
         {.name = NULL}}},
    {.method = "GET",
     .path = VM "/snapshot/{snapname}/config",
     .about = "The configuration as it was.",
     .permission = "/vms/{vmid} VM.Snapshot|VM.Snapshot.Rollback|VM.Audit",
     .returns = "{snaptime:int, *}",
     .handler = get_snapshot_config},
    {.method = "PUT",
     .path = VM "/snapshot/{snapname}/config",
     .about = "Change a snapshot's note.",
     .permission = "/vms/{vmid} VM.Snapshot",
     .returns = "null",
     .handler = put_snapshot_config,
     PARAMS{P_STRING("description", 8192, "a note"), {.name = NULL}}},
    {.method = NULL},
};
