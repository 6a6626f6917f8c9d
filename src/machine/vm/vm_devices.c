// SPDX-License-Identifier: Apache-2.0
#define LOG_MODULE "vm"
#include "machine/vm/vm_devices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "machine/vm/vm_chips.h"
#include "os/sandbox.h"

#define IO_POOL_THREADS 4

// ---- One device.

struct vm_device *vm_device_find(struct vm *vm, const char *id)
{
    struct vm_device *device = vm->devices->first;
    while (device && strcmp(device->id, id))
        device = device->next;
    return device;
}

struct vm_device *vm_device_create(struct vm *vm, const struct vm_device_ops *ops, const char *id,
                                   struct err *err)
{
    if (vm_device_find(vm, id)) {
        err_set(err, ERR_EXISTS, "there is a device %s already", id);
        return NULL;
    }
    struct vm_device *device = calloc(1, sizeof(*device));
    if (!device) {
        err_set(err, ERR_LIMIT, "out of memory");
        return NULL;
    }
    device->ops = ops;
    device->vm = vm;
    snprintf(device->id, sizeof(device->id), "%s", id);
    return device;
}

int vm_device_plug(struct vm_device *device, struct err *err)
{
    struct vm *vm = device->vm;
    struct vm_devices *devices = vm->devices;
    struct vm_device **last = &devices->first;
    while (*last)
        last = &(*last)->next;
    *last = device;
    bool hot = vm->state != VM_PREPARED;
    int result = hot ? pci_hotplug_plug(devices->host, &device->virtio->pci, -1, err)
                     : pci_host_plug(devices->host, &device->virtio->pci, -1, err);
    if (result) {
        vm_device_destroy(device);
        return err_wrap(err, "%s", device->id);
    }
    if (vm->state == VM_PAUSED)
        virtio_device_pause(device->virtio); // as all others are
    return 0;
}

void vm_device_destroy(struct vm_device *device)
{
    struct vm_device **link = &device->vm->devices->first;
    while (*link && *link != device)
        link = &(*link)->next;
    if (*link)
        *link = device->next;
    if (device->ops->give_up)
        device->ops->give_up(device);
    vm_remotes_end(device->vm, device->id);
    if (device->virtio)
        virtio_device_quiesce(device->virtio);
    device->ops->destroy(device);
    free(device);
}

// ---- All of them.

// Without its filter a thread must not run.
void vm_io_thread_begin(void)
{
    struct err err;
    if (os_sandbox_thread(OS_SANDBOX_IO, &err)) {
        log_error("%s", err.text);
        abort();
    }
}

static void begin_io_loop(void *context)
{
    (void)context;
    vm_io_thread_begin();
}

static void disks_completed(void *context, unsigned events)
{
    (void)events;
    block_queue_run(((struct vm_devices *)context)->disk_queue);
}

static int start_disk_queue(struct vm_devices *devices, struct err *err)
{
    if (!(devices->disk_queue = block_queue_create_with_ring(err)))
        return -1;
    devices->disk_watch = (struct os_loop_watch){.ready = disks_completed, .context = devices};
    // Nobody runs the loop yet.
    return os_loop_watch(devices->io_loop, &devices->disk_watch,
                         block_queue_fd(devices->disk_queue), OS_LOOP_READ, err);
}

static int start_io(struct vm *vm, struct vm_devices *devices, struct err *err)
{
    devices->environment = (struct virtio_environment){
        .memory = vm->memory, .devices = &devices->saved, .doorbells = bus_has_doorbells(vm->mmio)};
    if (!vm->config->deterministic) {
        if (!(devices->io_loop = os_loop_create(err)) || start_disk_queue(devices, err))
            return -1;
        devices->io_thread =
            (struct os_loop_thread){.loop = devices->io_loop, .begin = begin_io_loop};
        if (os_loop_thread_start(&devices->io_thread, "io", err))
            return -1;
        devices->io_running = true;
        devices->environment.loop = devices->io_loop;
    }
    devices->pool = block_pool_create_with(IO_POOL_THREADS, vm_io_thread_begin, err);
    return devices->pool ? 0 : -1;
}

