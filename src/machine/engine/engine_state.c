// SPDX-License-Identifier: Apache-2.0
//
// What the engine derives from the architectural state, so that hot paths need not look at five registers.
#include <assert.h>

#include "machine/cpu/cpu_model.h"
#include "machine/engine/engine.h"
#include "machine/engine/exception.h"
#include "machine/engine/mmu.h"
#include "machine/engine/system.h"
#include "machine/engine/trace.h"

static uint8_t code_mode_of(const struct cpu_state *cpu)
{
    if (cpu_in_64bit_code(cpu))
        return 64;
    return cpu->segment[SEG_CS].attributes & SEG_DB ? 32 : 16;
}

static uint8_t tlb_mode_of(const struct cpu_state *cpu, unsigned cpl)
{
    if (cpl == 3)
        return TLB_USER;
    return (cpu->cr4 & CR4_SMAP) && (cpu->rflags & FLAG_AC) ? TLB_SUPERVISOR_AC : TLB_SUPERVISOR;
}

void engine_flags_changed(struct vcpu *vcpu)
{
    struct engine_cpu *engine = engine_cpu_of(vcpu);
    const struct cpu_state *cpu = &vcpu->state;
    bool checks_alignment = engine->cpl == 3 && (cpu->cr0 & CR0_AM) && (cpu->rflags & FLAG_AC);

    engine->tlb_mode = tlb_mode_of(cpu, engine->cpl);
    engine->flat64 = engine->code_mode == 64 && !checks_alignment;
    engine->step_checks =
        (cpu->rflags & (FLAG_TF | FLAG_RF)) != 0 || debug_armed(cpu, DEBUG_EXECUTE);
    if (engine->interrupt_held && (cpu->rflags & FLAG_IF)) {
        engine->interrupt_held = false;
        atomic_fetch_or(&vcpu->events, VCPU_EVENT_INTERRUPT);
    }
}

void engine_mode_changed(struct vcpu *vcpu)
{
    struct engine_cpu *engine = engine_cpu_of(vcpu);
    const struct cpu_state *cpu = &vcpu->state;

    engine->cpl = (uint8_t)cpu_cpl(cpu);
    engine->code_mode = code_mode_of(cpu);
    engine->fetch_mode = engine->cpl == 3 ? FETCH_USER : FETCH_SUPERVISOR;
    engine->paging = (cpu->cr0 & CR0_PG) != 0;
    engine->canonical_shift = cpu->cr4 & CR4_LA57 ? 7 : 16;
    engine->data_breakpoints = vcpu->watch_count || debug_armed(cpu, DEBUG_DATA);
    engine_flags_changed(vcpu);
    if (engine_traces(vcpu, TRACE_MODES))
        trace_mode(vcpu);
}

void engine_state_changed(struct vcpu *vcpu)
{
    struct engine_cpu *engine = engine_cpu_of(vcpu);

    engine->exception.vector = EXC_NONE;
    engine->debug_hits = 0;
    engine->interrupt_held = false;
    atomic_fetch_or(&vcpu->events, VCPU_EVENT_INTERRUPT); // look anew
    engine_mode_changed(vcpu);
    mmu_flush_all(vcpu);
}

void engine_cpu_init(struct vcpu *vcpu)
{
    struct engine_cpu *engine = engine_cpu_of(vcpu);

    assert(vcpu->backend_data == engine);
    engine->physical_bits = (uint8_t)cpu_model_physical_bits(vcpu->system->model);
    engine->gigabyte_pages =
        cpu_feature_set_has(cpu_model_features(vcpu->system->model), CPU_FEATURE_PDPE1GB);
    mmu_init(vcpu);
    engine_state_changed(vcpu);
}
