// SPDX-License-Identifier: Apache-2.0
//
// /nodes: this machine.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "node/rest/bulk.h"
#include "os/clock.h"
#include "os/node_facts.h"

static int get_nodes(struct api_call *call, struct err *err)
{
    (void)err;
    json_t *row = rest_node_row(rest_node(call));
    json_object_set_new(row, "ssl_fingerprint", json_string(rest_node(call)->fingerprint));
    call->data = json_pack("[o]", row);
    return 0;
}

static int get_status(struct api_call *call, struct err *err)
{
    struct os_node_facts host;
    char load[3][16];
    (void)err;
    os_node_facts(&host);
    for (size_t i = 0; i < 3; i++)
        snprintf(load[i], sizeof(load[i]), "%.2f", host.load[i]);
    json_int_t total = (json_int_t)host.memory_bytes, free = (json_int_t)host.memory_free_bytes;
    json_int_t root = (json_int_t)host.root_bytes, used = (json_int_t)host.root_used_bytes;
    json_t *cpu =
        json_pack("{s:i, s:i, s:i, s:s, s:s, s:s, s:s, s:i}", "cpus", (int)host.cpus, "cores",
                  (int)host.cpus, "sockets", 1, "model", host.cpu_model, "mhz", host.cpu_mhz,
                  "flags", host.cpu_flags, "hvm", host.kvm ? "1" : "0", "user_hz", 100);
    call->data = json_pack("{s:{s:I, s:I, s:I}, s:{s:I, s:I, s:I, s:I}, s:{s:i, s:i, s:i}, "
                           "s:{s:i}, s:o, s:f, s:[s, s, "
                           "s], s:I, s:s, s:s, s:f, s:i}",
                           "memory", "total", total, "free", free, "used", total - free, "rootfs",
                           "total", root, "used", used, "free", root - used, "avail", root - used,
                           "swap", "total", 0, "used", 0, "free", 0, "ksm", "shared", 0, "cpuinfo",
                           cpu, "cpu", host.cpu, "loadavg", load[0], load[1], load[2], "uptime",
                           (json_int_t)host.uptime_s, "kversion", host.kernel, "pveversion",
                           "pve-manager/8.2.4/wirt", "wait", 0.0, "idle", 0);
    return 0;
}

static int get_time(struct api_call *call, struct err *err)
{
    time_t now = (time_t)(os_clock_wall_ns() / 1000000000u);
    struct tm tm;
    (void)err;
    localtime_r(&now, &tm);
    call->data = json_pack("{s:I, s:I, s:s}", "time", (json_int_t)now, "localtime",
                           (json_int_t)now + tm.tm_gmtoff, "timezone", tm.tm_zone);
    return 0;
}

static bool add_interface(void *user, const struct os_node_interface *interface)
{
    json_t *row = json_pack("{s:s, s:s, s:i, s:i, s:s}", "iface", interface->name, "type",
                            interface->bridge ? "bridge" : "eth", "active", (int)interface->up,
                            "autostart", 1, "method", *interface->address ? "static" : "manual");
    if (*interface->address) {
        char cidr[64];
        snprintf(cidr, sizeof(cidr), "%s/%u", interface->address, interface->prefix);
        json_object_set_new(row, "address", json_string(interface->address));
        json_object_set_new(row, "netmask", json_string(interface->netmask));
        json_object_set_new(row, "cidr", json_string(cidr));
    }
    json_array_append_new(user, row);
    return true;
}

static int get_network(struct api_call *call, struct err *err)
{
    const char *type = api_string(call, "type");
    json_t *rows = json_pack("[o]", guests_network(rest_node(call)->guests));
    (void)err;
    os_node_interfaces(add_interface, rows);
    call->data = json_array();
    size_t index;
    json_t *row;
    json_array_foreach(rows, index, row) if (!type || strstr(type, api_param_string(row, "type")))
        json_array_append(call->data, row);
    json_decref(rows);
    return 0;
}

static int get_cards(struct api_call *call, struct err *err)
{
    json_t *all = guests_cards(rest_node(call)->guests), *row;
    int64_t only = api_integer(call, "vmid", 0);
    size_t index;
    (void)err;
    call->data = json_array();
    json_array_foreach(all, index, row)
    {
        int64_t vmid = json_integer_value(json_object_get(row, "vmid"));
        char path[64];
        snprintf(path, sizeof(path), "/vms/%lld", (long long)vmid);
        if ((!only || only == vmid) && rest_may(call, path, "VM.Audit"))
            json_array_append(call->data, row);
    }
    json_decref(all);
    return 0;
}

static int get_subscription(struct api_call *call, struct err *err)
{
    (void)err;
    call->data = json_pack("{s:s, s:s, s:s}", "status", "notfound", "level", "", "message",
                           "wirt needs none");
    return 0;
}

static int get_nothing(struct api_call *call, struct err *err)
{
    (void)err;
    call->data = json_array();
    return 0;
}

// ---- All guests.

static int work_all(struct task *task, void *user, const json_t *params, bool start,
                    struct err *err)
{
    struct node *node = user;
    struct guest_all all = {
        .tasks = node->tasks,
        .only = json_object_get(params, "guests"),
        .force = api_param_integer(params, start ? "force" : "force-stop", !start) != 0,
        .timeout_s = (unsigned)api_param_integer(params, "timeout", 0)};
    return start ? guests_start_all(node->guests, task, &all, err)
                 : guests_stop_all(node->guests, task, &all, err);
}

