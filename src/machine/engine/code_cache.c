// SPDX-License-Identifier: Apache-2.0
//
// Blocks and fault sites are arrays of which each region has its part, filled from the front like the code itself; records of pages are taken from
// an array and a free list. Two hash tables of numbers lead into them. A reader of the blocks' hash needs no lock because an entry is complete
// before it is linked in, and stays as it is, its way onward included, until every reader has passed.
#include "machine/engine/code_cache.h"

#include <assert.h>

#include "base/bits.h"
#include "os/file.h"
#include "os/memory.h"

// So many stores to a page that miss its translations, and all of them are dropped: the page is being filled with something else.
#define IDLE_WRITES_MAX 4

#define HASH_BITS      17
#define PAGE_HASH_BITS 14
#define REGION_BLOCKS  (1u << 14)
#define REGION_SITES   (1u << 16)
#define BLOCKS_MAX     (CODE_REGIONS_MAX * REGION_BLOCKS)
#define SITES_MAX      (CODE_REGIONS_MAX * REGION_SITES)
#define PAGES_MAX      (1u << 16)
#define BLOCK_SITES    1024u // no block has more

// Room that must be left to begin a block; half a region is at least as much.
#define NEAR_RESERVE (24u * 1024u)
#define FAR_RESERVE  (48u * 1024u)
static_assert(NEAR_RESERVE <= CODE_REGION_BYTES / 2 - 4096 &&
                  FAR_RESERVE <= CODE_REGION_BYTES / 2 - 4096,
              "a block fits into an empty region");

struct code_page {
    uint32_t frame;       // physical address, in pages
    uint32_t blocks;      // first of its blocks
    uint32_t next;        // page in the same bucket, or free; counted from 1
    uint32_t idle_writes; // since the last translation: writes that changed no translated byte
};

static struct block *block_of(const struct code_cache *cache, uint32_t number)
{
    return number ? &cache->blocks[number - 1] : NULL;
}

// Links are counted through: two to a block.
static struct block *source_of(const struct code_cache *cache, uint32_t link)
{
    return &cache->blocks[(link - 1) / 2];
}

static struct link *link_of(const struct code_cache *cache, uint32_t link)
{
    return &source_of(cache, link)->links[(link - 1) % 2];
}

static uint32_t hash_of(uint64_t rip, uint64_t physical, uint32_t mode)
{
    uint64_t mixed = (rip ^ physical << 20 ^ (uint64_t)mode << 52) * 0x9E3779B97F4A7C15ull;
    return (uint32_t)(mixed >> (64 - HASH_BITS));
}

// Where the number of the page's record stands, or would.
static uint32_t *page_slot(struct code_cache *cache, uint32_t frame)
{
    uint32_t *slot = &cache->page_hash[frame * 0x9E3779B1u >> (32 - PAGE_HASH_BITS)];

    while (*slot && cache->pages[*slot - 1].frame != frame)
        slot = &cache->pages[*slot - 1].next;
    return slot;
}

static int map_code(struct code_cache *cache, struct err *err)
{
    uint8_t *both = os_memory_reserve(2ull * cache->bytes, err);

    if (!both)
        return -1;
    cache->write = both;
    cache->execute = both + cache->bytes;
    cache->fd = os_memfd_create("wirt-code", cache->bytes, err);
    if (cache->fd < 0 ||
        os_memory_place_file(both, cache->bytes, OS_MEMORY_READ | OS_MEMORY_WRITE, cache->fd, 0,
                             err) != 0 ||
        os_memory_place_file(both + cache->bytes, cache->bytes, OS_MEMORY_READ | OS_MEMORY_EXECUTE,
                             cache->fd, 0, err) != 0)
        return -1;
    return 0;
}

static int map_tables(struct code_cache *cache, struct err *err)
{
    size_t blocks = align_up(BLOCKS_MAX * sizeof(struct block), 4096);
    size_t sites = align_up(SITES_MAX * sizeof(struct fault_site), 4096);
    size_t pages = align_up(PAGES_MAX * sizeof(struct code_page), 4096);
    size_t hash = sizeof(*cache->hash) << HASH_BITS;
    size_t page_hash = sizeof(*cache->page_hash) << PAGE_HASH_BITS;

    cache->tables_bytes = blocks + sites + pages + hash + page_hash;
    uint8_t *at = os_memory_reserve(cache->tables_bytes, err);
    if (!at)
        return -1;
    cache->tables = at;
    if (os_memory_place_zeroed(at, cache->tables_bytes, OS_MEMORY_READ | OS_MEMORY_WRITE, err) != 0)
        return -1;
    os_memory_name(at, cache->tables_bytes, "wirt-translations");
    cache->blocks = (void *)at;
    cache->sites = (void *)(at += blocks);
    cache->pages = (void *)(at += sites);
    cache->hash = (void *)(at += pages);
    cache->page_hash = (void *)(at + hash);
    return 0;
}

