// SPDX-License-Identifier: Apache-2.0
//
// clock_gettime() through the vDSO, and an absolute sleep, which signals do not shorten. The TSC's
// frequency comes from CPUID leaf 15H where the crystal is told; otherwise two readings of both
// clocks are compared. Each reading is the tightest of several TSC-clock-TSC sandwiches, so that
// the error is some tens of nanoseconds in 2 ms.
#include "os/clock.h"

#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <x86intrin.h>

#define MEASURE_NS       2000000u
#define START_MAX_AGE_NS 1000000000u // a host that slept in between may have stopped one of both

uint64_t os_clock_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

uint64_t os_clock_wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

uint64_t os_clock_process_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

void os_clock_sleep_until_ns(uint64_t monotonic_ns)
{
    struct timespec until = {(time_t)(monotonic_ns / 1000000000ull),
                             (long)(monotonic_ns % 1000000000ull)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

struct os_clock_reading os_clock_read(void)
{
    struct os_clock_reading best = {0, 0};
    uint64_t tightest = UINT64_MAX;
    for (unsigned i = 0; i < 16; i++) {
        uint64_t before = __rdtsc(), ns = os_clock_monotonic_ns(), width = __rdtsc() - before;
        if (width < tightest) {
            tightest = width;
            best = (struct os_clock_reading){before + width / 2, ns};
        }
    }
    return best;
}

static uint64_t tsc_hz_told(void)
{
    unsigned denominator, numerator, crystal_hz, edx;
    if (!__get_cpuid(0x15, &denominator, &numerator, &crystal_hz, &edx) || !denominator ||
        !numerator)
        return 0;
    return (uint64_t)crystal_hz * numerator / denominator;
}

static struct os_clock_reading start;

void os_clock_start(struct os_clock_reading earlier)
{
    start = os_clock_read();
    if (earlier.tsc < start.tsc && earlier.ns < start.ns &&
        start.ns - earlier.ns < START_MAX_AGE_NS)
        start = earlier;
}

static uint64_t tsc_hz_measured(void)
{
    struct os_clock_reading first = start.ns ? start : os_clock_read(), last;
    do
        last = os_clock_read();
    while (last.ns - first.ns < MEASURE_NS);
    return (uint64_t)((unsigned __int128)(last.tsc - first.tsc) * 1000000000u /
                      (last.ns - first.ns));
}

static uint64_t tsc_hz;

static void find_tsc_hz(void)
{
    tsc_hz = tsc_hz_told();
    if (!tsc_hz)
        tsc_hz = tsc_hz_measured();
}

uint64_t os_clock_tsc_hz(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_tsc_hz);
    return tsc_hz;
}
