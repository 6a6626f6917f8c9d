// SPDX-License-Identifier: Apache-2.0
//
// Tasks: everything that takes long, each on a thread of its own, with an id that the caller gets at once, a log, progress, an end.
//
// The id is Proxmox VE's UPID: "UPID:node:pid:pstart:starttime:type:id:user:". A task's record is in the store (/task/UPID) from before its
// first step; its log is a file that grows. Both outlive the daemon. A record that still says "running" when the daemon starts is of a task that
// died with its predecessor: it is ended as interrupted, and whoever owns the objects cleans up (guest.h, storage.h).
//
// Threads: tasks_* from any thread. A task's work runs on its own thread and may wait. task_* are for that thread.
#ifndef WIRT_NODE_TASK_TASK_H
#define WIRT_NODE_TASK_TASK_H

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "node/store/store.h"

#define TASK_UPID_BYTES 384

struct tasks;
struct task;

struct tasks_options {
    struct store *store;    // borrowed
    const char *log_folder; // made when missing
    const char *node;
};
// Ends what a predecessor left running.
struct tasks *tasks_create(const struct tasks_options *options, struct err *err);
// Asks every task to stop and waits for `seconds`; false when some did not (the process should end, not free what they use).
bool tasks_stop(struct tasks *tasks, unsigned seconds);
void tasks_destroy(struct tasks *tasks); // after tasks_stop() said true

typedef int task_work(struct task *task, void *argument, struct err *err);

struct task_start {
    const char *type; // "qmstart"
    const char *id;   // "100", or "" where it is about nothing
    const char *user; // or token
    task_work *work;
    void *argument;
    void (*release)(void *argument); // called once, also when the task could not start
};
int tasks_start(struct tasks *tasks, const struct task_start *start, char upid[TASK_UPID_BYTES],
                struct err *err);

// ---- For the work. What is told to no task (NULL) is told to nobody.
void task_log(struct task *task, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Also an answer to: should I go on? False when somebody asked the task to stop.
bool task_progress(struct task *task, uint64_t done, uint64_t total);
bool task_wanted(const struct task *task);
const char *task_upid(const struct task *task);
const char *task_user(const struct task *task);
// -1 and ERR_CANCELLED.
int task_cancelled(struct err *err);
// Lists of results of a bulk action: shown with the task's status.
void task_result(struct task *task, json_t *result);
// Waits until `seconds` have passed or the task is asked to stop.
void task_wait(struct task *task, double seconds);

// ---- For those who look.
struct task_filter {
    const char *type, *user, *vmid; // NULL: any
    const char *status;             // "ok", "error", or NULL
    const char *owner; // only tasks of this user (and its tokens), or NULL: of everybody
    bool active, archived;
    uint64_t since, until; // 0: without bound
    uint64_t start, limit;
};
// Newest first. *total: how many there would be without start and limit.
json_t *tasks_list(struct tasks *tasks, const struct task_filter *filter, uint64_t *total);
json_t *tasks_status(struct tasks *tasks, const char *upid); // NULL: no such task
// [{"n": 1, "t": "text"}]
json_t *tasks_log(struct tasks *tasks, const char *upid, uint64_t start, uint64_t limit,
                  uint64_t *total);
int tasks_cancel(struct tasks *tasks, const char *upid, struct err *err);
// Waits for its end. For tests and for tasks that wait for others.
bool tasks_wait(struct tasks *tasks, const char *upid, double seconds);
// The user part of a well-formed UPID, or false.
bool task_upid_user(const char *upid, char *user, size_t size);

// ---- A few threads for requests that hash, read or ask a guest: short, but not for the event loop.
struct work_pool;
struct work_pool *work_pool_create(unsigned threads, struct err *err);
void work_pool_destroy(struct work_pool *pool); // runs what is queued
void work_submit(struct work_pool *pool, void (*run)(void *argument), void *argument);

#endif
