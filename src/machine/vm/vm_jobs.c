// SPDX-License-Identifier: Apache-2.0
//
// Jobs on the machine's disks, over the control protocol: job/job.h does the work.
//
// Everything here runs on the main thread. A job's own thread only posts that its state changed; the post tells the listeners, and answers those who
// wait. A job that has ended is kept, for those who ask later, until the next on its disk or until there are too many.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "machine/block/bitmap.h"
#include "machine/block/stack.h"
#include "machine/job/job.h"
#include "machine/vm/vm_control.h"
#include "machine/vm/vm_devices.h"

#define BITMAPS_MAX 64 // of one disk

struct vm_job {
    struct vm_device *device; // borrowed: it drops its jobs before it goes
    struct job *job;          // owned
    char id[32];
    struct os_loop_post changed, holds;
    struct vm_job *next;
};

static json_t *status_json(const struct vm_job *j, enum vm_job_stage *stage)
{
    struct job_status s;
    job_status(j->job, &s);
    *stage = s.settled ? VM_JOB_SETTLED : s.holds ? VM_JOB_HOLDS : VM_JOB_BEGINS;
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I}", "id", j->id, "kind", job_kind_name(s.kind),
        "disk", j->device->id, "state", job_state_name(s.state), "paused", s.paused, "done",
        (json_int_t)s.done, "total", (json_int_t)s.total, "rate", (json_int_t)s.bytes_per_s);
    if (s.state == JOB_FAILED)
        json_object_set_new(json, "reason", json_string(s.err.text));
    return json;
}

// ---- From the job's thread to the main one

static void on_changed(void *user)
{
    struct vm_job *j = user;
    os_loop_post(j->device->vm->loop, &j->changed);
}

static void on_holds(void *user)
{
    struct vm_job *j = user;
    os_loop_post(j->device->vm->loop, &j->holds);
}

static json_t *answer_waiting(struct vm_job *j)
{
    enum vm_job_stage stage;
    json_t *status = status_json(j, &stage);
    vm_control_job_told(j->device->vm, j->id, status, stage);
    return status;
}

static void tell_holds(void *context)
{
    json_decref(answer_waiting(context));
}

static void tell(void *context)
{
    struct vm_job *j = context;
    vm_control_event(j->device->vm, "job", answer_waiting(j));
}

static void destroy(struct vm *vm, struct vm_job *j)
{
    struct vm_job **link = &vm->jobs;
    while (*link != j)
        link = &(*link)->next;
    *link = j->next;
    job_destroy(j->job);
    os_loop_post_cancel(vm->loop, &j->changed);
    os_loop_post_cancel(vm->loop, &j->holds);
    free(j);
}

// The next job of the disk after `j` (NULL: the first).
static struct vm_job *next_of(struct vm_device *device, struct vm_job *j)
{
    j = j ? j->next : device->vm->jobs;
    while (j && j->device != device)
        j = j->next;
    return j;
}

void vm_jobs_drop(struct vm_device *device)
{
    struct vm_job *j;
    while ((j = next_of(device, NULL))) {
        struct vm *vm = device->vm;
        (void)job_cancel(j->job, NULL);
        (void)job_wait(j->job);
        tell(j);
        destroy(vm, j);
    }
}

// ---- Finding

static struct vm_device *find_disk(struct vm *vm, const json_t *request, struct err *err)
{
    const char *id = json_string_value(json_object_get(request, "disk"));
    struct vm_device *device = vm_device_find(vm, id);
    if (!device || strcmp(device->ops->kind, "disk") != 0) {
        err_set(err, ERR_NOT_FOUND, "there is no disk %s", id);
        return NULL;
    }
    return device;
}

static struct vm_job *find_job(struct vm *vm, const char *id, struct err *err)
{
    for (struct vm_job *j = vm->jobs; j; j = j->next) {
        if (!strcmp(j->id, id))
            return j;
    }
    err_set(err, ERR_NOT_FOUND, "there is no job %s", id);
    return NULL;
}

