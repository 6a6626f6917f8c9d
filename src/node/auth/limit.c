// SPDX-License-Identifier: Apache-2.0
//
// A table of fixed size indexed by a hash of the name: names that share a slot share its failures, and the memory is bounded whatever names
// somebody tries. The hash is keyed, so that nobody can aim at another's slot.
#include "node/auth/limit.h"

#include <pthread.h>
#include <stdlib.h>

#include "os/random.h"

#define SLOTS 4096

struct limit {
    unsigned failures_max, window_s;
    uint64_t key;
    pthread_mutex_t lock;
    struct {
        uint64_t since_s;
        unsigned failures;
    } slots[SLOTS];
};

struct limit *limit_create(unsigned failures_max, unsigned window_s)
{
    struct limit *limit = calloc(1, sizeof(*limit));
    if (!limit)
        abort();
    limit->failures_max = failures_max;
    limit->window_s = window_s;
    os_random_bytes(&limit->key, sizeof(limit->key));
    pthread_mutex_init(&limit->lock, NULL);
    return limit;
}

void limit_destroy(struct limit *limit)
{
    if (!limit)
        return;
    pthread_mutex_destroy(&limit->lock);
    free(limit);
}

static unsigned slot_of(const struct limit *limit, const char *who)
{
    uint64_t hash = limit->key ^ 0xcbf29ce484222325u;
    for (; *who; who++)
        hash = (hash ^ (uint8_t)*who) * 0x100000001b3u;
    hash ^= hash >> 29;
    hash *= 0xbf58476d1ce4e5b9u;
    return (unsigned)(hash >> 40) % SLOTS;
}

unsigned limit_wait_s(struct limit *limit, const char *who, uint64_t now_s)
{
    unsigned slot = slot_of(limit, who), wait = 0;
    pthread_mutex_lock(&limit->lock);
    uint64_t end = limit->slots[slot].since_s + limit->window_s;
    if (limit->slots[slot].failures >= limit->failures_max && now_s < end)
        wait = (unsigned)(end - now_s);
    pthread_mutex_unlock(&limit->lock);
    return wait;
}

void limit_failed(struct limit *limit, const char *who, uint64_t now_s)
{
    unsigned slot = slot_of(limit, who);
    pthread_mutex_lock(&limit->lock);
    if (now_s >= limit->slots[slot].since_s + limit->window_s)
        limit->slots[slot].failures = 0;
    if (!limit->slots[slot].failures++ || limit->slots[slot].failures == limit->failures_max)
        limit->slots[slot].since_s = now_s;
    pthread_mutex_unlock(&limit->lock);
}

void limit_succeeded(struct limit *limit, const char *who)
{
    unsigned slot = slot_of(limit, who);
    pthread_mutex_lock(&limit->lock);
    limit->slots[slot].failures = 0;
    pthread_mutex_unlock(&limit->lock);
}
