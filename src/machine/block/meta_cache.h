// SPDX-License-Identifier: Apache-2.0
//
// A cache of equal slices of an image's tables (L2 tables, refcount blocks), keyed by file offset.
//
// The owner's mutex is held in every call. A slot that get() or fresh() returned stays valid until
// the mutex is released or the next get() or fresh(); whoever needs two at once gets the second,
// then looks the first up again. Dirty slots and those being written are never evicted; the owner
// writes them in its own order and keeps enough slots clean (meta_cache_crowded).
#ifndef WIRT_MACHINE_BLOCK_META_CACHE_H
#define WIRT_MACHINE_BLOCK_META_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct block_node;

struct meta_slot {
    uint64_t offset; // of the slice in the file; META_UNUSED when the slot is free
    uint8_t *data;   // owned, slice_bytes; as on disk
    uint32_t chain;  // next slot of the same hash bucket, or META_NONE
    bool dirty;      // changed and not yet handed to a write
    bool writing;    // a copy is on its way to the file
    bool used;       // second chance for the clock
};

struct meta_cache {
    struct block_node *file; // borrowed
    size_t slice_bytes;      // constant, a power of two
    uint32_t slot_limit;     // constant
    uint32_t slot_count;     // how many of slots[] exist
    uint32_t hand;           // of the clock
    uint32_t busy;           // slots dirty or writing
    uint32_t dirty;
    uint32_t bucket_mask;
    uint32_t *buckets;       // owned
    struct meta_slot *slots; // owned
};

int meta_cache_init(struct meta_cache *cache, struct block_node *file, size_t slice_bytes,
                    uint64_t memory_bytes);
void meta_cache_fini(struct meta_cache *cache);
// Read the slice if it is not there. -ENOBUFS: every slot is dirty.
int meta_cache_get(struct meta_cache *cache, uint64_t offset, struct meta_slot **slot);
// The slice if it is there, else NULL.
struct meta_slot *meta_cache_peek(struct meta_cache *cache, uint64_t offset);
// A slice whose content on disk does not matter: all zeros.
int meta_cache_fresh(struct meta_cache *cache, uint64_t offset, struct meta_slot **slot);
void meta_cache_mark_dirty(struct meta_cache *cache, struct meta_slot *slot);
// The two steps of writing: the slot is clean for later changes, but not evicted until done.
void meta_cache_begin_write(struct meta_cache *cache, struct meta_slot *slot);
void meta_cache_end_write(struct meta_cache *cache, struct meta_slot *slot, bool failed);
// Drop what is cached of a range of the file, dirty or not.
void meta_cache_forget(struct meta_cache *cache, uint64_t offset, uint64_t length);
// Should the owner write before it dirties more?
bool meta_cache_crowded(const struct meta_cache *cache);

#endif
