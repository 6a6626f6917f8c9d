// SPDX-License-Identifier: Apache-2.0
//
// A virtio block device over a disk of block/block.h: several queues, flush, discard, write zeroes, write cache
// control, serial number, resize while it runs.
//
// Threads: requests are submitted and completed on the device's loop. What completes in one round is announced to the guest together. A deterministic machine (no loop) finishes each
// request before the next, on the vCPU that notified.
#ifndef WIRT_MACHINE_VIRTIO_VIRTIO_BLK_H
#define WIRT_MACHINE_VIRTIO_VIRTIO_BLK_H

#include "machine/block/block.h"
#include "machine/virtio/virtio_device.h"

#define VIRTIO_BLK_SERIAL_BYTES 20
#define VIRTIO_BLK_QUEUES_MAX   16u

struct virtio_blk_params {
    const char *name;        // of the device: "disk0"
    struct block_disk *disk; // borrowed; closed after the device was destroyed
    const char *serial;      // up to 20 bytes; NULL: none
    unsigned queues;         // 0: one
    // Where completions come, run by the loop's thread (borrowed, outlives the device); NULL: the device makes one of its own.
    struct block_queue *completions;
};

struct virtio_blk;

struct virtio_blk *virtio_blk_create(const struct virtio_environment *environment,
                                     const struct virtio_blk_params *params, struct err *err);
void virtio_blk_destroy(struct virtio_blk *blk); // unplugged; NULL is fine
struct virtio_device *virtio_blk_device(struct virtio_blk *blk);

// The disk holds a request back because of an error (block_options.on_stop): a pause does not wait for it. Before the machine is reset
// or the device destroyed, it must be retried or given up.
void virtio_blk_stopped(struct virtio_blk *blk);

// The disk has another size now: the guest is told.
void virtio_blk_resized(struct virtio_blk *blk);

#endif
