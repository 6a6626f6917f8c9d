// SPDX-License-Identifier: Apache-2.0
//
// Every chip with state on two buses, wired to interrupt controllers whose messages go nowhere: for
// the tests of saving and loading, and for the fuzz targets. Needs no test framework.
#ifndef WIRT_TESTS_UNIT_CHIP_ALL_CHIPS_H
#define WIRT_TESTS_UNIT_CHIP_ALL_CHIPS_H

#include "machine/chip/acpi_pm.h"
#include "machine/chip/debug_ports.h"
#include "machine/chip/fw_cfg.h"
#include "machine/chip/hpet.h"
#include "machine/chip/i8042.h"
#include "machine/chip/ioapic.h"
#include "machine/chip/pic.h"
#include "machine/chip/pit.h"
#include "machine/chip/rtc.h"
#include "machine/chip/uart.h"
#include "machine/memory/guest_memory.h"

struct all_chips {
    struct bus *ports, *mmio;
    struct vm_clock *clock;
    struct guest_memory *memory;
    struct irq_controller irqs;
    struct pic *pic;
    struct ioapic *ioapic;
    struct pit *pit;
    struct rtc *rtc;
    struct hpet *hpet;
    struct acpi_pm *acpi_pm;
    struct i8042 *i8042;
    struct fw_cfg *fw_cfg;
    struct uart *uart;
    struct debug_ports *debug_ports;
    struct device *devices;    // a list
    unsigned messages, events; // how often the chips told somebody
    uint64_t digest;           // of all that the guest read, and of the interrupts
};

// Aborts when something cannot be made.
void all_chips_init(struct all_chips *chips);
void all_chips_fini(struct all_chips *chips);

// One step of guest traffic, drawn from eight bytes: an access to a port or register that some chip
// answers, or time that passes.
void all_chips_step(struct all_chips *chips, const uint8_t bytes[8]);

#endif
