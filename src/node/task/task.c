// SPDX-License-Identifier: Apache-2.0
//
// How it works: all tasks, ended ones too, are in one array in order of their start, up to KEPT of them; the oldest ended one goes, with its
// log, when a new one comes. At most RUNNING_MAX run at once; others wait in the order in which they came.
#define LOG_MODULE "task"
#include "node/task/task.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "os/clock.h"
#include "os/directory.h"
#include "os/file.h"
#include "os/self.h"

#define KEPT         5000
#define RUNNING_MAX  200
#define STACK_BYTES  (512 * 1024)
#define PATH_BYTES   4096
#define LINE_BYTES   2048
#define LOG_READ_MAX (8 * 1024 * 1024)

enum state { QUEUED, RUNNING, ENDED };

struct task {
    // Constant after it was made.
    struct tasks *tasks;
    char upid[TASK_UPID_BYTES];
    char *type, *id, *user;
    uint64_t start_s, pid, pstart;
    task_work *work;
    void *argument;
    void (*release)(void *argument);

    // Under the lock of `tasks`.
    enum state state;
    uint64_t end_s;
    char *exit_status;
    uint64_t done, total;
    json_t *result;
    bool cancelled;

    int log_fd; // the task's thread
};

struct tasks {
    // Constant.
    struct store *store;
    char *folder, *node;
    uint64_t pid;

    pthread_mutex_t lock;
    pthread_cond_t changed; // a task ended or is asked to stop
    struct task **all;      // by start
    size_t count, room;
    unsigned running, starting; // `starting`: in tasks_start(), not yet in the array
    uint64_t sequence;
    bool stopping;
};

static uint64_t now_s(void)
{
    return os_clock_wall_ns() / 1000000000u;
}

static void deadline_in(double seconds, struct timespec *until)
{
    uint64_t ns = os_clock_monotonic_ns() + (uint64_t)(seconds * 1e9);
    *until = (struct timespec){.tv_sec = (time_t)(ns / 1000000000u),
                               .tv_nsec = (long)(ns % 1000000000u)};
}

// ---- Ids. What stands between colons has none itself.

static void copy_clean(char *to, size_t size, const char *from)
{
    size_t n = 0;
    for (; *from && n + 1 < size; from++)
        to[n++] = isalnum((unsigned char)*from) || strchr("@!._-+", *from) ? *from : '_';
    to[n] = 0;
}

static char *field(const char *upid, unsigned number)
{
    for (; number && upid; number--) {
        upid = strchr(upid, ':');
        upid = upid ? upid + 1 : NULL;
    }
    const char *end = upid ? strchr(upid, ':') : NULL;
    return end ? strndup(upid, (size_t)(end - upid)) : NULL;
}

bool task_upid_user(const char *upid, char *user, size_t size)
{
    char *text = strncmp(upid, "UPID:", 5) ? NULL : field(upid, 7);
    if (text)
        snprintf(user, size, "%s", text);
    free(text);
    return text != NULL;
}

static uint64_t hex_field(const char *upid, unsigned number)
{
    char *text = field(upid, number);
    uint64_t value = text ? strtoull(text, NULL, 16) : 0;
    free(text);
    return value;
}

static void log_path(const struct tasks *tasks, const char *upid, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/%s", tasks->folder, upid);
}

static void store_key(const char *upid, char key[TASK_UPID_BYTES + 8])
{
    snprintf(key, TASK_UPID_BYTES + 8, "/task/%s", upid);
}

// ---- The array. Under the lock.

static struct task *find(const struct tasks *tasks, const char *upid)
{
    for (size_t i = tasks->count; i-- > 0;)
        if (!strcmp(tasks->all[i]->upid, upid))
            return tasks->all[i];
    return NULL;
}

static void add(struct tasks *tasks, struct task *task)
{
    if (tasks->count == tasks->room) {
        tasks->room = tasks->room ? 2 * tasks->room : 256;
        tasks->all = realloc(tasks->all, tasks->room * sizeof(struct task *));
        if (!tasks->all)
            abort();
    }
    size_t at = tasks->count++;
    for (; at && tasks->all[at - 1]->start_s > task->start_s; at--)
        tasks->all[at] = tasks->all[at - 1];
    tasks->all[at] = task;
}

