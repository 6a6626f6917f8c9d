// SPDX-License-Identifier: Apache-2.0
//
// Seconds since 1970 (UTC, no leap seconds) and Gregorian dates. Pure: the C library's functions
// may read time zone files.
#ifndef WIRT_MACHINE_CHIP_CALENDAR_H
#define WIRT_MACHINE_CHIP_CALENDAR_H

#include <stdint.h>

struct calendar_date {
    unsigned year, month, day; // month and day from 1
    unsigned hour, minute, second;
    unsigned weekday; // 0: Sunday
};

struct calendar_date calendar_from_seconds(uint64_t seconds);
// Members beyond their range carry over (month 14 is February of the next year); dates before 1970
// give 0. The weekday is not looked at. Year up to 100,000, the others up to 1,000.
uint64_t calendar_to_seconds(const struct calendar_date *date);

#endif
