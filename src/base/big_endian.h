// SPDX-License-Identifier: Apache-2.0
//
// Unaligned big-endian access, for formats that are stored so (qcow2, VMDK's cousins, network protocols).
#ifndef WIRT_BASE_BIG_ENDIAN_H
#define WIRT_BASE_BIG_ENDIAN_H

#include "base/bits.h"

static inline uint16_t load_be16(const void *p)
{
    return __builtin_bswap16(load_le16(p));
}

static inline uint32_t load_be32(const void *p)
{
    return __builtin_bswap32(load_le32(p));
}

static inline uint64_t load_be64(const void *p)
{
    return __builtin_bswap64(load_le64(p));
}

static inline void store_be16(void *p, uint16_t v)
{
    store_le16(p, __builtin_bswap16(v));
}

static inline void store_be32(void *p, uint32_t v)
{
    store_le32(p, __builtin_bswap32(v));
}

static inline void store_be64(void *p, uint64_t v)
{
    store_le64(p, __builtin_bswap64(v));
}

#endif
