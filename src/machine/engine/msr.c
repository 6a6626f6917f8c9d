// SPDX-License-Identifier: Apache-2.0
//
// Model-specific registers of an AMD processor without performance counters and machine check banks, beside KVM's paravirtual ones.
// Anything else is #GP, which guests expect of MSRs that a virtual machine does not have.
#include "base/bits.h"
#define LOG_MODULE "msr"
#include "base/log.h"
#include "machine/cpu/cpu_model.h"
#include "machine/cpu/lapic.h"
#include "machine/cpu/pvclock.h"
#include "machine/device/vm_clock.h"
#include "machine/engine/exception.h"
#include "machine/engine/mmu.h"
#include "machine/engine/mmu_access.h"
#include "machine/engine/system.h"

enum msr {
    MSR_TSC = 0x10,
    MSR_APIC_BASE = 0x1B,
    MSR_PATCH_LEVEL = 0x8B,
    MSR_MTRR_CAP = 0xFE,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MCG_CAP = 0x179,
    MSR_MCG_STATUS = 0x17A,
    MSR_DEBUG_CTL = 0x1D9,
    MSR_LAST_BRANCH_FIRST = 0x1DB,
    MSR_LAST_BRANCH_LAST = 0x1DE,
    MSR_MTRR_VARIABLE = 0x200, // base and mask in turns
    MSR_MTRR_VARIABLE_LAST = 0x20F,
    MSR_MTRR_FIXED_64K = 0x250,
    MSR_MTRR_FIXED_16K = 0x258,
    MSR_MTRR_FIXED_4K = 0x268,
    MSR_PAT = 0x277,
    MSR_MTRR_DEF_TYPE = 0x2FF,
    MSR_TSC_DEADLINE = 0x6E0,
    MSR_X2APIC_FIRST = 0x800,
    MSR_X2APIC_LAST = 0x8FF,
    MSR_EFER = 0xC0000080,
    MSR_STAR = 0xC0000081,
    MSR_LSTAR = 0xC0000082,
    MSR_CSTAR = 0xC0000083,
    MSR_SFMASK = 0xC0000084,
    MSR_FS_BASE = 0xC0000100,
    MSR_GS_BASE = 0xC0000101,
    MSR_KERNEL_GS_BASE = 0xC0000102,
    MSR_TSC_AUX = 0xC0000103,
    MSR_AMD_FIRST = 0xC0010008, // configuration registers of the implementation
    MSR_AMD_HWCR = 0xC0010015,
    MSR_AMD_COUNTERS = 0xC0010200,
    MSR_AMD_COUNTERS_LAST = 0xC001020F,
    MSR_AMD_DE_CFG = 0xC0011029,
    MSR_AMD_LAST = 0xC0011FFF,
};

#define MTRR_CAP          0x508u  // eight variable ranges, fixed ranges, write combining
#define HWCR_TSC_FREQ_SEL BIT(24) // the TSC counts at the P0 frequency
#define DE_CFG_LFENCE     BIT(1)  // LFENCE waits for earlier instructions
#define PATCH_LEVEL       0x0A101148u

static bool offers(const struct vcpu *vcpu, enum cpu_feature feature)
{
    return cpu_feature_set_has(cpu_model_features(vcpu->system->model), feature);
}

// ---- Registers that are plain words, or words with a rule for their value ----

static bool any(struct vcpu *vcpu, uint64_t value)
{
    return true;
}

static bool is_canonical(struct vcpu *vcpu, uint64_t value)
{
    return address_is_canonical(vcpu, value);
}

static bool fits_32_bits(struct vcpu *vcpu, uint64_t value)
{
    return value >> 32 == 0;
}

static bool is_memory_type(uint8_t type)
{
    return type == 0 || type == 1 || (type >= 4 && type <= 6);
}

static bool are_memory_types(struct vcpu *vcpu, uint64_t value)
{
    for (unsigned i = 0; i < 64; i += 8) {
        if (!is_memory_type((uint8_t)(value >> i)))
            return false;
    }
    return true;
}

static bool is_pat(struct vcpu *vcpu, uint64_t value)
{
    for (unsigned i = 0; i < 64; i += 8) {
        uint8_t type = (uint8_t)(value >> i);
        if (!is_memory_type(type) && type != 7)
            return false;
    }
    return true;
}

static bool is_mtrr_default(struct vcpu *vcpu, uint64_t value)
{
    return (value & ~0xCFFull) == 0 && is_memory_type((uint8_t)value);
}

