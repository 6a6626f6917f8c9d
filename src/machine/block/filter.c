// SPDX-License-Identifier: Apache-2.0
//
// The three filters. Each is a table that overrides what it watches and leaves the rest to `next`.
#include "machine/block/filter.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "base/bits.h"
#include "base/err.h"
#include "os/clock.h"
#include "os/file.h"

// ---- log

struct log_node {
    struct block_node node;
    int fd;               // borrowed
    pthread_mutex_t lock; // records are whole and in order
    uint64_t position;    // under lock: where the next record goes
};

static struct log_node *log_of(struct block_node *node)
{
    return CONTAINER_OF(node, struct log_node, node);
}

// Called with the lock held.
static int log_record(struct log_node *log, unsigned op, uint32_t flags, uint64_t offset,
                      uint64_t length, const struct block_vec *bytes)
{
    struct block_log_record record = {BLOCK_LOG_MAGIC, op, flags, offset, length};
    int rc = os_pwrite(log->fd, &record, sizeof(record), log->position);
    uint64_t at = log->position + sizeof(record);
    struct block_vec left = bytes ? *bytes : (struct block_vec){0};
    while (!rc && left.length) {
        size_t n;
        const void *front = block_vec_front(left, &n);
        rc = os_pwrite(log->fd, front, n, at);
        at += n;
        left = block_vec_slice(left, n, left.length - n);
    }
    log->position = at;
    return rc;
}

static int log_write(struct block_node *node, uint64_t offset, struct block_vec vec, uint32_t flags)
{
    struct log_node *log = log_of(node);
    pthread_mutex_lock(&log->lock);
    int rc = log_record(log, BLOCK_WRITE, flags, offset, vec.length, &vec);
    if (!rc)
        rc = block_node_write(node->next, offset, vec, flags);
    block_node_grew(node, node->next->size);
    pthread_mutex_unlock(&log->lock);
    return rc;
}

static int log_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    struct log_node *log = log_of(node);
    pthread_mutex_lock(&log->lock);
    int rc = log_record(log, BLOCK_DISCARD, 0, offset, length, NULL);
    if (!rc)
        rc = block_node_discard(node->next, offset, length);
    pthread_mutex_unlock(&log->lock);
    return rc;
}

static int log_zero(struct block_node *node, uint64_t offset, uint64_t length, uint32_t flags)
{
    struct log_node *log = log_of(node);
    pthread_mutex_lock(&log->lock);
    int rc = block_node_zero(node->next, offset, length, flags);
    block_node_grew(node, node->next->size);
    if (!rc)
        rc = log_record(log, BLOCK_WRITE_ZEROES, flags, offset, length, NULL);
    pthread_mutex_unlock(&log->lock);
    return rc;
}

// A flush is recorded after it is done: until then it promises nothing.
static int log_flush(struct block_node *node)
{
    struct log_node *log = log_of(node);
    pthread_mutex_lock(&log->lock);
    int rc = block_node_flush(node->next);
    if (!rc)
        rc = log_record(log, BLOCK_FLUSH, 0, 0, 0, NULL);
    pthread_mutex_unlock(&log->lock);
    return rc;
}

static int log_resize(struct block_node *node, uint64_t size, struct err *err)
{
    struct log_node *log = log_of(node);
    pthread_mutex_lock(&log->lock);
    int rc = block_node_resize(node->next, size, err);
    if (!rc)
        rc = log_record(log, BLOCK_OP_COUNT, 0, size, 0, NULL);
    if (!rc)
        node->size = node->next->size;
    pthread_mutex_unlock(&log->lock);
    return rc;
}

static void log_release(struct block_node *node)
{
    pthread_mutex_destroy(&log_of(node)->lock);
}

static const struct block_ops log_ops = {
    .name = "log",
    .filter = true,
    .write = log_write,
    .flush = log_flush,
    .discard = log_discard,
    .zero = log_zero,
    .resize = log_resize,
    .release = log_release,
};

struct block_node *block_filter_log(struct block_node *node, int fd)
{
    struct log_node *log = (void *)block_node_create(sizeof(*log), &log_ops, node);
    if (!log)
        return NULL;
    pthread_mutex_init(&log->lock, NULL);
    log->fd = fd;
    os_file_size(fd, &log->position);
    return &log->node;
}

// ---- fault

