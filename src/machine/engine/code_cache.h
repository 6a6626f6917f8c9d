// SPDX-License-Identifier: Apache-2.0
//
// The code cache: where translations live, how they are found, joined and dropped.
//
// What generated code needs of the host, stated once:
//  - x86-64 with BMI2 (RORX and PEXT leave flags alone) and XSAVE; FSGSBASE is used when the kernel allows it.
//  - All sixteen general registers, the status flags and the vector and x87 registers are the guest's. GS is struct vcpu
//    (state at 0, struct engine_cpu at VCPU_CONTEXT_OFFSET); FS stays the host's. DF, AC, TF and NT are clear, the guest's are in state.rflags.
//  - There is no stack: no CALL, PUSH or RET before RSP has been exchanged (trampoline.h). Signals arrive on an alternate stack.
//  - One memfd is mapped twice, writable (never executable) for the emitter and executable (never writable) for the vCPUs. Code in it is position
//    independent, and jumps within it are relative, so either mapping serves to compute displacements.
//  - Code that another vCPU may be executing is changed only by one aligned 4-byte store to the displacement of a jump.
//
// A translation ("block") covers guest code of one page, from one address on, in one mode. Its key is the linear address, the physical address and the mode bits
// (translate.h), so that processes share what they map at the same address, and a context switch keeps it. Near code (what
// executes usually) and far code (exits, slow paths) lie apart, each allocated upward.
//
// The only words ever patched in code that may be executed are the displacements of direct links: aligned when they are emitted, so that each lies
// within one cache line (code_cache_commit() refuses others, in every build). Jump tables are data of one vCPU, written by that alone.
//
// Dropping a block unlinks it: every jump into it leads to its exit again, and it is no longer found. Its memory is used again with that of its region.
//
// Regions: the cache is a ring of them, each with near and far code and its part of the tables. One is being filled. When it is full, the next one is; at that
// moment the one behind that, the oldest, loses all blocks it still has and lies in limbo under a new epoch (code_epoch.h). By the time it is wanted,
// every vCPU has long told that it left; if one has not, there is no room for a while, and tier 0 executes what would have been translated.
// So nobody waits, and what is evicted is what was translated longest ago. Blocks' records and fault sites are kept and used again with the code.
//
// Threads: code_cache_find(), code_cache_block_at() and code_cache_site_at() take no lock and are for readers (code_epoch.h); everything else
// needs the translator's lock.
#ifndef WIRT_MACHINE_ENGINE_CODE_CACHE_H
#define WIRT_MACHINE_ENGINE_CODE_CACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "machine/engine/code_epoch.h"
#include "machine/engine/emit.h"

// Blocks are known by their number and direct jumps by theirs, two to a block, both counted from 1 so that 0 is none. A machine has a hundred thousand
// blocks: their records are kept small.

// A direct jump out of a block.
struct link {
    uint32_t target; // block; none: leads to the exit
    uint32_t next;   // link, in the target's `incoming`
    uint32_t patch;  // cache offset of the jump's displacement, 0: no such link
    uint32_t exit;   // cache offset of the code that leaves the cache
};

struct block {
    uint64_t rip;        // linear address of the first byte
    uint32_t frame;      // physical address of its page, in pages
    uint32_t code;       // cache offset of the near code, which is also the entry for linked jumps
    uint32_t first_site; // fault sites: index and count
    _Atomic uint32_t hash_next; // blocks
    uint32_t page_next;
    uint32_t incoming; // first of the links that lead here
    struct link links[2];
    uint16_t mode; // TRANSLATE_MODE_*
    uint16_t code_bytes;
    uint16_t loop_entry;    // behind `code`: the entry for the block's own jump, 0: as for others
    uint16_t entry_vectors; // behind `code`: the entry for blocks that hold vector registers
    uint16_t guest_bytes;
    uint8_t instructions;
    uint8_t site_count;
    uint8_t jump_bytes; // before `code`: the entry for jumps through the jump table
    bool vectors;       // has the vector registers loaded where it jumps
    bool dropped;
};

// A host instruction that may fault, by its offset in the block's near code: the guest instruction it belongs to, and which guest registers are in
// the context instead of their host registers there.
struct fault_site {
    uint16_t host_offset;
    uint16_t guest_offset;
    uint16_t evicted;
    uint16_t x87_opcode; // what FOP would be
    uint8_t undone;      // instructions of the block from that one on
    bool saved;          // the status flags are in translate.saved_flags
    uint32_t exit;       // cache offset of code that leaves; 0: the trampoline
};