json_t *vm_job_status(struct vm *vm, const char *id, enum vm_job_stage *stage, struct err *err)
{
    struct vm_job *j = find_job(vm, id, err);
    return j ? status_json(j, stage) : NULL;
}

// ---- disks, jobs

// The stack does not change meanwhile: the disk is claimed, or a job has it, in which case it is left out.
static json_t *layers_json(struct block_disk *disk)
{
    json_t *layers = json_array();
    struct block_node **link;
    for (unsigned depth = 0; (link = block_stack_layer(disk, depth)); depth++)
        json_array_append_new(layers, json_pack("{s:s, s:s}", "file", (*link)->name, "format",
                                                block_layer_format(*link)));
    return layers;
}

static json_t *bitmaps_json(struct block_disk *disk)
{
    json_t *bitmaps = json_array();
    for (struct block_bitmap *b = (*block_stack_active(disk))->bitmaps; b; b = b->next) {
        if (b->name)
            json_array_append_new(bitmaps,
                                  json_pack("{s:s, s:I, s:I, s:b, s:b, s:b}", "name", b->name,
                                            "granularity", (json_int_t)BIT(b->granularity_bits),
                                            "dirty", (json_int_t)block_bitmap_dirty_bytes(b),
                                            "recording", b->recording, "persistent", b->persistent,
                                            "inconsistent", b->inconsistent));
    }
    return bitmaps;
}

static json_t *disk_json(struct vm_device *device)
{
    struct block_disk *disk = device->behind;
    json_t *json =
        json_pack("{s:s, s:I, s:b}", "id", device->id, "size", (json_int_t)block_disk_size(disk),
                  "readonly", block_disk_limits(disk)->read_only);
    bool claimed = block_disk_claim(disk);
    json_object_set_new(json, "busy", json_boolean(!claimed));
    if (!claimed)
        return json;
    json_object_set_new(json, "layers", layers_json(disk));
    json_object_set_new(json, "bitmaps", bitmaps_json(disk));
    block_disk_unclaim(disk);
    return json;
}

json_t *vm_do_disks(struct vm *vm, const json_t *request, struct vm_passed *passed, struct err *err)
{
    json_t *list = json_array();
    for (struct vm_device *device = vm->devices->first; device; device = device->next) {
        if (!strcmp(device->ops->kind, "disk"))
            json_array_append_new(list, disk_json(device));
    }
    return json_pack("{s:o}", "disks", list);
}

json_t *vm_do_jobs(struct vm *vm, const json_t *request, struct vm_passed *passed, struct err *err)
{
    json_t *list = json_array();
    enum vm_job_stage stage;
    for (struct vm_job *j = vm->jobs; j; j = j->next)
        json_array_insert_new(list, 0, status_json(j, &stage));
    return json_pack("{s:o}", "jobs", list);
}

// ---- Starting

static const char *text(const json_t *object, const char *member)
{
    return json_string_value(json_object_get(object, member));
}

static int take_descriptors(struct job_options *o, const json_t *request, struct vm_passed *passed,
                            struct err *err)
{
    const struct {
        const char *member;
        int *fd;
        bool required;
    } places[] = {
        {"fd", &o->target.fd,
         o->kind == JOB_SNAPSHOT || o->kind == JOB_MIRROR || o->kind == JOB_BACKUP},
        {"base_fd", &o->base_fd, false},
        {"above_fd", &o->above_fd, false},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(places); i++) {
        if (!places[i].required && !json_object_get(request, places[i].member))
            continue;
        if ((*places[i].fd = vm_passed_take(passed, request, places[i].member, err)) < 0)
            return -1;
    }
    return 0;
}

static enum job_kind kind_of(const char *command)
{
    enum job_kind kind = 0;
    while (kind < JOB_KIND_COUNT - 1 && strcmp(job_kind_name(kind), command + strlen("disk-")) != 0)
        kind++;
    return kind;
}

