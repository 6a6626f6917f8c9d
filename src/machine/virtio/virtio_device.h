// SPDX-License-Identifier: Apache-2.0
//
// A virtio 1.2 device on PCI: what all kinds have in common (status, features, queues, interrupts), seen by the kinds.
//
// A kind (virtio_blk.c, ...) embeds struct virtio_device, fills in struct virtio_setup, and handles its queues. The
// registers that the driver reaches through the BAR are virtio_pci.c's business, rings are virtqueue.h's.
//
// Threads. A device's queues are processed on the loop of an I/O thread: a notification by a vCPU only posts to it,
// so that a vCPU never waits for a disk. Without a loop (deterministic machines) they are processed by the notifying
// vCPU itself. The device's lock covers all its state; vCPUs take it for registers, the loop for each round of a
// queue. `process`, `config_write`, `started` and `stop` are called with it held.
//
// Reset. A driver that writes 0 to the status must not have its memory touched afterwards: the device is told to stop,
// and while it still has something in flight (it says so by its count) the status does not read 0 yet.
//
// Order of a kind's making: virtio_device_init(), then pci_host_plug() of &device->pci by whoever builds the machine;
// of its end: unplug, virtio_device_quiesce(), X_destroy().
#ifndef WIRT_MACHINE_VIRTIO_VIRTIO_DEVICE_H
#define WIRT_MACHINE_VIRTIO_VIRTIO_DEVICE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "machine/pci/msix.h"
#include "machine/pci/pci.h"
#include "machine/virtio/virtqueue.h"
#include "os/loop.h"

struct virtio_device;

#define VIRTIO_QUEUES_MAX 34u

enum virtio_kind {
    VIRTIO_NET = 1,
    VIRTIO_BLK = 2,
    VIRTIO_CONSOLE = 3,
    VIRTIO_RNG = 4,
    VIRTIO_BALLOON = 5,
};

// Feature bits of all kinds. A kind need not name them: they are always offered.
#define VIRTIO_F_INDIRECT_DESC BIT(28)
#define VIRTIO_F_EVENT_IDX     BIT(29)
#define VIRTIO_F_VERSION_1     BIT(32)

enum virtio_status {
    VIRTIO_STATUS_ACKNOWLEDGE = 1,
    VIRTIO_STATUS_DRIVER = 2,
    VIRTIO_STATUS_DRIVER_OK = 4,
    VIRTIO_STATUS_FEATURES_OK = 8,
    VIRTIO_STATUS_NEEDS_RESET = 64,
    VIRTIO_STATUS_FAILED = 128,
};

struct virtio_ops {
    // The driver notified queue `index`, or virtio_device_poke() did. Pop what is there, virtio_queue_interrupt() at the
    // end. At most a ring's worth in one round: return true to be called again.
    bool (*process)(void *kind, unsigned index);
    // After a round of process(), without the lock: tell others what came of it. NULL: nothing.
    void (*processed)(void *kind, unsigned index);
    // The driver wrote [offset, offset + length) of the configuration, within its length. NULL: read-only.
    void (*config_write)(void *kind, unsigned offset, const void *bytes, unsigned length);
    // DRIVER_OK: features are final. NULL: nothing.
    void (*started)(void *kind);
    // Requests in flight that will not end before whoever controls the machine says so: no pause waits for them. NULL: none.
    unsigned (*held)(void *kind);
    // Reset: forget the driver; what is in flight will still end through virtio_device_done(). NULL: nothing.
    void (*stop)(void *kind);
};

// How all devices are joined to the machine. Borrowed pointers that live as long as the devices.
struct virtio_environment {
    struct guest_memory *memory;
    struct os_loop *loop;    // the I/O thread's, or NULL: inline
    struct device **devices; // the machine's list
    bool doorbells; // the backend can raise an event counter where the driver notifies a queue
};

struct virtio_setup {
    const char *name; // of the instance; copied
    enum virtio_kind kind;
    uint32_t class_code;
    const struct virtio_ops *ops;
    void *self; // for ops
    uint64_t features;
    unsigned queue_count;
    const uint16_t *queue_sizes; // one each, powers of two
    void *config; // the device-specific configuration, little-endian, in the kind's struct
    unsigned config_length;
    const struct device_ops
        *device_ops; // of `self`, saved as a section of its own; NULL: nothing of its own
};

