// SPDX-License-Identifier: Apache-2.0
//
// Where things stand in the guest-physical address space. The ACPI tables, the E820 map, the PCI
// host bridge and the chips all read it here.
//
//     0          640K  1M                3G          3.5G        4G            top of RAM      ...
//     | low RAM   |ROM | RAM              | BARs 32   | ECAM, APICs, ROM | RAM above 4G | BARs 64 |
#ifndef WIRT_MACHINE_DEVICE_MEMORY_MAP_H
#define WIRT_MACHINE_DEVICE_MEMORY_MAP_H

#include "machine/memory/guest_memory.h"

#define MAP_PCI_BAR32_START  0xC0000000ull // = GUEST_LOW_RAM_LIMIT
#define MAP_PCI_BAR32_LENGTH 0x20000000ull
#define MAP_ECAM_START       0xE0000000ull // one segment, 256 buses of 1 MiB
#define MAP_ECAM_LENGTH      0x10000000ull
#define MAP_IOAPIC_START     0xFEC00000ull
#define MAP_HPET_START       0xFED00000ull
#define MAP_LAPIC_START      0xFEE00000ull

// 64-bit BARs start at a fixed place above any RAM that wirt gives, within 40 physical address
// bits.
#define MAP_PCI_BAR64_START  0x8000000000ull // 512 GiB
#define MAP_PCI_BAR64_LENGTH 0x4000000000ull // 256 GiB

#define MAP_PORT_PCI_CONFIG  0xCF8
#define MAP_PORT_ACPI_PM     0x600 // PM1a event 0x600, PM1a control 0x604, PM timer 0x608, GPE0 0x620
#define MAP_PORT_PM1_EVENT   (MAP_PORT_ACPI_PM + 0x00)
#define MAP_PORT_PM1_CONTROL (MAP_PORT_ACPI_PM + 0x04)
#define MAP_PORT_PM_TIMER    (MAP_PORT_ACPI_PM + 0x08)
#define MAP_PORT_GPE0        (MAP_PORT_ACPI_PM + 0x20)
#define MAP_PORT_RESET       0xCF9
#define MAP_PORT_PVPANIC     0x505
#define MAP_PORT_FW_CFG      0x510
#define MAP_PORT_DEBUG_EXIT  0xF4
#define MAP_PORT_PCI_HOTPLUG 0xAE00 // ACPI PCI hotplug registers

#define MAP_IRQ_SCI       9
#define MAP_IRQ_PCI_FIRST 16 // INTA to INTD of slot s arrive at 16 + (s + pin) % 8

#endif
