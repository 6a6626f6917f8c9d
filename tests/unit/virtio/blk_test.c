// SPDX-License-Identifier: Apache-2.0
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "driver.h"
#include "machine/block/filter.h"
#include "machine/virtio/virtio_blk.h"

#define DISK_BYTES (4u << 20)
#define EVENT_IDX  VIRTIO_F_EVENT_IDX
#define INDIRECT   VIRTIO_F_INDIRECT_DESC
#define FLUSH      BIT(9)
#define ALL        (~0ull)

struct fixture {
    struct test_machine machine;
    struct test_driver driver;
    struct block_pool *pool;
    struct block_disk *disk;
    struct virtio_blk *blk;
};

static void init(struct fixture *f, bool threaded, struct block_options options, unsigned queues)
{
    struct err err = {0};
    test_machine_init(&f->machine, threaded);
    int fd = memfd_create("disk", 0);
    assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
    f->pool = block_pool_create(2, &err);
    assert_non_null(f->pool);
    struct block_image image = {.fd = fd, .format = "raw", .name = "test"};
    options.chain = &image;
    options.chain_length = 1;
    options.pool = f->pool;
    f->disk = block_disk_open(&options, &err);
    if (!f->disk)
        fail_msg("%s", err.text);
    struct virtio_blk_params params = {
        .name = "disk0", .disk = f->disk, .serial = "S123", .queues = queues};
    f->blk = virtio_blk_create(&f->machine.environment, &params, &err);
    if (!f->blk)
        fail_msg("%s", err.text);
    test_driver_attach(&f->driver, &f->machine, virtio_blk_device(f->blk));
}

static void fini(struct fixture *f)
{
    pci_host_unplug(&virtio_blk_device(f->blk)->pci);
    virtio_blk_destroy(f->blk);
    assert_int_equal(block_disk_close(f->disk), 0);
    block_pool_destroy(f->pool);
    test_machine_fini(&f->machine);
}

struct request {
    uint64_t header, data, status;
};

static struct request new_request(struct test_driver *d, uint32_t type, uint64_t sector,
                                  uint32_t length)
{
    struct request r = {.header = test_alloc(d, 16, 16),
                        .data = test_alloc(d, length + 1, 512),
                        .status = test_alloc(d, 1, 1)};
    uint8_t header[16] = {0};
    store_le32(header, type);
    store_le64(header + 8, sector);
    test_store(d, r.header, header, 16);
    uint8_t poison = 0xAA;
    test_store(d, r.status, &poison, 1);
    return r;
}

static uint8_t status(struct test_driver *d, const struct request *r)
{
    uint8_t value;
    test_load(d, r->status, &value, 1);
    return value;
}

// One request alone, start to end; returns its status.
static uint8_t transfer(struct test_driver *d, uint32_t type, uint64_t sector, void *bytes,
                        uint32_t length)
{
    bool in = type == 0 || type == 8;
    struct request r = new_request(d, type, sector, length);
    if (!in && length)
        test_store(d, r.data, bytes, length);
    struct test_buffer buffers[3] = {
        {r.header, 16, false}, {r.data, length, in}, {r.status, 1, true}};
    if (!length)
        buffers[1] = buffers[2];
    test_add(d, 0, 0, buffers, length ? 3 : 2);
    test_notify(d, 0);
    assert_int_equal(test_wait_used(d, 0, NULL), 0);
    if (in)
        test_load(d, r.data, bytes, length);
    return status(d, &r);
}

