// SPDX-License-Identifier: Apache-2.0
//
// A function: its configuration space and its BARs.
//
// A write changes the bits that `writable` names and nothing else; then, if it touched the command register or a BAR,
// the bus is brought in line: first everything that moved or was switched off is taken away, then everything
// that is wanted and has room is put up. A BAR that overlaps another stays off the bus until there is room, so
// the order in which a guest moves several of them does not matter.
#include "machine/pci/pci.h"

#include <assert.h>
#include <string.h>

#include "base/bits.h"
#include "machine/pci/msix.h"
#include "machine/pci/pci_internal.h"

#define LOG_MODULE "pci"
#include "base/log.h"

// ---- Building

static void put(struct pci_function *function, unsigned offset, uint64_t value, unsigned size)
{
    pci_function_set_config(function, offset, &value, size); // little-endian host
}

static void allow(struct pci_function *function, unsigned offset, uint64_t mask, unsigned size)
{
    pci_function_set_writable(function, offset, &mask, size);
}

void pci_function_init(struct pci_function *function, const char *name,
                       const struct pci_identity *identity, const struct pci_function_ops *ops,
                       void *self)
{
    memset(function, 0, sizeof(*function));
    function->name = name;
    function->ops = ops;
    function->self = self;
    function->slot = -1;
    function->capability_end = PCI_FIRST_CAPABILITY;
    function->device =
        (struct device){.ops = &pci_function_device_ops, .name = name, .self = function};
    pthread_mutex_init(&function->msix_lock, NULL);
    put(function, PCI_VENDOR_ID, identity->vendor, 2);
    put(function, PCI_DEVICE_ID, identity->device, 2);
    put(function, PCI_REVISION_ID, identity->revision, 1);
    put(function, PCI_CLASS, identity->class_code, 3);
    put(function, PCI_SUBSYSTEM_VENDOR_ID, identity->subsystem_vendor, 2);
    put(function, PCI_SUBSYSTEM_ID, identity->subsystem, 2);
    put(function, PCI_INTERRUPT_PIN, identity->interrupt ? 1 : 0, 1);
    allow(function, PCI_COMMAND, PCI_COMMAND_MASTER | PCI_COMMAND_INTX_OFF, 2);
    allow(function, PCI_INTERRUPT_LINE, 0xFF, 1);
}

void pci_function_fini(struct pci_function *function)
{
    assert(function->slot < 0);
    pthread_mutex_destroy(&function->msix_lock);
}

void pci_function_set_config(struct pci_function *function, unsigned offset, const void *bytes,
                             unsigned length)
{
    assert(range_within(offset, length, PCI_CONFIG_BYTES));
    memcpy(function->initial + offset, bytes, length);
    memcpy(function->config + offset, bytes, length);
}

void pci_function_set_writable(struct pci_function *function, unsigned offset, const void *mask,
                               unsigned length)
{
    assert(range_within(offset, length, PCI_CONFIG_BYTES));
    memcpy(function->writable + offset, mask, length);
}

static uint64_t bar_read(void *context, uint64_t offset, unsigned size)
{
    struct pci_bar *bar = context;
    struct pci_function *function = bar->function;
    uint64_t value = ~0ull;
    if (!pci_msix_read(function, (unsigned)(bar - function->bars), offset, size, &value) &&
        bar->ops->read)
        value = bar->ops->read(bar->device, offset, size);
    return value;
}

static void bar_write(void *context, uint64_t offset, uint64_t value, unsigned size)
{
    struct pci_bar *bar = context;
    struct pci_function *function = bar->function;
    if (!pci_msix_write(function, (unsigned)(bar - function->bars), offset, value, size) &&
        bar->ops->write)
        bar->ops->write(bar->device, offset, value, size);
}

static const struct bus_ops bar_ops = {.read = bar_read, .write = bar_write};

