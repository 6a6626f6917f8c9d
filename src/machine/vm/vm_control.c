// SPDX-License-Identifier: Apache-2.0
//
// The control protocol's server (doc/control-protocol.md): JSON lines on a Unix socket, descriptors beside them.
//
// Everything happens on the main thread. A connection has a bounded input line; output that its reader does not take ends the connection, so that
// nobody can make the machine wait or grow.
#define LOG_MODULE "control"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "machine/vm/vm_console.h"
#include "machine/vm/vm_control.h"
#include "machine/vm/vm_internal.h"
#include "os/file.h"
#include "os/self.h"
#include "os/unix_socket.h"
#include "wire/request.h"

#define LINE_BYTES       65536
#define MAX_CONNECTIONS  16
#define MAX_PASSED       72
#define PROTOCOL_VERSION 1
#define FOR_MEMORY       "" // no job has this name

struct connection {
    struct vm_control *control;
    struct os_loop_watch watch;
    int fd;                 // -1: free
    int passed[MAX_PASSED]; // descriptors that came and were not used yet, owned
    size_t passed_count;
    size_t used;
    char *line;
    json_t *waiting;      // owned: the id of a request that is not answered yet; NULL: none
    char waiting_for[32]; // job-wait: the job; guest-memory: FOR_MEMORY
    enum vm_job_stage waiting_stage; // of the job
};

struct vm_control {
    struct vm *vm;
    struct os_loop_watch watch;
    struct connection connections[MAX_CONNECTIONS];
};

static void close_connection(struct connection *c)
{
    os_loop_unwatch(c->control->vm->loop, &c->watch);
    while (c->passed_count)
        os_file_close(&c->passed[--c->passed_count]);
    os_file_close(&c->fd);
    free(c->line);
    c->line = NULL;
    c->used = 0;
    json_decref(c->waiting);
    c->waiting = NULL;
}

static void send_line(struct connection *c, json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);
    size_t length = strlen(text);
    text[length] = '\n'; // in place of the terminator
    ssize_t n = os_unix_send_ready(c->fd, text, length + 1);
    if (n != (ssize_t)(length + 1)) {
        log_warn("a control connection does not read its answers: closed");
        close_connection(c);
    }
    free(text);
}

void vm_control_event(struct vm *vm, const char *event, json_t *members)
{
    json_t *object = members ? members : json_object();
    json_object_set_new(object, "event", json_string(event));
    for (unsigned i = 0; vm->control && i < MAX_CONNECTIONS; i++)
        if (vm->control->connections[i].fd >= 0)
            send_line(&vm->control->connections[i], object);
    json_decref(object);
}

// ---- Commands. Each returns the members of its reply, a new reference, or NULL and *err.

static json_t *do_hello(struct vm *vm, const json_t *request, struct vm_passed *passed,
                        struct err *err)
{
    return json_pack("{s:s, s:s, s:i}", "program", "wirt-vm", "version", WIRT_VERSION, "protocol",
                     PROTOCOL_VERSION);
}

static json_t *do_status(struct vm *vm, const json_t *request, struct vm_passed *passed,
                         struct err *err)
{
    return json_pack("{s:s, s:s, s:s, s:i, s:I, s:I, s:i}", "name", vm->config->name, "state",
                     vm_state_name(vm->state), "accel", vm->system.backend->name, "cpus",
                     (int)vm->config->cpus, "memory", (json_int_t)vm->config->memory_bytes,
                     "uptime_ns", (json_int_t)vm_clock_now_ns(vm->clock), "pid", os_self_pid());
}

static json_t *do_pause(struct vm *vm, const json_t *request, struct vm_passed *passed,
                        struct err *err)
{
    vm_pause(vm);
    return json_object();
}

static json_t *do_resume(struct vm *vm, const json_t *request, struct vm_passed *passed,
                         struct err *err)
{
    vm_resume(vm);
    return json_object();
}

static json_t *do_power_button(struct vm *vm, const json_t *request, struct vm_passed *passed,
                               struct err *err)
{
    vm_power_button(vm);
    return json_object();
}

static json_t *do_reset(struct vm *vm, const json_t *request, struct vm_passed *passed,
                        struct err *err)
{
    vm_request_reset(vm);
    return json_object();
}

static json_t *do_stop(struct vm *vm, const json_t *request, struct vm_passed *passed,
                       struct err *err)
{
    vm_request_end(vm, VM_END_STOP, 0);
    return json_object();
}

static json_t *do_statistics(struct vm *vm, const json_t *request, struct vm_passed *passed,
                             struct err *err)
{
    return vm_statistics(vm);
}

