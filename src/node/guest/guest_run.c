// SPDX-License-Identifier: Apache-2.0
//
// Machines as processes: starting them by the helper, talking to their control sockets, seeing them end, finding them again.
//
// run/VMID holds control.sock, console.sock, agent.sock and `machine`, which says pid and start; the log stands beside the folder's others. A
// folder whose control socket nobody answers on is of a machine that has ended: it is emptied.
#define LOG_MODULE "guest"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "launch/launch.h"
#include "node/guest/guest_cloudinit.h"
#include "node/guest/guest_internal.h"
#include "node/guest/guest_plug.h"
#include "os/clock.h"
#include "os/detach.h"
#include "os/directory.h"
#include "os/file.h"
#include "os/poll_set.h"
#include "os/unix_socket.h"

#define FIRST_NUMBER  10
#define NETS_MAX      16
#define ANSWER_BYTES  65536
#define START_SECONDS 60
#define STOP_SECONDS  20
#define LOCK_SECONDS  10

#define BALLOON_MIB_MIN 16
#define BALLOON_SECONDS 10

static uint64_t now_s(void)
{
    return os_clock_wall_ns() / 1000000000u;
}

void guest_run_file(struct guests *guests, int64_t vmid, const char *name, char path[4096])
{
    snprintf(path, 4096, "%s/%lld/%s", guests->run_folder, (long long)vmid, name);
}

static void empty_folder(struct guests *guests, int64_t vmid)
{
    static const char *const names[] = {"control.sock", "console.sock", "agent.sock", "machine",
                                        GUEST_REST_FILE};
    char path[4096];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        guest_run_file(guests, vmid, names[i], path);
        os_file_remove(path);
    }
}

// ---- The control protocol: a connection for each command.

int guest_connect(struct guests *guests, int64_t vmid, const char *what, struct err *err)
{
    char path[4096], name[32];
    snprintf(name, sizeof(name), "%s.sock", what);
    guest_run_file(guests, vmid, name, path);
    return os_unix_connect(path, err);
}

// One line, within the time. Events that come between are passed over.
static json_t *read_answer(int fd, uint64_t deadline_ns, struct err *err)
{
    char *text = malloc(ANSWER_BYTES);
    size_t used = 0, none;
    json_t *answer = NULL;
    if (!text)
        abort();
    while (!answer) {
        uint64_t now = os_clock_monotonic_ns();
        struct pollfd poll = {.fd = fd, .events = POLLIN};
        if (now >= deadline_ns ||
            os_poll(&poll, 1, (int)((deadline_ns - now) / 1000000) + 1) == 0) {
            err_set(err, ERR_HOST, "the machine does not answer");
            break;
        }
        ssize_t n = os_unix_receive(fd, text + used, ANSWER_BYTES - used, NULL, 0, &none);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            err_set(err, ERR_HOST, "the machine has gone");
            break;
        }
        used += (size_t)n;
        char *newline;
        while (!answer && (newline = memchr(text, '\n', used))) {
            size_t length = (size_t)(newline - text);
            answer = json_loadb(text, length, 0, NULL);
            if (json_object_get(answer, "event")) {
                json_decref(answer);
                answer = NULL;
            }
            used -= length + 1;
            memmove(text, newline + 1, used);
        }
        if (used == ANSWER_BYTES) {
            err_set(err, ERR_INPUT, "the machine's answer is too long");
            break;
        }
    }
    free(text);
    return answer;
}

static json_t *exchange(int fd, json_t *request, const int *fds, size_t count, double seconds,
                        struct err *err)
{
    json_object_set_new(request, "id", json_integer(1));
    char *line = json_dumps(request, JSON_COMPACT);
    size_t length = strlen(line);
    line[length] = '\n';
    ssize_t sent = os_unix_send(fd, line, length + 1, fds, count);
    free(line);
    if (sent != (ssize_t)length + 1) {
        err_set(err, ERR_HOST, "the machine has gone");
        return NULL;
    }
    return read_answer(fd, os_clock_monotonic_ns() + (uint64_t)(seconds * 1e9), err);
}

