// SPDX-License-Identifier: Apache-2.0
//
// The differentiated system description: the PCI host bridge with its windows and interrupt routing, the ISA devices, and soft off.
#include <stdio.h>

#include "base/bits.h"
#include "machine/boot/acpi.h"
#include "machine/boot/aml.h"
#include "machine/device/memory_map.h"

#define PCI_SLOTS 32u
#define PCI_PINS  4u

static void build_sleep_states(struct aml *aml)
{
    aml_name(aml, "\\_S5");
    size_t package = aml_open_package(aml, 4);
    aml_integer(aml, ACPI_S5_TYPE);
    aml_integer(aml, 0);
    aml_integer(aml, 0);
    aml_integer(aml, 0);
    aml_close(aml, package);
}

static void build_bridge_windows(struct aml *aml)
{
    size_t resources = aml_open_resources(aml, "_CRS");
    aml_resource_word_range(aml, AML_RANGE_BUS, 0, 0xFF);
    aml_resource_word_range(aml, AML_RANGE_IO, 0, MAP_PORT_PCI_CONFIG - 1);
    aml_resource_io(aml, MAP_PORT_PCI_CONFIG, 8);
    aml_resource_word_range(aml, AML_RANGE_IO, MAP_PORT_PCI_CONFIG + 8, 0xFFFF);
    aml_resource_memory_range(aml, MAP_PCI_BAR32_START,
                              MAP_PCI_BAR32_START + MAP_PCI_BAR32_LENGTH - 1);
    aml_resource_memory_range(aml, MAP_ECAM_START + MAP_ECAM_LENGTH,
                              MAP_IOAPIC_START - 1); // where firmware puts BARs
    aml_resource_memory_range(aml, MAP_PCI_BAR64_START,
                              MAP_PCI_BAR64_START + MAP_PCI_BAR64_LENGTH - 1);
    aml_close_resources(aml, resources);
}

// Pin p of slot s is wired to I/O APIC input 16 + (s + p) % 8 (pci/ does the same).
static void build_interrupt_routing(struct aml *aml)
{
    aml_name(aml, "_PRT");
    size_t table = aml_open_package(aml, PCI_SLOTS * PCI_PINS);
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
        for (unsigned pin = 0; pin < PCI_PINS; pin++) {
            size_t route = aml_open_package(aml, 4);
            aml_integer(aml, (uint64_t)slot << 16 | 0xFFFF);
            aml_integer(aml, pin);
            aml_integer(aml, 0);
            aml_integer(aml, MAP_IRQ_PCI_FIRST + (slot + pin) % 8);
            aml_close(aml, route);
        }
    aml_close(aml, table);
}

struct isa_device {
    const char *name;
    const char *eisa_id; // NULL: `id`
    const char *id;
    struct {
        uint16_t first;
        uint8_t count;
    } ports[2]; // count 0: none
    int irq;    // -1: none
};

static void build_isa_device(struct aml *aml, const struct isa_device *isa)
{
    size_t device = aml_open_device(aml, isa->name);
    aml_name(aml, "_HID");
    if (isa->eisa_id)
        aml_eisa_id(aml, isa->eisa_id);
    else
        aml_string(aml, isa->id);
    size_t resources = aml_open_resources(aml, "_CRS");
    for (unsigned i = 0; i < ARRAY_LENGTH(isa->ports) && isa->ports[i].count; i++)
        aml_resource_io(aml, isa->ports[i].first, isa->ports[i].count);
    if (isa->irq >= 0)
        aml_resource_irq(aml, (unsigned)isa->irq);
    aml_close_resources(aml, resources);
    aml_close(aml, device);
}

static void build_isa_devices(struct aml *aml)
{
    static const struct isa_device devices[] = {
        {.name = "COM1", .eisa_id = "PNP0501", .ports = {{0x3F8, 8}}, .irq = 4},
        {.name = "RTC", .eisa_id = "PNP0B00", .ports = {{0x70, 2}}, .irq = 8},
        {.name = "KBD", .eisa_id = "PNP0303", .ports = {{0x60, 1}, {0x64, 1}}, .irq = 1},
        {.name = "PEVT", .id = "QEMU0001", .ports = {{MAP_PORT_PVPANIC, 1}}, .irq = -1},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(devices); i++)
        build_isa_device(aml, &devices[i]);
}

