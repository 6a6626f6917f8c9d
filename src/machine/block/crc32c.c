// SPDX-License-Identifier: Apache-2.0
//
// A bit at a time: only a few headers are ever summed.
#include "machine/block/crc32c.h"

#define POLYNOMIAL 0x82f63b78u // reflected

uint32_t crc32c(const void *bytes, size_t length)
{
    const uint8_t *at = bytes;
    uint32_t crc = ~0u;
    while (length--) {
        crc ^= *at++;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (POLYNOMIAL & (0u - (crc & 1)));
    }
    return ~crc;
}
