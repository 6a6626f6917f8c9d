// SPDX-License-Identifier: Apache-2.0
//
// Slots are taken from a list of those used before, so that a disk of little depth touches little memory.
//
// What is started between begin and end goes to the kernel a few at a time, not all at the end: the completions of one round free many
// slots at once, and a device that has to wait until all of them are filled again works with half of its depth (random direct
// reads at depth 32 took 1.3 times as long). In fours instead of twos they took 1.04 times as long and writes 1.2, for a sixth less processor time;
// one at a time was no faster.
//
// A transfer that the kernel cut short, or did not want to make without waiting, is given to the pool and made again from the
// start: reading or writing the same bytes twice does no harm.
//
// A write to the page cache is a copy. Many file systems refuse to make it at once for io_uring, which then wakes a thread for each; the submitter
// makes it himself instead, in a tenth of the time. Only the kernel may make him wait (too much is dirty, somebody writes to the same file): after
// a write that took long the others go by the ring for many times as long, so that little of his time is lost.
#include "machine/block/ring.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "machine/block/pool.h"
#include "os/clock.h"
#include "os/uring.h"

#define ENTRIES     128
#define SLOTS       (ENTRIES - 1) // and one for the counter
#define FILES       256
#define TOGETHER    2           // requests that are handed to the kernel by one call, at most
#define COUNTER_TAG 0           // a slot's tag is its index and one
#define LONG_NS     10000000ull // for a copy: not for a thread that lost its CPU for a moment
#define REST        10          // times as long as it took, no copies are made here

struct slot {
    struct block_request *request;
    struct slot *next_free;
    struct block_route route;
};

struct block_ring {
    struct os_uring *uring; // owned
    uint64_t counted;       // where the counter is read to
    struct iovec counted_iov;

    pthread_mutex_t submit_lock;
    // Under it.
    struct slot *slots; // owned
    struct slot *free;
    unsigned fresh;             // from here on slots were never used
    unsigned batches;           // that were begun and not ended
    unsigned prepared;          // since the last submission
    uint64_t files[FILES / 64]; // bit set: place taken

    pthread_mutex_t take_lock;  // after submit_lock is never taken before
    _Atomic unsigned in_flight; // requests in the kernel
    _Atomic uint64_t rests_until_ns;
};

// ---- Submitting; submit_lock held

// Nothing in the kernel and nothing taken by it cannot last: it was short of memory.
static void submit(struct block_ring *ring)
{
    ring->prepared = 0;
    while (os_uring_submit(ring->uring) == -EAGAIN && !atomic_load(&ring->in_flight))
        ;
}

static void listen_to_counter(struct block_ring *ring)
{
    bool room = os_uring_prepare(
        ring->uring, &(struct os_uring_transfer){
                         .file = 0, .iov = &ring->counted_iov, .count = 1, .tag = COUNTER_TAG});
    assert(room);
    (void)room;
}

static struct slot *take_slot(struct block_ring *ring)
{
    struct slot *slot = ring->free;
    if (slot)
        ring->free = slot->next_free;
    else if (ring->fresh < SLOTS)
        slot = &ring->slots[ring->fresh++];
    return slot;
}

static void give_slot(struct block_ring *ring, struct slot *slot)
{
    slot->next_free = ring->free;
    ring->free = slot;
}

static int find_route(struct block_ring *ring, struct block_node *node, struct slot *slot)
{
    struct block_request *request = slot->request;
    struct block_route *route = &slot->route;
    route->held_count = 0;
    route->ring = ring;
    route->busy = atomic_load(&ring->in_flight) > 0;
    int rc = block_node_route(node, request->op, request->offset,
                              block_vec(request->iov, request->length), route);
    if (rc)
        block_route_release(route);
    return rc;
}

