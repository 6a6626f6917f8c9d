// SPDX-License-Identifier: Apache-2.0
//
// SYSCALL, SYSRET, SYSENTER and SYSEXIT as AMD's processors have them, since wirt's CPU models are AuthenticAMD: SYSCALL
// works in compatibility mode (CSTAR) and in protected mode (STAR), SYSENTER and SYSEXIT only outside long mode (AMD64 APM
// vol. 2, 6.1).
#include "machine/engine/descriptor.h"
#include "machine/engine/exception.h"
#include "machine/engine/mmu_access.h"
#include "machine/engine/system.h"

#define ATTRIBUTES_CODE (SEG_G | SEG_P | SEG_S | SEG_CODE | SEG_READABLE | SEG_ACCESSED)
#define ATTRIBUTES_DATA (SEG_G | SEG_DB | SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED)

// Flat CS and SS without a look at the descriptor tables.
static void load_flat(struct vcpu *vcpu, uint16_t code, uint16_t stack, unsigned cpl, bool wide)
{
    struct segment *segment = vcpu->state.segment;
    uint32_t dpl = cpl << SEG_DPL_SHIFT;

    segment[SEG_CS] =
        (struct segment){.limit = UINT32_MAX,
                         .attributes = ATTRIBUTES_CODE | dpl | (wide ? SEG_L : SEG_DB),
                         .selector = code};
    segment[SEG_SS] = (struct segment){
        .limit = UINT32_MAX, .attributes = ATTRIBUTES_DATA | dpl, .selector = stack};
}

int system_syscall(struct vcpu *vcpu, uint64_t next_rip)
{
    struct cpu_state *cpu = &vcpu->state;
    uint16_t code = (uint16_t)(cpu->star >> 32) & 0xFFFC;

    if (!(cpu->efer & EFER_SCE) || !cpu_in_protected_mode(cpu))
        return raise_ud(vcpu);
    if (cpu_in_long_mode(cpu)) {
        bool wide = cpu_in_64bit_code(cpu);
        cpu->gpr[RCX] = next_rip;
        cpu->gpr[R11] = cpu->rflags & ~(uint64_t)FLAG_RF;
        cpu->rip = wide ? cpu->lstar : cpu->cstar;
        cpu->rflags = (cpu->rflags & ~(cpu->sfmask | FLAG_RF)) | FLAG_FIXED1;
    } else {
        cpu->gpr[RCX] = (uint32_t)next_rip;
        cpu->rip = (uint32_t)cpu->star;
        cpu->rflags &= ~(uint64_t)(FLAG_IF | FLAG_RF | FLAG_VM);
    }
    load_flat(vcpu, code, (uint16_t)(code + 8), 0, cpu_in_long_mode(cpu));
    engine_mode_changed(vcpu);
    return 0;
}

int system_sysret(struct vcpu *vcpu, unsigned operand_size)
{
    struct cpu_state *cpu = &vcpu->state;
    uint16_t code = (uint16_t)(cpu->star >> 48);
    bool wide = operand_size == 8;

    if (!(cpu->efer & EFER_SCE))
        return raise_ud(vcpu);
    if (!(cpu->cr0 & CR0_PE) || engine_cpu_of(vcpu)->cpl != 0)
        return raise_gp(vcpu, 0);
    cpu->rip = wide ? cpu->gpr[RCX] : (uint32_t)cpu->gpr[RCX];
    if (cpu_in_long_mode(cpu))
        cpu->rflags = (cpu->gpr[R11] & 0x3C7FD5) | FLAG_FIXED1;
    else
        cpu->rflags |= FLAG_IF;
    load_flat(vcpu, (uint16_t)((code + (wide ? 16 : 0)) | 3), (uint16_t)((code + 8) | 3), 3, wide);
    engine_mode_changed(vcpu);
    return 0;
}

int system_sysenter(struct vcpu *vcpu)
{
    struct cpu_state *cpu = &vcpu->state;
    uint16_t code = (uint16_t)(cpu->sysenter_cs & 0xFFFC);

    if (cpu_in_long_mode(cpu))
        return raise_ud(vcpu);
    if (!(cpu->cr0 & CR0_PE) || !code)
        return raise_gp(vcpu, 0);
    cpu->rflags &= ~(uint64_t)(FLAG_IF | FLAG_VM | FLAG_RF);
    cpu->rip = (uint32_t)cpu->sysenter_eip;
    cpu->gpr[RSP] = (uint32_t)cpu->sysenter_esp;
    load_flat(vcpu, code, (uint16_t)(code + 8), 0, false);
    engine_mode_changed(vcpu);
    return 0;
}

int system_sysexit(struct vcpu *vcpu, unsigned operand_size)
{
    struct cpu_state *cpu = &vcpu->state;
    uint16_t code = (uint16_t)(cpu->sysenter_cs & 0xFFFC);

    if (cpu_in_long_mode(cpu))
        return raise_ud(vcpu);
    if (!(cpu->cr0 & CR0_PE) || !code || engine_cpu_of(vcpu)->cpl != 0)
        return raise_gp(vcpu, 0);
    cpu->rip = (uint32_t)cpu->gpr[RDX];
    cpu->gpr[RSP] = (uint32_t)cpu->gpr[RCX];
    load_flat(vcpu, (uint16_t)((code + 16) | 3), (uint16_t)((code + 24) | 3), 3, false);
    engine_mode_changed(vcpu);
    return 0;
}
