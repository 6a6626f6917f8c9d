// SPDX-License-Identifier: Apache-2.0
//
// The life of a job: its thread, its orders, its rate, and the copying of one chunk.
#include "machine/job/job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "machine/job/job_internal.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/thread.h"

static const char *const kind_names[] = {"snapshot", "commit", "stream", "mirror", "backup"};
static const char *const state_names[] = {"running", "ready",  "completing",
                                          "done",    "failed", "cancelled"};
_Static_assert(ARRAY_LENGTH(kind_names) == JOB_KIND_COUNT, "a name for each kind");
_Static_assert(ARRAY_LENGTH(state_names) == JOB_STATE_COUNT, "a name for each state");

static int (*const runners[])(struct job *job, struct err *err) = {
    job_run_snapshot, job_run_commit, job_run_stream, job_run_mirror, job_run_backup};
_Static_assert(ARRAY_LENGTH(runners) == JOB_KIND_COUNT, "one for each kind");

const char *job_kind_name(enum job_kind kind)
{
    return kind_names[kind];
}

const char *job_state_name(enum job_state state)
{
    return state_names[state];
}

static bool is_end(enum job_state state)
{
    return state >= JOB_DONE;
}

// ---- On the job's thread

void job_set_state(struct job *job, enum job_state state)
{
    pthread_mutex_lock(&job->lock);
    job->state = state;
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
    if (job->options.changed)
        job->options.changed(job->options.user);
}

void job_set_holds(struct job *job)
{
    pthread_mutex_lock(&job->lock);
    job->holds = true;
    pthread_mutex_unlock(&job->lock);
    if (job->options.holds)
        job->options.holds(job->options.user);
}

void job_progress(struct job *job, uint64_t done, uint64_t total)
{
    pthread_mutex_lock(&job->lock);
    job->done = done;
    job->total = total;
    pthread_mutex_unlock(&job->lock);
}

void job_moved(struct job *job, uint64_t bytes)
{
    pthread_mutex_lock(&job->lock);
    uint64_t now = os_clock_monotonic_ns();
    if (job->next_ns < now)
        job->next_ns = now;
    if (job->bytes_per_s)
        job->next_ns += (uint64_t)((double)bytes * 1e9 / (double)job->bytes_per_s);
    pthread_mutex_unlock(&job->lock);
}

// Lock held.
static void wait_until(struct job *job, uint64_t ns)
{
    struct timespec until = {.tv_sec = (time_t)(ns / 1000000000ull),
                             .tv_nsec = (long)(ns % 1000000000ull)};
    pthread_cond_timedwait(&job->changed, &job->lock, &until);
}

int job_point(struct job *job, struct err *err)
{
    pthread_mutex_lock(&job->lock);
    while (!job->cancel) {
        if (job->paused)
            pthread_cond_wait(&job->changed, &job->lock);
        else if (job->bytes_per_s && job->next_ns > os_clock_monotonic_ns())
            wait_until(job, job->next_ns);
        else
            break;
    }
    bool cancel = job->cancel;
    pthread_mutex_unlock(&job->lock);
    return cancel ? err_set(err, ERR_CANCELLED, "the job was cancelled") : 0;
}

// Does it leave the chain of images as it is until its last step, so that others may run beside it?
static bool shares(enum job_kind kind)
{
    return kind == JOB_BACKUP || kind == JOB_MIRROR;
}

static int take_disk(const struct job_options *o, struct err *err)
{
    if (shares(o->kind))
        return block_disk_share(o->disk, o->kind == JOB_MIRROR)
                   ? 0
                   : err_set(err, ERR_BUSY, "another job is at work on the disk, and %s",
                             o->kind == JOB_MIRROR
                                 ? "a mirror runs beside backups only"
                                 : "a backup runs beside a mirror or backups only");
    return block_disk_claim(o->disk)
               ? 0
               : err_set(err, ERR_BUSY,
                         "another job is at work on the disk, and a %s needs it alone",
                         job_kind_name(o->kind));
}

static void give_disk_back(const struct job_options *o)
{
    if (shares(o->kind))
        block_disk_unshare(o->disk, o->kind == JOB_MIRROR);
    else
        block_disk_unclaim(o->disk);
}