static void free_task(struct task *task)
{
    free(task->type);
    free(task->id);
    free(task->user);
    free(task->exit_status);
    json_decref(task->result);
    free(task);
}

// Takes the oldest ended task out, or returns NULL while there is room.
static struct task *surplus(struct tasks *tasks)
{
    if (tasks->count <= KEPT)
        return NULL;
    for (size_t i = 0; i < tasks->count; i++) {
        struct task *task = tasks->all[i];
        if (task->state != ENDED)
            continue;
        memmove(tasks->all + i, tasks->all + i + 1, (--tasks->count - i) * sizeof(struct task *));
        return task;
    }
    return NULL;
}

static void forget(struct tasks *tasks, struct task *task)
{
    char key[TASK_UPID_BYTES + 8], path[PATH_BYTES];
    store_key(task->upid, key);
    store_delete_now(tasks->store, key, NULL);
    log_path(tasks, task->upid, path);
    os_file_remove(path);
    free_task(task);
}

// ---- Records.

static int write_record(struct tasks *tasks, const struct task *task, struct err *err)
{
    char key[TASK_UPID_BYTES + 8];
    store_key(task->upid, key);
    json_t *record = task->exit_status ? json_pack("{s:s, s:I, s:s, s:O*}", "status", "stopped",
                                                   "end", (json_int_t)task->end_s, "exit",
                                                   task->exit_status, "result", task->result)
                                       : json_pack("{s:s}", "status", "running");
    return store_put_now(tasks->store, key, record, err);
}

static struct task *new_task(struct tasks *tasks, const char *upid)
{
    struct task *task = calloc(1, sizeof(*task));
    if (!task)
        abort();
    task->tasks = tasks;
    task->log_fd = -1;
    snprintf(task->upid, sizeof(task->upid), "%s", upid);
    task->pid = hex_field(upid, 2);
    task->pstart = hex_field(upid, 3);
    task->start_s = hex_field(upid, 4);
    task->type = field(upid, 5);
    task->id = field(upid, 6);
    task->user = field(upid, 7);
    if (task->type && task->id && task->user)
        return task;
    free_task(task);
    return NULL;
}

static void load(struct tasks *tasks)
{
    struct store_list list;
    store_list(tasks->store, "/task/", &list);
    for (size_t i = 0; i < list.count; i++) {
        struct task *task = new_task(tasks, list.entries[i].key + strlen("/task/"));
        if (!task)
            continue;
        const json_t *record = list.entries[i].value;
        const char *exit = json_string_value(json_object_get(record, "exit"));
        task->state = ENDED;
        task->end_s = (uint64_t)json_integer_value(json_object_get(record, "end"));
        task->exit_status = strdup(exit ? exit : "interrupted: wirtd ended while it ran");
        task->result = json_incref(json_object_get(record, "result"));
        if (!exit) {
            task->end_s = now_s();
            write_record(tasks, task, NULL);
        }
        add(tasks, task);
    }
    store_list_free(&list);
}

struct tasks *tasks_create(const struct tasks_options *options, struct err *err)
{
    if (os_directory_make_all(options->log_folder, 0700, err))
        return NULL;
    struct tasks *tasks = calloc(1, sizeof(*tasks));
    if (!tasks)
        abort();
    *tasks = (struct tasks){.store = options->store,
                            .folder = strdup(options->log_folder),
                            .node = strdup(options->node),
                            .pid = (uint64_t)os_self_pid()};
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&tasks->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&tasks->lock, NULL);
    load(tasks);
    return tasks;
}

// ---- Running.

static void write_line(struct task *task, const char *text)
{
    char line[LINE_BYTES];
    size_t n = 0;
    for (; text[n] && n + 1 < sizeof(line); n++)
        line[n] = text[n] == '\n' ? ' ' : text[n];
    line[n] = 0;
    if (task->log_fd >= 0)
        os_file_append_line(task->log_fd, line);
}

