// SPDX-License-Identifier: Apache-2.0
//
// The PCI bus of the machine: one host bridge, bus 0 with 32 slots of one function each.
//
// Configuration space is reached through ports 0xCF8/0xCFC and through ECAM; both see the same 256 bytes of a
// function. A function declares its identity, BARs and capabilities while it is built, then is plugged into a slot.
// Everything a guest does to it is checked against masks of writable bits. BARs appear on and vanish from the MMIO
// bus as the guest enables and moves them, while vCPUs run. After reset BARs are unassigned, as firmware expects;
// pci_host_assign() does the firmware's part when a kernel is booted directly.
//
// Interrupts: INTA of slot s arrives at I/O APIC input 16 + s % 8 (the ACPI tables say so); functions that share an
// input are ORed here. Or MSI-X (msix.h).
//
// Slots can be plugged and emptied while the machine runs: hotplug.h.
//
// Threads and locks. The host's lock serializes configuration accesses and the mapping of BARs. BAR handlers run
// without it and must never take it, because unmapping a BAR waits for its handlers; they may take their device's
// lock. Order: host lock, device's lock, the function's msix lock, the host's interrupt lock. Interrupts may be
// raised from any thread.
#ifndef WIRT_MACHINE_PCI_PCI_H
#define WIRT_MACHINE_PCI_PCI_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "machine/device/bus.h"
#include "machine/device/device.h"
#include "machine/device/irq.h"

#define PCI_SLOTS           32u
#define PCI_BARS            6u
#define PCI_CONFIG_BYTES    256u
#define PCI_MSIX_VECTORS    64u // at most, per function
#define PCI_INTX_LINES      8u
#define PCI_INTX_FIRST_LINE 16u // I/O APIC input of line 0 (MAP_IRQ_PCI_FIRST)

// Configuration space header, type 0.
enum pci_register {
    PCI_VENDOR_ID = 0x00,
    PCI_DEVICE_ID = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION_ID = 0x08,
    PCI_CLASS = 0x09, // three bytes: interface, subclass, class
    PCI_HEADER_TYPE = 0x0E,
    PCI_BAR0 = 0x10,
    PCI_SUBSYSTEM_VENDOR_ID = 0x2C,
    PCI_SUBSYSTEM_ID = 0x2E,
    PCI_CAPABILITY_POINTER = 0x34,
    PCI_INTERRUPT_LINE = 0x3C,
    PCI_INTERRUPT_PIN = 0x3D,
    PCI_FIRST_CAPABILITY = 0x40,
};

enum pci_command {
    PCI_COMMAND_IO = 1,
    PCI_COMMAND_MEMORY = 2,
    PCI_COMMAND_MASTER = 4,
    PCI_COMMAND_INTX_OFF = 0x400
};
enum pci_status { PCI_STATUS_INTERRUPT = 0x08, PCI_STATUS_CAPABILITIES = 0x10 };
enum pci_capability_id { PCI_CAPABILITY_VENDOR = 0x09, PCI_CAPABILITY_MSIX = 0x11 };

struct pci_host;
struct pci_function;

// A memory BAR. `ops` gets offsets from the BAR's start, except for the part that msix.c answers itself.
struct pci_bar {
    // Constant after creation.
    uint64_t bytes; // a power of two, at least 16; 0: no such BAR
    bool wide;      // 64 bits, takes the next BAR's register too
    bool prefetchable;
    const struct bus_ops *ops;
    void *device;
    const struct bus_doorbell *doorbells; // borrowed
    unsigned doorbell_count;
    struct pci_function *function;
    // Under the host's lock.
    struct bus_range range;
    bool mapped;
};

struct pci_function_ops {
    // The function's own part of configuration space. Called under the host's lock after a write changed bytes, and
    // before a read, of [offset, offset + size); NULL: plain bytes.
    void (*config_written)(void *device, unsigned offset, unsigned size);
    void (*config_read)(void *device, unsigned offset, unsigned size);
};

