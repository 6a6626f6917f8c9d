// SPDX-License-Identifier: Apache-2.0
#define LOG_MODULE "vm"
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "machine/virtio/virtio_blk.h"
#include "machine/vm/vm_devices.h"

#define MAX_BACKING 64

static void destroy_disk(struct vm_device *device)
{
    vm_jobs_drop(device);
    virtio_blk_destroy(device->kind);
    int result = block_disk_close(device->behind);
    if (result)
        log_error("disk %s: its last writes could not be made durable: %s", device->id,
                  strerror(-result));
}

static const struct vm_device_ops disk_ops = {.kind = "disk", .destroy = destroy_disk};

// The descriptors are the disk's from here on.
static struct block_disk *open_disk(struct vm *vm, const struct vm_disk_config *config,
                                    struct err *err)
{
    struct block_image chain[1 + MAX_BACKING] = {
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
        .log_fd = config->log.fd,
    };
    return block_disk_open(&options, err);
}

int vm_add_disk(struct vm *vm, const struct vm_disk_config *config, struct err *err)
{
    struct block_disk *disk = open_disk(vm, config, err);
    if (!disk)
        return err_wrap(err, "--disk %s", config->name);
    struct vm_device *device =
        vm_device_create(vm, &disk_ops, config->id ? config->id : config->default_id, err);
    if (!device) {
        block_disk_close(disk);
        return -1;
    }
    const struct virtio_blk_params params = {.name = device->id,
                                             .disk = disk,
                                             .serial = *config->serial ? config->serial : NULL,
                                             .queues = config->queues};
    device->removable = true;
    device->behind = disk;
    device->kind = virtio_blk_create(&vm->devices->environment, &params, err);
    if (!device->kind) {
        vm_device_destroy(device);
        return err_wrap(err, "--disk %s", config->name);
    }
    device->virtio = virtio_blk_device(device->kind);
    return vm_device_plug(device, err);
}
