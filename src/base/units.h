// SPDX-License-Identifier: Apache-2.0
//
// Sizes as people write and read them: binary, with suffix K, M, G or T.
#ifndef WIRT_BASE_UNITS_H
#define WIRT_BASE_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// "512M" to bytes; a number alone counts in `unit` bytes. False for anything else, for zero digits and for overflow.
bool units_parse_size(const char *text, uint64_t unit, uint64_t *bytes);

// A whole decimal number in [min, max] and nothing else.
bool units_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *number);

// "1.5G" into `buffer`, which is returned.
#define UNITS_SIZE_TEXT_BYTES 24
const char *units_format_size(uint64_t bytes, char buffer[UNITS_SIZE_TEXT_BYTES]);

#endif
