// SPDX-License-Identifier: Apache-2.0
//
// The I/O APIC with 24 inputs (Intel 82093AA data sheet; version 0x20 with the EOI register of
// later chipsets).
#ifndef WIRT_MACHINE_CHIP_IOAPIC_H
#define WIRT_MACHINE_CHIP_IOAPIC_H

#include "machine/chip/chip.h"
#include "machine/cpu/lapic.h"

#define IOAPIC_INPUTS 24u

struct ioapic;

// Carries a message to the local APICs. Called with the ioapic's lock held, on any thread.
typedef void ioapic_send(void *context, const struct apic_message *message);

struct ioapic *ioapic_create(struct bus *mmio, ioapic_send *send, void *context, struct err *err);
void ioapic_destroy(struct ioapic *ioapic);
struct device *ioapic_device(struct ioapic *ioapic);

void ioapic_set_line(struct ioapic *ioapic, unsigned input, bool level);
// A local APIC ended a level-triggered interrupt. In the form that struct cpu_system wants.
void ioapic_eoi(void *ioapic, uint8_t vector);

// All registers, for backends that have an I/O APIC of their own. While the vCPUs stand still.
struct ioapic_registers {
    uint32_t select, id;
    uint32_t levels; // a bit an input
    uint64_t entries[IOAPIC_INPUTS];
};
void ioapic_get_registers(struct ioapic *ioapic, struct ioapic_registers *registers);
void ioapic_set_registers(struct ioapic *ioapic, const struct ioapic_registers *registers);

// Levels by interrupt line (device/irq.h) and by input: the same but for line 0, which arrives at input 2.
static inline uint32_t ioapic_levels_of_lines(uint32_t lines)
{
    return (lines & ~5u) | (lines & 1u) << 2;
}

static inline uint32_t ioapic_lines_of_levels(uint32_t levels)
{
    return (levels & ~5u) | (levels >> 2 & 1u);
}

#endif
