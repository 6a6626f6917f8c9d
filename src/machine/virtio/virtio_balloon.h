// SPDX-License-Identifier: Apache-2.0
//
// A virtio memory balloon (virtio 1.2, 5.5): takes memory from the guest on request, hears the guest's memory
// statistics, and gives back to the host what the guest reports as free.
//
// Threads: all functions may be called from any thread.
#ifndef WIRT_MACHINE_VIRTIO_VIRTIO_BALLOON_H
#define WIRT_MACHINE_VIRTIO_VIRTIO_BALLOON_H

#include "machine/virtio/virtio_device.h"

struct virtio_balloon_params {
    const char *name;
    // The guest told statistics, took or gave back memory, or its driver went: on any thread, with the device's lock held. NULL: nobody is interested.
    void (*changed)(void *context);
    void *context;
};

struct virtio_balloon;

struct virtio_balloon *virtio_balloon_create(const struct virtio_environment *environment,
                                             const struct virtio_balloon_params *params,
                                             struct err *err);
void virtio_balloon_destroy(struct virtio_balloon *balloon); // unplugged; NULL is fine
struct virtio_device *virtio_balloon_device(struct virtio_balloon *balloon);

// How much the guest is to give up, and how much it has given up.
void virtio_balloon_set_target(struct virtio_balloon *balloon, uint64_t bytes);
uint64_t virtio_balloon_target(struct virtio_balloon *balloon);
uint64_t virtio_balloon_taken(struct virtio_balloon *balloon);

// What the guest told last, UINT64_MAX where it did not; in bytes, but for the counters.
enum virtio_balloon_stat {
    BALLOON_SWAP_IN,
    BALLOON_SWAP_OUT,
    BALLOON_MAJOR_FAULTS, // count
    BALLOON_MINOR_FAULTS, // count
    BALLOON_FREE,
    BALLOON_TOTAL,
    BALLOON_AVAILABLE,
    BALLOON_CACHES,
    BALLOON_HUGE_PAGES,         // count of allocations
    BALLOON_HUGE_PAGE_FAILURES, // count
    BALLOON_STAT_COUNT
};
extern const char *const virtio_balloon_stat_names[BALLOON_STAT_COUNT];

struct virtio_balloon_stats {
    uint64_t values[BALLOON_STAT_COUNT];
    uint64_t updates;        // how often the guest told
    uint64_t reported_bytes; // free memory given back to the host, in all
};
void virtio_balloon_stats(struct virtio_balloon *balloon, struct virtio_balloon_stats *stats);
bool virtio_balloon_tells(struct virtio_balloon *balloon); // does it, now?
// Ask for new ones; they come a little later. False: they will not, the guest has no driver that tells any.
bool virtio_balloon_request_stats(struct virtio_balloon *balloon);

#endif