static void bytes_written_are_read_back(bool threaded, uint64_t features)
{
    struct fixture f;
    init(&f, threaded, (struct block_options){0}, 1);
    test_driver_start(&f.driver, features, 0);
    static uint8_t out[65536], in[65536], direct[65536];
    for (unsigned i = 0; i < sizeof(out); i++)
        out[i] = (uint8_t)(i * 7 + i / 512);
    assert_int_equal(transfer(&f.driver, 1, 8, out, sizeof(out)), 0);
    assert_int_equal(transfer(&f.driver, 4, 0, NULL, 0), 0);
    assert_int_equal(transfer(&f.driver, 0, 8, in, sizeof(in)), 0);
    assert_memory_equal(in, out, sizeof(in));
    assert_int_equal(block_read(f.disk, 4096, direct, sizeof(direct)), 0);
    assert_memory_equal(direct, out, sizeof(out));
    while (atomic_load(&f.machine.msi[1]) < 3)
        sched_yield(); // a message follows the used index
    fini(&f);
}

static void written_is_read_back_on_a_thread(void **state)
{
    bytes_written_are_read_back(true, ALL);
}

static void written_is_read_back_inline(void **state)
{
    bytes_written_are_read_back(false, ALL);
}

static void written_is_read_back_without_event_index(void **state)
{
    bytes_written_are_read_back(true, FLUSH);
}

static void the_serial_number_is_told(void **state)
{
    struct fixture f;
    init(&f, true, (struct block_options){0}, 1);
    test_driver_start(&f.driver, ALL, 0);
    char serial[21] = {0};
    assert_int_equal(transfer(&f.driver, 8, 0, serial, 20), 0);
    assert_string_equal(serial, "S123");
    fini(&f);
}

static void what_lies_outside_the_disk_is_an_error(void **state)
{
    struct fixture f;
    init(&f, true, (struct block_options){0}, 1);
    test_driver_start(&f.driver, ALL, 0);
    uint8_t bytes[1024] = {0};
    static const uint64_t sectors[] = {DISK_BYTES / 512 - 1, DISK_BYTES / 512, UINT64_MAX,
                                       UINT64_MAX / 512, UINT64_MAX / 512 + 1};
    for (unsigned i = 0; i < ARRAY_LENGTH(sectors); i++) {
        assert_int_equal(transfer(&f.driver, 0, sectors[i], bytes, sizeof(bytes)), 1);
        assert_int_equal(transfer(&f.driver, 1, sectors[i], bytes, sizeof(bytes)), 1);
    }
    assert_int_equal(transfer(&f.driver, 1, 0, bytes, 511), 1);
    assert_int_equal(transfer(&f.driver, 77, 0, bytes, 512), 2);
    fini(&f);
}

static void a_read_only_disk_refuses_writes(void **state)
{
    struct fixture f;
    init(&f, true, (struct block_options){.read_only = true}, 1);
    test_driver_start(&f.driver, ALL, 0);
    assert_true(f.driver.features & BIT(5));
    uint8_t bytes[512] = {1};
    assert_int_equal(transfer(&f.driver, 1, 0, bytes, 512), 1);
    assert_int_equal(transfer(&f.driver, 0, 0, bytes, 512), 0);
    fini(&f);
}

static void zeroes_and_discards_take_several_ranges(void **state)
{
    struct fixture f;
    init(&f, true, (struct block_options){0}, 1);
    test_driver_start(&f.driver, ALL, 0);
    uint8_t full[4096], expect[4096];
    memset(full, 0xEE, sizeof(full));
    memcpy(expect, full, sizeof(full));
    assert_int_equal(transfer(&f.driver, 1, 0, full, sizeof(full)), 0);
    uint8_t ranges[32] = {0};
    store_le64(ranges, 1); // sector 1, one of them; sectors 4 and 5
    store_le32(ranges + 8, 1);
    store_le64(ranges + 16, 4);
    store_le32(ranges + 24, 2);
    memset(expect + 512, 0, 512);
    memset(expect + 2048, 0, 1024);
    assert_int_equal(transfer(&f.driver, 13, 0, ranges, 32), 0);
    assert_int_equal(transfer(&f.driver, 0, 0, full, sizeof(full)), 0);
    assert_memory_equal(full, expect, sizeof(full));
    store_le32(ranges + 12, 6); // reserved flags
    assert_int_equal(transfer(&f.driver, 13, 0, ranges, 32), 2);
    if (f.driver.features & BIT(13)) {
        store_le32(ranges + 12, 0);
        assert_int_equal(transfer(&f.driver, 11, 0, ranges, 32), 0);
        store_le64(ranges + 16, DISK_BYTES / 512);
        assert_int_equal(transfer(&f.driver, 11, 0, ranges, 32), 1);
    }
    assert_int_equal(transfer(&f.driver, 11, 0, ranges, 17), 1);
    fini(&f);
}

