// SPDX-License-Identifier: Apache-2.0
//
// The host bridge: both ways into configuration space, the slots, and BAR addresses for kernels without firmware.
//
// The bridge presents itself as the generic ECAM host bridge that Linux and SeaBIOS know by its class; its
// subsystem identity is the one by which SeaBIOS recognizes a virtual machine with fw_cfg.
#include "machine/pci/pci.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "machine/device/memory_map.h"
#include "machine/pci/msix.h"
#include "machine/pci/pci_internal.h"

#define ADDRESS_ON       0x80000000u
#define ADDRESS_WRITABLE 0x80FFFFFCu
#define PORT_DATA        4u // from 0xCF8
#define PORT_RESET       1u
#define LARGE_BAR_BYTES  (64 * MIB) // from here on above 4 GiB

static_assert(PCI_INTX_FIRST_LINE == MAP_IRQ_PCI_FIRST, "the ACPI tables and the bridge agree");

static const struct pci_identity bridge_identity = {
    .vendor = 0x1B36,
    .device = 0x0008,
    .subsystem_vendor = 0x1AF4,
    .subsystem = 0x1100,
    .class_code = 0x060000,
};

// ---- Configuration accesses. An address is bus << 20 | slot << 15 | function << 12 | offset, as in ECAM.

static uint64_t config_read(struct pci_host *host, uint64_t address, unsigned size)
{
    uint64_t slot = address >> 15, offset = address & 0xFFF;
    uint64_t value = bits_mask(8 * size);
    pthread_mutex_lock(&host->lock);
    struct pci_function *function =
        slot < PCI_SLOTS && !(address >> 12 & 7) ? host->slots[slot] : NULL;
    if (function)
        value = offset < PCI_CONFIG_BYTES ? pci_function_read(function, (unsigned)offset, size) : 0;
    pthread_mutex_unlock(&host->lock);
    return value;
}

static void config_write(struct pci_host *host, uint64_t address, uint32_t value, unsigned size)
{
    uint64_t slot = address >> 15, offset = address & 0xFFF;
    pthread_mutex_lock(&host->lock);
    struct pci_function *function =
        slot < PCI_SLOTS && !(address >> 12 & 7) ? host->slots[slot] : NULL;
    if (function && offset < PCI_CONFIG_BYTES)
        pci_function_write(function, (unsigned)offset, value, size);
    pthread_mutex_unlock(&host->lock);
}

static uint64_t ecam_read(void *context, uint64_t offset, unsigned size)
{
    return config_read(context, offset, size);
}

static void ecam_write(void *context, uint64_t offset, uint64_t value, unsigned size)
{
    config_write(context, offset, (uint32_t)value, size);
}

static const struct bus_ops ecam_ops = {.read = ecam_read, .write = ecam_write, .max_size = 4};

// What 0xCF8 selects, as an ECAM address; false when it is switched off.
static bool selected(struct pci_host *host, uint64_t port_offset, uint64_t *address)
{
    pthread_mutex_lock(&host->lock);
    uint32_t config_address = host->config_address;
    pthread_mutex_unlock(&host->lock);
    *address =
        (uint64_t)(config_address >> 8 & 0xFFFF) << 12 | (config_address & 0xFC) | port_offset % 4;
    return config_address & ADDRESS_ON;
}

static uint64_t ports_read(void *context, uint64_t offset, unsigned size)
{
    struct pci_host *host = context;
    uint64_t address;
    if (offset >= PORT_DATA)
        return selected(host, offset, &address) ? config_read(host, address, size)
                                                : bits_mask(8 * size);
    if (offset || size != 4)
        return bits_mask(8 * size);
    pthread_mutex_lock(&host->lock);
    uint32_t value = host->config_address;
    pthread_mutex_unlock(&host->lock);
    return value;
}

static void ports_write(void *context, uint64_t offset, uint64_t value, unsigned size)
{
    struct pci_host *host = context;
    uint64_t address;
    if (offset >= PORT_DATA) {
        if (selected(host, offset, &address))
            config_write(host, address, (uint32_t)value, size);
    } else if (offset == 0 && size == 4) {
        pthread_mutex_lock(&host->lock);
        host->config_address = (uint32_t)value & ADDRESS_WRITABLE;
        pthread_mutex_unlock(&host->lock);
    } else if (offset == PORT_RESET && size == 1 && host->params.reset_control) {
        host->params.reset_control(host->params.reset_context, (uint8_t)value);
    }
}

static const struct bus_ops ports_ops = {.read = ports_read, .write = ports_write};

// ---- Saved state of the bridge itself

static void host_reset(void *self)
{
    struct pci_host *host = self;
    host->config_address = 0;
}

static const struct field fields[] = {
    FIELD_U32(struct pci_host, config_address),
};

static const struct device_ops host_device_ops = {
    .kind = "pci-host",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
    .reset = host_reset,
};

// ---- Slots

static void link_device(struct pci_host *host, struct device *device)
{
    device->next = *host->params.devices;
    *host->params.devices = device;
}

static void unlink_device(struct pci_host *host, struct device *device)
{
    struct device **at = host->params.devices;
    while (*at && *at != device)
        at = &(*at)->next;
    if (*at)
        *at = device->next;
}

static int free_slot(const struct pci_host *host)
{
    for (int s = 0; s < (int)PCI_SLOTS; s++)
        if (!host->slots[s])
            return s;
    return -1;
}

