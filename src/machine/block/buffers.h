// SPDX-License-Identifier: Apache-2.0
//
// A fixed number of aligned buffers of one size, made at first use and lent out: memory for the
// parts of a request that need some, without allocating per request. Thread safe; get waits for a
// free one, so one thread must never hold two from the same pool.
#ifndef WIRT_MACHINE_BLOCK_BUFFERS_H
#define WIRT_MACHINE_BLOCK_BUFFERS_H

#include <pthread.h>
#include <stddef.h>

#define BLOCK_BUFFERS_MAX 8

struct block_buffers {
    pthread_mutex_t lock;
    pthread_cond_t freed;
    size_t bytes;                    // constant: of each
    unsigned count;                  // constant
    unsigned used;                   // under lock: bit mask
    void *memory[BLOCK_BUFFERS_MAX]; // under lock; owned
};

void block_buffers_init(struct block_buffers *buffers, unsigned count, size_t bytes);
void block_buffers_fini(struct block_buffers *buffers);
void *block_buffers_get(struct block_buffers *buffers);              // NULL: no memory
void block_buffers_put(struct block_buffers *buffers, void *memory); // NULL is fine

#endif
