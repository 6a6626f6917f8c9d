// SPDX-License-Identifier: Apache-2.0
//
// Completions on their way to the submitter's thread: a lock-free stack that pool threads push onto
// and the owner takes whole. Only the push that finds it empty raises the descriptor, so a burst of
// completions costs one wake-up. The owner clears the descriptor before it takes the stack: a push
// after the taking finds it empty and raises again, so none is lost.
#include <stdatomic.h>
#include <stdlib.h>

#include "base/err.h"
#include "machine/block/pool.h"
#include "os/event_counter.h"
#include "os/file.h"

struct block_queue {
    _Atomic(struct block_request *) top; // newest first
    int fd;                              // owned
};

struct block_queue *block_queue_create(struct err *err)
{
    struct block_queue *queue = calloc(1, sizeof(*queue));
    if (!queue) {
        err_set(err, ERR_LIMIT, "no memory for a completion queue");
        return NULL;
    }
    queue->fd = os_event_counter_open();
    if (queue->fd < 0) {
        err_set_errno(err, -queue->fd, "cannot make a completion queue");
        free(queue);
        return NULL;
    }
    return queue;
}

void block_queue_destroy(struct block_queue *queue)
{
    if (!queue)
        return;
    os_file_close(&queue->fd);
    free(queue);
}

int block_queue_fd(const struct block_queue *queue)
{
    return queue->fd;
}

void block_queue_push(struct block_queue *queue, struct block_request *request)
{
    // Once the request is on the stack, the owner may run it and destroy the queue as soon as it
    // knows that nothing else is in flight; the disk counts the request until after this call.
    struct block_request *top = atomic_load(&queue->top);
    do {
        request->next = top;
    } while (!atomic_compare_exchange_weak(&queue->top, &top, request));
    if (!top)
        os_event_counter_raise(queue->fd);
}

unsigned block_queue_run(struct block_queue *queue)
{
    os_event_counter_clear(queue->fd);
    struct block_request *newest = atomic_exchange(&queue->top, NULL);
    struct block_request *oldest = NULL;
    while (newest) {
        struct block_request *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    unsigned count = 0;
    while (oldest) {
        struct block_request *next = oldest->next;
        oldest->done(oldest, oldest->result);
        oldest = next;
        count++;
    }
    return count;
}

unsigned block_queue_wait(struct block_queue *queue)
{
    unsigned count;
    while (!(count = block_queue_run(queue)))
        os_event_counter_wait(queue->fd);
    return count;
}
