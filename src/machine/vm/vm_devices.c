// SPDX-License-Identifier: Apache-2.0
#define LOG_MODULE "vm"
#include "machine/vm/vm_devices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "machine/vm/vm_chips.h"
#include "machine/vm/vm_control.h"
#include "os/file.h"

#define IO_POOL_THREADS 4
#define RNG_SEED        1 // of deterministic machines

static int start_io(struct vm *vm, struct vm_devices *devices, struct err *err)
{
    devices->environment = (struct virtio_environment){.memory = vm->memory, .devices = &devices->list};
    if (!vm->config->deterministic) {
        if (!(devices->io_loop = os_loop_create(err)))
            return -1;
        devices->io_thread = (struct os_loop_thread){.loop = devices->io_loop};
        if (os_loop_thread_start(&devices->io_thread, "io", err))
            return -1;
        devices->io_running = true;
        devices->environment.loop = devices->io_loop;
    }
    devices->pool = block_pool_create(IO_POOL_THREADS, err);
    return devices->pool ? 0 : -1;
}

static int create_host(struct vm *vm, struct vm_devices *devices, struct err *err)
{
    const struct pci_host_params params = {
        .ports = vm->ports,
        .mmio = vm->mmio,
        .irqs = &vm->irq,
        .devices = &devices->list,
        .reset_control = acpi_pm_reset_control,
        .reset_context = vm->chips->acpi_pm,
        .raise_gpe = acpi_pm_raise_gpe,
        .gpe_context = vm->chips->acpi_pm,
    };
    devices->host = pci_host_create(&params, err);
    return devices->host ? 0 : -1;
}

static struct pci_function *function_of(struct virtio_device *device)
{
    return &device->pci;
}

// ---- Disks.

static void destroy_disk(struct vm_disk *disk)
{
    struct vm_disk **link = &disk->vm->devices->disks;
    while (*link && *link != disk)
        link = &(*link)->next;
    if (*link)
        *link = disk->next;
    if (disk->blk) {
        virtio_device_quiesce(virtio_blk_device(disk->blk));
        virtio_blk_destroy(disk->blk);
    }
    int result = block_disk_close(disk->disk);
    if (result)
        log_error("disk %s: its last writes could not be made durable: %s", disk->id, strerror(-result));
    free(disk);
}

static struct block_disk *open_disk(struct vm *vm, struct vm_disk_config *config, struct err *err)
{
    struct block_image chain[1 + 64] = {{.fd = config->fd, .format = config->format, .name = config->name}};
    for (unsigned i = 0; i < config->backing_count; i++)
        chain[1 + i] = (struct block_image){
            .fd = config->backing[i].fd, .format = config->backing[i].format, .name = config->backing[i].name};
    const struct block_options options = {
        .chain = chain,
        .chain_length = 1 + config->backing_count,
        .pool = vm->devices->pool,
        .read_only = config->readonly,
    };
    config->fd = -1; // the disk's now
    return block_disk_open(&options, err);
}

static struct vm_disk *create_disk(struct vm *vm, struct vm_disk_config *config, struct err *err)
{
    struct vm_disk *disk = calloc(1, sizeof(*disk));
    if (!disk) {
        err_set(err, ERR_LIMIT, "out of memory");
        return NULL;
    }
    disk->vm = vm;
    snprintf(disk->id, sizeof(disk->id), "%s", config->id);
    disk->disk = open_disk(vm, config, err);
    if (!disk->disk) {
        free(disk);
        err_wrap(err, "disk \"%s\"", config->name);
        return NULL;
    }
    const struct virtio_blk_params params = {
        .name = disk->id, .disk = disk->disk, .serial = *config->serial ? config->serial : NULL, .queues = config->queues};
    disk->blk = virtio_blk_create(&vm->devices->environment, &params, err);
    if (!disk->blk) {
        destroy_disk(disk);
        return NULL;
    }
    disk->next = vm->devices->disks;
    vm->devices->disks = disk;
    return disk;
}

static int add_disks(struct vm *vm, struct err *err)
{
    for (unsigned i = 0; i < vm->config->disk_count; i++) {
        struct vm_disk_config config = vm->config->disks[i];
        if (config.id == vm->config->disks[i].default_id)
            config.id = config.default_id;
        struct vm_disk *disk = create_disk(vm, &config, err);
        if (!disk || pci_host_plug(vm->devices->host, function_of(virtio_blk_device(disk->blk)), -1, err))
            return -1;
    }
    return 0;
}

static int add_rng(struct vm *vm, struct err *err)
{
    struct vm_devices *devices = vm->devices;
    const struct virtio_rng_params params = {.name = "rng0", .seed = vm->config->deterministic ? RNG_SEED : 0};
    devices->rng = virtio_rng_create(&devices->environment, &params, err);
    return devices->rng ? pci_host_plug(devices->host, function_of(virtio_rng_device(devices->rng)), -1, err) : -1;
}

int vm_devices_create(struct vm *vm, struct err *err)
{
    struct vm_devices *devices = vm->devices = calloc(1, sizeof(*devices));
    if (!devices)
        return err_set(err, ERR_LIMIT, "out of memory");
    if (create_host(vm, devices, err) || start_io(vm, devices, err) || add_disks(vm, err) || add_rng(vm, err))
        return -1;
    return 0;
}

