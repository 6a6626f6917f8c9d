// SPDX-License-Identifier: Apache-2.0
//
// The ways into and out of the code cache. They are emitted once, at its start.
//
// In: enter(code) saves the host's callee-saved registers and RSP, loads the guest's sixteen registers from state.gpr and its status
// flags from translate.flags, and jumps to `code`.
// Out: code that has stored the offset of an exit record to translate.exit jumps to `leave`, which stores the registers and flags and
// returns from enter(). Vector and x87 registers are not touched: see vectors.h.
// Between blocks: what the jump table does not know leaves by `jump_miss`, with the linear address in R11 and the guest's RCX and R11 in state.gpr.
#ifndef WIRT_MACHINE_ENGINE_TRAMPOLINE_H
#define WIRT_MACHINE_ENGINE_TRAMPOLINE_H

#include "machine/engine/code_cache.h"
#include "machine/engine/engine.h"

struct block;

// Why generated code left the cache; lies in the far section, written before the code that refers to it.
enum exit_kind {
    EXIT_INTERPRET, // execute the instruction at `rip` by tier 0, then go on at `resume` if it went on to `next_rip`
    EXIT_LINK, // a direct jump to `rip` that is not linked yet: block->links[link]
    EXIT_JUMP, // a jump to state.rip that the table does not know. The record of an indirect jump (translate.jump_record): by the instruction at `rip`, which
               // has changed RSP by -(next_rip)
    EXIT_EVENT,   // events are pending; at `rip`
    EXIT_BUDGET,  // the block at `rip` has more instructions than may be executed
    EXIT_VECTORS, // the block at `rip` needs the vector registers loaded, and goes on at `resume`
    EXIT_FAULT,   // its host code faulted: execute the instruction at translate.fault_rip by tier 0
    EXIT_KIND_COUNT
};

enum flags_saved { SAVED_NOT, SAVED_ALWAYS, SAVED_AT_ENTRY /* if translate.entry_saved */ };

struct exit_record {
    uint64_t rip;
    uint64_t next_rip;
    struct block *block;
    uint32_t resume; // cache offset, 0: none
    uint8_t kind;
    uint8_t link;
    uint8_t
        undone; // instructions of the block that come after, or are, the one at `rip`: not executed
    uint8_t saved; // the status flags are in translate.saved_flags: enum flags_saved
};

struct trampolines {
    void (*enter)(const void *code);
    uint32_t leave;
    uint32_t jump_miss;
    const uint8_t *fault; // where the fault handler continues, EXIT_FAULT
};

// Offsets from GS.
#define CONTEXT_GPR(n)         (offsetof(struct vcpu, state.gpr) + 8u * (unsigned)(n))
#define CONTEXT_STATE(member)  offsetof(struct vcpu, state.member)
#define CONTEXT_EVENTS         offsetof(struct vcpu, events)
#define CONTEXT_ENGINE(member) (VCPU_CONTEXT_OFFSET + offsetof(struct engine_cpu, member))

void trampolines_emit(struct trampolines *trampolines, struct code_cache *cache);

// `mov dword gs:[exit], record`; the caller jumps to `leave`.
void emit_exit_reason(struct emitter *e, uint32_t record);

#endif
