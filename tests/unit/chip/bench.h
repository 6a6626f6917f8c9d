// SPDX-License-Identifier: Apache-2.0
//
// What a chip stands on in these tests: two buses, a deterministic clock, and an interrupt
// controller that notes levels, edges and messages.
#ifndef WIRT_TESTS_UNIT_CHIP_BENCH_H
#define WIRT_TESTS_UNIT_CHIP_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "machine/chip/chip.h"
#include "machine/device/bus.h"
#include "machine/device/irq.h"
#include "machine/device/vm_clock.h"

struct bench {
    struct bus *ports, *mmio;
    struct vm_clock *clock;
    struct irq_controller irqs;
    bool level[IRQ_LINES];
    unsigned edges[IRQ_LINES]; // rising
    unsigned messages;
    uint64_t message_address;
    uint32_t message_data;
    unsigned power_offs, resets, exits, panics;
    uint32_t exit_value;
    struct err err;
};

static inline void bench_set_line(void *context, unsigned line, bool level)
{
    struct bench *b = context;
    assert_true(line < IRQ_LINES);
    b->edges[line] += level && !b->level[line];
    b->level[line] = level;
}

static inline void bench_send_msi(void *context, uint64_t address, uint32_t data)
{
    struct bench *b = context;
    b->messages++;
    b->message_address = address;
    b->message_data = data;
}

static inline void bench_power_off(void *context)
{
    ((struct bench *)context)->power_offs++;
}

static inline void bench_reset(void *context)
{
    ((struct bench *)context)->resets++;
}

static inline void bench_exit(void *context, uint32_t value)
{
    struct bench *b = context;
    b->exits++;
    b->exit_value = value;
}

static inline void bench_panicked(void *context, bool crash_handled)
{
    ((struct bench *)context)->panics++;
}

static inline struct machine_events bench_events(struct bench *b)
{
    static const struct machine_events_ops ops = {bench_power_off, bench_reset, bench_exit,
                                                  bench_panicked};
    return (struct machine_events){&ops, b};
}

static inline struct irq_line bench_irq(struct bench *b, unsigned line)
{
    return (struct irq_line){&b->irqs, line};
}

static inline void bench_init(struct bench *b)
{
    static const struct irq_controller_ops ops = {.set_line = bench_set_line,
                                                  .send_msi = bench_send_msi};
    *b = (struct bench){.irqs = {&ops, b}};
    b->ports = bus_create(BUS_PORT);
    b->mmio = bus_create(BUS_MMIO);
    b->clock = vm_clock_create(true, 1000000000, NULL, NULL);
}

static inline void bench_fini(struct bench *b)
{
    vm_clock_destroy(b->clock);
    bus_destroy(b->ports);
    bus_destroy(b->mmio);
}

// Let `ns` of guest time pass; timers run at their exact time.
static inline void bench_pass(struct bench *b, uint64_t ns)
{
    uint64_t end = vm_clock_now_ns(b->clock) + ns;
    for (;;) {
        uint64_t next = vm_clock_next_deadline_ns(b->clock), now = vm_clock_now_ns(b->clock);
        if (next > end)
            break;
        if (next > now)
            vm_clock_advance(b->clock, next - now);
        vm_clock_run_timers(b->clock);
    }
    vm_clock_advance(b->clock, end - vm_clock_now_ns(b->clock));
}

static inline uint32_t in(struct bench *b, uint16_t port, unsigned size)
{
    uint64_t value;
    bus_read(b->ports, port, size, &value);
    return (uint32_t)value;
}

static inline void out(struct bench *b, uint16_t port, uint32_t value, unsigned size)
{
    bus_write(b->ports, port, value, size);
}

static inline uint8_t inb(struct bench *b, uint16_t port)
{
    return (uint8_t)in(b, port, 1);
}

static inline void outb(struct bench *b, uint16_t port, uint8_t value)
{
    out(b, port, value, 1);
}

static inline uint64_t mmio_in(struct bench *b, uint64_t address, unsigned size)
{
    uint64_t value;
    bus_read(b->mmio, address, size, &value);
    return value;
}

static inline void mmio_out(struct bench *b, uint64_t address, uint64_t value, unsigned size)
{
    bus_write(b->mmio, address, value, size);
}

#endif
