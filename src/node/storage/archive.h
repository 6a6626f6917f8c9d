// SPDX-License-Identifier: Apache-2.0
//
// A backup as one file: a guest's configuration, then what its disks hold, as one zstd stream with checksums (doc/formats/backup.md).
//
//     "WIRTBAK1"                                 8 bytes
//     length of the header                       u32
//     header                                     JSON: {"vmid", "time", "config": {…}, "disks": [{"key", "size", "format"}]}
//     records                                    u32 disk, u32 length, u64 offset, then `length` bytes; what no record covers is zero
//     the last record                            u32 0xFFFFFFFF, u32 0, u64 number of records before it
//
// Numbers are little endian. A file that ends without its last record was not finished, and is refused.
//
// Readers are fed by strangers: header and records are bounded, and each record is checked against the sizes that the header tells.
#ifndef WIRT_NODE_STORAGE_ARCHIVE_H
#define WIRT_NODE_STORAGE_ARCHIVE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define ARCHIVE_RECORD_MAX (1024u * 1024)
#define ARCHIVE_HEADER_MAX (4u * 1024 * 1024)
#define ARCHIVE_DISKS_MAX  64

struct archive_writer;
struct archive_reader;

// Begins at the file's start. The descriptor stays the caller's. NULL and *err.
struct archive_writer *archive_create(int fd, const json_t *header, struct err *err);
int archive_write(struct archive_writer *writer, uint32_t disk, uint64_t offset, const void *bytes,
                  size_t length, struct err *err);
int archive_finish(struct archive_writer *writer, struct err *err); // then it is whole and durable
uint64_t archive_bytes(const struct archive_writer *writer);        // of the file so far
void archive_writer_destroy(struct archive_writer *writer);

// Reads and checks the header, which is the reader's. NULL and *err.
struct archive_reader *archive_open(int fd, struct err *err);
const json_t *archive_header(const struct archive_reader *reader);
struct archive_record {
    uint32_t disk;
    uint64_t offset;
    size_t length;
    const void *bytes; // until the next one
};
// 1: a record; 0: the end, which was well; -1 and *err.
int archive_next(struct archive_reader *reader, struct archive_record *record, struct err *err);
uint64_t archive_read_bytes(const struct archive_reader *reader); // of the file, for progress
void archive_reader_destroy(struct archive_reader *reader);

#endif
