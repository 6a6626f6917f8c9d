// SPDX-License-Identifier: Apache-2.0
//
// The main counter is guest time in ticks of 10 ns plus an offset, or stands still. Each timer
// notes the counter value of its next match; the clock's timer is armed for it while the counter
// runs and the match does something. A periodic timer keeps its rhythm; matches that the host was late
// for are not made up, and none come closer together than MIN_PERIOD_TICKS. The comparator of one that
// does nothing (as Linux leaves it once it has a better clock) moves on when somebody looks.
//
// Interrupts: FSB message, or a line, edge or level. In legacy replacement timers 0 and 1 drive IRQ
// 0 and 8 whatever their route says. A level-triggered timer holds its line while its status bit is
// up.
#include "machine/chip/hpet.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/bits.h"
#include "machine/device/memory_map.h"

#define WINDOW_BYTES     0x400u
#define TIMERS           3u
#define NS_PER_TICK      10u
#define FS_PER_TICK      10000000u
#define MIN_PERIOD_TICKS 10000u // 100 µs
#define CAPABILITIES     ((uint64_t)FS_PER_TICK << 32 | 0x8086A201u)
#define TIMER_FIRST      0x100u
#define TIMER_BYTES      0x20u
#define LINES_MASK       0xFFFFFFu

enum { REG_CAPABILITIES = 0x00, REG_CONFIG = 0x10, REG_STATUS = 0x20, REG_COUNTER = 0xF0 };
enum { TIMER_CONFIG = 0x00, TIMER_COMPARATOR = 0x08, TIMER_MESSAGE = 0x10 };
enum { CONFIG_ENABLE = 1 << 0, CONFIG_LEGACY = 1 << 1 };

#define T_LEVEL           BIT(1)
#define T_ENABLE          BIT(2)
#define T_PERIODIC        BIT(3)
#define T_CAN_PERIODIC    BIT(4)
#define T_CAN_64          BIT(5)
#define T_SET_VALUE       BIT(6)
#define T_32              BIT(8)
#define T_ROUTE_SHIFT     9
#define T_ROUTE           (31ull << T_ROUTE_SHIFT)
#define T_MESSAGE         BIT(14)
#define T_CAN_MESSAGE     BIT(15)
#define T_CAN_ROUTE_SHIFT 32
#define T_WRITABLE        (T_LEVEL | T_ENABLE | T_PERIODIC | T_SET_VALUE | T_32 | T_ROUTE | T_MESSAGE)

struct timer {
    // Constant.
    struct hpet *hpet;
    unsigned index;
    // Under the lock.
    struct vm_timer alarm;
    uint64_t config, comparator, message;
    uint64_t period; // what is added to the comparator; 0: none was set
    uint64_t match;  // counter value (64 bits) of the next match
    bool line;       // a level-triggered line that we hold
};

struct hpet {
    // Constant.
    struct device device;
    struct bus *mmio; // borrowed
    struct bus_range range;
    struct vm_clock *clock;            // borrowed
    const struct irq_controller *irqs; // borrowed
    hpet_legacy *legacy;
    void *legacy_context;
    // Under the lock.
    pthread_mutex_t lock;
    uint8_t config, status;
    uint64_t
        counter_offset; // running: counter - clock's ticks, modulo 2^64; else the counter itself
    struct timer timers[TIMERS];
};

// Lines that no other device uses: 2 for the timer that replaces IRQ 0, 8 for the clock's, 10 and
// 11.
static const uint32_t routes[TIMERS] = {BIT(2), BIT(8), BIT(10) | BIT(11)};

static uint64_t capabilities(unsigned index)
{
    return (uint64_t)routes[index] << T_CAN_ROUTE_SHIFT | T_CAN_MESSAGE | T_CAN_64 |
           (index == 0 ? T_CAN_PERIODIC : 0);
}

static bool running(const struct hpet *hpet)
{
    return hpet->config & CONFIG_ENABLE;
}

static uint64_t counter(const struct hpet *hpet, uint64_t now)
{
    return running(hpet) ? now / NS_PER_TICK + hpet->counter_offset : hpet->counter_offset;
}

static bool is_32(const struct timer *t)
{
    return t->config & T_32;
}

// ---- Interrupts

// The line that the timer drives, as a device's line number (0 arrives at input 2), or -1: none.
static int line_of(const struct timer *t)
{
    if ((t->hpet->config & CONFIG_LEGACY) && t->index < 2)
        return t->index == 0 ? 0 : 8;
    unsigned route = (unsigned)(t->config >> T_ROUTE_SHIFT & 31);
    if (!(routes[t->index] & BIT(route)))
        return -1;
    return route == 2 ? 0 : (int)route;
}

