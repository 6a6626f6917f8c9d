// SPDX-License-Identifier: Apache-2.0
//
// What the files of pci/ share about the host bridge. Nobody else includes this.
#ifndef WIRT_MACHINE_PCI_PCI_INTERNAL_H
#define WIRT_MACHINE_PCI_PCI_INTERNAL_H

#include "machine/pci/hotplug.h"
#include "machine/pci/pci.h"

struct pci_hotplug {
    struct bus_range range;
    struct device device;
    // Under the host's lock.
    uint32_t up, down; // slots the guest has not been told about yet
    pci_ejected *ejected[PCI_SLOTS];
    void *ejected_context[PCI_SLOTS];
};

struct pci_host {
    struct pci_host_params params; // constant
    struct pci_function bridge;    // slot 0
    struct bus_range ports, ecam;
    struct device device;

    pthread_mutex_t lock;
    struct pci_function *slots[PCI_SLOTS];
    uint32_t config_address; // port 0xCF8
    struct pci_hotplug hotplug;

    pthread_mutex_t interrupt_lock;
    uint32_t asserted[PCI_INTX_LINES]; // bit s: slot s drives the line
};

// ---- function.c
uint32_t pci_function_read(struct pci_function *function, unsigned offset, unsigned size);
void pci_function_write(struct pci_function *function, unsigned offset, uint32_t value,
                        unsigned size);
// Bring the bus in line with the BARs and command registers of all functions. Host lock held.
void pci_host_map_bars(struct pci_host *host);
void pci_function_unmap(struct pci_function *function);
void pci_intx_update(struct pci_function *function);
extern const struct device_ops pci_function_device_ops;

// ---- hotplug.c
int pci_hotplug_init(struct pci_host *host, struct err *err);
void pci_hotplug_fini(struct pci_host *host);

#endif
