// SPDX-License-Identifier: Apache-2.0
//
// Tier 1's part of a vCPU's context, addressed by generated code through GS.
#ifndef WIRT_MACHINE_ENGINE_TRANSLATE_CPU_H
#define WIRT_MACHINE_ENGINE_TRANSLATE_CPU_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "machine/engine/code_epoch.h"

struct translator;
struct vcpu;

// Where a linear address was last found to be translated, for indirect jumps and those to other pages: a pointer to code that first compares the address
// (translate.c), or to the trampoline for misses. One table for each enum tlb_mode, since code is translated for one. The book lists
// which are filled, so that a flush costs what was filled; more than it can list cost a walk through all.
#define JUMP_TABLES       3
#define JUMP_BITS         16
#define JUMP_ENTRIES      (1u << JUMP_BITS)
#define JUMP_BOOK_ENTRIES 8192u
struct jump_book {
    uint32_t count;
    uint16_t filled[JUMP_BOOK_ENTRIES];
};

static inline uint32_t jump_index(uint64_t linear)
{
    return (uint32_t)(linear + (linear >> JUMP_BITS)) % JUMP_ENTRIES;
}

// Which linear pages have entries in the jump table: a bit for each residue of the page number. INVLPG of others costs nothing.
#define EXECUTED_BITS 4096u

// Constants for PEXT and PDEP.
enum translate_mask {
    MASK_STATUS,
    MASK_PUSHED,
    MASK_NOT_IF,
    MASK_NOT_DF,
    MASK_NOT_AC,
    MASK_SIGN,
    MASK_DF,
    MASK_LONG,   // more than a count of elements of a page has
    MASK_OFFSET, // in a page
    MASK_COUNT
};

struct translate_cpu {
    uint64_t host_rsp;     // while in the cache
    uint64_t enter_target; // where the entry trampoline jumps
    uint64_t scratch;
    uint64_t flags;      // host flags on entry and exit: the guest's status flags
    uint64_t page_mask;  // ~4095
    uint64_t index_mask; // (TLB_ENTRIES - 1) << 12
    uint64_t masks[MASK_COUNT];
    uint64_t aligned_masks[7]; // ~4095 and the bits that are 0 in a multiple of 1, 2, … 64
    uint64_t budget;           // deterministic machines: instructions that may still be executed
    uint64_t fault_rip;        // guest RIP of the instruction whose host code faulted
    bool entry_saved;          // FLAGS_AT_ENTRY: they are in saved_flags
    uint16_t
        saved_flags; // the guest's status flags as LAHF and SETO leave them in AX, where the host's are spoiled
    uint64_t overwritten; // what the last indirect CALL found where it put its return address
    uint32_t exit;        // why the code left: cache offset of an exit record
    uint32_t jump_record; // of the last indirect jump: cache offset of its exit record
    uint32_t
        vectors_live; // 1: the vector and x87 registers are in the host's registers, 0: in state.xsave
    uint32_t
        x87_last; // the last x87 instruction that generated code executed, see vectors.h; 0: none
    uint64_t x87_data; // and the address of the last one's operand that had one
    // Not touched by generated code.
    uint32_t fault_undone; // exit_record.undone and saved of EXIT_FAULT
    bool fault_saved;
    uint64_t mapping_changes;      // counts what may have changed the mapping of code
    uint64_t cold_rip;             // last instruction that was interpreted because its code is cold
    _Atomic bool code_dropped;     // translations were dropped, the jump table is stale
    struct code_reader reader;     // while in run()
    _Atomic uint32_t running;      // may write by what its TLB holds: see translate_smp.h
    _Atomic uint32_t flush_wanted; // drop the write half of the TLB; the asker sleeps on it
    uint64_t
        watching; // under the translator's lock: the page that is being made ready for its first translation, plus 1
    uint16_t jump_mode[2]; // mode bits that the supervisor's tables are for, and the user's
    bool supervisor_local; // the supervisor's jump table holds entries of pages that are not global
    struct translator *translator; // borrowed: the machine's; NULL without tier 1
    void *signal_stack;            // owned by the vCPU's thread
    uint64_t executed[JUMP_TABLES][EXECUTED_BITS / 64];
    uint64_t jumps[JUMP_TABLES][JUMP_ENTRIES];
    struct jump_book jump_books[JUMP_TABLES];
};

// mmu.c tells: mappings went from the fetch TLB. All run on the vCPU's thread. `maybe_large`: the address may lie in a large page, the
// rest of which goes, too.
void translate_page_unmapped(struct vcpu *vcpu, uint64_t linear, bool maybe_large);
void translate_local_unmapped(struct vcpu *vcpu); // all but global pages
void translate_all_unmapped(struct vcpu *vcpu);

// VCPU_EVENT_CODE in tier 0's own run loop (a debugger's steps): what other vCPUs wait for is done.
void translate_answer(struct vcpu *vcpu);

#endif