// Many requests at once on several queues, through indirect tables of scattered small buffers.
static void many_requests_in_flight_keep_their_bytes(void **state)
{
    enum { QUEUES = 4, ROUNDS = 40, DEPTH = 32, PIECES = 8 };
    struct fixture f;
    init(&f, true, (struct block_options){.delay_ns = 100000}, QUEUES);
    struct test_driver *d = &f.driver;
    test_driver_start(d, ALL, 64);
    uint64_t keep = d->next_free;
    for (unsigned round = 0; round < ROUNDS; round++) {
        d->next_free = keep;
        bool in = round % 2;
        static struct request requests[QUEUES][DEPTH];
        for (unsigned q = 0; q < QUEUES; q++)
            for (unsigned i = 0; i < DEPTH; i++) {
                uint64_t sector = (q * DEPTH + i) * PIECES;
                struct request *r = &requests[q][i];
                *r = new_request(d, in ? 0 : 1, sector, 512 * PIECES);
                uint64_t table = test_alloc(d, 16 * (PIECES + 2), 16);
                test_put_descriptor(d, table, 0, r->header, 16, 1, 1);
                for (unsigned p = 0; p < PIECES; p++) {
                    uint64_t at =
                        r->data + 512 * (PIECES - 1 - p); // backwards, so that nothing is joined
                    uint8_t fill[512];
                    memset(fill, (int)(round / 2 * 31 + q * 7 + i + p), sizeof(fill));
                    if (!in)
                        test_store(d, at, fill, 512);
                    test_put_descriptor(d, table, p + 1, at, 512, (uint16_t)((in ? 2 : 0) | 1),
                                        (uint16_t)(p + 2));
                }
                test_put_descriptor(d, table, PIECES + 1, r->status, 1, 2, 0);
                test_put_descriptor(d, d->rings[q].descriptors, i, table, 16 * (PIECES + 2), 4, 0);
                test_make_available(d, q, (uint16_t)i);
                if (i % 4 == 3)
                    test_notify(d, q);
            }
        for (unsigned q = 0; q < QUEUES; q++)
            for (unsigned i = 0; i < DEPTH; i++) {
                struct request *r = &requests[q][test_wait_used(d, q, NULL)];
                assert_int_equal(status(d, r), 0);
            }
        for (unsigned q = 0; in && q < QUEUES; q++)
            for (unsigned i = 0; i < DEPTH; i++)
                for (unsigned p = 0; p < PIECES; p++) {
                    uint8_t got[512], want[512];
                    memset(want, (int)(round / 2 * 31 + q * 7 + i + p), sizeof(want));
                    test_load(d, requests[q][i].data + 512 * (PIECES - 1 - p), got, 512);
                    assert_memory_equal(got, want, 512);
                }
    }
    for (unsigned q = 0; q < QUEUES; q++)
        assert_true(atomic_load(&f.machine.msi[1 + q]) > 0);
    fini(&f);
}

