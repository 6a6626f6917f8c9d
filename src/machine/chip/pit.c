// SPDX-License-Identifier: Apache-2.0
//
// Nothing ticks here. Each counter notes the guest time at which it was (re)started; how far it has
// counted, its output and the value that a read gives follow from the time now. Only counter 0 has
// a timer: for the next rising edge of its output.
//
// Where this differs from the chip: a new count takes effect at once in modes 2 and 3 too, not at the
// end of the cycle, and the clock that loads the counting element is not counted. Interrupts of a
// periodic counter come at most every MIN_PERIOD_NS. Those that the host was late for, up to a
// second's worth, are made up at twice the rate: a guest that has no better clock counts them.
#include "machine/chip/pit.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/bits.h"

#define PORT_COUNTERS 0x40u
#define PORT_SYSTEM   0x61u
#define COUNTERS      3u
#define SPEAKER       2u
#define MIN_PERIOD_NS 100000u
#define NS_PER_SECOND 1000000000u
#define REFRESH_NS    15085u // bit 4 of port 0x61 toggles

enum {
    CONTROL_BCD = 1 << 0,
    CONTROL_READ_BACK = 3,
    READ_BACK_NO_STATUS = 1 << 4,
    READ_BACK_NO_COUNT = 1 << 5
};
enum access { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH, ACCESS_COUNT };
enum { STATUS_OUT = 1 << 7, STATUS_NULL = 1 << 6 };
enum {
    SYSTEM_GATE2 = 1 << 0,
    SYSTEM_SPEAKER = 1 << 1,
    SYSTEM_REFRESH = 1 << 4,
    SYSTEM_OUT2 = 1 << 5
};

enum mode {
    MODE_TERMINAL,
    MODE_ONE_SHOT,
    MODE_RATE,
    MODE_SQUARE,
    MODE_SW_STROBE,
    MODE_HW_STROBE,
    MODE_COUNT
};

struct counter {
    uint8_t mode;   // enum mode
    uint8_t access; // enum access, never LATCH
    uint8_t low;    // the first byte of two that are written
    bool bcd, gate;
    bool write_high, read_high; // the next byte of two
    bool loaded;                // has a count
    bool running;               // start_ns is valid; else it stands at held_ticks
    bool count_latched, status_latched;
    uint8_t latched_status;
    uint16_t latched_count;
    uint32_t count;    // 1 to 65536
    uint64_t start_ns; // guest time of tick 0
    uint64_t held_ticks;
};

struct pit {
    // Constant.
    struct device device;
    struct bus *ports; // borrowed
    struct bus_range counters_range, system_range;
    struct vm_clock *clock; // borrowed
    struct irq_line irq;
    // Under the lock.
    pthread_mutex_t lock;
    struct vm_timer timer; // counter 0's next edge
    struct counter counters[COUNTERS];
    uint64_t edges; // that a periodic counter 0 has shown since its start
    bool speaker;
    bool disconnected;
};

static uint64_t ns_to_ticks(uint64_t ns)
{
    return (uint64_t)((unsigned __int128)ns * PIT_HZ / NS_PER_SECOND);
}

// Rounded up: at that time the tick has come.
static uint64_t ticks_to_ns(uint64_t ticks)
{
    return (uint64_t)(((unsigned __int128)ticks * NS_PER_SECOND + PIT_HZ - 1) / PIT_HZ);
}

static uint64_t elapsed(const struct counter *c, uint64_t now)
{
    if (!c->running)
        return c->held_ticks;
    return now > c->start_ns ? ns_to_ticks(now - c->start_ns) : 0;
}

static bool output(const struct counter *c, uint64_t now)
{
    uint64_t ticks = elapsed(c, now);
    switch ((enum mode)c->mode) {
    case MODE_TERMINAL:
        return c->loaded && ticks >= c->count;
    case MODE_ONE_SHOT:
        return !c->running || ticks >= c->count;
    case MODE_RATE:
        return !c->running || ticks % c->count != c->count - 1;
    case MODE_SQUARE:
        return !c->running || ticks % c->count < (c->count + 1) / 2;
    case MODE_SW_STROBE:
    case MODE_HW_STROBE:
        return !c->running || ticks != c->count;
    case MODE_COUNT:
        break;
    }
    return true;
}

