// SPDX-License-Identifier: Apache-2.0
//
// wirt's own interrupt controllers as one: PIC, I/O APIC and messages to the local APICs, behind
// the interface that devices see (device/irq.h).
//
// Line n of 0 to 15 goes to PIC input n and to I/O APIC input n, except that line 0 arrives at I/O
// APIC input 2 (and line 2, the PIC's cascade, nowhere); lines 16 to 23 go to the I/O APIC alone.
#ifndef WIRT_MACHINE_CHIP_IRQCHIP_H
#define WIRT_MACHINE_CHIP_IRQCHIP_H

#include "machine/chip/chip.h"

struct cpu_system;
struct irqchip;

// Uses system->ports and system->mmio, and fills in its pic_vector, pic_pending, pic, eoi and
// eoi_context. Before vCPUs run.
struct irqchip *irqchip_create(struct cpu_system *system, struct err *err);
void irqchip_destroy(struct irqchip *irqchip);
const struct irq_controller *irqchip_controller(struct irqchip *irqchip);
struct device *irqchip_pic_device(struct irqchip *irqchip);
struct device *irqchip_ioapic_device(struct irqchip *irqchip);

#endif