static json_t *control_with(struct guests *guests, int64_t vmid, json_t *request, const int *fds,
                            size_t count, double seconds, struct err *err)
{
    int fd = guest_connect(guests, vmid, "control", err);
    json_t *answer = fd < 0 ? NULL : exchange(fd, request, fds, count, seconds, err);
    os_file_close(&fd);
    json_decref(request);
    json_t *ok = json_incref(json_object_get(answer, "ok"));
    if (answer && !ok) {
        const char *message =
            json_string_value(json_object_get(json_object_get(answer, "error"), "message"));
        err_set(err, ERR_HOST, "%s", message ? message : "the machine refused");
    }
    json_decref(answer);
    return ok;
}

static json_t *control(struct guests *guests, int64_t vmid, json_t *request, double seconds,
                       struct err *err)
{
    return control_with(guests, vmid, request, NULL, 0, seconds, err);
}

static int not_running(int64_t vmid, struct err *err)
{
    return err_set(err, ERR_BUSY, "VM %lld is not running", (long long)vmid);
}

json_t *guest_control(struct guests *guests, int64_t vmid, json_t *request, double seconds,
                      struct err *err)
{
    if (guest_is_running(guests, vmid))
        return control(guests, vmid, request, seconds, err);
    json_decref(request);
    not_running(vmid, err);
    return NULL;
}

json_t *guest_control_with(struct guests *guests, int64_t vmid, json_t *request, const int *fds,
                           size_t count, double seconds, struct err *err)
{
    if (guest_is_running(guests, vmid))
        return control_with(guests, vmid, request, fds, count, seconds, err);
    json_decref(request);
    not_running(vmid, err);
    return NULL;
}

// ---- Its end, on the event loop.

static void ended(void *context, unsigned events)
{
    struct live *live = context;
    struct guests *guests = live->guests;
    (void)events;
    char scope[32];
    snprintf(scope, sizeof(scope), "%lld", (long long)live->vmid);
    os_loop_unwatch(guests->options.loop, &live->watch);
    helper_release(guests->options.helper, scope);
    pthread_mutex_lock(&guests->lock);
    os_file_close(&live->watch_fd);
    live->running = live->paused = false;
    empty_folder(guests, live->vmid);
    pthread_cond_broadcast(&guests->changed);
    pthread_mutex_unlock(&guests->lock);
    log_info("VM %lld has ended", (long long)live->vmid);
}

static void begin_watch(void *context)
{
    struct live *live = context;
    live->watch = (struct os_loop_watch){.ready = ended, .context = live};
    struct err err = {0};
    if (live->watch_fd >= 0 &&
        os_loop_watch(live->guests->options.loop, &live->watch, live->watch_fd, OS_LOOP_READ, &err))
        log_error("VM %lld: %s", (long long)live->vmid, err.text);
}

// From now on it runs. False when it has ended already.
static bool adopt(struct guests *guests, int64_t vmid, pid_t pid, uint64_t started_s, bool paused)
{
    int watch_fd = os_process_watch(pid);
    if (watch_fd < 0)
        return false;
    pthread_mutex_lock(&guests->lock);
    struct live *live = guest_live(guests, vmid);
    live->pid = pid;
    live->watch_fd = watch_fd;
    live->started_s = started_s;
    live->running = true;
    live->paused = paused;
    live->cpu = 0;
    live->cpu_ns = live->sampled_ns = 0;
    live->in_scope = os_cgroup_find(pid, "wirt-", &live->place);
    live->memory_told_bytes = 0;
    memset(live->counters, 0, sizeof(live->counters));
    live->post = (struct os_loop_post){.function = begin_watch, .context = live};
    pthread_mutex_unlock(&guests->lock);
    os_loop_post(guests->options.loop, &live->post);
    return true;
}

// ---- Starting.

struct spawn_context {
    struct guests *guests;
    int64_t vmid;
    struct task *task;
    int log_fd;
    struct os_cgroup_limits limits;
    struct helper_spawned spawned; // the latest
};