static const struct {
    const char *name;
    json_t *(*run)(struct vm *vm, const json_t *request, struct vm_passed *passed, struct err *err);
} handlers[] = {
    {"hello", do_hello},
    {"status", do_status},
    {"pause", do_pause},
    {"resume", do_resume},
    {"reset", do_reset},
    {"power-button", do_power_button},
    {"stop", do_stop},
    {"statistics", do_statistics},
    {"plug", vm_do_plug},
    {"unplug", vm_do_unplug},
    {"balloon", vm_do_balloon},
    {"disks", vm_do_disks},
    {"disk-snapshot", vm_do_disk_job},
    {"disk-commit", vm_do_disk_job},
    {"disk-stream", vm_do_disk_job},
    {"disk-mirror", vm_do_disk_job},
    {"disk-backup", vm_do_disk_job},
    {"jobs", vm_do_jobs},
    {"job-pause", vm_do_job_order},
    {"job-resume", vm_do_job_order},
    {"job-rate", vm_do_job_order},
    {"job-cancel", vm_do_job_order},
    {"job-complete", vm_do_job_order},
    {"bitmap-create", vm_do_bitmap_create},
    {"bitmap-remove", vm_do_bitmap_remove},
    {"bitmap-clear", vm_do_bitmap_clear},
    {"disk-resize", vm_do_disk_resize},
    {"disk-limits", vm_do_disk_limits},
    {"net-link", vm_do_net_link},
};

static json_t *run_command(struct connection *c, const char *name, const json_t *request,
                           struct err *err)
{
    struct vm_passed passed = {c->passed, &c->passed_count, name};
    for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
        if (!strcmp(handlers[i].name, name))
            return handlers[i].run(c->control->vm, request, &passed, err);
    err_set(err, ERR_UNSUPPORTED, "%s is not offered by this machine", name);
    return NULL;
}

static void answer(struct connection *c, json_t *id, json_t *ok, const struct err *err)
{
    json_t *object = json_object();
    json_object_set(object, "id", id ? id : json_null());
    if (ok)
        json_object_set_new(object, "ok", ok);
    else
        json_object_set_new(
            object, "error",
            json_pack("{s:s, s:s}", "code", err_code_name(err->code), "message", err->text));
    send_line(c, object);
    json_decref(object);
}

// From here on the connection is a console: its descriptor changes hands.
static void become_console(struct connection *c, json_t *id)
{
    struct err err;
    answer(c, id, json_object(), NULL);
    if (c->fd < 0)
        return;
    int fd = os_file_duplicate(c->fd);
    struct vm *vm = c->control->vm;
    close_connection(c);
    if (vm_console_attach(vm, fd, &err))
        log_warn("%s", err.text);
}

// Descriptors belong to one request: those that it did not take are closed.
static void drop_passed(struct connection *c)
{
    while (c->passed_count)
        os_file_close(&c->passed[--c->passed_count]);
}

// The request is answered later, whatever it is. False: the connection waits for something already.
static bool begin_waiting(struct connection *c, const struct wire_request *request,
                          const char *what, enum vm_job_stage stage)
{
    if (c->waiting)
        return false;
    c->waiting = request->id ? json_incref(request->id) : json_null();
    snprintf(c->waiting_for, sizeof(c->waiting_for), "%s", what);
    c->waiting_stage = stage;
    return true;
}

static void end_waiting(struct vm *vm, const char *what, enum vm_job_stage stage, const json_t *ok,
                        const struct err *err)
{
    for (unsigned i = 0; vm->control && i < MAX_CONNECTIONS; i++) {
        struct connection *c = &vm->control->connections[i];
        if (c->fd < 0 || !c->waiting || strcmp(c->waiting_for, what) != 0 ||
            c->waiting_stage > stage)
            continue;
        json_t *id = c->waiting;
        c->waiting = NULL;
        answer(c, id, ok ? json_copy((json_t *)(uintptr_t)ok) : NULL, err);
        json_decref(id);
    }
}

// Answered when the guest has told.
static void wait_for_memory(struct connection *c, const struct wire_request *request)
{
    struct err err = {0};
    if (c->control->vm->state != VM_RUNNING)
        err_set(&err, ERR_BUSY, "the machine does not run");
    else if (!begin_waiting(c, request, FOR_MEMORY, VM_JOB_BEGINS))
        err_set(&err, ERR_BUSY, "this connection waits for an answer already");
    else if (!vm_balloon_ask(c->control->vm))
        vm_control_memory_told(c->control->vm, false);
    if (err.code)
        answer(c, request->id, NULL, &err);
}

void vm_control_memory_told(struct vm *vm, bool told)
{
    struct err err = {0};
    json_t *ok = told ? vm_balloon_statistics(vm) : NULL;
    if (!told)
        err_set(&err, ERR_UNSUPPORTED,
                "the guest does not tell: it has no driver for the balloon (virtio_balloon) now");
    end_waiting(vm, FOR_MEMORY, VM_JOB_BEGINS, ok, &err);
    json_decref(ok);
}