static void end(struct task *task, int result, const struct err *err)
{
    struct tasks *tasks = task->tasks;
    char text[ERR_TEXT_BYTES + 16];
    snprintf(text, sizeof(text), "%s", result ? err->text : "OK");
    for (char *c = text; *c; c++)
        *c = *c == '\n' ? ' ' : *c;
    char line[ERR_TEXT_BYTES + 32];
    snprintf(line, sizeof(line), "TASK %s%s", result ? "ERROR: " : "OK", result ? text : "");
    write_line(task, line);
    os_file_close(&task->log_fd);
    task->exit_status = strdup(text); // nobody reads these two before the state says so
    task->end_s = now_s();
    struct err failed = {0};
    if (write_record(tasks, task, &failed))
        log_error("%s: its end cannot be recorded: %s", task->upid, failed.text);
    pthread_mutex_lock(&tasks->lock);
    task->state = ENDED; // and now it may be forgotten at any time
    pthread_mutex_unlock(&tasks->lock);
}

static void run_next(struct tasks *tasks);

static void *task_main(void *context)
{
    struct task *task = context;
    struct tasks *tasks = task->tasks;
    struct err err = {0};
    char path[PATH_BYTES];
    log_path(tasks, task->upid, path);
    task->log_fd = os_file_open_append(path, 0600, NULL);
    int result = task_wanted(task) ? task->work(task, task->argument, &err) : task_cancelled(&err);
    if (task->release)
        task->release(task->argument);
    end(task, result, &err);
    pthread_mutex_lock(&tasks->lock);
    tasks->running--;
    pthread_cond_broadcast(&tasks->changed);
    run_next(tasks);
    pthread_mutex_unlock(&tasks->lock);
    return NULL;
}

// Under the lock: gives a thread to the one that waits longest, when there is room.
static void run_next(struct tasks *tasks)
{
    for (size_t i = 0; i < tasks->count && tasks->running < RUNNING_MAX; i++) {
        struct task *task = tasks->all[i];
        if (task->state != QUEUED)
            continue;
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attributes, STACK_BYTES);
        int failed = pthread_create(&thread, &attributes, task_main, task);
        pthread_attr_destroy(&attributes);
        if (failed)
            return; // the end of another one tries again
        task->state = RUNNING;
        tasks->running++;
    }
}

static void make_upid(struct tasks *tasks, const struct task_start *start, char *upid)
{
    char type[64], id[96], user[160];
    copy_clean(type, sizeof(type), start->type);
    copy_clean(id, sizeof(id), start->id ? start->id : "");
    copy_clean(user, sizeof(user), start->user);
    snprintf(upid, TASK_UPID_BYTES, "UPID:%s:%08llX:%08llX:%08llX:%s:%s:%s:", tasks->node,
             (unsigned long long)tasks->pid, (unsigned long long)tasks->sequence++,
             (unsigned long long)now_s(), type, id, user);
}

int tasks_start(struct tasks *tasks, const struct task_start *start, char upid[TASK_UPID_BYTES],
                struct err *err)
{
    pthread_mutex_lock(&tasks->lock);
    make_upid(tasks, start, upid);
    bool stopping = tasks->stopping;
    tasks->starting++; // whoever stops all waits for this one, too
    pthread_mutex_unlock(&tasks->lock);
    struct task *task = new_task(tasks, upid), *old = NULL;
    task->work = start->work;
    task->argument = start->argument;
    task->release = start->release;
    int result = stopping ? err_set(err, ERR_BUSY, "the node is shutting down")
                          : write_record(tasks, task, err);
    pthread_mutex_lock(&tasks->lock);
    tasks->starting--;
    if (!result) {
        task->cancelled = tasks->stopping;
        add(tasks, task);
        old = surplus(tasks);
        run_next(tasks);
    }
    pthread_cond_broadcast(&tasks->changed);
    pthread_mutex_unlock(&tasks->lock);
    if (result) {
        free_task(task);
        if (start->release)
            start->release(start->argument);
    }
    if (old)
        forget(tasks, old);
    return result;
}