// The status must not read 0 while a request may still write to memory.
static void a_reset_waits_for_what_is_in_flight(void **state)
{
    struct fixture f;
    init(&f, true, (struct block_options){.delay_ns = 50000000}, 1);
    struct test_driver *d = &f.driver;
    test_driver_start(d, ALL, 0);
    uint8_t disk[4096];
    memset(disk, 0x77, sizeof(disk));
    assert_int_equal(block_write(f.disk, 0, disk, sizeof(disk)), 0);
    struct request r = new_request(d, 0, 0, 4096);
    struct test_buffer buffers[3] = {
        {r.header, 16, false}, {r.data, 4096, true}, {r.status, 1, true}};
    test_add(d, 0, 0, buffers, 3);
    test_notify(d, 0);
    while (!__atomic_load_n(&virtio_blk_device(f.blk)->in_flight, __ATOMIC_RELAXED))
        ;
    test_driver_reset(d);
    uint8_t before[4096], after[4096];
    memset(before, 0, sizeof(before));
    test_store(d, r.data, before, sizeof(before));
    block_disk_drain(f.disk);
    test_load(d, r.data, after, sizeof(after));
    assert_memory_equal(before, after, sizeof(after));
    test_driver_start(d, ALL, 0);
    assert_int_equal(transfer(d, 0, 0, after, sizeof(after)), 0);
    assert_memory_equal(after, disk, sizeof(after));
    fini(&f);
}

static void nothing(void *context)
{
}

// Of the records in the log: how many writes stand before the last flush, and how many flushes there are.
static void read_log(int fd, unsigned *flushes, unsigned *flushed_writes)
{
    struct block_log_record record;
    off_t at = 0;
    unsigned writes = 0;
    *flushes = *flushed_writes = 0;
    while (pread(fd, &record, sizeof(record), at) == sizeof(record)) {
        assert_true(record.magic == BLOCK_LOG_MAGIC);
        at += (off_t)sizeof(record) + (record.op == BLOCK_WRITE ? (off_t)record.length : 0);
        writes += record.op == BLOCK_WRITE;
        if (record.op == BLOCK_FLUSH) {
            *flushed_writes = writes;
            ++*flushes;
        }
    }
}

// The log records a flush when its fdatasync has returned. What the guest was told is flushed must stand before it.
static void no_flush_is_told_before_its_fdatasync(void **state)
{
    enum { ROUNDS = 50, WRITES = 7 };
    struct fixture f;
    int log = memfd_create("log", 0);
    init(&f, true, (struct block_options){.log_fd = log, .delay_ns = 200000}, 1);
    struct test_driver *d = &f.driver;
    test_driver_start(d, ALL, 0);
    uint64_t keep = d->next_free;
    for (unsigned round = 1; round <= ROUNDS; round++) {
        d->next_free = keep;
        for (unsigned i = 0; i < WRITES; i++) {
            struct request r = new_request(d, 1, i * 8, 4096);
            struct test_buffer buffers[3] = {
                {r.header, 16, false}, {r.data, 4096, false}, {r.status, 1, true}};
            test_add(d, 0, 3 * i, buffers, 3);
        }
        test_notify(d, 0);
        for (unsigned i = 0; i < WRITES; i++)
            test_wait_used(d, 0, NULL);
        assert_int_equal(transfer(d, 4, 0, NULL, 0), 0);
        unsigned flushes, flushed_writes;
        read_log(log, &flushes, &flushed_writes);
        assert_true(flushes >= round);
        assert_true(flushed_writes >= round * WRITES);
    }
    fini(&f);
    close(log);
}

// Without the flush feature, or with the write cache switched off, every write must be durable when it is told.
static void without_a_cache_every_write_is_durable(void **state)
{
    for (unsigned how = 0; how < 2; how++) {
        struct fixture f;
        int log = memfd_create("log", 0);
        init(&f, true, (struct block_options){.log_fd = log}, 1);
        test_driver_start(&f.driver, how ? ALL : ALL & ~FLUSH, 0);
        if (how)
            test_write(&f.driver, f.driver.config + 32, 1, 0);
        uint8_t bytes[512] = {0};
        assert_int_equal(transfer(&f.driver, 1, 0, bytes, 512), 0);
        unsigned flushes, flushed_writes;
        read_log(log, &flushes, &flushed_writes);
        assert_int_equal(flushed_writes, 1);
        uint8_t range[16] = {8, 0, 0, 0, 0, 0, 0, 0, 8};
        assert_int_equal(transfer(&f.driver, 13, 0, range, 16), 0);
        read_log(log, &flushes, &flushed_writes);
        assert_int_equal(flushes, 2);
        fini(&f);
        close(log);
    }
}

