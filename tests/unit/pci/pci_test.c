// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "machine/device/memory_map.h"
#include "machine/pci/hotplug.h"
#include "machine/pci/msix.h"

#define MSIX_TABLE   0x800u
#define MSIX_PENDING 0xC00u

// A function with a 32-bit BAR of 4 KiB that remembers the last write, and MSI-X in a 64-bit BAR.
struct gadget {
    struct pci_function function;
    uint64_t last_write, last_offset;
    atomic_uint accesses;
};

struct fixture {
    struct bus *ports, *mmio;
    struct irq_controller irqs;
    struct pci_host *host;
    struct device *devices;
    struct gadget gadgets[3];
    bool lines[IRQ_LINES];
    unsigned messages;
    uint64_t message_address;
    uint32_t message_data;
    unsigned gpes, resets, ejected;
};

static void set_line(void *controller, unsigned line, bool level)
{
    struct fixture *f = controller;
    f->lines[line] = level;
}

static void send_msi(void *controller, uint64_t address, uint32_t data)
{
    struct fixture *f = controller;
    f->messages++;
    f->message_address = address;
    f->message_data = data;
}

static const struct irq_controller_ops irq_ops = {.set_line = set_line, .send_msi = send_msi};

static uint64_t gadget_read(void *device, uint64_t offset, unsigned size)
{
    struct gadget *gadget = device;
    atomic_fetch_add(&gadget->accesses, 1);
    return (0x1111111111111111ull * (offset & 0xF)) & bits_mask(8 * size);
}

static void gadget_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct gadget *gadget = device;
    gadget->last_write = value;
    gadget->last_offset = offset;
}

static const struct bus_ops gadget_ops = {.read = gadget_read, .write = gadget_write};

static void gadget_init(struct gadget *gadget, const char *name)
{
    static const struct pci_identity identity = {
        .vendor = 0x1234, .device = 0x5678, .class_code = 0xFF0000, .interrupt = true};
    pci_function_init(&gadget->function, name, &identity, NULL, gadget);
    struct pci_bar small = {.bytes = 0x1000, .ops = &gadget_ops, .device = gadget};
    struct pci_bar wide = {
        .bytes = 0x1000, .wide = true, .prefetchable = true, .ops = &gadget_ops, .device = gadget};
    pci_function_add_bar(&gadget->function, 0, &small);
    pci_function_add_bar(&gadget->function, 2, &wide);
    pci_msix_init(&gadget->function, 3, 2, MSIX_TABLE, MSIX_PENDING);
}

static void raise_gpe(void *context, unsigned bit)
{
    struct fixture *f = context;
    f->gpes |= 1u << bit;
}

static void reset_control(void *context, uint8_t value)
{
    struct fixture *f = context;
    f->resets += value == 6;
}

static void init(struct fixture *f)
{
    struct err err;
    memset(f, 0, sizeof(*f));
    f->ports = bus_create(BUS_PORT);
    f->mmio = bus_create(BUS_MMIO);
    f->irqs = (struct irq_controller){&irq_ops, f};
    struct pci_host_params params = {.ports = f->ports,
                                     .mmio = f->mmio,
                                     .irqs = &f->irqs,
                                     .devices = &f->devices,
                                     .reset_control = reset_control,
                                     .reset_context = f,
                                     .raise_gpe = raise_gpe,
                                     .gpe_context = f};
    f->host = pci_host_create(&params, &err);
    assert_non_null(f->host);
    static const char *const names[] = {"a", "b", "c"};
    for (unsigned i = 0; i < 3; i++)
        gadget_init(&f->gadgets[i], names[i]);
    assert_int_equal(pci_host_plug(f->host, &f->gadgets[0].function, 3, &err), 0);
    assert_int_equal(pci_host_plug(f->host, &f->gadgets[1].function, 11, &err), 0);
}

static void fini(struct fixture *f)
{
    for (unsigned i = 0; i < 3; i++) {
        pci_host_unplug(&f->gadgets[i].function);
        pci_function_fini(&f->gadgets[i].function);
    }
    pci_host_destroy(f->host);
    assert_null(f->devices);
    bus_destroy(f->mmio);
    bus_destroy(f->ports);
}

