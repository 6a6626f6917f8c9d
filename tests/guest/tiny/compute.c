// SPDX-License-Identifier: Apache-2.0
//
// A long computation with a timer interrupt running, in integer and vector registers, memory and on the x87 stack, with rounding modes that are not the usual
// ones. Its results do not depend on time: whoever stops it and goes on elsewhere must come to the same end (tests/kvm/switch_test.c knows it).
//
// It waits to be stopped where most can be lost: in the timer's handler, before the end of the interrupt, with the next tick pending and interrupts off. There
// it writes pages that the other side knows, when told to by a word in memory, and goes on when told to again.
#include "tiny.h"

#define APIC   0xFEE00000ull
#define ROUNDS 6000000u
#define MIDDLE 1000000u
#define LATER  3000000u
#define WORDS  4096u
#define VECTOR 0x60
#define PERIOD 10000000u // 10 ms: the slowest emulation gets on beside it

// What the other side writes to and looks for.
#define GATE        (*(volatile uint64_t *)(SCRATCH + 0x20A000))
#define PAGE(index) (*(volatile uint64_t *)(SCRATCH + 0x400000 + (index)*0x3000ull))
#define PAGES       20u

#define CR4_OSXSAVE (1u << 18)
#define ECX_XSAVE   (1u << 26)
#define ECX_AVX     (1u << 28)

static volatile uint64_t ticks;
static volatile bool waits;

static volatile uint32_t *apic(unsigned offset)
{
    return (volatile uint32_t *)(SCRATCH + offset);
}

static bool bit_of(unsigned registers, unsigned vector)
{
    return *apic(registers + vector / 32 * 16) >> vector % 32 & 1;
}

static void wait_for_gate(uint64_t value)
{
    while (GATE != value)
        __asm__ volatile("pause");
}

static void wait_in_service(void)
{
    waits = false;
    while (!bit_of(0x200, VECTOR)) // requested again
        __asm__ volatile("pause");
    print("in the middle\n");
    wait_for_gate(1);
    for (unsigned i = 0; i < PAGES; i++)
        PAGE(i) = i;
    print("pages written\n");
    wait_for_gate(2);
    tell("in service", bit_of(0x100, VECTOR));
    tell("requested", bit_of(0x200, VECTOR));
}

static void on_tick(struct trap *trap)
{
    ticks++;
    if (waits)
        wait_in_service();
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

static uint32_t read_xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

// Where there are registers of 256 bits and they stay (KVM in QEMU's TCG forgets XCR0 at the next exit, see tests/kvm/bed_init).
static bool has_wide_vectors(void)
{
    uint32_t features = cpuid(1, 0).ecx;
    if (!(features & ECX_XSAVE) || !(features & ECX_AVX))
        return false;
    write_cr4(read_cr4() | CR4_OSXSAVE);
    __asm__ volatile("xsetbv" : : "a"(7), "d"(0), "c"(0));
    inb(0x80);
    return read_xcr0() == 7;
}

// Rounding: x87 towards zero, SSE up.
static void prepare_registers(uint64_t x, bool wide)
{
    static const uint16_t control = 0xF7F;
    static const uint32_t mxcsr = 0x5F80;
    __asm__ volatile("fninit; fldcw %1; ldmxcsr %2; fldpi; movq %0, %%xmm5; pxor %%xmm6, %%xmm6"
                     :
                     : "r"(x), "m"(control), "m"(mxcsr)
                     : "memory");
    if (wide)
        __asm__ volatile("vpcmpeqd %%xmm9, %%xmm9, %%xmm9; vinsertf128 $1, %%xmm5, %%ymm9, %%ymm10"
                         :
                         :
                         : "memory");
}

static void tell_registers(bool wide)
{
    uint64_t vector, upper = 0;
    int64_t pi, third;
    uint64_t ten = 10, three = 3;
    __asm__ volatile("movq %%xmm6, %0" : "=r"(vector));
    __asm__ volatile("fistpll %0" : "=m"(pi));
    __asm__ volatile(
        "cvtsi2sd %1, %%xmm0; cvtsi2sd %2, %%xmm1; divsd %%xmm1, %%xmm0; cvtsd2si %%xmm0, %0"
        : "=r"(third)
        : "r"(ten), "r"(three));
    if (wide)
        __asm__ volatile("vextractf128 $1, %%ymm10, %%xmm0; movq %%xmm0, %0" : "=r"(upper));
    tell("vector", vector);
    tell("upper half", upper);
    tell("pi", (uint64_t)pi);
    tell("third", (uint64_t)third);
}

void guest(void)
{
    uint64_t *words = (uint64_t *)(SCRATCH + 0x200000);
    uint64_t x = 0x9E3779B97F4A7C15ull, sum = 0;
    bool wide = has_wide_vectors();
    tell("wide", wide);
    start_timer();
    prepare_registers(x, wide);
    for (unsigned i = 0; i < ROUNDS; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        words[x % WORDS] += x;
        sum += words[(x >> 20) % WORDS];
        __asm__ volatile("paddq %%xmm5, %%xmm6" : : : "memory");
        if (i == MIDDLE) {
            waits = true;
            while (waits || GATE != 2)
                __asm__ volatile("pause");
        }
        if (i == LATER)
            print("further on\n");
    }
    __asm__ volatile("cli");
    tell("x", x);
    tell("sum", sum);
    tell_registers(wide);
    tell("ticked", ticks > 1);
    finish(0);
}
