// SPDX-License-Identifier: Apache-2.0
//
// Requests on a qcow2 image. Each takes its range lock, then goes run by run: look the run up with
// the lock held, move the bytes without it.
//
// A write to clusters that are its own goes straight to them. Anything else allocates: new clusters
// get the old content around the written bytes (copy on write) in the same transfer, then the L2
// entries change in memory. Where the new space reads as zeros already and the old content was
// zeros, nothing is copied.
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "machine/block/qcow2.h"

#define VEC_MAX 64

static uint64_t cluster_down(const struct qcow2 *q, uint64_t offset)
{
    return align_down(offset, q->cluster_size);
}

static uint64_t cluster_up(const struct qcow2 *q, uint64_t offset)
{
    return align_up(offset, q->cluster_size);
}

static void lock_range(struct qcow2 *q, struct range_lock *range, uint64_t offset, uint64_t length,
                       bool exclusive)
{
    range_lock_take(&q->ranges, &q->lock, range, cluster_down(q, offset),
                    cluster_up(q, offset + length), exclusive);
}

// ---- Read

static int read_run(struct qcow2 *q, const struct qcow2_run *run, uint64_t offset,
                    struct block_vec vec)
{
    switch (run->kind) {
    case QCOW2_UNALLOCATED:
        if (q->node.backing)
            return block_node_read_padded(q->node.backing, offset, vec);
        block_vec_zero(vec);
        return 0;
    case QCOW2_ZEROS:
        block_vec_zero(vec);
        return 0;
    case QCOW2_DATA:
        return block_node_read(q->node.next, run->host, vec);
    case QCOW2_PACKED:
        return qcow2_packed_read(q, run->entry, offset & (q->cluster_size - 1), vec);
    }
    return -EIO;
}

int qcow2_read(struct block_node *node, uint64_t offset, struct block_vec vec)
{
    struct qcow2 *q = qcow2_of(node);
    struct range_lock range;
    int rc = 0;
    pthread_mutex_lock(&q->lock);
    lock_range(q, &range, offset, vec.length, false);
    while (vec.length && !rc) {
        struct qcow2_run run;
        rc = qcow2_lookup(q, offset, vec.length, &run);
        if (rc)
            break;
        pthread_mutex_unlock(&q->lock);
        rc = read_run(q, &run, offset, block_vec_slice(vec, 0, run.length));
        offset += run.length;
        vec = block_vec_slice(vec, run.length, vec.length - run.length);
        pthread_mutex_lock(&q->lock);
    }
    range_lock_release(&q->ranges, &range);
    pthread_mutex_unlock(&q->lock);
    return rc;
}

// ---- Write

// The old content of [offset, offset + length), which lies in the first or last cluster of a run
// that begins at run_offset. Beyond the disk's end there are zeros.
static int read_old(struct qcow2 *q, struct qcow2_run run, uint64_t run_offset, uint64_t offset,
                    uint8_t *to, size_t length)
{
    uint64_t size = q->node.size;
    size_t inside = offset >= size ? 0 : length < size - offset ? length : size - offset;
    memset(to + inside, 0, length - inside);
    if (!inside)
        return 0;
    struct iovec iov = {to, inside};
    if (run.host)
        run.host += offset - run_offset; // also backwards, within the first cluster
    return read_run(q, &run, offset, block_vec(&iov, inside));
}

struct copy_on_write {
    struct qcow2_run run; // the old mapping
    uint64_t offset;      // of the written bytes
    struct block_vec vec; // the written bytes
    uint64_t head, tail;  // bytes to keep before and after them
    uint64_t host;        // the first new cluster
};