// launch.h asks for descriptors from FIRST_NUMBER up; the log is number 1.
static int spawn(void *user, const char *program, char *const words[], const int *fds, size_t count,
                 pid_t *pid, struct err *err)
{
    struct spawn_context *context = user;
    int all[256], numbers[256];
    char scope[32];
    if (count + 1 > 240)
        return err_set(err, ERR_LIMIT, "a machine takes 239 files at most");
    all[0] = context->log_fd;
    numbers[0] = 1;
    for (size_t i = 0; i < count; i++) {
        all[i + 1] = fds[i];
        numbers[i + 1] = FIRST_NUMBER + (int)i;
    }
    snprintf(scope, sizeof(scope), "%lld", (long long)context->vmid);
    struct helper_spawn request = {.program = program,
                                   .words = words,
                                   .fds = all,
                                   .numbers = numbers,
                                   .count = count + 1,
                                   .scope = scope,
                                   .limits = context->limits};
    if (helper_spawn(context->guests->options.helper, &request, &context->spawned, err))
        return -1;
    *pid = context->spawned.pid;
    return 0;
}

// The machine's scope: cpuunits is its weight (100 is usual), cpulimit the CPUs that it may use, memory what the guest has and what the machine
// needs beside it at most: translated code, tables that grow with RAM, disks' metadata.
struct os_cgroup_limits guest_limits(const json_t *config)
{
    int64_t weight = guest_number(config, "cpuunits", 100);
    const json_t *limit = json_object_get(config, "cpulimit");
    double cpus =
        json_is_string(limit) ? strtod(json_string_value(limit), NULL) : json_number_value(limit);
    uint64_t memory = (uint64_t)guest_number(config, "memory", 512) * MIB;
    return (struct os_cgroup_limits){.cpu_weight = (unsigned)(weight > 10000 ? 10000 : weight),
                                     .cpu_percent = (unsigned)(cpus * 100 + 0.5),
                                     .memory_bytes = memory + memory / 16 + 512 * MIB};
}

static int open_log(struct guests *guests, int64_t vmid, struct err *err)
{
    char path[4096];
    guest_run_file(guests, vmid, "log", path);
    os_file_remove(path);
    return os_file_open_append(path, 0600, err);
}

// The last lines of the machine's log, when it did not come up.
static void add_log(struct guests *guests, int64_t vmid, struct task *task)
{
    char path[4096];
    guest_run_file(guests, vmid, "log", path);
    char *text = os_file_read_all(path, 65536, NULL, NULL);
    char *save = NULL;
    for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line;
         line = strtok_r(NULL, "\n", &save))
        task_log(task, "%s", line);
    free(text);
}

// Every card's end of the network. `taps` is filled whatever happens.
static int open_cards(struct spawn_context *context, json_t *machine, int taps[NETS_MAX],
                      struct err *err)
{
    const char *name = json_string_value(json_object_get(machine, "name"));
    size_t index;
    json_t *net;
    for (size_t i = 0; i < NETS_MAX; i++)
        taps[i] = -1;
    json_array_foreach(json_object_get(machine, "nets"), index, net)
    {
        if (index == NETS_MAX)
            return err_set(err, ERR_LIMIT, "a machine has at most %d network cards", NETS_MAX);
        if (guest_net_open(context->guests, name, net, context->task, &taps[index], err))
            return -1;
        if (taps[index] >= 0)
            name = ""; // one address is the name's
    }
    return 0;
}

