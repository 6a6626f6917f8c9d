// SPDX-License-Identifier: Apache-2.0
//
// Device registers reached by instructions that hypervisors do not expect there: bit counts, byte swaps, vectors, x87, a long string. The HPET's identification is read, its
// comparator written, and an address that nobody answers.
#include "tiny.h"

#define HPET 0xFED00000ull

static uint64_t popcnt(uint64_t at)
{
    uint64_t value;
    __asm__ volatile("popcntq (%1), %0" : "=r"(value) : "r"(at) : "memory", "cc");
    return value;
}

static uint64_t vector_read(uint64_t at)
{
    uint64_t low;
    __asm__ volatile("movdqu (%1), %%xmm3; paddd %%xmm3, %%xmm3; movq %%xmm3, %0"
                     : "=r"(low)
                     : "r"(at)
                     : "memory");
    return low;
}

static uint64_t shuffled_read(uint64_t at)
{
    uint64_t low;
    __asm__ volatile("pshufd $0x4E, (%1), %%xmm3; movq %%xmm3, %0"
                     : "=r"(low)
                     : "r"(at)
                     : "memory");
    return low;
}

static uint64_t crc(uint64_t at)
{
    uint64_t value = 0;
    __asm__ volatile("crc32l (%1), %k0" : "+r"(value) : "r"(at) : "memory");
    return value;
}

static void float_write(uint64_t at, uint64_t value)
{
    __asm__ volatile("pushq %1; fildll (%%rsp); fistpll (%0); popq %1"
                     :
                     : "r"(at), "r"(value)
                     : "memory");
}

void guest(void)
{
    extern uint64_t page_directory[512];
    page_directory[SCRATCH >> 21] = (HPET & ~0x1FFFFFull) | 0x83;
    __asm__ volatile("invlpg (%0)" : : "r"(SCRATCH) : "memory");
    uint64_t hpet = SCRATCH + (HPET & 0x1FFFFF);
    tell("bits", popcnt(hpet));
    tell("bits where nobody answers", popcnt(SCRATCH + 0x80000));
    tell("sum", vector_read(hpet));
    tell("upper half", shuffled_read(hpet) != 0);
    tell("crc", crc(hpet) != 0);
    float_write(hpet + 0x108, 0x123456789ABC);
    tell("comparator", *(volatile uint64_t *)(hpet + 0x108));
    finish(0);
}
