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

// All registers of the master (0) or the slave (1), for backends that have a PIC of their own. While the vCPUs stand still.
struct pic_registers {
    uint8_t lines; // levels of the inputs
    uint8_t irr, isr, imr, elcr, elcr_mask;
    uint8_t vector_base;
    uint8_t lowest; // input of lowest priority
    uint8_t step;   // 0: ready; else the number of initialization words read
    bool wants_icw4, read_isr, poll, special_mask, auto_eoi, rotate_on_auto_eoi,
        special_fully_nested;
};
void pic_get_registers(struct pic *pic, unsigned chip, struct pic_registers *registers);
void pic_set_registers(struct pic *pic, unsigned chip, const struct pic_registers *registers);

#endif
