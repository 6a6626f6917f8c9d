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
#include "machine/engine/stats.h"
#include "machine/engine/translate_cpu.h"

// Tier 0 alone, and the whole engine (tier 1 with tier 0 beneath).
extern const struct vcpu_backend_ops interpreter_backend;
extern const struct vcpu_backend_ops engine_backend;

// The soft TLB for data: a table for each kind of accessor, indexed by the low TLB_BITS bits of the page number of the linear
// address. read_tag[i] and write_tag[i] hold the *negated* linear page address when the access is permitted without any further
// check or effect (RAM; accessed and, for writes, dirty set; no code and no watchpoint on the page), so that
// address + tag < 4096 on a hit; the tag of an empty entry never hits. host = linear address + addend.
// Execution has tables of its own, used by tier 0 and by tier 1's block look-up.
#define TLB_BITS    12
#define TLB_ENTRIES (1u << TLB_BITS)

// The tag of an empty entry: that of a page which belongs into another entry, so that no address hits; two pages away, so that no access which crosses into
// the next page does.
static inline uint64_t tlb_empty_tag(uint64_t index)
{
    return -((index ^ 2) << 12);
}

static inline uint32_t tlb_index(uint64_t linear)
{
    return (uint32_t)(linear >> 12) & (TLB_ENTRIES - 1);
}

// Who accesses. SUPERVISOR: CPL 0 to 2, and implicit system accesses at any CPL; with CR4.SMAP it never holds user pages.
// SUPERVISOR_AC: CPL 0 to 2 while CR4.SMAP and RFLAGS.AC are set. USER: CPL 3.
enum tlb_mode { TLB_SUPERVISOR, TLB_SUPERVISOR_AC, TLB_USER, TLB_MODE_COUNT };
enum fetch_mode { FETCH_SUPERVISOR, FETCH_USER, FETCH_MODE_COUNT };

// Which entries of a table are filled, so that a flush costs what was filled, and what INVLPG and MOV CR3 must know of them.
enum { TLB_SHIFT_MASK = 0x3F, TLB_GLOBAL = 0x40, TLB_FILLED = 0x80 };
struct tlb_book {
    uint32_t count;
    uint16_t filled[TLB_ENTRIES]; // indices, each at most once
    uint8_t kind[TLB_ENTRIES];    // TLB_FILLED | TLB_GLOBAL | log2 of the guest's page size
};
_Static_assert(TLB_BITS <= 16, "tlb_book.filled holds an index");

// Pages whose numbers differ by a multiple of TLB_ENTRIES share an entry, and code that uses two of them in turns would miss each time (a program's stack is
// anywhere, so that one in some thousand runs has such a pair). What a fill displaces becomes a victim: it stays permitted as it was, in the place that the low
// bits of its number say, and is looked for where the entry itself does not hit. Whatever drops entries drops all victims that may be meant.
#define TLB_VICTIMS 256u // their index is a byte: generated code takes it by MOVZX
_Static_assert(TLB_ENTRIES % TLB_VICTIMS == 0, "pages that share an entry share a place");
struct tlb_victims {
    uint64_t read_tag[TLB_VICTIMS];
    uint64_t write_tag[TLB_VICTIMS];
    uint64_t addend[TLB_VICTIMS];
    uint32_t count; // listed
    uint8_t list[TLB_VICTIMS];
    bool listed[TLB_VICTIMS];
};

struct tlb {
    uint64_t read_tag[TLB_ENTRIES];
    uint64_t write_tag[TLB_ENTRIES];
    uint64_t addend[TLB_ENTRIES];
    struct tlb_victims victims;
    struct tlb_book book;
};

struct fetch_tlb {
    uint64_t tag[TLB_ENTRIES];
    uint64_t addend[TLB_ENTRIES];
    uint64_t physical[TLB_ENTRIES]; // guest physical page
    struct tlb_book book;
};

// An exception raised while executing an instruction, before it is delivered. Handlers return -1 after filling it.
struct engine_exception {
    uint8_t vector; // EXC_NONE: none
    bool has_error;
    bool software; // INT n, INT3, INTO: pushes the next instruction's address, checks gate DPL
    uint32_t error;
    uint64_t cr2;
    uint64_t dr6; // #DB: bits to be set
};

