// SPDX-License-Identifier: Apache-2.0
//
// The time of day is the host's wall time plus an offset; the time registers are made when they are
// read, and change the offset when they are written. While the guest holds the clock (SET, or the
// divider in reset) they are plain bytes in `cmos`.
//
// Register C's flags are brought up to date whenever somebody looks (sync()): an update, an alarm,
// a periodic tick has come if one lies between the last look and now. A timer runs only for
// interrupts that are enabled and whose flag is not up yet, so a guest that does not acknowledge
// gets no second one.
#include "machine/chip/rtc.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/bits.h"
#include "machine/chip/calendar.h"

#define PORT_INDEX    0x70u
#define CMOS_BYTES    128u
#define NS_PER_SECOND 1000000000ull
#define CRYSTAL_HZ    32768u
#define UIP_NS        244000u // before the update (data sheet, "Update cycle")
#define DAY_SECONDS   86400u
#define ALARM_ANY     0xC0u // "don't care"

enum {
    REG_SECONDS = 0x00,
    REG_SECONDS_ALARM = 0x01,
    REG_MINUTES = 0x02,
    REG_MINUTES_ALARM = 0x03,
    REG_HOURS = 0x04,
    REG_HOURS_ALARM = 0x05,
    REG_WEEKDAY = 0x06,
    REG_DAY = 0x07,
    REG_MONTH = 0x08,
    REG_YEAR = 0x09,
    REG_A = 0x0A,
    REG_B = 0x0B,
    REG_C = 0x0C,
    REG_D = 0x0D,
    REG_EQUIPMENT = 0x14,
    REG_BASE_KIB = 0x15,
    REG_EXTENDED_KIB = 0x17,
    REG_EXTENDED_KIB_COPY = 0x30,
    REG_CENTURY = 0x32,
    REG_ABOVE_16M = 0x34, // in units of 64 KiB
    REG_BOOT_ORDER = 0x3D,
    REG_ABOVE_4G = 0x5B, // three bytes, in units of 64 KiB
    REG_CPUS = 0x5F,     // less one
};

enum {
    A_UIP = 1 << 7,
    A_DIVIDER = 0x70,
    A_DIVIDER_ON = 0x20,
    A_DIVIDER_RESET = 0x60,
    A_RATE = 0x0F
};
enum { B_SET = 1 << 7, B_BINARY = 1 << 2, B_24_HOURS = 1 << 1, B_SQUARE_WAVE = 1 << 3 };
enum {
    IRQ_PERIODIC = 1 << 6,
    IRQ_ALARM = 1 << 5,
    IRQ_UPDATE = 1 << 4,
    IRQ_ANY = 1 << 7,
    IRQ_SOURCES = 0x70
};
enum { D_VALID = 1 << 7, HOURS_PM = 1 << 7, BOOT_DISK_THEN_CD = 0x32, EQUIPMENT_FPU = 1 << 1 };

struct rtc {
    // Constant.
    struct device device;
    struct bus *ports; // borrowed
    struct bus_range range;
    struct vm_clock *clock; // borrowed
    struct irq_line irq;
    // Under the lock.
    pthread_mutex_t lock;
    struct vm_timer timer;
    uint8_t cmos[CMOS_BYTES];
    uint8_t index;
    uint64_t offset_ns;   // of the clock from the host's wall time, modulo 2^64
    uint64_t last_second; // of the clock, at the last look
    uint64_t last_tick;   // periodic, at the last look
    bool disconnected;
    bool line; // as last driven
};

// ---- Time and its registers

static bool stopped(const struct rtc *rtc)
{
    return (rtc->cmos[REG_B] & B_SET) || (rtc->cmos[REG_A] & A_DIVIDER) != A_DIVIDER_ON;
}

static uint64_t clock_ns(const struct rtc *rtc)
{
    return vm_clock_wall_ns(rtc->clock) + rtc->offset_ns;
}

static uint8_t encode(const struct rtc *rtc, unsigned n)
{
    return (uint8_t)(rtc->cmos[REG_B] & B_BINARY ? n : (n / 10 % 10) << 4 | n % 10);
}

static unsigned decode(const struct rtc *rtc, uint8_t byte)
{
    return rtc->cmos[REG_B] & B_BINARY ? byte : (byte >> 4) * 10u + (byte & 15u);
}