static void a_pause_stops_and_a_resume_goes_on(void **state)
{
    struct fixture f;
    init(&f, true, (struct block_options){.delay_ns = 1000000}, 1);
    struct test_driver *d = &f.driver;
    test_driver_start(d, ALL, 0);
    struct request r[2];
    for (unsigned i = 0; i < 2; i++) {
        r[i] = new_request(d, 0, 0, 512);
        struct test_buffer buffers[3] = {
            {r[i].header, 16, false}, {r[i].data, 512, true}, {r[i].status, 1, true}};
        if (i)
            virtio_device_pause(virtio_blk_device(f.blk));
        test_add(d, 0, 3 * i, buffers, 3);
        test_notify(d, 0);
    }
    os_loop_call(f.machine.thread.loop, nothing, NULL); // the loop has handled the notification
    uint8_t one = status(d, &r[1]);
    assert_int_equal(one, 0xAA);
    virtio_device_resume(virtio_blk_device(f.blk));
    test_wait_used(d, 0, NULL);
    test_wait_used(d, 0, NULL);
    assert_int_equal(status(d, &r[1]), 0);
    fini(&f);
}

static void a_request_without_room_for_a_status_needs_a_reset(void **state)
{
    struct fixture f;
    init(&f, true, (struct block_options){0}, 1);
    struct test_driver *d = &f.driver;
    test_driver_start(d, ALL, 0);
    struct request r = new_request(d, 1, 0, 512);
    struct test_buffer buffers[2] = {{r.header, 16, false}, {r.data, 512, false}};
    test_add(d, 0, 0, buffers, 2);
    test_notify(d, 0);
    test_wait_broken(d);
    assert_false(test_has_used(d, 0));
    assert_true(atomic_load(&f.machine.msi[0]) == 0); // no vector for configuration changes was set
    test_driver_start(d, ALL, 0);
    uint8_t bytes[512];
    assert_int_equal(transfer(d, 0, 0, bytes, 512), 0);
    fini(&f);
}

static void a_new_size_is_announced(void **state)
{
    struct fixture f;
    struct err err;
    init(&f, true, (struct block_options){0}, 1);
    test_driver_negotiate(&f.driver, ALL);
    test_write(&f.driver, f.driver.common + 16, 2, 0);
    test_driver_setup_queue(&f.driver, 0, 0);
    test_driver_ok(&f.driver);
    assert_int_equal(test_read(&f.driver, f.driver.config, 4), DISK_BYTES / 512);
    assert_int_equal(block_disk_resize(f.disk, 2 * DISK_BYTES, &err), 0);
    virtio_blk_resized(f.blk);
    assert_int_equal(test_read(&f.driver, f.driver.config, 8), 2 * DISK_BYTES / 512);
    assert_int_equal(atomic_load(&f.machine.msi[0]), 1);
    assert_int_equal(test_read(&f.driver, f.driver.common + 21, 1), 1);
    fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_is_read_back_on_a_thread),
        cmocka_unit_test(written_is_read_back_inline),
        cmocka_unit_test(written_is_read_back_without_event_index),
        cmocka_unit_test(the_serial_number_is_told),
        cmocka_unit_test(what_lies_outside_the_disk_is_an_error),
        cmocka_unit_test(a_read_only_disk_refuses_writes),
        cmocka_unit_test(zeroes_and_discards_take_several_ranges),
        cmocka_unit_test(many_requests_in_flight_keep_their_bytes),
        cmocka_unit_test(a_reset_waits_for_what_is_in_flight),
        cmocka_unit_test(no_flush_is_told_before_its_fdatasync),
        cmocka_unit_test(without_a_cache_every_write_is_durable),
        cmocka_unit_test(a_pause_stops_and_a_resume_goes_on),
        cmocka_unit_test(a_request_without_room_for_a_status_needs_a_reset),
        cmocka_unit_test(a_new_size_is_announced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