static uint16_t to_bcd(uint32_t n)
{
    n %= 10000;
    return (uint16_t)(n / 1000 << 12 | n / 100 % 10 << 8 | n / 10 % 10 << 4 | n % 10);
}

static uint32_t from_bcd(uint16_t bcd)
{
    return (bcd >> 12) * 1000u + (bcd >> 8 & 15) * 100u + (bcd >> 4 & 15) * 10u + (bcd & 15u);
}

// The counting element as a read sees it.
static uint16_t current_count(const struct counter *c, uint64_t now)
{
    uint64_t ticks = elapsed(c, now), count = c->count, modulus = c->bcd ? 10000 : 0x10000;
    uint64_t value;
    if (c->mode == MODE_RATE)
        value = count - ticks % count;
    else if (c->mode == MODE_SQUARE && count > 1) // counts by twos, twice in a period
        value = (count & ~1ull) - 2 * ticks % (count & ~1ull);
    else // goes on below zero
        value = modulus + count % modulus - ticks % modulus;
    value %= modulus;
    return c->bcd ? to_bcd((uint32_t)value) : (uint16_t)value;
}

// ---- Counter 0's interrupt

static bool periodic(const struct counter *c)
{
    return c->mode == MODE_RATE || c->mode == MODE_SQUARE;
}

// Edges that a periodic counter owes the guest: at most a second's worth, and never less than none.
static uint64_t edges_owed(struct pit *pit, uint64_t now)
{
    const struct counter *c = &pit->counters[0];
    uint64_t due = elapsed(c, now) / c->count, limit = PIT_HZ / c->count + 1;
    if (pit->edges > due)
        pit->edges = due;
    if (due - pit->edges > limit)
        pit->edges = due - limit;
    return due - pit->edges;
}

static uint64_t periodic_deadline(struct pit *pit, uint64_t now)
{
    const struct counter *c = &pit->counters[0];
    uint64_t period_ns = ticks_to_ns(c->count);
    uint64_t owed = edges_owed(pit, now);
    if (period_ns < MIN_PERIOD_NS)
        return now + MIN_PERIOD_NS;
    if (!owed)
        return c->start_ns + ticks_to_ns((pit->edges + 1) * c->count);
    return now + (period_ns / 2 < MIN_PERIOD_NS ? MIN_PERIOD_NS : period_ns / 2);
}

// When the output of counter 0 rises next.
static uint64_t next_edge_ns(struct pit *pit, uint64_t now)
{
    const struct counter *c = &pit->counters[0];
    uint64_t ticks = elapsed(c, now), strobe_ends = c->count + 1ull;
    if (!c->running)
        return VM_CLOCK_NEVER;
    switch ((enum mode)c->mode) {
    case MODE_TERMINAL:
        return ticks < c->count ? c->start_ns + ticks_to_ns(c->count) : VM_CLOCK_NEVER;
    case MODE_RATE:
    case MODE_SQUARE:
        return periodic_deadline(pit, now);
    case MODE_SW_STROBE:
        return ticks < strobe_ends ? c->start_ns + ticks_to_ns(strobe_ends) : VM_CLOCK_NEVER;
    case MODE_ONE_SHOT: // its gate never rises
    case MODE_HW_STROBE:
    case MODE_COUNT:
        break;
    }
    return VM_CLOCK_NEVER;
}

static void arm(struct pit *pit, uint64_t now)
{
    vm_timer_arm(&pit->timer, next_edge_ns(pit, now));
}

// The low part of a period is never shown on the line: only its rising edge matters.
static void drive(struct pit *pit, uint64_t now)
{
    const struct counter *c = &pit->counters[0];
    irq_set(&pit->irq, !pit->disconnected && (periodic(c) || output(c, now)));
    arm(pit, now);
}

