// SPDX-License-Identifier: Apache-2.0
#include "driver.h"

#include <assert.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "machine/device/memory_map.h"

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

// ---- The machine

static void set_line(void *controller, unsigned line, bool level)
{
    struct test_machine *machine = controller;
    atomic_store(&machine->lines[line], level);
}

static void send_msi(void *controller, uint64_t address, uint32_t data)
{
    struct test_machine *machine = controller;
    if (machine->tolerant && (address != TEST_MSI || data >= TEST_VECTORS))
        return;
    MUST(address == TEST_MSI && data < TEST_VECTORS);
    atomic_fetch_add(&machine->msi[data], 1);
}

static const struct irq_controller_ops irq_ops = {.set_line = set_line, .send_msi = send_msi};

static void raise_gpe(void *context, unsigned bit)
{
    struct test_machine *machine = context;
    atomic_fetch_or(&machine->gpes, 1u << bit);
}

void test_machine_init(struct test_machine *machine, bool threaded)
{
    struct err err;
    memset(machine, 0, sizeof(*machine));
    machine->memory = guest_memory_create(TEST_RAM_BYTES, -1, &err);
    machine->ports = bus_create(BUS_PORT);
    machine->mmio = bus_create(BUS_MMIO);
    MUST(machine->memory && machine->ports && machine->mmio);
    machine->irqs = (struct irq_controller){&irq_ops, machine};
    struct pci_host_params params = {
        .ports = machine->ports,
        .mmio = machine->mmio,
        .irqs = &machine->irqs,
        .devices = &machine->devices,
        .raise_gpe = raise_gpe,
        .gpe_context = machine,
    };
    machine->host = pci_host_create(&params, &err);
    MUST(machine->host);
    if (threaded) {
        machine->thread.loop = os_loop_create(&err);
        MUST(machine->thread.loop && os_loop_thread_start(&machine->thread, "io", &err) == 0);
    }
    machine->environment = (struct virtio_environment){
        .memory = machine->memory, .loop = machine->thread.loop, .devices = &machine->devices};
}

void test_machine_fini(struct test_machine *machine)
{
    if (machine->thread.loop) {
        os_loop_thread_stop(&machine->thread);
        os_loop_destroy(machine->thread.loop);
    }
    pci_host_destroy(machine->host);
    MUST(!machine->devices);
    bus_destroy(machine->mmio);
    bus_destroy(machine->ports);
    guest_memory_destroy(machine->memory);
}

// ---- Accesses

uint32_t test_config_read(struct test_machine *machine, unsigned slot, unsigned offset,
                          unsigned size)
{
    uint64_t value;
    bus_read(machine->mmio, MAP_ECAM_START + (slot << 15) + offset, size, &value);
    return (uint32_t)value;
}

void test_config_write(struct test_machine *machine, unsigned slot, unsigned offset, unsigned size,
                       uint32_t value)
{
    bus_write(machine->mmio, MAP_ECAM_START + (slot << 15) + offset, value, size);
}

uint64_t test_read(struct test_driver *driver, uint64_t address, unsigned size)
{
    uint64_t value;
    MUST(bus_read(driver->machine->mmio, address, size, &value));
    return value;
}

void test_write(struct test_driver *driver, uint64_t address, unsigned size, uint64_t value)
{
    MUST(bus_write(driver->machine->mmio, address, value, size));
}

void test_store(struct test_driver *driver, uint64_t at, const void *bytes, size_t length)
{
    MUST(guest_memory_write(driver->machine->memory, gpa(at), bytes, length) == 0);
}

void test_load(struct test_driver *driver, uint64_t at, void *bytes, size_t length)
{
    MUST(guest_memory_read(driver->machine->memory, gpa(at), bytes, length) == 0);
}

static uint16_t *shared16(struct test_driver *driver, uint64_t at)
{
    void *host = guest_memory_map(driver->machine->memory, gpa(at), 2, true);
    MUST(host);
    return host;
}

uint16_t test_load16(struct test_driver *driver, uint64_t at)
{
    return __atomic_load_n(shared16(driver, at), __ATOMIC_SEQ_CST);
}

static void store16(struct test_driver *driver, uint64_t at, uint16_t value)
{
    __atomic_store_n(shared16(driver, at), value, __ATOMIC_SEQ_CST);
}

