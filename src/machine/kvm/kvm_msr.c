// SPDX-License-Identifier: Apache-2.0
//
// MSRs: which are part of the saved state, and which the guest may touch at all.
//
// The guest sees those that the machine's CPU has under every backend (engine/msr.c), and those that go with a feature that it is offered. What holds state
// the kernel answers; all others come here, for those that say something about the processor and hold nothing, and any other is #GP. So do writes of EFER,
// of which KVM lets bits through that go with features that the guest is not offered. A kernel does all this at its start and never again.
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "machine/device/vm_clock.h"
#include "machine/engine/system.h"
#include "machine/kvm/kvm_internal.h"

// ---- Saved ones, in the order in which they are put: the clock's follow what they depend on.

struct saved_msr {
    uint32_t msr;
    uint32_t offset; // in struct cpu_state
};
#define MSR(number, member)                                                                        \
    {                                                                                              \
        number, (uint32_t)offsetof(struct cpu_state, member)                                       \
    }
static const struct saved_msr saved[] = {
    MSR(0xC0000081, star),
    MSR(0xC0000082, lstar),
    MSR(0xC0000083, cstar),
    MSR(0xC0000084, sfmask),
    MSR(0xC0000102, kernel_gs_base),
    MSR(0xC0000103, tsc_aux),
    MSR(0x174, sysenter_cs),
    MSR(0x175, sysenter_esp),
    MSR(0x176, sysenter_eip),
    MSR(0x277, pat),
    MSR(0x1A0, misc_enable),
    MSR(0x48, spec_ctrl),
    MSR(0x2FF, mtrr_def_type),
    MSR(0x250, mtrr_fixed[0]),
    MSR(0x258, mtrr_fixed[1]),
    MSR(0x259, mtrr_fixed[2]),
    MSR(0x268, mtrr_fixed[3]),
    MSR(0x269, mtrr_fixed[4]),
    MSR(0x26A, mtrr_fixed[5]),
    MSR(0x26B, mtrr_fixed[6]),
    MSR(0x26C, mtrr_fixed[7]),
    MSR(0x26D, mtrr_fixed[8]),
    MSR(0x26E, mtrr_fixed[9]),
    MSR(0x26F, mtrr_fixed[10]),
    MSR(0x200, mtrr_base[0]),
    MSR(0x201, mtrr_mask[0]),
    MSR(0x202, mtrr_base[1]),
    MSR(0x203, mtrr_mask[1]),
    MSR(0x204, mtrr_base[2]),
    MSR(0x205, mtrr_mask[2]),
    MSR(0x206, mtrr_base[3]),
    MSR(0x207, mtrr_mask[3]),
    MSR(0x208, mtrr_base[4]),
    MSR(0x209, mtrr_mask[4]),
    MSR(0x20A, mtrr_base[5]),
    MSR(0x20B, mtrr_mask[5]),
    MSR(0x20C, mtrr_base[6]),
    MSR(0x20D, mtrr_mask[6]),
    MSR(0x20E, mtrr_base[7]),
    MSR(0x20F, mtrr_mask[7]),
    MSR(0x17A, mcg_status),
    MSR(0x4B564D00, kvm_wall_clock),
    MSR(0x4B564D01, kvm_system_time),
    MSR(0x4B564D04, kvm_eoi),
};
#undef MSR
_Static_assert(ARRAY_LENGTH(saved) <= KVM_MSRS_MAX, "there is room for all");

struct msr_list {
    uint32_t nmsrs, pad; // as struct kvm_msrs, whose array has no length of its own
    struct kvm_msr_entry entries[KVM_MSRS_MAX];
};
_Static_assert(offsetof(struct msr_list, entries) == offsetof(struct kvm_msrs, entries),
               "one layout");

static uint64_t *word_of(struct vcpu *vcpu, uint32_t msr)
{
    for (size_t i = 0; i < ARRAY_LENGTH(saved); i++)
        if (saved[i].msr == msr)
            return (uint64_t *)(void *)((char *)&vcpu->state + saved[i].offset);
    return NULL;
}

// KVM stops at the first that it does not have: that one is left out from then on.
void kvm_find_msrs(struct vcpu *vcpu)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    kvm->msr_count = 0;
    for (size_t i = 0; i < ARRAY_LENGTH(saved); i++) {
        struct msr_list list = {.nmsrs = 1, .entries = {{.index = saved[i].msr}}};
        if (os_kvm(kvm->fd, KVM_GET_MSRS, &list) == 1)
            kvm->msrs[kvm->msr_count++] = saved[i].msr;
    }
}

static int tsc_offset(const struct vcpu *vcpu, unsigned long request, uint64_t *value)
{
    struct kvm_device_attr attribute = {.group = KVM_VCPU_TSC_CTRL,
                                        .attr = KVM_VCPU_TSC_OFFSET,
                                        .addr = (uint64_t)(uintptr_t)value};
    return os_kvm(kvm_vcpu_of(vcpu)->fd, request, &attribute);
}