static int write_joined(struct qcow2 *q, const struct copy_on_write *c, uint8_t *head,
                        uint8_t *tail)
{
    struct iovec iov[VEC_MAX + 2];
    size_t taken;
    int count = 0;
    if (c->head)
        iov[count++] = (struct iovec){head, c->head};
    count += block_vec_window(c->vec, iov + count, VEC_MAX, &taken);
    bool whole = taken == c->vec.length;
    if (whole && c->tail)
        iov[count++] = (struct iovec){tail, c->tail};
    size_t length = c->head + taken + (whole ? c->tail : 0);
    int rc = block_node_write(q->node.next, c->host, block_vec(iov, length), 0);
    if (rc || whole)
        return rc;
    uint64_t at = c->host + length;
    struct block_vec rest = block_vec_slice(c->vec, taken, c->vec.length - taken);
    rc = block_node_write(q->node.next, at, rest, 0);
    if (!rc && c->tail)
        rc = block_node_write_buffer(q->node.next, at + rest.length, tail, c->tail);
    return rc;
}

static int write_with_copy(struct qcow2 *q, const struct copy_on_write *c)
{
    if (!c->head && !c->tail)
        return block_node_write(q->node.next, c->host, c->vec, 0);
    uint8_t *buffer = block_buffers_get(&q->cow);
    if (!buffer)
        return -ENOMEM;
    uint8_t *tail = buffer + q->cluster_size;
    int rc = 0;
    if (c->head)
        rc = read_old(q, c->run, c->offset, c->offset - c->head, buffer, c->head);
    if (!rc && c->tail)
        rc = read_old(q, c->run, c->offset, c->offset + c->vec.length, tail, c->tail);
    if (!rc)
        rc = write_joined(q, c, buffer, tail);
    block_buffers_put(&q->cow, buffer);
    return rc;
}

// Also when the backing image is not open: a backup is written without looking at what it stands on.
static bool has_backing(const struct qcow2 *q)
{
    return q->node.backing || q->header.backing_name[0];
}

static bool was_zeros(const struct qcow2 *q, const struct qcow2_run *run)
{
    return run->kind == QCOW2_ZEROS || (run->kind == QCOW2_UNALLOCATED && !q->node.backing);
}

// Write [offset, offset + vec.length), all of one run, to new clusters. Lock held, released
// meanwhile. *done: how many bytes, at least one.
static int write_new(struct qcow2 *q, const struct qcow2_run *run, uint64_t offset,
                     struct block_vec vec, size_t *done)
{
    uint64_t first = cluster_down(q, offset), end = offset + vec.length;
    uint32_t want = (uint32_t)((cluster_up(q, end) - first) >> q->cluster_bits), got = want;
    uint64_t host = 0;
    bool zeros = false;
    // Zeros that keep a cluster of their own are written where they are.
    bool reuse = run->kind == QCOW2_ZEROS && run->host && (run->entry & QCOW2_COPIED);
    if (reuse) {
        host = run->host - (offset - first);
    } else {
        int rc = qcow2_allocate(q, want, &host, &got, &zeros);
        if (rc)
            return rc;
    }
    uint64_t new_end = first + ((uint64_t)got << q->cluster_bits);
    *done = (end < new_end ? end : new_end) - offset;
    struct copy_on_write c = {
        *run, offset, block_vec_slice(vec, 0, *done), offset - first, new_end - offset - *done,
        host};
    if (zeros && was_zeros(q, run)) {
        c.host += c.head;
        c.head = c.tail = 0;
    }
    pthread_mutex_unlock(&q->lock);
    int rc = write_with_copy(q, &c);
    pthread_mutex_lock(&q->lock);
    q->allocated = true; // the copied bytes must be durable before the mapping
    if (!rc)
        rc = qcow2_set_entries(q, first, got, host | QCOW2_COPIED);
    if (rc && !reuse)
        qcow2_release_now(q, host, got);
    return rc;
}

// As much as is in place already. Lock held, released meanwhile.
static int write_in_place(struct qcow2 *q, uint64_t *offset, struct block_vec *vec)
{
    int rc = 0;
    while (vec->length && !rc) {
        struct qcow2_run run;
        rc = qcow2_lookup(q, *offset, vec->length, &run);
        if (rc || !run.in_place)
            break;
        if (qcow2_overlaps_tables(q, run.host, run.length))
            return qcow2_corrupt(q, "an L2 entry points to a table, guest offset", *offset);
        pthread_mutex_unlock(&q->lock);
        rc = block_node_write(q->node.next, run.host, block_vec_slice(*vec, 0, run.length), 0);
        *offset += run.length;
        *vec = block_vec_slice(*vec, run.length, vec->length - run.length);
        pthread_mutex_lock(&q->lock);
    }
    return rc;
}

