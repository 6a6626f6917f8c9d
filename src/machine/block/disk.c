// SPDX-License-Identifier: Apache-2.0
//
// A disk: requests in, completions out, and the account between.
//
// A request is counted from block_submit() until it is delivered, put aside because the disk is
// paused, or held because of an error. The count, the lists and the statistics are under one lock,
// taken twice per request for a few instructions. pause() raises `paused` and waits for the count
// to reach zero; a thread that starts a request looks at `paused` under the same lock, so none
// slips through.
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/block_driver.h"
#include "machine/block/filter.h"
#include "machine/block/nbd_node.h"
#include "machine/block/pool.h"
#include "machine/block/stack.h"
#include "machine/block/throttle.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/unix_socket.h"

#define DEFAULT_THREADS        8
#define DEFAULT_METADATA_BYTES (32 * MIB)

struct request_list {
    struct block_request *first, *last;
};

struct block_disk {
    // Constant after opening.
    struct block_node *node; // owned
    struct block_pool *pool;
    bool own_pool;
    bool no_discard;
    enum block_durability durability;
    void (*on_stop)(void *user, enum block_op op, int error);
    void *user;

    pthread_mutex_t lock;
    pthread_cond_t quiet;   // in_flight reached zero
    pthread_cond_t resumed; // paused reached zero
    unsigned in_flight;     // under lock, and so are all below
    unsigned paused;
    struct request_list waiting; // submitted while paused
    struct request_list held;    // failed under BLOCK_ERROR_STOP
    enum block_on_error on_error;
    struct throttle throttle;
    struct block_stats stats;
    bool claimed;                   // a job has the stack
    unsigned sharers;               // or so many jobs
    bool followed;                  // by one of them
    pthread_rwlock_t stack;         // those against each other; taken when the disk is paused
    struct block_queue *ring_queue; // borrowed: the one whose ring our requests may take; set once
};

static const char *const op_names[] = {"read", "write", "flush", "discard", "write-zeroes"};
_Static_assert(ARRAY_LENGTH(op_names) == BLOCK_OP_COUNT, "a name for each operation");

const char *block_op_name(enum block_op op)
{
    return op_names[op];
}

static void list_append(struct request_list *list, struct block_request *request)
{
    request->next = NULL;
    if (list->last)
        list->last->next = request;
    else
        list->first = request;
    list->last = request;
}

// ---- Doing one request

static bool iov_matches(const struct block_request *request)
{
    uint64_t sum = 0;
    for (int i = 0; i < request->iov_count; i++) {
        if (__builtin_add_overflow(sum, request->iov[i].iov_len, &sum))
            return false;
    }
    return sum == request->length;
}

static int check(struct block_disk *disk, const struct block_request *request)
{
    if (request->op == BLOCK_FLUSH)
        return 0;
    if (request->op != BLOCK_READ && disk->node->read_only)
        return -EROFS;
    if (!range_within(request->offset, request->length, disk->node->size))
        return -EINVAL;
    if ((request->op == BLOCK_READ || request->op == BLOCK_WRITE) && !iov_matches(request))
        return -EINVAL;
    return 0;
}

static int flush(struct block_disk *disk)
{
    return disk->durability == BLOCK_UNSAFE || disk->node->read_only ? 0
                                                                     : block_node_flush(disk->node);
}

static int perform(struct block_disk *disk, const struct block_request *request)
{
    int rc = check(disk, request);
    if (rc)
        return rc;
    switch (request->op) {
    case BLOCK_READ:
        return block_node_read(disk->node, request->offset,
                               block_vec(request->iov, request->length));
    case BLOCK_WRITE:
        rc = block_node_write(disk->node, request->offset, block_vec(request->iov, request->length),
                              0);
        break;
    case BLOCK_WRITE_ZEROES:
        rc = block_node_zero(disk->node, request->offset, request->length,
                             disk->no_discard ? 0 : request->flags & BLOCK_UNMAP);
        break;
    case BLOCK_DISCARD:
        if (disk->no_discard || !disk->node->limits.can_discard)
            return 0;
        rc = block_node_discard(disk->node, request->offset, request->length);
        break;
    case BLOCK_FLUSH:
    case BLOCK_OP_COUNT:
        return flush(disk);
    }
    if (!rc && ((request->flags & BLOCK_FUA) || disk->durability == BLOCK_WRITE_THROUGH))
        rc = flush(disk);
    return rc;
}