// ---- Regions ----

static void lay_out_region(struct code_cache *cache, unsigned number)
{
    struct code_region *region = &cache->regions[number];
    uint32_t start = cache->trampolines_end + number * cache->region_bytes;

    region->near_start = region->near_at = start;
    region->near_end = region->far_start = region->far_at = start + cache->region_bytes / 2;
    region->far_end = start + cache->region_bytes;
    region->first_block = number * REGION_BLOCKS;
    region->first_site = number * REGION_SITES;
}

static struct code_region *filling(struct code_cache *cache)
{
    return &cache->regions[cache->filling];
}

static struct code_region *region_after(struct code_cache *cache, unsigned distance)
{
    return &cache->regions[(cache->filling + distance) % cache->region_count];
}

static bool has_room(const struct code_cache *cache, const struct code_region *region)
{
    uint32_t count = atomic_load_explicit(&region->block_count, memory_order_relaxed);

    return count < REGION_BLOCKS && (cache->free_pages || cache->page_count < PAGES_MAX) &&
           region->site_count + BLOCK_SITES <= REGION_SITES &&
           region->near_end - region->near_at >= NEAR_RESERVE &&
           region->far_end - region->far_at >= FAR_RESERVE;
}

int code_cache_init(struct code_cache *cache, uint32_t bytes,
                    const struct code_cache_listener *listener, struct err *err)
{
    assert(bytes >= CODE_CACHE_MINIMUM);
    uint32_t regions = bytes / CODE_REGION_BYTES;
    if (regions > CODE_REGIONS_MAX)
        regions = CODE_REGIONS_MAX;
    *cache = (struct code_cache){
        .bytes = (uint32_t)align_up(bytes, 8192), .fd = -1, .listener = *listener};
    cache->trampolines_end = CODE_TRAMPOLINE_BYTES;
    cache->region_count = regions;
    cache->region_bytes =
        (uint32_t)align_down((cache->bytes - cache->trampolines_end) / regions, 8192);
    code_epochs_init(&cache->epochs);
    for (unsigned i = 0; i < regions; i++)
        lay_out_region(cache, i);
    if (map_code(cache, err) != 0 || map_tables(cache, err) != 0) {
        code_cache_fini(cache);
        return err_wrap(err, "code cache");
    }
    return 0;
}

void code_cache_fini(struct code_cache *cache)
{
    os_memory_release(cache->write, 2ull * cache->bytes);
    os_memory_release(cache->tables, cache->tables_bytes);
    os_file_close(&cache->fd);
    *cache = (struct code_cache){.fd = -1};
}

struct emitter code_cache_trampolines(struct code_cache *cache)
{
    // Offset 0 means "none".
    return (struct emitter){cache->write + 64, cache->write + cache->trampolines_end, false};
}

struct block *code_cache_begin(struct code_cache *cache, struct emitter *near, struct emitter *far)
{
    struct code_region *region = filling(cache);
    uint32_t count = atomic_load_explicit(&region->block_count, memory_order_relaxed);

    if (!has_room(cache, region))
        return NULL;
    *near =
        (struct emitter){cache->write + region->near_at, cache->write + region->near_end, false};
    *far = (struct emitter){cache->write + region->far_at, cache->write + region->far_end, false};
    struct block *block = &cache->blocks[region->first_block + count];
    *block = (struct block){.code = region->near_at,
                            .first_site = region->first_site + region->site_count};
    return block;
}

// Code that others may execute is patched by one aligned store to four bytes, which cannot cross a cache line.
static void check_patches(const struct block *block)
{
    for (unsigned i = 0; i < ARRAY_LENGTH(block->links); i++)
        assert(block->links[i].patch % 4 == 0);
}

static struct code_page *page_of_new_block(struct code_cache *cache, uint32_t frame)
{
    uint32_t *slot = page_slot(cache, frame);

    if (!*slot) {
        uint32_t number = cache->free_pages;
        if (number)
            cache->free_pages = cache->pages[number - 1].next;
        else
            number = ++cache->page_count;
        cache->pages[number - 1] = (struct code_page){.frame = frame};
        *slot = number;
    }
    return &cache->pages[*slot - 1];
}