void pci_function_add_bar(struct pci_function *function, unsigned index, const struct pci_bar *bar)
{
    assert(index + (bar->wide ? 1 : 0) < PCI_BARS && is_power_of_two(bar->bytes) &&
           bar->bytes >= 16);
    assert(!function->bars[index].bytes && (bar->wide || bar->bytes <= 2 * GIB));
    struct pci_bar *mine = &function->bars[index];
    *mine = *bar;
    mine->function = function;
    mine->range = (struct bus_range){
        .name = function->name, .length = bar->bytes, .ops = &bar_ops, .device = mine};
    put(function, PCI_BAR0 + 4 * index, (bar->wide ? 4u : 0u) | (bar->prefetchable ? 8u : 0u), 4);
    allow(function, PCI_BAR0 + 4 * index, ~(bar->bytes - 1) & ~0xFull, bar->wide ? 8 : 4);
    allow(function, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_OFF, 2);
}

unsigned pci_function_add_capability(struct pci_function *function, uint8_t id, unsigned length)
{
    unsigned at = function->capability_end;
    length = (unsigned)align_up(length, 4);
    assert(range_within(at, length, PCI_CONFIG_BYTES));
    uint8_t head[2] = {id, 0};
    pci_function_set_config(function, at, head, 2);
    put(function,
        function->capability_last ? function->capability_last + 1 : PCI_CAPABILITY_POINTER, at, 1);
    put(function, PCI_STATUS, PCI_STATUS_CAPABILITIES, 2);
    function->capability_last = at;
    function->capability_end = at + length;
    return at;
}

// ---- BARs

static bool bar_wanted(const struct pci_function *function, unsigned index, uint64_t *start)
{
    const struct pci_bar *bar = &function->bars[index];
    const uint8_t *at = function->config + PCI_BAR0 + 4 * index;
    if (!bar->bytes || !(load_le16(function->config + PCI_COMMAND) & PCI_COMMAND_MEMORY))
        return false;
    *start = (bar->wide ? load_le64(at) : load_le32(at)) & ~0xFull;
    return *start && range_within(*start, bar->bytes, UINT64_MAX);
}

static void unmap_bar(struct pci_host *host, struct pci_bar *bar)
{
    if (bar->mapped) {
        bus_doorbells_change(host->params.mmio, &bar->range, bar->doorbells, bar->doorbell_count,
                             false);
        bus_remove(host->params.mmio, &bar->range);
    }
    bar->mapped = false;
}

static void take_away(struct pci_host *host, struct pci_function *function)
{
    for (unsigned i = 0; i < PCI_BARS; i++) {
        struct pci_bar *bar = &function->bars[i];
        uint64_t start;
        if (bar->mapped && (!bar_wanted(function, i, &start) || start != bar->range.start))
            unmap_bar(host, bar);
    }
}

static void put_up(struct pci_host *host, struct pci_function *function)
{
    for (unsigned i = 0; i < PCI_BARS; i++) {
        struct pci_bar *bar = &function->bars[i];
        struct err err;
        uint64_t start;
        if (bar->mapped || !bar_wanted(function, i, &start))
            continue;
        bar->range.start = start;
        bar->mapped = bus_add(host->params.mmio, &bar->range, &err) == 0;
        if (bar->mapped)
            bus_doorbells_change(host->params.mmio, &bar->range, bar->doorbells,
                                 bar->doorbell_count, true);
        else
            log_debug("%s: BAR %u is not reachable: %s", function->name, i, err.text);
    }
}

void pci_host_map_bars(struct pci_host *host)
{
    for (unsigned s = 0; s < PCI_SLOTS; s++)
        if (host->slots[s])
            take_away(host, host->slots[s]);
    for (unsigned s = 0; s < PCI_SLOTS; s++)
        if (host->slots[s])
            put_up(host, host->slots[s]);
}

void pci_function_unmap(struct pci_function *function)
{
    for (unsigned i = 0; i < PCI_BARS; i++)
        unmap_bar(function->host, &function->bars[i]);
}

// ---- INTA

// Interrupt lock held. A device that is being unplugged may still ask.
static void drive_line(struct pci_function *function)
{
    if (function->slot < 0)
        return;
    struct pci_host *host = function->host;
    unsigned line = (unsigned)function->slot % PCI_INTX_LINES;
    uint32_t bit = 1u << function->slot;
    uint32_t before = host->asserted[line];
    uint32_t after = function->intx_level && !function->intx_off ? before | bit : before & ~bit;
    host->asserted[line] = after;
    if (!before == !after)
        return;
    struct irq_line irq = {host->params.irqs, PCI_INTX_FIRST_LINE + line};
    irq_set(&irq, after);
}

