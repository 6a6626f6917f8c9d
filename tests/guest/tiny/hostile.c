// SPDX-License-Identifier: Apache-2.0
//
// Writes and reads at random, by two CPUs at once: ports, devices' memory, PCI configuration space. Interrupts are off.
// Left out are what would end the machine or this CPU, as they should, and the serial port, by
// which the guest tells that it is still there.
#include "tiny.h"

#ifndef FACTOR
#define FACTOR 20 // of `make soak` more, where an access takes a tenth of a millisecond less
#endif

enum { PORT_ROUNDS = 3000 * FACTOR, MMIO_ROUNDS = 3000 * FACTOR, CONFIG_ROUNDS = 1000 * FACTOR };

// A CPU's own stream of numbers.
struct source {
    uint64_t state;
};

static uint32_t random32(struct source *source)
{
    source->state = source->state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(source->state >> 32);
}

static uint64_t device_pages[512] __attribute__((aligned(4096)));

static void map_devices(void)
{
    uint64_t *directories = (uint64_t *)(page_map[0] & ~0xFFFull);
    for (uint64_t i = 0; i < 512; i++)
        device_pages[i] = (0xC0000000ull + (i << 21)) | 0x93;
    directories[3] = (uint64_t)device_pages | 3;
}

static void out(uint16_t port, uint32_t value, unsigned size)
{
    if (size == 1)
        __asm__ volatile("outb %b0, %1" : : "a"(value), "Nd"(port));
    else if (size == 2)
        __asm__ volatile("outw %w0, %1" : : "a"(value), "Nd"(port));
    else
        __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static void in(uint16_t port, unsigned size)
{
    uint32_t value;
    if (size == 1)
        __asm__ volatile("inb %1, %b0" : "=a"(value) : "Nd"(port));
    else if (size == 2)
        __asm__ volatile("inw %1, %w0" : "=a"(value) : "Nd"(port));
    else
        __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
}

static bool touches(uint32_t port, unsigned size, uint32_t first, uint32_t last)
{
    return port <= last && port + size > first;
}

static bool forbidden(uint32_t port, unsigned size)
{
    return touches(port, size, 0xF4, 0xF7) ||   // debug exit
           touches(port, size, 0x60, 0x64) ||   // keyboard controller: reset
           touches(port, size, 0x92, 0x92) ||   // fast reset
           touches(port, size, 0xCF9, 0xCF9) || // reset control
           touches(port, size, 0x604, 0x605) || // sleep
           touches(port, size, 0x505, 0x505) || // panic
           touches(port, size, 0x3F8, 0x3FF) || // our voice
           touches(port, size, 0xE9, 0xE9) || touches(port, size, 0x402, 0x402);
}

static void random_ports(struct source *source)
{
    // Half of the accesses go to where something is.
    static const uint16_t inhabited[] = {0x20,  0x21,   0xA0,   0xA1,   0x4D0, 0x40,  0x42,
                                         0x43,  0x61,   0x70,   0x71,   0x510, 0x511, 0x514,
                                         0x518, 0x600,  0x602,  0x608,  0x620, 0x622, 0xCF8,
                                         0xCFC, 0xAE00, 0xAE04, 0xAE08, 0xAE0C};
    for (unsigned i = 0; i < PORT_ROUNDS; i++) {
        uint32_t r = random32(source), value = random32(source);
        unsigned size = 1u << (r % 3);
        uint16_t port = (uint16_t)(r >> 16);
        if (r & 0x100)
            port = inhabited[port % (sizeof(inhabited) / sizeof(inhabited[0]))];
        if (r & 0x200)
            in(port, size);
        else if (!forbidden(port, size))
            out(port, value, size);
    }
}

static void access(uint64_t address, uint64_t value, unsigned kind)
{
    switch (kind % 8) {
    case 0:
        *(volatile uint8_t *)address = (uint8_t)value;
        break;
    case 1:
        *(volatile uint16_t *)address = (uint16_t)value;
        break;
    case 2:
        *(volatile uint32_t *)address = (uint32_t)value;
        break;
    case 3:
        *(volatile uint64_t *)address = value;
        break;
    case 4:
        (void)*(volatile uint8_t *)address;
        break;
    case 5:
        (void)*(volatile uint16_t *)address;
        break;
    case 6:
        (void)*(volatile uint32_t *)address;
        break;
    case 7:
        (void)*(volatile uint64_t *)address;
        break;
    }
}

static void random_memory(struct source *source)
{
    for (unsigned i = 0; i < MMIO_ROUNDS; i++) {
        uint32_t r = random32(source);
        uint64_t value = (uint64_t)random32(source) << 32 | random32(source);
        uint64_t address = 0xC0000000ull + r % 0x3FF00000u; // not the firmware's end
        if (r & 1)
            address = 0xFED00000ull + r / 2 % 0x400; // HPET
        else if (r & 2)
            address = 0xFEC00000ull + r / 4 % 0x48; // I/O APIC
        if (address >= 0xFEE00000ull - 8 && address < 0xFEE01000ull)
            continue; // the local APIC can stop this CPU
        // Redirection entries send fixed interrupts, not INIT or NMI.
        if ((address & 0xFFFFF000ull) == 0xFEC00000ull)
            value &= ~0x0700070007000700ull & ~0x0007000700070007ull;
        access(address, value, random32(source) >> 5);
    }
}

static void random_configuration(struct source *source)
{
    for (unsigned i = 0; i < CONFIG_ROUNDS; i++) {
        uint32_t r = random32(source), value = random32(source);
        uint32_t slot = r % 32, offset = r >> 8 & 0xFC;
        if (r & 0x10000) {
            out(0xCF8, 0x80000000u | slot << 11 | offset, 4);
            out((uint16_t)(0xCFC + (r >> 20 & 3)), value, 1);
        } else {
            access(0xE0000000ull + (slot << 15) + (r >> 8 & 0xFFF), value, r >> 24);
        }
        // Devices must not become masters: their queues would write over this code.
        if (offset == 4 || (i & 15) == 0) {
            for (uint32_t s = 0; s < 32; s++) {
                out(0xCF8, 0x80000000u | s << 11 | 4, 4);
                out(0xCFC, value & 3, 2);
            }
        }
    }
}

// ---- The second CPU does the same with other numbers.

#define LAPIC_ICR  0xFEE00300ull
#define TRAMPOLINE 0x8000u
enum { ICR_INIT = 0xC4500, ICR_STARTUP = 0xC4600 }; // to all others

extern const uint8_t ap_start[], ap_start_end[];
void ap_main(void);

static volatile unsigned stage, stages_done;

static void run_stage(unsigned number, struct source *source)
{
    if (number == 1)
        random_ports(source);
    else if (number == 3)
        random_configuration(source);
    else
        random_memory(source);
}

void ap_main(void)
{
    struct source source = {987654321};
    for (unsigned number = 1;; number++) {
        while (stage < number)
            __asm__ volatile("pause");
        run_stage(number, &source);
        stages_done = number;
    }
}

static void pause_long(void)
{
    for (unsigned i = 0; i < 20000; i++)
        __asm__ volatile("pause");
}

static void start_other(void)
{
    memcpy((void *)(uint64_t)TRAMPOLINE, ap_start, (size_t)(ap_start_end - ap_start));
    *(volatile uint32_t *)LAPIC_ICR = ICR_INIT;
    pause_long();
    *(volatile uint32_t *)LAPIC_ICR = ICR_STARTUP | TRAMPOLINE >> 12;
}

void guest(void)
{
    static const char *const names[] = {"ports", "memory", "configuration",
                                        "memory with moved BARs"};
    struct source source = {20240101};
    map_devices();
    *(volatile uint32_t *)0xFEE000F0ull = 0x1FF;
    start_other();
    for (unsigned number = 1; number <= 4; number++) {
        stage = number;
        run_stage(number, &source);
        while (stages_done < number)
            __asm__ volatile("pause");
        print(names[number - 1]);
        print(": survived\n");
    }
    finish(0);
}
