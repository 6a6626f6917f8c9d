// SPDX-License-Identifier: Apache-2.0
//
// The fixed chips of the machine, and what they ask of it.
#ifndef WIRT_MACHINE_VM_VM_CHIPS_H
#define WIRT_MACHINE_VM_VM_CHIPS_H

#include "machine/chip/acpi_pm.h"
#include "machine/chip/debug_ports.h"
#include "machine/chip/fw_cfg.h"
#include "machine/chip/hpet.h"
#include "machine/chip/i8042.h"
#include "machine/chip/irqchip.h"
#include "machine/chip/pit.h"
#include "machine/chip/rtc.h"
#include "machine/chip/uart.h"

#define VM_CHIP_DEVICES 9 // those with state

struct vm_chips {
    struct irqchip *irqchip;
    struct pit *pit;
    struct rtc *rtc;
    struct hpet *hpet;
    struct acpi_pm *acpi_pm;
    struct i8042 *i8042;
    struct fw_cfg *fw_cfg;
    struct debug_ports *debug_ports;
    struct uart *uart;
    struct device *devices[VM_CHIP_DEVICES];
};

#endif
