// SPDX-License-Identifier: Apache-2.0
//
// Two cascaded 8259A interrupt controllers with the ELCR (Intel 8259A data sheet; 82093AA/ICH
// edge/level control registers at 0x4D0 and 0x4D1), at ports 0x20 and 0xA0.
#ifndef WIRT_MACHINE_CHIP_PIC_H
#define WIRT_MACHINE_CHIP_PIC_H

#include "machine/chip/chip.h"

struct pic;

// INTR changed. Called with the pic's lock held, on any thread.
typedef void pic_output(void *context, bool level);

struct pic *pic_create(struct bus *ports, pic_output *output, void *context, struct err *err);
void pic_destroy(struct pic *pic);
struct device *pic_device(struct pic *pic);

// Lines 0 to 15; 2 is the cascade and ignored.
void pic_set_line(struct pic *pic, unsigned line, bool level);

// For the CPU: is INTR asserted; the interrupt acknowledge cycle, which yields a vector, or -1 when
// INTR is not asserted (any more). In the form that struct cpu_system wants.
bool pic_pending(void *pic);
int pic_acknowledge(void *pic);

#endif
