// SPDX-License-Identifier: Apache-2.0
//
// Control registers and XCR0: which values are allowed, and what follows from a change (SDM vol. 3, 2.5 and 4.1).
#include "base/bits.h"
#include "machine/cpu/cpu_model.h"
#include "machine/cpu/lapic.h"
#include "machine/engine/exception.h"
#include "machine/engine/mmu.h"
#include "machine/engine/mmu_access.h"
#include "machine/engine/system.h"
#include "machine/engine/trace.h"

#define CR0_DEFINED                                                                                \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD |     \
     CR0_PG)
#define CR3_NO_FLUSH BIT(63)

static bool offers(const struct vcpu *vcpu, enum cpu_feature feature)
{
    return cpu_feature_set_has(cpu_model_features(vcpu->system->model), feature);
}

int system_read_cr(struct vcpu *vcpu, unsigned number, uint64_t *value)
{
    const struct cpu_state *cpu = &vcpu->state;

    switch (number) {
    case 0:
        *value = cpu->cr0;
        return 0;
    case 2:
        *value = cpu->cr2;
        return 0;
    case 3:
        *value = cpu->cr3;
        return 0;
    case 4:
        *value = cpu->cr4;
        return 0;
    case 8:
        *value = lapic_get_tpr(vcpu->lapic);
        return 0;
    default:
        return raise_ud(vcpu);
    }
}

// Switching paging switches long mode with it when EFER.LME asks for it.
static int check_paging_change(const struct cpu_state *cpu, uint64_t value)
{
    bool on = (value & CR0_PG) && !(cpu->cr0 & CR0_PG),
         off = !(value & CR0_PG) && (cpu->cr0 & CR0_PG);

    if (on && (cpu->efer & EFER_LME))
        return (cpu->cr4 & CR4_PAE) && !(cpu->segment[SEG_CS].attributes & SEG_L) ? 0 : -1;
    if (off)
        return (cpu->cr4 & CR4_PCIDE) || cpu_in_64bit_code(cpu) ? -1 : 0;
    return 0;
}

static int write_cr0(struct vcpu *vcpu, uint64_t value)
{
    struct cpu_state *cpu = &vcpu->state;
    uint64_t changed;

    if (value >> 32 || ((value & CR0_PG) && !(value & CR0_PE)) ||
        ((value & CR0_NW) && !(value & CR0_CD)) || check_paging_change(cpu, value) != 0)
        return raise_gp(vcpu, 0);
    value = (value & CR0_DEFINED) | CR0_ET;
    changed = value ^ cpu->cr0;
    cpu->cr0 = value;
    if (changed & CR0_PG) {
        bool long_mode = (value & CR0_PG) && (cpu->efer & EFER_LME);
        cpu->efer = long_mode ? cpu->efer | EFER_LMA : cpu->efer & ~(uint64_t)EFER_LMA;
    }
    if (changed & (CR0_PG | CR0_WP | CR0_PE))
        mmu_flush_all(vcpu);
    engine_mode_changed(vcpu);
    return 0;
}

// The TLB has no tags for address spaces, so entries of the other one go even when bit 63 would let them stay.
static int write_cr3(struct vcpu *vcpu, uint64_t value)
{
    struct cpu_state *cpu = &vcpu->state;
    bool keep = (cpu->cr4 & CR4_PCIDE) && (value & CR3_NO_FLUSH);
    uint64_t reserved = ~bits_mask(cpu_model_physical_bits(vcpu->system->model));

    if (keep)
        value &= ~CR3_NO_FLUSH;
    if (cpu_in_long_mode(cpu) && (value & reserved))
        return raise_gp(vcpu, 0);
    bool same = cpu->cr3 == value;
    cpu->cr3 = value;
    if (!keep || !same)
        mmu_flush_non_global(vcpu);
    return 0;
}