bool code_cache_commit(struct code_cache *cache, struct block *block, const struct emitter *near,
                       const struct emitter *far, const struct fault_site *sites,
                       unsigned site_count)
{
    struct code_region *region = filling(cache);

    if (near->overflow || far->overflow) {
        region->near_at = region->near_end; // it is full: the next one has more room
        return false;
    }
    uint32_t number = code_cache_number(cache, block);
    uint32_t code_bytes = code_cache_offset(cache, near->at) - block->code;
    assert(code_bytes <= UINT16_MAX && site_count <= UINT8_MAX);
    check_patches(block);
    struct code_page *page = page_of_new_block(cache, block->frame);
    page->idle_writes = 0;
    block->page_next = page->blocks;
    page->blocks = number;

    memcpy(&cache->sites[block->first_site], sites, site_count * sizeof(*sites));
    region->site_count += site_count;
    block->site_count = (uint8_t)site_count;
    block->code_bytes = (uint16_t)code_bytes;
    region->near_at = (uint32_t)align_up(code_cache_offset(cache, near->at), 16);
    region->far_at = (uint32_t)align_up(code_cache_offset(cache, far->at), 8);

    _Atomic uint32_t *bucket =
        &cache->hash[hash_of(block->rip, block_physical(block), block->mode)];
    atomic_store_explicit(&block->hash_next, *bucket, memory_order_relaxed);
    atomic_store_explicit(&region->block_count, number - region->first_block, memory_order_release);
    atomic_store_explicit(bucket, number, memory_order_release);
    return true;
}

struct block *code_cache_find(struct code_cache *cache, uint64_t rip, uint64_t physical,
                              uint32_t mode)
{
    _Atomic uint32_t *at = &cache->hash[hash_of(rip, physical, mode)];
    struct block *block;

    while ((block = block_of(cache, atomic_load_explicit(at, memory_order_acquire))) &&
           (block->rip != rip || block_physical(block) != physical || block->mode != mode))
        at = &block->hash_next;
    return block;
}

struct block *code_cache_block_at(struct code_cache *cache, uint64_t pc)
{
    uint32_t offset = (uint32_t)(pc - (uint64_t)(uintptr_t)cache->execute);
    uint32_t number = (offset - cache->trampolines_end) / cache->region_bytes;

    if (offset < cache->trampolines_end || number >= cache->region_count)
        return NULL;
    struct code_region *region = &cache->regions[number];
    struct block *blocks = &cache->blocks[region->first_block];
    uint32_t low = 0, high = atomic_load_explicit(&region->block_count, memory_order_acquire);
    while (low < high) { // first block that starts after the address
        uint32_t middle = low + (high - low) / 2;
        if (blocks[middle].code <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || offset - blocks[low - 1].code >= blocks[low - 1].code_bytes)
        return NULL;
    return &blocks[low - 1];
}

const struct fault_site *code_cache_site_at(struct code_cache *cache, const struct block *block,
                                            uint64_t pc)
{
    uint32_t offset = (uint32_t)(pc - (uint64_t)(uintptr_t)cache->execute) - block->code;
    const struct fault_site *sites = &cache->sites[block->first_site];

    for (unsigned i = 0; i < block->site_count; i++) {
        if (offset == sites[i].host_offset)
            return &sites[i];
    }
    return NULL;
}

static void point_jump(struct code_cache *cache, uint32_t patch, uint32_t target)
{
    atomic_store_explicit((_Atomic uint32_t *)(void *)(cache->write + patch), target - (patch + 4),
                          memory_order_release);
}

void code_cache_link(struct code_cache *cache, struct block *source, unsigned number,
                     struct block *target)
{
    struct link *link = &source->links[number];

