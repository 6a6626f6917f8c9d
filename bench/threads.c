// SPDX-License-Identifier: Apache-2.0
//
// Threads: as many as there are CPUs side by side, and two that contend for one lock.
#include "workload.h"

#include <stddef.h>

#include <pthread.h>
#include <sched.h>

#define MOST 16

static uint64_t each;

static void in_threads(unsigned count, void *(*work)(void *))
{
    pthread_t threads[MOST];
    for (unsigned i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)(i + 3)))
            bench_die("pthread_create");
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

static void *shift(void *seed)
{
    uint64_t x = (uintptr_t)seed;
    for (uint64_t i = 0; i < each; i++)
        x = bench_random(&x) + i;
    bench_sink = x;
    return NULL;
}

static void mt_int(uint64_t iterations)
{
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof cpus, &cpus);
    unsigned count = (unsigned)CPU_COUNT(&cpus);
    each = iterations;
    in_threads(count < MOST ? count : MOST, shift);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t guarded;

static void *contend(void *unused)
{
    (void)unused;
    for (uint64_t i = 0; i < each; i++) {
        pthread_mutex_lock(&mutex);
        guarded += i;
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void mt_lock(uint64_t iterations)
{
    each = iterations;
    in_threads(2, contend);
    bench_sink = guarded;
}

const struct workload thread_workloads[] = {
    {"mt_int", mt_int, 600000000, NULL}, {"mt_lock", mt_lock, 30000000, NULL}, {0}};
