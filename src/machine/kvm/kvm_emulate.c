// SPDX-License-Identifier: Apache-2.0
//
// Instructions that KVM meets where it must emulate (an access to a device, real mode on some CPUs) and does not know: tier 0 of the engine, which knows
// them all, executes them on the fetched state. Its memory is only made when the first comes.
//
// Of the local APIC it sees what KVM has at that moment. What such an instruction writes there is lost: giving the whole page back would lose what others
// sent meanwhile, and no kernel writes to its APIC with anything but a MOV.
#define LOG_MODULE "kvm"
#include "base/log.h"
#include "machine/engine/exception.h"
#include "machine/engine/interp.h"
#include "machine/kvm/kvm_internal.h"

#define CACHE_BITS 6 // decoded instructions: few come here

bool kvm_make_tier0(struct vcpu *vcpu)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    struct err err;
    if (kvm->has_tier0)
        return true;
    if (interp_cpu_init(vcpu, CACHE_BITS, &err)) {
        log_error("%s", err.text);
        interp_cpu_fini(vcpu);
        return false;
    }
    kvm->has_tier0 = true;
    return true;
}

void kvm_emulate_fini(struct vcpu *vcpu)
{
    if (kvm_vcpu_of(vcpu)->has_tier0)
        interp_cpu_fini(vcpu);
    kvm_vcpu_of(vcpu)->has_tier0 = false;
}

bool kvm_emulate_one(struct vcpu *vcpu, enum vcpu_exit *exit)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    if (kvm_fetch_state(vcpu) || kvm_fetch_apic(vcpu) || !kvm_make_tier0(vcpu)) {
        *exit = VCPU_EXIT_HOST_FAILURE;
        return true;
    }
    // An older KVM has made up a #UD by now.
    if (vcpu->state.pending_exception == EXC_UD)
        vcpu->state.pending_exception = EXC_NONE;
    engine_state_changed(vcpu);
    vcpu->state.interrupt_shadow = SHADOW_NONE;
    enum interp_step step = interp_step(vcpu);
    kvm->emulated++;
    kvm->dirty |= KVM_DIRTY_STATE;
    if (step != INTERP_STEP_SHUTDOWN)
        return false;
    *exit = VCPU_EXIT_SHUTDOWN;
    return true;
}