int qcow2_write(struct block_node *node, uint64_t offset, struct block_vec vec, uint32_t flags)
{
    struct qcow2 *q = qcow2_of(node);
    struct range_lock range;
    pthread_mutex_lock(&q->lock);
    int rc = q->broken ? -EIO : 0;
    lock_range(q, &range, offset, vec.length, false);
    if (!rc)
        rc = write_in_place(q, &offset, &vec);
    range_lock_release(&q->ranges, &range);
    if (rc || !vec.length) {
        pthread_mutex_unlock(&q->lock);
        return rc;
    }
    lock_range(q, &range, offset, vec.length, true);
    pthread_mutex_unlock(&q->lock);
    while (vec.length && !rc) {
        struct qcow2_run run = {.length = 0};
        size_t done;
        rc = qcow2_lock_room(q);
        if (rc)
            break;
        rc = write_in_place(q, &offset, &vec);
        if (!rc && vec.length)
            rc = qcow2_lookup(q, offset, vec.length, &run);
        if (!rc && vec.length) {
            rc = write_new(q, &run, offset, block_vec_slice(vec, 0, run.length), &done);
            if (!rc) {
                offset += done;
                vec = block_vec_slice(vec, done, vec.length - done);
            }
        }
        pthread_mutex_unlock(&q->lock);
    }
    pthread_mutex_lock(&q->lock);
    range_lock_release(&q->ranges, &range);
    pthread_mutex_unlock(&q->lock);
    return rc;
}

// ---- Populate

// One run that a backing image decides. Lock held, released meanwhile.
static int populate_run(struct qcow2 *q, const struct qcow2_run *run, uint64_t offset,
                        struct block_vec vec, bool keep_holes, size_t *done)
{
    *done = run->length;
    pthread_mutex_unlock(&q->lock);
    int rc = block_node_read_padded(q->node.backing, offset, vec);
    bool zeros = !rc && block_vec_is_zero(vec);
    pthread_mutex_lock(&q->lock);
    if (rc || (zeros && keep_holes))
        return rc;
    if (!zeros || q->header.version < 3)
        return write_new(q, run, offset, vec, done);
    uint64_t slice = (uint64_t)(q->slice_bytes / q->entry_bytes) << q->cluster_bits;
    uint64_t left = slice - (offset & (slice - 1));
    if (*done > left)
        *done = left;
    return qcow2_set_entries(q, offset, (unsigned)qcow2_clusters(q, *done), QCOW2_ZERO);
}

int qcow2_populate(struct block_node *node, uint64_t offset, struct block_vec vec, bool keep_holes)
{
    struct qcow2 *q = qcow2_of(node);
    struct range_lock range;
    int rc = 0;
    pthread_mutex_lock(&q->lock);
    lock_range(q, &range, offset, vec.length, true);
    pthread_mutex_unlock(&q->lock);
    while (vec.length && !rc) {
        struct qcow2_run run = {.length = 0};
        rc = qcow2_lock_room(q);
        if (rc)
            break;
        rc = qcow2_lookup(q, offset, vec.length, &run);
        size_t done = run.length;
        if (!rc && run.kind == QCOW2_UNALLOCATED && node->backing)
            rc = populate_run(q, &run, offset, block_vec_slice(vec, 0, run.length), keep_holes,
                              &done);
        offset += done;
        vec = block_vec_slice(vec, done, vec.length - done);
        pthread_mutex_unlock(&q->lock);
    }
    pthread_mutex_lock(&q->lock);
    range_lock_release(&q->ranges, &range);
    pthread_mutex_unlock(&q->lock);
    return rc;
}

// ---- Discard and zero: whole clusters, run by run

enum qcow2_clear {
    CLEAR_DISCARD,    // what this image holds reads as zeros, its space is given back
    CLEAR_ZERO,       // everything reads as zeros, own clusters are kept
    CLEAR_ZERO_UNMAP, // everything reads as zeros, own clusters are given back
    CLEAR_RECORD,     // the same, whatever stands below now or later
    CLEAR_EMPTY       // this image holds nothing here: a backing one shows through
};

