// SPDX-License-Identifier: Apache-2.0
//
// Time as the host tells it.
#ifndef WIRT_OS_CLOCK_H
#define WIRT_OS_CLOCK_H

#include <stdint.h>

// Nanoseconds on the monotonic clock, which never jumps.
uint64_t os_clock_monotonic_ns(void);
// Wall-clock time in nanoseconds since 1970, UTC; it may jump.
uint64_t os_clock_wall_ns(void);
uint64_t os_clock_process_ns(void); // processor time that this process has had
void os_clock_sleep_until_ns(uint64_t monotonic_ns);

// The time-stamp counter and the monotonic clock at one instant.
struct os_clock_reading {
    uint64_t tsc, ns;
};
struct os_clock_reading os_clock_read(void);

// The first reading for the measurement below, so that it costs no time of its own when it is needed later: taken now, or `earlier` by the process
// that started this one, where that was within the last second. Before there are threads.
void os_clock_start(struct os_clock_reading earlier);

// Ticks of the time-stamp counter a second: from CPUID where it tells, else measured once (about 2
// ms) against the monotonic clock. Thread safe.
uint64_t os_clock_tsc_hz(void);

#endif