static void edge_reached(void *context)
{
    struct pit *pit = context;
    pthread_mutex_lock(&pit->lock);
    uint64_t now = vm_clock_now_ns(pit->clock);
    const struct counter *c = &pit->counters[0];
    // Counter and timer may have been changed between the timer's expiry and the lock: then this is
    // no edge.
    uint64_t ticks = elapsed(c, now);
    bool reached = c->running && (periodic(c) ? edges_owed(pit, now) > 0
                                              : ticks >= c->count + (c->mode == MODE_SW_STROBE));
    if (reached && !pit->disconnected)
        irq_set(&pit->irq, false);
    if (reached)
        pit->edges++;
    drive(pit, now);
    pthread_mutex_unlock(&pit->lock);
}

// ---- Registers

static void load(struct pit *pit, struct counter *c, uint16_t value, uint64_t now)
{
    uint32_t count = c->bcd ? from_bcd(value) : value;
    if (!count)
        count = c->bcd ? 10000 : 0x10000;
    c->count = count;
    c->loaded = true;
    bool triggered = c->mode == MODE_ONE_SHOT || c->mode == MODE_HW_STROBE;
    if (triggered) // waits for the gate, or goes on with the old count until it rises
        return;
    c->held_ticks = 0;
    c->running = c->gate;
    c->start_ns = now;
    if (c == &pit->counters[0]) {
        pit->edges = 0;
        drive(pit, now);
    }
}

static void write_count(struct pit *pit, struct counter *c, uint8_t value, uint64_t now)
{
    switch ((enum access)c->access) {
    case ACCESS_LOW:
        load(pit, c, value, now);
        break;
    case ACCESS_HIGH:
        load(pit, c, (uint16_t)(value << 8), now);
        break;
    case ACCESS_BOTH:
        if (c->write_high)
            load(pit, c, (uint16_t)(value << 8 | c->low), now);
        else
            c->low = value;
        c->write_high = !c->write_high;
        break;
    case ACCESS_LATCH:
    case ACCESS_COUNT:
        break;
    }
}

static void latch_count(struct counter *c, uint64_t now)
{
    if (c->count_latched)
        return;
    c->count_latched = true;
    c->latched_count = current_count(c, now);
}

static void latch_status(struct counter *c, uint64_t now)
{
    if (c->status_latched)
        return;
    c->status_latched = true;
    c->latched_status =
        (uint8_t)((output(c, now) ? STATUS_OUT : 0) | (c->loaded ? 0 : STATUS_NULL) |
                  c->access << 4 | c->mode << 1 | c->bcd);
}

static void write_control(struct pit *pit, uint8_t value, uint64_t now)
{
    unsigned which = value >> 6, access = value >> 4 & 3, mode = value >> 1 & 7;
    if (which == CONTROL_READ_BACK) {
        for (unsigned i = 0; i < COUNTERS; i++) {
            if (!(value & BIT(i + 1)))
                continue;
            if (!(value & READ_BACK_NO_COUNT))
                latch_count(&pit->counters[i], now);
            if (!(value & READ_BACK_NO_STATUS))
                latch_status(&pit->counters[i], now);
        }
        return;
    }
    struct counter *c = &pit->counters[which];
    if (access == ACCESS_LATCH) {
        latch_count(c, now);
        return;
    }
    *c = (struct counter){
        .mode = (uint8_t)(mode >= MODE_COUNT ? mode - 4 : mode), // 6 and 7 are 2 and 3
        .access = (uint8_t)access,
        .bcd = value & CONTROL_BCD,
        .gate = c->gate,
        .count = c->count,
    };
    if (which == 0)
        drive(pit, now);
}

