// SPDX-License-Identifier: Apache-2.0
//
// MSI-X (PCI 3.0, 6.8.2): a table of messages in a BAR, masks, and pending bits.
//
// Threads: pci_msix_send() may be called from any thread; it takes the function's msix lock, so a vector masked on
// one vCPU is not sent by another thread afterwards.
#ifndef WIRT_MACHINE_PCI_MSIX_H
#define WIRT_MACHINE_PCI_MSIX_H

#include "machine/pci/pci.h"

// Before plugging. The table (16 bytes a vector) and the pending bits (8 bytes a started 64 vectors) lie in `bar` and
// hide what the BAR's own handler would answer there; both offsets are multiples of 8.
void pci_msix_init(struct pci_function *function, unsigned vectors, unsigned bar,
                   uint32_t table_offset, uint32_t pba_offset);

bool pci_msix_enabled(struct pci_function *function);
// Nothing when MSI-X is off or there is no such vector.
void pci_msix_send(struct pci_function *function, unsigned vector);

// ---- For the rest of pci/.
// The function is plugged, or leaves: routes for its vectors, where the interrupt controller has them.
void pci_msix_open_routes(struct pci_function *function);
void pci_msix_close_routes(struct pci_function *function);
// Does the access fall into the table or the pending bits? Then it was done.
bool pci_msix_read(struct pci_function *function, unsigned bar, uint64_t offset, unsigned size,
                   uint64_t *value);
bool pci_msix_write(struct pci_function *function, unsigned bar, uint64_t offset, uint64_t value,
                    unsigned size);
void pci_msix_control_changed(
    struct pci_function *function); // the capability's control word was written or loaded
void pci_msix_reset(struct pci_function *function);

#endif
