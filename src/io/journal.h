// SPDX-License-Identifier: Apache-2.0
//
// What was written since the last flush, in order, so that it can be written again to a storage that lost it. Each entry has a number, the next
// higher than the last one's; a flush makes all safe that were there when it began.
#ifndef WIRT_IO_JOURNAL_H
#define WIRT_IO_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JOURNAL_BYTES_MAX (32u << 20)

struct journal_entry {
    struct journal_entry *next;
    uint64_t number; // from 1 on
    uint64_t offset;
    uint32_t length;
    uint16_t command; // enum nbd_command: write, trim, write zeroes
    uint16_t flags;
    uint8_t bytes[]; // of a write
};

struct journal {
    struct journal_entry *first, **last;
    size_t bytes;
    uint64_t number; // of the last one there was
};

void journal_init(struct journal *journal);
// False: no memory, nothing is remembered.
bool journal_add(struct journal *journal, uint16_t command, uint16_t flags, uint64_t offset,
                 uint32_t length, const void *bytes);
bool journal_is_full(const struct journal *journal);
// Up to this number.
void journal_forget(struct journal *journal, uint64_t number);

#endif