struct word_msr {
    uint32_t msr;
    uint32_t offset; // in struct cpu_state
    bool (*allows)(struct vcpu *vcpu, uint64_t value);
};
#define WORD(msr, member, allows)                                                                  \
    {                                                                                              \
        msr, (uint32_t)offsetof(struct cpu_state, member), allows                                  \
    }

static const struct word_msr words[] = {
    WORD(MSR_FS_BASE, segment[SEG_FS].base, is_canonical),
    WORD(MSR_GS_BASE, segment[SEG_GS].base, is_canonical),
    WORD(MSR_KERNEL_GS_BASE, kernel_gs_base, is_canonical),
    WORD(MSR_TSC_AUX, tsc_aux, fits_32_bits),
    WORD(MSR_STAR, star, any),
    WORD(MSR_LSTAR, lstar, is_canonical),
    WORD(MSR_CSTAR, cstar, is_canonical),
    WORD(MSR_SFMASK, sfmask, fits_32_bits),
    WORD(MSR_SYSENTER_CS, sysenter_cs, any),
    WORD(MSR_SYSENTER_ESP, sysenter_esp, is_canonical),
    WORD(MSR_SYSENTER_EIP, sysenter_eip, is_canonical),
    WORD(MSR_PAT, pat, is_pat),
    WORD(MSR_MTRR_DEF_TYPE, mtrr_def_type, is_mtrr_default),
    WORD(MSR_MCG_STATUS, mcg_status, any),
    WORD(MSR_MTRR_FIXED_64K, mtrr_fixed[0], are_memory_types),
    WORD(MSR_MTRR_FIXED_16K, mtrr_fixed[1], are_memory_types),
    WORD(MSR_MTRR_FIXED_16K + 1, mtrr_fixed[2], are_memory_types),
    WORD(MSR_MTRR_FIXED_4K + 0, mtrr_fixed[3], are_memory_types),
    WORD(MSR_MTRR_FIXED_4K + 1, mtrr_fixed[4], are_memory_types),
    WORD(MSR_MTRR_FIXED_4K + 2, mtrr_fixed[5], are_memory_types),
    WORD(MSR_MTRR_FIXED_4K + 3, mtrr_fixed[6], are_memory_types),
    WORD(MSR_MTRR_FIXED_4K + 4, mtrr_fixed[7], are_memory_types),
    WORD(MSR_MTRR_FIXED_4K + 5, mtrr_fixed[8], are_memory_types),
    WORD(MSR_MTRR_FIXED_4K + 6, mtrr_fixed[9], are_memory_types),
    WORD(MSR_MTRR_FIXED_4K + 7, mtrr_fixed[10], are_memory_types),
};

static const struct word_msr *find_word(uint32_t msr)
{
    for (unsigned i = 0; i < ARRAY_LENGTH(words); i++) {
        if (words[i].msr == msr)
            return &words[i];
    }
    return NULL;
}

static uint64_t *word_of(struct vcpu *vcpu, const struct word_msr *word)
{
    return (uint64_t *)(void *)((char *)&vcpu->state + word->offset);
}

static uint64_t *variable_mtrr(struct cpu_state *cpu, uint32_t msr)
{
    uint32_t at = msr - MSR_MTRR_VARIABLE;
    return at & 1 ? &cpu->mtrr_mask[at / 2] : &cpu->mtrr_base[at / 2];
}

static bool is_amd_configuration(uint32_t msr)
{
    return msr >= MSR_AMD_FIRST && msr <= MSR_AMD_LAST &&
           !(msr >= MSR_AMD_COUNTERS && msr <= MSR_AMD_COUNTERS_LAST);
}

// ---- Registers that hold nothing of the guest's ----

static uint64_t read_amd_configuration(uint32_t msr)
{
    return msr == MSR_AMD_HWCR ? HWCR_TSC_FREQ_SEL : msr == MSR_AMD_DE_CFG ? DE_CFG_LFENCE : 0;
}

static bool is_last_branch(uint32_t msr)
{
    return msr >= MSR_LAST_BRANCH_FIRST && msr <= MSR_LAST_BRANCH_LAST;
}