struct fault_node {
    struct block_node node;
    struct block_fault fault; // constant
    _Atomic uint64_t seen;    // matching operations so far
};

// 0, or the error with which this operation fails.
static int fault_now(struct block_node *node, enum block_op op)
{
    struct fault_node *f = CONTAINER_OF(node, struct fault_node, node);
    if (!(f->fault.ops & BIT(op)))
        return 0;
    uint64_t n = atomic_fetch_add(&f->seen, 1);
    if (n < f->fault.after || (f->fault.count && n - f->fault.after >= f->fault.count))
        return 0;
    return -f->fault.error;
}

static int fault_read(struct block_node *node, uint64_t offset, struct block_vec vec)
{
    int rc = fault_now(node, BLOCK_READ);
    return rc ? rc : block_node_read(node->next, offset, vec);
}

static int fault_write(struct block_node *node, uint64_t offset, struct block_vec vec,
                       uint32_t flags)
{
    int rc = fault_now(node, BLOCK_WRITE);
    if (!rc)
        rc = block_node_write(node->next, offset, vec, flags);
    block_node_grew(node, node->next->size);
    return rc;
}

static int fault_flush(struct block_node *node)
{
    int rc = fault_now(node, BLOCK_FLUSH);
    return rc ? rc : block_node_flush(node->next);
}

static int fault_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    int rc = fault_now(node, BLOCK_DISCARD);
    return rc ? rc : block_node_discard(node->next, offset, length);
}

static int fault_zero(struct block_node *node, uint64_t offset, uint64_t length, uint32_t flags)
{
    int rc = fault_now(node, BLOCK_WRITE_ZEROES);
    if (!rc)
        rc = block_node_zero(node->next, offset, length, flags);
    block_node_grew(node, node->next->size);
    return rc;
}

static const struct block_ops fault_ops = {
    .name = "fault",
    .filter = true,
    .read = fault_read,
    .write = fault_write,
    .flush = fault_flush,
    .discard = fault_discard,
    .zero = fault_zero,
};

struct block_node *block_filter_fault(struct block_node *node, const struct block_fault *fault)
{
    struct fault_node *f = (void *)block_node_create(sizeof(*f), &fault_ops, node);
    if (!f)
        return NULL;
    f->fault = *fault;
    return &f->node;
}

// ---- delay

struct delay_node {
    struct block_node node;
    uint64_t delay_ns;
};

static uint64_t delay_until(struct block_node *node)
{
    return os_clock_monotonic_ns() + CONTAINER_OF(node, struct delay_node, node)->delay_ns;
}

static int delay_read(struct block_node *node, uint64_t offset, struct block_vec vec)
{
    uint64_t until = delay_until(node);
    int rc = block_node_read(node->next, offset, vec);
    os_clock_sleep_until_ns(until);
    return rc;
}

static int delay_write(struct block_node *node, uint64_t offset, struct block_vec vec,
                       uint32_t flags)
{
    uint64_t until = delay_until(node);
    int rc = block_node_write(node->next, offset, vec, flags);
    block_node_grew(node, node->next->size);
    os_clock_sleep_until_ns(until);
    return rc;
}

static int delay_flush(struct block_node *node)
{
    uint64_t until = delay_until(node);
    int rc = block_node_flush(node->next);
    os_clock_sleep_until_ns(until);
    return rc;
}

static const struct block_ops delay_ops = {
    .name = "delay",
    .filter = true,
    .read = delay_read,
    .write = delay_write,
    .flush = delay_flush,
};

struct block_node *block_filter_delay(struct block_node *node, uint64_t delay_ns)
{
    struct delay_node *delay = (void *)block_node_create(sizeof(*delay), &delay_ops, node);
    if (!delay)
        return NULL;
    delay->delay_ns = delay_ns;
    return &delay->node;
}

// ---- by options

struct block_node *block_filters_add(struct block_node *node, const struct block_options *options,
                                     struct err *err)
{
    if (node && options->fault.error)
        node = block_filter_fault(node, &options->fault);
    if (node && options->delay_ns)
        node = block_filter_delay(node, options->delay_ns);
    if (node && options->log_fd > 0)
        node = block_filter_log(node, options->log_fd);
    if (!node)
        err_set(err, ERR_LIMIT, "no memory for a disk");
    return node;
}
