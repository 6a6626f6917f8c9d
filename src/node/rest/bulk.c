// SPDX-License-Identifier: Apache-2.0
//
// suspendall; and what backups share with it.
#include "node/rest/bulk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool may(struct api_call *call, long long vmid, const char *privilege)
{
    char path[40];
    snprintf(path, sizeof(path), "/vms/%lld", vmid);
    return rest_may(call, path, privilege);
}

static int choose_named(struct api_call *call, const json_t *named, json_t *chosen, struct err *err)
{
    size_t index;
    json_t *one;
    json_array_foreach(named, index, one)
    {
        long long vmid = strtoll(json_string_value(one), NULL, 10);
        if (!guest_exists(rest_node(call)->guests, vmid))
            return guest_missing(rest_node(call)->guests, vmid, err);
        json_array_append_new(chosen, json_integer(vmid));
    }
    return 0;
}

static void choose_all(struct api_call *call, const char *privilege, json_t *chosen)
{
    struct store_list list;
    store_list(rest_node(call)->store, "/guest/", &list);
    for (size_t i = 0; i < list.count; i++) {
        long long vmid = strtoll(list.entries[i].key + strlen("/guest/"), NULL, 10);
        if (may(call, vmid, privilege))
            json_array_append_new(chosen, json_integer(vmid));
    }
    store_list_free(&list);
}

int bulk_choose(struct api_call *call, const char *param, const char *privilege, struct err *err)
{
    const json_t *named = json_object_get(call->params, param);
    json_t *chosen = json_array();
    json_object_set_new(call->params, "guests", chosen);
    if (json_array_size(named))
        return choose_named(call, named, chosen, err);
    choose_all(call, privilege, chosen);
    return 0;
}

int bulk_run(struct task *task, struct node *node, const json_t *params, bulk_step *step,
             void *user, struct err *err)
{
    json_t *results = json_array(), *one;
    size_t index, failed = 0;
    json_array_foreach(json_object_get(params, "guests"), index, one)
    {
        struct err reason = {0};
        long long vmid = json_integer_value(one);
        if (!task_wanted(task))
            break;
        int result = step(task, node, vmid, user, &reason);
        failed += result != 0;
        task_log(task, "VM %lld: %s", vmid, result ? reason.text : "OK");
        json_array_append_new(results, json_pack("{s:I, s:s}", "vmid", (json_int_t)vmid, "status",
                                                 result ? reason.text : "OK"));
    }
    size_t done = json_array_size(results);
    task_result(task, results);
    if (!task_wanted(task))
        return task_cancelled(err);
    return failed ? err_set(err, ERR_HOST, "%zu of %zu guests failed; see the log", failed, done)
                  : 0;
}

// ---- Power.

static void power_permission(const char *value, char *expression, size_t size)
{
    snprintf(expression, size, "/vms/%s VM.PowerMgmt", value);
}

const struct api_param bulk_vms[] = {{.name = "vms",
                                      .type = API_LIST,
                                      .optional = true,
                                      .max = 9,
                                      .format = &rest_format_vmid,
                                      .permission_of = power_permission,
                                      .permission_told = "/vms/VMID VM.PowerMgmt of each",
                                      .about = "which; all that one may when not given"},
                                     {.name = NULL}};

int bulk_choose_powered(struct api_call *call, struct err *err)
{
    return bulk_choose(call, "vms", "VM.PowerMgmt", err);
}

static int suspend_one(struct task *task, struct node *node, int64_t vmid, void *user,
                       struct err *err)
{
    (void)user;
    return guest_is_running(node->guests, vmid)
               ? guest_command(node->guests, task, vmid, "pause", err)
               : 0;
}

static int work_suspend(struct task *task, void *node, const json_t *params, struct err *err)
{
    return bulk_run(task, node, params, suspend_one, NULL, err);
}

#define BULK(VERB, ABOUT, WORK)                                                                    \
    .method = "POST", .path = "/nodes/{node}/" VERB, .about = ABOUT, .permission = "user",         \
    .filter = "/vms/{vmid} VM.PowerMgmt", .task = VERB, .handler = bulk_choose_powered,            \
    .work = WORK

const struct endpoint rest_bulk[] = {
    {BULK("suspendall", "Pause guests.", work_suspend), .params = bulk_vms},
    {.method = NULL},
};
