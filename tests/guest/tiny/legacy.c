// SPDX-License-Identifier: Apache-2.0
//
// What only old systems use: 16-bit tasks and the debug trap bit of a TSS, 16-bit call gates, conforming code, and paging without long mode: two levels with
// pages of 4 MiB, and PAE. The 32-bit half is legacy_asm.S.
#include "protected.h"

#define LOW 0x8000ull // what has 16-bit addresses is copied there

extern const uint8_t low_part[], low_part_end[];
extern uint8_t task16_tss[], trap_tss[], short_tss[];
extern uint32_t directory32[1024], table32[1024];
extern uint64_t pointers_pae[4], directories_pae[2][512], table_pae[512];
void conforming_target(void);
void plain_target(void);
void debug_trap32(void);

enum { P = 1, RW = 2, US = 4, PS = 0x80 };

static uint64_t low_offset(const uint8_t *label)
{
    return (uint64_t)(label - low_part);
}

extern const uint8_t low_gate_target[];

static void fill_descriptors(void)
{
    gdt32_free[0] = tss_descriptor(main_tss, 103, 0x89);                        // 58
    gdt32_free[1] = tss_descriptor(task16_tss, 43, 0x81);                       // 60
    gdt32_free[2] = segment_descriptor((uint32_t)LOW, 0xFFFF, 0x9B, 4);         // 68: 32-bit code
    gdt32_free[3] = tss_descriptor(trap_tss, 103, 0x89);                        // 70
    gdt32_free[4] = tss_descriptor(short_tss, 42, 0x81);                        // 78
    gdt32_free[5] = call_gate(low_offset(low_gate_target), 0x68, 0xE4, 2);      // 80: 16-bit
    gdt32_free[6] = segment_descriptor(0, 0xFFFFF, 0x9F, 0xC);                  // 88: conforming
    gdt32_free[7] = segment_descriptor(0, 0xFFFFF, 0xFF, 0xC);                  // 90: its DPL is 3
    gdt32_free[8] = call_gate((uint64_t)conforming_target, 0x88, 0xEC, 1);      // 98
    gdt32_free[9] = call_gate((uint64_t)conforming_target, 0x90, 0xEC, 0);      // A0
    gdt32_free[10] = call_gate((uint64_t)plain_target, SEL_CODE32, 0xEC, 0);    // A8
    gdt32_free[11] = call_gate((uint64_t)plain_target, SEL_CODE32, 0x8C, 0);    // B0: DPL 0
    gdt32_free[12] = call_gate((uint64_t)plain_target, SEL_USER_DATA, 0xEC, 0); // B8: not code
}

// The first GiB as it is; the page at 1 GiB is the first of a table, behind it is a page of 4 MiB (2 MiB).
static void fill_tables(void)
{
    for (uint32_t i = 0; i < 256; i++)
        directory32[i] = i << 22 | PS | US | RW | P;
    directory32[256] = (uint32_t)(uint64_t)table32 | US | RW | P;
    directory32[257] = (uint32_t)SCRATCH & 0xFFC00000u;
    directory32[257] |= PS | RW | P;
    pointers_pae[0] = (uint64_t)directories_pae[0] | P;
    pointers_pae[1] = (uint64_t)directories_pae[1] | P;
    for (uint64_t i = 0; i < 512; i++)
        directories_pae[0][i] = i << 21 | PS | US | RW | P;
    directories_pae[1][0] = (uint64_t)table_pae | US | RW | P;
    directories_pae[1][1] = SCRATCH | PS | RW | P;
}

void guest(void)
{
    fill_gates();
    set_gate(0x30, (uint64_t)stubs32 + 0x30 * 16, SEL_CODE32, 0xEE); // from any privilege
    set_gate(1, (uint64_t)debug_trap32, SEL_CODE32, 0x8E);
    fill_descriptors();
    fill_tables();
    memcpy((void *)LOW, low_part, (size_t)(low_part_end - low_part));
    *(volatile uint32_t *)SCRATCH = 0x11112222;
    *(volatile uint32_t *)(SCRATCH + 0x1000) = 0x33334444;
    run_protected();
    tell_log();
}