static void set_line(struct timer *t, bool level)
{
    const struct irq_controller *irqs = t->hpet->irqs;
    int line = line_of(t);
    if (line >= 0)
        irqs->ops->set_line(irqs->controller, (unsigned)line, level);
}

// Before anything that decides which line is driven changes.
static void release_line(struct timer *t)
{
    if (t->line)
        set_line(t, false);
    t->line = false;
}

static void refresh_line(struct timer *t)
{
    bool level = (t->config & T_ENABLE) && (t->config & T_LEVEL) && !(t->config & T_MESSAGE) &&
                 (t->hpet->status & BIT(t->index));
    if (level != t->line)
        set_line(t, level);
    t->line = level;
}

static void fire(struct timer *t)
{
    struct hpet *hpet = t->hpet;
    if (t->config & T_LEVEL)
        hpet->status |= (uint8_t)BIT(t->index);
    if (!(t->config & T_ENABLE))
        return;
    if (t->config & T_MESSAGE) {
        irq_send_msi(hpet->irqs, t->message >> 32, (uint32_t)t->message);
    } else if (t->config & T_LEVEL) {
        refresh_line(t);
    } else {
        set_line(t, true);
        set_line(t, false);
    }
}

// ---- Matches

// The next counter value after `from` at which the comparator matches.
static uint64_t next_match(const struct timer *t, uint64_t from)
{
    if (!is_32(t))
        return t->comparator > from ? t->comparator : UINT64_MAX; // 2^64 ticks are 5800 years
    uint64_t distance = (uint32_t)(t->comparator - from);
    return from + (distance ? distance : 1ull << 32);
}

static void arm(struct timer *t, uint64_t now)
{
    struct hpet *hpet = t->hpet;
    uint64_t deadline = VM_CLOCK_NEVER;
    bool matters = t->config & (T_ENABLE | T_LEVEL); // it interrupts, or shows a status bit
    if (running(hpet) && matters && t->match != UINT64_MAX) {
        uint64_t at = counter(hpet, now), left = t->match > at ? t->match - at : 0;
        unsigned __int128 ns = ((unsigned __int128)(now / NS_PER_TICK) + left) * NS_PER_TICK;
        deadline = ns < VM_CLOCK_NEVER ? (uint64_t)ns : VM_CLOCK_NEVER;
    }
    vm_timer_arm(&t->alarm, deadline);
}

static void find_match(struct timer *t, uint64_t now)
{
    t->match = next_match(t, counter(t->hpet, now));
    arm(t, now);
}

// A periodic comparator whose match has come moves on by whole periods beyond the counter.
static void step_comparator(struct timer *t, uint64_t here)
{
    uint64_t least = t->period < MIN_PERIOD_TICKS ? MIN_PERIOD_TICKS : 0;
    t->comparator += ((here + least - t->match) / t->period + 1) * t->period;
    if (is_32(t))
        t->comparator = (uint32_t)t->comparator;
}

// Brings a comparator to where it is by now, when no alarm did.
static void catch_up(struct timer *t, uint64_t now)
{
    uint64_t here = counter(t->hpet, now);
    if (!running(t->hpet) || t->match > here || !(t->config & T_PERIODIC) || !t->period)
        return;
    step_comparator(t, here);
    t->match = next_match(t, here);
}

static void alarm_reached(void *context)
{
    struct timer *t = context;
    struct hpet *hpet = t->hpet;
    pthread_mutex_lock(&hpet->lock);
    uint64_t now = vm_clock_now_ns(hpet->clock), here = counter(hpet, now);
    // A register may have been written between the alarm and the lock: then the match lies ahead
    // again.
    if (running(hpet) && t->match <= here) {
        fire(t);
        if ((t->config & T_PERIODIC) && t->period)
            step_comparator(t, here);
        t->match = next_match(t, here);
    }
    arm(t, now);
    pthread_mutex_unlock(&hpet->lock);
}

// ---- Registers. They are 64 bits; a 32-bit access reads or writes one half.

static uint64_t merge(uint64_t old, uint64_t value, unsigned shift, unsigned size)
{
    uint64_t mask = bits_mask(size * 8) << shift;
    return (old & ~mask) | (value << shift & mask);
}

