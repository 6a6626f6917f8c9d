// SPDX-License-Identifier: Apache-2.0
//
// An instruction is a byte that chooses what to do and a few bytes of operands. Addresses are mostly bent into a
// window of guest memory that holds all rings and buffers, so that they overlap often, and sometimes taken as they are.
#include "hostile.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "driver.h"
#include "machine/virtio/virtio_balloon.h"
#include "machine/virtio/virtio_blk.h"
#include "machine/virtio/virtio_console.h"
#include "machine/virtio/virtio_net.h"
#include "machine/virtio/virtio_rng.h"

#define WINDOW       0x100000u
#define WINDOW_BYTES 0x10000u
#define DISK_BYTES   (1u << 20)
#define DEVICES      5u
#define RING_SIZE    16u

static struct {
    bool made;
    struct test_machine machine;
    struct test_driver drivers[DEVICES];
    struct virtio_device *devices[DEVICES];
    struct block_pool *pool;
    struct block_disk *disk;
    struct virtio_blk *blk;
    struct virtio_net *net;
    struct net_end *far;
    struct virtio_console *console;
    struct virtio_rng *rng;
    struct virtio_balloon *balloon;
} h;

struct program {
    const uint8_t *bytes;
    size_t left;
};

static uint64_t take(struct program *p, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes && p->left; i++, p->left--)
        value |= (uint64_t)*p->bytes++ << 8 * i;
    return value;
}

// A guest address: in the window, just behind RAM's end, or anything.
static uint64_t take_address(struct program *p)
{
    uint64_t kind = take(p, 1);
    if (kind < 0xF0)
        return WINDOW + take(p, 2);
    return kind < 0xF8 ? TEST_RAM_BYTES - take(p, 1) : take(p, 8);
}

static uint32_t take_length(struct program *p)
{
    uint64_t kind = take(p, 1);
    if (kind < 0xE0)
        return (uint32_t)kind * 16;
    return kind < 0xF0 ? (uint32_t)take(p, 2) : (uint32_t)take(p, 4);
}

static bool take_output(void *context, const struct net_header *header, const uint8_t *frame,
                        size_t length)
{
    return length % 7; // sometimes it refuses
}

// ---- Making

static void make_disk(struct err *err)
{
    int fd = memfd_create("disk", 0);
    assert(fd >= 0 && ftruncate(fd, DISK_BYTES) == 0);
    struct block_image image = {.fd = fd, .format = "raw", .name = "hostile"};
    h.pool = block_pool_create(1, err);
    struct block_options options = {.chain = &image, .chain_length = 1, .pool = h.pool};
    h.disk = block_disk_open(&options, err);
    assert(h.disk);
    struct virtio_blk_params params = {.name = "disk0", .disk = h.disk, .queues = 2};
    h.blk = virtio_blk_create(&h.machine.environment, &params, err);
}

static void make_others(struct err *err)
{
    struct net_end *ends[2];
    net_loopback_create(ends, err);
    h.far = ends[1];
    h.far->receiver = (struct net_receiver){.receive = take_output};
    struct virtio_net_params net = {.name = "net0", .end = ends[0]};
    h.net = virtio_net_create(&h.machine.environment, &net, err);
    static const struct virtio_console_port_params ports[2] = {{.console = true},
                                                               {.name = "agent"}};
    struct virtio_console_params console = {.name = "console0", .ports = ports, .port_count = 2};
    h.console = virtio_console_create(&h.machine.environment, &console, err);
    struct virtio_rng_params rng = {.name = "rng0", .seed = 1};
    h.rng = virtio_rng_create(&h.machine.environment, &rng, err);
    struct virtio_balloon_params balloon = {.name = "balloon0"};
    h.balloon = virtio_balloon_create(&h.machine.environment, &balloon, err);
}

static void nothing(enum log_level level, const char *line)
{
}

static void make(void)
{
    struct err err;
    log_set_sink(nothing);
    test_machine_init(&h.machine, false);
    h.machine.tolerant = true;
    make_disk(&err);
    make_others(&err);
    assert(h.blk && h.net && h.console && h.rng && h.balloon);
    struct virtio_device *devices[DEVICES] = {
        virtio_blk_device(h.blk), virtio_net_device(h.net), virtio_console_device(h.console),
        virtio_rng_device(h.rng), virtio_balloon_device(h.balloon)};
    memcpy(h.devices, devices, sizeof(devices));
    for (unsigned i = 0; i < DEVICES; i++)
        test_driver_attach(&h.drivers[i], &h.machine, devices[i]);
    h.made = true;
}

void hostile_end(void)
{
    if (!h.made)
        return;
    for (unsigned i = 0; i < DEVICES; i++)
        pci_host_unplug(&h.devices[i]->pci);
    virtio_blk_destroy(h.blk);
    virtio_net_destroy(h.net);
    virtio_console_destroy(h.console);
    virtio_rng_destroy(h.rng);
    virtio_balloon_destroy(h.balloon);
    net_end_destroy(h.far);
    block_disk_close(h.disk);
    block_pool_destroy(h.pool);
    test_machine_fini(&h.machine);
    h.made = false;
}

static void reset(void)
{
    static const uint8_t zeroes[WINDOW_BYTES];
    for (struct device *device = h.machine.devices; device; device = device->next)
        if (device->ops->reset)
            device->ops->reset(device->self);
    pci_host_assign(h.machine.host);
    guest_memory_write(h.machine.memory, gpa(WINDOW), zeroes, WINDOW_BYTES);
}

