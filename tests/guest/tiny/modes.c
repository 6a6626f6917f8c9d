// SPDX-License-Identifier: Apache-2.0
//
// Protected mode without paging, real mode, unreal mode, virtual-8086 mode, hardware tasks, call gates with parameters, SYSENTER. 64-bit
// code goes there and back (modes_asm.S); what is seen on the way stands in a log that is printed at the end.
#include "protected.h"

extern const uint8_t real_code[], real_code_end[];
extern uint8_t task1_tss[], task2_tss[], small_tss[];

void gate_target(void);
void gate_target16(void);

void guest(void)
{
    fill_gates();
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
    tell_log();
}
