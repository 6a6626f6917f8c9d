// SPDX-License-Identifier: Apache-2.0
//
// Commit: layers are written into the base below them and leave the chain.
//
// The active layer among them: the base follows the disk as a mirror would (job_mirror.c). Parts of the base are only overwritten where a layer above
// hides them, with what is read there, so the chain reads the same at every moment. At the end, paused: the base is durable; the active
// image is told to stand on the base itself, then emptied; then the base becomes the active layer. So both names read the same after
// a kill at any of these steps, and the old one goes on reading what the disk holds as long as it is kept.
//
// Inner layers only: they do not change, so one pass copies them; then the image above is told to stand on the base.
//
// The base is unsealed for the time, which fails when others use it: they would see it change.
#include "base/bits.h"
#include "machine/job/job_internal.h"

struct commit {
    unsigned top, base;      // depths
    struct block_node *node; // of the base
};

static const struct block_image_ops *upkeep(const struct block_node *layer)
{
    return block_format_find(block_layer_format(layer))->image;
}

static int find_layers(struct job *job, struct commit *c, struct err *err)
{
    struct block_disk *disk = job->options.disk;
    int top = job->options.top ? block_stack_find(disk, job->options.top, err) : 0;
    if (top < 0)
        return -1;
    int base = job->options.base ? block_stack_find(disk, job->options.base, err) : top + 1;
    if (base < 0)
        return -1;
    if (base <= top || !block_stack_layer(disk, (unsigned)base))
        return err_set(err, ERR_USAGE, "there is no image below to commit to");
    c->top = (unsigned)top;
    c->base = (unsigned)base;
    return 0;
}

static int unseal(struct job *job, unsigned depth, int *fd, struct err *err)
{
    struct block_disk *disk = job->options.disk;
    int given = *fd;
    *fd = -1;
    block_disk_pause(disk);
    int rc = block_layer_unseal(block_stack_layer(disk, depth), given, err);
    block_disk_resume(disk);
    return rc;
}

// A base that is smaller than the disk grows first.
static int prepare_base(struct job *job, struct commit *c, struct err *err)
{
    if (unseal(job, c->base, &job->options.base_fd, err))
        return -1;
    c->node = *block_stack_layer(job->options.disk, c->base);
    uint64_t size = (*block_stack_layer(job->options.disk, c->top))->size;
    return c->node->size < size ? block_node_resize(c->node, size, err) : 0;
}

static void seal_again(struct job *job, unsigned depth)
{
    struct block_node **link = block_stack_layer(job->options.disk, depth);
    if (link && depth)
        (void)block_layer_seal(*link, NULL);
}

// ---- The active layer

static bool above_base(const struct job *job, const struct block_extent *extent)
{
    const struct commit *c = job->work;
    return extent->allocated && extent->depth < c->base;
}

// Paused, everything is durable in the base.
static int make_base_active(struct job *job, struct commit *c, struct err *err)
{
    struct block_node **link = block_stack_active(job->options.disk);
    struct block_node *old = *link;
    const struct block_image_ops *ops = upkeep(old);
    struct block_backing backing = {.name = ""};
    block_layer_name_for(c->node, old->name, &backing);
    if (!ops || !ops->set_backing || !ops->empty)
        return err_set(err, ERR_UNSUPPORTED, "'%s' cannot be committed", old->name);
    if (ops->set_backing(old, &backing, err))
        return -1;
    // The stack in memory follows before the image forgets its content.
    struct block_node **below = block_stack_layer(job->options.disk, c->base);
    struct block_node *inner = old->backing;
    *below = NULL;
    if (inner != c->node)
        block_node_close(inner);
    old->backing = c->node;
    if (ops->empty(old, err))
        return -1; // the disk stays on it: it stands on the base and reads the same
    if (block_layer_move_bitmaps(old, c->node))
        return err_set(err, ERR_LIMIT, "no memory for a dirty bitmap");
    old->backing = NULL;
    *link = c->node;
    block_node_close(old);
    return 0;
}

static int commit_active(struct job *job, struct commit *c, struct err *err)
{
    struct job_follow f = {.target = c->node, .initial = above_base};
    job->work = c;
    if (job_follow(job, &f, err))
        return -1;
    int rc = job->pivot ? make_base_active(job, c, err) : 0;
    block_stack_end_change(job->options.disk);
    return rc;
}

// ---- Inner layers

static int copy_inner(struct job *job, struct commit *c, struct err *err)
{
    struct block_node *top = *block_stack_layer(job->options.disk, c->top);
    unsigned depth = c->base - c->top;
    if (job_prepare_copy(job, c->node, job_granularity(c->node), err))
        return -1;
    for (uint64_t at = 0, size = top->size; at < size;) {
        struct block_extent extent;
        bool on_target;
        uint64_t left = size - at;
        int rc = block_node_extent(top, at, left < job->chunk ? left : job->chunk, &extent);
        if (rc)
            return err_set_errno(err, -rc, "cannot read '%s'", top->name);
        if (job_point(job, err))
            return -1;
        if (extent.allocated && extent.depth < depth) {
            rc = job_copy(job, top, c->node, at, extent.length, &on_target);
            if (rc)
                return job_copy_failed(job, rc, top, c->node, on_target, err);
            job_moved(job, extent.length);
        }
        at += extent.length;
        job_progress(job, at, size);
    }
    int rc = block_node_flush(c->node);
    return rc ? err_set_errno(err, -rc, "cannot write to '%s'", c->node->name) : 0;
}

// Paused: the image above stands on the base.
static int drop_inner(struct job *job, struct commit *c, struct err *err)
{
    struct block_node *above = *block_stack_layer(job->options.disk, c->top - 1);
    const struct block_image_ops *ops = upkeep(above);
    struct block_backing backing = {.name = ""};
    block_layer_name_for(c->node, above->name, &backing);
    if (!ops || !ops->set_backing)
        return err_set(err, ERR_UNSUPPORTED, "'%s' cannot change what it stands on", above->name);
    if (ops->set_backing(above, &backing, err))
        return -1;
    struct block_node *inner = above->backing;
    *block_stack_layer(job->options.disk, c->base) = NULL;
    above->backing = c->node;
    block_node_close(inner);
    return 0;
}

static int commit_inner(struct job *job, struct commit *c, struct err *err)
{
    if (c->top > 1 && unseal(job, c->top - 1, &job->options.above_fd, err))
        return -1;
    int rc = copy_inner(job, c, err);
    if (!rc) {
        job_set_state(job, JOB_COMPLETING);
        block_disk_pause(job->options.disk);
        rc = drop_inner(job, c, err);
        block_disk_resume(job->options.disk);
    }
    return rc;
}

int job_run_commit(struct job *job, struct err *err)
{
    struct block_disk *disk = job->options.disk;
    struct commit c = {0};
    if (find_layers(job, &c, err))
        return -1;
    if (c.top == 0 && (*block_stack_active(disk))->read_only)
        return err_set(err, ERR_DENIED, "the disk is read-only");
    if (prepare_base(job, &c, err))
        return -1;
    int rc = c.top ? commit_inner(job, &c, err) : commit_active(job, &c, err);
    // Whatever became of it, below the active layer nothing stays open for writing.
    block_disk_pause(disk);
    for (unsigned depth = 1; block_stack_layer(disk, depth); depth++)
        seal_again(job, depth);
    block_disk_resume(disk);
    return rc;
}
