// SPDX-License-Identifier: Apache-2.0
#include "base/units.h"

#include <stdio.h>
#include <string.h>

static bool digits(const char **text, uint64_t *number)
{
    const char *p = *text;
    uint64_t n = 0;
    if (*p < '0' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
            return false;
    *text = p;
    *number = n;
    return true;
}

static bool suffix_unit(char suffix, uint64_t *unit)
{
    static const char suffixes[] = "KMGT";
    const char *found = suffix ? strchr(suffixes, suffix & ~0x20) : NULL;
    if (!found)
        return false;
    *unit = 1ull << (10 * (found - suffixes + 1));
    return true;
}

bool units_parse_size(const char *text, uint64_t unit, uint64_t *bytes)
{
    uint64_t n;
    if (!digits(&text, &n))
        return false;
    if (*text && (!suffix_unit(*text, &unit) || text[1]))
        return false;
    return !__builtin_mul_overflow(n, unit, bytes);
}

bool units_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *number)
{
    return digits(&text, number) && !*text && *number >= min && *number <= max;
}

const char *units_format_size(uint64_t bytes, char buffer[UNITS_SIZE_TEXT_BYTES])
{
    static const char suffixes[] = "BKMGTPE";
    unsigned step = 0;
    while (step < 6 && bytes >> (10 * (step + 1)))
        step++;
    uint64_t unit = 1ull << (10 * step);
    uint64_t tenths = (bytes % unit) * 10 / unit;
    if (tenths)
        snprintf(buffer, UNITS_SIZE_TEXT_BYTES, "%llu.%llu%c", (unsigned long long)(bytes / unit),
                 (unsigned long long)tenths, suffixes[step]);
    else
        snprintf(buffer, UNITS_SIZE_TEXT_BYTES, "%llu%c", (unsigned long long)(bytes / unit),
                 suffixes[step]);
    return buffer;
}
