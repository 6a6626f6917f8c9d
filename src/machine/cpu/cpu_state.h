// SPDX-License-Identifier: Apache-2.0
//
// The architectural state of one x86-64 CPU: what a manual describes, nothing of how it is executed.
//
// Backends (the engine, KVM) keep what they need elsewhere and bring this struct up to date before anybody
// else looks at it. Saved and loaded by the field table in cpu_fields.c.
#ifndef WIRT_MACHINE_CPU_CPU_STATE_H
#define WIRT_MACHINE_CPU_CPU_STATE_H

#include <stdbool.h>
#include <stdint.h>

enum gpr {
    RAX,
    RCX,
    RDX,
    RBX,
    RSP,
    RBP,
    RSI,
    RDI,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    GPR_COUNT
};

// The order is that of the instruction encoding (MOV Sreg).
enum segment_name {
    SEG_ES,
    SEG_CS,
    SEG_SS,
    SEG_DS,
    SEG_FS,
    SEG_GS,
    SEG_LDTR,
    SEG_TR,
    SEG_COUNT,
    SEG_NONE = SEG_COUNT
};

// Attributes are bits 8 to 15 and 20 to 23 of a descriptor's second word, moved down by 8 (bits 0-7: type, S,
// DPL, P; bits 12-15: AVL, L, D/B, G), plus SEG_UNUSABLE for a null or never loaded segment.
enum segment_attribute {
    SEG_TYPE_MASK = 0x000F,
    SEG_ACCESSED = 0x0001,
    SEG_WRITABLE = 0x0002,    // data
    SEG_READABLE = 0x0002,    // code
    SEG_EXPAND_DOWN = 0x0004, // data
    SEG_CONFORMING = 0x0004,  // code
    SEG_CODE = 0x0008,
    SEG_S = 0x0010, // code or data, not system
    SEG_DPL_SHIFT = 5,
    SEG_DPL_MASK = 0x0060,
    SEG_P = 0x0080,
    SEG_AVL = 0x1000,
    SEG_L = 0x2000,
    SEG_DB = 0x4000,
    SEG_G = 0x8000,
};
#define SEG_UNUSABLE 0x10000u

struct segment {
    uint64_t base;
    uint32_t limit; // in bytes, inclusive, granularity applied
    uint32_t attributes;
    uint16_t selector;
};

struct descriptor_table {
    uint64_t base;
    uint16_t limit;
};

// RFLAGS (SDM vol. 1, 3.4.3)
enum {
    FLAG_CF = 1 << 0,
    FLAG_FIXED1 = 1 << 1,
    FLAG_PF = 1 << 2,
    FLAG_AF = 1 << 4,
    FLAG_ZF = 1 << 6,
    FLAG_SF = 1 << 7,
    FLAG_TF = 1 << 8,
    FLAG_IF = 1 << 9,
    FLAG_DF = 1 << 10,
    FLAG_OF = 1 << 11,
    FLAG_IOPL = 3 << 12,
    FLAG_NT = 1 << 14,
    FLAG_RF = 1 << 16,
    FLAG_VM = 1 << 17,
    FLAG_AC = 1 << 18,
    FLAG_VIF = 1 << 19,
    FLAG_VIP = 1 << 20,
    FLAG_ID = 1 << 21,
};
#define FLAGS_STATUS (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

#define CR0_PE (1u << 0)
#define CR0_MP (1u << 1)
#define CR0_EM (1u << 2)
#define CR0_TS (1u << 3)
#define CR0_ET (1u << 4)
#define CR0_NE (1u << 5)
#define CR0_WP (1u << 16)
#define CR0_AM (1u << 18)
#define CR0_NW (1u << 29)
#define CR0_CD (1u << 30)
#define CR0_PG (1u << 31)

#define CR4_VME        (1u << 0)
#define CR4_PVI        (1u << 1)
#define CR4_TSD        (1u << 2)
#define CR4_DE         (1u << 3)
#define CR4_PSE        (1u << 4)
#define CR4_PAE        (1u << 5)
#define CR4_MCE        (1u << 6)
#define CR4_PGE        (1u << 7)
#define CR4_PCE        (1u << 8)
#define CR4_OSFXSR     (1u << 9)
#define CR4_OSXMMEXCPT (1u << 10)
#define CR4_UMIP       (1u << 11)
#define CR4_LA57       (1u << 12)
#define CR4_FSGSBASE   (1u << 16)
#define CR4_PCIDE      (1u << 17)
#define CR4_OSXSAVE    (1u << 18)
#define CR4_SMEP       (1u << 20)
#define CR4_SMAP       (1u << 21)

