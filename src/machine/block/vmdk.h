// SPDX-License-Identifier: Apache-2.0
//
// VMDK from the inside: what the vmdk*.c share.
#ifndef WIRT_MACHINE_BLOCK_VMDK_H
#define WIRT_MACHINE_BLOCK_VMDK_H

#include "machine/block/block_driver.h"
#include "machine/block/buffers.h"
#include "machine/block/meta_cache.h"
#include "machine/block/range_lock.h"
#include "machine/block/vmdk_header.h"

#define VMDK_TABLE_BYTES  (VMDK_TABLE_ENTRIES * 4)
#define VMDK_MARKER_BYTES 12 // of a compressed grain: sector, length
#define VMDK_ENTRY_ZEROS  1u // with VMDK_ZERO_GRAINS

// Bytes of the grain directory of a disk: one 32-bit entry for each grain table.
static inline uint64_t vmdk_directory_entries(uint64_t capacity, uint64_t grain)
{
    uint64_t covered = grain * VMDK_TABLE_ENTRIES;
    return (capacity + covered - 1) / covered;
}

struct vmdk {
    struct block_node node;
    struct vmdk_header header;  // constant
    bool flat;                  // constant: everything is in the backing file
    bool compressed;            // constant
    uint64_t grain_bytes;       // constant
    uint64_t directory_entries; // constant
    uint64_t packed_max;        // constant: bytes of a compressed grain at most

    pthread_mutex_t lock;
    // Under lock.
    struct range_locks ranges;
    uint8_t *directory, *second; // owned: 32-bit entries as in the file; second may be NULL
    struct meta_cache tables;
    uint64_t end; // where the next grain goes

    struct block_buffers buffers; // packed bytes, then a grain; has its own lock
};

static inline struct vmdk *vmdk_of(struct block_node *node)
{
    return (struct vmdk *)(void *)node;
}

extern const struct block_image_ops vmdk_image_ops; // vmdk_check.c

#endif
