// SPDX-License-Identifier: Apache-2.0
//
// A backup holds the disk as it was when the job began. A filter above the active layer keeps it so: before a part that is not copied yet changes,
// it is copied. What is left to copy stands in a bitmap; whoever copies a part, the job or a request of the guest, holds the part's range lock,
// and clears the bits when the target has the bytes. So a request whose part has no bits goes straight through.
//
// When the target fails, the bits are given up and the guest goes on; the job has failed.
//
// The user's bitmap is taken when the job begins and cleared, so that it records from that instant on. Unless the backup succeeds, what it held
// is merged back. Killed: a bitmap that was not saved is inconsistent, and the next backup a full one.
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "machine/block/buffers.h"
#include "machine/block/range_lock.h"
#include "machine/job/job_internal.h"

struct before {
    struct block_node node;
    struct block_node *target; // borrowed
    struct block_bitmap *left; // owned: what is to be copied
    struct block_buffers buffers;
    size_t chunk, granule; // constant
    pthread_mutex_t lock;
    struct range_locks ranges; // under lock
    int failed;                // under lock: 0, or the errno
    bool failed_on_target;
    uint64_t copied; // under lock
};

static struct before *before_of(struct block_node *node)
{
    return CONTAINER_OF(node, struct before, node);
}

static int put(struct before *b, uint64_t offset, const uint8_t *bytes, size_t length)
{
    if (block_memory_is_zero(bytes, length))
        return block_node_zero(b->target, offset, length, BLOCK_UNMAP);
    return block_node_write_buffer(b->target, offset, bytes, length);
}

// A stretch that lies within a chunk and whose range lock is held.
static int copy_stretch(struct before *b, uint64_t offset, uint64_t length, bool *on_target)
{
    uint8_t *bytes = block_buffers_get(&b->buffers);
    *on_target = false;
    int rc = bytes ? block_node_read_buffer(b->node.next, offset, bytes, length) : -ENOMEM;
    for (uint64_t at = 0; at < length && !rc;) {
        uint64_t n = length - at < b->granule ? length - at : b->granule;
        *on_target = true;
        rc = put(b, offset + at, bytes + at, n);
        at += n;
    }
    block_buffers_put(&b->buffers, bytes);
    return rc;
}

static void give_up(struct before *b, int rc, bool on_target)
{
    pthread_mutex_lock(&b->lock);
    if (!b->failed) {
        b->failed = rc;
        b->failed_on_target = on_target;
    }
    pthread_mutex_unlock(&b->lock);
    block_bitmap_clear(b->left, 0, b->left->size);
}

// What is marked in [offset, end), inside one chunk, is copied.
static void copy_marked(struct before *b, uint64_t offset, uint64_t end)
{
    struct range_lock range;
    uint64_t at = offset, length = 0;
    pthread_mutex_lock(&b->lock);
    range_lock_take(&b->ranges, &b->lock, &range, offset, end, true);
    pthread_mutex_unlock(&b->lock);
    while (block_bitmap_next(b->left, at + length, UINT64_MAX, &at, &length) && at < end) {
        if (length > end - at)
            length = end - at;
        bool on_target;
        int rc = copy_stretch(b, at, length, &on_target);
        if (rc) {
            give_up(b, rc, on_target);
            break;
        }
        block_bitmap_clear(b->left, at, length);
        pthread_mutex_lock(&b->lock);
        b->copied += length;
        pthread_mutex_unlock(&b->lock);
    }
    pthread_mutex_lock(&b->lock);
    range_lock_release(&b->ranges, &range);
    pthread_mutex_unlock(&b->lock);
}

static void copy_before(struct before *b, uint64_t offset, uint64_t length)
{
    uint64_t end = offset + length, bit = 1ull << b->left->granularity_bits;
    for (uint64_t at = align_down(offset, bit); at < end;) {
        uint64_t limit = align_down(at, b->chunk) + b->chunk;
        if (limit > end)
            limit = align_up(end, bit);
        if (block_bitmap_any(b->left, at, limit - at))
            copy_marked(b, at, limit);
        at = limit;
    }
}