// ---- The instructions

static void start_device(struct program *p, struct test_driver *driver)
{
    uint64_t features = take(p, 5);
    driver->next_free = WINDOW + take(p, 1) * 64;
    test_write(driver, driver->common + 20, 1, 0);
    if (test_driver_status(driver))
        return;
    memset(driver->rings, 0, sizeof(driver->rings));
    test_driver_start_quietly(driver, features, RING_SIZE);
}

static void put_descriptor(struct program *p, struct test_driver *driver)
{
    struct test_ring *ring = &driver->rings[take(p, 1) % 6];
    unsigned index = (unsigned)take(p, 1) % RING_SIZE;
    uint64_t address = take_address(p);
    uint32_t length = take_length(p);
    uint16_t flags = (uint16_t)(take(p, 1) & 7), next = (uint16_t)take(p, 1);
    uint8_t bytes[16];
    store_le64(bytes, address);
    store_le32(bytes + 8, length);
    store_le16(bytes + 12, flags);
    store_le16(bytes + 14, next % (RING_SIZE + 2));
    guest_memory_write(h.machine.memory, gpa(ring->descriptors + 16 * index), bytes, sizeof(bytes));
}

static void make_available(struct program *p, struct test_driver *driver)
{
    struct test_ring *ring = &driver->rings[take(p, 1) % 6];
    uint16_t head = (uint16_t)take(p, 1), ahead = (uint16_t)take(p, 1);
    if (!ring->size)
        return;
    head %= RING_SIZE + 1;
    guest_memory_write(h.machine.memory,
                       gpa(ring->available + 4 + 2 * (ring->next_available % ring->size)), &head,
                       2);
    ring->next_available = (uint16_t)(ring->next_available + (ahead > 0xF0 ? ahead : 1));
    guest_memory_write(h.machine.memory, gpa(ring->available + 2), &ring->next_available, 2);
}

static void write_memory(struct program *p)
{
    uint64_t at = take_address(p), bytes = take(p, 8);
    guest_memory_write(h.machine.memory, gpa(at), &bytes, 1u << take(p, 1) % 4);
}

static void write_register(struct program *p, struct test_driver *driver)
{
    static const uint16_t areas[] = {0x0000, 0x0000, 0x0000, 0x1000,
                                     0x2000, 0x3000, 0x4000, 0x5000};
    uint64_t offset = areas[take(p, 1) % ARRAY_LENGTH(areas)] + take(p, 1) % 128;
    unsigned size = 1u << take(p, 1) % 4;
    uint64_t value = take(p, size), seen;
    bus_write(h.machine.mmio, driver->bar + offset, value, size);
    bus_read(h.machine.mmio, driver->bar + offset, size, &seen);
}

static void write_queue_address(struct program *p, struct test_driver *driver)
{
    unsigned queue = (unsigned)take(p, 1) % 6;
    uint64_t address = take_address(p);
    uint64_t common = driver->common;
    bus_write(h.machine.mmio, common + 22, queue, 2);
    bus_write(h.machine.mmio, common + 32 + 8 * (take(p, 1) % 3), address, 8);
    bus_write(h.machine.mmio, common + 28, take(p, 1), 2);
}

static void write_config_space(struct program *p, struct test_driver *driver)
{
    unsigned offset = (unsigned)take(p, 1) & ~3u;
    test_config_write(&h.machine, (unsigned)driver->function->slot, offset, 4,
                      (uint32_t)take(p, 4));
    test_config_read(&h.machine, (unsigned)driver->function->slot, offset, 4);
    if (offset < 0x28)
        pci_host_assign(h.machine.host); // or nothing that follows would reach the device
}

static void host_event(struct program *p)
{
    static uint8_t frame[4096];
    struct net_header header = {0};
    uint64_t kind = take(p, 1);
    struct iovec iov = {frame, 14 + take(p, 1) * 16};
    switch (kind % 6) {
    case 0:
        net_end_send(h.far, &header, &iov, 1);
        break;
    case 1:
        virtio_console_input(h.console, kind / 6 % 2, frame, iov.iov_len);
        break;
    case 2:
        virtio_console_connect(h.console, 1, kind & 64);
        break;
    case 3:
        virtio_balloon_request_stats(h.balloon);
        break;
    case 4:
        net_end_resume(h.far);
        break;
    case 5:
        virtio_balloon_set_target(h.balloon, iov.iov_len << 12);
        break;
    default:
        break;
    }
}

static void step(struct program *p)
{
    uint8_t what = (uint8_t)take(p, 1);
    struct test_driver *driver = &h.drivers[what / 16 % DEVICES];
    switch (what % 16) {
    case 0:
    case 1:
        start_device(p, driver);
        break;
    case 2:
    case 3:
    case 4:
        put_descriptor(p, driver);
        break;
    case 5:
    case 6:
        make_available(p, driver);
        break;
    case 7:
    case 8:
        bus_write(h.machine.mmio, driver->notify + 4 * (take(p, 1) % 8), 0, 2);
        break;
    case 9:
        write_memory(p);
        break;
    case 10:
    case 11:
        write_register(p, driver);
        break;
    case 12:
        write_queue_address(p, driver);
        break;
    case 13:
        write_config_space(p, driver);
        break;
    default:
        host_event(p);
        break;
    }
}

void hostile_run(const uint8_t *program, size_t length)
{
    if (!h.made)
        make();
    reset();
    struct program p = {program, length};
    while (p.left)
        step(&p);
}