struct code_page;

#define CODE_REGIONS_MAX   16
#define CODE_REGIONS_MIN   4
#define CODE_REGION_BYTES  (256u * 1024u) // at least
#define CODE_CACHE_MINIMUM (CODE_REGIONS_MIN * CODE_REGION_BYTES)

struct code_region {
    uint32_t near_start, near_at, near_end;
    uint32_t far_start, far_at, far_end;
    uint32_t first_block, first_site; // indices
    _Atomic uint32_t block_count;     // in order of their near code
    uint32_t site_count;
    uint64_t epoch; // in limbo since; 0: never used
};

// Hears, with the translator's lock held.
struct code_cache_listener {
    // The page has no translations left.
    void (*page_done)(void *context, uint64_t page);
    // Blocks have been dropped: whoever remembers any forgets them before it passes (code_epoch.h).
    void (*dropped)(void *context);
    void *context;
};

struct code_cache {
    uint8_t *write;         // writable mapping
    const uint8_t *execute; // executable mapping
    uint32_t bytes;
    uint32_t trampolines_end; // where the regions begin
    uint32_t region_bytes;
    unsigned region_count;
    unsigned filling; // region
    struct code_region regions[CODE_REGIONS_MAX];
    struct code_epochs epochs;
    struct code_cache_listener listener;
    struct block *blocks; // in the order of regions
    struct fault_site *sites;
    struct code_page *pages;
    uint32_t page_count; // that were ever used
    uint32_t free_pages; // the first of those that are not any more
    _Atomic uint32_t *hash;
    uint32_t *page_hash;
    void *tables; // one reservation for the arrays above
    size_t tables_bytes;
    int fd;
    uint64_t drops;    // of blocks
    uint64_t reuses;   // of regions
    uint64_t refusals; // of room, because a reader had not passed
};

// At least CODE_CACHE_MINIMUM bytes.
int code_cache_init(struct code_cache *cache, uint32_t bytes,
                    const struct code_cache_listener *listener, struct err *err);
void code_cache_fini(struct code_cache *cache);

// For trampolines, which stay: room before the regions.
#define CODE_TRAMPOLINE_BYTES 4096u
struct emitter code_cache_trampolines(struct code_cache *cache);

// See that the next block has room. False: not yet, since a reader has not left what is to be used again; ask again later. May drop blocks.
bool code_cache_make_room(struct code_cache *cache);

// Emitters for a new block (NULL: no room) and its registration (false: it did not fit). A block that was begun and not committed costs nothing.
struct block *code_cache_begin(struct code_cache *cache, struct emitter *near, struct emitter *far);
bool code_cache_commit(struct code_cache *cache, struct block *block, const struct emitter *near,
                       const struct emitter *far, const struct fault_site *sites,
                       unsigned site_count);

struct block *code_cache_find(struct code_cache *cache, uint64_t rip, uint64_t physical,
                              uint32_t mode);

// The block whose near code contains a host address of the executable mapping, or NULL; and the site that it belongs to, or NULL.
struct block *code_cache_block_at(struct code_cache *cache, uint64_t pc);
const struct fault_site *code_cache_site_at(struct code_cache *cache, const struct block *block,
                                            uint64_t pc);

// Join the jump links[link] of `source` to the target, unless one of them has been dropped.
void code_cache_link(struct code_cache *cache, struct block *source, unsigned link,
                     struct block *target);

// Bytes of a page were written: drop its blocks that overlap [physical, physical + length). Returns how many blocks the page has left.
unsigned code_cache_drop(struct code_cache *cache, uint64_t physical, uint32_t length);

static inline uint32_t code_cache_number(const struct code_cache *cache, const struct block *block)
{
    return (uint32_t)(block - cache->blocks) + 1;
}

static inline const struct block *code_cache_block(const struct code_cache *cache, uint32_t number)
{
    return &cache->blocks[number - 1];
}

static inline uint64_t block_physical(const struct block *block)
{
    return (uint64_t)block->frame << 12 | (block->rip & 4095);
}

static inline uint32_t block_entry_vectors(const struct block *block)
{
    return block->code + block->entry_vectors;
}

static inline bool code_cache_contains(const struct code_cache *cache, uint64_t pc)
{
    return pc - (uint64_t)(uintptr_t)cache->execute < cache->bytes;
}

static inline uint32_t code_cache_offset(const struct code_cache *cache, const uint8_t *written)
{
    return (uint32_t)(written - cache->write);
}

#endif
