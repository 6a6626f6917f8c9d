// SPDX-License-Identifier: Apache-2.0
//
// The ways of an interrupt from a chip to the CPU: through the 8259s and LINT0, through the I/O
// APIC by edge and by level, by the HPET's legacy replacement and by its message; and what the
// counters say of each other.
#include "tiny.h"

#define IOAPIC 0xFEC00000ull
#define HPET   0xFED00000ull
#define LAPIC  0xFEE00000ull

enum { COM1 = 0x3F8, COM1_IER = COM1 + 1, COM1_IIR = COM1 + 2, COM1_MCR = COM1 + 4 };
enum { PIC1 = 0x20, PIC2 = 0xA0 };
enum { LAPIC_TPR = 0x80, LAPIC_EOI = 0xB0, LAPIC_SPURIOUS = 0xF0, LAPIC_LINT0 = 0x350 };
enum {
    VECTOR_PIC = 0x20,
    VECTOR_TIMER = 0x40,
    VECTOR_SERIAL = 0x41,
    VECTOR_CLOCK = 0x42,
    VECTOR_MESSAGE = 0x43
};
enum { EXTINT = 0x700, MASKED = 0x10000, LEVEL = 0x8000, REMOTE_IRR = 0x4000 };

static volatile unsigned seen[256];
static volatile unsigned level_rounds;
static volatile uint64_t entry_in_handler;
static bool by_apic;

// 3 GiB to 4 GiB, uncached: where the devices are.
static uint64_t device_pages[512] __attribute__((aligned(4096)));

static void map_devices(void)
{
    uint64_t *directories = (uint64_t *)(page_map[0] & ~0xFFFull);
    for (uint64_t i = 0; i < 512; i++)
        device_pages[i] = (0xC0000000ull + (i << 21)) | 0x93; // present, writable, uncached, large
    directories[3] = (uint64_t)device_pages | 3;
}

static volatile uint32_t *mmio(uint64_t address)
{
    return (volatile uint32_t *)address;
}

static uint32_t ioapic_get(uint32_t reg)
{
    *mmio(IOAPIC) = reg;
    return *mmio(IOAPIC + 0x10);
}

static void ioapic_set(uint32_t reg, uint32_t value)
{
    *mmio(IOAPIC) = reg;
    *mmio(IOAPIC + 0x10) = value;
}

static void route(unsigned input, uint32_t low)
{
    ioapic_set(0x10 + 2 * input + 1, 0); // to APIC id 0
    ioapic_set(0x10 + 2 * input, low);
}

static void end_of_interrupt(uint64_t vector)
{
    if (by_apic) {
        *mmio(LAPIC + LAPIC_EOI) = 0;
        return;
    }
    if (vector >= VECTOR_PIC + 8)
        outb(PIC2, 0x20);
    outb(PIC1, 0x20);
}

static void clock_acknowledge(void)
{
    outb(0x70, 0x0C);
    inb(0x71);
}

static void on_interrupt(struct trap *trap)
{
    seen[trap->vector]++;
    if (trap->vector == VECTOR_PIC + 4 || trap->vector == VECTOR_SERIAL)
        inb(COM1_IIR); // the transmitter's interrupt goes with this
    if (trap->vector == VECTOR_PIC + 8 || trap->vector == VECTOR_CLOCK)
        clock_acknowledge();
    end_of_interrupt(trap->vector);
}

// Leaves the line up the first time: the interrupt comes again after its end.
static void on_level(struct trap *trap)
{
    seen[trap->vector]++;
    entry_in_handler = ioapic_get(0x10 + 2 * 4);
    if (++level_rounds == 2)
        inb(COM1_IIR);
    end_of_interrupt(trap->vector);
}

// Wait with interrupts on until the vector was seen `times` more.
static void await(uint8_t vector, unsigned times)
{
    unsigned until = seen[vector] + times;
    while (seen[vector] < until)
        __asm__ volatile("sti; hlt; cli" : : : "memory");
}

// Take what is pending, and go on.
static void take_pending(void)
{
    __asm__ volatile("sti; nop; nop; cli" : : : "memory");
}

static void start_pit(unsigned mode, unsigned count)
{
    outb(0x43, (uint8_t)(0x30 | mode << 1));
    outb(0x40, (uint8_t)count);
    outb(0x40, (uint8_t)(count >> 8));
}

static void stop_pit(void)
{
    outb(0x43, 0x30); // mode 0 without a count
}

static void start_clock(void)
{
    outb(0x70, 0x0A);
    outb(0x71, 0x26); // 1024 Hz
    outb(0x70, 0x0B);
    outb(0x71, 0x42);
    clock_acknowledge();
}

static void stop_clock(void)
{
    outb(0x70, 0x0B);
    outb(0x71, 0x02);
    clock_acknowledge();
}

static void start_serial(void)
{
    outb(COM1_MCR, 0x0B); // OUT2
    outb(COM1_IER, 0);
    outb(COM1_IER, 2); // the transmitter is empty
}

static void stop_serial(void)
{
    outb(COM1_IER, 0);
}

