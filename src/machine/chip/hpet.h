// SPDX-License-Identifier: Apache-2.0
//
// High precision event timers (IA-PC HPET specification 1.0a): a 64-bit counter of 10 ns ticks and
// three comparators, the first of them periodic, with legacy replacement routing and FSB (MSI)
// delivery.
#ifndef WIRT_MACHINE_CHIP_HPET_H
#define WIRT_MACHINE_CHIP_HPET_H

#include "machine/chip/chip.h"

struct hpet;

// Legacy replacement was switched: timers 0 and 1 take (or give back) IRQ 0 and 8. Called with the
// hpet's lock held.
typedef void hpet_legacy(void *context, bool on);

struct hpet *hpet_create(struct bus *mmio, struct vm_clock *clock,
                         const struct irq_controller *irqs, hpet_legacy *legacy, void *context,
                         struct err *err);
void hpet_destroy(struct hpet *hpet);
struct device *hpet_device(struct hpet *hpet);

#endif
