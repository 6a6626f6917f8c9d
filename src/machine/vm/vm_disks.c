// SPDX-License-Identifier: Apache-2.0
#define LOG_MODULE "vm"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "machine/virtio/virtio_blk.h"
#include "machine/vm/vm_control.h"
#include "machine/vm/vm_devices.h"
#include "os/file.h"

static void destroy_disk(struct vm_device *device)
{
    vm_jobs_drop(device);
    if (device->behind)
        block_disk_drain(device->behind); // and nobody is in on_stop() any more
    virtio_blk_destroy(device->kind);
    os_loop_post_cancel(device->vm->loop, &device->stopped);
    int result = block_disk_close(device->behind);
    if (result)
        log_error("disk %s: its last writes could not be made durable: %s", device->id,
                  strerror(-result));
}

// ---- Numbers

static json_t *histogram(const uint64_t *buckets)
{
    json_t *found = json_object();
    char bound[24];
    for (unsigned i = 0; i < BLOCK_LATENCY_BUCKETS; i++) {
        snprintf(bound, sizeof(bound), "%llu", 1ull << i);
        if (buckets[i])
            json_object_set_new(found, bound, json_integer((json_int_t)buckets[i]));
    }
    return found;
}

static json_t *disk_statistics(struct vm_device *device)
{
    struct block_stats stats;
    block_disk_stats(device->behind, &stats);
    json_t *members = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I}", "size", (json_int_t)block_disk_size(device->behind),
        "in_flight", (json_int_t)stats.in_flight, "held", (json_int_t)stats.held, "by_ring",
        (json_int_t)stats.by_ring, "delayed", (json_int_t)stats.delayed, "delayed_ns",
        (json_int_t)stats.delayed_ns);
    for (enum block_op op = 0; op < BLOCK_OP_COUNT; op++) {
        const struct block_op_stats *s = &stats.op[op];
        json_object_set_new(
            members, block_op_name(op),
            json_pack("{s:I, s:I, s:I, s:I, s:o}", "requests", (json_int_t)s->requests, "bytes",
                      (json_int_t)s->bytes, "errors", (json_int_t)s->errors, "total_ns",
                      (json_int_t)s->total_ns, "latency_us", histogram(s->latency)));
    }
    return members;
}

// ---- Errors of the host's storage, on a disk that stops the machine for them

// On the main thread. The request waits for vm_resume().
static void stopped(void *context)
{
    struct vm_device *device = context;
    const char *op = block_op_name((enum block_op)device->stop_op);
    const char *reason = strerror(device->stop_error);
    log_error("disk %s: %s failed: %s; the machine is paused: mend it and resume, or stop",
              device->id, op, reason);
    vm_pause(device->vm);
    vm_control_event(
        device->vm, "disk-error",
        json_pack("{s:s, s:s, s:s}", "id", device->id, "operation", op, "reason", reason));
}

// On the thread that met the error.
static void on_stop(void *user, enum block_op op, int error)
{
    struct vm_device *device = user;
    device->stop_op = op;
    device->stop_error = error;
    virtio_blk_stopped(device->kind);
    os_loop_post(device->vm->loop, &device->stopped);
}

static void retry(struct vm_device *device)
{
    if (!device->stops)
        return;
    block_disk_set_on_error(device->behind, BLOCK_ERROR_STOP);
    block_disk_retry(device->behind);
}

static void give_up(struct vm_device *device)
{
    if (!device->behind)
        return;
    block_disk_set_on_error(device->behind, BLOCK_ERROR_REPORT);
    block_disk_give_up(device->behind);
}

static const struct vm_device_ops disk_ops = {
    .kind = "disk",
    .destroy = destroy_disk,
    .statistics = disk_statistics,
    .retry = retry,
    .give_up = give_up,
};

// ---- Commands

static struct vm_device *find_disk(struct vm *vm, const json_t *request, struct err *err)
{
    const char *id = json_string_value(json_object_get(request, "device"));
    struct vm_device *device = vm_device_find(vm, id);
    if (device && device->ops == &disk_ops)
        return device;
    err_set(err, ERR_NOT_FOUND, "there is no disk %s", id);
    return NULL;
}

