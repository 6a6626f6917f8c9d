// SPDX-License-Identifier: Apache-2.0
//
// Split virtqueues (virtio 1.2, 2.7), the device's side: the only code that reads rings and descriptors.
//
// The driver is the enemy. Each descriptor is read once into a local, checked and turned into host memory here;
// a device sees only a bounded list of host buffers that all lie in guest RAM. Whatever is against the rules (an
// index that ran ahead, a loop, a chain too long, a length of zero, memory outside RAM) breaks the queue: it says
// so in the log, gives nothing more, and the transport sets DEVICE_NEEDS_RESET.
//
// A device pops chains, reads and fills their buffers, pushes them in any order, and publishes; pushing
// reports the bytes written to guest_memory_wrote() before the used index shows them.
//
// Threads: none of its own; all functions are called under the device's lock.
#ifndef WIRT_MACHINE_VIRTIO_VIRTQUEUE_H
#define WIRT_MACHINE_VIRTIO_VIRTQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/addr.h"
#include "machine/device/device.h"

struct guest_memory;

#define VIRTQ_SIZE_MAX 1024u // entries in any ring
#define VIRTQ_SEGMENTS 130u  // descriptors in one chain: 128 of data, a header, a status

struct virtqueue {
    // Constant after creation.
    struct guest_memory *memory; // borrowed
    const char *name;            // "disk0.queue0", borrowed
    uint16_t size_max;

    // What the driver set up. Saved.
    uint16_t size;
    uint16_t vector; // MSI-X
    bool enabled;
    uint64_t descriptors, available, used; // guest addresses of the three areas
    // Where we are. Saved.
    uint16_t next_available; // index of the next entry to pop
    uint16_t next_used;      // index behind the last entry pushed
    uint16_t published;      // the used index that the driver sees
    uint16_t signalled;      // used index when we last looked whether to interrupt
    bool started, broken;
    bool indirect, event_index; // negotiated features

    // Host pointers to the areas; derived when the queue starts or was loaded.
    uint8_t *descriptor_area, *available_area, *used_area;
    struct device device;
};

// One request: device-readable buffers first, then device-writable ones. Neighbours in memory are joined.
struct virtq_chain {
    uint16_t head;
    uint16_t out_count, in_count; // of iov
    size_t out_bytes, in_bytes;
    struct iovec iov[VIRTQ_SEGMENTS];
    struct gpa at[VIRTQ_SEGMENTS]; // where iov[i] lies for the guest
};

void virtqueue_init(struct virtqueue *queue, struct guest_memory *memory, const char *name,
                    uint16_t size_max);
void virtqueue_reset(struct virtqueue *queue);

// The driver said go: check and map the areas. A bad one breaks the queue.
void virtqueue_start(struct virtqueue *queue, bool indirect, bool event_index);

// 1 and a chain, 0 when there is none, -EINVAL when the queue is broken.
int virtqueue_pop(struct virtqueue *queue, struct virtq_chain *chain);
// The same for a loop: asks to be notified before it says 0, and looks again. `budget` (NULL: none) bounds the loop: at 0 it
// says 0, and the caller is to come back.
int virtqueue_next(struct virtqueue *queue, struct virtq_chain *chain, unsigned *budget);
// Put back what was popped last and not pushed.
void virtqueue_unpop(struct virtqueue *queue);
// Put back the last `count` chains, all pushed and not published.
void virtqueue_unpush(struct virtqueue *queue, unsigned count);
// How many entries wait, at most the queue's size; 0 when broken.
unsigned virtqueue_waiting(struct virtqueue *queue);

// The device has done with the chain and wrote the first `written` bytes of its writable buffers.
void virtqueue_push(struct virtqueue *queue, const struct virtq_chain *chain, size_t written);
// Show all that was pushed to the driver. True when it wants an interrupt.
bool virtqueue_publish(struct virtqueue *queue);

// Ask not to be notified while we look anyway; and ask again: true when something arrived meanwhile.
void virtqueue_silence(struct virtqueue *queue);
bool virtqueue_listen(struct virtqueue *queue);

// Copy between a buffer and the readable (writable) bytes from `offset` on; returns how many there were.
size_t virtq_chain_read(const struct virtq_chain *chain, size_t offset, void *buffer,
                        size_t length);
size_t virtq_chain_write(const struct virtq_chain *chain, size_t offset, const void *buffer,
                         size_t length);
// The part [offset, offset + length) of iov[0 .. count) as a list of its own of at most VIRTQ_SEGMENTS entries;
// returns their number. The part must lie within.
unsigned virtq_slice(const struct iovec *iov, unsigned count, size_t offset, size_t length,
                     struct iovec *slice);

static inline const struct iovec *virtq_chain_in(const struct virtq_chain *chain)
{
    return chain->iov + chain->out_count;
}

#endif