bool tasks_stop(struct tasks *tasks, unsigned seconds)
{
    struct timespec until;
    deadline_in(seconds, &until);
    pthread_mutex_lock(&tasks->lock);
    tasks->stopping = true;
    for (size_t i = 0; i < tasks->count; i++)
        tasks->all[i]->cancelled |= tasks->all[i]->state != ENDED;
    pthread_cond_broadcast(&tasks->changed);
    while (tasks->running + tasks->starting &&
           !pthread_cond_timedwait(&tasks->changed, &tasks->lock, &until))
        ;
    bool all = !tasks->running && !tasks->starting;
    pthread_mutex_unlock(&tasks->lock);
    return all;
}

void tasks_destroy(struct tasks *tasks)
{
    if (!tasks)
        return;
    for (size_t i = 0; i < tasks->count; i++)
        free_task(tasks->all[i]);
    free(tasks->all);
    free(tasks->folder);
    free(tasks->node);
    pthread_cond_destroy(&tasks->changed);
    pthread_mutex_destroy(&tasks->lock);
    free(tasks);
}

// ---- For the work.

void task_log(struct task *task, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is right above
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    if (!task)
        return;
    write_line(task, line);
}

bool task_progress(struct task *task, uint64_t done, uint64_t total)
{
    pthread_mutex_lock(&task->tasks->lock);
    task->done = done;
    task->total = total;
    bool wanted = !task->cancelled;
    pthread_mutex_unlock(&task->tasks->lock);
    return wanted;
}

bool task_wanted(const struct task *task)
{
    pthread_mutex_lock(&task->tasks->lock);
    bool wanted = !task->cancelled;
    pthread_mutex_unlock(&task->tasks->lock);
    return wanted;
}

const char *task_upid(const struct task *task)
{
    return task->upid;
}

const char *task_user(const struct task *task)
{
    return task->user;
}

int task_cancelled(struct err *err)
{
    return err_set(err, ERR_CANCELLED, "stopped on request");
}

void task_result(struct task *task, json_t *result)
{
    pthread_mutex_lock(&task->tasks->lock);
    json_decref(task->result);
    task->result = result;
    pthread_mutex_unlock(&task->tasks->lock);
}

void task_wait(struct task *task, double seconds)
{
    struct timespec until;
    deadline_in(seconds, &until);
    pthread_mutex_lock(&task->tasks->lock);
    while (!task->cancelled &&
           !pthread_cond_timedwait(&task->tasks->changed, &task->tasks->lock, &until))
        ;
    pthread_mutex_unlock(&task->tasks->lock);
}

// ---- For those who look.

// Under the lock.
static json_t *describe(const struct tasks *tasks, const struct task *task, bool list)
{
    json_t *row = json_pack("{s:s, s:s, s:I, s:I, s:I, s:s, s:s, s:s}", "upid", task->upid, "node",
                            tasks->node, "pid", (json_int_t)task->pid, "pstart",
                            (json_int_t)task->pstart, "starttime", (json_int_t)task->start_s,
                            "type", task->type, "id", task->id, "user", task->user);
    if (task->state == ENDED) {
        json_object_set_new(row, "endtime", json_integer((json_int_t)task->end_s));
        json_object_set_new(row, list ? "status" : "exitstatus", json_string(task->exit_status));
    }
    if (!list)
        json_object_set_new(row, "status",
                            json_string(task->state == ENDED ? "stopped" : "running"));
    if (task->total)
        json_object_set_new(row, "progress", json_real((double)task->done / (double)task->total));
    if (task->result && !list)
        json_object_set(row, "result", task->result);
    return row;
}

static bool is_owner(const char *user, const char *owner)
{
    size_t length = strlen(owner);
    return !strncmp(user, owner, length) && (!user[length] || user[length] == '!');
}

