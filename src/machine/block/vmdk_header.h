// SPDX-License-Identifier: Apache-2.0
//
// The header of a sparse VMDK extent and the text that describes a VMDK disk. Pure.
#ifndef WIRT_MACHINE_BLOCK_VMDK_HEADER_H
#define WIRT_MACHINE_BLOCK_VMDK_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define VMDK_MAGIC         0x564d444bu // "KDMV"
#define VMDK_HEADER_BYTES  512
#define VMDK_SECTOR        512
#define VMDK_TABLE_ENTRIES 512        // of each grain table
#define VMDK_AT_END        UINT64_MAX // the directory's place is in the footer
#define VMDK_TEXT_BYTES    (20 * 1024)

enum vmdk_flags {
    VMDK_NEWLINE_TEST = 1,
    VMDK_SECOND_DIRECTORY = 2, // the redundant one is kept
    VMDK_ZERO_GRAINS = 4,      // table entry 1: zeros
    VMDK_COMPRESSED = 1 << 16,
    VMDK_MARKERS = 1 << 17,
};

struct vmdk_header {
    uint32_t version, flags;
    uint64_t capacity; // sectors, like all below
    uint64_t grain;
    uint64_t text_offset, text_sectors;
    uint64_t second_directory, directory;
    uint64_t overhead; // before the first grain
    bool unclean;
    uint16_t compression; // 1: deflate
};

int vmdk_header_decode(const uint8_t bytes[VMDK_HEADER_BYTES], struct vmdk_header *header,
                       struct err *err);
void vmdk_header_encode(const struct vmdk_header *header, uint8_t bytes[VMDK_HEADER_BYTES]);

struct vmdk_text {
    char type[32];     // createType
    char parent[1024]; // parentFileNameHint; empty: none
    unsigned extents;
    uint64_t flat_sectors; // of the first extent, when it is flat
    uint64_t flat_offset;  // where it begins in its file, in sectors
    char flat_name[1024];  // its file; empty: the first extent is not flat
};
// `text` ends with a zero byte.
int vmdk_text_parse(const char *text, struct vmdk_text *parsed, struct err *err);

#endif