static void write_config(struct hpet *hpet, uint8_t value, uint64_t now)
{
    bool was_running = running(hpet), was_legacy = hpet->config & CONFIG_LEGACY;
    uint64_t at = counter(hpet, now);
    for (unsigned i = 0; i < TIMERS; i++) {
        catch_up(&hpet->timers[i], now);
        release_line(&hpet->timers[i]);
    }
    hpet->config = value & (CONFIG_ENABLE | CONFIG_LEGACY);
    if (running(hpet) != was_running)
        hpet->counter_offset = running(hpet) ? at - now / NS_PER_TICK : at;
    bool legacy = hpet->config & CONFIG_LEGACY;
    if (legacy != was_legacy)
        hpet->legacy(hpet->legacy_context, legacy);
    for (unsigned i = 0; i < TIMERS; i++) {
        refresh_line(&hpet->timers[i]);
        find_match(&hpet->timers[i], now);
    }
}

static void write_timer_config(struct timer *t, uint64_t value, uint64_t now)
{
    uint64_t writable = T_WRITABLE;
    if (t->index != 0)
        writable &= ~(T_PERIODIC | T_SET_VALUE);
    release_line(t);
    t->config = value & writable;
    if (is_32(t)) {
        t->comparator = (uint32_t)t->comparator;
        t->period = (uint32_t)t->period;
    }
    refresh_line(t);
    find_match(t, now);
}

static void write_comparator(struct timer *t, uint64_t value, unsigned shift, unsigned size,
                             uint64_t now)
{
    if (is_32(t)) {
        if (shift)
            return;
        value = (uint32_t)value;
    }
    bool sets_value = !(t->config & T_PERIODIC) || (t->config & T_SET_VALUE);
    if (sets_value)
        t->comparator = merge(t->comparator, value, shift, size);
    // A periodic timer's second write is its period; one that is not periodic remembers the last as
    // the period too.
    if (t->config & T_PERIODIC && !(t->config & T_SET_VALUE))
        t->period = merge(t->period, value, shift, size);
    if (size == 8 || shift || is_32(t))
        t->config &= ~T_SET_VALUE;
    find_match(t, now);
}

static void write_timer(struct timer *t, unsigned reg, uint64_t value, unsigned shift,
                        unsigned size, uint64_t now)
{
    catch_up(t, now);
    if (reg == TIMER_CONFIG)
        write_timer_config(t, merge(t->config, value, shift, size), now);
    else if (reg == TIMER_COMPARATOR)
        write_comparator(t, value, shift, size, now);
    else if (reg == TIMER_MESSAGE)
        t->message = merge(t->message, value, shift, size);
}

static uint64_t read_timer(struct timer *t, unsigned reg)
{
    catch_up(t, vm_clock_now_ns(t->hpet->clock));
    if (reg == TIMER_CONFIG)
        return t->config | capabilities(t->index);
    if (reg == TIMER_COMPARATOR)
        return t->comparator;
    return reg == TIMER_MESSAGE ? t->message : 0;
}

static uint64_t hpet_read(void *device, uint64_t offset, unsigned size)
{
    struct hpet *hpet = device;
    unsigned reg = (unsigned)offset & ~7u, shift = (unsigned)(offset & 4) * 8;
    uint64_t value = 0;
    pthread_mutex_lock(&hpet->lock);
    if (reg >= TIMER_FIRST && reg < TIMER_FIRST + TIMERS * TIMER_BYTES)
        value = read_timer(&hpet->timers[(reg - TIMER_FIRST) / TIMER_BYTES], reg % TIMER_BYTES);
    else if (reg == REG_CAPABILITIES)
        value = CAPABILITIES;
    else if (reg == REG_CONFIG)
        value = hpet->config;
    else if (reg == REG_STATUS)
        value = hpet->status;
    else if (reg == REG_COUNTER)
        value = counter(hpet, vm_clock_now_ns(hpet->clock));
    pthread_mutex_unlock(&hpet->lock);
    return value >> shift;
}

static void write_status(struct hpet *hpet, uint64_t ones)
{
    hpet->status &= (uint8_t)~ones;
    for (unsigned i = 0; i < TIMERS; i++)
        refresh_line(&hpet->timers[i]);
}

static void hpet_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct hpet *hpet = device;
    unsigned reg = (unsigned)offset & ~7u, shift = (unsigned)(offset & 4) * 8;
    pthread_mutex_lock(&hpet->lock);
    uint64_t now = vm_clock_now_ns(hpet->clock);
    if (reg >= TIMER_FIRST && reg < TIMER_FIRST + TIMERS * TIMER_BYTES)
        write_timer(&hpet->timers[(reg - TIMER_FIRST) / TIMER_BYTES], reg % TIMER_BYTES, value,
                    shift, size, now);
    else if (reg == REG_CONFIG && !shift)
        write_config(hpet, (uint8_t)value, now);
    else if (reg == REG_STATUS && !shift)
        write_status(hpet, value);
    else if (reg == REG_COUNTER && !running(hpet)) // while it runs the write has no defined effect
        hpet->counter_offset = merge(hpet->counter_offset, value, shift, size);
    pthread_mutex_unlock(&hpet->lock);
}