static uint8_t encode_hours(const struct rtc *rtc, unsigned hours)
{
    if (rtc->cmos[REG_B] & B_24_HOURS)
        return encode(rtc, hours);
    uint8_t byte = encode(rtc, hours % 12 ? hours % 12 : 12);
    return (uint8_t)(byte | (hours >= 12 ? HOURS_PM : 0));
}

static unsigned decode_hours(const struct rtc *rtc, uint8_t byte)
{
    if (rtc->cmos[REG_B] & B_24_HOURS)
        return decode(rtc, byte);
    return decode(rtc, byte & (uint8_t)~HOURS_PM) % 12 + (byte & HOURS_PM ? 12 : 0);
}

static void time_to_registers(struct rtc *rtc, uint64_t ns)
{
    struct calendar_date date = calendar_from_seconds(ns / NS_PER_SECOND);
    rtc->cmos[REG_SECONDS] = encode(rtc, date.second);
    rtc->cmos[REG_MINUTES] = encode(rtc, date.minute);
    rtc->cmos[REG_HOURS] = encode_hours(rtc, date.hour);
    rtc->cmos[REG_WEEKDAY] = encode(rtc, date.weekday + 1);
    rtc->cmos[REG_DAY] = encode(rtc, date.day);
    rtc->cmos[REG_MONTH] = encode(rtc, date.month);
    rtc->cmos[REG_YEAR] = encode(rtc, date.year % 100);
    rtc->cmos[REG_CENTURY] = encode(rtc, date.year / 100);
}

// What a guest writes need not be a date.
static uint64_t registers_to_seconds(const struct rtc *rtc)
{
    const uint8_t *c = rtc->cmos;
    struct calendar_date date = {
        .year = decode(rtc, c[REG_CENTURY]) * 100 + decode(rtc, c[REG_YEAR]),
        .month = decode(rtc, c[REG_MONTH]),
        .day = decode(rtc, c[REG_DAY]),
        .hour = decode_hours(rtc, c[REG_HOURS]),
        .minute = decode(rtc, c[REG_MINUTES]),
        .second = decode(rtc, c[REG_SECONDS]),
    };
    return calendar_to_seconds(&date);
}

static void registers_to_time(struct rtc *rtc, uint64_t fraction_ns)
{
    uint64_t ns = registers_to_seconds(rtc) * NS_PER_SECOND + fraction_ns;
    rtc->offset_ns = ns - vm_clock_wall_ns(rtc->clock);
    rtc->last_second = ns / NS_PER_SECOND;
}

static bool is_time_register(unsigned index)
{
    switch (index) {
    case REG_SECONDS:
    case REG_MINUTES:
    case REG_HOURS:
    case REG_WEEKDAY:
    case REG_DAY:
    case REG_MONTH:
    case REG_YEAR:
    case REG_CENTURY:
        return true;
    default:
        return false;
    }
}

// ---- Flags and interrupts

static bool alarm_matches(const struct rtc *rtc, unsigned reg, unsigned n)
{
    uint8_t byte = rtc->cmos[reg];
    if ((byte & ALARM_ANY) == ALARM_ANY)
        return true;
    return (reg == REG_HOURS_ALARM ? decode_hours(rtc, byte) : decode(rtc, byte)) == n;
}

// The first second after `after` at which the alarm goes off, UINT64_MAX if it never does. Steps by
// whole hours and minutes, so that it looks at no more than some 150 candidates.
static uint64_t next_alarm(const struct rtc *rtc, uint64_t after)
{
    uint64_t t = after + 1, end = t + DAY_SECONDS;
    while (t < end) {
        if (!alarm_matches(rtc, REG_HOURS_ALARM, (unsigned)(t / 3600 % 24)))
            t = (t / 3600 + 1) * 3600;
        else if (!alarm_matches(rtc, REG_MINUTES_ALARM, (unsigned)(t / 60 % 60)))
            t = (t / 60 + 1) * 60;
        else if (!alarm_matches(rtc, REG_SECONDS_ALARM, (unsigned)(t % 60)))
            t++;
        else
            return t;
    }
    return UINT64_MAX;
}