static uint64_t cr4_allowed(const struct vcpu *vcpu)
{
    static const struct {
        uint32_t bit;
        uint8_t feature;
    } by_feature[] = {
        {CR4_TSD, CPU_FEATURE_TSC},           {CR4_DE, CPU_FEATURE_DE},
        {CR4_PSE, CPU_FEATURE_PSE},           {CR4_PAE, CPU_FEATURE_PAE},
        {CR4_MCE, CPU_FEATURE_MCE},           {CR4_PGE, CPU_FEATURE_PGE},
        {CR4_OSFXSR, CPU_FEATURE_FXSR},       {CR4_OSXMMEXCPT, CPU_FEATURE_SSE},
        {CR4_UMIP, CPU_FEATURE_UMIP},         {CR4_LA57, CPU_FEATURE_LA57},
        {CR4_FSGSBASE, CPU_FEATURE_FSGSBASE}, {CR4_PCIDE, CPU_FEATURE_PCID},
        {CR4_OSXSAVE, CPU_FEATURE_XSAVE},     {CR4_SMEP, CPU_FEATURE_SMEP},
        {CR4_SMAP, CPU_FEATURE_SMAP},         {CR4_VME | CR4_PVI, CPU_FEATURE_VME},
    };
    uint64_t allowed = CR4_PCE;

    for (unsigned i = 0; i < ARRAY_LENGTH(by_feature); i++)
        allowed |= offers(vcpu, (enum cpu_feature)by_feature[i].feature) ? by_feature[i].bit : 0;
    return allowed;
}

static int write_cr4(struct vcpu *vcpu, uint64_t value)
{
    struct cpu_state *cpu = &vcpu->state;
    uint64_t changed = value ^ cpu->cr4;

    if (value & ~cr4_allowed(vcpu))
        return raise_gp(vcpu, 0);
    if (cpu_in_long_mode(cpu) && (!(value & CR4_PAE) || (changed & CR4_LA57)))
        return raise_gp(vcpu, 0);
    if ((value & changed & CR4_PCIDE) && (!cpu_in_long_mode(cpu) || (cpu->cr3 & 0xFFF)))
        return raise_gp(vcpu, 0);
    cpu->cr4 = value;
    if (changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP | CR4_SMAP | CR4_LA57 | CR4_PCIDE))
        mmu_flush_all(vcpu);
    engine_mode_changed(vcpu);
    return 0;
}

int system_write_cr(struct vcpu *vcpu, unsigned number, uint64_t value)
{
    switch (number) {
    case 0:
        return write_cr0(vcpu, value);
    case 2:
        vcpu->state.cr2 = value;
        return 0;
    case 3:
        return write_cr3(vcpu, value);
    case 4:
        return write_cr4(vcpu, value);
    case 8:
        if (value > 15)
            return raise_gp(vcpu, 0);
        lapic_set_tpr(vcpu->lapic, value);
        return 0;
    default:
        return raise_ud(vcpu);
    }
}

int system_write_xcr(struct vcpu *vcpu, uint32_t number, uint64_t value)
{
    uint64_t supported = offers(vcpu, CPU_FEATURE_AVX) ? XCR0_SUPPORTED : 3;
    bool avx_without_sse = (value & 6) == 4;

    if (number != 0 || engine_cpu_of(vcpu)->cpl != 0 || !(value & 1) || (value & ~supported) ||
        avx_without_sse)
        return raise_gp(vcpu, 0);
    vcpu->state.xcr0 = value;
    return 0;
}

int system_invlpg(struct vcpu *vcpu, struct gva address)
{
    mmu_flush_page(vcpu, address);
    return 0;
}

int system_invpcid(struct vcpu *vcpu, uint64_t type, uint64_t pcid, struct gva address)
{
    if (type > 3 || pcid >> 12)
        return raise_gp(vcpu, 0);
    if (type <= 1 && !(vcpu->state.cr4 & CR4_PCIDE) && pcid != 0)
        return raise_gp(vcpu, 0);
    if (type == 0 && !address_is_canonical(vcpu, address.at))
        return raise_gp(vcpu, 0);
    // Only entries of the current address space are there, so that another PCID's need nothing.
    bool current = !(vcpu->state.cr4 & CR4_PCIDE) || pcid == (vcpu->state.cr3 & 0xFFF);
    switch (type) {
    case 0:
        if (current)
            mmu_flush_page(vcpu, address);
        break;
    case 1:
        if (current)
            mmu_flush_non_global(vcpu);
        break;
    case 2:
        mmu_flush_all(vcpu);
        break;
    case 3:
        mmu_flush_non_global(vcpu);
        break;
    }
    return 0;
}
