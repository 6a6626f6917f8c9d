// SPDX-License-Identifier: Apache-2.0
#include "machine/pci/msix.h"

#include <assert.h>
#include <string.h>

#include "base/bits.h"
#include "machine/pci/pci_internal.h"
#include "os/event_counter.h"

#define VECTOR_BYTES  16u
#define CONTROL       2u // in the capability
#define CONTROL_ON    0x8000u
#define CONTROL_MASK  0x4000u
#define VECTOR_MASKED 1u // in an entry's fourth word

void pci_msix_init(struct pci_function *function, unsigned vectors, unsigned bar,
                   uint32_t table_offset, uint32_t pba_offset)
{
    assert(vectors && vectors <= PCI_MSIX_VECTORS && table_offset % 8 == 0 && pba_offset % 8 == 0);
    unsigned at = pci_function_add_capability(function, PCI_CAPABILITY_MSIX, 12);
    uint8_t body[10];
    store_le16(body, (uint16_t)(vectors - 1));
    store_le32(body + 2, table_offset | bar);
    store_le32(body + 6, pba_offset | bar);
    pci_function_set_config(function, at + CONTROL, body, sizeof(body));
    uint16_t writable = CONTROL_ON | CONTROL_MASK;
    pci_function_set_writable(function, at + CONTROL, &writable, sizeof(writable));
    function->msix_vectors = vectors;
    function->msix_bar = bar;
    function->msix_capability = at;
    function->msix_table_offset = table_offset;
    function->msix_pba_offset = pba_offset;
    pci_msix_reset(function);
}

bool pci_msix_enabled(struct pci_function *function)
{
    pthread_mutex_lock(&function->msix_lock);
    bool enabled = function->msix_enabled;
    pthread_mutex_unlock(&function->msix_lock);
    return enabled;
}

// All below with the msix lock held.

// By the vector's route, which follows the table when a message is due.
static void send(struct pci_function *function, unsigned vector, uint64_t address, uint32_t data)
{
    const struct irq_controller *irqs = function->host->params.irqs;
    struct pci_msix_route *route = &function->msix_routes[vector];
    if (route->route >= 0 && (route->address != address || route->data != data)) {
        bool failed = irqs->ops->route_set(irqs->controller, route->route, address, data) != 0;
        route->address = failed ? 0 : address;
        route->data = failed ? 0 : data;
    }
    if (route->route >= 0 && route->address == address && route->data == data)
        os_event_counter_raise(route->fd);
    else
        irq_send_msi(irqs, address, data);
}

static void send_or_pend(struct pci_function *function, unsigned vector)
{
    const uint32_t *entry = &function->msix_table[4 * vector];
    if (function->msix_masked || entry[3] & VECTOR_MASKED) {
        function->msix_pending |= BIT(vector);
        return;
    }
    function->msix_pending &= ~BIT(vector);
    send(function, vector, (uint64_t)entry[1] << 32 | entry[0], entry[2]);
}

static void send_pending(struct pci_function *function)
{
    if (!function->msix_enabled || !function->msix_pending)
        return;
    for (unsigned v = 0; v < function->msix_vectors; v++)
        if (function->msix_pending & BIT(v))
            send_or_pend(function, v);
}

static uint32_t read_word(const struct pci_function *function, bool table, uint64_t word)
{
    if (table)
        return function->msix_table[word];
    return word < 2 ? (uint32_t)(function->msix_pending >> 32 * word) : 0;
}

static void write_word(struct pci_function *function, uint64_t word, uint32_t value)
{
    function->msix_table[word] = word % 4 == 3 ? value & VECTOR_MASKED : value;
    unsigned vector = (unsigned)(word / 4);
    if (function->msix_enabled && function->msix_pending & BIT(vector))
        send_or_pend(function, vector);
}

// ---- The BAR

enum area { AREA_NONE, AREA_TABLE, AREA_PENDING };

