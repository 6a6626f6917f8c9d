// SPDX-License-Identifier: Apache-2.0
//
// Devices that every machine has: entropy and the balloon.
#include "machine/virtio/virtio_balloon.h"
#include "machine/virtio/virtio_rng.h"
#include "machine/vm/vm_control.h"
#include "machine/vm/vm_devices.h"

#define DETERMINISTIC_SEED 1

static void destroy_rng(struct vm_device *device)
{
    virtio_rng_destroy(device->kind);
}

static void destroy_balloon(struct vm_device *device)
{
    struct vm_devices *devices = device->vm->devices;
    devices->balloon = NULL;
    virtio_balloon_destroy(device->kind);
    os_loop_post_cancel(device->vm->loop, &devices->balloon_changed);
}

static const struct vm_device_ops rng_ops = {.kind = "rng", .destroy = destroy_rng};
static const struct vm_device_ops balloon_ops = {.kind = "balloon", .destroy = destroy_balloon};

static int add_rng(struct vm *vm, struct err *err)
{
    struct vm_device *device = vm_device_create(vm, &rng_ops, "rng", err);
    if (!device)
        return -1;
    const struct virtio_rng_params params = {
        .name = device->id, .seed = vm->config->deterministic ? DETERMINISTIC_SEED : 0};
    device->kind = virtio_rng_create(&vm->devices->environment, &params, err);
    if (!device->kind) {
        vm_device_destroy(device);
        return -1;
    }
    device->virtio = virtio_rng_device(device->kind);
    return vm_device_plug(device, err);
}

// ---- The balloon. What the guest does to it is told on other threads.

static void balloon_changed(void *context)
{
    struct vm *vm = context;
    os_loop_post(vm->loop, &vm->devices->balloon_changed);
}

static json_int_t memory_left(const struct vm *vm, uint64_t taken)
{
    uint64_t all = vm->config->memory_bytes;
    return (json_int_t)(taken < all ? all - taken : 0); // the guest may claim more than there is
}

// On the main thread.
static void tell_balloon(void *context)
{
    struct vm *vm = context;
    struct vm_devices *devices = vm->devices;
    struct virtio_balloon_stats stats;
    uint64_t taken = virtio_balloon_taken(devices->balloon);
    virtio_balloon_stats(devices->balloon, &stats);
    if (taken != devices->balloon_taken)
        vm_control_event(vm, "balloon", json_pack("{s:I}", "actual", memory_left(vm, taken)));
    bool told = stats.updates != devices->balloon_updates;
    devices->balloon_taken = taken;
    devices->balloon_updates = stats.updates;
    if (told || !virtio_balloon_tells(devices->balloon))
        vm_control_memory_told(vm, told);
}

bool vm_balloon_ask(struct vm *vm)
{
    return vm->state == VM_RUNNING && virtio_balloon_request_stats(vm->devices->balloon);
}

json_t *vm_balloon_statistics(struct vm *vm)
{
    struct virtio_balloon *balloon = vm->devices->balloon;
    struct virtio_balloon_stats stats;
    virtio_balloon_stats(balloon, &stats);
    json_t *all =
        json_pack("{s:I, s:I, s:I}", "target", memory_left(vm, virtio_balloon_target(balloon)),
                  "actual", memory_left(vm, virtio_balloon_taken(balloon)), "reported",
                  (json_int_t)stats.reported_bytes);
    for (unsigned i = 0; i < BALLOON_STAT_COUNT; i++)
        if (stats.values[i] <= INT64_MAX)
            json_object_set_new(all, virtio_balloon_stat_names[i],
                                json_integer((json_int_t)stats.values[i]));
    return all;
}

static int add_balloon(struct vm *vm, struct err *err)
{
    struct vm_device *device = vm_device_create(vm, &balloon_ops, "balloon", err);
    if (!device)
        return -1;
    vm->devices->balloon_changed = (struct os_loop_post){.function = tell_balloon, .context = vm};
    const struct virtio_balloon_params params = {
        .name = device->id, .changed = balloon_changed, .context = vm};
    device->kind = vm->devices->balloon =
        virtio_balloon_create(&vm->devices->environment, &params, err);
    if (!device->kind) {
        vm_device_destroy(device);
        return -1;
    }
    device->virtio = virtio_balloon_device(device->kind);
    return vm_device_plug(device, err);
}

int vm_add_helpers(struct vm *vm, struct err *err)
{
    return add_rng(vm, err) || add_balloon(vm, err) ? -1 : 0;
}

json_t *vm_do_balloon(struct vm *vm, const json_t *request, struct vm_passed *passed,
                      struct err *err)
{
    uint64_t keep = (uint64_t)json_integer_value(json_object_get(request, "memory"));
    uint64_t all = vm->config->memory_bytes;
    (void)passed;
    if (keep > all) {
        err_set(err, ERR_USAGE, "memory: the machine has %llu bytes in all",
                (unsigned long long)all);
        return NULL;
    }
    virtio_balloon_set_target(vm->devices->balloon, all - keep);
    return json_pack("{s:I}", "actual",
                     memory_left(vm, virtio_balloon_taken(vm->devices->balloon)));
}