static bool fits(const struct task *task, const struct task_filter *filter)
{
    bool ended = task->state == ENDED;
    if ((ended && !filter->archived) || (!ended && !filter->active))
        return false;
    if ((filter->type && strcmp(task->type, filter->type) != 0) ||
        (filter->vmid && strcmp(task->id, filter->vmid) != 0) ||
        (filter->user && !strstr(task->user, filter->user)) ||
        (filter->owner && !is_owner(task->user, filter->owner)))
        return false;
    if (filter->status) {
        bool ok = ended && !strcmp(task->exit_status, "OK");
        if (!ended || ok != !strcmp(filter->status, "ok"))
            return false;
    }
    return task->start_s >= filter->since && (!filter->until || task->start_s <= filter->until);
}

json_t *tasks_list(struct tasks *tasks, const struct task_filter *filter, uint64_t *total)
{
    json_t *rows = json_array();
    uint64_t seen = 0;
    pthread_mutex_lock(&tasks->lock);
    for (size_t i = tasks->count; i-- > 0;) {
        if (!fits(tasks->all[i], filter))
            continue;
        if (seen >= filter->start && (!filter->limit || seen - filter->start < filter->limit))
            json_array_append_new(rows, describe(tasks, tasks->all[i], true));
        seen++;
    }
    pthread_mutex_unlock(&tasks->lock);
    *total = seen;
    return rows;
}

json_t *tasks_status(struct tasks *tasks, const char *upid)
{
    pthread_mutex_lock(&tasks->lock);
    const struct task *task = find(tasks, upid);
    json_t *status = task ? describe(tasks, task, false) : NULL;
    pthread_mutex_unlock(&tasks->lock);
    return status;
}

// A line of JSON strings must be UTF-8; what a program printed need not be.
static json_t *log_line_json(const char *text, size_t length)
{
    json_t *line = json_stringn(text, length);
    if (line)
        return line;
    char *plain = strndup(text, length);
    for (char *c = plain; *c; c++)
        if ((unsigned char)*c >= 128)
            *c = '?';
    line = json_string(plain);
    free(plain);
    return line;
}

json_t *tasks_log(struct tasks *tasks, const char *upid, uint64_t start, uint64_t limit,
                  uint64_t *total)
{
    char path[PATH_BYTES];
    pthread_mutex_lock(&tasks->lock);
    bool known = find(tasks, upid) != NULL; // so a path is never made of a stranger's word
    pthread_mutex_unlock(&tasks->lock);
    if (!known)
        return NULL;
    log_path(tasks, upid, path);
    json_t *rows = json_array();
    size_t length = 0;
    char *text = os_file_read_all(path, LOG_READ_MAX, &length, NULL);
    uint64_t number = 0;
    for (const char *at = text; at && *at;) {
        size_t n = strcspn(at, "\n");
        if (number >= start && (!limit || number - start < limit))
            json_array_append_new(rows, json_pack("{s:I, s:o}", "n", (json_int_t)number + 1, "t",
                                                  log_line_json(at, n)));
        number++;
        at += n + (at[n] != 0);
    }
    free(text);
    if (!number)
        json_array_append_new(rows, json_pack("{s:i, s:s}", "n", 1, "t", "no content"));
    *total = number;
    return rows;
}

int tasks_cancel(struct tasks *tasks, const char *upid, struct err *err)
{
    pthread_mutex_lock(&tasks->lock);
    struct task *task = find(tasks, upid);
    if (task)
        task->cancelled = true;
    pthread_cond_broadcast(&tasks->changed);
    pthread_mutex_unlock(&tasks->lock);
    return task ? 0 : err_set(err, ERR_NOT_FOUND, "no such task");
}

bool tasks_wait(struct tasks *tasks, const char *upid, double seconds)
{
    struct timespec until;
    deadline_in(seconds, &until);
    pthread_mutex_lock(&tasks->lock);
    const struct task *task = find(tasks, upid);
    while (task && task->state != ENDED &&
           !pthread_cond_timedwait(&tasks->changed, &tasks->lock, &until))
        task = find(tasks, upid);
    bool ended = !task || task->state == ENDED;
    pthread_mutex_unlock(&tasks->lock);
    return ended;
}
