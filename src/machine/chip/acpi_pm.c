// SPDX-License-Identifier: Apache-2.0
//
// The SCI is the OR of all enabled events that happened; it is level-triggered. The PM timer counts
// 3.579545 MHz of guest time in 32 bits and sets TMR_STS when its top bit changes, which is known
// from the time; a timer runs only while that event is enabled.
#include "machine/chip/acpi_pm.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/bits.h"
#include "machine/device/memory_map.h"

#define PM_TIMER_HZ   3579545u
#define NS_PER_SECOND 1000000000u
#define PORT_SYSTEM_A 0x92u
#define TOP_BIT_SHIFT 31u

enum {
    EVENT_TIMER = 1 << 0,
    EVENT_GLOBAL = 1 << 5,
    EVENT_POWER_BUTTON = 1 << 8,
    EVENT_RTC = 1 << 10,
    EVENT_WAKE = 1 << 15
};
#define EVENTS_STATUS  (EVENT_TIMER | EVENT_GLOBAL | EVENT_POWER_BUTTON | EVENT_RTC | EVENT_WAKE)
#define EVENTS_ENABLED (EVENT_TIMER | EVENT_GLOBAL | EVENT_POWER_BUTTON | EVENT_RTC)

enum {
    CONTROL_SCI = 1 << 0,
    CONTROL_BUS_MASTER = 1 << 1,
    CONTROL_TYPE_SHIFT = 10,
    CONTROL_SLEEP = 1 << 13
};
#define CONTROL_KEPT (CONTROL_BUS_MASTER | 7 << CONTROL_TYPE_SHIFT)

enum { RESET_HARD = 1 << 1, RESET_CPU = 1 << 2, RESET_FULL = 1 << 3 };
enum { SYSTEM_A_RESET = 1 << 0, SYSTEM_A_A20 = 1 << 1 };

struct acpi_pm {
    // Constant.
    struct device device;
    struct bus *ports; // borrowed
    struct bus_range event_range, control_range, timer_range, gpe_range, system_a_range;
    struct vm_clock *clock; // borrowed
    struct irq_line sci;
    struct machine_events events;
    // Under the lock.
    pthread_mutex_t lock;
    struct vm_timer timer;
    uint16_t event_status, event_enable, control;
    uint16_t gpe_status, gpe_enable;
    uint8_t reset_control; // what was last written to 0xCF9
    uint8_t system_a;
    uint64_t last_half; // of the PM timer's range, at the last look
    bool line;
};

static uint64_t pm_ticks(uint64_t ns)
{
    return (uint64_t)((unsigned __int128)ns * PM_TIMER_HZ / NS_PER_SECOND);
}

static void sync(struct acpi_pm *pm, uint64_t now)
{
    uint64_t half = pm_ticks(now) >> TOP_BIT_SHIFT;
    if (half != pm->last_half)
        pm->event_status |= EVENT_TIMER;
    pm->last_half = half;
}

static void update(struct acpi_pm *pm, uint64_t now)
{
    bool line = (pm->event_status & pm->event_enable) || (pm->gpe_status & pm->gpe_enable);
    if (line != pm->line)
        irq_set(&pm->sci, line);
    pm->line = line;
    uint64_t deadline = VM_CLOCK_NEVER;
    if ((pm->event_enable & EVENT_TIMER) && !(pm->event_status & EVENT_TIMER)) {
        unsigned __int128 ticks = (unsigned __int128)((pm_ticks(now) >> TOP_BIT_SHIFT) + 1)
                                  << TOP_BIT_SHIFT;
        deadline = (uint64_t)((ticks * NS_PER_SECOND + PM_TIMER_HZ - 1) / PM_TIMER_HZ);
    }
    vm_timer_arm(&pm->timer, deadline);
}

static void timer_reached(void *context)
{
    struct acpi_pm *pm = context;
    pthread_mutex_lock(&pm->lock);
    uint64_t now = vm_clock_now_ns(pm->clock);
    sync(pm, now);
    update(pm, now);
    pthread_mutex_unlock(&pm->lock);
}

// ---- PM1 event: status at 0, enable at 2, 16 bits each. Bytes are cut out of, and put into, the
// words here.

static uint64_t event_read(void *device, uint64_t offset, unsigned size)
{
    struct acpi_pm *pm = device;
    pthread_mutex_lock(&pm->lock);
    sync(pm, vm_clock_now_ns(pm->clock));
    uint32_t both = pm->event_status | (uint32_t)pm->event_enable << 16;
    pthread_mutex_unlock(&pm->lock);
    return both >> (offset * 8);
}

