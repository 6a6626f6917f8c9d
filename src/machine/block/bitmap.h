// SPDX-License-Identifier: Apache-2.0
//
// Dirty bitmaps: which parts of a disk may have changed since some moment.
//
// A bitmap belongs to a node (block_driver.h), whose write, discard and zero mark it in every bitmap of its list that records. A bit stands
// for 1 << granularity_bits bytes. It is set after the operation, whatever its result: whoever clears a bit and then reads the part sees
// the change or finds the bit set again. Whoever must not miss a change that is under way pauses the disk first.
//
// Bitmaps with a name are the user's (incremental backup) and may be persistent: a format that can keep them (qcow2) loads them when it is
// opened and saves them when it is closed. Those without are a job's.
//
// Threads. Marking, clearing and looking are atomic by word and may be done by any thread. A list changes, and a bitmap is resized, only
// while the disk is paused or not yet used.
#ifndef WIRT_MACHINE_BLOCK_BITMAP_H
#define WIRT_MACHINE_BLOCK_BITMAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLOCK_BITMAP_NAME_MAX         1023
#define BLOCK_BITMAP_GRANULARITY_MIN  9
#define BLOCK_BITMAP_GRANULARITY_MAX  31
#define BLOCK_BITMAP_GRANULARITY_BITS 16 // the usual one

struct block_bitmap {
    struct block_bitmap *next;
    // Constant.
    char *name; // owned; NULL: a job's
    unsigned granularity_bits;
    // Changed while paused only.
    uint64_t size; // of the disk, in bytes
    uint64_t bits;
    _Atomic uint64_t *words; // owned; bits beyond the last are zero
    bool recording;
    bool taken; // by a backup that is under way: what it held may come back
    bool persistent;
    bool
        inconsistent; // it was not saved: everything may have changed, it can only be removed; it has no bits
    // Any thread.
    _Atomic uint64_t dirty_bits;
};

// NULL: no memory. `name` is copied, and may be NULL.
struct block_bitmap *block_bitmap_create(const char *name, uint64_t size,
                                         unsigned granularity_bits);
void block_bitmap_destroy(struct block_bitmap *bitmap); // NULL is fine
// How many bytes a bitmap of this kind takes.
uint64_t block_bitmap_bytes(uint64_t size, unsigned granularity_bits);

// Ranges are cut at the disk's end, and widened to whole bits.
void block_bitmap_mark(struct block_bitmap *bitmap, uint64_t offset, uint64_t length);
void block_bitmap_clear(struct block_bitmap *bitmap, uint64_t offset, uint64_t length);
bool block_bitmap_any(const struct block_bitmap *bitmap, uint64_t offset, uint64_t length);
// The first marked stretch at or after `from`, of at most `max` bytes (a multiple of the granularity, or UINT64_MAX). False: there is none.
bool block_bitmap_next(const struct block_bitmap *bitmap, uint64_t from, uint64_t max,
                       uint64_t *offset, uint64_t *length);
uint64_t block_bitmap_dirty_bytes(const struct block_bitmap *bitmap);
// Mark in `to` what is marked in `from`; their granularities may differ.
void block_bitmap_merge(struct block_bitmap *to, const struct block_bitmap *from);
// What is new is marked. 0 or -ENOMEM.
int block_bitmap_resize(struct block_bitmap *bitmap, uint64_t size);

// ---- Lists
struct block_bitmap *block_bitmap_find(struct block_bitmap *list, const char *name);
void block_bitmap_add(struct block_bitmap **list, struct block_bitmap *bitmap);
void block_bitmap_remove(struct block_bitmap **list, struct block_bitmap *bitmap);
void block_bitmap_mark_all(struct block_bitmap *list, uint64_t offset, uint64_t length);

#endif