static uint8_t read_count(struct counter *c, uint64_t now)
{
    if (c->status_latched) {
        c->status_latched = false;
        return c->latched_status;
    }
    uint16_t value = c->count_latched ? c->latched_count : current_count(c, now);
    bool high = c->access == ACCESS_HIGH || (c->access == ACCESS_BOTH && c->read_high);
    if (c->access == ACCESS_BOTH)
        c->read_high = !c->read_high;
    if (c->access != ACCESS_BOTH || high)
        c->count_latched = false;
    return (uint8_t)(high ? value >> 8 : value);
}

static uint64_t counters_read(void *device, uint64_t offset, unsigned size)
{
    struct pit *pit = device;
    if (offset == COUNTERS) // the control register cannot be read
        return 0xFF;
    pthread_mutex_lock(&pit->lock);
    uint8_t value = read_count(&pit->counters[offset], vm_clock_now_ns(pit->clock));
    pthread_mutex_unlock(&pit->lock);
    return value;
}

static void counters_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct pit *pit = device;
    pthread_mutex_lock(&pit->lock);
    uint64_t now = vm_clock_now_ns(pit->clock);
    if (offset == COUNTERS)
        write_control(pit, (uint8_t)value, now);
    else
        write_count(pit, &pit->counters[offset], (uint8_t)value, now);
    pthread_mutex_unlock(&pit->lock);
}

// Counter 2's gate, the only one that is wired.
static void set_gate(struct counter *c, bool gate, uint64_t now)
{
    bool rises = gate && !c->gate, falls = !gate && c->gate;
    uint64_t ticks = elapsed(c, now);
    c->gate = gate;
    if (!c->loaded)
        return;
    switch ((enum mode)c->mode) {
    case MODE_TERMINAL:
    case MODE_SW_STROBE: // the gate holds the count
        if (falls)
            c->held_ticks = ticks;
        if (rises)
            c->start_ns = now - ticks_to_ns(ticks);
        if (rises || falls)
            c->running = gate;
        break;
    case MODE_RATE:
    case MODE_SQUARE: // the gate restarts it
        if (falls)
            c->held_ticks = 0;
        if (rises)
            c->start_ns = now;
        if (rises || falls)
            c->running = gate;
        break;
    case MODE_ONE_SHOT:
    case MODE_HW_STROBE: // the gate triggers it
        if (rises) {
            c->start_ns = now;
            c->running = true;
        }
        break;
    case MODE_COUNT:
        break;
    }
}

static uint64_t system_read(void *device, uint64_t offset, unsigned size)
{
    struct pit *pit = device;
    pthread_mutex_lock(&pit->lock);
    uint64_t now = vm_clock_now_ns(pit->clock);
    const struct counter *c = &pit->counters[SPEAKER];
    uint8_t value =
        (uint8_t)((c->gate ? SYSTEM_GATE2 : 0) | (pit->speaker ? SYSTEM_SPEAKER : 0) |
                  (now / REFRESH_NS % 2 ? SYSTEM_REFRESH : 0) | (output(c, now) ? SYSTEM_OUT2 : 0));
    pthread_mutex_unlock(&pit->lock);
    return value;
}

static void system_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct pit *pit = device;
    pthread_mutex_lock(&pit->lock);
    pit->speaker = value & SYSTEM_SPEAKER;
    set_gate(&pit->counters[SPEAKER], value & SYSTEM_GATE2, vm_clock_now_ns(pit->clock));
    pthread_mutex_unlock(&pit->lock);
}

static const struct bus_ops counters_ops = {counters_read, counters_write, 1, 1};
static const struct bus_ops system_ops = {system_read, system_write, 1, 1};

void pit_set_disconnected(struct pit *pit, bool disconnected)
{
    pthread_mutex_lock(&pit->lock);
    if (disconnected != pit->disconnected) {
        if (disconnected)
            irq_set(&pit->irq, false);
        pit->disconnected = disconnected;
    }
    pthread_mutex_unlock(&pit->lock);
}

// ---- The device