static void event_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct acpi_pm *pm = device;
    uint32_t written = (uint32_t)(bits_mask(size * 8) << (offset * 8)),
             bits = (uint32_t)(value << (offset * 8));
    pthread_mutex_lock(&pm->lock);
    uint64_t now = vm_clock_now_ns(pm->clock);
    sync(pm, now);
    pm->event_status &= (uint16_t)~bits; // ones clear
    uint16_t mask = (uint16_t)(written >> 16) & EVENTS_ENABLED;
    pm->event_enable = (uint16_t)((pm->event_enable & ~mask) | (bits >> 16 & mask));
    update(pm, now);
    pthread_mutex_unlock(&pm->lock);
}

// ---- PM1 control

static uint64_t control_read(void *device, uint64_t offset, unsigned size)
{
    struct acpi_pm *pm = device;
    pthread_mutex_lock(&pm->lock);
    uint16_t control = pm->control | CONTROL_SCI;
    pthread_mutex_unlock(&pm->lock);
    return control >> (offset * 8);
}

static void control_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct acpi_pm *pm = device;
    uint16_t written = (uint16_t)(bits_mask(size * 8) << (offset * 8)),
             bits = (uint16_t)(value << (offset * 8));
    pthread_mutex_lock(&pm->lock);
    uint16_t mask = written & CONTROL_KEPT;
    pm->control = (uint16_t)((pm->control & ~mask) | (bits & mask));
    bool off = (bits & CONTROL_SLEEP) && (pm->control >> CONTROL_TYPE_SHIFT & 7) == ACPI_PM_S5_TYPE;
    pthread_mutex_unlock(&pm->lock);
    if (off && pm->events.ops->power_off)
        pm->events.ops->power_off(pm->events.context);
}

static uint64_t timer_read(void *device, uint64_t offset, unsigned size)
{
    struct acpi_pm *pm = device;
    return (uint32_t)pm_ticks(vm_clock_now_ns(pm->clock));
}

// ---- GPE0: status at 0, enable at 2

static uint64_t gpe_read(void *device, uint64_t offset, unsigned size)
{
    struct acpi_pm *pm = device;
    pthread_mutex_lock(&pm->lock);
    uint32_t both = pm->gpe_status | (uint32_t)pm->gpe_enable << 16;
    pthread_mutex_unlock(&pm->lock);
    return both >> (offset * 8);
}

static void gpe_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct acpi_pm *pm = device;
    uint32_t written = (uint32_t)(bits_mask(size * 8) << (offset * 8)),
             bits = (uint32_t)(value << (offset * 8));
    pthread_mutex_lock(&pm->lock);
    pm->gpe_status &= (uint16_t)~bits;
    uint16_t mask = (uint16_t)(written >> 16);
    pm->gpe_enable = (uint16_t)((pm->gpe_enable & ~mask) | (bits >> 16 & mask));
    update(pm, vm_clock_now_ns(pm->clock));
    pthread_mutex_unlock(&pm->lock);
}

// ---- Ways to reset

static void reset_machine(struct acpi_pm *pm)
{
    if (pm->events.ops->reset)
        pm->events.ops->reset(pm->events.context);
}

void acpi_pm_reset_control(void *context, uint8_t value)
{
    struct acpi_pm *pm = context;
    pthread_mutex_lock(&pm->lock);
    // The reset happens when bit 2 goes from 0 to 1.
    bool reset = (value & RESET_CPU) && !(pm->reset_control & RESET_CPU);
    pm->reset_control = value & (RESET_HARD | RESET_CPU | RESET_FULL);
    pthread_mutex_unlock(&pm->lock);
    if (reset)
        reset_machine(pm);
}

static uint64_t system_a_read(void *device, uint64_t offset, unsigned size)
{
    struct acpi_pm *pm = device;
    pthread_mutex_lock(&pm->lock);
    uint8_t value = pm->system_a;
    pthread_mutex_unlock(&pm->lock);
    return value;
}

static void system_a_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct acpi_pm *pm = device;
    pthread_mutex_lock(&pm->lock);
    bool reset = (value & SYSTEM_A_RESET) && !(pm->system_a & SYSTEM_A_RESET);
    // The A20 gate reads as set but has no effect: the line is always open, as on current machines.
    pm->system_a = value & (SYSTEM_A_RESET | SYSTEM_A_A20);
    pthread_mutex_unlock(&pm->lock);
    if (reset)
        reset_machine(pm);
}

static const struct bus_ops event_ops = {event_read, event_write, 1, 4};
static const struct bus_ops control_ops = {control_read, control_write, 1, 2};
static const struct bus_ops timer_ops = {timer_read, NULL, 4, 4};
static const struct bus_ops gpe_ops = {gpe_read, gpe_write, 1, 4};
static const struct bus_ops system_a_ops = {system_a_read, system_a_write, 1, 1};

void acpi_pm_press_power_button(struct acpi_pm *pm)
{
    pthread_mutex_lock(&pm->lock);
    pm->event_status |= EVENT_POWER_BUTTON;
    update(pm, vm_clock_now_ns(pm->clock));
    pthread_mutex_unlock(&pm->lock);
}