static const struct bus_ops hpet_ops = {hpet_read, hpet_write, 4, 8};

// ---- The device

#define TIMER_FIELDS(n)                                                                            \
    FIELD_RANGE(FIELD_TYPE_U64, struct hpet, timers[n].config, 1, 0, T_WRITABLE),                  \
        FIELD_U64(struct hpet, timers[n].comparator), FIELD_U64(struct hpet, timers[n].message),   \
        FIELD_U64(struct hpet, timers[n].period), FIELD_U64(struct hpet, timers[n].match)

static const struct field fields[] = {
    FIELD_U8_MAX(struct hpet, config, CONFIG_ENABLE | CONFIG_LEGACY),
    FIELD_U8_MAX(struct hpet, status, (1 << TIMERS) - 1),
    FIELD_U64(struct hpet, counter_offset),
    TIMER_FIELDS(0),
    TIMER_FIELDS(1),
    TIMER_FIELDS(2),
};

static void hpet_reset(void *device)
{
    struct hpet *hpet = device;
    pthread_mutex_lock(&hpet->lock);
    for (unsigned i = 0; i < TIMERS; i++) {
        struct timer *t = &hpet->timers[i];
        release_line(t);
        vm_timer_disarm(&t->alarm);
        t->config = t->message = t->period = 0;
        t->comparator = t->match = UINT64_MAX;
    }
    bool was_legacy = hpet->config & CONFIG_LEGACY;
    hpet->config = hpet->status = 0;
    hpet->counter_offset = 0;
    if (was_legacy)
        hpet->legacy(hpet->legacy_context, false);
    pthread_mutex_unlock(&hpet->lock);
}

static int hpet_check(const void *device, struct err *err)
{
    const struct hpet *hpet = device;
    for (unsigned i = 0; i < TIMERS; i++)
        if ((hpet->timers[i].config & ~T_WRITABLE) || (i && (hpet->timers[i].config & T_PERIODIC)))
            return err_set(err, ERR_INPUT, "timer %u has an impossible configuration", i);
    return 0;
}

static void hpet_loaded(void *device)
{
    struct hpet *hpet = device;
    pthread_mutex_lock(&hpet->lock);
    uint64_t now = vm_clock_now_ns(hpet->clock);
    for (unsigned i = 0; i < TIMERS; i++) {
        hpet->timers[i].line = false;
        refresh_line(&hpet->timers[i]);
        arm(&hpet->timers[i], now);
    }
    pthread_mutex_unlock(&hpet->lock);
}

static const struct device_ops hpet_device_ops = {
    .kind = "hpet",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
    .reset = hpet_reset,
    .check = hpet_check,
    .loaded = hpet_loaded,
};

struct hpet *hpet_create(struct bus *mmio, struct vm_clock *clock,
                         const struct irq_controller *irqs, hpet_legacy *legacy, void *context,
                         struct err *err)
{
    struct hpet *hpet = calloc(1, sizeof(*hpet));
    if (!hpet) {
        err_set(err, ERR_LIMIT, "no memory");
        return NULL;
    }
    pthread_mutex_init(&hpet->lock, NULL);
    hpet->device = (struct device){.ops = &hpet_device_ops, .name = "hpet", .self = hpet};
    hpet->mmio = mmio;
    hpet->clock = clock;
    hpet->irqs = irqs;
    hpet->legacy = legacy;
    hpet->legacy_context = context;
    for (unsigned i = 0; i < TIMERS; i++) {
        struct timer *t = &hpet->timers[i];
        *t =
            (struct timer){.hpet = hpet, .index = i, .comparator = UINT64_MAX, .match = UINT64_MAX};
        vm_timer_init(&t->alarm, clock, alarm_reached, t);
    }
    hpet->range =
        (struct bus_range){"hpet", MAP_HPET_START, WINDOW_BYTES, &hpet_ops, hpet, false, 0};
    if (bus_add(mmio, &hpet->range, err) != 0) {
        hpet_destroy(hpet);
        return NULL;
    }
    return hpet;
}

void hpet_destroy(struct hpet *hpet)
{
    if (!hpet)
        return;
    bus_remove(hpet->mmio, &hpet->range);
    for (unsigned i = 0; i < TIMERS; i++)
        vm_timer_cancel(&hpet->timers[i].alarm);
    pthread_mutex_destroy(&hpet->lock);
    free(hpet);
}

struct device *hpet_device(struct hpet *hpet)
{
    return &hpet->device;
}