// Length of the periodic interrupt's tick in crystal cycles; 0: off.
static uint64_t tick_cycles(const struct rtc *rtc)
{
    unsigned rate = rtc->cmos[REG_A] & A_RATE;
    if (!rate)
        return 0;
    return 1u << ((rate <= 2 ? rate + 7 : rate) - 1);
}

static uint64_t crystal(uint64_t ns)
{
    return (uint64_t)((unsigned __int128)ns * CRYSTAL_HZ / NS_PER_SECOND);
}

static void sync(struct rtc *rtc, uint64_t now)
{
    uint64_t cycles = tick_cycles(rtc), tick = cycles ? crystal(now) / cycles : 0;
    if (cycles && tick != rtc->last_tick)
        rtc->cmos[REG_C] |= IRQ_PERIODIC;
    rtc->last_tick = tick;
    if (stopped(rtc))
        return;
    uint64_t second = clock_ns(rtc) / NS_PER_SECOND;
    if (second == rtc->last_second)
        return;
    rtc->cmos[REG_C] |= IRQ_UPDATE;
    // The host's clock may have been set back: then nothing has gone off.
    if (second > rtc->last_second && next_alarm(rtc, rtc->last_second) <= second)
        rtc->cmos[REG_C] |= IRQ_ALARM;
    rtc->last_second = second;
}

static void arm(struct rtc *rtc, uint64_t now)
{
    uint8_t wanted = rtc->cmos[REG_B] & (uint8_t)~rtc->cmos[REG_C] & IRQ_SOURCES;
    uint64_t deadline = VM_CLOCK_NEVER, cycles = tick_cycles(rtc);
    // With one interrupt up, no other is seen before register C is read, which comes back here.
    if (rtc->line)
        wanted = 0;
    if ((wanted & IRQ_PERIODIC) && cycles) {
        unsigned __int128 at =
            (unsigned __int128)(crystal(now) / cycles + 1) * cycles * NS_PER_SECOND;
        deadline = (uint64_t)((at + CRYSTAL_HZ - 1) / CRYSTAL_HZ);
    }
    if ((wanted & (IRQ_UPDATE | IRQ_ALARM)) && !stopped(rtc)) {
        uint64_t here = clock_ns(rtc), second = here / NS_PER_SECOND;
        uint64_t next = wanted & IRQ_UPDATE ? second + 1 : next_alarm(rtc, second);
        // At most a day ahead, so this does not overflow.
        if (next != UINT64_MAX && now + (next * NS_PER_SECOND - here) < deadline)
            deadline = now + (next * NS_PER_SECOND - here);
    }
    vm_timer_arm(&rtc->timer, deadline);
}

// Registers or time changed: the line and the timer follow.
static void update(struct rtc *rtc, uint64_t now)
{
    bool line = rtc->cmos[REG_C] & rtc->cmos[REG_B] & IRQ_SOURCES;
    rtc->cmos[REG_C] = (uint8_t)((rtc->cmos[REG_C] & IRQ_SOURCES) | (line ? IRQ_ANY : 0));
    if (line != rtc->line && !rtc->disconnected)
        irq_set(&rtc->irq, line);
    rtc->line = line;
    arm(rtc, now);
}

static void timer_reached(void *context)
{
    struct rtc *rtc = context;
    pthread_mutex_lock(&rtc->lock);
    uint64_t now = vm_clock_now_ns(rtc->clock);
    sync(rtc, now);
    update(rtc, now);
    pthread_mutex_unlock(&rtc->lock);
}

// ---- Ports

static uint8_t read_register(struct rtc *rtc, uint64_t now)
{
    unsigned index = rtc->index;
    uint8_t value;
    if (is_time_register(index) && !stopped(rtc))
        time_to_registers(rtc, clock_ns(rtc));
    switch (index) {
    case REG_A:
        value = rtc->cmos[REG_A];
        if (!stopped(rtc) && clock_ns(rtc) % NS_PER_SECOND >= NS_PER_SECOND - UIP_NS)
            value |= A_UIP;
        return value;
    case REG_C:
        sync(rtc, now);
        update(rtc, now);
        value = rtc->cmos[REG_C];
        rtc->cmos[REG_C] = 0;
        update(rtc, now);
        return value;
    default:
        return rtc->cmos[index];
    }
}