// The new entry for a run; false: leave it as it is.
static bool cleared_value(const struct qcow2 *q, const struct qcow2_run *run, uint64_t offset,
                          enum qcow2_clear clear, uint64_t *value)
{
    *value = q->header.version >= 3 && clear != CLEAR_EMPTY ? QCOW2_ZERO : 0;
    if (run->kind == QCOW2_UNALLOCATED) // a discard shall not make the image larger
        return clear == CLEAR_RECORD ||
               (has_backing(q) && (clear == CLEAR_ZERO || clear == CLEAR_ZERO_UNMAP));
    if (clear == CLEAR_EMPTY)
        return true;
    if (run->kind == QCOW2_ZEROS)
        return clear != CLEAR_ZERO && run->host;
    if (clear == CLEAR_ZERO && run->in_place)
        *value |= (run->host - (offset & (q->cluster_size - 1))) | QCOW2_COPIED;
    return true;
}

// Lock held.
static int clear_run(struct qcow2 *q, uint64_t offset, uint64_t length, enum qcow2_clear clear,
                     uint64_t *done)
{
    struct qcow2_run run;
    uint64_t value;
    *done = 0;
    int rc = qcow2_lookup(q, offset, length, &run);
    if (rc)
        return rc;
    // An absent L2 table is one long run, of which one slice's entries can be set at once.
    uint64_t slice = (uint64_t)(q->slice_bytes / q->entry_bytes) << q->cluster_bits;
    uint64_t left = slice - (offset & (slice - 1));
    bool change = cleared_value(q, &run, offset, clear, &value);
    *done = change && run.length > left ? left : run.length;
    if (!change)
        return 0;
    q->punch = clear != CLEAR_ZERO;
    rc = qcow2_set_entries(q, offset, (unsigned)qcow2_clusters(q, *done), value);
    q->punch = false;
    return rc;
}

// [offset, end) is whole clusters, but for the disk's end.
static int clear_clusters(struct qcow2 *q, uint64_t offset, uint64_t end, enum qcow2_clear clear)
{
    struct range_lock range;
    pthread_mutex_lock(&q->lock);
    lock_range(q, &range, offset, end - offset, true);
    pthread_mutex_unlock(&q->lock);
    int rc = 0;
    while (offset < end && !rc) {
        uint64_t done;
        rc = qcow2_lock_room(q);
        if (rc)
            break;
        rc = clear_run(q, offset, end - offset, clear, &done);
        offset += done;
        pthread_mutex_unlock(&q->lock);
    }
    pthread_mutex_lock(&q->lock);
    range_lock_release(&q->ranges, &range);
    pthread_mutex_unlock(&q->lock);
    return rc;
}

// The whole clusters of a range; the disk's last one counts as whole when the range reaches its end.
static bool whole_clusters(const struct qcow2 *q, uint64_t offset, uint64_t length, uint64_t *start,
                           uint64_t *end)
{
    *start = cluster_up(q, offset);
    *end = offset + length == q->node.size ? offset + length : cluster_down(q, offset + length);
    return *start < *end;
}

int qcow2_empty(struct qcow2 *q, uint64_t offset, uint64_t length)
{
    uint64_t start, end;
    return whole_clusters(q, offset, length, &start, &end)
               ? clear_clusters(q, start, end, CLEAR_EMPTY)
               : 0;
}

int qcow2_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    struct qcow2 *q = qcow2_of(node);
    uint64_t start, end;
    // Version 2 cannot say "zeros here" above a backing image.
    if ((q->header.version < 3 && has_backing(q)) ||
        !whole_clusters(q, offset, length, &start, &end))
        return 0;
    return clear_clusters(q, start, end, CLEAR_DISCARD);
}