// Beside DR6 bits: the debugger's, vcpu->watch_hit says which.
#define DEBUG_HIT_WATCH (1ull << 32)

struct engine_trace;
struct interp_cpu;

struct engine_cpu {
    struct engine_exception exception;
    // Derived from state on every change (engine_mode_changed(), engine_flags_changed()): what the decoder and the MMU need at hand.
    uint8_t code_mode; // 16, 32 or 64
    uint8_t cpl;
    uint8_t tlb_mode;   // enum tlb_mode for data accesses
    uint8_t fetch_mode; // enum fetch_mode
    bool paging;
    bool
        flat64; // 64-bit code and no alignment checking (CR0.AM, RFLAGS.AC, CPL 3): the linear address of an
    // access is its offset, for FS and GS plus the base, and a TLB hit needs no further check
    uint64_t
        next_rip; // tier 0: where the instruction being executed will leave RIP; branches change it
    struct interp_cpu *interp; // tier 0's part (interp.h), owned; tier 1 has one beneath it too
    uint8_t physical_bits;     // MAXPHYADDR of the CPU model
    bool gigabyte_pages;       // the CPU model offers them
    uint8_t canonical_shift;   // 64 minus the width of a linear address: 16, with 5-level paging 7
    // The run loop must call debug_before_instruction() and debug_after_instruction(): TF or RF is set, or DR7 arms an instruction breakpoint.
    bool step_checks;
    bool
        data_breakpoints; // DR7 arms a data breakpoint, or the debugger watches data: watched pages stay out of the TLB
    bool
        interrupt_held; // a vector is pending that IF forbids; engine_flags_changed() raises the event again
    uint64_t
        debug_hits; // DR6 bits of a #DB trap to be delivered before the next instruction, and DEBUG_HIT_WATCH; makes the run loop call
                    // engine_take_events()
    struct spin {
        int32_t pauses_left; // that may be executed before one gives the host's CPU up
        unsigned yields;     // one soon after another
        uint64_t last_ns;
    } spin;                            // interp_pause()
    uint64_t retired[TIER_COUNT];      // guest instructions by tier
    uint64_t exits[ENGINE_EXIT_COUNT]; // for --stats
    const struct engine_trace *trace;  // trace.h; NULL: off
    const char *traced_mode;           // what trace_mode() said last
    bool traced_paging;
    struct tlb tlb[TLB_MODE_COUNT];
    struct fetch_tlb fetch[FETCH_MODE_COUNT];
    uint64_t large_start[2],
        large_last[2]; // linear range that has entries of large pages: lower and upper half
    struct translate_cpu translate; // tier 1's part
};

static inline struct engine_cpu *engine_cpu_of(struct vcpu *vcpu)
{
    return (struct engine_cpu *)(void *)((char *)vcpu + VCPU_CONTEXT_OFFSET);
}

// Make the context usable (empty TLBs, derived members); for the backends' vcpu_init.
void engine_cpu_init(struct vcpu *vcpu);

// After any change of CS, SS, CR0, CR4 or EFER: recompute the derived members. Includes engine_flags_changed().
void engine_mode_changed(struct vcpu *vcpu);

// After RFLAGS bits other than the status flags and DF changed (POPF, STI, IRET, CLAC…): AC, TF, RF, VM and IF have consequences.
void engine_flags_changed(struct vcpu *vcpu);

// Everything may have changed from outside: for the backends' state_changed.
void engine_state_changed(struct vcpu *vcpu);

// Publish the instructions retired so far in vcpu->instructions; the clock of a deterministic machine follows them. Called before anything
// reads the time or could: ports, MMIO, MSRs, RDTSC.
void engine_sync_clock(struct vcpu *vcpu);

// What a run loop does for each instruction it executes one by one:
//   1. If `events` or `debug_hits` is not 0: engine_take_events(); it may deliver an interrupt, or ask to leave.
//   2. If `step_checks`: debug_before_instruction(); -1 is a #DB fault to be delivered.
//   3. state.interrupt_shadow = SHADOW_NONE; execute. STI and MOV SS set the shadow anew.
//   4. On success, if `step_checks` was set in 2: debug_after_instruction() with RFLAGS as they were before.
//   5. On -1: exception_deliver(); -1 from that is a triple fault: VCPU_EXIT_SHUTDOWN.

#endif
