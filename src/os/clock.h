// SPDX-License-Identifier: Apache-2.0
//
// Time as the host tells it.
#ifndef WIRT_OS_CLOCK_H
#define WIRT_OS_CLOCK_H

#include <stdint.h>

// Nanoseconds on the monotonic clock, which never jumps.
uint64_t os_clock_monotonic_ns(void);
void os_clock_sleep_until_ns(uint64_t monotonic_ns);

#endif