static void prepare(struct block_ring *ring, struct slot *slot)
{
    struct block_request *request = slot->request;
    struct block_route *route = &slot->route;
    atomic_fetch_add(&ring->in_flight, 1);
    bool room = os_uring_prepare(ring->uring, &(struct os_uring_transfer){
                                                  .file = route->place,
                                                  .write = request->op == BLOCK_WRITE,
                                                  .iov = request->iov,
                                                  .count = request->iov_count,
                                                  .offset = route->offset,
                                                  .tag = (uint64_t)(slot - ring->slots) + 1,
                                              });
    assert(room); // there are no more slots than entries
    (void)room;
    if (!ring->batches || ++ring->prepared >= TOGETHER)
        submit(ring);
}

// ---- In place; without locks

static bool is_for_here(const struct block_ring *ring, const struct slot *slot)
{
    return slot->request->op == BLOCK_WRITE && slot->route.cached &&
           slot->request->start_ns >= atomic_load(&ring->rests_until_ns);
}

static void carry_here(struct block_ring *ring, struct slot *slot)
{
    struct block_request *request = slot->request;
    struct block_disk *disk = request->disk;
    uint64_t start = os_clock_monotonic_ns();
    int rc = block_node_write(slot->route.file, slot->route.offset,
                              block_vec(request->iov, request->length), 0);
    uint64_t end = os_clock_monotonic_ns();
    if (end - start > LONG_NS)
        atomic_store(&ring->rests_until_ns, end + REST * (end - start));
    block_route_release(&slot->route);
    pthread_mutex_lock(&ring->submit_lock);
    give_slot(ring, slot);
    pthread_mutex_unlock(&ring->submit_lock);
    // What an error leads to is not the submitter's affair.
    if (rc || !block_request_carried(request, 0)) {
        block_pool_push(block_request_pool(request), request);
    } else {
        block_queue_push(request->queue, request);
        block_request_left(disk);
    }
}

bool block_ring_start(struct block_ring *ring, struct block_node *node,
                      struct block_request *request)
{
    if (request->iov_count < 1 || request->iov_count > IOV_MAX || !request->length ||
        request->length > INT_MAX)
        return false;
    pthread_mutex_lock(&ring->submit_lock);
    struct slot *slot = take_slot(ring);
    bool here = false;
    if (slot) {
        slot->request = request;
        if (find_route(ring, node, slot)) {
            give_slot(ring, slot);
            slot = NULL;
        } else if (!(here = is_for_here(ring, slot))) {
            prepare(ring, slot);
        }
    }
    pthread_mutex_unlock(&ring->submit_lock);
    if (here)
        carry_here(ring, slot);
    return slot;
}

void block_ring_begin(struct block_ring *ring)
{
    pthread_mutex_lock(&ring->submit_lock);
    ring->batches++;
    pthread_mutex_unlock(&ring->submit_lock);
}

void block_ring_end(struct block_ring *ring)
{
    pthread_mutex_lock(&ring->submit_lock);
    if (--ring->batches == 0)
        submit(ring);
    pthread_mutex_unlock(&ring->submit_lock);
}

// ---- Completions; take_lock held

// The pool's affair from here on?
static bool is_for_pool(const struct block_request *request, int result)
{
    return result == -EAGAIN || result == -EINTR || result == -ECANCELED ||
           (result >= 0 && (uint64_t)result != request->length);
}

static void put_slot_back(struct block_ring *ring, struct slot *slot)
{
    pthread_mutex_lock(&ring->submit_lock);
    give_slot(ring, slot);
    pthread_mutex_unlock(&ring->submit_lock);
    atomic_fetch_sub(&ring->in_flight, 1);
}

// The request, when it is to be delivered.
static struct block_request *end_one(struct block_ring *ring, uint64_t tag, int result)
{
    if (tag == COUNTER_TAG) {
        pthread_mutex_lock(&ring->submit_lock);
        listen_to_counter(ring);
        pthread_mutex_unlock(&ring->submit_lock);
        return NULL;
    }
    struct slot *slot = &ring->slots[tag - 1];
    struct block_request *request = slot->request;
    if (result > 0 && request->op == BLOCK_WRITE)
        block_file_written(slot->route.file, slot->route.offset + (uint64_t)result);
    block_route_release(&slot->route);
    put_slot_back(ring, slot);
    if (is_for_pool(request, result)) {
        block_pool_push(block_request_pool(request), request);
        return NULL;
    }
    return block_request_carried(request, result < 0 ? result : 0) ? request : NULL;
}

