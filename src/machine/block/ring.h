// SPDX-License-Identifier: Apache-2.0
//
// Requests that need no thread: a read or a write whose bytes lie in one piece in one file goes to the kernel by io_uring, from the
// submitter's thread, and comes back to it. A completion queue may own such a ring (block_queue_create_with_ring()); disk.c offers it
// every read and write, and gives the pool what the ring does not take.
//
// A write whose bytes only go to the page cache is made by the submitter himself, in block_ring_start(), and delivered by its queue (ring.c says why).
//
// Where a request's bytes lie is said by the nodes (block_ops.route), without waiting for anything. What they hold meanwhile
// (a range lock at each image passed) is in the request's slot, and is let go when the transfer is over.
//
// Threads: start, begin and end by any; take by one at a time (a lock sees to it). A thread that waits until a disk is quiet
// helps: it takes what the ring has, because the queue's owner may be that very thread.
#ifndef WIRT_MACHINE_BLOCK_RING_H
#define WIRT_MACHINE_BLOCK_RING_H

#include "machine/block/block_driver.h"

struct block_ring;
struct err;

// `counter` (borrowed) wakes the ring when it is raised. NULL with err set where there is no io_uring.
struct block_ring *block_ring_create(int counter, struct err *err);
void block_ring_destroy(struct block_ring *ring); // NULL is fine; nothing is in flight
int block_ring_fd(const struct block_ring *ring);

// A file's place among the ring's files, or -1 when there is none left.
int block_ring_add_file(struct block_ring *ring, int fd);
void block_ring_remove_file(struct block_ring *ring, int place);

// Start a read or a write on `node`; false: somebody else must do it.
bool block_ring_start(struct block_ring *ring, struct block_node *node,
                      struct block_request *request);
// Between the two, what is started is handed to the kernel a few at a time, the rest at the end. Nests.
void block_ring_begin(struct block_ring *ring);
void block_ring_end(struct block_ring *ring);

// What has ended: a list, oldest first, of requests that have left their disks and are to be delivered.
struct block_request *block_ring_take(struct block_ring *ring);
void block_ring_wait(struct block_ring *ring);
// Wait for one of those in flight and give those that ended to `deliver`. False when nothing is in flight.
bool block_ring_help(struct block_ring *ring, void (*deliver)(struct block_request *request));

#endif
