// SPDX-License-Identifier: Apache-2.0
//
// The local APIC between the machine's form (cpu/lapic.h), which gives and takes itself as a page of xAPIC registers, and KVM's.
#define LOG_MODULE "kvm"
#include <string.h>

#include "base/log.h"
#include "machine/cpu/lapic.h"
#include "machine/kvm/kvm_internal.h"

#define MSR_TSC_DEADLINE 0x6E0u

_Static_assert(sizeof(((struct kvm_lapic_state *)0)->regs) == LAPIC_PAGE_BYTES, "the same page");

struct one_msr {
    uint32_t nmsrs, pad; // as struct kvm_msrs, whose array has no length of its own
    struct kvm_msr_entry entry;
};
_Static_assert(offsetof(struct one_msr, entry) == offsetof(struct kvm_msrs, entries), "one layout");

static int told(int failed, const struct vcpu *vcpu, const char *what)
{
    if (failed < 0)
        log_error("the local APIC of vCPU %u cannot be %s: %s", vcpu->index, what,
                  strerror(-failed));
    return failed < 0 ? failed : 0;
}

int kvm_fetch_apic(struct vcpu *vcpu)
{
    int fd = kvm_vcpu_of(vcpu)->fd;
    struct kvm_lapic_state page;
    struct one_msr deadline = {.nmsrs = 1, .entry.index = MSR_TSC_DEADLINE};
    int failed = os_kvm(fd, KVM_GET_LAPIC, &page);
    if (!failed)
        failed = os_kvm(fd, KVM_GET_MSRS, &deadline);
    if (failed >= 0)
        lapic_set_page(vcpu->lapic, (const uint8_t *)page.regs, deadline.entry.data);
    return told(failed, vcpu, "read from KVM");
}

int kvm_put_apic(struct vcpu *vcpu)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    struct kvm_lapic_state page;
    struct one_msr deadline = {.nmsrs = 1, .entry.index = MSR_TSC_DEADLINE};
    uint64_t tsc;
    lapic_get_page(vcpu->lapic, (uint8_t *)page.regs, &tsc);
    deadline.entry.data = tsc;
    int failed = os_kvm(kvm->fd, KVM_SET_LAPIC, &page);
    if (!failed)
        failed = os_kvm(kvm->fd, KVM_SET_MSRS, &deadline);
    kvm->dirty &= ~(unsigned)KVM_DIRTY_APIC;
    return told(failed, vcpu, "given to KVM");
}

// An interrupt that the kernel has acknowledged and not delivered waits again.
int kvm_unacknowledge(struct vcpu *vcpu)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    int fd = kvm->fd;
    if (kvm->injected < 0)
        return 0;
    unsigned vector = (unsigned)kvm->injected;
    struct kvm_lapic_state page;
    struct kvm_vcpu_events events;
    int failed = os_kvm(fd, KVM_GET_LAPIC, &page);
    uint8_t *isr = (uint8_t *)page.regs + 0x100 + vector / 32 * 16 + vector % 32 / 8;
    if (failed || !(*isr >> vector % 8 & 1)) {
        // It came from the PIC, which cannot take it back.
        if (!failed)
            vcpu->state.pending_exception = (uint8_t)vector;
        return told(failed, vcpu, "read from KVM");
    }
    *isr &= (uint8_t) ~(1u << vector % 8);
    isr[0x100] |= (uint8_t)(1u << vector % 8); // the request register
    failed = os_kvm(fd, KVM_GET_VCPU_EVENTS, &events);
    events.interrupt.injected = 0;
    if (!failed)
        failed = os_kvm(fd, KVM_SET_VCPU_EVENTS, &events);
    if (!failed)
        failed = os_kvm(fd, KVM_SET_LAPIC, &page);
    if (!failed)
        kvm->injected = -1;
    return told(failed, vcpu, "given to KVM");
}
