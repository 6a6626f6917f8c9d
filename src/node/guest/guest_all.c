// SPDX-License-Identifier: Apache-2.0
//
// All guests one after another: started with the node in their order, shut down with it in the opposite one.
//
// `startup` of a configuration is "order=N,up=S,down=S": guests with small numbers come first, those without come last, by their own numbers. After a start
// the next one waits `up` seconds. Guests of one order are shut down at once; each has `down` seconds until its plug is pulled.
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/guest/guest_internal.h"
#include "node/guest/property.h"

#define DOWN_S 180

struct member {
    struct guests *guests;
    int64_t vmid;
    int64_t order;
    unsigned up_s, down_s;
    bool force;
    char upid[TASK_UPID_BYTES]; // of the task that starts or stops it; "" when there is none
};

struct crowd {
    struct member *members;
    size_t count;
};

// ---- Who, in which order.

static bool is_wanted(const json_t *only, int64_t vmid)
{
    size_t index;
    json_t *one;
    if (!only)
        return true;
    json_array_foreach(only, index, one) if (json_integer_value(one) == vmid) return true;
    return false;
}

static void read_startup(const char *text, struct member *member)
{
    json_t *startup = text ? property_parse(text, "order", NULL) : NULL;
    member->order = guest_number(startup, "order", INT_MAX);
    int64_t up = guest_number(startup, "up", 0), down = guest_number(startup, "down", DOWN_S);
    member->up_s = up > 0 && up <= 86400 ? (unsigned)up : 0;
    member->down_s = down > 0 && down <= 86400 ? (unsigned)down : DOWN_S;
    json_decref(startup);
}

static int by_order(const void *one, const void *other)
{
    const struct member *a = one, *b = other;
    if (a->order != b->order)
        return a->order < b->order ? -1 : 1;
    return a->vmid < b->vmid ? -1 : a->vmid > b->vmid;
}

// Those that run, or those that do not, among the wanted ones.
static void gather(struct guests *guests, const struct guest_all *all, bool running, bool onboot,
                   struct crowd *crowd)
{
    struct store_list list;
    store_list(guests->options.store, "/guest/", &list);
    *crowd = (struct crowd){.members = calloc(list.count + 1, sizeof(*crowd->members))};
    if (!crowd->members)
        abort();
    for (size_t i = 0; i < list.count; i++) {
        int64_t vmid = strtoll(list.entries[i].key + strlen("/guest/"), NULL, 10);
        const json_t *config = json_object_get(list.entries[i].value, "config");
        struct guest_status status;
        guest_status(guests, vmid, &status);
        if (!is_wanted(all->only, vmid) || status.running != running ||
            json_object_get(config, "template") || (onboot && !guest_number(config, "onboot", 0)))
            continue;
        struct member *member = &crowd->members[crowd->count++];
        *member = (struct member){.guests = guests, .vmid = vmid, .force = all->force};
        read_startup(json_string_value(json_object_get(config, "startup")), member);
        if (all->timeout_s)
            member->down_s = all->timeout_s;
    }
    store_list_free(&list);
    qsort(crowd->members, crowd->count, sizeof(*crowd->members), by_order);
}

// ---- Each guest's part is a task of its own.

static int work_start(struct task *task, void *argument, struct err *err)
{
    const struct member *member = argument;
    return guest_start(member->guests, task, member->vmid, err);
}

static int work_stop(struct task *task, void *argument, struct err *err)
{
    const struct member *member = argument;
    struct guest_status status;
    int result =
        guest_shutdown(member->guests, task, member->vmid, member->down_s, member->force, err);
    guest_status(member->guests, member->vmid, &status);
    return result && !status.running ? 0 : result; // it ended by itself meanwhile
}

static void begin(struct task *task, struct member *member, const struct guest_all *all,
                  const char *type, task_work *work)
{
    char id[24];
    struct err err = {0};
    struct member *own = malloc(sizeof(*own));
    if (!own)
        abort();
    *own = *member;
    snprintf(id, sizeof(id), "%lld", (long long)member->vmid);
    struct task_start start = {.type = type,
                               .id = id,
                               .user = task_user(task),
                               .work = work,
                               .argument = own,
                               .release = free};
    if (tasks_start(all->tasks, &start, member->upid, &err)) {
        member->upid[0] = 0;
        task_log(task, "VM %s: %s", id, err.text);
    }
}

// Waits for it, and says how it went. Did it go well?
static bool finish(struct task *task, const struct member *member, const struct guest_all *all,
                   json_t *results)
{
    while (member->upid[0] && !tasks_wait(all->tasks, member->upid, 1))
        if (!task_wanted(task))
            tasks_cancel(all->tasks, member->upid, NULL);
    json_t *status = member->upid[0] ? tasks_status(all->tasks, member->upid) : NULL;
    const char *end = json_string_value(json_object_get(status, "exitstatus"));
    task_log(task, "VM %lld: %s", (long long)member->vmid, end ? end : "did not begin");
    json_array_append_new(results,
                          json_pack("{s:I, s:s, s:s}", "vmid", (json_int_t)member->vmid, "upid",
                                    member->upid, "status", end ? end : "did not begin"));
    bool well = end && !strcmp(end, "OK");
    json_decref(status);
    return well;
}

static int conclude(struct task *task, struct crowd *crowd, json_t *results, size_t failed,
                    struct err *err)
{
    size_t count = crowd->count;
    task_result(task, results);
    free(crowd->members);
    if (!task_wanted(task))
        return task_cancelled(err);
    return failed ? err_set(err, ERR_HOST, "%zu of %zu guests failed; see the log", failed, count)
                  : 0;
}

int guests_start_all(struct guests *guests, struct task *task, const struct guest_all *all,
                     struct err *err)
{
    struct crowd crowd;
    json_t *results = json_array();
    size_t failed = 0;
    gather(guests, all, false, !all->force, &crowd);
    for (size_t i = 0; i < crowd.count && task_progress(task, i, crowd.count); i++) {
        struct member *member = &crowd.members[i];
        begin(task, member, all, "qmstart", work_start);
        failed += !finish(task, member, all, results);
        if (i + 1 < crowd.count && member->up_s) {
            task_log(task, "waiting %u s, as VM %lld asks for", member->up_s,
                     (long long)member->vmid);
            task_wait(task, member->up_s);
        }
    }
    return conclude(task, &crowd, results, failed, err);
}

int guests_stop_all(struct guests *guests, struct task *task, const struct guest_all *all,
                    struct err *err)
{
    struct crowd crowd;
    json_t *results = json_array();
    size_t failed = 0;
    gather(guests, all, true, false, &crowd);
    for (size_t end = crowd.count; end && task_wanted(task);) {
        size_t first = end - 1; // of those with the same order
        while (first && crowd.members[first - 1].order == crowd.members[end - 1].order)
            first--;
        for (size_t i = first; i < end; i++)
            begin(task, &crowd.members[i], all, "qmshutdown", work_stop);
        for (size_t i = first; i < end; i++)
            failed += !finish(task, &crowd.members[i], all, results);
        end = first;
        task_progress(task, crowd.count - end, crowd.count);
    }
    return conclude(task, &crowd, results, failed, err);
}
