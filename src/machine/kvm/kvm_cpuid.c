// SPDX-License-Identifier: Apache-2.0
//
// CPUID under KVM is the machine's CPU model (cpu/cpu_model.h) with three changes. A feature must be one that KVM supports. And the bits that say which
// attacks the processor is immune to, or how to be safe from them, are the host's own: here the guest's processes run on the real CPU. So is the promise
// that the TSC counts evenly.
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "machine/kvm/kvm_internal.h"

#define SIZES_LEAF 0x80000008u
#define SIZES_SAFETY                                                                               \
    (1u << 12 | 1u << 14 | 1u << 15 | 1u << 24 | 1u << 26 |                                        \
     1u << 29) // IBPB, IBRS, STIBP, SSBD, SSB_NO, BTC_NO
#define SAFETY_LEAF 0x80000021u
#define SAFETY_EAX                                                                                 \
    (1u << 8 | 1u << 27 | 1u << 28 | 1u << 29) // AutoIBRS, SBPB, IBPB_BRTYPE, SRSO_NO
#define SAFETY_ECX    (1u << 1 | 1u << 2)      // TSA_SQ_NO, TSA_L1_NO
#define POWER_LEAF    0x80000007u
#define POWER_TSC     (1u << 8)
#define FEATURES_LEAF 1u
#define ECX_X2APIC    (1u << 21)
#define ECX_DEADLINE  (1u << 24)

static struct cpuid_leaf find(const struct kvm_cpuid2 *table, uint32_t leaf, uint32_t subleaf)
{
    for (uint32_t i = 0; i < table->nent; i++) {
        const struct kvm_cpuid_entry2 *entry = &table->entries[i];
        bool indexed = entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        if (entry->function == leaf && (!indexed || entry->index == subleaf))
            return (struct cpuid_leaf){entry->eax, entry->ebx, entry->ecx, entry->edx};
    }
    return (struct cpuid_leaf){0};
}

struct kvm_offer {
    struct cpu_offer offer;
    struct kvm_cpuid2 *supported;
};

// kvm_check_capabilities() has made sure of the two that the kernel leaves out of its table because its APIC provides them.
static struct cpuid_leaf offered(const struct cpu_offer *offer, uint32_t leaf, uint32_t subleaf)
{
    const struct kvm_offer *kvm = (const struct kvm_offer *)(const void *)offer;
    struct cpuid_leaf answer = find(kvm->supported, leaf, subleaf);
    if (leaf == FEATURES_LEAF)
        answer.ecx |= ECX_X2APIC | ECX_DEADLINE;
    return answer;
}

struct cpu_offer *kvm_offer_create(int kvm_fd, struct err *err)
{
    struct kvm_offer *kvm = calloc(1, sizeof(*kvm));
    if (!kvm) {
        err_set(err, ERR_LIMIT, "out of memory");
        return NULL;
    }
    kvm->offer.cpuid = offered;
    kvm->offer.name = "KVM";
    kvm->supported = kvm_supported_cpuid(kvm_fd, err);
    if (kvm->supported)
        return &kvm->offer;
    free(kvm);
    return NULL;
}

void kvm_offer_destroy(struct cpu_offer *offer)
{
    struct kvm_offer *kvm = (struct kvm_offer *)(void *)offer;
    if (kvm)
        free(kvm->supported);
    free(kvm);
}

static void replace(uint32_t *word, uint32_t mask, uint32_t with)
{
    *word = (*word & ~mask) | (with & mask);
}

static void take_safety(const struct kvm_cpuid2 *supported, uint32_t leaf,
                        struct cpuid_leaf *answer)
{
    struct cpuid_leaf own = find(supported, leaf, 0);
    if (leaf == POWER_LEAF)
        replace(&answer->edx, POWER_TSC, own.edx);
    if (leaf == SIZES_LEAF)
        replace(&answer->ebx, SIZES_SAFETY, own.ebx);
    if (leaf == SAFETY_LEAF) {
        replace(&answer->eax, SAFETY_EAX, own.eax);
        replace(&answer->ecx, SAFETY_ECX, own.ecx);
    }
}

// Ranges of leaves that the model answers, and how many subleaves each has where that matters.
static const struct {
    uint32_t first, last;
} ranges[] = {
    {0, 0x16}, {0x40000000, 0x40000001}, {0x40000010, 0x40000010}, {0x80000000, 0x80000021}};

static const struct {
    uint32_t leaf, subleaves;
} indexed[] = {{4, 5}, {7, 2}, {0xB, 3}, {0xD, 3}, {0x8000001D, 5}};

static uint32_t subleaves_of(uint32_t leaf)
{
    for (size_t i = 0; i < ARRAY_LENGTH(indexed); i++)
        if (indexed[i].leaf == leaf)
            return indexed[i].subleaves;
    return 0;
}

static void add(struct vcpu *vcpu, struct kvm_cpuid2 *table, uint32_t leaf, uint32_t subleaf,
                bool is_indexed)
{
    struct cpuid_leaf answer = cpu_model_cpuid(vcpu->system->model, vcpu, leaf, subleaf);
    take_safety(kvm_machine_of(vcpu->system)->supported, leaf, &answer);
    table->entries[table->nent++] = (struct kvm_cpuid_entry2){
        .function = leaf,
        .index = subleaf,
        .flags = is_indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
        .eax = answer.eax,
        .ebx = answer.ebx,
        .ecx = answer.ecx,
        .edx = answer.edx,
    };
}

int kvm_set_cpuid(struct vcpu *vcpu, struct err *err)
{
    size_t bytes = sizeof(struct kvm_cpuid2) + KVM_CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2);
    struct kvm_cpuid2 *table = calloc(1, bytes);
    if (!table)
        return err_set(err, ERR_LIMIT, "out of memory");
    for (size_t i = 0; i < ARRAY_LENGTH(ranges); i++)
        for (uint32_t leaf = ranges[i].first; leaf <= ranges[i].last; leaf++) {
            uint32_t subleaves = subleaves_of(leaf);
            add(vcpu, table, leaf, 0, subleaves != 0);
            for (uint32_t subleaf = 1; subleaf < subleaves; subleaf++)
                add(vcpu, table, leaf, subleaf, true);
        }
    int failed = os_kvm(kvm_vcpu_of(vcpu)->fd, KVM_SET_CPUID2, table);
    free(table);
    return failed ? err_set_errno(err, -failed, "KVM does not take the CPU model") : 0;
}
