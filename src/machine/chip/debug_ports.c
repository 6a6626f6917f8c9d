// SPDX-License-Identifier: Apache-2.0
//
// Five ranges on the port bus, all without memory of what was written.
#include "machine/chip/debug_ports.h"

#include <stdlib.h>

#include "base/bits.h"
#include "machine/device/memory_map.h"

#define PORT_POST     0x80u
#define PORT_CONSOLE  0xE9u
#define PORT_FIRMWARE 0x402u
#define PRESENT       0xE9u // both consoles read so

enum { PVPANIC_PANICKED = 1 << 0, PVPANIC_CRASH_LOADED = 1 << 1 };

struct debug_ports {
    struct bus *ports;
    struct char_backend console, firmware;
    struct machine_events events;
    struct bus_range post_range, console_range, firmware_range, exit_range, panic_range;
};

static uint64_t console_read(void *device, uint64_t offset, unsigned size)
{
    return PRESENT;
}

static void console_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct debug_ports *d = device;
    uint8_t byte = (uint8_t)value;
    char_backend_write(&d->console, &byte, 1);
}

static void firmware_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct debug_ports *d = device;
    uint8_t byte = (uint8_t)value;
    char_backend_write(&d->firmware, &byte, 1);
}

static void exit_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct debug_ports *d = device;
    if (d->events.ops->debug_exit)
        d->events.ops->debug_exit(d->events.context, (uint32_t)value);
}

static uint64_t panic_read(void *device, uint64_t offset, unsigned size)
{
    return PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
}

static void panic_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct debug_ports *d = device;
    if ((value & (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED)) && d->events.ops->panicked)
        d->events.ops->panicked(d->events.context, !(value & PVPANIC_PANICKED));
}

static const struct bus_ops post_ops = {.max_size = 1};
static const struct bus_ops console_ops = {console_read, console_write, 1, 1};
static const struct bus_ops firmware_ops = {console_read, firmware_write, 1, 1};
static const struct bus_ops exit_ops = {NULL, exit_write, 1, 4};
static const struct bus_ops panic_ops = {panic_read, panic_write, 1, 1};

struct debug_ports *debug_ports_create(struct bus *ports, struct char_backend console,
                                       struct char_backend firmware, struct machine_events events,
                                       struct err *err)
{
    struct debug_ports *d = calloc(1, sizeof(*d));
    if (!d) {
        err_set(err, ERR_LIMIT, "no memory");
        return NULL;
    }
    d->ports = ports;
    d->console = console;
    d->firmware = firmware;
    d->events = events;
    d->post_range = (struct bus_range){"post", PORT_POST, 1, &post_ops, d, false, 0};
    d->console_range =
        (struct bus_range){"debug-console", PORT_CONSOLE, 1, &console_ops, d, false, 0};
    d->firmware_range =
        (struct bus_range){"debug-firmware", PORT_FIRMWARE, 1, &firmware_ops, d, false, 0};
    d->exit_range =
        (struct bus_range){"debug-exit", MAP_PORT_DEBUG_EXIT, 4, &exit_ops, d, false, 0};
    d->panic_range = (struct bus_range){"pvpanic", MAP_PORT_PVPANIC, 1, &panic_ops, d, false, 0};
    if (bus_add(ports, &d->post_range, err) || bus_add(ports, &d->console_range, err) ||
        bus_add(ports, &d->firmware_range, err) || bus_add(ports, &d->exit_range, err) ||
        bus_add(ports, &d->panic_range, err)) {
        debug_ports_destroy(d);
        return NULL;
    }
    return d;
}

void debug_ports_destroy(struct debug_ports *d)
{
    if (!d)
        return;
    bus_remove(d->ports, &d->post_range);
    bus_remove(d->ports, &d->console_range);
    bus_remove(d->ports, &d->firmware_range);
    bus_remove(d->ports, &d->exit_range);
    bus_remove(d->ports, &d->panic_range);
    free(d);
}