static enum job_scope scope_of(const json_t *request)
{
    const char *scope = text(request, "scope");
    if (!scope)
        return JOB_FULL;
    return !strcmp(scope, "dirty") ? JOB_DIRTY : !strcmp(scope, "top") ? JOB_TOP : JOB_FULL;
}

// Jobs of the disk that have ended make room for the next.
static void forget_ended(struct vm_device *device)
{
    struct vm_job *j = next_of(device, NULL);
    while (j) {
        struct vm_job *next = next_of(device, j);
        if (job_ended(j->job))
            destroy(device->vm, j);
        j = next;
    }
}

static struct vm_job *start(struct vm *vm, struct vm_device *device, struct job_options *options,
                            struct err *err)
{
    struct vm_job *j = calloc(1, sizeof(*j));
    if (!j) {
        err_set(err, ERR_LIMIT, "out of memory");
        return NULL;
    }
    snprintf(j->id, sizeof(j->id), "job%u", vm->job_number++);
    j->device = device;
    j->changed = (struct os_loop_post){.function = tell, .context = j};
    j->holds = (struct os_loop_post){.function = tell_holds, .context = j};
    options->id = j->id;
    options->user = j;
    j->job = job_start(options, err);
    if (!j->job) {
        free(j);
        return NULL;
    }
    j->next = vm->jobs;
    vm->jobs = j;
    os_loop_post(vm->loop, &j->changed);
    return j;
}

json_t *vm_do_disk_job(struct vm *vm, const json_t *request, struct vm_passed *passed,
                       struct err *err)
{
    struct vm_device *device = find_disk(vm, request, err);
    if (!device)
        return NULL;
    const char *format = text(request, "format");
    struct job_options options = {
        .kind = kind_of(passed->command),
        .disk = device->behind,
        .target = {.fd = -1, .format = format, .name = text(request, "file")},
        .target_is_new = json_is_true(json_object_get(request, "new")),
        .scope = scope_of(request),
        .bitmap = text(request, "bitmap"),
        .top = text(request, "top"),
        .base = text(request, "base"),
        .base_fd = -1,
        .above_fd = -1,
        .bytes_per_s = (uint64_t)json_integer_value(json_object_get(request, "rate")),
        .begin = vm_io_thread_begin,
        .changed = on_changed,
        .holds = on_holds,
    };
    if (!format)
        options.target.format = options.kind == JOB_SNAPSHOT ? "qcow2" : "raw";
    if (take_descriptors(&options, request, passed, err))
        return NULL;
    forget_ended(device);
    if (json_object_get(request, "status_fd")) {
        int status_fd = vm_passed_take(passed, request, "status_fd", err);
        if (status_fd >= 0)
            (void)vm_remote_watch(vm, device->id, status_fd, err);
    }
    struct vm_job *j = start(vm, device, &options, err);
    return j ? json_pack("{s:s}", "job", j->id) : NULL;
}

// ---- Orders

json_t *vm_do_job_order(struct vm *vm, const json_t *request, struct vm_passed *passed,
                        struct err *err)
{
    struct vm_job *j = find_job(vm, text(request, "job"), err);
    const char *order = passed->command + strlen("job-");
    const json_t *pivot = json_object_get(request, "pivot");
    int rc = -1;
    if (!j)
        return NULL;
    if (!strcmp(order, "pause"))
        rc = job_pause(j->job, err);
    else if (!strcmp(order, "resume"))
        rc = job_resume(j->job, err);
    else if (!strcmp(order, "rate"))
        rc = job_set_rate(j->job, (uint64_t)json_integer_value(json_object_get(request, "rate")),
                          err);
    else if (!strcmp(order, "cancel"))
        rc = job_cancel(j->job, err);
    else
        rc = job_complete(j->job, !pivot || json_is_true(pivot), err);
    return rc ? NULL : json_object();
}

// ---- Bitmaps: the list changes while the disk is paused