#define COUNTER_FIELDS(n)                                                                          \
    FIELD_U8_MAX(struct pit, counters[n].mode, MODE_COUNT - 1),                                    \
        FIELD_RANGE(FIELD_TYPE_U8, struct pit, counters[n].access, 1, ACCESS_LOW, ACCESS_BOTH),    \
        FIELD_U8(struct pit, counters[n].low), FIELD_BOOL(struct pit, counters[n].bcd),            \
        FIELD_BOOL(struct pit, counters[n].gate), FIELD_BOOL(struct pit, counters[n].write_high),  \
        FIELD_BOOL(struct pit, counters[n].read_high), FIELD_BOOL(struct pit, counters[n].loaded), \
        FIELD_BOOL(struct pit, counters[n].running),                                               \
        FIELD_BOOL(struct pit, counters[n].count_latched),                                         \
        FIELD_BOOL(struct pit, counters[n].status_latched),                                        \
        FIELD_U8(struct pit, counters[n].latched_status),                                          \
        FIELD_U16(struct pit, counters[n].latched_count),                                          \
        FIELD_RANGE(FIELD_TYPE_U32, struct pit, counters[n].count, 1, 1, 0x10000),                 \
        FIELD_U64(struct pit, counters[n].start_ns), FIELD_U64(struct pit, counters[n].held_ticks)

static const struct field fields[] = {
    COUNTER_FIELDS(0),
    COUNTER_FIELDS(1),
    COUNTER_FIELDS(2),
    FIELD_U64(struct pit, edges),
    FIELD_BOOL(struct pit, speaker),
    FIELD_BOOL(struct pit, disconnected),
};

static void reset_counters(struct pit *pit)
{
    for (unsigned i = 0; i < COUNTERS; i++)
        pit->counters[i] =
            (struct counter){.access = ACCESS_BOTH, .count = 0x10000, .gate = i != SPEAKER};
    pit->edges = 0;
    pit->speaker = pit->disconnected = false;
}

static void pit_reset(void *device)
{
    struct pit *pit = device;
    pthread_mutex_lock(&pit->lock);
    reset_counters(pit);
    drive(pit, vm_clock_now_ns(pit->clock));
    pthread_mutex_unlock(&pit->lock);
}

static void pit_loaded(void *device)
{
    struct pit *pit = device;
    pthread_mutex_lock(&pit->lock);
    arm(pit, vm_clock_now_ns(pit->clock)); // the line's level is in the controller's state
    pthread_mutex_unlock(&pit->lock);
}

static const struct device_ops pit_device_ops = {
    .kind = "pit",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
    .reset = pit_reset,
    .loaded = pit_loaded,
};

struct pit *pit_create(struct bus *ports, struct vm_clock *clock, struct irq_line irq0,
                       struct err *err)
{
    struct pit *pit = calloc(1, sizeof(*pit));
    if (!pit) {
        err_set(err, ERR_LIMIT, "no memory");
        return NULL;
    }
    pthread_mutex_init(&pit->lock, NULL);
    pit->device = (struct device){.ops = &pit_device_ops, .name = "pit", .self = pit};
    pit->ports = ports;
    pit->clock = clock;
    pit->irq = irq0;
    vm_timer_init(&pit->timer, clock, edge_reached, pit);
    reset_counters(pit);
    pit->counters_range = (struct bus_range){"pit", PORT_COUNTERS, 4, &counters_ops, pit, false, 0};
    pit->system_range =
        (struct bus_range){"system-control-b", PORT_SYSTEM, 1, &system_ops, pit, false, 0};
    if (bus_add(ports, &pit->counters_range, err) || bus_add(ports, &pit->system_range, err)) {
        pit_destroy(pit);
        return NULL;
    }
    return pit;
}

void pit_destroy(struct pit *pit)
{
    if (!pit)
        return;
    bus_remove(pit->ports, &pit->counters_range);
    bus_remove(pit->ports, &pit->system_range);
    vm_timer_cancel(&pit->timer);
    pthread_mutex_destroy(&pit->lock);
    free(pit);
}

struct device *pit_device(struct pit *pit)
{
    return &pit->device;
}