static uint32_t in(struct fixture *f, unsigned port, unsigned size)
{
    uint64_t value;
    bus_read(f->ports, port, size, &value);
    return (uint32_t)value;
}

static void out(struct fixture *f, unsigned port, unsigned size, uint32_t value)
{
    bus_write(f->ports, port, value, size);
}

static uint32_t config(struct fixture *f, unsigned slot, unsigned offset, unsigned size)
{
    uint64_t value;
    bus_read(f->mmio, MAP_ECAM_START + (slot << 15) + offset, size, &value);
    return (uint32_t)value;
}

static void set_config(struct fixture *f, unsigned slot, unsigned offset, unsigned size,
                       uint32_t value)
{
    bus_write(f->mmio, MAP_ECAM_START + (slot << 15) + offset, value, size);
}

static bool answers(struct fixture *f, uint64_t address)
{
    uint64_t value;
    return bus_read(f->mmio, address, 4, &value);
}

static void both_ways_into_configuration_space_agree(void **state)
{
    struct fixture f;
    init(&f);
    assert_int_equal(config(&f, 3, 0, 4), 0x56781234);
    assert_int_equal(config(&f, 3, 2, 2), 0x5678);
    assert_int_equal(config(&f, 3, 3, 1), 0x56);
    out(&f, 0xCF8, 4, 0x80001800);
    assert_int_equal(in(&f, 0xCF8, 4), 0x80001800);
    assert_int_equal(in(&f, 0xCFC, 4), 0x56781234);
    assert_int_equal(in(&f, 0xCFE, 2), 0x5678);
    out(&f, 0xCF8, 4, 0x8000183C);
    out(&f, 0xCFC, 1, 0x5A);
    assert_int_equal(config(&f, 3, 0x3C, 1), 0x5A);
    out(&f, 0xCF8, 4, 0x00001800); // switched off
    assert_int_equal(in(&f, 0xCFC, 4), 0xFFFFFFFF);
    fini(&f);
}

static void nothing_answers_where_nothing_is(void **state)
{
    struct fixture f;
    init(&f);
    assert_int_equal(config(&f, 4, 0, 4), 0xFFFFFFFF);
    assert_int_equal(config(&f, 3, 0x1000, 4), 0xFFFFFFFF); // function 1
    assert_int_equal(config(&f, 32 + 3, 0, 4), 0xFFFFFFFF); // bus 1
    assert_int_equal(config(&f, 3, 0x100, 4), 0);           // no extended capabilities
    set_config(&f, 4, 4, 2, 0xFFFF);
    set_config(&f, 3, 0x100, 4, 1);
    fini(&f);
}

static void identity_cannot_be_written(void **state)
{
    struct fixture f;
    uint8_t before[256], after[256];
    init(&f);
    for (unsigned i = 0; i < 256; i++)
        before[i] = (uint8_t)config(&f, 3, i, 1);
    for (unsigned i = 0; i < 256; i += 4)
        if (i < 0x10 || i >= 0x28)
            set_config(&f, 3, i, 4, 0xFFFFFFFF);
    for (unsigned i = 0; i < 256; i++)
        after[i] = (uint8_t)config(&f, 3, i, 1);
    assert_memory_equal(after, before, 4);
    assert_int_equal(load_le16(after + 4), 0x406);
    assert_memory_equal(after + 6, before + 6, 0x10 - 6);
    assert_memory_equal(after + 0x28, before + 0x28, 0x14);
    assert_int_equal(after[0x3C], 0xFF);
    assert_int_equal(after[0x3D], 1);
    fini(&f);
}

