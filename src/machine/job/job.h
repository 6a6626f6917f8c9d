// SPDX-License-Identifier: Apache-2.0
//
// Jobs on the disk of a running machine: long work on its stack of images (block/stack.h) beside the guest.
//
//     snapshot   a new, empty image becomes the active layer; what was active is sealed below it
//     commit     what lies above a base is written into it, and the layers in between leave the chain
//     stream     what lies below is copied into the active layer, until it needs less of the chain or none
//     mirror     the disk is copied elsewhere and kept equal, until the copy takes its place or is let go
//     backup     the disk as it is now is copied elsewhere, whole or what a dirty bitmap marks
//
// A job never changes what the guest reads. It can be killed at any instant: until its last step the chain that the disk was opened with holds
// everything, and each job says (job_*.c) what is durable before that step. A failure of the job's own I/O fails the job, not the guest's.
//
// States, with the words of the control protocol:
//
//     running ──► ready ──► completing ──► done
//        │          │            │
//        └──────────┴────────────┴───────► failed, cancelled            (paused is a mark beside the state)
//
// Only mirror and a commit of the active layer are ever ready: their copy is equal, and follows; job_complete() makes the last step.
//
// Threads. Each job has one thread, which works on the nodes below the disk; the functions here are for any one other thread.
//
// Several on one disk. Snapshot, commit and stream change the chain of images and have the disk for themselves. Backups may run beside each other
// and beside one mirror: each keeps the disk as it was by a filter of its own, and does not mind that the copy takes the disk's place, for it reads the
// same. Two mirrors cannot, for what one recorded would end with the image that the other replaces; nor two backups with one bitmap,
// for what the one takes from it the other would miss when the first fails. What cannot be is refused when it is to begin.
#ifndef WIRT_MACHINE_JOB_JOB_H
#define WIRT_MACHINE_JOB_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "machine/block/block.h"

struct job;

enum job_kind { JOB_SNAPSHOT, JOB_COMMIT, JOB_STREAM, JOB_MIRROR, JOB_BACKUP, JOB_KIND_COUNT };
const char *job_kind_name(enum job_kind kind);

enum job_state {
    JOB_RUNNING,
    JOB_READY,
    JOB_COMPLETING,
    JOB_DONE,
    JOB_FAILED,
    JOB_CANCELLED,
    JOB_STATE_COUNT
};
const char *job_state_name(enum job_state state);

enum job_scope {
    JOB_FULL, // all of the disk
    JOB_TOP,  // what the active layer holds itself
    JOB_DIRTY // what the named bitmap marks
};

struct job_options {
    enum job_kind kind;
    const char *id; // copied
    struct block_disk *disk;

    // snapshot: the new image, which names the active one as its backing file. mirror, backup: an image of the disk's size.
    struct block_image
        target;         // the descriptor is the job's from here on, also on failure; -1: none
    bool target_is_new; // it reads as zeros, so zeros need not be written

    enum job_scope scope; // mirror, backup
    const char *
        bitmap; // backup: taken as it is now and cleared, merged back when the job does not succeed; NULL: none

    // commit: layers from `top` (NULL: the active one) down to above `base` (NULL: the one below `top`) are written into it.
    // stream: what lies above `base` (NULL: everything) is copied.
    const char *top, *base;
    int base_fd;  // commit: the base, open for writing; -1: as the disk has it
    int above_fd; // commit of inner layers: the image above `top`, likewise

    uint64_t bytes_per_s; // 0: as fast as it goes

    void (*begin)(void); // first on the job's thread (its sandbox); may be NULL
    // On the job's thread: a backup holds the disk as it is now, whatever is written from here on. May be NULL.
    void (*holds)(void *user);
    // On the job's thread, after each change of its state; short. May be NULL.
    void (*changed)(void *user);
    void *user;
};

struct job_status {
    const char *id;
    enum job_kind kind;
    enum job_state state;
    bool paused;
    bool holds;           // a backup: the instant is taken
    bool settled;         // it has ended, or is ready and was not told what to do
    uint64_t done, total; // bytes; total grows while a guest writes
    uint64_t bytes_per_s;
    struct err err; // of a failed one
};

// NULL and *err when it cannot be started; all descriptors are closed then.
struct job *job_start(const struct job_options *options, struct err *err);
void job_status(struct job *job, struct job_status *status);
bool job_ended(struct job *job);
int job_pause(struct job *job, struct err *err);
int job_resume(struct job *job, struct err *err);
int job_set_rate(struct job *job, uint64_t bytes_per_s, struct err *err);
int job_cancel(struct job *job, struct err *err);
// The last step of a job that is ready. With `pivot` the copy takes the disk's place; without, a mirror is let go at one instant.
int job_complete(struct job *job, bool pivot, struct err *err);
// Wait until it has ended, or is ready. For commands and tests.
enum job_state job_wait(struct job *job);
// Cancels it if need be, waits for its end, frees. NULL is fine.
void job_destroy(struct job *job);

#endif