int qcow2_zero(struct block_node *node, uint64_t offset, uint64_t length, uint32_t flags)
{
    struct qcow2 *q = qcow2_of(node);
    uint64_t start, end;
    bool v2 = q->header.version < 3, record = flags & BLOCK_ZERO_RECORDED;
    if ((v2 && (has_backing(q) || record || !(flags & BLOCK_UNMAP))) ||
        !whole_clusters(q, offset, length, &start, &end))
        return -EOPNOTSUPP;
    int rc = 0;
    if (offset < start)
        rc = block_node_write_zeros(node, offset, start - offset);
    if (!rc)
        rc = clear_clusters(q, start, end,
                            record                  ? CLEAR_RECORD
                            : (flags & BLOCK_UNMAP) ? CLEAR_ZERO_UNMAP
                                                    : CLEAR_ZERO);
    if (!rc && end < offset + length)
        rc = block_node_write_zeros(node, end, offset + length - end);
    return rc;
}

// ---- Without a thread

// Lock held. Takes the range lock when it returns 0.
static int find_route(struct qcow2 *q, enum block_op op, uint64_t offset, uint64_t length,
                      struct range_lock *range, struct qcow2_run *run)
{
    if ((op == BLOCK_WRITE && q->broken) ||
        !range_lock_try(&q->ranges, range, cluster_down(q, offset), cluster_up(q, offset + length),
                        false))
        return -EAGAIN;
    int rc = qcow2_lookup_cached(q, offset, length, run);
    bool whole = !rc && run->length == length;
    if (whole && op == BLOCK_WRITE)
        whole = run->in_place && !qcow2_overlaps_tables(q, run->host, length);
    else if (whole)
        whole = run->kind == QCOW2_DATA || (run->kind == QCOW2_UNALLOCATED && q->node.backing);
    if (!whole)
        range_lock_release(&q->ranges, range);
    return whole ? 0 : -EAGAIN;
}

int qcow2_route(struct block_node *node, enum block_op op, uint64_t offset, struct block_vec vec,
                struct block_route *route)
{
    struct qcow2 *q = qcow2_of(node);
    struct qcow2_run run;
    // Somebody may hold the lock while he reads a table.
    if (route->held_count == BLOCK_ROUTE_DEPTH || pthread_mutex_trylock(&q->lock))
        return -EAGAIN;
    struct range_lock *range = &route->held[route->held_count].lock;
    int rc = find_route(q, op, offset, vec.length, range, &run);
    pthread_mutex_unlock(&q->lock);
    if (rc)
        return rc;
    route->held[route->held_count++].node = node;
    if (run.kind == QCOW2_DATA)
        return block_node_route(node->next, op, run.host, vec, route);
    struct block_node *backing = node->backing;
    if (!range_within(offset, vec.length, backing->size))
        return -EAGAIN;
    return block_node_route(backing, op, offset, vec, route);
}

void qcow2_unroute(struct block_node *node, struct range_lock *lock)
{
    struct qcow2 *q = qcow2_of(node);
    pthread_mutex_lock(&q->lock);
    range_lock_release(&q->ranges, lock);
    pthread_mutex_unlock(&q->lock);
}

// ---- What lies where

static int extent_below(struct qcow2 *q, uint64_t offset, uint64_t length,
                        struct block_extent *extent)
{
    struct block_node *backing = q->node.backing;
    *extent = (struct block_extent){.length = length, .zero = true};
    if (!backing || offset >= backing->size)
        return 0;
    if (length > backing->size - offset)
        length = backing->size - offset;
    int rc = block_node_extent(backing, offset, length, extent);
    extent->depth++;
    return rc;
}

int qcow2_extent(struct block_node *node, uint64_t offset, uint64_t length,
                 struct block_extent *extent)
{
    struct qcow2 *q = qcow2_of(node);
    struct qcow2_run run;
    pthread_mutex_lock(&q->lock);
    int rc = qcow2_lookup(q, offset, length, &run);
    pthread_mutex_unlock(&q->lock);
    if (rc)
        return rc;
    if (run.kind == QCOW2_UNALLOCATED)
        return extent_below(q, offset, run.length, extent);
    *extent = (struct block_extent){
        .length = run.length,
        .zero = run.kind == QCOW2_ZEROS,
        .allocated = true,
        .compressed = run.kind == QCOW2_PACKED,
        .host_valid = run.kind == QCOW2_DATA,
        .host_offset = run.host,
    };
    return 0;
}
