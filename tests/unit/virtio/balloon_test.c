// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "driver.h"
#include "machine/virtio/virtio_balloon.h"

#define INFLATE   0u
#define STATS     2u
#define REPORTING 3u
#define AREA      (8u << 20) // where the pages lie that are given up

struct fixture {
    struct test_machine machine;
    struct test_driver driver;
    struct virtio_balloon *balloon;
};

static void init(struct fixture *f)
{
    struct err err;
    test_machine_init(&f->machine, false);
    struct virtio_balloon_params params = {.name = "balloon0"};
    f->balloon = virtio_balloon_create(&f->machine.environment, &params, &err);
    assert_non_null(f->balloon);
    test_driver_attach(&f->driver, &f->machine, virtio_balloon_device(f->balloon));
    test_driver_start(&f->driver, ~0ull, 32);
    uint8_t *area = guest_memory_map(f->machine.memory, gpa(AREA), 16 * PAGE_BYTES, true);
    memset(area, 0x55, 16 * PAGE_BYTES);
}

static void fini(struct fixture *f)
{
    pci_host_unplug(&virtio_balloon_device(f->balloon)->pci);
    virtio_balloon_destroy(f->balloon);
    test_machine_fini(&f->machine);
}

// A bit for each of the 16 pages that reads as zeroes.
static unsigned empty_pages(struct fixture *f)
{
    const uint8_t *area = guest_memory_map(f->machine.memory, gpa(AREA), 16 * PAGE_BYTES, true);
    unsigned empty = 0;
    for (unsigned p = 0; p < 16; p++)
        if (!area[p * PAGE_BYTES] &&
            !memcmp(area + p * PAGE_BYTES, area + p * PAGE_BYTES + 1, PAGE_BYTES - 1))
            empty |= 1u << p;
    return empty;
}

static void the_guest_hears_the_target_and_tells_what_it_gave(void **state)
{
    struct fixture f;
    init(&f);
    virtio_balloon_set_target(f.balloon, 5 * PAGE_BYTES);
    assert_int_equal(test_read(&f.driver, f.driver.config, 4), 5);
    test_write(&f.driver, f.driver.config + 4, 4, 3);
    assert_int_equal(virtio_balloon_taken(f.balloon), 3 * PAGE_BYTES);
    test_write(&f.driver, f.driver.config, 4, 77); // not the driver's to set
    assert_int_equal(virtio_balloon_target(f.balloon), 5 * PAGE_BYTES);
    virtio_balloon_set_target(f.balloon, UINT64_MAX);
    assert_int_equal(virtio_balloon_target(f.balloon), TEST_RAM_BYTES);
    fini(&f);
}

static void given_up_pages_go_back_to_the_host(void **state)
{
    struct fixture f;
    init(&f);
    uint32_t first = AREA >> PAGE_SHIFT;
    uint32_t pages[] = {first + 3, first + 4,  first + 9, first + 8,
                        first + 7, 0xFFFFFFFF, first + 15};
    struct test_buffer buffer = {test_alloc(&f.driver, sizeof(pages), 4), sizeof(pages), false};
    test_store(&f.driver, buffer.at, pages, sizeof(pages));
    test_add(&f.driver, INFLATE, 0, &buffer, 1);
    test_notify(&f.driver, INFLATE);
    test_wait_used(&f.driver, INFLATE, NULL);
    assert_int_equal(empty_pages(&f), 0x8398);
    fini(&f);
}

static void reported_pages_go_back_to_the_host(void **state)
{
    struct fixture f;
    init(&f);
    struct test_buffer buffers[2] = {{AREA + 2 * PAGE_BYTES, 3 * PAGE_BYTES, true},
                                     {AREA + 10 * PAGE_BYTES + 1, 2 * PAGE_BYTES, true}};
    test_add(&f.driver, REPORTING, 0, buffers, 2);
    test_notify(&f.driver, REPORTING);
    test_wait_used(&f.driver, REPORTING, NULL);
    assert_int_equal(empty_pages(&f), 0x081C);
    struct virtio_balloon_stats stats;
    virtio_balloon_stats(f.balloon, &stats);
    assert_int_equal(stats.reported_bytes, 4 * PAGE_BYTES);
    fini(&f);
}

static void statistics_come_when_asked_for(void **state)
{
    struct fixture f;
    init(&f);
    uint8_t tell[30];
    store_le16(tell, BALLOON_FREE);
    store_le64(tell + 2, 123456);
    store_le16(tell + 10, 999);
    store_le64(tell + 12, 1);
    store_le16(tell + 20, BALLOON_TOTAL);
    store_le64(tell + 22, 777777);
    struct test_buffer buffer = {test_alloc(&f.driver, 30, 1), 30, false};
    test_store(&f.driver, buffer.at, tell, 30);
    assert_true(virtio_balloon_request_stats(f.balloon)); // too early: there is no buffer
    test_add(&f.driver, STATS, 0, &buffer, 1);
    test_notify(&f.driver, STATS);
    assert_false(test_has_used(&f.driver, STATS));
    struct virtio_balloon_stats stats;
    virtio_balloon_stats(f.balloon, &stats);
    assert_int_equal(stats.updates, 1);
    assert_int_equal(stats.values[BALLOON_FREE], 123456);
    assert_int_equal(stats.values[BALLOON_TOTAL], 777777);
    assert_true(stats.values[BALLOON_CACHES] == UINT64_MAX);
    virtio_balloon_request_stats(f.balloon);
    assert_int_equal(test_wait_used(&f.driver, STATS, NULL), 0);
    store_le64(tell + 2, 42);
    test_store(&f.driver, buffer.at, tell, 30);
    test_add(&f.driver, STATS, 0, &buffer, 1);
    test_notify(&f.driver, STATS);
    virtio_balloon_stats(f.balloon, &stats);
    assert_int_equal(stats.updates, 2);
    assert_int_equal(stats.values[BALLOON_FREE], 42);
    fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_guest_hears_the_target_and_tells_what_it_gave),
        cmocka_unit_test(given_up_pages_go_back_to_the_host),
        cmocka_unit_test(reported_pages_go_back_to_the_host),
        cmocka_unit_test(statistics_come_when_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