int kvm_fetch_msrs(struct vcpu *vcpu)
{
    const struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    struct msr_list list = {.nmsrs = kvm->msr_count};
    for (unsigned i = 0; i < kvm->msr_count; i++)
        list.entries[i].index = kvm->msrs[i];
    int got = os_kvm(kvm->fd, KVM_GET_MSRS, &list);
    if (got != (int)kvm->msr_count)
        return got < 0 ? got : -EIO;
    for (unsigned i = 0; i < kvm->msr_count; i++)
        *word_of(vcpu, kvm->msrs[i]) = list.entries[i].data;
    return tsc_offset(vcpu, KVM_GET_DEVICE_ATTR, &vcpu->state.tsc_offset) ? -EIO : 0;
}

int kvm_put_msrs(struct vcpu *vcpu)
{
    const struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    struct msr_list list = {.nmsrs = kvm->msr_count};
    int failed = tsc_offset(vcpu, KVM_SET_DEVICE_ATTR, &vcpu->state.tsc_offset);
    if (failed)
        return failed;
    for (unsigned i = 0; i < kvm->msr_count; i++)
        list.entries[i] =
            (struct kvm_msr_entry){.index = kvm->msrs[i], .data = *word_of(vcpu, kvm->msrs[i])};
    int put = os_kvm(kvm->fd, KVM_SET_MSRS, &list);
    return put < 0 ? put : put < (int)kvm->msr_count ? -EINVAL : 0;
}

// ---- The filter: a bit is set for an MSR that the guest may read and write. x2APIC's are never filtered.

#define FILTER_BITS 0x2000u
#define MSR_EFER    0xC0000080u

struct allowed {
    uint32_t first, last;
};
// From 0, from C000_0000, from 4B56_4D00: KVM takes sixteen ranges of bits.
static const struct allowed allowed[] = {
    {0x10, 0x12},   // TSC, and the paravirtual clock's old numbers
    {0x1B, 0x1B},   // APIC base
    {0x48, 0x49},   // SPEC_CTRL, PRED_CMD: with their features
    {0x174, 0x176}, // SYSENTER
    {0x17A, 0x17A}, // machine check status
    {0x200, 0x20F}, // MTRRs
    {0x250, 0x26F},
    {0x277, 0x277}, // PAT
    {0x2FF, 0x2FF},
    {0x6E0, 0x6E0},           // TSC deadline
    {0xC0000080, 0xC0000084}, // of EFER only to read
    {0xC0000100, 0xC0000103},
    {0x4B564D00, 0x4B564D01}, // paravirtual clock
    {0x4B564D04, 0x4B564D04}, // paravirtual EOI
};
static const uint32_t bases[] = {0, 0xC0000000, 0x4B564D00};

int kvm_filter_msrs(const struct kvm_machine *machine)
{
    static uint8_t no_efer[sizeof(long)];
    static uint8_t bitmaps[ARRAY_LENGTH(bases)][FILTER_BITS / 8]; // KVM copies them
    struct kvm_msr_filter filter = {.flags = KVM_MSR_FILTER_DEFAULT_DENY};
    memset(bitmaps, 0, sizeof(bitmaps));
    for (size_t b = 0; b < ARRAY_LENGTH(bases); b++) {
        for (size_t i = 0; i < ARRAY_LENGTH(allowed); i++)
            for (uint32_t msr = allowed[i].first; msr <= allowed[i].last; msr++)
                if (msr - bases[b] < FILTER_BITS)
                    bitmaps[b][(msr - bases[b]) / 8] |= (uint8_t)(1u << (msr - bases[b]) % 8);
        filter.ranges[b + 1] = (struct kvm_msr_filter_range){
            .flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
            .nmsrs = FILTER_BITS,
            .base = bases[b],
            .bitmap = bitmaps[b],
        };
    }
    struct kvm_enable_cap ask = {.cap = KVM_CAP_X86_USER_SPACE_MSR,
                                 .args = {KVM_MSR_EXIT_REASON_FILTER}};
    // The first that holds the MSR counts.
    filter.ranges[0] = (struct kvm_msr_filter_range){
        .flags = KVM_MSR_FILTER_WRITE, .nmsrs = 1, .base = MSR_EFER, .bitmap = no_efer};
    int failed = os_kvm(machine->vm_fd, KVM_ENABLE_CAP, &ask);
    return failed ? failed : os_kvm(machine->vm_fd, KVM_X86_SET_MSR_FILTER, &filter);
}

static bool write_efer(struct vcpu *vcpu, uint64_t value)
{
    int fd = kvm_vcpu_of(vcpu)->fd;
    struct kvm_sregs sregs;
    struct msr_list list = {.nmsrs = 1, .entries = {{.index = MSR_EFER, .data = value}}};
    return !os_kvm(fd, KVM_GET_SREGS, &sregs) &&
           msr_efer_allows(vcpu, sregs.cr0, sregs.efer, value) &&
           os_kvm(fd, KVM_SET_MSRS, &list) == 1;
}

void kvm_answer_msr(struct vcpu *vcpu, struct kvm_run *run)
{
    uint64_t value = 0;
    bool known;
    if (run->exit_reason == KVM_EXIT_X86_RDMSR) {
        known = msr_fixed_read(run->msr.index, &value);
        run->msr.data = value;
    } else if (run->msr.index == MSR_EFER) {
        known = write_efer(vcpu, run->msr.data);
    } else {
        known = msr_fixed_write(run->msr.index);
    }
    run->msr.error = !known;
}
