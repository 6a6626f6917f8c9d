// SPDX-License-Identifier: Apache-2.0
//
// PCI and what is plugged into it.
//
// Disks and network cards come from the configuration or over the control protocol, have an id, and may go while the machine runs; entropy
// and balloon are always there. All virtio devices share one I/O thread. Devices are made and destroyed
// on the main thread.
#ifndef WIRT_MACHINE_VM_VM_DEVICES_H
#define WIRT_MACHINE_VM_VM_DEVICES_H

#include "machine/block/block.h"
#include "machine/pci/hotplug.h"
#include "machine/virtio/virtio_device.h"
#include "machine/vm/vm_internal.h"
#include "os/loop.h"

struct vm_device;

struct vm_device_ops {
    const char *kind; // "disk", "net", …
    // The virtio device is unplugged and quiet: free it and what stands behind it.
    void (*destroy)(struct vm_device *device);
    // Members for `statistics`; NULL: none.
    json_t *(*statistics)(struct vm_device *device);
    // Requests held back because of an error: try again, or let them fail and hold none back until the next retry. NULL: there are none.
    void (*retry)(struct vm_device *device);
    void (*give_up)(struct vm_device *device);
};

struct vm_device {
    const struct vm_device_ops *ops;
    struct vm *vm;
    char id[32];
    struct virtio_device *virtio; // borrowed from the kind
    void *kind;                   // struct virtio_blk …
    void *behind;                 // struct block_disk …; NULL: nothing
    bool removable;
    bool stops;                  // the machine, when the host's storage fails
    struct os_loop_post ejected; // to the main loop: the guest has let go
    struct os_loop_post stopped; // to the main loop: a request is held back because of an error
    _Atomic int stop_error;      // a positive errno
    _Atomic unsigned stop_op;    // enum block_op
    struct vm_device *next;
};

struct vm_devices {
    struct pci_host *host;
    struct os_loop *io_loop; // NULL in a deterministic machine
    struct os_loop_thread io_thread;
    bool io_running;
    struct virtio_environment environment;
    struct block_pool *pool;
    struct block_queue
        *disk_queue; // completions of all disks, on the I/O loop; NULL in a deterministic machine
    struct os_loop_watch disk_watch;
    struct vm_device *first;
    struct virtio_balloon *balloon;          // one of the devices
    struct os_loop_post balloon_changed;     // to the main loop
    uint64_t balloon_taken, balloon_updates; // as told last; the main loop's
    struct device *saved;                    // sections of all functions
};

// A new device with this id, not yet in the list. NULL and *err when the id is taken.
struct vm_device *vm_device_create(struct vm *vm, const struct vm_device_ops *ops, const char *id,
                                   struct err *err);
// Into the list and a PCI slot; hot when the machine has run already. Destroys it on failure.
int vm_device_plug(struct vm_device *device, struct err *err);
void vm_device_destroy(struct vm_device *device); // out of the list; its function was unplugged
struct vm_device *vm_device_find(struct vm *vm, const char *id);

// vm_disks.c, vm_nets.c, vm_helpers.c. They take over the descriptors in the configuration, whatever they return.
int vm_add_disk(struct vm *vm, const struct vm_disk_config *config, struct err *err);
int vm_add_net(struct vm *vm, const struct vm_net_config *config, struct err *err);
int vm_add_helpers(struct vm *vm, struct err *err);
int vm_add_ports(struct vm *vm, struct err *err); // vm_ports.c

// vm_remote.c: tell what the process behind a remote disk tells on `fd`, which it owns from here on.
int vm_remote_watch(struct vm *vm, const char *id, int fd, struct err *err);
// This disk's, or all without an id, are told that it ends: a storage that is lost is not waited for much longer.
void vm_remotes_end(struct vm *vm, const char *id);
void vm_remotes_destroy(struct vm *vm);

// First on each I/O thread and each job's: its sandbox.
void vm_io_thread_begin(void);
// vm_jobs.c: cancel the device's jobs and forget them; before its disk is closed.
void vm_jobs_drop(struct vm_device *device);

#endif
