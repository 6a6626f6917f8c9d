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
    device->vm->devices->balloon = NULL;
    virtio_balloon_destroy(device->kind);
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

static int add_balloon(struct vm *vm, struct err *err)
{
    struct vm_device *device = vm_device_create(vm, &balloon_ops, "balloon", err);
    if (!device)
        return -1;
    const struct virtio_balloon_params params = {.name = device->id};
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
                     (json_int_t)(all - virtio_balloon_taken(vm->devices->balloon)));
}