json_t *vm_do_disk_resize(struct vm *vm, const json_t *request, struct vm_passed *passed,
                          struct err *err)
{
    struct vm_device *device = find_disk(vm, request, err);
    uint64_t size = (uint64_t)json_integer_value(json_object_get(request, "size"));
    (void)passed;
    if (!device)
        return NULL;
    size = align_up(size, 512);
    if (size < block_disk_size(device->behind)) {
        err_set(err, ERR_USAGE,
                "size: disk %s has %llu bytes; a running machine's disk can only grow", device->id,
                (unsigned long long)block_disk_size(device->behind));
        return NULL;
    }
    if (block_disk_resize(device->behind, size, err))
        return NULL;
    virtio_blk_resized(device->kind);
    return json_pack("{s:I}", "size", (json_int_t)block_disk_size(device->behind));
}

static struct block_rate rate_of(const struct vm_disk_limits *limits)
{
    return (struct block_rate){.bytes_per_s = limits->bandwidth,
                               .requests_per_s = limits->iops,
                               .burst_bytes = limits->bandwidth_burst,
                               .burst_requests = limits->iops_burst};
}

json_t *vm_do_disk_limits(struct vm *vm, const json_t *request, struct vm_passed *passed,
                          struct err *err)
{
    struct vm_device *device = find_disk(vm, request, err);
    struct vm_disk_limits limits;
    (void)passed;
    if (!device)
        return NULL;
    vm_config_parse_limits(&limits, request);
    const struct block_rate rate = rate_of(&limits);
    block_disk_set_rate(device->behind, &rate);
    return json_object();
}

// ---- Making

// The descriptors are the disk's from here on.
static struct block_disk *open_disk(struct vm *vm, const struct vm_disk_config *config,
                                    struct vm_device *device, struct err *err)
{
    struct block_image chain[1 + VM_MAX_BACKING] = {
        {.fd = config->fd, .format = config->format, .name = config->name}};
    for (unsigned i = 0; i < config->backing_count; i++)
        chain[1 + i] = (struct block_image){.fd = config->backing[i].fd,
                                            .format = config->backing[i].format,
                                            .name = config->backing[i].name};
    const struct block_options options = {
        .chain = chain,
        .chain_length = 1 + config->backing_count,
        .pool = vm->devices->pool,
        .read_only = config->readonly,
        .rate = rate_of(&config->limits),
        .on_error = device->stops ? BLOCK_ERROR_STOP : BLOCK_ERROR_REPORT,
        .on_stop = on_stop,
        .user = device,
        .log_fd = config->log.fd,
    };
    return block_disk_open(&options, err);
}

static void close_images(const struct vm_disk_config *config)
{
    int fd = config->fd;
    os_file_close(&fd);
    for (unsigned i = 0; i < config->backing_count; i++) {
        fd = config->backing[i].fd;
        os_file_close(&fd);
    }
}

int vm_add_disk(struct vm *vm, const struct vm_disk_config *config, struct err *err)
{
    struct vm_device *device =
        vm_device_create(vm, &disk_ops, config->id ? config->id : config->default_id, err);
    if (!device) {
        close_images(config);
        return -1;
    }
    device->removable = true;
    // A deterministic machine waits for each request where it was made: there is nobody left who could resume.
    device->stops = config->stop_on_error && !vm->config->deterministic;
    device->stopped = (struct os_loop_post){.function = stopped, .context = device};
    device->behind = open_disk(vm, config, device, err);
    const struct virtio_blk_params params = {.name = device->id,
                                             .disk = device->behind,
                                             .serial = *config->serial ? config->serial : NULL,
                                             .queues = config->queues,
                                             .completions = vm->devices->disk_queue};
    if (device->behind)
        device->kind = virtio_blk_create(&vm->devices->environment, &params, err);
    if (!device->kind) {
        vm_device_destroy(device);
        return err_wrap(err, "--disk %s", config->name);
    }
    device->virtio = virtio_blk_device(device->kind);
    return vm_device_plug(device, err);
}
