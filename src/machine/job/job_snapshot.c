// SPDX-License-Identifier: Apache-2.0
//
// The new image was made before, by whoever asks: empty, of the disk's size, on the active one. So it reads the same as the active image from
// the moment it exists, and it does not matter which of the two a machine is started with after a kill before or during this job; after it the
// new one is the disk.
#include "machine/job/job_internal.h"

// It must say itself what it stands on, or what is written to it could not be read later.
static int check_backing(struct job *job, const struct block_image *image, struct err *err)
{
    const struct block_format *format = block_format_find(image->format);
    struct block_backing backing = {.name = ""};
    int rc = 0;
    if (format && format->backing) {
        struct block_node *file = job->target;
        while (file->next)
            file = file->next;
        rc = format->backing(file, &backing, err);
    }
    if (!rc && !backing.name[0])
        rc = err_set(err, ERR_USAGE,
                     "'%s' names no backing file; it must stand on the disk's image", image->name);
    return rc;
}

// Paused.
static int put_on_top(struct job *job, struct err *err)
{
    struct block_node **link = block_stack_active(job->options.disk);
    struct block_node *old = *link;
    if (block_layer_seal(old, err))
        return -1;
    if (block_layer_move_bitmaps(old, job->target))
        return err_set(err, ERR_LIMIT, "no memory for a dirty bitmap");
    job->target->backing = old;
    *link = job->target;
    job->target = NULL;
    return 0;
}

int job_run_snapshot(struct job *job, struct err *err)
{
    const struct block_image image = job->options.target;
    if (job_open_target(job, err) || check_backing(job, &image, err))
        return -1;
    if ((*block_stack_active(job->options.disk))->read_only)
        return err_set(err, ERR_DENIED, "the disk is read-only: it needs no snapshot");
    block_disk_pause(job->options.disk);
    int rc = put_on_top(job, err);
    block_disk_resume(job->options.disk);
    return rc;
}