static enum area area_of(const struct pci_function *function, unsigned bar, uint64_t offset,
                         uint64_t *in_area)
{
    if (!function->msix_vectors || bar != function->msix_bar)
        return AREA_NONE;
    *in_area = offset - function->msix_table_offset;
    if (offset >= function->msix_table_offset && *in_area < VECTOR_BYTES * function->msix_vectors)
        return AREA_TABLE;
    *in_area = offset - function->msix_pba_offset;
    if (offset >= function->msix_pba_offset && *in_area < align_up(function->msix_vectors, 64) / 8)
        return AREA_PENDING;
    return AREA_NONE;
}

// The bus gives aligned accesses, so one never leaves its area.
bool pci_msix_read(struct pci_function *function, unsigned bar, uint64_t offset, unsigned size,
                   uint64_t *value)
{
    uint64_t at;
    enum area area = area_of(function, bar, offset, &at);
    if (area == AREA_NONE)
        return false;
    pthread_mutex_lock(&function->msix_lock);
    uint64_t words = read_word(function, area == AREA_TABLE, at / 4);
    if (size == 8)
        words |= (uint64_t)read_word(function, area == AREA_TABLE, at / 4 + 1) << 32;
    pthread_mutex_unlock(&function->msix_lock);
    *value = words >> 8 * (at % 4) & bits_mask(8 * size);
    return true;
}

// Software may write words and double words only (6.8.2); anything else is ignored.
bool pci_msix_write(struct pci_function *function, unsigned bar, uint64_t offset, uint64_t value,
                    unsigned size)
{
    uint64_t at;
    enum area area = area_of(function, bar, offset, &at);
    if (area == AREA_NONE)
        return false;
    if (area == AREA_PENDING || at % 4 || size < 4)
        return true;
    pthread_mutex_lock(&function->msix_lock);
    write_word(function, at / 4, (uint32_t)value);
    if (size == 8)
        write_word(function, at / 4 + 1, (uint32_t)(value >> 32));
    pthread_mutex_unlock(&function->msix_lock);
    return true;
}

// ---- For the device and the bridge

void pci_msix_open_routes(struct pci_function *function)
{
    const struct irq_controller *irqs = function->host->params.irqs;
    for (unsigned v = 0; v < function->msix_vectors; v++) {
        int route = irqs && irqs->ops->route_open ? irqs->ops->route_open(irqs->controller) : -1;
        function->msix_routes[v] = (struct pci_msix_route){.route = route < 0 ? -1 : route};
        if (route >= 0)
            function->msix_routes[v].fd = irqs->ops->route_fd(irqs->controller, route);
    }
}

void pci_msix_close_routes(struct pci_function *function)
{
    const struct irq_controller *irqs = function->host->params.irqs;
    pthread_mutex_lock(&function->msix_lock);
    for (unsigned v = 0; v < function->msix_vectors; v++) {
        if (function->msix_routes[v].route >= 0)
            irqs->ops->route_close(irqs->controller, function->msix_routes[v].route);
        function->msix_routes[v].route = -1;
    }
    pthread_mutex_unlock(&function->msix_lock);
}

void pci_msix_send(struct pci_function *function, unsigned vector)
{
    pthread_mutex_lock(&function->msix_lock);
    if (function->msix_enabled && vector < function->msix_vectors)
        send_or_pend(function, vector);
    pthread_mutex_unlock(&function->msix_lock);
}

void pci_msix_control_changed(struct pci_function *function)
{
    uint16_t control = load_le16(function->config + function->msix_capability + CONTROL);
    pthread_mutex_lock(&function->msix_lock);
    function->msix_enabled = control & CONTROL_ON;
    function->msix_masked = control & CONTROL_MASK;
    send_pending(function);
    pthread_mutex_unlock(&function->msix_lock);
}

void pci_msix_reset(struct pci_function *function)
{
    pthread_mutex_lock(&function->msix_lock);
    function->msix_enabled = false;
    function->msix_masked = false;
    function->msix_pending = 0;
    memset(function->msix_table, 0, sizeof(function->msix_table));
    for (unsigned v = 0; v < function->msix_vectors; v++)
        function->msix_table[4 * v + 3] = VECTOR_MASKED;
    pthread_mutex_unlock(&function->msix_lock);
}
