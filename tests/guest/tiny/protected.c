// SPDX-License-Identifier: Apache-2.0
#include "protected.h"

#define LOG_WORDS 2048

uint32_t mode_log[LOG_WORDS]; // (address of a name, value) in turns
uint32_t mode_log_at;

extern uint32_t idt32[512];

void tell_log(void)
{
    for (unsigned i = 0; i < mode_log_at; i += 2)
        tell((const char *)(uint64_t)mode_log[i], mode_log[i + 1]);
}

// A 32-bit gate.
void set_gate(unsigned vector, uint64_t offset, uint16_t selector, uint8_t type)
{
    idt32[vector * 2] = (uint32_t)((offset & 0xFFFF) | (uint32_t)selector << 16);
    idt32[vector * 2 + 1] = (uint32_t)((offset & 0xFFFF0000) | (uint32_t)type << 8);
}

void fill_gates(void)
{
    for (unsigned i = 0; i < 256; i++)
        set_gate(i, (uint64_t)stubs32 + i * 16, SEL_CODE32, 0x8E);
}

uint64_t segment_descriptor(uint32_t base, uint32_t limit, uint8_t access, uint8_t flags)
{
    return (limit & 0xFFFF) | (uint64_t)(base & 0xFFFFFF) << 16 | (uint64_t)access << 40 |
           (uint64_t)(limit >> 16 & 0xF) << 48 | (uint64_t)flags << 52 |
           (uint64_t)(base >> 24) << 56;
}

uint64_t tss_descriptor(const uint8_t *base, uint32_t limit, uint8_t access)
{
    return segment_descriptor((uint32_t)(uint64_t)base, limit, access, 0);
}

uint64_t call_gate(uint64_t offset, uint16_t selector, uint8_t access, unsigned parameters)
{
    return (offset & 0xFFFF) | (uint64_t)selector << 16 | (uint64_t)parameters << 32 |
           (uint64_t)access << 40 | (offset >> 16) << 48;
}
