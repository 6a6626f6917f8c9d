// SPDX-License-Identifier: Apache-2.0
//
// The keyboard controller (IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary
// Device Controller"; Intel 8042) at ports 0x60 and 0x64: self test, configuration byte, A20
// (always open), the pulse on the CPU's reset line; and, if asked for, a PS/2 keyboard (IRQ 1). A
// port without a device answers as a controller does whose transmission timed out.
#ifndef WIRT_MACHINE_CHIP_I8042_H
#define WIRT_MACHINE_CHIP_I8042_H

#include "machine/chip/chip.h"

struct i8042;

struct i8042 *i8042_create(struct bus *ports, struct irq_line irq1, struct irq_line irq12,
                           bool keyboard, struct machine_events events, struct err *err);
void i8042_destroy(struct i8042 *i8042);
struct device *i8042_device(struct i8042 *i8042);

// Bytes of scan code set 2 from the keyboard, all or (when its buffer is full, nobody scans, or
// there is no keyboard) none.
bool i8042_key(struct i8042 *i8042, const uint8_t *codes, unsigned length);

#endif