static int before_write(struct block_node *node, uint64_t offset, struct block_vec vec,
                        uint32_t flags)
{
    copy_before(before_of(node), offset, vec.length);
    return block_node_write(node->next, offset, vec, flags);
}

static int before_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    copy_before(before_of(node), offset, length);
    return block_node_discard(node->next, offset, length);
}

static int before_zero(struct block_node *node, uint64_t offset, uint64_t length, uint32_t flags)
{
    copy_before(before_of(node), offset, length);
    return block_node_zero(node->next, offset, length, flags);
}

static void before_release(struct block_node *node)
{
    struct before *b = before_of(node);
    block_bitmap_destroy(b->left);
    block_buffers_fini(&b->buffers);
    range_locks_fini(&b->ranges);
    pthread_mutex_destroy(&b->lock);
}

static const struct block_ops before_ops = {
    .name = "copy-before-write",
    .filter = true,
    .write = before_write,
    .discard = before_discard,
    .zero = before_zero,
    .release = before_release,
};

static struct before *create_filter(struct job *job, struct err *err)
{
    struct block_node *active = *block_stack_active(job->options.disk);
    struct before *b = (void *)block_node_create(sizeof(*b), &before_ops, NULL);
    unsigned granularity = job_granularity(job->target);
    if (b)
        b->left = block_bitmap_create(NULL, active->size, granularity);
    if (!b || !b->left || job_prepare_copy(job, job->target, granularity, err)) {
        free(b);
        err_set(err, ERR_LIMIT, "no memory for a backup");
        return NULL;
    }
    b->node.size = active->size;
    b->node.limits = active->limits;
    b->node.read_only = active->read_only;
    b->target = job->target;
    b->chunk = job->chunk;
    b->granule = job->granule;
    block_buffers_init(&b->buffers, 4, job->chunk);
    pthread_mutex_init(&b->lock, NULL);
    range_locks_init(&b->ranges);
    return b;
}

// What is to be copied, as the scope says. Paused.
static int mark(struct job *job, struct before *b, const struct block_bitmap *dirty,
                struct err *err)
{
    const struct job_options *o = &job->options;
    struct block_node *active = *block_stack_active(o->disk);
    if (o->scope == JOB_DIRTY) {
        block_bitmap_merge(b->left, dirty);
        return 0;
    }
    for (uint64_t at = 0; at < active->size;) {
        struct block_extent extent;
        uint64_t left = active->size - at;
        int rc = block_node_extent(active, at, left < GIB ? left : GIB, &extent);
        if (rc)
            return err_set_errno(err, -rc, "cannot read '%s'", active->name);
        if (o->scope == JOB_TOP ? extent.allocated && extent.depth == 0
                                : !extent.zero || !o->target_is_new)
            block_bitmap_mark(b->left, at, extent.length);
        at += extent.length;
    }
    return 0;
}

static int copy_all(struct job *job, struct before *b, struct err *err)
{
    uint64_t total = block_bitmap_dirty_bytes(b->left), at = 0, length = 0;
    job_progress(job, 0, total);
    while (block_bitmap_next(b->left, 0, job->chunk, &at, &length)) {
        if (job_point(job, err))
            return -1;
        uint64_t limit = align_down(at, b->chunk) + b->chunk;
        block_stack_hold(job->options.disk);
        copy_marked(b, at, at + length < limit ? at + length : limit);
        block_stack_let_go(job->options.disk);
        pthread_mutex_lock(&b->lock);
        uint64_t copied = b->copied;
        pthread_mutex_unlock(&b->lock);
        job_progress(job, copied, copied > total ? copied : total);
        job_moved(job, length);
    }
    return 0;
}