int pci_host_plug(struct pci_host *host, struct pci_function *function, int slot, struct err *err)
{
    assert(function->slot < 0 && slot < (int)PCI_SLOTS);
    pthread_mutex_lock(&host->lock);
    if (slot < 0)
        slot = free_slot(host);
    bool taken = slot < 0 || host->slots[slot];
    if (!taken) {
        function->host = host;
        pci_msix_open_routes(function);
        host->slots[slot] = function;
        pthread_mutex_lock(&host->interrupt_lock);
        function->slot = slot;
        pthread_mutex_unlock(&host->interrupt_lock);
        link_device(host, &function->device);
        pci_host_map_bars(host);
        pci_intx_update(function);
    }
    pthread_mutex_unlock(&host->lock);
    if (!taken)
        return 0;
    if (slot < 0)
        return err_set(err, ERR_LIMIT, "%s: all %u PCI slots are taken", function->name, PCI_SLOTS);
    return err_set(err, ERR_EXISTS, "%s: PCI slot %d is taken by %s", function->name, slot,
                   host->slots[slot]->name);
}

void pci_host_unplug(struct pci_function *function)
{
    struct pci_host *host = function->host;
    if (function->slot < 0)
        return;
    pci_intx_set(function, false);
    pthread_mutex_lock(&host->lock);
    pci_function_unmap(function);
    host->slots[function->slot] = NULL;
    unlink_device(host, &function->device);
    pci_host_map_bars(host); // somebody may have waited for the room
    // No interrupt any more, from whatever thread.
    pthread_mutex_lock(&function->msix_lock);
    function->msix_enabled = false;
    pthread_mutex_unlock(&function->msix_lock);
    pthread_mutex_lock(&host->interrupt_lock);
    function->slot = -1;
    pthread_mutex_unlock(&host->interrupt_lock);
    pci_msix_close_routes(function);
    pthread_mutex_unlock(&host->lock);
}

struct pci_function *pci_host_function(struct pci_host *host, unsigned slot)
{
    assert(slot < PCI_SLOTS);
    pthread_mutex_lock(&host->lock);
    struct pci_function *function = host->slots[slot];
    pthread_mutex_unlock(&host->lock);
    return function;
}

// ---- The firmware's part

struct windows {
    uint64_t low, high;
};

static void assign_function(struct pci_function *function, struct windows *next)
{
    bool any = false;
    for (unsigned i = 0; i < PCI_BARS; i++) {
        const struct pci_bar *bar = &function->bars[i];
        if (!bar->bytes)
            continue;
        uint64_t *from = bar->wide && bar->bytes >= LARGE_BAR_BYTES ? &next->high : &next->low;
        uint64_t start = align_up(*from, bar->bytes);
        *from = start + bar->bytes;
        uint8_t *at = function->config + PCI_BAR0 + 4 * i;
        store_le32(at, (uint32_t)start | (load_le32(at) & 0xF));
        if (bar->wide)
            store_le32(at + 4, (uint32_t)(start >> 32));
        any = true;
    }
    if (any)
        function->config[PCI_COMMAND] |= PCI_COMMAND_MEMORY;
    if (function->config[PCI_INTERRUPT_PIN])
        function->config[PCI_INTERRUPT_LINE] =
            (uint8_t)(PCI_INTX_FIRST_LINE + (unsigned)function->slot % PCI_INTX_LINES);
}

void pci_host_assign(struct pci_host *host)
{
    struct windows next = {MAP_PCI_BAR32_START, MAP_PCI_BAR64_START};
    pthread_mutex_lock(&host->lock);
    for (unsigned s = 0; s < PCI_SLOTS; s++)
        if (host->slots[s])
            assign_function(host->slots[s], &next);
    pci_host_map_bars(host);
    pthread_mutex_unlock(&host->lock);
}

// ---- Making

struct pci_host *pci_host_create(const struct pci_host_params *params, struct err *err)
{
    struct pci_host *host = calloc(1, sizeof(*host));
    if (!host) {
        err_set_errno(err, ENOMEM, "PCI host bridge");
        return NULL;
    }
    host->params = *params;
    host->device = (struct device){.ops = &host_device_ops, .name = "pci", .self = host};
    pthread_mutex_init(&host->lock, NULL);
    pthread_mutex_init(&host->interrupt_lock, NULL);
    host->ports = (struct bus_range){.name = "pci-ports",
                                     .start = MAP_PORT_PCI_CONFIG,
                                     .length = 8,
                                     .ops = &ports_ops,
                                     .device = host};
    host->ecam = (struct bus_range){.name = "pci-ecam",
                                    .start = MAP_ECAM_START,
                                    .length = MAP_ECAM_LENGTH,
                                    .ops = &ecam_ops,
                                    .device = host};
    pci_function_init(&host->bridge, "pci-bridge", &bridge_identity, NULL, host);
    link_device(host, &host->device);
    if (bus_add(params->ports, &host->ports, err) < 0 ||
        bus_add(params->mmio, &host->ecam, err) < 0 || pci_hotplug_init(host, err) < 0 ||
        pci_host_plug(host, &host->bridge, 0, err) < 0) {
        err_wrap(err, "PCI host bridge");
        pci_host_destroy(host);
        return NULL;
    }
    return host;
}

void pci_host_destroy(struct pci_host *host)
{
    if (!host)
        return;
    pci_host_unplug(&host->bridge);
    for (unsigned s = 0; s < PCI_SLOTS; s++)
        assert(!host->slots[s]);
    pci_hotplug_fini(host);
    if (host->ecam.linked)
        bus_remove(host->params.mmio, &host->ecam);
    if (host->ports.linked)
        bus_remove(host->params.ports, &host->ports);
    unlink_device(host, &host->device);
    pci_function_fini(&host->bridge);
    pthread_mutex_destroy(&host->interrupt_lock);
    pthread_mutex_destroy(&host->lock);
    free(host);
}