struct pci_function {
    // Constant after it was plugged.
    const char *name; // borrowed, of the instance: "disk0"
    const struct pci_function_ops *ops;
    void *self;            // for ops
    struct pci_host *host; // set when it was first plugged
    uint8_t writable[PCI_CONFIG_BYTES];
    uint8_t initial[PCI_CONFIG_BYTES]; // as after reset
    struct pci_bar bars[PCI_BARS];
    unsigned capability_end; // where the next capability goes
    unsigned capability_last;
    unsigned msix_vectors; // 0: none
    unsigned msix_bar, msix_capability;
    uint32_t msix_table_offset, msix_pba_offset;

    // Under the host's lock.
    uint8_t config[PCI_CONFIG_BYTES];
    struct device device; // saves the parts of this struct

    // Under msix_lock.
    pthread_mutex_t msix_lock;
    bool msix_enabled, msix_masked;
    uint32_t msix_table[PCI_MSIX_VECTORS * 4];
    uint64_t msix_pending;
    // What each vector's route says at the moment; opened when the function is plugged.
    struct pci_msix_route {
        int route; // -1: none, the message is sent as it is
        int fd;    // borrowed: raises it
        uint64_t address;
        uint32_t data;
    } msix_routes[PCI_MSIX_VECTORS];

    // Under the host's interrupt lock.
    int slot;        // -1: not plugged; changes with the host's lock held too
    bool intx_level; // what the device asks for
    bool intx_off;   // command register
};

struct pci_identity {
    uint16_t vendor, device, subsystem_vendor, subsystem;
    uint32_t class_code; // 0xccssii
    uint8_t revision;
    bool interrupt; // has INTA
};

// ---- Building a function. `name` is borrowed.
void pci_function_init(struct pci_function *function, const char *name,
                       const struct pci_identity *identity, const struct pci_function_ops *ops,
                       void *self);
void pci_function_fini(struct pci_function *function); // unplugged before
void pci_function_add_bar(struct pci_function *function, unsigned index, const struct pci_bar *bar);
// Room for a capability of `length` bytes in all (id and next pointer included), linked into the list, zeroed.
// Returns its offset.
unsigned pci_function_add_capability(struct pci_function *function, uint8_t id, unsigned length);
// Initial bytes and which of their bits the guest may write.
void pci_function_set_config(struct pci_function *function, unsigned offset, const void *bytes,
                             unsigned length);
void pci_function_set_writable(struct pci_function *function, unsigned offset, const void *mask,
                               unsigned length);

// ---- The host bridge.
struct pci_host_params {
    struct bus *ports, *mmio;          // borrowed
    const struct irq_controller *irqs; // borrowed
    struct device *
        *devices; // the machine's list; sections are linked in and out as functions come and go
    // Ports 0xCF8 to 0xCFB belong to the bridge, but a byte written to 0xCF9 is the reset control register.
    void (*reset_control)(void *context, uint8_t value);
    void *reset_context;
    // The general purpose event of hot plug rose (GPE0 bit PCI_HOTPLUG_GPE); any thread.
    void (*raise_gpe)(void *context, unsigned bit);
    void *gpe_context;
};

struct pci_host *pci_host_create(const struct pci_host_params *params, struct err *err);
void pci_host_destroy(struct pci_host *host); // all functions were unplugged; NULL is fine

// Into `slot`, or the first free one (-1). At the machine's making; while it runs use hotplug.h.
int pci_host_plug(struct pci_host *host, struct pci_function *function, int slot, struct err *err);
// Afterwards nothing of the guest reaches the function.
void pci_host_unplug(struct pci_function *function);
struct pci_function *pci_host_function(struct pci_host *host, unsigned slot);

// Give every BAR an address and enable it: for kernels that are booted without firmware. vCPUs stand still.
void pci_host_assign(struct pci_host *host);

// ---- INTA. Any thread.
void pci_intx_set(struct pci_function *function, bool level);

#endif