static int launch_machine(struct spawn_context *context, json_t *machine, pid_t *pid,
                          struct err *err)
{
    struct guests *guests = context->guests;
    context->log_fd = open_log(guests, context->vmid, err);
    if (context->log_fd < 0)
        return -1;
    const char **folders = storage_image_folders(guests->options.storage);
    struct launch_how how = {
        .start = spawn, .user = context, .first_number = FIRST_NUMBER, .backing_folders = folders};
    struct launch *launch = launch_create(machine, &how);
    int taps[NETS_MAX];
    size_t tap_count = json_array_size(json_object_get(machine, "nets"));
    int result = open_cards(context, machine, taps, err);
    if (!result)
        result = launch_open(launch, err);
    if (!result)
        result = launch_start(launch, pid, err);
    if (result)
        launch_remove_sockets(launch);
    launch_destroy(launch);
    for (size_t i = 0; i < tap_count && i < NETS_MAX; i++)
        os_file_close(&taps[i]);
    free(folders);
    os_file_close(&context->log_fd);
    return result;
}

int guest_open_net(struct guests *guests, struct task *task, int64_t vmid, const char *name,
                   json_t *net, int *fd, struct err *err)
{
    char path[4096];
    pid_t pid;
    *fd = -1;
    if (guest_net_open(guests, name, net, task, fd, err))
        return -1;
    json_object_del(net, "opened");
    const char *kind = json_string_value(json_object_get(net, "kind"));
    if (*fd >= 0 || !kind || strcmp(kind, "user") != 0)
        return 0;
    json_t *record = guest_get(guests, vmid);
    json_t *running = guest_running_config(guests, vmid, record);
    // The card's process joins the machine's scope, whose limits stay as they are.
    struct spawn_context context = {
        .guests = guests, .vmid = vmid, .task = task, .limits = guest_limits(running)};
    json_decref(running);
    json_decref(record);
    guest_run_file(guests, vmid, "log", path);
    context.log_fd = os_file_open_append(path, 0600, err);
    if (context.log_fd < 0)
        return -1;
    *fd = launch_user_net(net, spawn, &context, FIRST_NUMBER, &pid, err);
    os_file_close(&context.log_fd);
    return *fd < 0 ? -1 : 0;
}

static int write_machine_file(struct guests *guests, int64_t vmid, pid_t pid, struct err *err)
{
    char path[4096], text[96];
    guest_run_file(guests, vmid, "machine", path);
    int length = snprintf(text, sizeof(text), "{\"pid\": %d, \"started\": %llu}\n", (int)pid,
                          (unsigned long long)now_s());
    return os_file_write_whole(path, text, (size_t)length, 0600, err);
}

int guest_set_balloon(struct guests *guests, int64_t vmid, const json_t *config, int64_t memory_mib,
                      struct err *err)
{
    int64_t keep = guest_number(config, "balloon", 0);
    if (keep <= 0 || keep > memory_mib)
        keep = memory_mib;
    if (keep < BALLOON_MIB_MIN)
        keep = BALLOON_MIB_MIN;
    json_t *ok = guest_control(
        guests, vmid,
        json_pack("{s:s, s:I}", "do", "balloon", "memory", (json_int_t)keep * (json_int_t)MIB),
        BALLOON_SECONDS, err);
    json_decref(ok);
    return ok ? 0 : -1;
}

// What the machine is told once it is there.
static void begin_running(struct guests *guests, struct task *task, int64_t vmid,
                          const json_t *config)
{
    struct err failed = {0};
    guest_tell_unheeded(task, config);
    if (guest_number(config, "balloon", 0) > 0 &&
        guest_set_balloon(guests, vmid, config, guest_number(config, "memory", 512), &failed))
        task_log(task, "balloon: %s", failed.text);
}

