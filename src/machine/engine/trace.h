// SPDX-License-Identifier: Apache-2.0
//
// `--trace`: what the engine tells of its work, a line each, and the counts of `--stats`.
//
// Every line begins with the CPU, the number of instructions it has retired, and RIP:
//     cpu0 18023411 ffffffff8103a2f0  page fault at 7f12a4c01000, error 6 (write, user)
//
// The hooks stand where things happen, in both tiers' common parts: engine_exit() counts and, when asked for, announces; the other calls are
// made under engine_traces(). Off, each costs a load and a branch. Threads: vCPU threads; lines are whole.
#ifndef WIRT_MACHINE_ENGINE_TRACE_H
#define WIRT_MACHINE_ENGINE_TRACE_H

#include <stdio.h>

#include "machine/engine/engine.h"

enum engine_trace_what {
    TRACE_EXITS = 1 << 0,      // port and MMIO accesses, HLT, MSRs, control registers
    TRACE_INTERRUPTS = 1 << 1, // delivered interrupts and NMIs
    TRACE_FAULTS = 1 << 2,     // delivered exceptions
    TRACE_MODES = 1 << 3,      // real, protected, long and their kinds; paging on and off
    TRACE_HASH =
        1
        << 4, // of the CPU's state, every TRACE_HASH_INTERVAL instructions (deterministic machines)
    TRACE_STATES = 1 << 5, // registers from one count of instructions to another (the same)
};

#define TRACE_HASH_INTERVAL 10000u
#define TRACE_RAM_INTERVAL  10000000u // of RAM; a multiple of the other

struct engine_trace {
    unsigned what;
    FILE *to;             // borrowed
    uint64_t first, last; // TRACE_STATES: counts of retired instructions
};

// For all CPUs, before they run. `trace` is borrowed and outlives them.
void engine_trace_set(struct cpu_system *system, const struct engine_trace *trace);

static inline bool engine_traces(struct vcpu *vcpu, unsigned what)
{
    const struct engine_trace *trace = engine_cpu_of(vcpu)->trace;
    return __builtin_expect(trace != NULL, 0) && (trace->what & what);
}

void trace_line(struct vcpu *vcpu, const char *format, ...) __attribute__((format(printf, 2, 3)));

extern __thread struct vcpu *trace_current; // private: whose bus access comes next

// Count it. An access to a bus that follows is printed with this CPU's name.
static inline void engine_exit(struct vcpu *vcpu, enum engine_exit_reason reason)
{
    engine_cpu_of(vcpu)->exits[reason]++;
    if (engine_traces(vcpu, TRACE_EXITS))
        trace_current = vcpu;
}

void trace_exception(struct vcpu *vcpu, const struct engine_exception *exception);
void trace_interrupt(struct vcpu *vcpu, uint8_t vector, bool nmi);
void trace_mode(struct vcpu *vcpu); // prints when it is another than the last time
void trace_hash(struct vcpu *vcpu);

// TRACE_STATES. Tier 0 stops at each instruction of the range, tier 1 at each block; at the range's last count, every page of RAM is told by its hash.
// Where the range begins is the end of a slice (interp.h).
uint64_t trace_states_slice(struct vcpu *vcpu, uint64_t count, uint64_t slice);
bool trace_states_now(struct vcpu *vcpu); // within the range
void trace_states(struct vcpu *vcpu);

// A hash of everything architectural in the CPU's state: two tiers are compared by it.
uint64_t engine_state_hash(const struct cpu_state *state);

#endif