// Registers A and B may stop the clock, or let it go on from what the time registers say.
static void write_control(struct rtc *rtc, unsigned reg, uint8_t value)
{
    bool was_stopped = stopped(rtc),
         was_reset = (rtc->cmos[REG_A] & A_DIVIDER_RESET) == A_DIVIDER_RESET;
    if (!was_stopped)
        time_to_registers(rtc, clock_ns(rtc));
    rtc->cmos[reg] = value;
    // The first update comes half a second after the divider was let go.
    if (was_stopped && !stopped(rtc))
        registers_to_time(rtc, was_reset ? NS_PER_SECOND / 2 : 0);
    else if (!was_stopped && !stopped(rtc))
        time_to_registers(rtc, clock_ns(rtc)); // in the representation that B asks for now
}

static void write_register(struct rtc *rtc, uint8_t value, uint64_t now)
{
    unsigned index = rtc->index;
    sync(rtc, now);
    switch (index) {
    case REG_A:
        write_control(rtc, index, value & (uint8_t)~A_UIP);
        rtc->last_tick = tick_cycles(rtc) ? crystal(now) / tick_cycles(rtc) : 0;
        break;
    case REG_B:
        // Setting SET ends update interrupts (data sheet, "Register B").
        write_control(rtc, index, value & B_SET ? value & (uint8_t)~IRQ_UPDATE : value);
        break;
    case REG_C:
    case REG_D:
        break;
    default:
        if (!is_time_register(index)) {
            rtc->cmos[index] = value;
        } else if (stopped(rtc)) {
            rtc->cmos[index] = value;
        } else {
            uint64_t ns = clock_ns(rtc);
            time_to_registers(rtc, ns);
            rtc->cmos[index] = value;
            registers_to_time(rtc, ns % NS_PER_SECOND);
        }
        break;
    }
    update(rtc, now);
}

static uint64_t rtc_read(void *device, uint64_t offset, unsigned size)
{
    struct rtc *rtc = device;
    if (offset == 0) // the index cannot be read
        return 0xFF;
    pthread_mutex_lock(&rtc->lock);
    uint8_t value = read_register(rtc, vm_clock_now_ns(rtc->clock));
    pthread_mutex_unlock(&rtc->lock);
    return value;
}

static void rtc_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct rtc *rtc = device;
    pthread_mutex_lock(&rtc->lock);
    if (offset == 0)
        rtc->index = value % CMOS_BYTES; // bit 7 masks NMI, which nothing here raises
    else
        write_register(rtc, (uint8_t)value, vm_clock_now_ns(rtc->clock));
    pthread_mutex_unlock(&rtc->lock);
}

static const struct bus_ops rtc_ops = {rtc_read, rtc_write, 1, 1};

// ---- For the machine

void rtc_set_memory(struct rtc *rtc, uint64_t low_bytes, uint64_t high_bytes)
{
    uint64_t extended_kib = low_bytes > MIB ? (low_bytes - MIB) / KIB : 0;
    uint64_t above_16m = low_bytes > 16 * MIB ? (low_bytes - 16 * MIB) / (64 * KIB) : 0;
    uint64_t above_4g = high_bytes / (64 * KIB);
    if (extended_kib > UINT16_MAX)
        extended_kib = UINT16_MAX;
    if (above_16m > UINT16_MAX)
        above_16m = UINT16_MAX;
    pthread_mutex_lock(&rtc->lock);
    store_le16(&rtc->cmos[REG_BASE_KIB], 640);
    store_le16(&rtc->cmos[REG_EXTENDED_KIB], (uint16_t)extended_kib);
    store_le16(&rtc->cmos[REG_EXTENDED_KIB_COPY], (uint16_t)extended_kib);
    store_le16(&rtc->cmos[REG_ABOVE_16M], (uint16_t)above_16m);
    store_le16(&rtc->cmos[REG_ABOVE_4G], (uint16_t)above_4g);
    rtc->cmos[REG_ABOVE_4G + 2] = (uint8_t)(above_4g >> 16);
    pthread_mutex_unlock(&rtc->lock);
}

