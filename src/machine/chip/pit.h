// SPDX-License-Identifier: Apache-2.0
//
// The 8254 interval timer (Intel 8254 data sheet) at ports 0x40 to 0x43: counter 0 drives IRQ 0,
// counter 2 the speaker; and port 0x61, which gates counter 2 and shows its output. All six modes,
// BCD, latch and read-back. Counter 1 counts but drives nothing; bit 4 of port 0x61 toggles with
// the refresh that it stood for.
#ifndef WIRT_MACHINE_CHIP_PIT_H
#define WIRT_MACHINE_CHIP_PIT_H

#include "machine/chip/chip.h"

#define PIT_HZ 1193182u

struct pit;

struct pit *pit_create(struct bus *ports, struct vm_clock *clock, struct irq_line irq0,
                       struct err *err);
void pit_destroy(struct pit *pit);
struct device *pit_device(struct pit *pit);

// The HPET's legacy replacement takes IRQ 0 over: the counter goes on, its output is not wired.
void pit_set_disconnected(struct pit *pit, bool disconnected);

#endif