void acpi_pm_raise_gpe(void *context, unsigned bit)
{
    struct acpi_pm *pm = context;
    if (bit >= 16)
        return;
    pthread_mutex_lock(&pm->lock);
    pm->gpe_status |= (uint16_t)BIT(bit);
    update(pm, vm_clock_now_ns(pm->clock));
    pthread_mutex_unlock(&pm->lock);
}

// ---- The device

static const struct field fields[] = {
    FIELD_U16(struct acpi_pm, event_status),
    FIELD_U16_MAX(struct acpi_pm, event_enable, EVENTS_ENABLED),
    FIELD_U16(struct acpi_pm, control),
    FIELD_U16(struct acpi_pm, gpe_status),
    FIELD_U16(struct acpi_pm, gpe_enable),
    FIELD_U8(struct acpi_pm, reset_control),
    FIELD_U8(struct acpi_pm, system_a),
    FIELD_U64(struct acpi_pm, last_half),
};

static void clear(struct acpi_pm *pm)
{
    pm->event_status = pm->event_enable = pm->control = 0;
    pm->gpe_status = pm->gpe_enable = 0;
    pm->reset_control = 0;
    pm->system_a = SYSTEM_A_A20;
}

static void acpi_pm_reset(void *device)
{
    struct acpi_pm *pm = device;
    pthread_mutex_lock(&pm->lock);
    clear(pm);
    update(pm, vm_clock_now_ns(pm->clock));
    pthread_mutex_unlock(&pm->lock);
}

static int acpi_pm_check(const void *device, struct err *err)
{
    const struct acpi_pm *pm = device;
    if ((pm->event_status & ~EVENTS_STATUS) || (pm->event_enable & ~EVENTS_ENABLED) ||
        (pm->control & ~CONTROL_KEPT))
        return err_set(err, ERR_INPUT, "reserved bits are set");
    return 0;
}

static void acpi_pm_loaded(void *device)
{
    struct acpi_pm *pm = device;
    pthread_mutex_lock(&pm->lock);
    update(pm, vm_clock_now_ns(pm->clock));
    irq_set(&pm->sci, pm->line);
    pthread_mutex_unlock(&pm->lock);
}

static const struct device_ops acpi_pm_device_ops = {
    .kind = "acpi-pm",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
    .reset = acpi_pm_reset,
    .check = acpi_pm_check,
    .loaded = acpi_pm_loaded,
};

static void place(struct acpi_pm *pm)
{
    pm->event_range =
        (struct bus_range){"pm1-event", MAP_PORT_PM1_EVENT, 4, &event_ops, pm, false, 0};
    pm->control_range =
        (struct bus_range){"pm1-control", MAP_PORT_PM1_CONTROL, 2, &control_ops, pm, false, 0};
    pm->timer_range =
        (struct bus_range){"pm-timer", MAP_PORT_PM_TIMER, 4, &timer_ops, pm, false, 0};
    pm->gpe_range = (struct bus_range){"gpe0", MAP_PORT_GPE0, 4, &gpe_ops, pm, false, 0};
    pm->system_a_range =
        (struct bus_range){"system-control-a", PORT_SYSTEM_A, 1, &system_a_ops, pm, false, 0};
}

struct acpi_pm *acpi_pm_create(struct bus *ports, struct vm_clock *clock, struct irq_line sci,
                               struct machine_events events, struct err *err)
{
    struct acpi_pm *pm = calloc(1, sizeof(*pm));
    if (!pm) {
        err_set(err, ERR_LIMIT, "no memory");
        return NULL;
    }
    pthread_mutex_init(&pm->lock, NULL);
    pm->device = (struct device){.ops = &acpi_pm_device_ops, .name = "acpi-pm", .self = pm};
    pm->ports = ports;
    pm->clock = clock;
    pm->sci = sci;
    pm->events = events;
    vm_timer_init(&pm->timer, clock, timer_reached, pm);
    clear(pm);
    place(pm);
    if (bus_add(ports, &pm->event_range, err) || bus_add(ports, &pm->control_range, err) ||
        bus_add(ports, &pm->timer_range, err) || bus_add(ports, &pm->gpe_range, err) ||
        bus_add(ports, &pm->system_a_range, err)) {
        acpi_pm_destroy(pm);
        return NULL;
    }
    return pm;
}

void acpi_pm_destroy(struct acpi_pm *pm)
{
    if (!pm)
        return;
    bus_remove(pm->ports, &pm->event_range);
    bus_remove(pm->ports, &pm->control_range);
    bus_remove(pm->ports, &pm->timer_range);
    bus_remove(pm->ports, &pm->gpe_range);
    bus_remove(pm->ports, &pm->system_a_range);
    vm_timer_cancel(&pm->timer);
    pthread_mutex_destroy(&pm->lock);
    free(pm);
}

struct device *acpi_pm_device(struct acpi_pm *pm)
{
    return &pm->device;
}
