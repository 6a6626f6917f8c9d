// SPDX-License-Identifier: Apache-2.0
//
// A long computation with a timer interrupt running, in integer and vector registers, memory and on the x87 stack. It says when it is in the middle, and its results
// do not depend on time: whoever stops it there and goes on elsewhere must come to the same end (tests/kvm/switch_test.c knows it).
#include "tiny.h"

#define APIC   0xFEE00000ull
#define ROUNDS 6000000u
#define MIDDLE 1000000u
#define WORDS  4096u
#define VECTOR 0x60
#define PERIOD 10000000u // 10 ms: the slowest emulation gets on beside it

static volatile uint64_t ticks;

static volatile uint32_t *apic(unsigned offset)
{
    return (volatile uint32_t *)(SCRATCH + offset);
}

static void on_tick(struct trap *trap)
{
    ticks++;
    *apic(0xB0) = 0;
}

static void start_timer(void)
{
    extern uint64_t page_directory[512];
    page_directory[SCRATCH >> 21] = APIC | 0x83;
    __asm__ volatile("invlpg (%0)" : : "r"(SCRATCH) : "memory");
    set_handler(VECTOR, on_tick);
    *apic(0xF0) = 0x1FF;
    *apic(0x3E0) = 0xB;
    *apic(0x320) = 0x20000 | VECTOR; // periodic
    *apic(0x380) = PERIOD;
    __asm__ volatile("sti");
}

void guest(void)
{
    uint64_t *words = (uint64_t *)(SCRATCH + 0x200000);
    uint64_t x = 0x9E3779B97F4A7C15ull, sum = 0;
    start_timer();
    __asm__ volatile("fninit; fldpi; movq %0, %%xmm5; pxor %%xmm6, %%xmm6" : : "r"(x) : "memory");
    for (unsigned i = 0; i < ROUNDS; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        words[x % WORDS] += x;
        sum += words[(x >> 20) % WORDS];
        __asm__ volatile("paddq %%xmm5, %%xmm6" : : : "memory");
        if (i == MIDDLE)
            print("in the middle\n");
    }
    uint64_t vector, tops;
    __asm__ volatile(
        "cli; movq %%xmm6, %0; subq $16, %%rsp; fistpll (%%rsp); popq %1; addq $8, %%rsp"
        : "=r"(vector), "=r"(tops)
        :
        : "memory");
    tell("x", x);
    tell("sum", sum);
    tell("vector", vector);
    tell("pi", tops);
    tell("ticked", ticks > 0);
    finish(0);
}
