// SPDX-License-Identifier: Apache-2.0
//
// Each device is saved from a machine with a running driver and loaded into another one: what is saved there again is
// equal, and the driver goes on where it was.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "driver.h"
#include "machine/state/state.h"
#include "machine/virtio/virtio_balloon.h"
#include "machine/virtio/virtio_blk.h"
#include "machine/virtio/virtio_console.h"
#include "machine/virtio/virtio_net.h"
#include "machine/virtio/virtio_rng.h"

#define ALL        (~0ull)
#define DISK_BYTES (1u << 20)
#define DEVICES    5u
#define RNG        3u

struct fixture {
    struct test_machine machine;
    struct block_pool *pool;
    struct block_disk *disk;
    struct virtio_blk *blk;
    struct virtio_net *net;
    struct virtio_console *console;
    struct virtio_rng *rng;
    struct virtio_balloon *balloon;
    struct virtio_device *devices[DEVICES];
    struct test_driver drivers[DEVICES];
};

static void init(struct fixture *f)
{
    struct err err;
    memset(f, 0, sizeof(*f));
    test_machine_init(&f->machine, false);
    int fd = memfd_create("disk", 0);
    assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
    struct block_image image = {.fd = fd, .format = "raw", .name = "test"};
    f->pool = block_pool_create(1, &err);
    f->disk = block_disk_open(
        &(struct block_options){.chain = &image, .chain_length = 1, .pool = f->pool}, &err);
    assert_non_null(f->disk);
    const struct virtio_environment *environment = &f->machine.environment;
    f->blk = virtio_blk_create(environment,
                               &(struct virtio_blk_params){.name = "disk0", .disk = f->disk}, &err);
    f->net = virtio_net_create(
        environment, &(struct virtio_net_params){.name = "net0", .end = net_none_create(&err)},
        &err);
    static const struct virtio_console_port_params ports[2] = {{.console = true},
                                                               {.name = "agent"}};
    f->console = virtio_console_create(
        environment,
        &(struct virtio_console_params){.name = "console0", .ports = ports, .port_count = 2}, &err);
    f->rng = virtio_rng_create(environment, &(struct virtio_rng_params){.name = "rng0", .seed = 7},
                               &err);
    f->balloon = virtio_balloon_create(environment,
                                       &(struct virtio_balloon_params){.name = "balloon0"}, &err);
    struct virtio_device *devices[DEVICES] = {
        virtio_blk_device(f->blk), virtio_net_device(f->net), virtio_console_device(f->console),
        virtio_rng_device(f->rng), virtio_balloon_device(f->balloon)};
    memcpy(f->devices, devices, sizeof(devices));
    for (unsigned i = 0; i < DEVICES; i++)
        assert_int_equal(pci_host_plug(f->machine.host, &devices[i]->pci, -1, &err), 0);
}

static void fini(struct fixture *f)
{
    for (unsigned i = 0; i < DEVICES; i++)
        pci_host_unplug(&f->devices[i]->pci);
    virtio_blk_destroy(f->blk);
    virtio_net_destroy(f->net);
    virtio_console_destroy(f->console);
    virtio_rng_destroy(f->rng);
    virtio_balloon_destroy(f->balloon);
    block_disk_close(f->disk);
    block_pool_destroy(f->pool);
    test_machine_fini(&f->machine);
}

static void start_drivers(struct fixture *f)
{
    for (unsigned i = 0; i < DEVICES; i++) {
        test_driver_attach(&f->drivers[i], &f->machine, f->devices[i]);
        f->drivers[i].next_free = MIB + i * 128 * KIB;
        test_driver_start(&f->drivers[i], ALL, 16);
    }
}

// A request to the entropy source; its bytes.
static void ask_rng(struct fixture *f, uint8_t bytes[16])
{
    struct test_driver *d = &f->drivers[RNG];
    struct test_buffer buffer = {test_alloc(d, 16, 1), 16, true};
    test_add(d, 0, 0, &buffer, 1);
    test_notify(d, 0);
    assert_int_equal(test_wait_used(d, 0, NULL), 0);
    test_load(d, buffer.at, bytes, 16);
}