static void a_bar_tells_its_size_and_moves(void **state)
{
    struct fixture f;
    init(&f);
    set_config(&f, 3, 0x10, 4, 0xFFFFFFFF);
    assert_int_equal(config(&f, 3, 0x10, 4), 0xFFFFF000);
    set_config(&f, 3, 0x18, 4, 0xFFFFFFFF);
    set_config(&f, 3, 0x1C, 4, 0xFFFFFFFF);
    assert_int_equal(config(&f, 3, 0x18, 4), 0xFFFFF00C);
    assert_int_equal(config(&f, 3, 0x1C, 4), 0xFFFFFFFF);
    set_config(&f, 3, 0x10, 4, 0xC0001000);
    set_config(&f, 3, 0x18, 4, 0x00002000);
    set_config(&f, 3, 0x1C, 4, 0x00000080);
    assert_false(answers(&f, 0xC0001000)); // decoding is off
    set_config(&f, 3, 4, 2, 2);
    assert_true(answers(&f, 0xC0001000));
    assert_true(answers(&f, 0xC0001FFC));
    assert_false(answers(&f, 0xC0002000));
    assert_true(answers(&f, 0x8000002000));
    set_config(&f, 3, 0x10, 4, 0xC0005000);
    assert_false(answers(&f, 0xC0001000));
    bus_write(f.mmio, 0xC0005010, 0x77, 4);
    assert_int_equal(f.gadgets[0].last_write, 0x77);
    assert_int_equal(f.gadgets[0].last_offset, 0x10);
    set_config(&f, 3, 4, 2, 0);
    assert_false(answers(&f, 0xC0005000));
    fini(&f);
}

static void bars_that_overlap_come_up_when_there_is_room(void **state)
{
    struct fixture f;
    init(&f);
    for (unsigned slot = 3; slot <= 11; slot += 8) {
        set_config(&f, slot, 0x10, 4, 0xC0001000);
        set_config(&f, slot, 4, 2, 2);
    }
    atomic_store(&f.gadgets[0].accesses, 0);
    assert_true(answers(&f, 0xC0001000));
    assert_int_equal(atomic_load(&f.gadgets[0].accesses), 1);
    set_config(&f, 3, 0x10, 4, 0xC0002000);
    assert_true(answers(&f, 0xC0001000));
    assert_int_equal(atomic_load(&f.gadgets[1].accesses), 1);
    set_config(&f, 3, 0x10, 4, (uint32_t)MAP_ECAM_START); // onto the bridge itself: never
    assert_int_equal(config(&f, 11, 0, 4), 0x56781234);
    fini(&f);
}

static void kernels_without_firmware_find_bars_assigned(void **state)
{
    struct fixture f;
    init(&f);
    pci_host_assign(f.host);
    uint32_t bars[4] = {config(&f, 3, 0x10, 4), config(&f, 3, 0x18, 4), config(&f, 11, 0x10, 4),
                        config(&f, 11, 0x18, 4)};
    for (unsigned i = 0; i < 4; i++) {
        uint64_t at = bars[i] & ~0xFu;
        assert_true(at >= MAP_PCI_BAR32_START && at < MAP_PCI_BAR32_START + MAP_PCI_BAR32_LENGTH);
        assert_true(answers(&f, at));
    }
    assert_int_equal(config(&f, 3, 0x3C, 1), 16 + 3);
    fini(&f);
}

static void shared_lines_are_ored(void **state)
{
    struct fixture f;
    init(&f);
    struct pci_function *a = &f.gadgets[0].function, *b = &f.gadgets[1].function; // slots 3 and 11
    pci_intx_set(a, true);
    assert_true(f.lines[19]);
    assert_int_equal(config(&f, 3, 6, 2) & 8, 8);
    pci_intx_set(b, true);
    pci_intx_set(a, false);
    assert_true(f.lines[19]);
    set_config(&f, 11, 4, 2, 0x400); // interrupts off
    assert_false(f.lines[19]);
    set_config(&f, 11, 4, 2, 0);
    assert_true(f.lines[19]);
    pci_host_unplug(b);
    assert_false(f.lines[19]);
    pci_intx_set(b, true); // by a thread that did not know yet
    assert_false(f.lines[19]);
    fini(&f);
}