// ---- The account; called with the lock held

static unsigned latency_bucket(uint64_t ns)
{
    uint64_t us = ns / 1000;
    unsigned bucket = us ? 64 - (unsigned)__builtin_clzll(us) : 0;
    return bucket < BLOCK_LATENCY_BUCKETS ? bucket : BLOCK_LATENCY_BUCKETS - 1;
}

static void count(struct block_disk *disk, const struct block_request *request)
{
    struct block_op_stats *op = &disk->stats.op[request->op];
    uint64_t ns = os_clock_monotonic_ns() - request->start_ns;
    op->requests++;
    op->errors += request->result != 0;
    op->bytes += request->result || request->op == BLOCK_FLUSH ? 0 : request->length;
    op->total_ns += ns;
    op->latency[latency_bucket(ns)]++;
}

static void one_less(struct block_disk *disk)
{
    if (--disk->in_flight == 0)
        pthread_cond_broadcast(&disk->quiet);
}

// ---- The life of a request

static bool is_host_error(int result)
{
    return result != 0 && result != -EINVAL && result != -EROFS;
}

// Deliver first and count afterwards, so that close() and drain() outlive the delivery.
static void complete(struct block_disk *disk, struct block_request *request)
{
    pthread_mutex_lock(&disk->lock);
    count(disk, request);
    pthread_mutex_unlock(&disk->lock);
    if (request->queue)
        block_queue_push(request->queue, request);
    else
        request->done(request, request->result);
    pthread_mutex_lock(&disk->lock);
    one_less(disk);
    pthread_mutex_unlock(&disk->lock);
}

// A request that failed, put aside instead of delivered? It counts as in flight until `on_stop` has returned.
static bool hold(struct block_disk *disk, struct block_request *request)
{
    enum block_op op = request->op;
    int result = request->result;
    if (!is_host_error(result))
        return false;
    pthread_mutex_lock(&disk->lock);
    bool held = disk->on_error == BLOCK_ERROR_STOP;
    if (held) {
        list_append(&disk->held, request);
        disk->stats.held++;
    }
    pthread_mutex_unlock(&disk->lock);
    if (!held)
        return false;
    if (disk->on_stop)
        disk->on_stop(disk->user, op, -result);
    pthread_mutex_lock(&disk->lock);
    one_less(disk);
    pthread_mutex_unlock(&disk->lock);
    return true;
}

bool block_request_carried(struct block_request *request, int result)
{
    struct block_disk *disk = request->disk;
    request->result = result;
    if (hold(disk, request))
        return false;
    pthread_mutex_lock(&disk->lock);
    count(disk, request);
    disk->stats.by_ring++;
    pthread_mutex_unlock(&disk->lock);
    return true;
}

void block_request_left(struct block_disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    one_less(disk);
    pthread_mutex_unlock(&disk->lock);
}

struct block_pool *block_request_pool(const struct block_request *request)
{
    return request->disk->pool;
}

// True when the disk is paused and the request was put aside.
static bool put_aside(struct block_disk *disk, struct block_request *request)
{
    pthread_mutex_lock(&disk->lock);
    bool aside = disk->paused > 0;
    if (aside) {
        list_append(&disk->waiting, request);
        one_less(disk);
    }
    pthread_mutex_unlock(&disk->lock);
    return aside;
}

void block_request_run(struct block_request *request)
{
    struct block_disk *disk = request->disk;
    if (put_aside(disk, request))
        return;
    request->result = perform(disk, request);
    if (!hold(disk, request))
        complete(disk, request);
}

static void start(struct block_disk *disk, struct block_request *request)
{
    pthread_mutex_lock(&disk->lock);
    disk->in_flight++;
    pthread_mutex_unlock(&disk->lock);
    block_pool_push(disk->pool, request);
}

// May the request go by its queue's ring? Lock held.
static bool may_take_ring(struct block_disk *disk, const struct block_request *request)
{
    if (!request->queue || disk->paused || !block_queue_has_ring(request->queue))
        return false;
    if (request->op == BLOCK_WRITE &&
        ((request->flags & BLOCK_FUA) || disk->durability == BLOCK_WRITE_THROUGH))
        return false;
    if (!disk->ring_queue)
        disk->ring_queue = request->queue;
    return request->op <= BLOCK_WRITE && disk->ring_queue == request->queue;
}

