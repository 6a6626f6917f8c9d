// SPDX-License-Identifier: Apache-2.0
//
// Completions on their way to the submitter's thread: a lock-free stack that pool threads push onto
// and the owner takes whole. Only the push that finds it empty raises the descriptor, so a burst of
// completions costs one wake-up. The owner clears the descriptor before it takes the stack: a push
// after the taking finds it empty and raises again, so none is lost.
//
// What ends while the owner submits it, in `done`, raises nothing: the owner looks again before he returns. Not for ever, for he has other
// things to do; what is left then raises the descriptor.
//
// With a ring (ring.h) there is one descriptor for both: the ring's. The ring reads the counter of the stack all the
// time, so that a raise is one more completion.
#include <stdatomic.h>
#include <stdlib.h>

#include "base/err.h"
#include "machine/block/pool.h"
#include "machine/block/ring.h"
#include "os/event_counter.h"
#include "os/file.h"

#define ROUNDS 16

struct block_queue {
    _Atomic(struct block_request *) top; // newest first
    int fd;                              // owned: raised when the stack is no longer empty
    struct block_ring *ring;             // owned; NULL: none
    struct block_queue_after *after;     // of the owner's thread
};

// The queue that this thread is at work on.
static _Thread_local struct block_queue *running;

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

struct block_queue *block_queue_create_with_ring(struct err *err)
{
    struct err refused;
    struct block_queue *queue = calloc(1, sizeof(*queue));
    if (!queue) {
        err_set(err, ERR_LIMIT, "no memory for a completion queue");
        return NULL;
    }
    queue->fd = os_event_counter_open_for_ring();
    if (queue->fd >= 0)
        queue->ring = block_ring_create(queue->fd, &refused);
    if (queue->ring)
        return queue;
    block_queue_destroy(queue);
    return block_queue_create(err);
}

void block_queue_destroy(struct block_queue *queue)
{
    if (!queue)
        return;
    block_ring_destroy(queue->ring);
    os_file_close(&queue->fd);
    free(queue);
}

int block_queue_fd(const struct block_queue *queue)
{
    return queue->ring ? block_ring_fd(queue->ring) : queue->fd;
}

void block_queue_push(struct block_queue *queue, struct block_request *request)
{
    // Once the request is on the stack, the owner may run it and destroy the queue as soon as it
    // knows that nothing else is in flight; the disk counts the request until after this call.
    struct block_request *top = atomic_load(&queue->top);
    do {
        request->next = top;
    } while (!atomic_compare_exchange_weak(&queue->top, &top, request));
    if (!top && running != queue)
        os_event_counter_raise(queue->fd);
}

static unsigned deliver_all(struct block_request *list)
{
    unsigned count = 0;
    while (list) {
        struct block_request *next = list->next;
        list->done(list, list->result);
        list = next;
        count++;
    }
    return count;
}

static unsigned run_stack(struct block_queue *queue)
{
    struct block_request *newest = atomic_exchange(&queue->top, NULL);
    struct block_request *oldest = NULL;
    while (newest) {
        struct block_request *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return deliver_all(oldest);
}

void block_queue_after(struct block_queue *queue, struct block_queue_after *after)
{
    if (after->waits)
        return;
    after->waits = true;
    after->next = queue->after;
    queue->after = after;
}

static void run_after(struct block_queue *queue)
{
    while (queue->after) {
        struct block_queue_after *after = queue->after;
        queue->after = after->next;
        after->waits = false;
        after->function(after->context);
    }
}

unsigned block_queue_run(struct block_queue *queue)
{
    unsigned count = 0;
    struct block_queue *outer = running;
    running = queue;
    if (queue->ring) {
        block_ring_begin(queue->ring);
        count = deliver_all(block_ring_take(queue->ring));
    } else {
        os_event_counter_clear(queue->fd);
    }
    for (unsigned round = 0, n = 1; n && round < ROUNDS; round++)
        count += n = run_stack(queue);
    if (queue->ring)
        block_ring_end(queue->ring);
    run_after(queue);
    running = outer;
    if (atomic_load(&queue->top) && running != queue)
        os_event_counter_raise(queue->fd);
    return count;
}

unsigned block_queue_wait(struct block_queue *queue)
{
    unsigned count;
    while (!(count = block_queue_run(queue))) {
        if (queue->ring)
            block_ring_wait(queue->ring);
        else
            os_event_counter_wait(queue->fd);
    }
    return count;
}

void block_queue_begin(struct block_queue *queue)
{
    if (queue->ring)
        block_ring_begin(queue->ring);
}

void block_queue_end(struct block_queue *queue)
{
    if (queue->ring)
        block_ring_end(queue->ring);
}

bool block_queue_has_ring(const struct block_queue *queue)
{
    return queue->ring;
}

bool block_queue_carry(struct block_queue *queue, struct block_node *node,
                       struct block_request *request)
{
    return block_ring_start(queue->ring, node, request);
}

static void push(struct block_request *request)
{
    block_queue_push(request->queue, request);
}

bool block_queue_help(struct block_queue *queue)
{
    return block_ring_help(queue->ring, push);
}