uint64_t test_alloc(struct test_driver *driver, size_t bytes, size_t alignment)
{
    driver->next_free = align_up(driver->next_free, alignment);
    uint64_t at = driver->next_free;
    driver->next_free += bytes;
    MUST(driver->next_free <= TEST_RAM_BYTES);
    return at;
}

// ---- The driver

static void find_capabilities(struct test_driver *driver, unsigned slot)
{
    struct test_machine *machine = driver->machine;
    for (unsigned at = test_config_read(machine, slot, 0x34, 1); at;
         at = test_config_read(machine, slot, at + 1, 1)) {
        if (test_config_read(machine, slot, at, 1) != 9)
            continue;
        uint64_t where = driver->bar + test_config_read(machine, slot, at + 8, 4);
        switch (test_config_read(machine, slot, at + 3, 1)) {
        case 1:
            driver->common = where;
            break;
        case 2:
            driver->notify = where;
            driver->notify_step = test_config_read(machine, slot, at + 16, 4);
            break;
        case 3:
            driver->interrupt = where;
            break;
        case 4:
            driver->config = where;
            break;
        default:
            break;
        }
    }
    MUST(driver->common && driver->notify && driver->interrupt);
}

static unsigned msix_capability(struct test_driver *driver, unsigned slot)
{
    for (unsigned at = test_config_read(driver->machine, slot, 0x34, 1); at;
         at = test_config_read(driver->machine, slot, at + 1, 1))
        if (test_config_read(driver->machine, slot, at, 1) == 0x11)
            return at;
    return 0;
}

static void enable_msix(struct test_driver *driver, unsigned slot)
{
    struct test_machine *machine = driver->machine;
    unsigned at = msix_capability(driver, slot);
    uint64_t table = driver->bar + (test_config_read(machine, slot, at + 4, 4) & ~7u);
    unsigned vectors = (test_config_read(machine, slot, at + 2, 2) & 0x7FF) + 1;
    for (unsigned v = 0; v < vectors; v++) {
        test_write(driver, table + 16 * v, 4, TEST_MSI);
        test_write(driver, table + 16 * v + 4, 4, 0);
        test_write(driver, table + 16 * v + 8, 4, v);
        test_write(driver, table + 16 * v + 12, 4, 0);
    }
    test_config_write(machine, slot, at + 2, 2, 0x8000);
}

void test_driver_attach(struct test_driver *driver, struct test_machine *machine,
                        struct virtio_device *device)
{
    struct err err;
    memset(driver, 0, sizeof(*driver));
    driver->machine = machine;
    driver->function = &device->pci;
    driver->next_free = MIB;
    if (device->pci.slot < 0)
        MUST(pci_host_plug(machine->host, &device->pci, -1, &err) == 0);
    pci_host_assign(machine->host);
    unsigned slot = (unsigned)device->pci.slot;
    driver->bar = test_config_read(machine, slot, 0x10, 4) & ~0xFu;
    MUST(driver->bar);
    find_capabilities(driver, slot);
    enable_msix(driver, slot);
}

uint8_t test_driver_status(struct test_driver *driver)
{
    return (uint8_t)test_read(driver, driver->common + 20, 1);
}

void test_driver_reset(struct test_driver *driver)
{
    test_write(driver, driver->common + 20, 1, 0);
    while (test_driver_status(driver))
        sched_yield(); // what is in flight ends first
    memset(driver->rings, 0, sizeof(driver->rings));
}

void test_driver_negotiate(struct test_driver *driver, uint64_t wanted)
{
    test_driver_reset(driver);
    test_write(driver, driver->common + 20, 1, 1);
    test_write(driver, driver->common + 20, 1, 3);
    uint64_t offered = 0;
    for (unsigned half = 0; half < 2; half++) {
        test_write(driver, driver->common, 4, half);
        offered |= test_read(driver, driver->common + 4, 4) << 32 * half;
    }
    driver->features = offered & (wanted | VIRTIO_F_VERSION_1);
    for (unsigned half = 0; half < 2; half++) {
        test_write(driver, driver->common + 8, 4, half);
        test_write(driver, driver->common + 12, 4, driver->features >> 32 * half & UINT32_MAX);
    }
    test_write(driver, driver->common + 20, 1, 3 | 8);
    MUST(driver->machine->tolerant || test_driver_status(driver) & 8);
}

