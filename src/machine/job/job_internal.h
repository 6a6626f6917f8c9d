// SPDX-License-Identifier: Apache-2.0
//
// Jobs from the inside: what their kinds share.
#ifndef WIRT_MACHINE_JOB_JOB_INTERNAL_H
#define WIRT_MACHINE_JOB_JOB_INTERNAL_H

#include <pthread.h>

#include "machine/block/bitmap.h"
#include "machine/block/stack.h"
#include "machine/job/job.h"

#define JOB_CHUNK_BYTES (1024 * 1024)

struct job {
    // Constant.
    struct job_options options; // its texts are owned
    char id[64];
    pthread_t thread;

    // The job's thread.
    struct block_node *target; // owned until it joins the stack
    uint8_t *bytes;            // owned: one chunk
    size_t chunk, granule;     // of copying: a chunk is some granules
    uint64_t next_ns;          // when the rate permits the next chunk
    const void *work;          // borrowed: what the kind keeps for its functions

    pthread_mutex_t lock;
    pthread_cond_t changed;
    // Under lock.
    enum job_state state;
    bool holds, paused, cancel, complete, pivot;
    uint64_t done, total, bytes_per_s;
    struct err err;
};

// One for each kind, on the job's thread: 0, or -1 and *err. ERR_CANCELLED when job_point() said so.
int job_run_snapshot(struct job *job, struct err *err);
int job_run_commit(struct job *job, struct err *err);
int job_run_stream(struct job *job, struct err *err);
int job_run_mirror(struct job *job, struct err *err);
int job_run_backup(struct job *job, struct err *err);

// ---- For them

// Between two chunks: stays here while the job is paused or faster than it may. -1 when it was cancelled.
int job_point(struct job *job, struct err *err);
void job_progress(struct job *job, uint64_t done, uint64_t total);
// `bytes` were moved: the rate counts them.
void job_moved(struct job *job, uint64_t bytes);
void job_set_state(struct job *job, enum job_state state);
void job_set_holds(struct job *job); // see job_options.holds

// Opens options.target as job->target, of the disk's size, and sets up copying to it.
int job_open_target(struct job *job, struct err *err);
int job_prepare_copy(struct job *job, const struct block_node *target, unsigned granularity_bits,
                     struct err *err);
// The granularity, in bits, of bitmaps for copying to `target`: at least 64 KiB and whole clusters of it.
unsigned job_granularity(const struct block_node *target);
// One chunk at most. 0 or a negative errno; *on_target: which side it was.
int job_copy(struct job *job, struct block_node *source, struct block_node *target, uint64_t offset,
             size_t length, bool *on_target);
int job_copy_failed(const struct job *job, int rc, const struct block_node *source,
                    const struct block_node *target, bool on_target, struct err *err);

// job_mirror.c: keep `target` equal to the active layer until the job is told to complete or cancel. `initial` is told each stretch of the disk
// and says whether it has to be copied at first. Returns 0 with the disk paused, its stack being changed (block_stack_begin_change()), and both sides equal and durable.
struct job_follow {
    struct block_node *target;
    bool (*initial)(const struct job *job, const struct block_extent *extent);
    struct block_node *source;   // the active layer, which stays that while it follows
    struct block_bitmap *bitmap; // in the active layer's list while it follows
};
int job_follow(struct job *job, struct job_follow *follow, struct err *err);

#endif
