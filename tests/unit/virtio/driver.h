// SPDX-License-Identifier: Apache-2.0
//
// A small machine with a PCI bus, and a small virtio driver that works it from outside as a guest does: by
// configuration space, BARs and rings in guest memory.
#ifndef WIRT_TESTS_UNIT_VIRTIO_DRIVER_H
#define WIRT_TESTS_UNIT_VIRTIO_DRIVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "machine/device/bus.h"
#include "machine/memory/guest_memory.h"
#include "machine/pci/pci.h"
#include "machine/virtio/virtio_device.h"

#define TEST_RAM_BYTES (16u << 20)
#define TEST_MSI       0xFEE00000ull
#define TEST_VECTORS   64

struct test_machine {
    struct guest_memory *memory;
    struct bus *ports, *mmio;
    struct irq_controller irqs;
    struct pci_host *host;
    struct device *devices;
    struct os_loop_thread thread; // of the I/O loop; loop NULL: inline
    struct virtio_environment environment;
    atomic_uint msi[TEST_VECTORS]; // by the message's data
    atomic_bool lines[IRQ_LINES];
    atomic_uint gpes;
    bool tolerant; // messages to anywhere are dropped, not a failure
};

// With a thread of I/O, or inline.
void test_machine_init(struct test_machine *machine, bool threaded);
void test_machine_fini(struct test_machine *machine);

struct test_ring {
    unsigned size;
    uint64_t descriptors, available, used; // guest addresses
    uint16_t next_available, next_used;
};

struct test_driver {
    struct test_machine *machine;
    struct pci_function *function;
    uint64_t bar, common, interrupt, config, notify;
    uint32_t notify_step;
    uint64_t features;
    uint64_t next_free; // guest memory allocator
    struct test_ring rings[VIRTIO_QUEUES_MAX];
};

uint32_t test_config_read(struct test_machine *machine, unsigned slot, unsigned offset,
                          unsigned size);
void test_config_write(struct test_machine *machine, unsigned slot, unsigned offset, unsigned size,
                       uint32_t value);
uint64_t test_read(struct test_driver *driver, uint64_t address, unsigned size);
void test_write(struct test_driver *driver, uint64_t address, unsigned size, uint64_t value);

// Plug the device, assign BARs, find the capabilities.
void test_driver_attach(struct test_driver *driver, struct test_machine *machine,
                        struct virtio_device *device);
// Negotiate what is both offered and wanted (and VERSION_1), set up all queues with `size` entries (0: largest), each
// with MSI-X vector 1 + index, message data the same; then DRIVER_OK.
void test_driver_start(struct test_driver *driver, uint64_t wanted, unsigned size);
// The same, whatever the device says on the way.
void test_driver_start_quietly(struct test_driver *driver, uint64_t wanted, unsigned size);
void test_driver_negotiate(struct test_driver *driver, uint64_t wanted);
void test_driver_setup_queue(struct test_driver *driver, unsigned queue, unsigned size);
void test_driver_ok(struct test_driver *driver);
uint8_t test_driver_status(struct test_driver *driver);
void test_driver_reset(struct test_driver *driver); // writes 0 and waits
uint64_t test_alloc(struct test_driver *driver, size_t bytes, size_t alignment);

struct test_buffer {
    uint64_t at;
    uint32_t length;
    bool write;
};
void test_put_descriptor(struct test_driver *driver, uint64_t table, unsigned index, uint64_t at,
                         uint32_t length, uint16_t flags, uint16_t next);
// Descriptors from `head` on, consecutively, and an available entry; no notification.
void test_add(struct test_driver *driver, unsigned queue, unsigned head,
              const struct test_buffer *buffers, unsigned count);
void test_make_available(struct test_driver *driver, unsigned queue, uint16_t head);
void test_notify(struct test_driver *driver, unsigned queue);
// The next used entry, waiting for it; returns the head.
unsigned test_wait_used(struct test_driver *driver, unsigned queue, uint32_t *length);
bool test_has_used(struct test_driver *driver, unsigned queue);
uint16_t test_load16(struct test_driver *driver, uint64_t at);
void test_store(struct test_driver *driver, uint64_t at, const void *bytes, size_t length);
void test_load(struct test_driver *driver, uint64_t at, void *bytes, size_t length);
// Waits until the device said NEEDS_RESET.
void test_wait_broken(struct test_driver *driver);

#endif
