// SPDX-License-Identifier: Apache-2.0
//
// Slots in an array, a hash table of chains by index, and a clock hand for eviction. A slot's
// memory is made when it is first used, so a small image takes little.
#include "machine/block/meta_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine/block/block_driver.h"
#include "os/file.h"

#define META_UNUSED UINT64_MAX
#define META_NONE   UINT32_MAX
#define SLOTS_MIN   32
#define SLOTS_MAX   65536

int meta_cache_init(struct meta_cache *cache, struct block_node *file, size_t slice_bytes,
                    uint64_t memory_bytes)
{
    uint64_t slots = memory_bytes / slice_bytes;
    slots = slots < SLOTS_MIN ? SLOTS_MIN : slots > SLOTS_MAX ? SLOTS_MAX : slots;
    uint32_t buckets = SLOTS_MIN;
    while (buckets < slots)
        buckets *= 2;
    *cache = (struct meta_cache){.file = file,
                                 .slice_bytes = slice_bytes,
                                 .slot_limit = (uint32_t)slots,
                                 .bucket_mask = buckets - 1};
    cache->buckets = malloc(buckets * sizeof(*cache->buckets));
    cache->slots = calloc(slots, sizeof(*cache->slots));
    if (!cache->buckets || !cache->slots)
        return -ENOMEM;
    memset(cache->buckets, 0xff, buckets * sizeof(*cache->buckets));
    return 0;
}

void meta_cache_fini(struct meta_cache *cache)
{
    for (uint32_t i = 0; i < cache->slot_count; i++)
        os_aligned_free(cache->slots[i].data);
    free(cache->buckets);
    free(cache->slots);
}

static uint32_t *bucket_of(struct meta_cache *cache, uint64_t offset)
{
    uint64_t hash = (offset / cache->slice_bytes) * 0x9e3779b97f4a7c15ull;
    return &cache->buckets[(hash >> 32) & cache->bucket_mask];
}

static struct meta_slot *find(struct meta_cache *cache, uint64_t offset)
{
    for (uint32_t i = *bucket_of(cache, offset); i != META_NONE; i = cache->slots[i].chain) {
        if (cache->slots[i].offset == offset)
            return &cache->slots[i];
    }
    return NULL;
}

static void detach(struct meta_cache *cache, struct meta_slot *slot)
{
    if (slot->offset == META_UNUSED)
        return;
    uint32_t *at = bucket_of(cache, slot->offset), index = (uint32_t)(slot - cache->slots);
    while (*at != index)
        at = &cache->slots[*at].chain;
    *at = slot->chain;
    slot->offset = META_UNUSED;
}

// A slot to fill: a new one while there may be more, else the first that the clock finds idle.
static struct meta_slot *vacant(struct meta_cache *cache)
{
    if (cache->slot_count < cache->slot_limit) {
        struct meta_slot *slot = &cache->slots[cache->slot_count];
        slot->data = os_aligned_alloc(cache->slice_bytes);
        if (slot->data) {
            slot->offset = META_UNUSED;
            cache->slot_count++;
            return slot;
        }
    }
    for (uint32_t tries = 0; tries < 2 * cache->slot_count; tries++) {
        struct meta_slot *slot = &cache->slots[cache->hand];
        cache->hand = (cache->hand + 1) % cache->slot_count;
        if (slot->dirty || slot->writing)
            continue;
        if (!slot->used) {
            detach(cache, slot);
            return slot;
        }
        slot->used = false;
    }
    return NULL;
}

static void attach(struct meta_cache *cache, struct meta_slot *slot, uint64_t offset)
{
    uint32_t *bucket = bucket_of(cache, offset);
    slot->offset = offset;
    slot->used = true;
    slot->chain = *bucket;
    *bucket = (uint32_t)(slot - cache->slots);
}

int meta_cache_get(struct meta_cache *cache, uint64_t offset, struct meta_slot **slot)
{
    *slot = find(cache, offset);
    if (*slot) {
        (*slot)->used = true;
        return 0;
    }
    struct meta_slot *filled = vacant(cache);
    if (!filled)
        return -ENOBUFS;
    int rc = block_node_read_buffer(cache->file, offset, filled->data, cache->slice_bytes);
    if (rc)
        return rc;
    attach(cache, filled, offset);
    *slot = filled;
    return 0;
}

struct meta_slot *meta_cache_peek(struct meta_cache *cache, uint64_t offset)
{
    struct meta_slot *slot = find(cache, offset);
    if (slot)
        slot->used = true;
    return slot;
}

int meta_cache_fresh(struct meta_cache *cache, uint64_t offset, struct meta_slot **slot)
{
    *slot = find(cache, offset);
    if (!*slot) {
        *slot = vacant(cache);
        if (!*slot)
            return -ENOBUFS;
        attach(cache, *slot, offset);
    }
    memset((*slot)->data, 0, cache->slice_bytes);
    return 0;
}

void meta_cache_mark_dirty(struct meta_cache *cache, struct meta_slot *slot)
{
    if (slot->dirty)
        return;
    slot->dirty = true;
    cache->dirty++;
    cache->busy += !slot->writing;
}

void meta_cache_begin_write(struct meta_cache *cache, struct meta_slot *slot)
{
    slot->dirty = false;
    slot->writing = true;
    cache->dirty--;
}

void meta_cache_end_write(struct meta_cache *cache, struct meta_slot *slot, bool failed)
{
    slot->writing = false;
    cache->busy -= !slot->dirty;
    if (failed)
        meta_cache_mark_dirty(cache, slot);
}

void meta_cache_forget(struct meta_cache *cache, uint64_t offset, uint64_t length)
{
    for (uint64_t at = offset; at < offset + length; at += cache->slice_bytes) {
        struct meta_slot *slot = find(cache, at);
        if (!slot || slot->writing)
            continue;
        cache->dirty -= slot->dirty;
        cache->busy -= slot->dirty;
        slot->dirty = false;
        detach(cache, slot);
    }
}

bool meta_cache_crowded(const struct meta_cache *cache)
{
    return cache->busy > cache->slot_limit / 2;
}
