// SPDX-License-Identifier: Apache-2.0
//
// A guest that does what its user types: a letter on the serial port, and it ends in one of the ways in which a machine can end, or shows
// one thing to whoever watches (status_test.py, watch_test.py, gdb_test.py).
#include "tiny.h"

enum { DEBUG_CONSOLE = 0xE9, CF9 = 0xCF9, I8042 = 0x64, PVPANIC = 0x505, PM1_CONTROL = 0x604 };
enum { SERIAL = 0x3F8, SERIAL_STATUS = SERIAL + 5, DATA_READY = 1, LAPIC_ICR = 0x830 };
enum { VECTOR = 0x61 };

#define UNMAPPED 0x7f0000000000 // no table leads there

// For a debugger: a variable that changes at known places.
struct {
    uint64_t before, value, after;
} watched;

static volatile unsigned interrupts;

static void outw(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static void touch(void *argument)
{
    *(volatile uint8_t *)argument = 1;
}

static void undefined(void *argument)
{
    __asm__ volatile("ud2");
}

static void interrupted(struct trap *trap)
{
    interrupts++;
    (void)trap;
    wrmsr(0x80B, 0); // end of interrupt
}

// One of each: a port, a fault by address, an exception, an interrupt.
static void show(void)
{
    outb(DEBUG_CONSOLE, 'w');
    TELL_CATCH("touch", touch, (void *)UNMAPPED);
    TELL_CATCH("undefined", undefined, NULL);
    set_handler(VECTOR, interrupted);
    wrmsr(0x1B, rdmsr(0x1B) | 0xC00); // x2APIC
    wrmsr(0x80F, 0x1FF);              // on
    wrmsr(LAPIC_ICR, 0x40000 | VECTOR);
    __asm__ volatile("sti; nop; nop; cli");
    tell("interrupts", interrupts);
}

__attribute__((noinline)) void write_watched(uint64_t value)
{
    watched.value = value;
}

__attribute__((noinline)) uint64_t read_watched(void)
{
    return *(volatile uint64_t *)&watched.value;
}

static void be_debugged(void)
{
    for (uint64_t i = 1; i <= 5; i++)
        write_watched(i * 0x1111);
    tell("watched", read_watched());
}

static void triple_fault(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) none = {0, 0};
    __asm__ volatile("lidt %0; ud2" : : "m"(none));
}

static char next(void)
{
    while (!(inb(SERIAL_STATUS) & DATA_READY))
        continue;
    return (char)inb(SERIAL);
}

static void obey(char letter)
{
    switch (letter) {
    case 'x':
        finish(21);
    case 'o':
        outw(PM1_CONTROL, 5 << 10 | 1 << 13);
        break;
    case 'r':
        outb(CF9, 6);
        break;
    case 'k':
        outb(I8042, 0xFE);
        break;
    case 't':
        triple_fault();
        break;
    case 'p':
        outb(PVPANIC, 1);
        break;
    case 'w':
        show();
        break;
    case 'd':
        be_debugged();
        break;
    default:
        break;
    }
}

void guest(void)
{
    print("what now?\n");
    for (;;)
        obey(next());
}
