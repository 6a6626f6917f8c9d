// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "node/guest/guest_internal.h"

#define ASK_SECONDS  10
#define TURN_SECONDS 1.0
#define HOLD_SECONDS 60

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

int guest_job_start(struct guests *guests, int64_t vmid, json_t *request, int fd, char job[32],
                    struct err *err)
{
    if (fd >= 0)
        json_object_set_new(request, "fd", json_integer(0));
    json_t *ok = guest_control_with(guests, vmid, request, &fd, fd >= 0, ASK_SECONDS, err);
    if (ok)
        snprintf(job, 32, "%s", text_of(ok, "job"));
    json_decref(ok);
    return ok ? 0 : -1;
}

// What the list of jobs says of this one; a new reference, or NULL.
static json_t *find_job(struct guests *guests, int64_t vmid, const char *job, struct err *err)
{
    json_t *ok = guest_control(guests, vmid, json_pack("{s:s}", "do", "jobs"), ASK_SECONDS, err);
    json_t *row, *found = NULL;
    size_t index;
    json_array_foreach(json_object_get(ok, "jobs"), index,
                       row) if (!strcmp(text_of(row, "id"), job)) found = json_incref(row);
    if (ok && !found)
        err_set(err, ERR_NOT_FOUND, "the machine knows no job '%s'", job);
    json_decref(ok);
    return found;
}

static bool settled(const char *state)
{
    return strcmp(state, "running") != 0 && strcmp(state, "completing") != 0;
}

static json_t *ask_job(const char *what, const char *job)
{
    return json_pack("{s:s, s:s}", "do", what, "job", job);
}

int guest_job_wait(struct guests *guests, struct task *task, int64_t vmid, const char *job,
                   uint64_t done, uint64_t total, struct err *err)
{
    bool cancelled = false;
    for (;;) {
        struct err late = {0};
        // Answers when the job has settled; else the turn is over and the task is told how far it is.
        json_decref(guest_control(guests, vmid, ask_job("job-wait", job), TURN_SECONDS, &late));
        json_t *row = find_job(guests, vmid, job, err);
        if (!row)
            return -1;
        char state[16], reason[200];
        snprintf(state, sizeof(state), "%s", text_of(row, "state"));
        snprintf(reason, sizeof(reason), "%s", text_of(row, "reason"));
        uint64_t now = (uint64_t)json_integer_value(json_object_get(row, "done"));
        json_decref(row);
        if (settled(state)) {
            if (!strcmp(state, "failed"))
                return err_set(err, ERR_IO, "%s", reason);
            return !strcmp(state, "cancelled") || cancelled ? task_cancelled(err) : 0;
        }
        if (!task || task_progress(task, done + now, total > done + now ? total : done + now) ||
            cancelled)
            continue;
        cancelled = true;
        json_decref(guest_control(guests, vmid, ask_job("job-cancel", job), ASK_SECONDS, NULL));
    }
}

int guest_job_hold(struct guests *guests, int64_t vmid, const char *job, struct err *err)
{
    json_t *request = ask_job("job-wait", job);
    json_object_set_new(request, "for", json_string("instant"));
    json_t *ok = guest_control(guests, vmid, request, HOLD_SECONDS, err);
    json_decref(ok);
    return ok ? 0 : -1;
}

int guest_job_complete(struct guests *guests, int64_t vmid, const char *job, bool pivot,
                       struct err *err)
{
    json_t *request = ask_job("job-complete", job);
    json_object_set_new(request, "pivot", json_boolean(pivot));
    json_t *ok = guest_control(guests, vmid, request, ASK_SECONDS, err);
    json_decref(ok);
    return ok ? guest_job_wait(guests, NULL, vmid, job, 0, 0, err) : -1;
}

void guest_jobs_disown(struct guests *guests, int64_t vmid)
{
    json_t *ok = guest_control(guests, vmid, json_pack("{s:s}", "do", "jobs"), ASK_SECONDS, NULL);
    json_t *row;
    size_t index;
    json_array_foreach(json_object_get(ok, "jobs"), index, row)
    {
        const char *state = text_of(row, "state"), *kind = text_of(row, "kind");
        bool copies = !strcmp(kind, "backup") || !strcmp(kind, "mirror");
        if (copies && (!settled(state) || !strcmp(state, "ready")))
            json_decref(guest_control(guests, vmid, ask_job("job-cancel", text_of(row, "id")),
                                      ASK_SECONDS, NULL));
    }
    json_decref(ok);
}

void guest_jobs_cancel(struct guests *guests, int64_t vmid)
{
    json_t *ok = guest_control(guests, vmid, json_pack("{s:s}", "do", "jobs"), ASK_SECONDS, NULL);
    json_t *row;
    size_t index;
    json_array_foreach(json_object_get(ok, "jobs"), index, row)
    {
        const char *state = text_of(row, "state");
        if (settled(state) && strcmp(state, "ready") != 0)
            continue;
        json_decref(guest_control(guests, vmid, ask_job("job-cancel", text_of(row, "id")),
                                  ASK_SECONDS, NULL));
        guest_job_wait(guests, NULL, vmid, text_of(row, "id"), 0, 0, NULL);
    }
    json_decref(ok);
}

// ---- Several disks at one instant.

struct at_once {
    struct guests *guests;
    int64_t vmid;
    const struct guest_copying *copying;
};

static int start_copies(void *user, struct err *err)
{
    const struct at_once *at_once = user;
    for (size_t i = 0; i < at_once->copying->count; i++) {
        struct guest_copy *copy = &at_once->copying->copies[i];
        json_t *request =
            json_pack("{s:s, s:s, s:s, s:s, s:b}", "do", "disk-backup", "disk", copy->disk, "file",
                      copy->path, "format", copy->format, "new", 1);
        if (at_once->copying->bytes_per_s)
            json_object_set_new(request, "rate",
                                json_integer((json_int_t)at_once->copying->bytes_per_s));
        if (guest_job_start(at_once->guests, at_once->vmid, request, copy->fd, copy->job, err))
            return err_wrap(err, "disk %s", copy->disk);
    }
    for (size_t i = 0; i < at_once->copying->count; i++) {
        const struct guest_copy *copy = &at_once->copying->copies[i];
        if (guest_job_hold(at_once->guests, at_once->vmid, copy->job, err))
            return err_wrap(err, "disk %s", copy->disk);
    }
    return 0;
}

int guest_copy_disks(struct guests *guests, struct task *task, int64_t vmid, const json_t *config,
                     const struct guest_copying *copying, struct err *err)
{
    struct at_once at_once = {guests, vmid, copying};
    uint64_t done = 0;
    guest_jobs_cancel(guests, vmid);
    int result = guest_at_rest(guests, task, vmid, config, start_copies, &at_once, err);
    for (size_t i = 0; i < copying->count && !result; i++) {
        const struct guest_copy *copy = &copying->copies[i];
        result = guest_job_wait(guests, task, vmid, copy->job, done, copying->total, err);
        done += copy->size;
    }
    if (result)
        guest_jobs_cancel(guests, vmid);
    return result;
}