void test_driver_setup_queue(struct test_driver *driver, unsigned queue, unsigned size)
{
    struct test_ring *ring = &driver->rings[queue];
    uint64_t common = driver->common;
    test_write(driver, common + 22, 2, queue);
    unsigned largest = (unsigned)test_read(driver, common + 24, 2);
    ring->size = size && size < largest ? size : largest;
    test_write(driver, common + 24, 2, ring->size);
    test_write(driver, common + 26, 2, queue + 1);
    MUST(driver->machine->tolerant || test_read(driver, common + 26, 2) == queue + 1);
    ring->descriptors = test_alloc(driver, 16 * ring->size, 16);
    ring->available = test_alloc(driver, 6 + 2 * ring->size, 2);
    ring->used = test_alloc(driver, 6 + 8 * ring->size, 4);
    static const uint8_t zeroes[16 * VIRTQ_SIZE_MAX];
    test_store(driver, ring->descriptors, zeroes, 16 * ring->size);
    test_store(driver, ring->available, zeroes, 6 + 2 * ring->size);
    test_store(driver, ring->used, zeroes, 6 + 8 * ring->size);
    test_write(driver, common + 32, 4, ring->descriptors);
    test_write(driver, common + 36, 4, 0);
    test_write(driver, common + 40, 8, ring->available);
    test_write(driver, common + 48, 4, ring->used);
    test_write(driver, common + 52, 4, 0);
    test_write(driver, common + 28, 2, 1);
}

void test_driver_ok(struct test_driver *driver)
{
    test_write(driver, driver->common + 20, 1, 3 | 8 | 4);
}

void test_driver_start_quietly(struct test_driver *driver, uint64_t wanted, unsigned size)
{
    test_driver_negotiate(driver, wanted);
    unsigned queues = (unsigned)test_read(driver, driver->common + 18, 2);
    for (unsigned q = 0; q < queues; q++)
        test_driver_setup_queue(driver, q, size);
    test_driver_ok(driver);
}

void test_driver_start(struct test_driver *driver, uint64_t wanted, unsigned size)
{
    test_driver_start_quietly(driver, wanted, size);
    MUST(test_driver_status(driver) == 15);
}

// ---- Rings

void test_put_descriptor(struct test_driver *driver, uint64_t table, unsigned index, uint64_t at,
                         uint32_t length, uint16_t flags, uint16_t next)
{
    uint8_t bytes[16];
    store_le64(bytes, at);
    store_le32(bytes + 8, length);
    store_le16(bytes + 12, flags);
    store_le16(bytes + 14, next);
    test_store(driver, table + 16 * index, bytes, sizeof(bytes));
}

void test_make_available(struct test_driver *driver, unsigned queue, uint16_t head)
{
    struct test_ring *ring = &driver->rings[queue];
    store16(driver, ring->available + 4 + 2 * (ring->next_available % ring->size), head);
    store16(driver, ring->available + 2, ++ring->next_available);
}

void test_add(struct test_driver *driver, unsigned queue, unsigned head,
              const struct test_buffer *buffers, unsigned count)
{
    struct test_ring *ring = &driver->rings[queue];
    for (unsigned i = 0; i < count; i++)
        test_put_descriptor(driver, ring->descriptors, head + i, buffers[i].at, buffers[i].length,
                            (uint16_t)((buffers[i].write ? 2 : 0) | (i + 1 < count ? 1 : 0)),
                            (uint16_t)(head + i + 1));
    test_make_available(driver, queue, (uint16_t)head);
}

void test_notify(struct test_driver *driver, unsigned queue)
{
    test_write(driver, driver->notify + queue * driver->notify_step, 2, queue);
}

bool test_has_used(struct test_driver *driver, unsigned queue)
{
    struct test_ring *ring = &driver->rings[queue];
    return test_load16(driver, ring->used + 2) != ring->next_used;
}

unsigned test_wait_used(struct test_driver *driver, unsigned queue, uint32_t *length)
{
    struct test_ring *ring = &driver->rings[queue];
    while (!test_has_used(driver, queue))
        sched_yield();
    uint32_t entry[2];
    test_load(driver, ring->used + 4 + 8 * (ring->next_used++ % ring->size), entry, sizeof(entry));
    store16(driver, ring->available + 4 + 2 * ring->size,
            ring->next_used); // interrupt me for the next
    if (length)
        *length = entry[1];
    return entry[0];
}

void test_wait_broken(struct test_driver *driver)
{
    while (!(test_driver_status(driver) & 64))
        sched_yield();
}
