// SPDX-License-Identifier: Apache-2.0
//
// For guests of several CPUs: their APICs, and how the first one starts the others (smp_asm.S), which come to ap_main() on stacks of their own.
#ifndef WIRT_TESTS_TINY_CPUS_H
#define WIRT_TESTS_TINY_CPUS_H

#include "tiny.h"

#define APIC      0xFEE00000ull // seen at SCRATCH
#define REG_EOI   0xB0
#define REG_SVR   0xF0
#define REG_ICR   0x300
#define REG_LINT0 0x350

#define TRAMPOLINE 0x8000u

enum { ICR_INIT = 0x4500, ICR_STARTUP = 0x4600, ICR_FIXED = 0x4000, ICR_OTHERS = 0xC0000 };

extern const uint8_t ap_start[], ap_start_end[];
void ap_main(void);

static inline volatile uint32_t *apic_register(unsigned offset)
{
    return (volatile uint32_t *)(SCRATCH + offset);
}

static inline void prepare_apic(void)
{
    *apic_register(REG_SVR) = 0x1FF;
}

static inline void end_interrupt(void)
{
    *apic_register(REG_EOI) = 0;
}

static inline void pause_long(void)
{
    for (unsigned i = 0; i < 20000; i++)
        __asm__ volatile("pause");
}

static inline void start_others(void)
{
    memcpy((void *)(uint64_t)TRAMPOLINE, ap_start, (size_t)(ap_start_end - ap_start));
    *apic_register(REG_ICR) = ICR_OTHERS | ICR_INIT;
    pause_long();
    *apic_register(REG_ICR) = ICR_OTHERS | ICR_STARTUP | TRAMPOLINE >> 12;
    pause_long();
    *apic_register(REG_ICR) =
        ICR_OTHERS | ICR_STARTUP | TRAMPOLINE >> 12; // the second one is ignored
}

// The first CPU's own APIC, where the guest finds it.
static inline void map_apic(void)
{
    extern uint64_t page_directory[512];

    page_directory[SCRATCH >> 21] = APIC | 0x83;
    invlpg(SCRATCH);
    prepare_apic();
    *apic_register(REG_LINT0) = 0x10000;
}

#endif