static int work_start_all(struct task *task, void *node, const json_t *params, struct err *err)
{
    return work_all(task, node, params, true, err);
}

static int work_stop_all(struct task *task, void *node, const json_t *params, struct err *err)
{
    return work_all(task, node, params, false, err);
}

static int check_appliance(struct api_call *call, struct err *err)
{
    return api_refuse(call, err, "template", "no such template");
}

static int work_appliance(struct task *task, void *node, const json_t *params, struct err *err)
{
    (void)task;
    (void)node;
    (void)params;
    return err_set(err, ERR_UNSUPPORTED, "there are no container templates");
}

const struct endpoint rest_nodes[] = {
    {.method = "POST",
     .path = "/nodes/{node}/startall",
     .about = "Start all guests that start with the node, in their order.",
     .permission = "user",
     .filter = "/vms/{vmid} VM.PowerMgmt",
     .task = "startall",
     .handler = bulk_choose_powered,
     .more = bulk_vms,
     .work = work_start_all,
     .params = (const struct api_param[]){{.name = "force",
                                           .type = API_BOOLEAN,
                                           .optional = true,
                                           .about = "also those that do not start with the node"},
                                          {.name = NULL}}},
    {.method = "POST",
     .path = "/nodes/{node}/stopall",
     .about = "Shut all guests down, in the opposite order.",
     .permission = "user",
     .filter = "/vms/{vmid} VM.PowerMgmt",
     .task = "stopall",
     .handler = bulk_choose_powered,
     .more = bulk_vms,
     .work = work_stop_all,
     .params =
         (const struct api_param[]){{.name = "force-stop",
                                     .type = API_BOOLEAN,
                                     .optional = true,
                                     .about = "pull the plug of those that take too long; 1"},
                                    {.name = "timeout",
                                     .type = API_INTEGER,
                                     .optional = true,
                                     .min = 0,
                                     .max = 7200,
                                     .about = "seconds for each; as its startup says, or 180"},
                                    {.name = NULL}}},
    {.method = "GET",
     .path = "/nodes",
     .about = "The nodes.",
     .permission = "user",
     .returns = "[{node:string, status:string, *}]",
     .handler = get_nodes},
    {.method = "GET",
     .path = "/nodes/{node}/status",
     .about = "How the node is.",
     .permission = "/nodes/{node} Sys.Audit",
     .returns = "{memory:any, cpuinfo:any, uptime:int, *}",
     .handler = get_status},
    {.method = "GET",
     .path = "/nodes/{node}/time",
     .about = "The node's clock.",
     .permission = "/nodes/{node} Sys.Audit",
     .returns = "{time:int, localtime:int, timezone:string}",
     .handler = get_time},
    {.method = "GET",
     .path = "/nodes/{node}/network",
     .about = "Network interfaces.",
     .permission = "user",
     .returns = "[{iface:string, type:string, *}]",
     .handler = get_network,
     .params = (const struct api_param[]){{.name = "type",
                                           .type = API_STRING,
                                           .optional = true,
                                           .max = 64,
                                           .about = "only of this kind"},
                                          {.name = NULL}}},
    {.method = "GET",
     .path = "/nodes/{node}/cards",
     .about = "The network cards of guests, each with the address that vmbr0 keeps for it.",
     .permission = "user",
     .filter = "/vms/{vmid} VM.Audit",
     .returns = "[{vmid:int, name?:string, card:string, mac:string, bridge?:string, "
                "address?:string}]",
     .handler = get_cards,
     .params = (const struct api_param[]){{.name = "vmid",
                                           .type = API_INTEGER,
                                           .optional = true,
                                           .min = 100,
                                           .max = 999999999,
                                           .about = "only of this guest"},
                                          {.name = NULL}}},
    {.method = "GET",
     .path = "/nodes/{node}/subscription",
     .about = "There is nothing to subscribe to.",
     .permission = "user",
     .returns = "{status:string, level:string, message:string}",
     .handler = get_subscription},
    {.method = "GET",
     .path = "/nodes/{node}/replication",
     .about = "None: there is no replication.",
     .permission = "user",
     .returns = "[any]",
     .handler = get_nothing},
    {.method = "GET",
     .path = "/nodes/{node}/lxc",
     .about = "None: there are no containers yet.",
     .permission = "user",
     .returns = "[any]",
     .handler = get_nothing},
    {.method = "GET",
     .path = "/nodes/{node}/aplinfo",
     .about = "None: there are no container templates.",
     .permission = "user",
     .returns = "[any]",
     .handler = get_nothing},
    {.method = "POST",
     .path = "/nodes/{node}/aplinfo",
     .about = "Refused: there are no container templates.",
     .permission = "/storage/{storage} Datastore.AllocateTemplate",
     .task = "download",
     .handler = check_appliance,
     .work = work_appliance,
     .params =
         (const struct api_param[]){
             {.name = "storage",
              .type = API_STRING,
              .max = 63,
              .format = &rest_format_storage,
              .about = "where to"},
             {.name = "template", .type = API_STRING, .max = 255, .about = "which"},
             {.name = NULL}}},
    {.method = NULL},
};
