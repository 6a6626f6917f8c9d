// SPDX-License-Identifier: Apache-2.0
//
// Exceptions and interrupts: raising them while an instruction executes, and delivering them through the IDT.
#ifndef WIRT_MACHINE_ENGINE_EXCEPTION_H
#define WIRT_MACHINE_ENGINE_EXCEPTION_H

#include "machine/engine/engine.h"

// Record an exception; returns -1 so that a handler can `return raise_gp(vcpu, 0);`. The instruction has
// changed nothing yet.
void exception_record(struct vcpu *vcpu, struct engine_exception exception);

static inline int raise_exception(struct vcpu *vcpu, enum exception vector) // without error code
{
    exception_record(vcpu, (struct engine_exception){.vector = (uint8_t)vector});
    return -1;
}

static inline int raise_exception_error(struct vcpu *vcpu, enum exception vector, uint32_t error)
{
    exception_record(vcpu, (struct engine_exception){
                               .vector = (uint8_t)vector, .has_error = true, .error = error});
    return -1;
}

static inline int raise_page_fault(struct vcpu *vcpu, struct gva address, uint32_t error)
{
    exception_record(vcpu,
                     (struct engine_exception){
                         .vector = EXC_PF, .has_error = true, .error = error, .cr2 = address.at});
    return -1;
}

static inline int raise_ud(struct vcpu *vcpu)
{
    return raise_exception(vcpu, EXC_UD);
}
static inline int raise_gp(struct vcpu *vcpu, uint32_t error)
{
    return raise_exception_error(vcpu, EXC_GP, error);
}

// INT3, INTO, INT1 (`checked` false) and INT n (true: #GP in virtual-8086 mode with IOPL below 3; with CR4.VME the redirection bitmap
// may send it to the 8086 handler). Returns -1: what is recorded is to be delivered with the address of the next instruction.
int raise_software_interrupt(struct vcpu *vcpu, uint8_t vector, bool checked);

// Deliver engine_cpu.exception, which the instruction at state.rip raised (for software interrupts `next_rip` is pushed): real mode IVT,
// protected mode gates, task gates, long mode with IST, privilege change, error codes, RF; on a fault while delivering, contributory rules,
// #DF, and shutdown. Returns 0, or VCPU_EXIT_SHUTDOWN's sign -1: triple fault. Clears the exception.
int exception_deliver(struct vcpu *vcpu, uint64_t next_rip);

// Deliver an external interrupt or NMI (between instructions).
int interrupt_deliver(struct vcpu *vcpu, uint8_t vector, bool nmi);

// Between instructions: take NMI, external interrupts (IF, shadow), pending #DB traps, in the manual's order (SDM vol. 3, table 6-2), and INIT/SIPI.
// Returns 1 when the caller must leave run() (*exit says why), else 0. Clears the event bits that it handled.
int engine_take_events(struct vcpu *vcpu, enum vcpu_exit *exit);

#endif
