// SPDX-License-Identifier: Apache-2.0
//
// Protected mode without paging, real mode, unreal mode, virtual-8086 mode, hardware tasks, call gates with parameters, SYSENTER. 64-bit
// code goes there and back (modes_asm.S); what is seen on the way stands in a log that is printed at the end.
#include "tiny.h"

#define LOG_WORDS 1024

uint32_t mode_log[LOG_WORDS]; // (address of a name, value) in turns
uint32_t mode_log_at;

extern uint64_t gdt32_free[];
extern uint32_t idt32[512];
extern const uint8_t stubs32[], real_code[], real_code_end[];
extern uint8_t task1_tss[], task2_tss[], main_tss[], small_tss[];

void run_protected(void);

// A 32-bit gate.
static void set_gate(unsigned vector, uint64_t offset, uint16_t selector, uint8_t type)
{
    idt32[vector * 2] = (uint32_t)((offset & 0xFFFF) | (uint32_t)selector << 16);
    idt32[vector * 2 + 1] = (uint32_t)((offset & 0xFFFF0000) | (uint32_t)type << 8);
}

static uint64_t tss_descriptor(const uint8_t *base, uint32_t limit, uint8_t access)
{
    uint64_t at = (uint64_t)base;
    return (limit & 0xFFFF) | (at & 0xFFFFFF) << 16 | (uint64_t)access << 40 | (at >> 24) << 56;
}

static uint64_t call_gate(uint64_t offset, uint16_t selector, uint8_t access, unsigned parameters)
{
    return (offset & 0xFFFF) | (uint64_t)selector << 16 | (uint64_t)parameters << 32 |
           (uint64_t)access << 40 | (offset >> 16) << 48;
}

void gate_target(void);
void gate_target16(void);

void guest(void)
{
    for (unsigned i = 0; i < 256; i++)
        set_gate(i, (uint64_t)stubs32 + i * 16, SEL_CODE32, 0x8E);
    set_gate(0x30, (uint64_t)stubs32 + 0x30 * 16, SEL_CODE32, 0xEE);         // from any privilege
    set_gate(0x31, 0, SEL_FREE + 8, 0xE5);                                   // task gate to task 2
    gdt32_free[0] = tss_descriptor(main_tss, 103, 0x89);                     // 58
    gdt32_free[1] = tss_descriptor(task2_tss, 103, 0x89);                    // 60
    gdt32_free[2] = call_gate((uint64_t)gate_target, SEL_CODE32, 0xEC, 3);   // 68
    gdt32_free[3] = tss_descriptor(task1_tss, 103, 0x89);                    // 70
    gdt32_free[4] = tss_descriptor(small_tss, 50, 0x89);                     // 78: too small
    gdt32_free[5] = call_gate((uint64_t)gate_target16, SEL_CODE16, 0xE4, 2); // 80
    gdt32_free[6] = 0x00009B008000FFFFull; // 88: 16-bit code at 8000
    gdt32_free[7] = 0x000093008000FFFFull; // 90: 16-bit data at 8000
    memcpy((void *)0x8000, real_code, (size_t)(real_code_end - real_code));
    run_protected();
    for (unsigned i = 0; i < mode_log_at; i += 2)
        tell((const char *)(uint64_t)mode_log[i], mode_log[i + 1]);
}