// Lock held.
static uint64_t due_time(struct block_disk *disk, const struct block_request *request)
{
    uint64_t now = request->start_ns;
    if (request->op == BLOCK_FLUSH)
        return now;
    uint64_t due =
        throttle_take(&disk->throttle, now, request->op <= BLOCK_WRITE ? request->length : 0);
    disk->stats.delayed += due > now;
    disk->stats.delayed_ns += due - now;
    return due;
}

void block_submit(struct block_disk *disk, struct block_request *request)
{
    request->disk = disk;
    request->start_ns = os_clock_monotonic_ns();
    pthread_mutex_lock(&disk->lock);
    disk->in_flight++;
    bool ring = may_take_ring(disk, request);
    uint64_t due = due_time(disk, request);
    pthread_mutex_unlock(&disk->lock);
    if (due > request->start_ns)
        block_pool_push_later(disk->pool, request, due);
    else if (!ring || check(disk, request) ||
             !block_queue_carry(request->queue, disk->node, request))
        block_pool_push(disk->pool, request);
}

// Lock held. Whoever waits takes completions from the ring himself: its owner may be he.
static void wait_quiet(struct block_disk *disk)
{
    while (disk->in_flight) {
        bool helped = false;
        if (disk->ring_queue) {
            pthread_mutex_unlock(&disk->lock);
            helped = block_queue_help(disk->ring_queue);
            pthread_mutex_lock(&disk->lock);
        }
        if (!helped && disk->in_flight)
            pthread_cond_wait(&disk->quiet, &disk->lock);
    }
}

void block_disk_drain(struct block_disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    wait_quiet(disk);
    pthread_mutex_unlock(&disk->lock);
}

void block_disk_pause(struct block_disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    disk->paused++;
    wait_quiet(disk);
    pthread_mutex_unlock(&disk->lock);
}

void block_disk_resume(struct block_disk *disk)
{
    struct request_list list = {NULL, NULL};
    pthread_mutex_lock(&disk->lock);
    if (--disk->paused == 0) {
        list = disk->waiting;
        disk->waiting = (struct request_list){NULL, NULL};
        pthread_cond_broadcast(&disk->resumed);
    }
    pthread_mutex_unlock(&disk->lock);
    while (list.first) {
        struct block_request *request = list.first;
        list.first = request->next;
        start(disk, request);
    }
}

static struct block_request *take_held(struct block_disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    struct block_request *list = disk->held.first;
    disk->held = (struct request_list){NULL, NULL};
    disk->stats.held = 0;
    for (struct block_request *request = list; request; request = request->next)
        disk->in_flight++;
    pthread_mutex_unlock(&disk->lock);
    return list;
}

unsigned block_disk_retry(struct block_disk *disk)
{
    unsigned n = 0;
    for (struct block_request *next, *request = take_held(disk); request; request = next, n++) {
        next = request->next;
        block_pool_push(disk->pool, request);
    }
    return n;
}

unsigned block_disk_give_up(struct block_disk *disk)
{
    unsigned n = 0;
    for (struct block_request *next, *request = take_held(disk); request; request = next, n++) {
        next = request->next;
        complete(disk, request);
    }
    return n;
}

void block_disk_set_on_error(struct block_disk *disk, enum block_on_error on_error)
{
    pthread_mutex_lock(&disk->lock);
    disk->on_error = on_error;
    pthread_mutex_unlock(&disk->lock);
}

void block_disk_set_rate(struct block_disk *disk, const struct block_rate *rate)
{
    pthread_mutex_lock(&disk->lock);
    throttle_set(&disk->throttle, rate);
    pthread_mutex_unlock(&disk->lock);
}

// ---- On the calling thread

static int run_here(struct block_disk *disk, struct block_request request)
{
    request.start_ns = os_clock_monotonic_ns();
    pthread_mutex_lock(&disk->lock);
    while (disk->paused)
        pthread_cond_wait(&disk->resumed, &disk->lock);
    disk->in_flight++;
    pthread_mutex_unlock(&disk->lock);
    request.result = perform(disk, &request);
    pthread_mutex_lock(&disk->lock);
    count(disk, &request);
    one_less(disk);
    pthread_mutex_unlock(&disk->lock);
    return request.result;
}