void pci_intx_set(struct pci_function *function, bool level)
{
    struct pci_host *host = function->host;
    if (!host) {
        function->intx_level = level;
        return;
    }
    pthread_mutex_lock(&host->interrupt_lock);
    function->intx_level = level;
    drive_line(function);
    pthread_mutex_unlock(&host->interrupt_lock);
}

void pci_intx_update(struct pci_function *function)
{
    struct pci_host *host = function->host;
    pthread_mutex_lock(&host->interrupt_lock);
    function->intx_off = load_le16(function->config + PCI_COMMAND) & PCI_COMMAND_INTX_OFF;
    drive_line(function);
    pthread_mutex_unlock(&host->interrupt_lock);
}

// ---- Configuration accesses; host lock held, offset + size within the space

uint32_t pci_function_read(struct pci_function *function, unsigned offset, unsigned size)
{
    if (function->ops && function->ops->config_read)
        function->ops->config_read(function->self, offset, size);
    uint32_t value = 0;
    memcpy(&value, function->config + offset, size);
    if (offset <= PCI_STATUS && PCI_STATUS < offset + size && function->intx_level)
        value |= (uint32_t)PCI_STATUS_INTERRUPT << 8 * (PCI_STATUS - offset);
    return value;
}

static bool touches(unsigned offset, unsigned size, unsigned start, unsigned length)
{
    return offset < start + length && start < offset + size;
}

void pci_function_write(struct pci_function *function, unsigned offset, uint32_t value,
                        unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        uint8_t mask = function->writable[offset + i];
        uint8_t *at = &function->config[offset + i];
        *at = (uint8_t)((*at & ~mask) | (value >> 8 * i & mask));
    }
    if (touches(offset, size, PCI_COMMAND, 2) || touches(offset, size, PCI_BAR0, 4 * PCI_BARS))
        pci_host_map_bars(function->host);
    if (touches(offset, size, PCI_COMMAND, 2))
        pci_intx_update(function);
    if (function->msix_vectors && touches(offset, size, function->msix_capability + 2, 2))
        pci_msix_control_changed(function);
    if (function->ops && function->ops->config_written)
        function->ops->config_written(function->self, offset, size);
}

// ---- Reset and saved state

static void function_reset(void *self)
{
    struct pci_function *function = self;
    struct pci_host *host = function->host;
    pthread_mutex_lock(&host->lock);
    memcpy(function->config, function->initial, PCI_CONFIG_BYTES);
    pci_host_map_bars(host);
    pci_msix_reset(function);
    pci_intx_update(function);
    pthread_mutex_unlock(&host->lock);
    pci_intx_set(function, false);
}

static int function_check(const void *self, struct err *err)
{
    const struct pci_function *function = self;
    for (unsigned i = 0; i < PCI_CONFIG_BYTES; i++)
        if ((function->config[i] ^ function->initial[i]) & ~function->writable[i] & 0xFF)
            return err_set(err, ERR_INPUT,
                           "configuration byte 0x%x belongs to another kind of function", i);
    return 0;
}

static void function_loaded(void *self)
{
    struct pci_function *function = self;
    struct pci_host *host = function->host;
    pthread_mutex_lock(&host->lock);
    pci_host_map_bars(host);
    if (function->msix_vectors)
        pci_msix_control_changed(function);
    pci_intx_update(function);
    pthread_mutex_unlock(&host->lock);
}

static const struct field fields[] = {
    FIELD_U8S(struct pci_function, config),
    FIELD_BOOL(struct pci_function, intx_level),
    FIELD_U32S(struct pci_function, msix_table),
    FIELD_U64(struct pci_function, msix_pending),
};

const struct device_ops pci_function_device_ops = {
    .kind = "pci-function",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
    .reset = function_reset,
    .check = function_check,
    .loaded = function_loaded,
};