// Answered now when the job has come so far, else by vm_control_job_told().
static void wait_for_job(struct connection *c, const struct wire_request *request)
{
    const char *id = json_string_value(json_object_get(request->members, "job"));
    const char *what = json_string_value(json_object_get(request->members, "for"));
    enum vm_job_stage wanted = what && !strcmp(what, "instant") ? VM_JOB_HOLDS : VM_JOB_SETTLED;
    enum vm_job_stage stage = VM_JOB_SETTLED;
    struct err err = {0};
    json_t *status = NULL;
    if (c->waiting)
        err_set(&err, ERR_BUSY, "this connection waits for an answer already");
    else
        status = vm_job_status(c->control->vm, id, &stage, &err);
    if (stage >= wanted || !status) {
        answer(c, request->id, status, &err);
        return;
    }
    json_decref(status);
    begin_waiting(c, request, id, wanted);
}

void vm_control_job_told(struct vm *vm, const char *id, const json_t *status,
                         enum vm_job_stage stage)
{
    end_waiting(vm, id, stage, status, NULL);
}

static void handle_line(struct connection *c, const char *line, size_t length)
{
    struct err err = {0};
    struct wire_request request;
    json_t *ok = NULL;
    if (!wire_request_parse(&request, line, length, &err)) {
        bool memory = !strcmp(request.command->name, "guest-memory");
        if (memory || !strcmp(request.command->name, "job-wait")) {
            (memory ? wait_for_memory : wait_for_job)(c, &request);
            wire_request_fini(&request);
            return;
        }
        if (!strcmp(request.command->name, "console"))
            become_console(c, request.id);
        else
            ok = run_command(c, request.command->name, request.members, &err);
    }
    drop_passed(c);
    if (c->fd >= 0)
        answer(c, request.id, ok, &err);
    else
        json_decref(ok);
    wire_request_fini(&request);
}

static void connection_ready(void *context, unsigned events)
{
    struct connection *c = context;
    size_t count = 0;
    (void)events;
    ssize_t n = os_unix_receive(c->fd, c->line + c->used, LINE_BYTES - c->used,
                                c->passed + c->passed_count, MAX_PASSED - c->passed_count, &count);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        close_connection(c);
        return;
    }
    c->passed_count += count;
    c->used += (size_t)n;
    char *end;
    while (c->fd >= 0 && (end = memchr(c->line, '\n', c->used))) {
        size_t length = (size_t)(end - c->line);
        handle_line(c, c->line, length);
        if (c->fd < 0)
            return;
        c->used -= length + 1;
        memmove(c->line, end + 1, c->used);
    }
    if (c->used == LINE_BYTES) {
        log_warn("a control connection sent a line of more than %d bytes: closed", LINE_BYTES);
        close_connection(c);
    }
}

static void listener_ready(void *context, unsigned events)
{
    struct vm_control *control = context;
    (void)events;
    int fd = os_unix_accept(control->vm->config->control_fd, false);
    if (fd < 0)
        return;
    for (unsigned i = 0; i < MAX_CONNECTIONS; i++) {
        struct connection *c = &control->connections[i];
        if (c->fd >= 0)
            continue;
        c->line = malloc(LINE_BYTES);
        c->watch = (struct os_loop_watch){.ready = connection_ready, .context = c};
        if (c->line && !os_loop_watch(control->vm->loop, &c->watch, fd, OS_LOOP_READ, NULL)) {
            c->fd = fd;
            return;
        }
        free(c->line);
        c->line = NULL;
        break;
    }
    log_warn("too many control connections: one was refused");
    os_file_close(&fd);
}

int vm_control_create(struct vm *vm, struct err *err)
{
    struct vm_control *control = calloc(1, sizeof(*control));
    if (!control)
        return err_set(err, ERR_LIMIT, "out of memory");
    control->vm = vm;
    for (unsigned i = 0; i < MAX_CONNECTIONS; i++) {
        control->connections[i].control = control;
        control->connections[i].fd = -1;
    }
    control->watch = (struct os_loop_watch){.ready = listener_ready, .context = control};
    vm->control = control;
    if (vm->config->control_fd < 0)
        return 0;
    return os_loop_watch(vm->loop, &control->watch, vm->config->control_fd, OS_LOOP_READ, err);
}

void vm_control_destroy(struct vm *vm)
{
    if (!vm->control)
        return;
    os_loop_unwatch(vm->loop, &vm->control->watch);
    for (unsigned i = 0; i < MAX_CONNECTIONS; i++)
        if (vm->control->connections[i].fd >= 0)
            close_connection(&vm->control->connections[i]);
    free(vm->control);
    vm->control = NULL;
}
