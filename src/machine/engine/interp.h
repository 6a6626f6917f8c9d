// SPDX-License-Identifier: Apache-2.0
//
// Tier 0, the reference interpreter, as the rest of the engine sees it.
//
// interp.c fetches, decodes (with a cache) and dispatches; interp_table.c says which handler executes which operation;
// the handlers stand in interp_<subject>.c. Whatever changes nothing but registers and arithmetic flags is computed by the
// host's own instruction; x87 and vector instructions run on the guest's register file in interp_vector.c.
//
// Threads: everything here runs on the vCPU's own thread.
#ifndef WIRT_MACHINE_ENGINE_INTERP_H
#define WIRT_MACHINE_ENGINE_INTERP_H

#include "machine/engine/engine.h"

// Set up and drop engine_cpu.interp, the MMU and the derived mode: for both backends' vcpu_init and vcpu_fini.
// `cache_bits`: the binary logarithm of the number of decoded instructions that are kept, about 100 bytes each.
int interp_cpu_init(struct vcpu *vcpu, unsigned cache_bits, struct err *err);
void interp_cpu_fini(struct vcpu *vcpu);

enum interp_step {
    INTERP_STEP_DONE, // one instruction retired, or one exception delivered: both count as one instruction
    INTERP_STEP_PART, // elements of a repeated string instruction: it goes on, and counts when it is done
    INTERP_STEP_HALT,     // HLT: state.run_state says so
    INTERP_STEP_SHUTDOWN, // triple fault
};

// Execute the instruction at state.rip, whole (a repeated string instruction: until an event is pending), and deliver the exception
// that it raised. Does not look at events before it: the caller does (engine_take_events()).
enum interp_step interp_step(struct vcpu *vcpu);

// Tier 0's run loop: vcpu_backend_ops.run of the interpreter.
enum vcpu_exit interp_run(struct vcpu *vcpu);

// What tier 1 needs to count exactly in a deterministic machine, as interp_run() does it: a slice of instructions is begun
// when the last one is used up; each retired instruction is told; events and waiting are attended to between instructions.
void interp_begin(struct vcpu *vcpu);                            // at the start of run()
uint64_t interp_left(struct vcpu *vcpu);                         // of the slice
bool interp_next_slice(struct vcpu *vcpu, enum vcpu_exit *exit); // nothing left; true: leave run()
void interp_retire(struct vcpu *vcpu, uint64_t instructions,
                   enum vcpu_tier tier);                     // at most what is left
bool interp_attend(struct vcpu *vcpu, enum vcpu_exit *exit); // true: leave run()

// Timers of a deterministic machine run when the count of retired instructions is a multiple of this: the first one at or after
// their deadline.
#define INTERP_QUANTUM 1000u

#endif
