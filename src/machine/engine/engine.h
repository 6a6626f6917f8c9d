// SPDX-License-Identifier: Apache-2.0
//
// The engine: executes guest code on a host without hardware virtualization.
//
// Tier 0 (interp*.c) interprets every instruction in every mode and is the reference. Tier 1 (translate*.c and what it
// uses) turns blocks of guest code into host code and calls tier 0 for what it does not translate. Both are backends
// (cpu/vcpu.h) over one per-vCPU context, defined here; both reach guest memory through the MMU (mmu.h) and raise
// exceptions the same way (exception.h).
//
// Layers within the folder, bottom first: decode, engine.h, mmu, exception, segment, system (control registers, MSRs,
// far transfers), interp, code cache, translate.
#ifndef WIRT_MACHINE_ENGINE_ENGINE_H
#define WIRT_MACHINE_ENGINE_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "machine/cpu/vcpu.h"

// Tier 0 alone, and the whole engine (tier 1 with tier 0 beneath).
extern const struct vcpu_backend_ops interpreter_backend;
extern const struct vcpu_backend_ops engine_backend;

// The soft TLB: one set of arrays for CPL 0-2 ("supervisor") and one for CPL 3, indexed by the low TLB_BITS bits of the
// page number of the linear address. read_tag[i] and write_tag[i] hold the *negated* linear page address when the access is permitted without
// any further check or effect (RAM; accessed and, for writes, dirty set; no code and no watch on the page), so that
// address + tag < 4096 on a hit; TLB_TAG_EMPTY never hits. host = linear address + addend.
// Execution has a table of its own (fetch_*), used by tier 0 and by tier 1's block look-up.
#define TLB_BITS      12
#define TLB_ENTRIES   (1u << TLB_BITS)

// The tag of an empty entry: that of a page which belongs into another entry, so that no address hits.
static inline uint64_t tlb_empty_tag(uint64_t index)
{
    return -((index ^ 1) << 12);
}

enum tlb_mode { TLB_SUPERVISOR, TLB_USER, TLB_MODE_COUNT };

struct tlb {
    uint64_t read_tag[TLB_ENTRIES];
    uint64_t write_tag[TLB_ENTRIES];
    uint64_t addend[TLB_ENTRIES];
    uint64_t fetch_tag[TLB_ENTRIES];
    uint64_t fetch_addend[TLB_ENTRIES];
    uint64_t fetch_physical[TLB_ENTRIES]; // guest physical page of the fetch entry
};

// An exception raised while executing an instruction, before it is delivered. Handlers return -1 after filling it.
struct engine_exception {
    uint8_t vector; // EXC_NONE: none
    bool has_error;
    bool software; // INT n, INT3, INTO: pushes the next instruction's address, checks gate DPL
    uint32_t error;
    uint64_t cr2;
};

enum engine_tier { TIER_INTERPRETED, TIER_TRANSLATED, TIER_COUNT };

struct interp_cpu;

struct engine_cpu {
    struct engine_exception exception;
    // Derived from state on every change (engine_mode_changed()): what the decoder and the MMU need at hand.
    uint8_t code_mode;  // 16, 32 or 64
    uint8_t cpl;
    uint8_t tlb_mode;   // enum tlb_mode for data accesses at this CPL (SMAP with AC=0 makes a difference: see mmu.h)
    bool paging;
    bool flat64;            // 64-bit code and no alignment checking (CR0.AM, RFLAGS.AC, CPL 3): the linear address of an
                            // access is its offset, for FS and GS plus the base, and a TLB hit needs no further check
    uint64_t next_rip;      // tier 0: where the instruction being executed will leave RIP; branches change it
    struct interp_cpu *interp; // tier 0's part (interp.h), owned; tier 1 has one beneath it too
    uint64_t retired[TIER_COUNT]; // guest instructions by tier
    uint64_t exits[8];            // by enum engine_exit_reason (stats.h), for --stats
    struct tlb tlb[TLB_MODE_COUNT];
    void *translator; // tier 1's part of the context
};

static inline struct engine_cpu *engine_cpu_of(struct vcpu *vcpu)
{
    return (struct engine_cpu *)vcpu->backend_data;
}

// After any change of CS, SS, CR0, CR4, EFER or RFLAGS.VM/AC: recompute the derived members.
void engine_mode_changed(struct vcpu *vcpu);

#endif