static int create_host(struct vm *vm, struct vm_devices *devices, struct err *err)
{
    const struct pci_host_params params = {
        .ports = vm->ports,
        .mmio = vm->mmio,
        .irqs = &vm->irq,
        .devices = &devices->saved,
        .reset_control = acpi_pm_reset_control,
        .reset_context = vm->chips->acpi_pm,
        .raise_gpe = acpi_pm_raise_gpe,
        .gpe_context = vm->chips->acpi_pm,
    };
    devices->host = pci_host_create(&params, err);
    return devices->host ? 0 : -1;
}

static int add_configured(struct vm *vm, struct err *err)
{
    for (unsigned i = 0; i < vm->config->disk_count; i++) {
        const struct vm_disk_config *disk = &vm->config->disks[i];
        if (vm_add_disk(vm, disk, err))
            return -1;
        if (disk->status_fd >= 0 &&
            vm_remote_watch(vm, disk->id ? disk->id : disk->default_id, disk->status_fd, err))
            return -1;
    }
    for (unsigned i = 0; i < vm->config->net_count; i++)
        if (vm_add_net(vm, &vm->config->nets[i], err))
            return -1;
    return vm_add_ports(vm, err) || vm_add_helpers(vm, err) ? -1 : 0;
}

int vm_devices_create(struct vm *vm, struct err *err)
{
    struct vm_devices *devices = vm->devices = calloc(1, sizeof(*devices));
    if (!devices)
        return err_set(err, ERR_LIMIT, "out of memory");
    if (create_host(vm, devices, err) || start_io(vm, devices, err) || add_configured(vm, err))
        return -1;
    return 0;
}

void vm_devices_destroy(struct vm *vm)
{
    struct vm_devices *devices = vm->devices;
    if (!devices)
        return;
    while (devices->first) {
        // vm_device_destroy() takes it off the list: what clang-tidy calls used after free is the next one.
        pci_host_unplug(&devices->first->virtio->pci); // NOLINT(clang-analyzer-unix.Malloc)
        vm_device_destroy(devices->first);
    }
    pci_host_destroy(devices->host);
    if (devices->io_running)
        os_loop_thread_stop(&devices->io_thread);
    os_loop_destroy(devices->io_loop);
    block_queue_destroy(devices->disk_queue);
    block_pool_destroy(devices->pool);
    vm_remotes_destroy(vm);
    free(devices);
    vm->devices = NULL;
}

void vm_devices_reset(struct vm *vm)
{
    for (struct vm_device *device = vm->devices->first; device; device = device->next)
        if (device->ops->give_up)
            device->ops->give_up(device);
    for (struct device *device = vm->devices->saved; device; device = device->next)
        if (device->ops->reset)
            device->ops->reset(device->self);
}

void vm_devices_assign(struct vm *vm)
{
    pci_host_assign(vm->devices->host);
}

void vm_devices_pause(struct vm *vm)
{
    for (struct vm_device *device = vm->devices->first; device; device = device->next)
        virtio_device_pause(device->virtio);
}

void vm_devices_resume(struct vm *vm)
{
    for (struct vm_device *device = vm->devices->first; device; device = device->next)
        virtio_device_resume(device->virtio);
    for (struct vm_device *device = vm->devices->first; device; device = device->next)
        if (device->ops->retry)
            device->ops->retry(device);
}

json_t *vm_devices_statistics(struct vm *vm, const char *kind)
{
    json_t *list = json_array();
    for (struct vm_device *device = vm->devices->first; device; device = device->next) {
        if (strcmp(device->ops->kind, kind) || !device->ops->statistics)
            continue;
        json_t *members = device->ops->statistics(device);
        json_object_set_new(members, "id", json_string(device->id));
        json_array_append_new(list, members);
    }
    return list;
}