static struct block_request *take(struct block_ring *ring)
{
    struct block_request *first = NULL, **last = &first;
    uint64_t tag;
    int result;
    while (os_uring_next(ring->uring, &tag, &result)) {
        struct block_request *request = end_one(ring, tag, result);
        if (!request)
            continue;
        request->next = NULL;
        *last = request;
        last = &request->next;
    }
    return first;
}

struct block_request *block_ring_take(struct block_ring *ring)
{
    pthread_mutex_lock(&ring->take_lock);
    struct block_request *list = take(ring);
    for (struct block_request *request = list; request; request = request->next)
        block_request_left(request->disk);
    pthread_mutex_unlock(&ring->take_lock);
    return list;
}

void block_ring_wait(struct block_ring *ring)
{
    os_uring_wait(ring->uring);
}

// Nobody else takes completions meanwhile, so that the one waited for is not missed.
bool block_ring_help(struct block_ring *ring, void (*deliver)(struct block_request *request))
{
    pthread_mutex_lock(&ring->take_lock);
    bool any = atomic_load(&ring->in_flight) > 0;
    if (any) {
        pthread_mutex_lock(&ring->submit_lock);
        submit(ring);
        pthread_mutex_unlock(&ring->submit_lock);
        os_uring_wait(ring->uring);
    }
    struct block_request *list = take(ring);
    pthread_mutex_lock(&ring->submit_lock);
    submit(ring);
    pthread_mutex_unlock(&ring->submit_lock);
    while (list) {
        struct block_request *request = list;
        struct block_disk *disk = request->disk;
        list = request->next;
        deliver(request);
        block_request_left(disk);
    }
    pthread_mutex_unlock(&ring->take_lock);
    return any;
}

// ---- Files

int block_ring_add_file(struct block_ring *ring, int fd)
{
    int place = -1;
    for (unsigned i = 0; i < FILES && place < 0; i++)
        if (!(ring->files[i / 64] & (1ull << (i % 64))))
            place = (int)i;
    if (place < 0 || os_uring_set_file(ring->uring, (unsigned)place, fd))
        return -1;
    ring->files[place / 64] |= 1ull << (place % 64);
    return place;
}

void block_ring_remove_file(struct block_ring *ring, int place)
{
    pthread_mutex_lock(&ring->submit_lock);
    (void)os_uring_set_file(ring->uring, (unsigned)place, -1);
    ring->files[place / 64] &= ~(1ull << (place % 64));
    pthread_mutex_unlock(&ring->submit_lock);
}

// ---- Making

struct block_ring *block_ring_create(int counter, struct err *err)
{
    struct block_ring *ring = calloc(1, sizeof(*ring));
    if (!ring) {
        err_set(err, ERR_LIMIT, "no memory for a ring");
        return NULL;
    }
    pthread_mutex_init(&ring->submit_lock, NULL);
    pthread_mutex_init(&ring->take_lock, NULL);
    ring->counted_iov = (struct iovec){&ring->counted, sizeof(ring->counted)};
    ring->slots = calloc(SLOTS, sizeof(*ring->slots));
    ring->uring = os_uring_create(ENTRIES, FILES, err);
    if (!ring->slots || !ring->uring || block_ring_add_file(ring, counter) != 0) {
        if (ring->uring)
            err_set(err, ERR_LIMIT, "no memory for a ring");
        block_ring_destroy(ring);
        return NULL;
    }
    listen_to_counter(ring);
    submit(ring);
    return ring;
}

void block_ring_destroy(struct block_ring *ring)
{
    if (!ring)
        return;
    os_uring_destroy(ring->uring);
    pthread_mutex_destroy(&ring->submit_lock);
    pthread_mutex_destroy(&ring->take_lock);
    free(ring->slots);
    free(ring);
}

int block_ring_fd(const struct block_ring *ring)
{
    return os_uring_fd(ring->uring);
}
