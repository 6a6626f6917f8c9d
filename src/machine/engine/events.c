// SPDX-License-Identifier: Apache-2.0
//
// What happens between two instructions, in the order of SDM vol. 3, table 6-2: INIT and SIPI, debug traps of the last instruction, NMI, external
// interrupts. A cause that cannot be taken now (IF clear, inside an NMI handler) leaves the event word, so that run loops are not
// kept busy; what removes the obstacle puts it back: engine_flags_changed(), IRET, the LAPIC.
#include "base/bits.h"
#include "machine/engine/exception.h"
#include "machine/engine/mmu.h"
#include "machine/engine/system.h"

static bool take(struct vcpu *vcpu, uint32_t event)
{
    return (atomic_fetch_and(&vcpu->events, ~event) & event) != 0;
}

static void take_requests(struct vcpu *vcpu, uint32_t events)
{
    if (events & VCPU_EVENT_CODE)
        translate_answer(vcpu);
    if (events & VCPU_EVENT_TLB_FLUSH) {
        take(vcpu, VCPU_EVENT_TLB_FLUSH);
        mmu_flush_all(vcpu);
    }
    if (events & VCPU_EVENT_DEBUG) {
        take(vcpu, VCPU_EVENT_DEBUG);
        engine_mode_changed(vcpu);
        mmu_flush_all(vcpu); // watched pages must miss, others no longer
    }
    if (events & VCPU_EVENT_INIT) {
        take(vcpu, VCPU_EVENT_INIT);
        vcpu_init_signal(vcpu);
        engine_state_changed(vcpu);
    }
    if (events & VCPU_EVENT_SIPI) {
        take(vcpu, VCPU_EVENT_SIPI);
        if (vcpu_startup_signal(vcpu))
            engine_state_changed(vcpu);
    }
    if ((events & VCPU_EVENT_NMI) && take(vcpu, VCPU_EVENT_NMI))
        vcpu->state.nmi_pending = true;
}

// An exception that a saved machine carried.
static int deliver_pending(struct vcpu *vcpu)
{
    struct cpu_state *cpu = &vcpu->state;

    engine_cpu_of(vcpu)->exception = (struct engine_exception){
        .vector = cpu->pending_exception,
        .has_error = cpu->pending_has_error,
        .error = cpu->pending_error,
        .cr2 = cpu->cr2,
    };
    cpu->pending_exception = EXC_NONE;
    return exception_deliver(vcpu, cpu->rip);
}

static int deliver_debug_trap(struct vcpu *vcpu)
{
    struct engine_cpu *engine = engine_cpu_of(vcpu);
    uint64_t found = engine->debug_hits;

    engine->debug_hits = 0;
    raise_exception(vcpu, EXC_DB);
    engine->exception.dr6 = found;
    return exception_deliver(vcpu, vcpu->state.rip);
}

static int deliver_nmi(struct vcpu *vcpu)
{
    vcpu->state.nmi_pending = false;
    vcpu->state.run_state = CPU_RUNNING;
    return interrupt_deliver(vcpu, EXC_NMI, true);
}

// The event bit goes first: what arrives from here on sets it again.
static int deliver_interrupt(struct vcpu *vcpu)
{
    struct cpu_state *cpu = &vcpu->state;

    if (cpu->interrupt_shadow != SHADOW_NONE)
        return 0; // the bit stays: look again after the next instruction
    take(vcpu, VCPU_EVENT_INTERRUPT);
    if (!vcpu_interrupt_pending(vcpu))
        return 0;
    if (!(cpu->rflags & FLAG_IF)) {
        engine_cpu_of(vcpu)->interrupt_held = true;
        return 0;
    }
    int vector = vcpu_interrupt_acknowledge(vcpu);
    atomic_fetch_or(&vcpu->events, VCPU_EVENT_INTERRUPT); // there may be more
    if (vector < 0)
        return 0;
    cpu->run_state = CPU_RUNNING;
    return interrupt_deliver(vcpu, (uint8_t)vector, false);
}

static int deliver_all(struct vcpu *vcpu)
{
    struct cpu_state *cpu = &vcpu->state;
    struct engine_cpu *engine = engine_cpu_of(vcpu);

    if (cpu->pending_exception != EXC_NONE && deliver_pending(vcpu) != 0)
        return -1;
    if (cpu->interrupt_shadow != SHADOW_MOV_SS) {
        if (engine->debug_hits && deliver_debug_trap(vcpu) != 0)
            return -1;
        if (cpu->nmi_pending && !cpu->nmi_blocked && deliver_nmi(vcpu) != 0)
            return -1;
    }
    if (atomic_load(&vcpu->events) & VCPU_EVENT_INTERRUPT)
        return deliver_interrupt(vcpu);
    return 0;
}

static enum vcpu_exit exit_of(uint8_t run_state)
{
    return run_state == CPU_SHUTDOWN ? VCPU_EXIT_SHUTDOWN : VCPU_EXIT_HALT;
}

int engine_take_events(struct vcpu *vcpu, enum vcpu_exit *exit)
{
    struct cpu_state *cpu = &vcpu->state;
    uint32_t events = atomic_load(&vcpu->events);

    if (events & (VCPU_EVENT_STOP | VCPU_EVENT_PAUSE)) {
        *exit = VCPU_EXIT_EVENT;
        return 1;
    }
    if (engine_cpu_of(vcpu)->debug_hits & DEBUG_HIT_WATCH) {
        engine_cpu_of(vcpu)->debug_hits &= ~DEBUG_HIT_WATCH;
        *exit = VCPU_EXIT_BREAKPOINT;
        return 1;
    }
    take_requests(vcpu, events);
    if (cpu->run_state != CPU_RUNNING && cpu->run_state != CPU_HALTED) {
        take(vcpu, VCPU_EVENT_INTERRUPT); // none is delivered here: a SIPI or a reset looks anew
    } else if (deliver_all(vcpu) != 0) {
        *exit = VCPU_EXIT_SHUTDOWN;
        return 1;
    }
    if (cpu->run_state == CPU_RUNNING)
        return 0;
    *exit = exit_of(cpu->run_state);
    return 1;
}