void vm_devices_destroy(struct vm *vm)
{
    struct vm_devices *devices = vm->devices;
    if (!devices)
        return;
    while (devices->disks) {
        struct vm_disk *disk = devices->disks;
        if (disk->blk)
            pci_host_unplug(function_of(virtio_blk_device(disk->blk)));
        destroy_disk(disk);
    }
    if (devices->rng) {
        pci_host_unplug(function_of(virtio_rng_device(devices->rng)));
        virtio_device_quiesce(virtio_rng_device(devices->rng));
        virtio_rng_destroy(devices->rng);
    }
    pci_host_destroy(devices->host);
    if (devices->io_running)
        os_loop_thread_stop(&devices->io_thread);
    os_loop_destroy(devices->io_loop);
    block_pool_destroy(devices->pool);
    free(devices);
    vm->devices = NULL;
}

void vm_devices_reset(struct vm *vm)
{
    for (struct device *device = vm->devices->list; device; device = device->next)
        if (device->ops->reset)
            device->ops->reset(device->self);
}

// Kernels that are started without firmware find their BARs assigned.
void vm_devices_assign(struct vm *vm)
{
    pci_host_assign(vm->devices->host);
}

static void for_each_virtio(struct vm *vm, void (*act)(struct virtio_device *device))
{
    for (struct vm_disk *disk = vm->devices->disks; disk; disk = disk->next)
        act(virtio_blk_device(disk->blk));
    act(virtio_rng_device(vm->devices->rng));
}

void vm_devices_pause(struct vm *vm)
{
    for_each_virtio(vm, virtio_device_pause);
}

void vm_devices_resume(struct vm *vm)
{
    for_each_virtio(vm, virtio_device_resume);
}

// ---- Plug and unplug.

// A descriptor by its number among those that came with the request.
static int take_passed(struct vm_passed *passed, json_t *object, struct err *err)
{
    const json_t *number = json_object_get(object, "fd");
    json_int_t index = number ? json_integer_value(number) : -1;
    if (index < 0 || (size_t)index >= *passed->count || passed->fds[index] < 0)
        return err_set(err, ERR_USAGE, "fd: no descriptor came beside the request under this number");
    int fd = passed->fds[index];
    passed->fds[index] = -1;
    json_object_set_new(object, "fd", json_integer(fd));
    return 0;
}

static struct vm_disk *find_disk(struct vm *vm, const char *id)
{
    struct vm_disk *disk = vm->devices->disks;
    while (disk && strcmp(disk->id, id))
        disk = disk->next;
    return disk;
}

static json_t *plug_disk(struct vm *vm, json_t *json, struct vm_passed *passed, struct err *err)
{
    struct vm_disk_config config = {.fd = -1};
    const char *id = json_string_value(json_object_get(json, "id"));
    if (!id) {
        err_set(err, ERR_USAGE, "disk.id: is missing");
        return NULL;
    }
    if (find_disk(vm, id)) {
        err_set(err, ERR_EXISTS, "there is a device %s already", id);
        return NULL;
    }
    if (take_passed(passed, json, err) || vm_config_parse_disk(&config, json, 0, vm->config->cpus, err))
        return NULL;
    struct vm_disk *disk = create_disk(vm, &config, err);
    free(config.backing);
    if (!disk)
        return NULL;
    if (pci_hotplug_plug(vm->devices->host, function_of(virtio_blk_device(disk->blk)), -1, err)) {
        destroy_disk(disk);
        return NULL;
    }
    return json_pack("{s:s}", "id", disk->id);
}

json_t *vm_do_plug(struct vm *vm, const json_t *request, struct vm_passed *passed, struct err *err)
{
    json_t *disk = json_object_get(request, "disk");
    if (disk)
        return plug_disk(vm, disk, passed, err);
    err_set(err, ERR_UNSUPPORTED, "plug: only disks can be plugged");
    return NULL;
}

static void on_main_loop_ejected(void *context)
{
    struct vm_disk *disk = context;
    struct vm *vm = disk->vm;
    json_t *members = json_pack("{s:s}", "id", disk->id);
    destroy_disk(disk);
    vm_control_event(vm, "unplugged", members);
}

static void on_ejected(void *context, struct pci_function *function)
{
    struct vm_disk *disk = context;
    (void)function;
    disk->ejected = (struct os_loop_post){.function = on_main_loop_ejected, .context = disk};
    os_loop_post(disk->vm->loop, &disk->ejected);
}

json_t *vm_do_unplug(struct vm *vm, const json_t *request, struct vm_passed *passed, struct err *err)
{
    const char *id = json_string_value(json_object_get(request, "id"));
    struct vm_disk *disk = find_disk(vm, id);
    (void)passed;
    if (!disk) {
        err_set(err, ERR_NOT_FOUND, "there is no device %s", id);
        return NULL;
    }
    if (pci_hotplug_unplug(function_of(virtio_blk_device(disk->blk)), on_ejected, disk, err))
        return NULL;
    return json_object();
}

json_t *vm_do_balloon(struct vm *vm, const json_t *request, struct vm_passed *passed, struct err *err)
{
    err_set(err, ERR_UNSUPPORTED, "this machine has no balloon");
    return NULL;
}
