// SPDX-License-Identifier: Apache-2.0
//
// VMDK from the inside: what vmdk.c and vmdk_create.c share.
#ifndef WIRT_MACHINE_BLOCK_VMDK_H
#define WIRT_MACHINE_BLOCK_VMDK_H

#include "machine/block/vmdk_header.h"

// Bytes of the grain directory of a disk: one 32-bit entry for each grain table.
static inline uint64_t vmdk_directory_entries(uint64_t capacity, uint64_t grain)
{
    uint64_t covered = grain * VMDK_TABLE_ENTRIES;
    return (capacity + covered - 1) / covered;
}

#endif
