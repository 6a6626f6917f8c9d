// SPDX-License-Identifier: Apache-2.0
//
// Workloads of the benchmark program: small loops, each of which stresses one thing that an engine must do well.
//
// The program is one static binary that runs on any x86-64 Linux, native or as a guest. A workload does
// `iterations` times the same work; `unit` iterations take about a second or two natively, so that a scale
// of 0.1 suits an emulator. What a loop computes ends in bench_sink, or the compiler would drop the loop.
#ifndef WIRT_BENCH_WORKLOAD_H
#define WIRT_BENCH_WORKLOAD_H

#include <stdint.h>

struct workload {
    const char *name;
    void (*run)(uint64_t iterations);
    uint64_t unit;
    const char *(*missing)(void); // why it cannot run here, or NULL; may itself be NULL
};

// Each ends with a row whose name is NULL.
extern const struct workload integer_workloads[];
extern const struct workload floating_workloads[];
extern const struct workload memory_workloads[];
extern const struct workload code_workloads[];
extern const struct workload kernel_workloads[];
extern const struct workload thread_workloads[];

extern volatile uint64_t bench_sink;

// A failed system call: says which, and ends the program with status 1.
void bench_die(const char *what) __attribute__((noreturn));

// A fixed sequence of numbers, the same in every run (xorshift).
static inline uint64_t bench_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
