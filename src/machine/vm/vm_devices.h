// SPDX-License-Identifier: Apache-2.0
//
// PCI and what is plugged into it: disks and network cards as the configuration and the control protocol name them.
//
// All virtio devices share one I/O thread. A device that comes or goes while the machine runs is made and destroyed on the main thread.
#ifndef WIRT_MACHINE_VM_VM_DEVICES_H
#define WIRT_MACHINE_VM_VM_DEVICES_H

#include "machine/block/block.h"
#include "machine/pci/hotplug.h"
#include "machine/virtio/virtio_blk.h"
#include "machine/virtio/virtio_rng.h"
#include "machine/virtio/virtio_device.h"
#include "machine/vm/vm_internal.h"
#include "os/loop.h"

struct vm_disk {
    struct vm *vm;
    char id[32];
    struct block_disk *disk;
    struct virtio_blk *blk;
    struct os_loop_post ejected; // on the main loop: destroy it
    struct vm_disk *next;
};

struct vm_devices {
    struct pci_host *host;
    struct os_loop *io_loop; // NULL in a deterministic machine
    struct os_loop_thread io_thread;
    bool io_running;
    struct virtio_environment environment;
    struct block_pool *pool;
    struct virtio_rng *rng;
    struct vm_disk *disks;
    struct device *list; // saved sections of PCI functions
};

#endif
