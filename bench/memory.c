// SPDX-License-Identifier: Apache-2.0
//
// Reaching memory: dependent loads inside and outside of the caches and TLBs, copies, atomics.
#include "workload.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

// Follows one random ring through every `stride` of `bytes`, four loads an iteration.
static void chase(uint64_t iterations, size_t bytes, size_t stride)
{
    size_t count = bytes / stride;
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    uint32_t *order = malloc(count * sizeof *order);
    if (memory == MAP_FAILED || !order)
        bench_die("memory of chase");
    madvise(memory, bytes, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    // Sattolo's shuffle makes one cycle of all.
    uint64_t random = 3;
    for (size_t i = count - 1; i > 0; i--) {
        size_t other = bench_random(&random) % i;
        uint32_t kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
    for (size_t i = 0; i < count; i++) {
        void *next = memory + order[i] * stride;
        memcpy(memory + i * stride, &next, sizeof next);
    }
    free(order);
    void **at = (void **)(void *)memory;
    for (uint64_t i = 0; i < iterations; i++)
        at = (void **)***(void ****)*at;
    bench_sink = (uintptr_t)at;
    munmap(memory, bytes);
}

static void chase_l1(uint64_t iterations)
{
    chase(iterations, 16 << 10, 64);
}

static void chase_64m(uint64_t iterations)
{
    chase(iterations, 64 << 20, 256);
}

static void copy(uint64_t iterations)
{
    const size_t bytes = 8 << 20;
    char *from = malloc(bytes), *to = malloc(bytes);
    if (!from || !to)
        bench_die("memory of memcpy");
    memset(from, 1, bytes);
    memset(to, 2, bytes);
    for (uint64_t i = 0; i < iterations; i++) {
        memcpy(to, from, bytes);
        from[i & 4095]++;
    }
    bench_sink = (uint64_t)to[77];
    free(from);
    free(to);
}

static void rep_movsb(uint64_t iterations)
{
    static char from[4096], to[4096];
    for (uint64_t i = 0; i < iterations; i++) {
        void *source = from, *target = to;
        size_t count = 256 + (i & 1023);
        __asm__ volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(count) : : "memory");
    }
    bench_sink = (uint64_t)to[9];
}

static void atomic(uint64_t iterations)
{
    static _Atomic uint64_t value;
    for (uint64_t i = 0; i < iterations; i++) {
        atomic_fetch_add(&value, 3);
        uint64_t expected = atomic_load(&value);
        atomic_compare_exchange_strong(&value, &expected, expected + 1);
    }
    bench_sink = value;
}

const struct workload memory_workloads[] = {
    {"chase_l1", chase_l1, 200000000, NULL},
    {"chase_64m", chase_64m, 4000000, NULL},
    {"memcpy", copy, 2000, NULL},
    {"rep_movsb", rep_movsb, 40000000, NULL},
    {"atomic", atomic, 60000000, NULL},
    {0},
};
