// SPDX-License-Identifier: Apache-2.0
//
// Locks on ranges of the guest's disk, shared or exclusive, for as long as a request works on them:
// so that a cluster is not given back while another request still reads it, and two writers do not
// both allocate it.
//
// All functions are called with the owner's mutex held; waiting releases it. The list of holders is
// as long as there are requests at work (the pool's threads), so walking it is cheap. An exclusive
// lock that waits keeps later shared ones out, so that it is not starved.
#ifndef WIRT_MACHINE_BLOCK_RANGE_LOCK_H
#define WIRT_MACHINE_BLOCK_RANGE_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct range_lock {
    uint64_t start, end; // half open
    bool exclusive;
    struct range_lock *next;
};

struct range_locks {
    struct range_lock *first;
    pthread_cond_t changed;
    unsigned waiters;
};

void range_locks_init(struct range_locks *locks);
void range_locks_fini(struct range_locks *locks);
// `lock` is the caller's (on its stack) until it is released.
void range_lock_take(struct range_locks *locks, pthread_mutex_t *mutex, struct range_lock *lock,
                     uint64_t start, uint64_t end, bool exclusive);
// The same without waiting; false when it would have to.
bool range_lock_try(struct range_locks *locks, struct range_lock *lock, uint64_t start,
                    uint64_t end, bool exclusive);
void range_lock_release(struct range_locks *locks, struct range_lock *lock);

#endif
