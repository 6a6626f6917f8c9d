// SPDX-License-Identifier: Apache-2.0
//
// Hot plug of slots the ACPI way: what Linux's acpiphp and every other ACPI system drives without a PCIe port.
//
// Four 32-bit registers at MAP_PORT_PCI_HOTPLUG, a bit for each slot, are read by the machine's AML:
//     +0  UP       slots that got a function; writing ones clears them
//     +4  DOWN     slots whose function is to go; writing ones clears them
//     +8  EJECT    writing ones ejects (_EJ0); reads 0
//     +12 PRESENT  slots that hold a function
// When UP or DOWN gets a bit, GPE0 bit PCI_HOTPLUG_GPE rises; its method (_E01) clears the bits it finds and notifies
// the slots' devices: 1 (device check) for UP, 3 (eject request) for DOWN. The guest's driver lets go, then
// _EJ0 of the slot writes EJECT, and only now is the function taken out.
//
// Threads: plug and unplug are for the thread that controls the machine. `ejected` is called on a vCPU's thread without
// locks; it is to tell the controlling thread, which destroys the device.
#ifndef WIRT_MACHINE_PCI_HOTPLUG_H
#define WIRT_MACHINE_PCI_HOTPLUG_H

#include "machine/pci/pci.h"

#define PCI_HOTPLUG_GPE 1u

// Into a free slot of a running machine; -1: the first.
int pci_hotplug_plug(struct pci_host *host, struct pci_function *function, int slot,
                     struct err *err);

// Asks the guest to let go. When it did, the function has been unplugged and `ejected` is called. A guest without
// a driver never answers; asking again is fine.
typedef void pci_ejected(void *context, struct pci_function *function);
int pci_hotplug_unplug(struct pci_function *function, pci_ejected *ejected, void *context,
                       struct err *err);

#endif
