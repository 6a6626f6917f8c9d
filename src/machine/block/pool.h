// SPDX-License-Identifier: Apache-2.0
//
// The pool's inner side: how disk.c hands requests over.
#ifndef WIRT_MACHINE_BLOCK_POOL_H
#define WIRT_MACHINE_BLOCK_POOL_H

#include "machine/block/block.h"

// Queue a request; a pool thread calls block_request_run() on it.
void block_pool_push(struct block_pool *pool, struct block_request *request);
// The same at a time of os_clock_monotonic_ns(), or as soon afterwards as a thread is free.
void block_pool_push_later(struct block_pool *pool, struct block_request *request, uint64_t due_ns);

// Defined by disk.c.
void block_request_run(struct block_request *request);

// The same for one that a ring carried out (ring.h). False: it is held because of its error, not to be delivered.
bool block_request_carried(struct block_request *request, int result);
// A request that block_request_carried() let pass is delivered, or about to be.
void block_request_left(struct block_disk *disk);
struct block_pool *block_request_pool(const struct block_request *request);

// Deliver a finished request to its queue. Defined by queue.c.
void block_queue_push(struct block_queue *queue, struct block_request *request);

// ---- A queue's ring, where it has one (queue.c).
struct block_node;
bool block_queue_has_ring(const struct block_queue *queue);
// False: the pool must do it.
bool block_queue_carry(struct block_queue *queue, struct block_node *node,
                       struct block_request *request);
// Wait for something that the ring has in flight, deliver what ended; false when nothing is.
bool block_queue_help(struct block_queue *queue);

#endif
