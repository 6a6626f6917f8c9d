// SPDX-License-Identifier: Apache-2.0
//
// Three arrays (blocks, fault sites, pages) are filled from the front like the code itself, and emptied by a flush only; two hash tables of
// numbers lead into them. A reader of the hash needs no lock because an entry is complete before it is linked in and stays in place
// until no vCPU is in the cache.
#include "machine/engine/code_cache.h"

#include <assert.h>

#include "base/bits.h"
#include "os/file.h"
#include "os/memory.h"

// So many stores to a page that miss its translations, and all of them are dropped: the page is being filled with something else.
#define IDLE_WRITES_MAX 4

#define HASH_BITS      17
#define PAGE_HASH_BITS 14
#define BLOCKS_MAX     (1u << 18)
#define SITES_MAX      (1u << 20)
#define PAGES_MAX      (1u << 16)

// Room that must be left to begin a block; a block that needs more is cut (translate.c).
#define NEAR_RESERVE (24u * 1024u)
#define FAR_RESERVE  (48u * 1024u)

struct code_page {
    uint32_t frame;       // physical address, in pages
    uint32_t blocks;      // first of its blocks
    uint32_t next;        // page in the same bucket, counted from 1
    uint32_t idle_writes; // since the last translation: writes that changed no translated byte
};

static struct block *block_of(const struct code_cache *cache, uint32_t number)
{
    return number ? &cache->blocks[number - 1] : NULL;
}

static uint32_t number_of(const struct code_cache *cache, const struct block *block)
{
    return (uint32_t)(block - cache->blocks) + 1;
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

int code_cache_init(struct code_cache *cache, uint32_t bytes, struct err *err)
{
    *cache = (struct code_cache){.bytes = (uint32_t)align_up(bytes, 8192), .fd = -1};
    if (map_code(cache, err) != 0 || map_tables(cache, err) != 0) {
        code_cache_fini(cache);
        return err_wrap(err, "code cache");
    }
    cache->near_at = cache->near_start = 64; // offset 0 means "none"
    cache->near_end = cache->bytes / 2;
    cache->far_at = cache->far_start = cache->bytes / 2;
    cache->far_end = cache->bytes;
    return 0;
}

void code_cache_fini(struct code_cache *cache)
{
    os_memory_release(cache->write, 2ull * cache->bytes);
    os_memory_release(cache->tables, cache->tables_bytes);
    os_file_close(&cache->fd);
    *cache = (struct code_cache){.fd = -1};
}

void code_cache_keep(struct code_cache *cache)
{
    cache->near_start = cache->near_at;
    cache->far_start = cache->far_at;
}

struct block *code_cache_begin(struct code_cache *cache, struct emitter *near, struct emitter *far)
{
    uint32_t count = atomic_load_explicit(&cache->block_count, memory_order_relaxed);

    if (count == BLOCKS_MAX || cache->page_count + 1 >= PAGES_MAX ||
        cache->site_count + 1024 > SITES_MAX || cache->near_end - cache->near_at < NEAR_RESERVE ||
        cache->far_end - cache->far_at < FAR_RESERVE)
        return NULL;
    *near = (struct emitter){cache->write + cache->near_at, cache->write + cache->near_end, false};
    *far = (struct emitter){cache->write + cache->far_at, cache->write + cache->far_end, false};
    struct block *block = &cache->blocks[count];
    *block = (struct block){.code = cache->near_at, .first_site = cache->site_count};
    return block;
}

bool code_cache_commit(struct code_cache *cache, struct block *block, const struct emitter *near,
                       const struct emitter *far, const struct fault_site *sites,
                       unsigned site_count)
{
    if (near->overflow || far->overflow)
        return false;

    uint32_t number = number_of(cache, block);
    uint32_t code_bytes = code_cache_offset(cache, near->at) - block->code;
    assert(code_bytes <= UINT16_MAX);
    uint32_t *slot = page_slot(cache, block->frame);
    if (!*slot) {
        cache->pages[cache->page_count] = (struct code_page){.frame = block->frame};
        *slot = ++cache->page_count;
    }
    struct code_page *page = &cache->pages[*slot - 1];
    page->idle_writes = 0;
    block->page_next = page->blocks;
    page->blocks = number;

    memcpy(&cache->sites[cache->site_count], sites, site_count * sizeof(*sites));
    cache->site_count += site_count;
    block->site_count = (uint8_t)site_count;
    block->code_bytes = (uint16_t)code_bytes;
    cache->near_at = (uint32_t)align_up(code_cache_offset(cache, near->at), 16);
    cache->far_at = (uint32_t)align_up(code_cache_offset(cache, far->at), 8);

    _Atomic uint32_t *bucket =
        &cache->hash[hash_of(block->rip, block_physical(block), block->mode)];
    atomic_store_explicit(&block->hash_next, *bucket, memory_order_relaxed);
    atomic_store_explicit(&cache->block_count, number, memory_order_release);
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
    uint32_t low = 0, high = atomic_load_explicit(&cache->block_count, memory_order_acquire);

    while (low < high) { // first block that starts after the address
        uint32_t middle = low + (high - low) / 2;
        if (cache->blocks[middle].code <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || offset - cache->blocks[low - 1].code >= cache->blocks[low - 1].code_bytes)
        return NULL;
    return &cache->blocks[low - 1];
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
    // Displacements were aligned when they were emitted: one store within a cache line.
    assert((patch & 3) == 0);
    atomic_store_explicit((_Atomic uint32_t *)(void *)(cache->write + patch), target - (patch + 4),
                          memory_order_release);
}

void code_cache_link(struct code_cache *cache, struct block *source, unsigned number,
                     struct block *target)
{
    struct link *link = &source->links[number];

    if (link->target || target->dropped)
        return;
    link->target = number_of(cache, target);
    link->next = target->incoming;
    target->incoming = (number_of(cache, source) - 1) * 2 + number + 1;
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
    uint32_t number = number_of(cache, block);
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

unsigned code_cache_drop(struct code_cache *cache, uint64_t physical, uint32_t length,
                         unsigned *dropped)
{
    uint32_t number = *page_slot(cache, (uint32_t)(physical >> 12));
    struct code_page *page = &cache->pages[number - 1];
    unsigned left = 0;

    *dropped = 0;
    if (!number)
        return 0;
    if (page->idle_writes >= IDLE_WRITES_MAX) {
        physical = align_down(physical, 4096);
        length = 4096;
    }
    for (uint32_t *at = &page->blocks; *at;) {
        struct block *block = block_of(cache, *at);
        uint64_t start = block_physical(block);
        if (start < physical + length && physical < start + block->guest_bytes) {
            *at = block->page_next;
            drop_block(cache, block);
            (*dropped)++;
        } else {
            at = &block->page_next;
            left++;
        }
    }
    page->idle_writes = *dropped ? 0 : page->idle_writes + 1;
    return left;
}

void code_cache_flush(struct code_cache *cache, void (*page_done)(void *context, uint64_t page),
                      void *context)
{
    for (uint32_t i = 0; i < cache->page_count; i++)
        page_done(context, (uint64_t)cache->pages[i].frame << 12);
    memset(cache->hash, 0, sizeof(*cache->hash) << HASH_BITS);
    memset(cache->page_hash, 0, sizeof(*cache->page_hash) << PAGE_HASH_BITS);
    cache->near_at = cache->near_start;
    cache->far_at = cache->far_start;
    atomic_store_explicit(&cache->block_count, 0, memory_order_release);
    cache->site_count = cache->page_count = 0;
    cache->flushes++;
}