int block_read(struct block_disk *disk, uint64_t offset, void *buffer, size_t length)
{
    struct iovec iov = {buffer, length};
    return run_here(
        disk,
        (struct block_request){
            .op = BLOCK_READ, .offset = offset, .length = length, .iov = &iov, .iov_count = 1});
}

int block_write(struct block_disk *disk, uint64_t offset, const void *buffer, size_t length)
{
    struct iovec iov = {(void *)(uintptr_t)buffer, length};
    return run_here(
        disk,
        (struct block_request){
            .op = BLOCK_WRITE, .offset = offset, .length = length, .iov = &iov, .iov_count = 1});
}

int block_flush(struct block_disk *disk)
{
    return run_here(disk, (struct block_request){.op = BLOCK_FLUSH});
}

int block_discard(struct block_disk *disk, uint64_t offset, uint64_t length)
{
    return run_here(
        disk, (struct block_request){.op = BLOCK_DISCARD, .offset = offset, .length = length});
}

int block_write_zeroes(struct block_disk *disk, uint64_t offset, uint64_t length, uint32_t flags)
{
    return run_here(
        disk, (struct block_request){
                  .op = BLOCK_WRITE_ZEROES, .flags = flags, .offset = offset, .length = length});
}

int block_disk_extent(struct block_disk *disk, uint64_t offset, uint64_t length,
                      struct block_extent *extent)
{
    if (!length || !range_within(offset, length, disk->node->size))
        return -EINVAL;
    return block_node_extent(disk->node, offset, length, extent);
}

// ---- Properties

const struct block_limits *block_disk_limits(const struct block_disk *disk)
{
    return &disk->node->limits;
}

uint64_t block_disk_size(const struct block_disk *disk)
{
    return disk->node->size;
}

int block_disk_resize(struct block_disk *disk, uint64_t size, struct err *err)
{
    if (disk->node->read_only)
        return err_set(err, ERR_DENIED, "'%s' is read-only", disk->node->name);
    if (!block_disk_claim(disk))
        return err_set(err, ERR_BUSY,
                       "'%s': a job is at work on the disk; wait for it or cancel it",
                       disk->node->name);
    block_disk_pause(disk);
    int rc = block_node_resize(disk->node, size, err);
    block_disk_resume(disk);
    block_disk_unclaim(disk);
    return rc;
}

void block_disk_stats(struct block_disk *disk, struct block_stats *stats)
{
    pthread_mutex_lock(&disk->lock);
    *stats = disk->stats;
    stats->in_flight = disk->in_flight;
    pthread_mutex_unlock(&disk->lock);
}

struct block_node *block_disk_node(struct block_disk *disk)
{
    return disk->node;
}

struct block_node **block_disk_link(struct block_disk *disk)
{
    return &disk->node;
}

bool block_disk_claim(struct block_disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    bool mine = !disk->claimed && !disk->sharers;
    disk->claimed |= mine;
    pthread_mutex_unlock(&disk->lock);
    return mine;
}

bool block_disk_share(struct block_disk *disk, bool follows)
{
    pthread_mutex_lock(&disk->lock);
    bool mine = !disk->claimed && !(follows && disk->followed);
    disk->sharers += mine;
    disk->followed |= mine && follows;
    pthread_mutex_unlock(&disk->lock);
    return mine;
}

void block_disk_unshare(struct block_disk *disk, bool follows)
{
    pthread_mutex_lock(&disk->lock);
    disk->sharers--;
    disk->followed &= !follows;
    pthread_mutex_unlock(&disk->lock);
}

void block_stack_begin_change(struct block_disk *disk)
{
    block_disk_pause(disk);
    pthread_rwlock_wrlock(&disk->stack);
}

void block_stack_end_change(struct block_disk *disk)
{
    pthread_rwlock_unlock(&disk->stack);
    block_disk_resume(disk);
}

void block_stack_hold(struct block_disk *disk)
{
    pthread_rwlock_rdlock(&disk->stack);
}

void block_stack_let_go(struct block_disk *disk)
{
    pthread_rwlock_unlock(&disk->stack);
}

void block_disk_unclaim(struct block_disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    disk->claimed = false;
    pthread_mutex_unlock(&disk->lock);
}

// ---- Opening and closing

