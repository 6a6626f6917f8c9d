// SPDX-License-Identifier: Apache-2.0
//
// The header of a qcow2 image: bytes to struct and back, with every field checked. Pure.
#ifndef WIRT_MACHINE_BLOCK_QCOW2_HEADER_H
#define WIRT_MACHINE_BLOCK_QCOW2_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define QCOW2_MAGIC            0x514649fbu
#define QCOW2_BACKING_NAME_MAX 1023
#define QCOW2_EXTENSIONS_MAX   4096
#define QCOW2_HEADER_BYTES_MAX 8192 // enough for every header that we accept

enum qcow2_incompatible {
    QCOW2_DIRTY = 1,
    QCOW2_CORRUPT = 2,
    QCOW2_EXTERNAL_DATA = 4,
    QCOW2_COMPRESSION_TYPE = 8,
    QCOW2_EXTENDED_L2 = 16
};
enum qcow2_compatible { QCOW2_LAZY_REFCOUNTS = 1 };
enum qcow2_autoclear { QCOW2_BITMAPS_VALID = 1 };
enum qcow2_compression { QCOW2_ZLIB, QCOW2_ZSTD };

struct qcow2_header {
    uint32_t version; // 2 or 3
    uint32_t cluster_bits;
    uint64_t size; // of the guest's disk, bytes
    uint32_t l1_entries;
    uint64_t l1_offset;
    uint64_t refcount_table_offset;
    uint32_t refcount_table_clusters;
    uint32_t snapshot_count;
    uint64_t snapshot_offset;
    uint64_t incompatible, compatible, autoclear;
    uint32_t refcount_order;                       // a refcount has 1 << order bits
    uint8_t compression;                           // enum qcow2_compression
    char backing_name[QCOW2_BACKING_NAME_MAX + 1]; // empty: none
    char backing_format[32];                       // empty: not recorded
    // The bitmaps extension; count 0 when there is none.
    uint32_t bitmap_count;
    uint64_t bitmap_directory_bytes;
    uint64_t bitmap_directory_offset;
    // Extensions that we do not know, kept as they are: type, length, data, padded to 8.
    uint32_t other_bytes;
    uint8_t other[QCOW2_EXTENSIONS_MAX];
};

// Positions of fields that are rewritten alone.
enum qcow2_field {
    QCOW2_AT_SIZE = 24,
    QCOW2_AT_L1_ENTRIES = 36,
    QCOW2_AT_L1_OFFSET = 40,
    QCOW2_AT_REFCOUNT_TABLE_OFFSET = 48,
    QCOW2_AT_REFCOUNT_TABLE_CLUSTERS = 56,
    QCOW2_AT_SNAPSHOT_COUNT = 60,
    QCOW2_AT_SNAPSHOT_OFFSET = 64,
    QCOW2_AT_INCOMPATIBLE = 72,
    QCOW2_AT_COMPATIBLE = 80,
    QCOW2_AT_AUTOCLEAR = 88,
};

// `bytes` is the beginning of the file (up to QCOW2_HEADER_BYTES_MAX), zeros where the file is
// shorter.
int qcow2_header_decode(const uint8_t *bytes, size_t length, struct qcow2_header *header,
                        struct err *err);
// Writes the whole header; returns its length, or 0 when it does not fit into `room` bytes (one
// cluster).
size_t qcow2_header_encode(const struct qcow2_header *header, uint8_t *bytes, size_t room);

static inline uint64_t qcow2_cluster_size(const struct qcow2_header *header)
{
    return 1ull << header->cluster_bits;
}

// Does an L1 table of so many entries reach a disk's end? One that is shorter must never be used.
bool qcow2_l1_covers(const struct qcow2_header *h, uint64_t entries, uint64_t size);

#endif
