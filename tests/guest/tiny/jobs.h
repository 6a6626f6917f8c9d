// SPDX-License-Identifier: Apache-2.0
//
// What the second of two CPUs does: a job at a time, as the first one says.
#ifndef WIRT_TESTS_TINY_JOBS_H
#define WIRT_TESTS_TINY_JOBS_H

#include "cpus.h"

typedef void job(void);
static job *volatile next_job;
static volatile unsigned alive, jobs_done, jobs_started;

// The second CPU, for good; with interrupts on while it waits, if `open`.
static inline void run_jobs(bool open)
{
    for (;;) {
        job *todo;
        if (open)
            __asm__ volatile("sti");
        while (!(todo = next_job))
            __asm__ volatile("pause");
        __asm__ volatile("cli");
        next_job = NULL;
        todo();
        jobs_done++;
    }
}

// The first CPU.
static inline void start(job *todo)
{
    jobs_started++;
    next_job = todo;
}

static inline void wait_for_job(void)
{
    while (jobs_done != jobs_started)
        __asm__ volatile("pause");
}

#endif
