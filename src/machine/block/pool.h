// SPDX-License-Identifier: Apache-2.0
//
// The pool's inner side: how disk.c hands requests over.
#ifndef WIRT_MACHINE_BLOCK_POOL_H
#define WIRT_MACHINE_BLOCK_POOL_H

#include "machine/block/block.h"

// Queue a request; a pool thread calls block_request_run() on it.
void block_pool_push(struct block_pool *pool, struct block_request *request);

// Defined by disk.c.
void block_request_run(struct block_request *request);

// Deliver a finished request to its queue. Defined by queue.c.
void block_queue_push(struct block_queue *queue, struct block_request *request);

#endif
