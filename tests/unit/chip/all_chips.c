// SPDX-License-Identifier: Apache-2.0
#include "all_chips.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "machine/device/memory_map.h"

static void digest(struct all_chips *chips, uint64_t value)
{
    chips->digest = (chips->digest ^ value) * 0x100000001B3ull + 1;
}

static void set_line(void *context, unsigned line, bool level)
{
    struct all_chips *chips = context;
    if (line < 16)
        pic_set_line(chips->pic, line, level);
    ioapic_set_line(chips->ioapic, line == 0 ? 2 : line, level);
}

static void send_msi(void *context, uint64_t address, uint32_t data)
{
    ((struct all_chips *)context)->messages++;
    digest(context, address ^ (uint64_t)data << 32);
}

static void pic_out(void *context, bool level)
{
    ((struct all_chips *)context)->messages++;
    digest(context, level);
}

static void apic_send(void *context, const struct apic_message *message)
{
    ((struct all_chips *)context)->messages++;
    digest(context, message->vector | (uint64_t)message->destination << 32);
}

static void take_lines(void *context, bool on)
{
    struct all_chips *chips = context;
    pit_set_disconnected(chips->pit, on);
    rtc_set_disconnected(chips->rtc, on);
}

static void event(void *context)
{
    ((struct all_chips *)context)->events++;
}

static void event_exit(void *context, uint32_t value)
{
    ((struct all_chips *)context)->events++;
}

static void event_panicked(void *context, bool crash_handled)
{
    ((struct all_chips *)context)->events++;
}

static const struct irq_controller_ops irq_ops = {.set_line = set_line, .send_msi = send_msi};
static const struct machine_events_ops events_ops = {event, event, event_exit, event_panicked};

static void *made(void *chip)
{
    if (!chip)
        abort();
    return chip;
}

static void link_device(struct all_chips *chips, struct device *device)
{
    device->next = chips->devices;
    chips->devices = device;
}

void all_chips_init(struct all_chips *c)
{
    *c = (struct all_chips){.irqs = {&irq_ops, c}};
    struct machine_events events = {&events_ops, c};
    struct char_backend none = {0};
    c->ports = made(bus_create(BUS_PORT));
    c->mmio = made(bus_create(BUS_MMIO));
    c->clock = made(vm_clock_create(true, 2000000000, NULL, NULL));
    c->memory = made(guest_memory_create(2 * MIB, -1, NULL));
    c->pic = made(pic_create(c->ports, pic_out, c, NULL));
    c->ioapic = made(ioapic_create(c->mmio, apic_send, c, NULL));
    c->pit = made(pit_create(c->ports, c->clock, (struct irq_line){&c->irqs, 0}, NULL));
    c->rtc = made(rtc_create(c->ports, c->clock, (struct irq_line){&c->irqs, 8}, NULL));
    c->hpet = made(hpet_create(c->mmio, c->clock, &c->irqs, take_lines, c, NULL));
    c->acpi_pm =
        made(acpi_pm_create(c->ports, c->clock, (struct irq_line){&c->irqs, 9}, events, NULL));
    c->i8042 = made(i8042_create(c->ports, (struct irq_line){&c->irqs, 1},
                                 (struct irq_line){&c->irqs, 12}, true, events, NULL));
    c->fw_cfg = made(fw_cfg_create(c->ports, c->memory, NULL));
    c->uart = made(
        uart_create("uart0", c->ports, UART_COM1_PORT, (struct irq_line){&c->irqs, 4}, none, NULL));
    c->debug_ports = made(debug_ports_create(c->ports, none, none, events, NULL));
    static const uint8_t file[5000] = {1, 2, 3};
    if (fw_cfg_add_file(c->fw_cfg, "etc/test", file, sizeof(file), NULL) != 0)
        abort();
    link_device(c, pic_device(c->pic));
    link_device(c, ioapic_device(c->ioapic));
    link_device(c, pit_device(c->pit));
    link_device(c, rtc_device(c->rtc));
    link_device(c, hpet_device(c->hpet));
    link_device(c, acpi_pm_device(c->acpi_pm));
    link_device(c, i8042_device(c->i8042));
    link_device(c, fw_cfg_device(c->fw_cfg));
    link_device(c, uart_device(c->uart));
}

