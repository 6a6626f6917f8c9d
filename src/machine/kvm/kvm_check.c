// SPDX-License-Identifier: Apache-2.0
//
// What KVM says of itself; for the machine and for the probe, which needs nothing else of the backend.
#include <stdlib.h>

#include "base/bits.h"
#include "machine/kvm/kvm_internal.h"

static const struct {
    int capability;
    const char *what;
} wanted[] = {
    {KVM_CAP_IRQCHIP, "interrupt controllers in the kernel"},
    {KVM_CAP_USER_MEMORY, "memory slots"},
    {KVM_CAP_READONLY_MEM, "read-only memory"},
    {KVM_CAP_IRQ_ROUTING, "interrupt routes"},
    {KVM_CAP_SIGNAL_MSI, "message signalled interrupts"},
    {KVM_CAP_IRQFD, "irqfd"},
    {KVM_CAP_IOEVENTFD_ANY_LENGTH, "ioeventfd for any length"},
    {KVM_CAP_EXT_CPUID, "CPUID"},
    {KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
    {KVM_CAP_MP_STATE, "CPU run states"},
    {KVM_CAP_VCPU_EVENTS, "pending events"},
    {KVM_CAP_DEBUGREGS, "debug registers"},
    {KVM_CAP_XSAVE, "extended state"},
    {KVM_CAP_XCRS, "XCR0"},
    {KVM_CAP_ADJUST_CLOCK, "kvmclock"},
    {KVM_CAP_TSC_DEADLINE_TIMER, "the TSC-deadline timer"},
    {KVM_CAP_X86_MSR_FILTER, "MSR filter"},
    {KVM_CAP_X86_USER_SPACE_MSR, "exits for filtered MSRs"},
};

int kvm_check_capabilities(int kvm_fd, struct err *err)
{
    int version = os_kvm_value(kvm_fd, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION)
        return err_set(err, ERR_HOST, "/dev/kvm answers API version %d instead of %d", version,
                       KVM_API_VERSION);
    for (size_t i = 0; i < ARRAY_LENGTH(wanted); i++)
        if (os_kvm_value(kvm_fd, KVM_CHECK_EXTENSION, (unsigned long)wanted[i].capability) <= 0)
            return err_set(err, ERR_HOST, "this host's KVM is too old: it has no %s",
                           wanted[i].what);
    return 0;
}

struct kvm_cpuid2 *kvm_supported_cpuid(int kvm_fd, struct err *err)
{
    size_t bytes = sizeof(struct kvm_cpuid2) + KVM_CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2);
    struct kvm_cpuid2 *supported = calloc(1, bytes);
    if (!supported) {
        err_set(err, ERR_LIMIT, "out of memory");
        return NULL;
    }
    supported->nent = KVM_CPUID_ENTRIES;
    int failed = os_kvm(kvm_fd, KVM_GET_SUPPORTED_CPUID, supported);
    if (!failed)
        return supported;
    free(supported);
    err_set_errno(err, -failed, "KVM does not tell which CPU features it supports");
    return NULL;
}
