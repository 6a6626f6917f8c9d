// SPDX-License-Identifier: Apache-2.0
#include "machine/cpu/vcpu.h"

#include <stdio.h>

#include "base/bits.h"
#include "machine/cpu/cpu_fields.h"
#include "machine/cpu/cpu_model.h"
#include "machine/cpu/lapic_internal.h"
#include "machine/cpu/pvclock.h"
#include "os/futex.h"
#include "os/memory.h"

static size_t block_bytes(const struct cpu_system *system)
{
    return align_up(VCPU_CONTEXT_OFFSET + system->backend->context_bytes, 4096);
}

struct vcpu *vcpu_create(struct cpu_system *system, unsigned index, struct err *err)
{
    size_t bytes = block_bytes(system);
    struct vcpu *vcpu = os_memory_reserve(bytes, err);
    if (!vcpu)
        return NULL;
    if (os_memory_place_zeroed(vcpu, bytes, OS_MEMORY_READ | OS_MEMORY_WRITE, err)) {
        os_memory_release(vcpu, bytes);
        return NULL;
    }
    os_memory_name(vcpu, bytes, "wirt-vcpu");
    vcpu->system = system;
    vcpu->index = index;
    vcpu->backend_data = (char *)vcpu + VCPU_CONTEXT_OFFSET;
    vcpu->instruction_limit = UINT64_MAX;
    snprintf(vcpu->name, sizeof(vcpu->name), "cpu%u", index);
    vcpu->device = (struct device){.ops = &cpu_device_ops, .name = vcpu->name, .self = vcpu};
    cpu_state_reset(&vcpu->state, false, index == 0);
    vcpu->lapic = lapic_create(vcpu);
    if (!vcpu->lapic) {
        err_set(err, ERR_LIMIT, "out of memory");
        os_memory_release(vcpu, bytes);
        return NULL;
    }
    if (system->backend->vcpu_init(vcpu, err)) {
        lapic_destroy(vcpu->lapic);
        os_memory_release(vcpu, bytes);
        return NULL;
    }
    return vcpu;
}

void vcpu_destroy(struct vcpu *vcpu)
{
    if (!vcpu)
        return;
    vcpu->system->backend->vcpu_fini(vcpu);
    lapic_destroy(vcpu->lapic);
    os_memory_release(vcpu, block_bytes(vcpu->system));
}

void vcpu_state_changed(struct vcpu *vcpu)
{
    if (vcpu->system->backend->state_changed)
        vcpu->system->backend->state_changed(vcpu);
}

void vcpu_lapic_changed(struct vcpu *vcpu)
{
    if (vcpu->system->backend->lapic_changed)
        vcpu->system->backend->lapic_changed(vcpu);
}

void vcpu_clock_resumed(struct vcpu *vcpu)
{
    if (vcpu->system->backend->owns_apic)
        return;
    pvclock_update(vcpu);
    lapic_timer_loaded(vcpu->lapic);
}

// After INIT the bootstrap CPU starts at the reset vector, the others wait for a SIPI (SDM vol. 3, 9.4.1). RDX tells the CPU's signature.
void vcpu_init_signal(struct vcpu *vcpu)
{
    cpu_state_reset(&vcpu->state, true, vcpu->index == 0);
    vcpu->state.gpr[RDX] = cpu_model_cpuid(vcpu->system->model, vcpu, 1, 0).eax;
    lapic_reset(vcpu->lapic, true);
}

bool vcpu_startup_signal(struct vcpu *vcpu)
{
    struct cpu_state *state = &vcpu->state;
    if (state->run_state != CPU_WAIT_FOR_SIPI)
        return false;
    uint8_t vector = __atomic_load_n(&state->sipi_vector, __ATOMIC_ACQUIRE);
    state->segment[SEG_CS].selector = (uint16_t)(vector << 8);
    state->segment[SEG_CS].base = (uint64_t)vector << 12;
    state->rip = 0;
    state->run_state = CPU_RUNNING;
    return true;
}

// A sleeper sets `asleep` before it looks at `events` the last time, so one of the two sees the other.
void vcpu_raise(struct vcpu *vcpu, uint32_t events)
{
    atomic_fetch_or(&vcpu->events, events);
    if (atomic_load(&vcpu->asleep))
        os_futex_wake_all(&vcpu->events);
    if (vcpu->system->backend->kick)
        vcpu->system->backend->kick(vcpu);
}

void vcpu_raise_all(struct cpu_system *system, uint32_t events)
{
    for (unsigned i = 0; i < system->vcpu_count; i++)
        vcpu_raise(system->vcpus[i], events);
}

void vcpu_wait(struct vcpu *vcpu)
{
    atomic_store(&vcpu->asleep, 1);
    while (!atomic_load(&vcpu->events))
        os_futex_wait(&vcpu->events, 0);
    atomic_store(&vcpu->asleep, 0);
}

void vcpu_rest(struct vcpu *vcpu, uint32_t ns)
{
    atomic_store(&vcpu->asleep, 1);
    if (!atomic_load(&vcpu->events))
        os_futex_wait_for(&vcpu->events, 0, ns);
    atomic_store(&vcpu->asleep, 0);
}

static bool pic_pending(const struct vcpu *vcpu)
{
    const struct cpu_system *system = vcpu->system;
    return vcpu->index == 0 && system->pic_pending && lapic_accepts_pic(vcpu->lapic) &&
           system->pic_pending(system->pic);
}

bool vcpu_interrupt_pending(struct vcpu *vcpu)
{
    return pic_pending(vcpu) || lapic_pending_vector(vcpu->lapic) >= 0;
}

int vcpu_interrupt_acknowledge(struct vcpu *vcpu)
{
    if (pic_pending(vcpu))
        return vcpu->system->pic_vector(vcpu->system->pic);
    return lapic_acknowledge(vcpu->lapic);
}