static void save_all(struct fixture *f, struct state_buffer *buffer)
{
    struct err err;
    memset(buffer, 0, sizeof(*buffer));
    for (struct device *device = f->machine.devices; device; device = device->next)
        if (state_save_device(device, buffer, &err) != 0)
            fail_msg("%s: %s", device->name, err.text);
}

static void load_all(struct fixture *f, const struct state_buffer *buffer)
{
    struct err err;
    size_t at = 0, used;
    for (struct device *device = f->machine.devices; device; device = device->next, at += used)
        if (state_load_device(device, buffer->bytes + at, buffer->length - at, &used, &err) != 0)
            fail_msg("%s: %s", device->name, err.text);
    assert_int_equal(at, buffer->length);
}

static void copy_memory(struct fixture *from, struct fixture *to)
{
    void *source = guest_memory_map(from->machine.memory, gpa(0), TEST_RAM_BYTES, false);
    void *target = guest_memory_map(to->machine.memory, gpa(0), TEST_RAM_BYTES, true);
    memcpy(target, source, TEST_RAM_BYTES);
}

static void a_running_machine_goes_on_elsewhere(void **state)
{
    static struct fixture a, b;
    struct state_buffer first, second;
    uint8_t bytes_a[16], bytes_b[16];
    init(&a);
    init(&b);
    start_drivers(&a);
    ask_rng(&a, bytes_a);
    virtio_balloon_set_target(a.balloon, 5 * PAGE_BYTES);
    test_write(&a.drivers[0], a.drivers[0].config + 32, 1, 0); // write cache off
    a.devices[1]->interrupt_status = VIRTIO_INTERRUPT_QUEUE;   // as if without MSI-X
    pci_intx_set(&a.devices[1]->pci, true);
    save_all(&a, &first);
    copy_memory(&a, &b);
    load_all(&b, &first);
    save_all(&b, &second);
    assert_int_equal(first.length, second.length);
    assert_memory_equal(first.bytes, second.bytes, first.length);

    assert_true(atomic_load(&b.machine.lines[16 + b.devices[1]->pci.slot]));
    memcpy(b.drivers, a.drivers, sizeof(b.drivers));
    for (unsigned i = 0; i < DEVICES; i++)
        b.drivers[i].machine = &b.machine;
    unsigned messages = atomic_load(&b.machine.msi[1]);
    ask_rng(&a, bytes_a);
    ask_rng(&b, bytes_b); // through the BAR where it was, the ring where it was
    assert_memory_equal(bytes_a, bytes_b, 16);
    assert_int_equal(atomic_load(&b.machine.msi[1]), messages + 1);
    assert_int_equal(virtio_balloon_target(b.balloon), 5 * PAGE_BYTES);
    state_buffer_fini(&first);
    state_buffer_fini(&second);
    fini(&a);
    fini(&b);
}

// No byte of a saved machine, changed, makes loading do harm: it is refused, or the device is one that can be used and reset.
static void a_damaged_state_is_refused_or_harmless(void **state)
{
    static struct fixture a;
    init(&a);
    start_drivers(&a);
    for (struct device *device = a.machine.devices; device; device = device->next) {
        struct state_buffer good = {0}, after = {0};
        struct err err;
        size_t used;
        assert_int_equal(state_save_device(device, &good, &err), 0);
        for (size_t i = 0; i < good.length; i++) {
            good.bytes[i] ^= 0x41;
            assert_int_not_equal(state_load_device(device, good.bytes, good.length, &used, &err),
                                 0); // the checksum
            good.bytes[i] ^= 0x41;
        }
        assert_int_equal(state_save_device(device, &after, &err), 0);
        assert_memory_equal(good.bytes, after.bytes, good.length); // nothing changed
        state_buffer_fini(&good);
        state_buffer_fini(&after);
    }
    fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_running_machine_goes_on_elsewhere),
        cmocka_unit_test(a_damaged_state_is_refused_or_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