static struct block_disk *claim(struct vm *vm, const json_t *request, struct err *err)
{
    struct vm_device *device = find_disk(vm, request, err);
    if (!device)
        return NULL;
    if (!block_disk_claim(device->behind)) {
        err_set(err, ERR_BUSY, "a job is at work on disk %s; wait for it or cancel it", device->id);
        return NULL;
    }
    return device->behind;
}

static unsigned count_bitmaps(const struct block_bitmap *list)
{
    unsigned n = 0;
    for (; list; list = list->next)
        n++;
    return n;
}

static int add_bitmap(struct block_node *active, const json_t *request, struct err *err)
{
    const char *name = text(request, "name");
    const json_t *granularity = json_object_get(request, "granularity");
    uint64_t bytes = granularity ? (uint64_t)json_integer_value(granularity)
                                 : BIT(BLOCK_BITMAP_GRANULARITY_BITS);
    bool persistent = json_is_true(json_object_get(request, "persistent"));
    if (!is_power_of_two(bytes))
        return err_set(err, ERR_USAGE, "granularity: it must be a power of two");
    if (block_bitmap_find(active->bitmaps, name))
        return err_set(err, ERR_EXISTS, "there is a bitmap '%s' already", name);
    if (count_bitmaps(active->bitmaps) >= BITMAPS_MAX)
        return err_set(err, ERR_LIMIT, "a disk has at most %d bitmaps", BITMAPS_MAX);
    if (persistent && (!active->ops->keeps_bitmaps || !active->ops->keeps_bitmaps(active)))
        return err_set(err, ERR_UNSUPPORTED, "'%s' cannot keep bitmaps; only qcow2 version 3 can",
                       active->name);
    unsigned bits = (unsigned)__builtin_ctzll(bytes);
    if (block_bitmap_bytes(active->size, bits) > active->memory_limit)
        return err_set(err, ERR_LIMIT,
                       "the bitmap would be too large; choose a larger granularity");
    struct block_bitmap *bitmap = block_bitmap_create(name, active->size, bits);
    if (!bitmap)
        return err_set(err, ERR_LIMIT, "no memory for a dirty bitmap");
    bitmap->persistent = persistent;
    block_bitmap_add(&active->bitmaps, bitmap);
    return 0;
}

json_t *vm_do_bitmap_create(struct vm *vm, const json_t *request, struct vm_passed *passed,
                            struct err *err)
{
    struct block_disk *disk = claim(vm, request, err);
    if (!disk)
        return NULL;
    block_disk_pause(disk);
    int rc = add_bitmap(*block_stack_active(disk), request, err);
    block_disk_resume(disk);
    block_disk_unclaim(disk);
    return rc ? NULL : json_object();
}

static json_t *change_bitmap(struct vm *vm, const json_t *request, bool remove, struct err *err)
{
    struct block_disk *disk = claim(vm, request, err);
    if (!disk)
        return NULL;
    block_disk_pause(disk);
    struct block_bitmap **list = &(*block_stack_active(disk))->bitmaps;
    const char *name = text(request, "name");
    struct block_bitmap *bitmap = block_bitmap_find(*list, name);
    if (!bitmap)
        err_set(err, ERR_NOT_FOUND, "there is no bitmap '%s'", name);
    else if (!remove && bitmap->inconsistent)
        err_set(err, ERR_INPUT, "bitmap '%s' was not saved; it can only be removed", name);
    else if (!remove)
        block_bitmap_clear(bitmap, 0, bitmap->size);
    bool done = bitmap && (remove || !bitmap->inconsistent);
    if (done && remove) {
        block_bitmap_remove(list, bitmap);
        block_bitmap_destroy(bitmap);
    }
    block_disk_resume(disk);
    block_disk_unclaim(disk);
    return done ? json_object() : NULL;
}

json_t *vm_do_bitmap_remove(struct vm *vm, const json_t *request, struct vm_passed *passed,
                            struct err *err)
{
    return change_bitmap(vm, request, true, err);
}

json_t *vm_do_bitmap_clear(struct vm *vm, const json_t *request, struct vm_passed *passed,
                           struct err *err)
{
    return change_bitmap(vm, request, false, err);
}