// The user's bitmap: a copy of it as it is, and it begins anew. Paused.
static int take_bitmap(struct job *job, struct block_bitmap **taken, struct err *err)
{
    const char *name = job->options.bitmap;
    struct block_node *active = *block_stack_active(job->options.disk);
    *taken = NULL;
    if (!name)
        return job->options.scope == JOB_DIRTY
                   ? err_set(err, ERR_USAGE, "an incremental backup needs a bitmap")
                   : 0;
    struct block_bitmap *bitmap = block_bitmap_find(active->bitmaps, name);
    if (!bitmap)
        return err_set(err, ERR_NOT_FOUND, "the disk has no bitmap '%s'", name);
    if (bitmap->inconsistent)
        return err_set(
            err, ERR_INPUT,
            "bitmap '%s' was not saved: it does not tell what has changed; remove it and "
            "make a full backup",
            name);
    if (bitmap->taken)
        return err_set(err, ERR_BUSY, "another backup works with bitmap '%s'", name);
    *taken = block_bitmap_create(NULL, bitmap->size, bitmap->granularity_bits);
    if (!*taken)
        return err_set(err, ERR_LIMIT, "no memory for a dirty bitmap");
    bitmap->taken = true;
    block_bitmap_merge(*taken, bitmap);
    return 0;
}

static void clear_bitmap(struct job *job)
{
    struct block_node *active = *block_stack_active(job->options.disk);
    struct block_bitmap *bitmap =
        job->options.bitmap ? block_bitmap_find(active->bitmaps, job->options.bitmap) : NULL;
    if (bitmap)
        block_bitmap_clear(bitmap, 0, bitmap->size);
}

// With what was taken from it, unless the backup succeeded.
static void give_bitmap_back(struct job *job, const struct block_bitmap *taken, bool failed)
{
    struct block_node *active = *block_stack_active(job->options.disk);
    struct block_bitmap *bitmap =
        taken ? block_bitmap_find(active->bitmaps, job->options.bitmap) : NULL;
    if (!bitmap)
        return;
    bitmap->taken = false;
    if (failed)
        block_bitmap_merge(bitmap, taken);
}

// Nothing is left to copy, so no request touches the target any more.
static int finish(struct job *job, struct before *b, struct err *err)
{
    if (b->failed) {
        block_stack_hold(job->options.disk);
        const struct block_node *side = b->failed_on_target ? job->target : b->node.next;
        err_set_errno(err, -b->failed, "cannot %s '%s'", b->failed_on_target ? "write to" : "read",
                      side->name);
        block_stack_let_go(job->options.disk);
        return -1;
    }
    const char *name = job->options.target.name;
    int rc = block_node_flush(job->target);
    if (!rc)
        rc = block_node_close(job->target);
    else
        block_node_close(job->target);
    job->target = NULL;
    return rc ? err_set_errno(err, -rc, "cannot write to '%s'", name) : 0;
}

int job_run_backup(struct job *job, struct err *err)
{
    struct block_disk *disk = job->options.disk;
    struct block_bitmap *taken = NULL;
    if (job_open_target(job, err))
        return -1;
    block_stack_hold(disk);
    struct before *b = create_filter(job, err);
    block_stack_let_go(disk);
    if (!b)
        return -1;
    block_stack_begin_change(disk);
    int rc = take_bitmap(job, &taken, err);
    if (!rc)
        rc = mark(job, b, taken, err);
    if (!rc) {
        clear_bitmap(job);
        block_stack_insert(disk, &b->node);
    } else {
        give_bitmap_back(job, taken, false);
    }
    block_stack_end_change(disk);
    if (!rc) {
        job_set_holds(job);
        rc = copy_all(job, b, err);
        if (rc) // cancelled: nothing need be copied any more
            block_bitmap_clear(b->left, 0, b->left->size);
        if (!rc)
            rc = finish(job, b, err);
        block_stack_begin_change(disk);
        block_stack_take_out(disk, &b->node);
        give_bitmap_back(job, taken, rc);
        block_stack_end_change(disk);
    }
    block_node_close(&b->node);
    block_bitmap_destroy(taken);
    return rc;
}
