// SPDX-License-Identifier: Apache-2.0
//
// CRC-32C (Castagnoli), as VHDX uses it.
#ifndef WIRT_MACHINE_BLOCK_CRC32C_H
#define WIRT_MACHINE_BLOCK_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *bytes, size_t length);

#endif
