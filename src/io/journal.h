// SPDX-License-Identifier: Apache-2.0
//
// What was written since the last flush, in order, so that it can be written again to a storage that lost it. Each entry has a number, the next
// higher than the last one's; a flush makes all safe that were there when it began.
//
// The entries lie in memory that the next process shares, should this one be killed (process.c): a ring, in which they follow one another without
// pointers. Where it begins and how much is used is one word, stored when an entry is whole; so a kill at any instant leaves the entry in it or not.
#ifndef WIRT_IO_JOURNAL_H
#define WIRT_IO_JOURNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JOURNAL_BYTES_MAX  (32u << 20)
#define JOURNAL_ROOM_BYTES (128u << 20) // with what is on its way while the journal is emptied
#define JOURNAL_UNIT       32u          // of places and lengths in the ring

struct journal_entry {
    uint64_t number; // from 1 on
    uint64_t offset;
    uint32_t length;
    uint32_t units;   // of the ring, with its bytes
    uint16_t command; // enum nbd_command: write, trim, write zeroes; or JOURNAL_GAP
    uint16_t flags;
    uint8_t bytes[]; // of a write
};

struct journal_room {
    // Low half: the unit where the first entry lies; high half: units used.
    _Atomic uint64_t span;
    // Something could not be written again: the next flush must say so.
    atomic_bool lost;
    _Alignas(4096) uint8_t ring[JOURNAL_ROOM_BYTES];
};

struct journal {
    struct journal_room *room; // borrowed
    uint64_t number;           // of the last one there was
    uint32_t touched;          // units from the ring's beginning that may have memory
};

// With the entries that are in the room already; what makes no sense among them is dropped, and counts as lost.
void journal_init(struct journal *journal, struct journal_room *room);
// False: no room, nothing is remembered.
bool journal_add(struct journal *journal, uint16_t command, uint16_t flags, uint64_t offset,
                 uint32_t length, const void *bytes);
bool journal_is_full(const struct journal *journal);
// Up to this number.
void journal_forget(struct journal *journal, uint64_t number);

// One entry after the other; NULL: there are no more.
struct journal_entry *journal_next(const struct journal *journal,
                                   const struct journal_entry *previous);

#endif