static uint64_t enable_msix(struct fixture *f)
{
    pci_host_assign(f->host);
    uint64_t table = (config(f, 3, 0x18, 4) & ~0xFu) + MSIX_TABLE;
    for (unsigned v = 0; v < 3; v++) {
        bus_write(f->mmio, table + 16 * v, 0xFEE01000 + 16 * v, 4);
        bus_write(f->mmio, table + 16 * v + 8, 0x30 + v, 4);
    }
    set_config(f, 3, f->gadgets[0].function.msix_capability + 2, 2, 0x8000);
    return table;
}

static void a_masked_vector_waits_and_is_sent_once(void **state)
{
    struct fixture f;
    init(&f);
    struct pci_function *a = &f.gadgets[0].function;
    uint64_t table = enable_msix(&f), pending;
    assert_int_equal(config(&f, 3, a->msix_capability + 2, 2), 0x8002);
    pci_msix_send(a, 1); // masked since reset
    assert_int_equal(f.messages, 0);
    bus_read(f.mmio, table - MSIX_TABLE + MSIX_PENDING, 8, &pending);
    assert_int_equal(pending, 2);
    bus_write(f.mmio, table + 16 + 12, 0, 4);
    assert_int_equal(f.messages, 1);
    assert_int_equal(f.message_address, 0xFEE01010);
    assert_int_equal(f.message_data, 0x31);
    bus_read(f.mmio, table - MSIX_TABLE + MSIX_PENDING, 8, &pending);
    assert_int_equal(pending, 0);
    pci_msix_send(a, 1);
    assert_int_equal(f.messages, 2);
    set_config(&f, 3, a->msix_capability + 2, 2, 0xC000); // the whole function
    pci_msix_send(a, 1);
    assert_int_equal(f.messages, 2);
    set_config(&f, 3, a->msix_capability + 2, 2, 0x8000);
    assert_int_equal(f.messages, 3);
    pci_msix_send(a, 3); // no such vector
    set_config(&f, 3, a->msix_capability + 2, 2, 0);
    pci_msix_send(a, 1);
    assert_int_equal(f.messages, 3);
    fini(&f);
}

static void the_table_reads_as_it_was_written(void **state)
{
    struct fixture f;
    init(&f);
    uint64_t table = enable_msix(&f), value;
    bus_write(f.mmio, table + 32, 0x12345678FEE00000ull, 8);
    bus_read(f.mmio, table + 32, 8, &value);
    assert_true(value == 0x12345678FEE00000ull);
    bus_read(f.mmio, table + 36, 2, &value);
    assert_int_equal(value, 0x5678);
    bus_write(f.mmio, table + 32, 0, 1); // no bytes
    bus_read(f.mmio, table + 32, 4, &value);
    assert_int_equal(value, 0xFEE00000);
    bus_write(f.mmio, table + 44, 0xFFFFFFFF, 4);
    bus_read(f.mmio, table + 44, 4, &value);
    assert_int_equal(value, 1);
    bus_read(f.mmio, table + 48, 4, &value); // behind the table: the device's
    assert_int_equal(value, 0);
    assert_true(atomic_load(&f.gadgets[0].accesses) > 0);
    fini(&f);
}

static void reset_puts_everything_back(void **state)
{
    struct fixture f;
    init(&f);
    uint64_t table = enable_msix(&f);
    struct pci_function *a = &f.gadgets[0].function;
    pci_intx_set(a, true);
    a->device.ops->reset(a);
    assert_false(answers(&f, table));
    assert_int_equal(config(&f, 3, 0x10, 4), 0);
    assert_int_equal(config(&f, 3, 4, 2), 0);
    assert_false(f.lines[19]);
    assert_false(pci_msix_enabled(a));
    fini(&f);
}

static void ejected(void *context, struct pci_function *function)
{
    struct fixture *f = context;
    assert_int_equal(function->slot, -1);
    f->ejected++;
}

