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
// Dropping a block unlinks it: every jump into it leads to its exit again, and it is no longer found. Its memory is not reused before
// everything is flushed, when no vCPU is in the cache (`struct translator` sees to that).
//
// Threads: cache_find() and cache_block_at() take no lock; everything else needs the translator's lock.
#ifndef WIRT_MACHINE_ENGINE_CODE_CACHE_H
#define WIRT_MACHINE_ENGINE_CODE_CACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
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
    uint8_t undone; // instructions of the block from that one on
    bool saved;     // the status flags are in translate.saved_flags
    uint32_t exit;  // cache offset of code that leaves; 0: the trampoline
};

struct code_page;

struct code_cache {
    uint8_t *write;         // writable mapping
    const uint8_t *execute; // executable mapping
    uint32_t bytes;
    uint32_t near_start, near_at, near_end;
    uint32_t far_start, far_at, far_end;
    struct block *blocks; // in order of their near code
    _Atomic uint32_t block_count;
    struct fault_site *sites;
    uint32_t site_count;
    struct code_page *pages;
    uint32_t page_count;
    _Atomic uint32_t *hash;
    uint32_t *page_hash;
    void *tables; // one reservation for the arrays above
    size_t tables_bytes;
    int fd;
    _Atomic uint64_t flushes;
    uint64_t drops;
};

int code_cache_init(struct code_cache *cache, uint32_t bytes, struct err *err);
void code_cache_fini(struct code_cache *cache);

// Trampolines are emitted first, and kept by a flush: everything emitted before this call.
void code_cache_keep(struct code_cache *cache);

// Emitters for a new block (NULL: no room, flush) and its registration. A block that was begun and not committed costs nothing.
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

// Join the jump links[link] of `source` to the target.
void code_cache_link(struct code_cache *cache, struct block *source, unsigned link,
                     struct block *target);

// Drop the blocks of the page that overlap [physical, physical + length). Returns how many blocks the page has left; *dropped how many went.
unsigned code_cache_drop(struct code_cache *cache, uint64_t physical, uint32_t length,
                         unsigned *dropped);

// Forget everything; `page_done` hears of every page that had translations.
void code_cache_flush(struct code_cache *cache, void (*page_done)(void *context, uint64_t page),
                      void *context);

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