    if (link->target || source->dropped || target->dropped)
        return;
    link->target = code_cache_number(cache, target);
    link->next = target->incoming;
    target->incoming = (code_cache_number(cache, source) - 1) * 2 + number + 1;
    uint32_t entry = source->vectors ? block_entry_vectors(target) : target->code;
    if (source == target && source->loop_entry)
        entry = source->code + source->loop_entry;
    point_jump(cache, link->patch, entry);
}

// Take the link out of its target's list; the jump itself is the caller's affair.
static void forget_link(struct code_cache *cache, struct link *link)
{
    uint32_t *at = &block_of(cache, link->target)->incoming;

    while (link_of(cache, *at) != link)
        at = &link_of(cache, *at)->next;
    *at = link->next;
    link->target = 0;
}

static void forget_block(struct code_cache *cache, const struct block *block)
{
    uint32_t number = code_cache_number(cache, block);
    _Atomic uint32_t *at = &cache->hash[hash_of(block->rip, block_physical(block), block->mode)];

    while (*at != number)
        at = &block_of(cache, *at)->hash_next;
    atomic_store_explicit(at, block->hash_next, memory_order_release);
}

static void drop_block(struct code_cache *cache, struct block *block)
{
    for (uint32_t number = block->incoming; number; number = link_of(cache, number)->next) {
        struct link *link = link_of(cache, number);
        point_jump(cache, link->patch, link->exit);
        link->target = 0;
    }
    block->incoming = 0;
    for (unsigned i = 0; i < 2; i++) {
        if (block->links[i].target)
            forget_link(cache, &block->links[i]);
        if (block->links[i].patch)
            point_jump(cache, block->links[i].patch, block->links[i].exit);
    }
    forget_block(cache, block);
    block->dropped = true;
    cache->drops++;
}

// Which blocks of a page go: those that overlap physical addresses, or those of a region.
struct drop_range {
    uint64_t start, end;  // physical
    uint32_t first, last; // numbers
};

static bool in_range(const struct code_cache *cache, const struct block *block,
                     const struct drop_range *range)
{
    uint64_t start = block_physical(block);
    uint32_t number = code_cache_number(cache, block);

    return start < range->end && range->start < start + block->guest_bytes &&
           number >= range->first && number <= range->last;
}

static void free_page(struct code_cache *cache, uint32_t *slot)
{
    uint32_t number = *slot;
    struct code_page *page = &cache->pages[number - 1];

    *slot = page->next;
    page->next = cache->free_pages;
    cache->free_pages = number;
}

// Of the page whose number stands in *slot. How many blocks it has left; *dropped: how many went.
static unsigned drop_of_page(struct code_cache *cache, uint32_t *slot,
                             const struct drop_range *range, unsigned *dropped)
{
    struct code_page *page = &cache->pages[*slot - 1];
    uint64_t address = (uint64_t)page->frame << 12;
    unsigned left = 0;

    *dropped = 0;
    for (uint32_t *at = &page->blocks; *at;) {
        struct block *block = block_of(cache, *at);
        if (in_range(cache, block, range)) {
            *at = block->page_next;
            drop_block(cache, block);
            (*dropped)++;
        } else {
            at = &block->page_next;
            left++;
        }
    }
    if (!left) {
        free_page(cache, slot);
        cache->listener.page_done(cache->listener.context, address);
    }
    return left;
}

unsigned code_cache_drop(struct code_cache *cache, uint64_t physical, uint32_t length)
{
    struct drop_range range = {physical, physical + length, 1, BLOCKS_MAX};
    uint32_t *slot = page_slot(cache, (uint32_t)(physical >> 12));
    unsigned dropped;

    if (!*slot) {
        cache->listener.page_done(cache->listener.context, align_down(physical, 4096));
        return 0;
    }
    struct code_page *page = &cache->pages[*slot - 1];
    if (page->idle_writes >= IDLE_WRITES_MAX) {
        range.start = align_down(physical, 4096);
        range.end = range.start + 4096;
    }
    unsigned left = drop_of_page(cache, slot, &range, &dropped);
    if (left)
        page->idle_writes = dropped ? 0 : page->idle_writes + 1;
    if (dropped)
        cache->listener.dropped(cache->listener.context);
    return left;
}

// ---- Room ----

// All blocks of the region go; from now on it lies in limbo.
static void evict(struct code_cache *cache, struct code_region *region)
{
    const struct drop_range range = {0, UINT64_MAX, region->first_block + 1,
                                     region->first_block + REGION_BLOCKS};
    struct block *blocks = &cache->blocks[region->first_block];

    for (uint32_t i = 0; i < region->block_count; i++) {
        unsigned dropped;
        if (!blocks[i].dropped)
            drop_of_page(cache, page_slot(cache, blocks[i].frame), &range, &dropped);
    }
    // Readers forget the blocks before they tell of the new epoch; and they are asked to pass once it is there.
    cache->listener.dropped(cache->listener.context);
    region->epoch = code_epochs_advance(&cache->epochs);
    cache->listener.dropped(cache->listener.context);
}

static void empty_region(struct code_cache *cache, struct code_region *region)
{
    code_epochs_reuse(&cache->epochs);
    atomic_store_explicit(&region->block_count, 0, memory_order_release);
    region->near_at = region->near_start;
    region->far_at = region->far_start;
    region->site_count = 0;
    cache->reuses++;
}

bool code_cache_make_room(struct code_cache *cache)
{
    struct code_region *next = region_after(cache, 1);

    if (has_room(cache, filling(cache)))
        return true;
    if (next->epoch) {
        if (!code_epochs_passed(&cache->epochs, next->epoch)) {
            cache->refusals++;
            return false;
        }
        empty_region(cache, next);
    }
    cache->filling = (cache->filling + 1) % cache->region_count;
    struct code_region *oldest = region_after(cache, 1);
    if (oldest->near_at != oldest->near_start)
        evict(cache, oldest);
    return true;
}