static int start_locked(struct guests *guests, struct task *task, int64_t vmid, struct err *err)
{
    char folder[4096];
    pid_t pid;
    json_t *record = guest_get(guests, vmid);
    if (!record)
        return guest_missing(guests, vmid, err);
    const json_t *config = json_object_get(record, "config");
    json_t *machine = NULL;
    int result = -1;
    guest_folder(guests, vmid, folder);
    if (guest_is_running(guests, vmid))
        err_set(err, ERR_BUSY, "VM %lld already running", (long long)vmid);
    else if (json_object_get(config, "template"))
        err_set(err, ERR_BUSY, "you can't start a vm if it's a template");
    else if (json_object_get(record, "lock"))
        err_set(err, ERR_BUSY, "VM is locked (%s)",
                json_string_value(json_object_get(record, "lock")));
    else
        result = os_directory_make(folder, 0700, err);
    if (!result)
        result = cloudinit_write(guests, vmid, config, err);
    if (!result)
        machine = guest_machine(guests, vmid, config, folder, err);
    struct spawn_context context = {
        .guests = guests, .vmid = vmid, .task = task, .limits = guest_limits(config)};
    result = machine ? launch_machine(&context, machine, &pid, err) : -1;
    json_decref(machine);
    if (!result)
        guest_note_running(guests, vmid, config,
                           NULL); // without it changes wait for the next start
    if (result) {
        json_decref(record);
        return -1;
    }
    write_machine_file(guests, vmid, pid, NULL); // without it the control socket tells
    json_t *hello = control(guests, vmid, json_pack("{s:s}", "do", "status"), START_SECONDS, err);
    if (!hello || !adopt(guests, vmid, pid, now_s(), false)) {
        add_log(guests, vmid, task);
        helper_kill(guests->options.helper, pid, NULL);
        empty_folder(guests, vmid);
        json_decref(hello);
        json_decref(record);
        return err_set(err, ERR_HOST, "start failed: the machine did not come up; see the log");
    }
    task_log(task, "machine runs as process %d, by %s; its scope: %s", (int)pid,
             json_string_value(json_object_get(hello, "accel")), context.spawned.scope);
    begin_running(guests, task, vmid, config);
    json_decref(hello);
    json_decref(record);
    return 0;
}

int guest_start(struct guests *guests, struct task *task, int64_t vmid, struct err *err)
{
    if (guest_lock(guests, vmid, "start", false, LOCK_SECONDS, err))
        return -1;
    int result = start_locked(guests, task, vmid, err);
    guest_unlock(guests, vmid, false);
    return result;
}

// ---- Stopping.

static int stop_locked(struct guests *guests, struct task *task, int64_t vmid, struct err *err)
{
    struct guest_status status;
    guest_status(guests, vmid, &status);
    if (!status.running)
        return 0;
    json_t *ok = control(guests, vmid, json_pack("{s:s}", "do", "stop"), 5, NULL);
    if (ok && guest_wait_end(guests, NULL, vmid, STOP_SECONDS)) {
        json_decref(ok);
        return 0;
    }
    json_decref(ok);
    task_log(task, "the machine does not answer: its process is killed");
    if (helper_kill(guests->options.helper, (pid_t)status.pid, err))
        return -1;
    return guest_wait_end(guests, NULL, vmid, STOP_SECONDS)
               ? 0
               : err_set(err, ERR_HOST, "process %d does not end", (int)status.pid);
}

int guest_stop(struct guests *guests, struct task *task, int64_t vmid, bool overrule,
               struct err *err)
{
    if (overrule)
        guest_overrule(guests, vmid);
    if (guest_lock(guests, vmid, "stop", false, LOCK_SECONDS, err))
        return -1;
    int result = stop_locked(guests, task, vmid, err);
    guest_unlock(guests, vmid, false);
    return result;
}

static int shutdown_locked(struct guests *guests, struct task *task, int64_t vmid,
                           unsigned timeout_s, bool force, struct err *err)
{
    struct err reason = {0};
    struct guest_status status;
    guest_status(guests, vmid, &status);
    if (!status.running)
        return not_running(vmid, err);
    if (!strcmp(status.state, "paused")) // it would hear of it when it goes on, whenever that is
        err_set(&reason, ERR_BUSY, "VM is paused - cannot shutdown");
    else if (!guest_end_gently(guests, task, vmid, timeout_s, &reason))
        return 0;
    if (!force || reason.code == ERR_CANCELLED)
        return err_set(err, reason.code, "%s", reason.text);
    task_log(task, "%s: its plug is pulled", reason.text);
    return stop_locked(guests, task, vmid, err);
}