#define VIRTIO_NAME_BYTES 48

struct virtio_queue {
    struct virtqueue ring;
    struct virtio_device *device;
    unsigned index;
    struct os_loop_post post;  // process it
    struct os_loop_watch bell; // the same, from the backend
    char name[VIRTIO_NAME_BYTES];
};

struct virtio_device {
    struct pci_function pci;
    // Constant after creation.
    struct virtio_environment environment;
    struct virtio_setup setup;
    char name[VIRTIO_NAME_BYTES];
    struct device device;                         // saves the members below
    struct device kind_device;                    // saves the kind's
    struct bus_doorbell bells[VIRTIO_QUEUES_MAX]; // of the first queues, in the BAR
    unsigned bell_count;
    unsigned window_capability; // the one that reaches the BAR through configuration space

    pthread_mutex_t lock;
    // Saved.
    uint8_t status;
    uint8_t interrupt_status;
    uint8_t config_generation;
    uint16_t config_vector;
    uint16_t queue_select;
    uint32_t device_feature_select, driver_feature_select;
    uint64_t driver_features;
    // Not saved: a machine is saved while nothing is in flight.
    bool resetting;       // the driver wrote 0 and waits
    bool process_pending; // inline: process all queues once the lock is free
    unsigned paused;
    unsigned in_flight;
    pthread_cond_t idle; // in_flight fell to 0
    struct virtio_queue queues[VIRTIO_QUEUES_MAX];
};

// ---- For kinds: making.
int virtio_device_init(struct virtio_device *device, const struct virtio_environment *environment,
                       const struct virtio_setup *setup, struct err *err);
void virtio_device_fini(struct virtio_device *device); // unplugged and quiet

// ---- For kinds: with the lock held (process) or to take it (completions).
void virtio_lock(struct virtio_device *device);
void virtio_unlock(struct virtio_device *device);
static inline bool virtio_has(const struct virtio_device *device, uint64_t feature)
{
    return device->driver_features & feature;
}
// May queues be used now: driver ready, not reset, not broken, not paused?
bool virtio_running(const struct virtio_device *device);
// Publish what was pushed and interrupt if the driver wants it.
void virtio_queue_interrupt(struct virtio_queue *queue);
// The device's configuration was changed by us (lock held): tell the driver.
void virtio_config_changed(struct virtio_device *device);
// Something that the driver did cannot be served at all.
void virtio_device_break(struct virtio_device *device, const char *why);
// Requests that outlive process(): count them in, and out with the lock held when they are done (pushed or dropped).
void virtio_device_begin(struct virtio_device *device);
void virtio_device_done(struct virtio_device *device);
// What `held` says has grown (lock held).
void virtio_device_held(struct virtio_device *device);
// Have a queue processed soon though the driver did not notify. Any thread; no lock is needed.
void virtio_device_poke(struct virtio_device *device, unsigned queue);

// ---- For whoever controls the machine.
// Nothing new is begun and nothing is in flight when it returns; nests. Not on the loop's thread.
void virtio_device_pause(struct virtio_device *device);
void virtio_device_resume(struct virtio_device *device);
// After unplugging: waits for what is in flight and for the loop to let go. For good.
void virtio_device_quiesce(struct virtio_device *device);

// ---- For virtio_pci.c.
void virtio_set_status(struct virtio_device *device, uint8_t status);
void virtio_notify(struct virtio_device *device, unsigned queue); // any thread
void virtio_process_pending(
    struct virtio_device *device); // after virtio_set_status(), without the lock
void virtio_pci_init(struct virtio_device *device);
void virtio_pci_interrupt(struct virtio_device *device, uint16_t vector, uint8_t why); // lock held
void virtio_pci_reset(struct virtio_device *device);                                   // lock held
void virtio_pci_loaded(struct virtio_device *device);                                  // lock held

enum virtio_interrupt { VIRTIO_INTERRUPT_QUEUE = 1, VIRTIO_INTERRUPT_CONFIG = 2 };

#endif
