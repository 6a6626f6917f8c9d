// SPDX-License-Identifier: Apache-2.0
//
// Newer locks are put at the front; a lock waits for those behind it that conflict, whether they
// hold or wait themselves. Hence the order is first come, first served, and there is no deadlock.
#include "machine/block/range_lock.h"

#include <stddef.h>

void range_locks_init(struct range_locks *locks)
{
    locks->first = NULL;
    locks->waiters = 0;
    pthread_cond_init(&locks->changed, NULL);
}

void range_locks_fini(struct range_locks *locks)
{
    pthread_cond_destroy(&locks->changed);
}

static bool conflicts_behind(const struct range_lock *lock)
{
    for (const struct range_lock *other = lock->next; other; other = other->next) {
        if ((lock->exclusive || other->exclusive) && lock->start < other->end &&
            other->start < lock->end)
            return true;
    }
    return false;
}

void range_lock_take(struct range_locks *locks, pthread_mutex_t *mutex, struct range_lock *lock,
                     uint64_t start, uint64_t end, bool exclusive)
{
    *lock = (struct range_lock){start, end, exclusive, locks->first};
    locks->first = lock;
    while (conflicts_behind(lock)) {
        locks->waiters++;
        pthread_cond_wait(&locks->changed, mutex);
        locks->waiters--;
    }
}

bool range_lock_try(struct range_locks *locks, struct range_lock *lock, uint64_t start,
                    uint64_t end, bool exclusive)
{
    *lock = (struct range_lock){start, end, exclusive, locks->first};
    if (conflicts_behind(lock))
        return false;
    locks->first = lock;
    return true;
}

void range_lock_release(struct range_locks *locks, struct range_lock *lock)
{
    struct range_lock **at = &locks->first;
    while (*at != lock)
        at = &(*at)->next;
    *at = lock->next;
    if (locks->waiters)
        pthread_cond_broadcast(&locks->changed);
}
