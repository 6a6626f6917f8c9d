// SPDX-License-Identifier: Apache-2.0
#include "machine/cpu/cpu_state.h"

#include <string.h>

#include "base/bits.h"

#define RESET_CR0         0x60000010u
#define RESET_DR6         0xFFFF0FF0u
#define RESET_DR7         0x400u
#define RESET_PAT         0x0007040600070406ull
#define RESET_FCW         0x40u
#define RESET_MXCSR       0x1F80u
#define APIC_BASE         0xFEE00000ull
#define APIC_BASE_BSP     0x100u
#define APIC_BASE_ON      0x800u
#define MISC_FAST_STRINGS 1u

// Offsets in the legacy region of the XSAVE area (SDM vol. 1, table 10-2).
#define FXSAVE_FCW   0
#define FXSAVE_MXCSR 24

static struct segment real_mode_segment(uint32_t attributes)
{
    return (struct segment){.limit = 0xFFFF, .attributes = attributes};
}

static void reset_segments(struct cpu_state *cpu)
{
    uint32_t data = SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        cpu->segment[i] = real_mode_segment(data);
    cpu->segment[SEG_CS] = (struct segment){
        .base = 0xFFFF0000, .limit = 0xFFFF, .attributes = data | SEG_CODE, .selector = 0xF000};
    cpu->segment[SEG_LDTR] = real_mode_segment(SEG_P | 2);
    cpu->segment[SEG_TR] = real_mode_segment(SEG_P | 0xB);
    cpu->gdtr = cpu->idtr = (struct descriptor_table){0, 0xFFFF};
}

// What only power-on sets; INIT leaves it as it is.
static void reset_power_on(struct cpu_state *cpu, bool bootstrap)
{
    memset(cpu, 0, sizeof(*cpu));
    store_le16(cpu->xsave + FXSAVE_FCW, RESET_FCW);
    store_le32(cpu->xsave + FXSAVE_MXCSR, RESET_MXCSR);
    cpu->xcr0 = 1;
    cpu->pat = RESET_PAT;
    cpu->misc_enable = MISC_FAST_STRINGS;
    cpu->apic_base = APIC_BASE | APIC_BASE_ON | (bootstrap ? APIC_BASE_BSP : 0);
}

void cpu_state_reset(struct cpu_state *cpu, bool init_only, bool bootstrap)
{
    if (!init_only)
        reset_power_on(cpu, bootstrap);
    memset(cpu->gpr, 0, sizeof(cpu->gpr));
    reset_segments(cpu);
    cpu->rip = 0xFFF0;
    cpu->rflags = FLAG_FIXED1;
    cpu->cr0 = init_only ? (cpu->cr0 & (CR0_CD | CR0_NW)) | CR0_ET : RESET_CR0;
    cpu->cr2 = cpu->cr3 = cpu->cr4 = cpu->cr8 = cpu->efer = 0;
    memset(cpu->dr, 0, sizeof(cpu->dr));
    cpu->dr6 = RESET_DR6;
    cpu->dr7 = RESET_DR7;
    cpu->kvm_system_time = cpu->kvm_eoi = 0; // as KVM: what starts anew has not asked for them
    cpu->interrupt_shadow = 0;
    cpu->nmi_blocked = cpu->nmi_pending = false;
    cpu->pending_exception = EXC_NONE;
    cpu->run_state = bootstrap ? CPU_RUNNING : CPU_WAIT_FOR_SIPI;
}