int guest_shutdown(struct guests *guests, struct task *task, int64_t vmid, unsigned timeout_s,
                   bool force, struct err *err)
{
    if (guest_lock(guests, vmid, "shutdown", false, LOCK_SECONDS, err))
        return -1;
    int result = shutdown_locked(guests, task, vmid, timeout_s, force, err);
    guest_unlock(guests, vmid, false);
    return result;
}

int guest_reboot(struct guests *guests, struct task *task, int64_t vmid, unsigned timeout_s,
                 struct err *err)
{
    if (guest_lock(guests, vmid, "reboot", false, LOCK_SECONDS, err))
        return -1;
    int result = shutdown_locked(guests, task, vmid, timeout_s, false, err);
    if (!result)
        result = start_locked(guests, task, vmid, err);
    guest_unlock(guests, vmid, false);
    return result;
}

void guest_note_paused(struct guests *guests, int64_t vmid, bool paused)
{
    pthread_mutex_lock(&guests->lock);
    guest_live(guests, vmid)->paused = paused;
    pthread_mutex_unlock(&guests->lock);
}

int guest_command(struct guests *guests, struct task *task, int64_t vmid, const char *command,
                  struct err *err)
{
    (void)task;
    if (guest_lock(guests, vmid, command, false, LOCK_SECONDS, err))
        return -1;
    json_t *ok = guest_control(guests, vmid, json_pack("{s:s}", "do", command), 10, err);
    if (ok && (!strcmp(command, "pause") || !strcmp(command, "resume")))
        guest_note_paused(guests, vmid, !strcmp(command, "pause"));
    guest_unlock(guests, vmid, false);
    json_decref(ok);
    return ok ? 0 : -1;
}

// ---- Finding them again.

static uint64_t started_of(struct guests *guests, int64_t vmid, pid_t *pid)
{
    char path[4096];
    guest_run_file(guests, vmid, "machine", path);
    char *text = os_file_read_all(path, 4096, NULL, NULL);
    json_t *file = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
    *pid = (pid_t)json_integer_value(json_object_get(file, "pid"));
    uint64_t started = (uint64_t)json_integer_value(json_object_get(file, "started"));
    json_decref(file);
    return started ? started : now_s();
}

// Is the process there, and a machine? Its number may be somebody else's by now.
static bool is_machine(pid_t pid)
{
    int watch = pid > 1 ? os_process_watch(pid) : -1;
    bool is = watch >= 0 && os_process_is(pid, "wirt-vm");
    os_file_close(&watch);
    return is;
}

// Our predecessor's helper has ended (helper.h), so that nothing is started any more: a machine is there, or on its way to listen, or will never be.
static bool find_one(void *user, const char *name)
{
    struct guests *guests = user;
    char *end;
    pid_t pid;
    int64_t vmid = strtoll(name, &end, 10);
    if (*end || vmid < GUEST_ID_MIN)
        return true;
    struct err err = {0};
    uint64_t started_s = started_of(guests, vmid, &pid);
    bool there = is_machine(pid);
    // Who is there is kept even when it is too busy to answer. Of a machine whose process nobody wrote down only its socket tells.
    json_t *status =
        control(guests, vmid, json_pack("{s:s}", "do", "status"), there ? 5 : START_SECONDS, &err);
    const char *state = json_string_value(json_object_get(status, "state"));
    bool paused = state && !strcmp(state, "paused");
    if (status)
        pid = (pid_t)json_integer_value(json_object_get(status, "pid"));
    if ((status || there) && adopt(guests, vmid, pid, started_s, paused)) {
        log_info("VM %lld runs as process %d", (long long)vmid, (int)pid);
        if (!there)
            write_machine_file(guests, vmid, pid, NULL);
        if (status) { // who does not answer is not waited for again
            guest_jobs_disown(guests, vmid);
            guest_reconcile(guests, vmid);
            guest_wake_left(guests, vmid, paused);
        }
    } else {
        empty_folder(guests, vmid);
    }
    json_decref(status);
    return true;
}

void guests_find_running(struct guests *guests)
{
    os_directory_list(guests->run_folder, find_one, guests, NULL);
}