void all_chips_fini(struct all_chips *c)
{
    debug_ports_destroy(c->debug_ports);
    uart_destroy(c->uart);
    fw_cfg_destroy(c->fw_cfg);
    i8042_destroy(c->i8042);
    acpi_pm_destroy(c->acpi_pm);
    hpet_destroy(c->hpet);
    rtc_destroy(c->rtc);
    pit_destroy(c->pit);
    ioapic_destroy(c->ioapic);
    pic_destroy(c->pic);
    guest_memory_destroy(c->memory);
    vm_clock_destroy(c->clock);
    bus_destroy(c->ports);
    bus_destroy(c->mmio);
}

static const uint16_t ports[] = {
    0x20,  0x21,  0xA0,  0xA1,  0x4D0, 0x4D1, 0x40,  0x41,  0x42,  0x43,  0x61,  0x70,
    0x71,  0x60,  0x64,  0x92,  0x3F8, 0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x3FD, 0x3FE, 0x3FF,
    0x510, 0x511, 0x514, 0x518, 0x600, 0x602, 0x604, 0x608, 0x620, 0x622, 0x80,  0xE9,
    0xF4,  0x402, 0x505, 0x71,  0x71,  0x70,  0x43,  0x40,  0x3F8, 0x64,  0x60,  0x61,
};

static const uint64_t registers[] = {
    MAP_IOAPIC_START,        MAP_IOAPIC_START + 0x10, MAP_IOAPIC_START + 0x10,
    MAP_IOAPIC_START + 0x40, MAP_HPET_START,          MAP_HPET_START + 0x10,
    MAP_HPET_START + 0x10,   MAP_HPET_START + 0x20,   MAP_HPET_START + 0xF0,
    MAP_HPET_START + 0x100,  MAP_HPET_START + 0x108,  MAP_HPET_START + 0x110,
    MAP_HPET_START + 0x120,  MAP_HPET_START + 0x128,  MAP_HPET_START + 0x148,
    MAP_HPET_START + 0x3F8,
};

// Other things than the guest's accesses.
static void outside_event(struct all_chips *c, const uint8_t bytes[8])
{
    switch (bytes[1] % 8) {
    case 0:
        acpi_pm_press_power_button(c->acpi_pm);
        break;
    case 1:
        acpi_pm_raise_gpe(c->acpi_pm, bytes[2]);
        break;
    case 2:
        acpi_pm_reset_control(c->acpi_pm, bytes[2]);
        break;
    case 3:
        uart_input(c->uart, bytes + 2, 6);
        break;
    case 4:
        i8042_key(c->i8042, bytes + 2, bytes[3] % 6);
        break;
    case 5:
        pic_acknowledge(c->pic);
        break;
    case 6:
        ioapic_eoi(c->ioapic, bytes[2]);
        break;
    case 7:
        set_line(c, bytes[2] % IRQ_LINES, bytes[3] & 1);
        break;
    }
}

void all_chips_step(struct all_chips *c, const uint8_t bytes[8])
{
    unsigned size = 1u << (bytes[1] >> 6), near = bytes[1] >> 4 & 3;
    uint64_t value = load_le32(bytes + 4), port = ports[bytes[2] % ARRAY_LENGTH(ports)];
    uint64_t address = registers[bytes[2] % ARRAY_LENGTH(registers)] + (near == 3 ? bytes[3] : 0);
    switch (bytes[0] % 8) {
    case 0:
    case 1:
        bus_write(c->ports, port + (near == 3 ? bytes[3] % 4 : 0), value, size > 4 ? 1 : size);
        break;
    case 2:
    case 3:
        bus_read(c->ports, port + (near == 3 ? bytes[3] % 4 : 0), size > 4 ? 1 : size, &value);
        digest(c, value);
        break;
    case 4:
        bus_write(c->mmio, address, value | value << 40, size);
        break;
    case 5:
        bus_read(c->mmio, address, size, &value);
        digest(c, value);
        break;
    case 6:
        vm_clock_advance(c->clock, value >> (bytes[1] % 32));
        vm_clock_run_timers(c->clock);
        break;
    case 7:
        outside_event(c, bytes);
        break;
    }
}