static void a_slot_is_plugged_and_ejected(void **state)
{
    struct fixture f;
    struct err err;
    init(&f);
    struct pci_function *c = &f.gadgets[2].function;
    assert_int_equal(pci_hotplug_plug(f.host, c, -1, &err), 0);
    assert_int_equal(c->slot, 1);
    assert_int_equal(f.gpes, 1u << PCI_HOTPLUG_GPE);
    assert_int_equal(in(&f, MAP_PORT_PCI_HOTPLUG, 4), 2);
    assert_int_equal(in(&f, MAP_PORT_PCI_HOTPLUG + 12, 4), 0x080B);
    out(&f, MAP_PORT_PCI_HOTPLUG, 4, 2);
    assert_int_equal(in(&f, MAP_PORT_PCI_HOTPLUG, 4), 0);
    assert_int_equal(config(&f, 1, 0, 4), 0x56781234);

    out(&f, MAP_PORT_PCI_HOTPLUG + 8, 4, 0xFFFFFFFF); // nobody asked for that
    assert_int_equal(in(&f, MAP_PORT_PCI_HOTPLUG + 12, 4), 0x080B);
    f.gpes = 0;
    assert_int_equal(pci_hotplug_unplug(c, ejected, &f, &err), 0);
    assert_int_equal(f.gpes, 1u << PCI_HOTPLUG_GPE);
    assert_int_equal(in(&f, MAP_PORT_PCI_HOTPLUG + 4, 4), 2);
    assert_int_equal(config(&f, 1, 0, 4), 0x56781234); // still there
    out(&f, MAP_PORT_PCI_HOTPLUG + 8, 4, 2);
    assert_int_equal(f.ejected, 1);
    assert_int_equal(config(&f, 1, 0, 4), 0xFFFFFFFF);
    out(&f, MAP_PORT_PCI_HOTPLUG + 8, 4, 2);
    assert_int_equal(f.ejected, 1);
    assert_int_equal(pci_hotplug_unplug(c, ejected, &f, &err), -1);
    fini(&f);
}

static void a_taken_slot_is_refused(void **state)
{
    struct fixture f;
    struct err err;
    init(&f);
    assert_int_equal(pci_host_plug(f.host, &f.gadgets[2].function, 3, &err), -1);
    assert_string_equal(err.text, "c: PCI slot 3 is taken by a");
    fini(&f);
}

static void the_reset_register_hides_in_the_ports(void **state)
{
    struct fixture f;
    init(&f);
    out(&f, 0xCF9, 1, 6);
    assert_int_equal(f.resets, 1);
    out(&f, 0xCF8, 4, 0x80000600);
    assert_int_equal(f.resets, 1);
    fini(&f);
}

static void *poll_bar(void *context)
{
    struct fixture *f = context;
    for (unsigned i = 0; i < 100000; i++)
        answers(f, 0xC0001000 + (i % 2) * 0x1000);
    return NULL;
}

// One CPU moves a BAR to and fro while another reads it.
static void bars_move_while_they_are_read(void **state)
{
    struct fixture f;
    pthread_t thread;
    init(&f);
    set_config(&f, 3, 4, 2, 2);
    pthread_create(&thread, NULL, poll_bar, &f);
    for (unsigned i = 0; i < 5000; i++)
        set_config(&f, 3, 0x10, 4, 0xC0001000 + (i % 2) * 0x1000);
    pthread_join(thread, NULL);
    assert_true(answers(&f, 0xC0002000));
    fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways_into_configuration_space_agree),
        cmocka_unit_test(nothing_answers_where_nothing_is),
        cmocka_unit_test(identity_cannot_be_written),
        cmocka_unit_test(a_bar_tells_its_size_and_moves),
        cmocka_unit_test(bars_that_overlap_come_up_when_there_is_room),
        cmocka_unit_test(kernels_without_firmware_find_bars_assigned),
        cmocka_unit_test(shared_lines_are_ored),
        cmocka_unit_test(a_masked_vector_waits_and_is_sent_once),
        cmocka_unit_test(the_table_reads_as_it_was_written),
        cmocka_unit_test(reset_puts_everything_back),
        cmocka_unit_test(a_slot_is_plugged_and_ejected),
        cmocka_unit_test(a_taken_slot_is_refused),
        cmocka_unit_test(the_reset_register_hides_in_the_ports),
        cmocka_unit_test(bars_move_while_they_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
