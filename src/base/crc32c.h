// SPDX-License-Identifier: Apache-2.0
//
// CRC-32C (Castagnoli polynomial 0x1EDC6F41, reflected; RFC 3720, appendix B.4).
#ifndef WIRT_BASE_CRC32C_H
#define WIRT_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

// Of `length` more bytes after those that gave `crc`; 0 at the start.
uint32_t crc32c(uint32_t crc, const void *bytes, size_t length);

#endif