static void through_the_pic(void)
{
    static const uint16_t ports[2] = {PIC1, PIC2};
    for (unsigned i = 0; i < 2; i++) {
        outb(ports[i], 0x11);
        outb(ports[i] + 1, VECTOR_PIC + 8 * i);
        outb(ports[i] + 1, i ? 2 : 4);
        outb(ports[i] + 1, 1);
    }
    outb(PIC1 + 1, (uint8_t) ~(1 << 0 | 1 << 2 | 1 << 4));
    outb(PIC2 + 1, (uint8_t) ~(1 << 0));
    *mmio(LAPIC + LAPIC_SPURIOUS) = 0x1FF;
    *mmio(LAPIC + LAPIC_TPR) = 0;
    *mmio(LAPIC + LAPIC_LINT0) = EXTINT;
    start_pit(2, 2000);
    await(VECTOR_PIC, 3);
    stop_pit();
    print("8259: the timer interrupts\n");
    start_clock();
    await(VECTOR_PIC + 8, 3);
    stop_clock();
    print("8259: the clock interrupts through the cascade\n");
    start_serial();
    await(VECTOR_PIC + 4, 1);
    stop_serial();
    tell("8259: serial interrupts", seen[VECTOR_PIC + 4]);
    *mmio(LAPIC + LAPIC_LINT0) = EXTINT | MASKED;
    unsigned before = seen[VECTOR_PIC + 4];
    start_serial();
    take_pending();
    stop_serial();
    tell("8259: seen with LINT0 masked", seen[VECTOR_PIC + 4] - before);
    outb(PIC1 + 1, 0xFF);
    outb(PIC2 + 1, 0xFF);
}

static void by_edges(void)
{
    by_apic = true;
    route(2, VECTOR_TIMER);
    route(4, VECTOR_SERIAL);
    route(8, VECTOR_CLOCK);
    start_pit(2, 2000);
    await(VECTOR_TIMER, 3);
    stop_pit();
    print("I/O APIC: the timer interrupts at input 2\n");
    start_clock();
    await(VECTOR_CLOCK, 3);
    stop_clock();
    print("I/O APIC: the clock interrupts\n");
    start_serial();
    await(VECTOR_SERIAL, 1);
    stop_serial();
    tell("I/O APIC: serial interrupts", seen[VECTOR_SERIAL]);
    start_pit(0, 100);
    await(VECTOR_TIMER, 1);
    print("I/O APIC: terminal count interrupts\n");
    route(2, VECTOR_TIMER | MASKED);
}

// What is printed raises the serial interrupt again, so everything is noted first.
static void by_level(void)
{
    set_handler(VECTOR_SERIAL, on_level);
    route(4, VECTOR_SERIAL | LEVEL);
    start_serial();
    await(VECTOR_SERIAL, 2);
    take_pending();
    unsigned rounds = level_rounds;
    uint32_t entry_afterwards = ioapic_get(0x10 + 2 * 4);
    stop_serial();
    tell("level: rounds until the line fell", rounds);
    tell("level: remote IRR in the handler", (entry_in_handler & REMOTE_IRR) != 0);
    tell("level: remote IRR afterwards", (entry_afterwards & REMOTE_IRR) != 0);

    route(4, VECTOR_SERIAL | LEVEL | MASKED);
    level_rounds = 1;
    start_serial();
    take_pending();
    rounds = level_rounds - 1;
    route(4, VECTOR_SERIAL | LEVEL);
    take_pending();
    unsigned unmasked = level_rounds - 1;
    stop_serial();
    tell("level: rounds while masked", rounds);
    tell("level: rounds when unmasked", unmasked);
    route(4, MASKED);
}

static void by_the_hpet(void)
{
    uint32_t tick_fs = *mmio(HPET + 4);
    uint32_t ms = (uint32_t)(1000000000000ull / tick_fs);
    route(2, VECTOR_TIMER);
    *mmio(HPET + 0x10) = 0;
    *mmio(HPET + 0xF0) = 0;
    *mmio(HPET + 0xF4) = 0;
    *mmio(HPET + 0x100) = 0x14C; // timer 0: enabled, periodic, value follows, 32 bits
    *mmio(HPET + 0x108) = ms;
    *mmio(HPET + 0x108) = ms;
    *mmio(HPET + 0x10) = 3; // on, legacy replacement
    await(VECTOR_TIMER, 5);
    *mmio(HPET + 0x100) = 0;
    print("HPET: periodic, in place of the timer\n");
    *mmio(HPET + 0x10) = 1;
    if (*mmio(HPET + 0x120) & 0x8000) {
        *mmio(HPET + 0x130) = VECTOR_MESSAGE;
        *mmio(HPET + 0x134) = (uint32_t)LAPIC;
        *mmio(HPET + 0x120) = 0x4104; // timer 1: enabled, message, 32 bits
        *mmio(HPET + 0x128) = *mmio(HPET + 0xF0) + ms;
        await(VECTOR_MESSAGE, 1);
        *mmio(HPET + 0x120) = 0;
        tell("HPET: messages", seen[VECTOR_MESSAGE]);
    } else {
        print("HPET: no messages here\n");
    }
    *mmio(HPET + 0x10) = 0;
}

static uint32_t pm_timer(void)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"((uint16_t)0x608));
    return value & 0xFFFFFF;
}

// 10 ms of counter 2, as kernels calibrate: no fewer ticks of the PM timer have passed, and not a
// hundred times as many.
static void clocks_agree(void)
{
    outb(0x61, (uint8_t)((inb(0x61) & ~3) | 1));
    outb(0x43, 0xB0);
    outb(0x42, 11932 & 0xFF);
    uint32_t start = pm_timer();
    outb(0x42, 11932 >> 8);
    while (!(inb(0x61) & 0x20))
        ;
    uint32_t passed = (pm_timer() - start) & 0xFFFFFF;
    tell("10 ms of counter 2 are 10 ms of the PM timer", passed >= 35795 - 40 && passed < 3579500);
}

void guest(void)
{
    for (unsigned vector = 0x20; vector < 0x50; vector++)
        set_handler((uint8_t)vector, on_interrupt);
    map_devices();
    if (rdmsr(0x1B) & 0x400) { // x2APIC: this guest speaks to the page
        print("the APIC starts in x2APIC mode\n");
        finish(1);
    }
    through_the_pic();
    by_edges();
    by_level();
    by_the_hpet();
    clocks_agree();
    finish(0);
}