static void *run(void *argument)
{
    struct job *job = argument;
    struct err err = {0};
    os_thread_set_name("job");
    if (job->options.begin)
        job->options.begin();
    int rc = runners[job->options.kind](job, &err);
    block_node_close(job->target);
    job->target = NULL;
    os_aligned_free(job->bytes);
    job->bytes = NULL;
    os_file_close(&job->options.target.fd);
    os_file_close(&job->options.base_fd);
    os_file_close(&job->options.above_fd);
    give_disk_back(&job->options);
    pthread_mutex_lock(&job->lock);
    job->err = err;
    pthread_mutex_unlock(&job->lock);
    job_set_state(job, !rc ? JOB_DONE : err.code == ERR_CANCELLED ? JOB_CANCELLED : JOB_FAILED);
    return NULL;
}

// ---- Copying

unsigned job_granularity(const struct block_node *target)
{
    unsigned bits = BLOCK_BITMAP_GRANULARITY_BITS;
    while ((1ull << bits) < target->limits.optimal_io_size)
        bits++;
    return bits;
}

int job_prepare_copy(struct job *job, const struct block_node *target, unsigned granularity_bits,
                     struct err *err)
{
    uint32_t cluster = target->limits.optimal_io_size;
    job->granule = cluster > 4096 ? cluster : 4096;
    job->chunk = JOB_CHUNK_BYTES;
    while (job->chunk < (1ull << granularity_bits) && job->chunk < 16 * MIB)
        job->chunk *= 2;
    job->bytes = os_aligned_alloc(job->chunk);
    return job->bytes ? 0 : err_set(err, ERR_LIMIT, "no memory for a job");
}

int job_open_target(struct job *job, struct err *err)
{
    struct job_options *o = &job->options;
    job->target = block_image_open(&o->target, false, false, 0, err);
    o->target.fd = -1;
    if (!job->target)
        return -1;
    block_stack_hold(o->disk);
    uint64_t size = block_disk_size(o->disk);
    block_stack_let_go(o->disk);
    if (job->target->size != size)
        return err_set(err, ERR_USAGE, "'%s' holds %llu bytes, the disk %llu; they must be equal",
                       job->target->name, (unsigned long long)job->target->size,
                       (unsigned long long)size);
    return 0;
}

// Runs of zeros and of data, by granules of the target, so that what is sparse stays so.
static int put(struct job *job, struct block_node *target, uint64_t offset, size_t length)
{
    size_t at = 0;
    int rc = 0;
    while (at < length && !rc) {
        size_t end = at;
        bool zero = false;
        while (end < length) {
            size_t n = job->granule < length - end ? job->granule : length - end;
            bool is_zero = block_memory_is_zero(job->bytes + end, n);
            if (end > at && is_zero != zero)
                break;
            zero = is_zero;
            end += n;
        }
        rc = zero ? block_node_zero(target, offset + at, end - at, BLOCK_UNMAP)
                  : block_node_write_buffer(target, offset + at, job->bytes + at, end - at);
        at = end;
    }
    return rc;
}

int job_copy(struct job *job, struct block_node *source, struct block_node *target, uint64_t offset,
             size_t length, bool *on_target)
{
    *on_target = false;
    int rc = block_node_read_buffer(source, offset, job->bytes, length);
    if (rc)
        return rc;
    *on_target = true;
    return put(job, target, offset, length);
}

int job_copy_failed(const struct job *job, int rc, const struct block_node *source,
                    const struct block_node *target, bool on_target, struct err *err)
{
    return err_set_errno(err, -rc, "cannot %s '%s'", on_target ? "write to" : "read",
                         on_target ? target->name : source->name);
}

// ---- For others

static int copy_text(const char **text, struct err *err)
{
    if (*text && !(*text = strdup(*text)))
        return err_set(err, ERR_LIMIT, "no memory for a job");
    return 0;
}

static void free_job(struct job *job)
{
    struct job_options *o = &job->options;
    const char *texts[] = {o->target.name, o->target.format, o->bitmap, o->top, o->base};
    for (size_t i = 0; i < ARRAY_LENGTH(texts); i++)
        free((char *)(uintptr_t)texts[i]);
    os_file_close(&o->target.fd);
    os_file_close(&o->base_fd);
    os_file_close(&o->above_fd);
    pthread_cond_destroy(&job->changed);
    pthread_mutex_destroy(&job->lock);
    free(job);
}