void rtc_set_cpus(struct rtc *rtc, unsigned cpus)
{
    pthread_mutex_lock(&rtc->lock);
    rtc->cmos[REG_CPUS] = (uint8_t)(cpus - 1);
    pthread_mutex_unlock(&rtc->lock);
}

void rtc_set_disconnected(struct rtc *rtc, bool disconnected)
{
    pthread_mutex_lock(&rtc->lock);
    if (disconnected != rtc->disconnected)
        irq_set(&rtc->irq, !disconnected && rtc->line);
    rtc->disconnected = disconnected;
    pthread_mutex_unlock(&rtc->lock);
}

static const struct field fields[] = {
    FIELD_U8S(struct rtc, cmos),      FIELD_U8_MAX(struct rtc, index, CMOS_BYTES - 1),
    FIELD_U64(struct rtc, offset_ns), FIELD_U64(struct rtc, last_second),
    FIELD_U64(struct rtc, last_tick), FIELD_BOOL(struct rtc, disconnected),
};

// The time and the bytes live on a battery; only the interrupts go.
static void rtc_reset(void *device)
{
    struct rtc *rtc = device;
    pthread_mutex_lock(&rtc->lock);
    rtc->cmos[REG_B] &= (uint8_t) ~(IRQ_SOURCES | B_SQUARE_WAVE);
    rtc->cmos[REG_C] = 0;
    rtc->index = 0;
    rtc->disconnected = false;
    update(rtc, vm_clock_now_ns(rtc->clock));
    pthread_mutex_unlock(&rtc->lock);
}

static int rtc_check(const void *device, struct err *err)
{
    const struct rtc *rtc = device;
    if ((rtc->cmos[REG_A] & A_UIP) || (rtc->cmos[REG_C] & 0x0F))
        return err_set(err, ERR_INPUT, "impossible registers A and C");
    return 0;
}

static void rtc_loaded(void *device)
{
    struct rtc *rtc = device;
    pthread_mutex_lock(&rtc->lock);
    update(rtc, vm_clock_now_ns(rtc->clock));
    if (!rtc->disconnected)
        irq_set(&rtc->irq, rtc->line);
    pthread_mutex_unlock(&rtc->lock);
}

static const struct device_ops rtc_device_ops = {
    .kind = "rtc",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
    .reset = rtc_reset,
    .check = rtc_check,
    .loaded = rtc_loaded,
};

static void set_defaults(struct rtc *rtc)
{
    rtc->cmos[REG_A] = A_DIVIDER_ON | 6; // 1024 Hz, as firmware leaves it
    rtc->cmos[REG_B] = B_24_HOURS;
    rtc->cmos[REG_D] = D_VALID;
    rtc->cmos[REG_EQUIPMENT] = EQUIPMENT_FPU;
    rtc->cmos[REG_BOOT_ORDER] = BOOT_DISK_THEN_CD;
    rtc->last_second = clock_ns(rtc) / NS_PER_SECOND;
    time_to_registers(rtc, clock_ns(rtc));
}

struct rtc *rtc_create(struct bus *ports, struct vm_clock *clock, struct irq_line irq8,
                       struct err *err)
{
    struct rtc *rtc = calloc(1, sizeof(*rtc));
    if (!rtc) {
        err_set(err, ERR_LIMIT, "no memory");
        return NULL;
    }
    pthread_mutex_init(&rtc->lock, NULL);
    rtc->device = (struct device){.ops = &rtc_device_ops, .name = "rtc", .self = rtc};
    rtc->ports = ports;
    rtc->clock = clock;
    rtc->irq = irq8;
    vm_timer_init(&rtc->timer, clock, timer_reached, rtc);
    set_defaults(rtc);
    rtc->range = (struct bus_range){"rtc", PORT_INDEX, 2, &rtc_ops, rtc, false, 0};
    if (bus_add(ports, &rtc->range, err) != 0) {
        rtc_destroy(rtc);
        return NULL;
    }
    return rtc;
}

void rtc_destroy(struct rtc *rtc)
{
    if (!rtc)
        return;
    bus_remove(rtc->ports, &rtc->range);
    vm_timer_cancel(&rtc->timer);
    pthread_mutex_destroy(&rtc->lock);
    free(rtc);
}

struct device *rtc_device(struct rtc *rtc)
{
    return &rtc->device;
}
