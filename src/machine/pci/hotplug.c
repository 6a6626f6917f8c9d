// SPDX-License-Identifier: Apache-2.0
#include "machine/pci/hotplug.h"

#include <assert.h>
#include <string.h>

#include "base/bits.h"
#include "machine/device/memory_map.h"
#include "machine/pci/pci_internal.h"

enum {
    REGISTER_UP = 0,
    REGISTER_DOWN = 4,
    REGISTER_EJECT = 8,
    REGISTER_PRESENT = 12,
    REGISTERS_BYTES = 16
};

static uint32_t present(const struct pci_host *host)
{
    uint32_t slots = 0;
    for (unsigned s = 0; s < PCI_SLOTS; s++)
        if (host->slots[s])
            slots |= 1u << s;
    return slots;
}

static uint64_t hotplug_read(void *context, uint64_t offset, unsigned size)
{
    struct pci_host *host = context;
    uint32_t value = 0;
    pthread_mutex_lock(&host->lock);
    if (offset == REGISTER_UP)
        value = host->hotplug.up;
    else if (offset == REGISTER_DOWN)
        value = host->hotplug.down;
    else if (offset == REGISTER_PRESENT)
        value = present(host);
    pthread_mutex_unlock(&host->lock);
    return value;
}

// Only what somebody asked to unplug can be ejected: the guest cannot throw out its own bridge.
static void eject(struct pci_host *host, uint32_t slots)
{
    for (unsigned s = 0; s < PCI_SLOTS; s++) {
        if (!(slots >> s & 1))
            continue;
        pthread_mutex_lock(&host->lock);
        struct pci_function *function = host->slots[s];
        pci_ejected *ejected = host->hotplug.ejected[s];
        void *ejected_context = host->hotplug.ejected_context[s];
        host->hotplug.ejected[s] = NULL;
        host->hotplug.down &= ~(1u << s);
        pthread_mutex_unlock(&host->lock);
        if (!function || !ejected)
            continue;
        pci_host_unplug(function);
        ejected(ejected_context, function);
    }
}

static void hotplug_write(void *context, uint64_t offset, uint64_t value, unsigned size)
{
    struct pci_host *host = context;
    if (offset == REGISTER_EJECT) {
        eject(host, (uint32_t)value);
        return;
    }
    pthread_mutex_lock(&host->lock);
    if (offset == REGISTER_UP)
        host->hotplug.up &= ~(uint32_t)value;
    else if (offset == REGISTER_DOWN)
        host->hotplug.down &= ~(uint32_t)value;
    pthread_mutex_unlock(&host->lock);
}

static const struct bus_ops hotplug_ops = {
    .read = hotplug_read, .write = hotplug_write, .min_size = 4, .max_size = 4};

static void raise_event(struct pci_host *host)
{
    if (host->params.raise_gpe)
        host->params.raise_gpe(host->params.gpe_context, PCI_HOTPLUG_GPE);
}

int pci_hotplug_plug(struct pci_host *host, struct pci_function *function, int slot,
                     struct err *err)
{
    if (pci_host_plug(host, function, slot, err) < 0)
        return -1;
    pthread_mutex_lock(&host->lock);
    host->hotplug.up |= 1u << function->slot;
    pthread_mutex_unlock(&host->lock);
    raise_event(host);
    return 0;
}

int pci_hotplug_unplug(struct pci_function *function, pci_ejected *ejected, void *context,
                       struct err *err)
{
    struct pci_host *host = function->host;
    if (!host || function->slot < 0)
        return err_set(err, ERR_NOT_FOUND, "%s is in no PCI slot", function->name);
    pthread_mutex_lock(&host->lock);
    int slot = function->slot;
    if (slot >= 0) {
        host->hotplug.down |= 1u << slot;
        host->hotplug.ejected[slot] = ejected;
        host->hotplug.ejected_context[slot] = context;
    }
    pthread_mutex_unlock(&host->lock);
    if (slot < 0)
        return err_set(err, ERR_NOT_FOUND, "%s has just left its PCI slot", function->name);
    raise_event(host);
    return 0;
}

// A guest that starts anew finds what is there by itself; who was asked to go is asked again.
static void hotplug_reset(void *self)
{
    struct pci_host *host = self;
    host->hotplug.up = 0;
}

static const struct field fields[] = {
    FIELD_U32(struct pci_host, hotplug.up),
    FIELD_U32(struct pci_host, hotplug.down),
};

static const struct device_ops hotplug_device_ops = {
    .kind = "pci-hotplug",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
    .reset = hotplug_reset,
};

int pci_hotplug_init(struct pci_host *host, struct err *err)
{
    struct pci_hotplug *hotplug = &host->hotplug;
    hotplug->device =
        (struct device){.ops = &hotplug_device_ops, .name = "pci-hotplug", .self = host};
    hotplug->range = (struct bus_range){.name = "pci-hotplug",
                                        .start = MAP_PORT_PCI_HOTPLUG,
                                        .length = REGISTERS_BYTES,
                                        .ops = &hotplug_ops,
                                        .device = host};
    hotplug->device.next = *host->params.devices;
    *host->params.devices = &hotplug->device;
    return bus_add(host->params.ports, &hotplug->range, err);
}

void pci_hotplug_fini(struct pci_host *host)
{
    if (host->hotplug.range.linked)
        bus_remove(host->params.ports, &host->hotplug.range);
    struct device **at = host->params.devices;
    while (*at && *at != &host->hotplug.device)
        at = &(*at)->next;
    if (*at)
        *at = host->hotplug.device.next;
}