bool msr_fixed_read(uint32_t msr, uint64_t *value)
{
    switch (msr) {
    case MSR_MTRR_CAP:
        *value = MTRR_CAP;
        return true;
    case MSR_PATCH_LEVEL:
        *value = PATCH_LEVEL;
        return true;
    case MSR_MCG_CAP:
    case MSR_DEBUG_CTL:
        *value = 0;
        return true;
    default:
        *value = read_amd_configuration(msr);
        return is_amd_configuration(msr) || is_last_branch(msr);
    }
}

bool msr_fixed_write(uint32_t msr)
{
    return msr == MSR_PATCH_LEVEL || msr == MSR_DEBUG_CTL || is_amd_configuration(msr) ||
           is_last_branch(msr);
}

// ---- Reading ----

static bool read_range(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
    if (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST)
        return lapic_msr_read(vcpu->lapic, msr, value);
    if (msr >= MSR_MTRR_VARIABLE && msr <= MSR_MTRR_VARIABLE_LAST) {
        *value = *variable_mtrr(&vcpu->state, msr);
        return true;
    }
    return msr_fixed_read(msr, value) || pvclock_msr_read(vcpu, msr, value);
}

static bool read_msr(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
    const struct word_msr *word = find_word(msr);

    if (word) {
        *value = *word_of(vcpu, word);
        return true;
    }
    switch (msr) {
    case MSR_TSC:
        *value = vm_clock_tsc(vcpu->system->clock) + vcpu->state.tsc_offset;
        return true;
    case MSR_EFER:
        *value = vcpu->state.efer;
        return true;
    case MSR_APIC_BASE:
    case MSR_TSC_DEADLINE:
        return lapic_msr_read(vcpu->lapic, msr, value);
    default:
        return read_range(vcpu, msr, value);
    }
}

int system_read_msr(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
    if (read_msr(vcpu, msr, value))
        return 0;
    log_debug("read of MSR %#x: #GP", msr);
    return raise_gp(vcpu, 0);
}

// ---- Writing ----

bool msr_efer_allows(const struct vcpu *vcpu, uint64_t cr0, uint64_t old, uint64_t value)
{
    uint64_t allowed = EFER_SCE | EFER_LMA | EFER_FFXSR |
                       (offers(vcpu, CPU_FEATURE_LM) ? EFER_LME : 0) |
                       (offers(vcpu, CPU_FEATURE_NX) ? EFER_NXE : 0) | EFER_AUTOIBRS;

    return !(value & ~allowed) && !(((value ^ old) & EFER_LME) && (cr0 & CR0_PG));
}

static bool write_efer(struct vcpu *vcpu, uint64_t value)
{
    struct cpu_state *cpu = &vcpu->state;
    uint64_t changed = value ^ cpu->efer;

    if (!msr_efer_allows(vcpu, cpu->cr0, cpu->efer, value))
        return false;
    cpu->efer = (value & ~(uint64_t)EFER_LMA) | (cpu->efer & EFER_LMA);
    if (changed & EFER_NXE)
        mmu_flush_all(vcpu);
    engine_mode_changed(vcpu);
    return true;
}

static bool write_range(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
    if (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST)
        return lapic_msr_write(vcpu->lapic, msr, value);
    if (msr >= MSR_MTRR_VARIABLE && msr <= MSR_MTRR_VARIABLE_LAST) {
        *variable_mtrr(&vcpu->state, msr) = value;
        return true;
    }
    return msr_fixed_write(msr) || pvclock_msr_write(vcpu, msr, value);
}

static bool write_msr(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
    const struct word_msr *word = find_word(msr);

    if (word) {
        if (!word->allows(vcpu, value))
            return false;
        *word_of(vcpu, word) = value;
        return true;
    }
    switch (msr) {
    case MSR_TSC:
        vcpu->state.tsc_offset = value - vm_clock_tsc(vcpu->system->clock);
        vcpu_clock_resumed(vcpu); // kvmclock and a deadline of the APIC count by it
        return true;
    case MSR_EFER:
        return write_efer(vcpu, value);
    case MSR_APIC_BASE:
        if (!lapic_msr_write(vcpu->lapic, msr, value))
            return false;
        mmu_flush_all(vcpu); // RAM and the APIC page may have changed places
        return true;
    case MSR_TSC_DEADLINE:
        return lapic_msr_write(vcpu->lapic, msr, value);
    default:
        return write_range(vcpu, msr, value);
    }
}

int system_write_msr(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
    if (write_msr(vcpu, msr, value))
        return 0;
    log_debug("write of %#llx to MSR %#x: #GP", (unsigned long long)value, msr);
    return raise_gp(vcpu, 0);
}
