// SPDX-License-Identifier: Apache-2.0
//
// Everything that the active layer does not hold is copied into it from below, cluster by cluster and atomically beside the guest
// (block_ops.populate), then the image is told to stand on the base alone or on nothing, and the layers in between are closed. Killed before that:
// the active image holds more than it did, and reads the same.
#include <errno.h>

#include "base/bits.h"
#include "machine/job/job_internal.h"

struct stream {
    unsigned depth; // of the base
    bool to_nothing;
};

// Is this stretch to be copied?
static bool wanted(const struct stream *s, const struct block_extent *extent)
{
    if (extent->depth == 0 && extent->allocated)
        return false;
    if (s->to_nothing)
        return !extent->zero;
    return extent->allocated && extent->depth < s->depth;
}

static int populate(struct job *job, struct block_node *top, const struct stream *s, uint64_t start,
                    uint64_t end, struct err *err)
{
    uint64_t cluster = top->limits.optimal_io_size ? top->limits.optimal_io_size : 512;
    for (uint64_t at = align_down(start, cluster); at < end;) {
        uint64_t limit = at + job->chunk < end ? at + job->chunk : align_up(end, cluster);
        if (limit > top->size)
            limit = top->size;
        if (job_point(job, err))
            return -1;
        struct iovec iov = {job->bytes, limit - at};
        int rc = top->ops->populate(top, at, block_vec(&iov, limit - at), s->to_nothing);
        if (rc)
            return err_set_errno(err, -rc, "cannot copy into '%s'", top->name);
        job_moved(job, limit - at);
        at = limit;
        job_progress(job, at, top->size);
    }
    return 0;
}

static int copy_all(struct job *job, struct block_node *top, const struct stream *s,
                    struct err *err)
{
    for (uint64_t at = 0; at < top->size;) {
        struct block_extent extent;
        uint64_t left = top->size - at;
        int rc = block_node_extent(top, at, left < GIB ? left : GIB, &extent);
        if (rc)
            return err_set_errno(err, -rc, "cannot read '%s'", top->name);
        if (wanted(s, &extent) ? populate(job, top, s, at, at + extent.length, err)
                               : job_point(job, err))
            return -1;
        at += extent.length;
        job_progress(job, at, top->size);
    }
    return 0;
}

// The layers above the base leave the stack. Paused; everything is durable and recorded.
static void cut(struct job *job, struct block_node *top, const struct stream *s)
{
    struct block_node *rest = top->backing, *base = NULL;
    if (!s->to_nothing) {
        struct block_node **link = block_stack_layer(job->options.disk, s->depth);
        base = *link;
        *link = NULL;
    }
    top->backing = base;
    if (rest != base)
        block_node_close(rest);
}

int job_run_stream(struct job *job, struct err *err)
{
    struct block_disk *disk = job->options.disk;
    struct block_node *top = *block_stack_active(disk);
    const struct block_format *format = block_format_find(block_layer_format(top));
    struct stream s = {.to_nothing = !job->options.base};
    if (job->options.base) {
        int depth = block_stack_find(disk, job->options.base, err);
        if (depth < 0)
            return -1;
        if (depth < 2)
            return depth ? 0
                         : err_set(err, ERR_USAGE, "'%s' is the active image", job->options.base);
        s.depth = (unsigned)depth;
    }
    if (!top->backing)
        return 0;
    if (!top->ops->populate || !format->image || !format->image->set_backing || top->read_only)
        return err_set(err, ERR_UNSUPPORTED, "'%s' cannot take in what it stands on", top->name);
    if (job_prepare_copy(job, top, job_granularity(top), err) || copy_all(job, top, &s, err))
        return -1;
    job_set_state(job, JOB_COMPLETING);
    struct block_backing backing = {.name = ""};
    if (!s.to_nothing)
        block_layer_name_for(*block_stack_layer(disk, s.depth), top->name, &backing);
    block_disk_pause(disk);
    // set_backing() makes everything durable before it changes the name.
    int rc = format->image->set_backing(top, &backing, err);
    if (!rc)
        cut(job, top, &s);
    block_disk_resume(disk);
    return rc;
}
