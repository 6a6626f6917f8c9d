// SPDX-License-Identifier: Apache-2.0
//
// ACPI fixed hardware (ACPI 6.4, section 4.8): PM1 event and control registers, PM timer (32 bits),
// GPE0 (16 events), S5, power button, SCI on IRQ 9 (level); the reset control register 0xCF9 (its
// port is the PCI host bridge's, which passes bytes on) and system control port A, 0x92. Ports in
// device/memory_map.h. The machine is always in ACPI mode: there is no SMI command port.
#ifndef WIRT_MACHINE_CHIP_ACPI_PM_H
#define WIRT_MACHINE_CHIP_ACPI_PM_H

#include "machine/chip/chip.h"

#define ACPI_PM_S5_TYPE 5u // SLP_TYP of soft off; \_S5 in the DSDT says the same

struct acpi_pm;

struct acpi_pm *acpi_pm_create(struct bus *ports, struct vm_clock *clock, struct irq_line sci,
                               struct machine_events events, struct err *err);
void acpi_pm_destroy(struct acpi_pm *pm);
struct device *acpi_pm_device(struct acpi_pm *pm);

// Any thread. The guest learns of it by an SCI when it has enabled the event.
void acpi_pm_press_power_button(struct acpi_pm *pm);
// General purpose event `bit` (0 to 15) happened. In the form that struct pci_host_params wants.
void acpi_pm_raise_gpe(void *pm, unsigned bit);
// A byte was written to port 0xCF9. In the form that struct pci_host_params wants.
void acpi_pm_reset_control(void *pm, uint8_t value);

#endif