struct block_node *block_image_open(const struct block_image *image, bool read_only, bool repair,
                                    uint64_t memory_bytes, struct err *err)
{
    uint64_t memory = memory_bytes ? memory_bytes : DEFAULT_METADATA_BYTES;
    const struct block_format *format = block_format_find(image->format);
    int fd = image->fd;
    if (!format) {
        err_set(err, ERR_USAGE, "'%s': there is no image format '%s'", image->name, image->format);
        os_file_close(&fd);
        return NULL;
    }
    struct block_node *node = os_unix_is_socket(fd)
                                  ? block_nbd_open(fd, image->name, read_only, memory, err)
                                  : block_file_open(fd, image->name, read_only, memory, err);
    if (!node)
        return NULL;
    node->repair = repair;
    // Nobody looked for what a remote image stands on: without it, it would read as zeros.
    struct block_backing backing = {.name = ""};
    if (os_unix_is_socket(fd) && format->backing && !format->backing(node, &backing, err) &&
        backing.name[0]) {
        err_set(err, ERR_UNSUPPORTED, "'%s': a remote image cannot have a backing file",
                image->name);
        block_node_close(node);
        return NULL;
    }
    return format->open(node, read_only, err);
}

// Put the image at `index` on top of those below it.
static struct block_node *stack_image(const struct block_options *options, size_t index,
                                      struct block_node *backing, struct err *err)
{
    struct block_node *node =
        block_image_open(&options->chain[index], index > 0 || options->read_only,
                         options->repair && index == 0, options->metadata_bytes, err);
    if (!node) {
        block_node_close(backing);
        return NULL;
    }
    node->backing = backing;
    return node;
}

struct block_disk *block_disk_open(const struct block_options *options, struct err *err)
{
    struct block_node *node = NULL;
    size_t i = options->chain_length;
    if (!i)
        err_set(err, ERR_USAGE, "a disk needs at least one image");
    while (i--) {
        node = stack_image(options, i, node, err);
        if (!node)
            break;
    }
    if (!node) { // the descriptors were given to us: close those that no node took over
        for (size_t left = 0; i != SIZE_MAX && left < i; left++) {
            int fd = options->chain[left].fd;
            os_file_close(&fd);
        }
        return NULL;
    }
    node = block_filters_add(node, options, err);
    return node ? block_disk_on(node, options, err) : NULL;
}

struct block_disk *block_disk_on(struct block_node *node, const struct block_options *options,
                                 struct err *err)
{
    struct block_disk *disk = calloc(1, sizeof(*disk));
    struct block_pool *pool = options->pool;
    if (!disk)
        err_set(err, ERR_LIMIT, "no memory for a disk");
    else if (!pool)
        pool = block_pool_create(
            block_node_is_remote(node) ? BLOCK_REMOTE_THREADS : DEFAULT_THREADS, err);
    if (!disk || !pool) {
        block_node_close(node);
        free(disk);
        return NULL;
    }
    disk->node = node;
    disk->pool = pool;
    disk->own_pool = !options->pool;
    disk->no_discard = options->no_discard;
    disk->durability = options->durability;
    disk->on_error = options->on_error;
    disk->on_stop = options->on_stop;
    disk->user = options->user;
    throttle_set(&disk->throttle, &options->rate);
    pthread_mutex_init(&disk->lock, NULL);
    pthread_cond_init(&disk->quiet, NULL);
    pthread_cond_init(&disk->resumed, NULL);
    pthread_rwlockattr_t fair; // jobs that read one after the other do not keep out who changes
    pthread_rwlockattr_init(&fair);
    pthread_rwlockattr_setkind_np(&fair, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&disk->stack, &fair);
    pthread_rwlockattr_destroy(&fair);
    return disk;
}

int block_disk_close(struct block_disk *disk)
{
    if (!disk)
        return 0;
    block_disk_set_on_error(disk, BLOCK_ERROR_REPORT);
    block_disk_give_up(disk);
    block_disk_drain(disk);
    int result = flush(disk);
    int rc = block_node_close(disk->node);
    if (disk->own_pool)
        block_pool_destroy(disk->pool);
    pthread_rwlock_destroy(&disk->stack);
    pthread_cond_destroy(&disk->quiet);
    pthread_cond_destroy(&disk->resumed);
    pthread_mutex_destroy(&disk->lock);
    free(disk);
    return result ? result : rc;
}
