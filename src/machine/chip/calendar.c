// SPDX-License-Identifier: Apache-2.0
//
// Days are counted from 1 January of the year 0 (a leap year of the proleptic calendar).
#include "machine/chip/calendar.h"

#include <stdbool.h>

#define DAY_SECONDS 86400u

static const uint16_t days_before_month[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};

static bool is_leap(uint64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static uint64_t days_before_year(uint64_t year)
{
    uint64_t last = year - 1;
    return year ? year * 365 + last / 4 - last / 100 + last / 400 + 1 : 0;
}

static uint64_t days_before(uint64_t year, unsigned month0)
{
    return days_before_year(year) + days_before_month[month0] + (month0 > 1 && is_leap(year));
}

struct calendar_date calendar_from_seconds(uint64_t seconds)
{
    uint64_t days = seconds / DAY_SECONDS + days_before_year(1970);
    unsigned rest = (unsigned)(seconds % DAY_SECONDS);
    uint64_t year = days / 366;
    while (days_before_year(year + 1) <= days)
        year++;
    unsigned month0 = 11;
    while (days_before(year, month0) > days)
        month0--;
    return (struct calendar_date){
        .year = (unsigned)year,
        .month = month0 + 1,
        .day = (unsigned)(days - days_before(year, month0)) + 1,
        .hour = rest / 3600,
        .minute = rest / 60 % 60,
        .second = rest % 60,
        .weekday = (unsigned)((seconds / DAY_SECONDS + 4) % 7), // 1970 began on a Thursday
    };
}

uint64_t calendar_to_seconds(const struct calendar_date *date)
{
    int64_t months = (int64_t)date->year * 12 + date->month - 1;
    if (months < 0)
        return 0;
    int64_t days = (int64_t)days_before((uint64_t)months / 12, (unsigned)(months % 12)) +
                   (int64_t)date->day - 1 - (int64_t)days_before_year(1970);
    int64_t seconds =
        days * (int64_t)DAY_SECONDS + date->hour * 3600ll + date->minute * 60ll + date->second;
    return seconds > 0 ? (uint64_t)seconds : 0;
}