// The caller's texts become the job's own.
static struct job *make_job(const struct job_options *options, struct err *err)
{
    struct job *job = calloc(1, sizeof(*job));
    if (!job) {
        err_set(err, ERR_LIMIT, "no memory for a job");
        return NULL;
    }
    job->options = *options;
    job->bytes_per_s = options->bytes_per_s;
    snprintf(job->id, sizeof(job->id), "%s", options->id);
    pthread_mutex_init(&job->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&job->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    struct job_options *o = &job->options;
    const char **texts[] = {&o->target.name, &o->target.format, &o->bitmap, &o->top, &o->base};
    for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
        if (copy_text(texts[i], err)) {
            for (; i < ARRAY_LENGTH(texts); i++)
                *texts[i] = NULL;
            free_job(job);
            return NULL;
        }
    }
    return job;
}

struct job *job_start(const struct job_options *options, struct err *err)
{
    struct job *job = make_job(options, err);
    if (!job) {
        int fds[] = {options->target.fd, options->base_fd, options->above_fd};
        for (size_t i = 0; i < ARRAY_LENGTH(fds); i++)
            os_file_close(&fds[i]);
        return NULL;
    }
    int rc = take_disk(options, err);
    if (!rc) {
        rc = os_thread_start(&job->thread, "job", run, job, err);
        if (rc)
            give_disk_back(options);
    }
    if (rc) {
        free_job(job);
        return NULL;
    }
    return job;
}

// Lock held.
static bool is_settled(const struct job *job)
{
    return is_end(job->state) || (job->state == JOB_READY && !job->complete && !job->cancel);
}

void job_status(struct job *job, struct job_status *status)
{
    pthread_mutex_lock(&job->lock);
    *status = (struct job_status){.id = job->id,
                                  .kind = job->options.kind,
                                  .state = job->state,
                                  .paused = job->paused,
                                  .holds = job->holds,
                                  .settled = is_settled(job),
                                  .done = job->done,
                                  .total = job->total,
                                  .bytes_per_s = job->bytes_per_s,
                                  .err = job->err};
    pthread_mutex_unlock(&job->lock);
}

bool job_ended(struct job *job)
{
    pthread_mutex_lock(&job->lock);
    bool ended = is_end(job->state);
    pthread_mutex_unlock(&job->lock);
    return ended;
}

// Takes the lock; -1 when the job has ended, and the lock is not held.
static int begin_order(struct job *job, struct err *err)
{
    pthread_mutex_lock(&job->lock);
    if (!is_end(job->state))
        return 0;
    enum job_state state = job->state;
    pthread_mutex_unlock(&job->lock);
    return err_set(err, ERR_BUSY, "job %s has ended: it is %s", job->id, state_names[state]);
}

static int end_order(struct job *job)
{
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
    return 0;
}

int job_pause(struct job *job, struct err *err)
{
    if (begin_order(job, err))
        return -1;
    job->paused = true;
    return end_order(job);
}

int job_resume(struct job *job, struct err *err)
{
    if (begin_order(job, err))
        return -1;
    job->paused = false;
    return end_order(job);
}

int job_set_rate(struct job *job, uint64_t bytes_per_s, struct err *err)
{
    if (begin_order(job, err))
        return -1;
    job->bytes_per_s = bytes_per_s;
    job->next_ns = 0;
    return end_order(job);
}

int job_cancel(struct job *job, struct err *err)
{
    if (begin_order(job, err))
        return -1;
    job->cancel = true;
    return end_order(job);
}

int job_complete(struct job *job, bool pivot, struct err *err)
{
    if (begin_order(job, err))
        return -1;
    if (job->state != JOB_READY) {
        pthread_mutex_unlock(&job->lock);
        return err_set(err, ERR_BUSY, "job %s is not ready to be completed", job->id);
    }
    job->complete = true;
    job->pivot = pivot;
    return end_order(job);
}

enum job_state job_wait(struct job *job)
{
    pthread_mutex_lock(&job->lock);
    while (!is_settled(job))
        pthread_cond_wait(&job->changed, &job->lock);
    enum job_state state = job->state;
    pthread_mutex_unlock(&job->lock);
    return state;
}

void job_destroy(struct job *job)
{
    if (!job)
        return;
    (void)job_cancel(job, NULL);
    pthread_join(job->thread, NULL);
    free_job(job);
}