#define EFER_SCE      (1u << 0)
#define EFER_LME      (1u << 8)
#define EFER_LMA      (1u << 10)
#define EFER_NXE      (1u << 11)
#define EFER_SVME     (1u << 12)
#define EFER_FFXSR    (1u << 14)
#define EFER_AUTOIBRS (1u << 21)

enum exception {
    EXC_DE = 0,
    EXC_DB = 1,
    EXC_NMI = 2,
    EXC_BP = 3,
    EXC_OF = 4,
    EXC_BR = 5,
    EXC_UD = 6,
    EXC_NM = 7,
    EXC_DF = 8,
    EXC_TS = 10,
    EXC_NP = 11,
    EXC_SS = 12,
    EXC_GP = 13,
    EXC_PF = 14,
    EXC_MF = 16,
    EXC_AC = 17,
    EXC_MC = 18,
    EXC_XM = 19,
    EXC_NONE = 0xFF
};

// The whole extended state in XSAVE's standard (non-compacted) format: legacy region 512 bytes, header 64,
// AVX state at 576. wirt's CPU models stop at XCR0 = x87 | SSE | AVX.
#define XSAVE_BYTES    832
#define XCR0_SUPPORTED 7u

// What inhibits interrupts for one instruction: STI maskable ones; MOV SS and POP SS NMI and debug traps too.
enum interrupt_shadow { SHADOW_NONE, SHADOW_STI, SHADOW_MOV_SS, SHADOW_COUNT };

enum cpu_run_state {
    CPU_RUNNING,
    CPU_HALTED,
    CPU_WAIT_FOR_SIPI,
    CPU_SHUTDOWN,
    CPU_RUN_STATE_COUNT
};

struct cpu_state {
    uint64_t gpr[GPR_COUNT];
    uint64_t rip;
    uint64_t rflags;
    struct segment segment
        [SEG_COUNT]; // in real and virtual-8086 mode too: base, limit and attributes as hidden parts
    struct descriptor_table gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4,
        cr8; // cr8 is the LAPIC's task priority >> 4; the LAPIC holds the truth
    uint64_t xcr0;
    uint64_t efer;
    uint64_t dr[4], dr6, dr7;
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, tsc_aux, apic_base, misc_enable, spec_ctrl;
    uint64_t tsc_offset; // guest TSC = machine TSC + this; 0 from reset
    uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
    uint64_t mcg_status;
    uint64_t kvm_system_time, kvm_wall_clock, kvm_eoi, kvm_steal_time, kvm_poll_control,
        kvm_async_pf;  // paravirtual MSRs as written
    uint8_t run_state; // enum cpu_run_state
    uint8_t
        interrupt_shadow; // enum interrupt_shadow: the instruction after it has not been executed
    bool nmi_blocked;     // until IRET
    bool nmi_pending;
    // An exception that is recognized and not yet delivered (saved between instructions at most).
    uint8_t pending_exception; // EXC_NONE if none
    bool pending_has_error;
    uint32_t pending_error;
    uint8_t sipi_vector;
    uint8_t xsave[XSAVE_BYTES] __attribute__((aligned(64)));
};

static inline unsigned cpu_cpl(const struct cpu_state *cpu)
{
    return (cpu->segment[SEG_SS].attributes & SEG_DPL_MASK) >> SEG_DPL_SHIFT;
}

static inline bool cpu_in_long_mode(const struct cpu_state *cpu) // LMA: 64-bit or compatibility
{
    return (cpu->efer & EFER_LMA) != 0;
}

static inline bool cpu_in_64bit_code(const struct cpu_state *cpu)
{
    return cpu_in_long_mode(cpu) && (cpu->segment[SEG_CS].attributes & SEG_L);
}

static inline bool cpu_in_protected_mode(const struct cpu_state *cpu) // not real, not virtual-8086
{
    return (cpu->cr0 & CR0_PE) && !(cpu->rflags & FLAG_VM);
}

// State after power-on or INIT (SDM vol. 3, table 10-1). INIT keeps the extended state, MTRRs, most MSRs and APIC base.
void cpu_state_reset(struct cpu_state *cpu, bool init_only, bool bootstrap);

#endif
