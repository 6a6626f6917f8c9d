// SPDX-License-Identifier: Apache-2.0
//
// Following a disk: the core of mirror and of a commit of the active layer.
//
// A nameless bitmap on the active layer records what the guest changes. The job first marks in it what must be copied at all, then goes round:
// take a marked stretch, clear it, read it, write it. A write of the guest that is under way is seen by the read or marks the stretch again
// after it. When little is marked the target is flushed and the job ready; it goes on until it is told to complete. Then it goes round until
// what is marked is little, or does not become less; the disk is paused, the rest is copied and the target flushed: both are equal.
//
// A mirror is killed: the source is what it was at any time before the pivot. From the pivot on the guest's writes go to the target, which
// was whole and durable before.
#include <string.h>

#include "base/bits.h"
#include "machine/job/job_internal.h"
#include "os/clock.h"

#define IDLE_NS      20000000ull // how long a job that is ready sleeps when nothing is marked
#define LITTLE_BYTES (8 * MIB)   // what may be left for the pause
#define ROUNDS_MAX   16

// Mark what has to be copied at first.
static int mark_initial(struct job *job, struct job_follow *f, struct err *err)
{
    struct block_node *source = f->source;
    for (uint64_t at = 0, size = source->size; at < size;) {
        struct block_extent extent;
        uint64_t left = size - at;
        int rc = block_node_extent(source, at, left < GIB ? left : GIB, &extent);
        if (rc)
            return err_set_errno(err, -rc, "cannot read '%s'", source->name);
        if (f->initial(job, &extent))
            block_bitmap_mark(f->bitmap, at, extent.length);
        at += extent.length;
        if (job_point(job, err))
            return -1;
    }
    return 0;
}

static int copy_stretch(struct job *job, struct job_follow *f, uint64_t offset, uint64_t length,
                        struct err *err)
{
    bool on_target;
    block_bitmap_clear(f->bitmap, offset, length);
    int rc = job_copy(job, f->source, f->target, offset, length, &on_target);
    return rc ? job_copy_failed(job, rc, f->source, f->target, on_target, err) : 0;
}

// Once over the disk. *copied: how many bytes.
static int one_round(struct job *job, struct job_follow *f, bool paused, uint64_t *copied,
                     struct err *err)
{
    uint64_t offset = 0, length = 0;
    *copied = 0;
    while (block_bitmap_next(f->bitmap, offset + length, job->chunk, &offset, &length)) {
        if (!paused && job_point(job, err))
            return -1;
        if (copy_stretch(job, f, offset, length, err))
            return -1;
        *copied += length;
        job_moved(job, length);
        uint64_t left = block_bitmap_dirty_bytes(f->bitmap);
        pthread_mutex_lock(&job->lock);
        job->done += length;
        job->total = job->done + left;
        pthread_mutex_unlock(&job->lock);
    }
    return 0;
}

static bool told_to_complete(struct job *job)
{
    pthread_mutex_lock(&job->lock);
    bool told = job->complete;
    pthread_mutex_unlock(&job->lock);
    return told;
}

// Sleep for a moment, or until an order comes.
static void idle(struct job *job)
{
    uint64_t until = os_clock_monotonic_ns() + IDLE_NS;
    struct timespec when = {.tv_sec = (time_t)(until / 1000000000ull),
                            .tv_nsec = (long)(until % 1000000000ull)};
    pthread_mutex_lock(&job->lock);
    if (!job->cancel && !job->complete)
        pthread_cond_timedwait(&job->changed, &job->lock, &when);
    pthread_mutex_unlock(&job->lock);
}

static int flush_target(struct job_follow *f, struct err *err)
{
    int rc = block_node_flush(f->target);
    return rc ? err_set_errno(err, -rc, "cannot write to '%s'", f->target->name) : 0;
}

// Go round until little is left, but not for ever beside a guest that writes faster.
static int converge(struct job *job, struct job_follow *f, struct err *err)
{
    uint64_t copied, before = UINT64_MAX;
    for (int round = 0; round < ROUNDS_MAX; round++) {
        uint64_t left = block_bitmap_dirty_bytes(f->bitmap);
        if (left <= LITTLE_BYTES || left >= before)
            break;
        before = left;
        if (one_round(job, f, false, &copied, err))
            return -1;
    }
    return flush_target(f, err);
}

static int follow(struct job *job, struct job_follow *f, struct err *err)
{
    uint64_t copied;
    if (mark_initial(job, f, err))
        return -1;
    job_progress(job, 0, block_bitmap_dirty_bytes(f->bitmap));
    bool ready = false;
    while (!ready || !told_to_complete(job)) {
        if (job_point(job, err) || one_round(job, f, false, &copied, err))
            return -1;
        // A guest that writes all the time leaves something in every round: what is little can be copied in a pause.
        if (!ready && block_bitmap_dirty_bytes(f->bitmap) <= LITTLE_BYTES) {
            if (flush_target(f, err))
                return -1;
            ready = true;
            job_set_state(job, JOB_READY);
        } else if (ready && !copied) {
            idle(job);
        }
    }
    job_set_state(job, JOB_COMPLETING);
    return converge(job, f, err);
}

static void stop_recording(struct job_follow *f)
{
    block_bitmap_remove(&f->source->bitmaps, f->bitmap);
    block_bitmap_destroy(f->bitmap);
    f->bitmap = NULL;
}

int job_follow(struct job *job, struct job_follow *f, struct err *err)
{
    struct block_disk *disk = job->options.disk;
    unsigned granularity = job_granularity(f->target);
    if (job_prepare_copy(job, f->target, granularity, err))
        return -1;
    f->bitmap = block_bitmap_create(NULL, block_disk_size(disk), granularity);
    if (!f->bitmap)
        return err_set(err, ERR_LIMIT, "no memory for a dirty bitmap");
    block_stack_begin_change(disk);
    f->source = *block_stack_active(disk);
    block_bitmap_add(&f->source->bitmaps, f->bitmap);
    block_stack_end_change(disk);
    int rc = follow(job, f, err);
    block_stack_begin_change(disk);
    uint64_t copied;
    if (!rc)
        rc = one_round(job, f, true, &copied, err);
    if (!rc)
        rc = flush_target(f, err);
    stop_recording(f);
    if (rc)
        block_stack_end_change(disk);
    return rc;
}

// ---- mirror

static bool mirror_initial(const struct job *job, const struct block_extent *extent)
{
    const struct job_options *o = &job->options;
    if (o->scope == JOB_TOP)
        return extent->allocated && extent->depth == 0;
    return !extent->zero || !o->target_is_new;
}

// The target becomes the active layer. Paused.
static int pivot(struct job *job, struct err *err)
{
    struct block_node **link = block_stack_active(job->options.disk);
    struct block_node *old = *link, *target = job->target;
    if (block_layer_move_bitmaps(old, target))
        return err_set(err, ERR_LIMIT, "no memory for a dirty bitmap");
    if (job->options.scope == JOB_TOP) {
        target->backing = old->backing;
        old->backing = NULL;
    }
    *link = target;
    job->target = NULL;
    block_node_close(old); // its last flush is of no more concern: the target holds everything
    return 0;
}

int job_run_mirror(struct job *job, struct err *err)
{
    if (job->options.scope == JOB_DIRTY)
        return err_set(err, ERR_USAGE, "a mirror copies everything or the active image");
    if (job_open_target(job, err))
        return -1;
    struct job_follow f = {.target = job->target, .initial = mirror_initial};
    if (job_follow(job, &f, err))
        return -1;
    int rc = job->pivot ? pivot(job, err) : 0;
    block_stack_end_change(job->options.disk);
    return rc;
}