// Reserves the ECAM window as a motherboard resource.
static void build_motherboard(struct aml *aml)
{
    size_t device = aml_open_device(aml, "MBRD");
    aml_name(aml, "_HID");
    aml_eisa_id(aml, "PNP0C02");
    size_t resources = aml_open_resources(aml, "_CRS");
    aml_resource_fixed_memory(aml, (uint32_t)MAP_ECAM_START, (uint32_t)MAP_ECAM_LENGTH);
    aml_close_resources(aml, resources);
    aml_close(aml, device);
}

// ---- Hot plug (pci/hotplug.h has the registers and says how it works).

static void slot_name(char name[5], unsigned slot)
{
    snprintf(name, 5, "S%02X", slot);
}

// Slot 0 is the host bridge's own.
static void build_hotplug_slots(struct aml *aml)
{
    for (unsigned slot = 1; slot < PCI_SLOTS; slot++) {
        char name[5];
        slot_name(name, slot);
        size_t device = aml_open_device(aml, name);
        aml_name_integer(aml, "_ADR", (uint64_t)slot << 16);
        aml_name_integer(aml, "_SUN", slot);
        size_t eject = aml_open_method(aml, "_EJ0", 1, false);
        aml_store(aml);
        aml_integer(aml, 1ull << slot);
        aml_name_string(aml, "PEJ");
        aml_close(aml, eject);
        aml_close(aml, device);
    }
}

// HNOT (slots, event): tell the devices of the slots in a mask.
static void build_hotplug_notify(struct aml *aml)
{
    size_t method = aml_open_method(aml, "HNOT", 2, false);
    for (unsigned slot = 1; slot < PCI_SLOTS; slot++) {
        char name[5];
        slot_name(name, slot);
        size_t condition = aml_open_if(aml);
        aml_and(aml);
        aml_argument(aml, 0);
        aml_integer(aml, 1ull << slot);
        aml_end_and(aml);
        aml_notify(aml);
        aml_name_string(aml, name);
        aml_argument(aml, 1);
        aml_close(aml, condition);
    }
    aml_close(aml, method);
}

static void build_hotplug(struct aml *aml)
{
    aml_io_region(aml, "HPRG", MAP_PORT_PCI_HOTPLUG, 16);
    size_t fields = aml_open_field(aml, "HPRG", 4);
    aml_field_unit(aml, "PUP", 32);
    aml_field_unit(aml, "PDWN", 32);
    aml_field_unit(aml, "PEJ", 32);
    aml_field_unit(aml, "PPRS", 32);
    aml_close(aml, fields);
    build_hotplug_slots(aml);
    build_hotplug_notify(aml);
}

// Read a register, clear what was read, and notify.
static void build_hotplug_event(struct aml *aml, const char *reg, unsigned event)
{
    aml_store(aml);
    aml_name_string(aml, reg);
    aml_local(aml, 0);
    aml_store(aml);
    aml_local(aml, 0);
    aml_name_string(aml, reg);
    aml_name_string(aml, "\\_SB.PCI0.HNOT");
    aml_local(aml, 0);
    aml_integer(aml, event);
}

static void build_general_events(struct aml *aml)
{
    size_t scope = aml_open_scope(aml, "\\_GPE");
    size_t method = aml_open_method(aml, "_E01", 0, false);
    build_hotplug_event(aml, "\\_SB.PCI0.PUP", 1);
    build_hotplug_event(aml, "\\_SB.PCI0.PDWN", 3);
    aml_close(aml, method);
    aml_close(aml, scope);
}

static void build_host_bridge(struct aml *aml)
{
    size_t device = aml_open_device(aml, "PCI0");
    aml_name(aml, "_HID");
    aml_eisa_id(aml, "PNP0A08");
    aml_name(aml, "_CID");
    aml_eisa_id(aml, "PNP0A03");
    aml_name_integer(aml, "_UID", 0);
    aml_name_integer(aml, "_SEG", 0);
    aml_name_integer(aml, "_BBN", 0);
    build_bridge_windows(aml);
    build_interrupt_routing(aml);
    build_hotplug(aml);
    aml_close(aml, device);
}

void acpi_build_dsdt(struct aml *aml)
{
    build_sleep_states(aml);
    size_t scope = aml_open_scope(aml, "\\_SB");
    build_host_bridge(aml);
    build_motherboard(aml);
    build_isa_devices(aml);
    aml_close(aml, scope);
    build_general_events(aml);
}
