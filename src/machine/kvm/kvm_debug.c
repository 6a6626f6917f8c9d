// SPDX-License-Identifier: Apache-2.0
//
// The debugger's breakpoints and single steps. KVM is told of them before the guest goes on (KVM_SET_GUEST_DEBUG) and comes back with KVM_EXIT_DEBUG.
//
// Breakpoints are the processor's debug registers, so there are four (struct vcpu_backend_ops, breakpoints), and while one is set the guest's own do nothing.
// Whoever goes on from a breakpoint passes it first, by a step without any. A step executes one instruction and no interrupt handler, where KVM can hold
// interrupts back.
//
// The debugger reads memory through the engine's page walk (mmu_debug_translate()), for which the engine's view of the registers is made.
#include "base/bits.h"
#include "machine/engine/exception.h"
#include "machine/kvm/kvm_internal.h"

#define DR6_STEP  BIT(14)
#define DR7_FIXED 0x400u

static bool at_breakpoint(const struct vcpu *vcpu, uint64_t linear)
{
    for (unsigned i = 0; i < vcpu->breakpoint_count; i++)
        if (vcpu->breakpoints[i] == linear)
            return true;
    return false;
}

static int set(struct vcpu *vcpu, uint32_t more)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    struct kvm_guest_debug debug = {.arch.debugreg[7] = DR7_FIXED};
    if (vcpu->single_step || kvm->passing)
        debug.control |=
            KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP |
            (kvm_machine_of(vcpu->system)->can_hold_interrupts ? KVM_GUESTDBG_BLOCKIRQ : 0);
    if (vcpu->breakpoint_count && !kvm->passing)
        debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
    for (unsigned i = 0; i < vcpu->breakpoint_count && i < KVM_BREAKPOINTS; i++) {
        debug.arch.debugreg[i] = vcpu->breakpoints[i];
        debug.arch.debugreg[7] |= 2u << 2 * i; // enabled, for execution
    }
    kvm->debugged = debug.control != 0;
    debug.control |= more;
    return os_kvm(kvm->fd, KVM_SET_GUEST_DEBUG, &debug);
}

int kvm_debug_begin(struct vcpu *vcpu)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    bool wanted = vcpu->single_step || vcpu->breakpoint_count;
    if (!wanted && !kvm->debugged)
        return 0;
    kvm->passing = at_breakpoint(vcpu, vcpu->state.segment[SEG_CS].base + vcpu->state.rip);
    // KVM remembers from where it steps.
    int failed = kvm->dirty & KVM_DIRTY_STATE ? kvm_put_state(vcpu) : 0;
    return failed ? failed : set(vcpu, 0);
}

// The guest's own step, by RFLAGS.TF, is handed back to it.
bool kvm_debug_exit(struct vcpu *vcpu, enum vcpu_exit *exit)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    const struct kvm_debug_exit_arch *hit = &kvm->run->debug.arch;
    bool passed = kvm->passing;
    kvm->passing = false;
    if (vcpu->single_step || at_breakpoint(vcpu, hit->pc)) {
        *exit = VCPU_EXIT_BREAKPOINT;
        return true;
    }
    *exit = VCPU_EXIT_HOST_FAILURE;
    if (passed)
        return set(vcpu, 0) != 0;
    struct kvm_debugregs registers;
    int failed = os_kvm(kvm->fd, KVM_GET_DEBUGREGS, &registers);
    registers.dr6 |= hit->dr6 & DR6_STEP;
    if (!failed)
        failed = os_kvm(kvm->fd, KVM_SET_DEBUGREGS, &registers);
    if (!failed)
        failed = set(vcpu, KVM_GUESTDBG_INJECT_DB);
    return failed != 0;
}

void kvm_inspect(struct vcpu *vcpu)
{
    if (kvm_make_tier0(vcpu))
        engine_state_changed(vcpu);
}
