// SPDX-License-Identifier: Apache-2.0
//
// clock_gettime() through the vDSO, and an absolute sleep, which signals do not shorten.
#include "os/clock.h"

#include <errno.h>
#include <time.h>

uint64_t os_clock_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

void os_clock_sleep_until_ns(uint64_t monotonic_ns)
{
    struct timespec until = {(time_t)(monotonic_ns / 1000000000ull), (long)(monotonic_ns % 1000000000ull)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}
