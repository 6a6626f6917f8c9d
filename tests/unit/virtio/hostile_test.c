// SPDX-License-Identifier: Apache-2.0
//
// Guests that break the rules: each rule one test, then random ones. The device must need a reset, say nothing else, and
// work again after the reset.
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/log.h"
#include "driver.h"
#include "hostile.h"
#include "machine/virtio/virtio_rng.h"

#define SIZE 16u
#define ALL  (~0ull)

struct fixture {
    struct test_machine machine;
    struct test_driver driver;
    struct virtio_rng *rng;
};

static void init(struct fixture *f, bool threaded)
{
    struct err err;
    struct virtio_rng_params params = {.name = "rng0"};
    test_machine_init(&f->machine, threaded);
    f->rng = virtio_rng_create(&f->machine.environment, &params, &err);
    assert_non_null(f->rng);
    test_driver_attach(&f->driver, &f->machine, virtio_rng_device(f->rng));
}

static void fini(struct fixture *f)
{
    pci_host_unplug(&virtio_rng_device(f->rng)->pci);
    virtio_rng_destroy(f->rng);
    test_machine_fini(&f->machine);
}

static bool needs_reset(struct fixture *f)
{
    return test_driver_status(&f->driver) & VIRTIO_STATUS_NEEDS_RESET;
}

// A good request after a reset.
static void works_again(struct fixture *f)
{
    f->driver.next_free = MIB;
    test_driver_start(&f->driver, ALL, SIZE);
    struct test_buffer buffer = {test_alloc(&f->driver, 32, 1), 32, true};
    test_add(&f->driver, 0, 0, &buffer, 1);
    test_notify(&f->driver, 0);
    uint32_t length;
    test_wait_used(&f->driver, 0, &length);
    assert_int_equal(length, 32);
}

// ---- Rings

static void start_with_rings(struct fixture *f, uint64_t descriptors, uint64_t available,
                             uint64_t used)
{
    struct test_driver *d = &f->driver;
    test_driver_negotiate(d, ALL);
    test_write(d, d->common + 22, 2, 0);
    test_write(d, d->common + 24, 2, SIZE);
    test_write(d, d->common + 32, 8, descriptors);
    test_write(d, d->common + 40, 8, available);
    test_write(d, d->common + 48, 8, used);
    test_write(d, d->common + 28, 2, 1);
    test_driver_ok(d);
}

static void rings_outside_memory_need_a_reset(void **state)
{
    static const uint64_t bad[] = {TEST_RAM_BYTES,  TEST_RAM_BYTES - 16, 0xC0000000,
                                   UINT64_MAX - 15, 0xFFFFFFFFFFFFF000,  GUEST_HIGH_RAM_START,
                                   MIB + 1};
    struct fixture f;
    init(&f, false);
    for (unsigned i = 0; i < ARRAY_LENGTH(bad); i++)
        for (unsigned which = 0; which < 3; which++) {
            uint64_t rings[3] = {MIB, MIB + 4096, MIB + 8192};
            rings[which] = bad[i];
            start_with_rings(&f, rings[0], rings[1], rings[2]);
            assert_true(needs_reset(&f));
            test_notify(&f.driver, 0);
            works_again(&f);
        }
    fini(&f);
}

// All three areas, and the buffers, in the same place.
static void rings_on_top_of_each_other_do_no_harm(void **state)
{
    struct fixture f;
    init(&f, false);
    for (unsigned seed = 1; seed < 2000; seed++) {
        uint8_t bytes[256];
        uint32_t x = seed;
        for (unsigned i = 0; i < sizeof(bytes); i++) {
            x = x * 1664525 + 1013904223;
            bytes[i] = (uint8_t)(x >> 24);
        }
        store_le64(bytes, MIB + seed % 64);
        store_le32(bytes + 8, 1 + seed % 300);
        store_le16(bytes + 12, 2);
        start_with_rings(&f, MIB, MIB, MIB);
        test_store(&f.driver, MIB, bytes, sizeof(bytes));
        test_notify(&f.driver, 0);
    }
    works_again(&f);
    fini(&f);
}

// ---- Chains

struct bad_chain {
    const char *what;
    void (*make)(struct test_driver *d, uint64_t table);
};

static void one(struct test_driver *d, uint64_t table)
{
    test_put_descriptor(d, table, 0, MIB / 2, 16, 2, 0);
}

static void loop_on_itself(struct test_driver *d, uint64_t table)
{
    test_put_descriptor(d, table, 0, MIB / 2, 16, 2 | 1, 0);
}

static void loop_of_two(struct test_driver *d, uint64_t table)
{
    test_put_descriptor(d, table, 0, MIB / 2, 16, 2 | 1, 1);
    test_put_descriptor(d, table, 1, MIB / 2, 16, 2 | 1, 0);
}

static void next_outside(struct test_driver *d, uint64_t table)
{
    test_put_descriptor(d, table, 0, MIB / 2, 16, 2 | 1, SIZE);
}

static void next_far_outside(struct test_driver *d, uint64_t table)
{
    test_put_descriptor(d, table, 0, MIB / 2, 16, 2 | 1, 0xFFFF);
}

static void length_zero(struct test_driver *d, uint64_t table)
{
    test_put_descriptor(d, table, 0, MIB / 2, 0, 2, 0);
}

static void length_of_4_gib(struct test_driver *d, uint64_t table)
{
    test_put_descriptor(d, table, 0, MIB / 2, UINT32_MAX, 2, 0);
}

static void buffer_past_the_end(struct test_driver *d, uint64_t table)
{
    test_put_descriptor(d, table, 0, TEST_RAM_BYTES - 8, 16, 2, 0);
}

static void buffer_that_wraps(struct test_driver *d, uint64_t table)
{
    test_put_descriptor(d, table, 0, UINT64_MAX - 7, 16, 2, 0);
}

static void readable_behind_writable(struct test_driver *d, uint64_t table)
{
    test_put_descriptor(d, table, 0, MIB / 2, 16, 2 | 1, 1);
    test_put_descriptor(d, table, 1, MIB / 2, 16, 0, 0);
}

static void indirect_in_indirect(struct test_driver *d, uint64_t table)
{
    test_put_descriptor(d, table, 0, MIB / 2, 32, 4, 0);
    test_put_descriptor(d, MIB / 2, 0, MIB / 2, 32, 4, 0);
}

static void indirect_with_next(struct test_driver *d, uint64_t table)
{
    test_put_descriptor(d, table, 0, MIB / 2, 16, 4 | 1, 1);
    test_put_descriptor(d, MIB / 2, 0, MIB / 4, 16, 2, 0);
}

static void indirect_of_odd_length(struct test_driver *d, uint64_t table)
{
    test_put_descriptor(d, table, 0, MIB / 2, 17, 4, 0);
}

static void indirect_of_no_length(struct test_driver *d, uint64_t table)
{
    test_put_descriptor(d, table, 0, MIB / 2, 0, 4, 0);
}

static void indirect_outside(struct test_driver *d, uint64_t table)
{
    test_put_descriptor(d, table, 0, TEST_RAM_BYTES - 16, 32, 4, 0);
}

static void indirect_loop(struct test_driver *d, uint64_t table)
{
    test_put_descriptor(d, table, 0, MIB / 2, 65536, 4, 0);
    test_put_descriptor(d, MIB / 2, 0, MIB / 4, 16, 2 | 1, 0);
}

static void indirect_chain_of_4096(struct test_driver *d, uint64_t table)
{
    test_put_descriptor(d, table, 0, MIB / 2, 65536, 4, 0);
    for (unsigned i = 0; i < 4096; i++)
        test_put_descriptor(d, MIB / 2, i, MIB / 4, 16, 2 | (i < 4095 ? 1 : 0), (uint16_t)(i + 1));
}

static const struct bad_chain bad_chains[] = {
    {"a loop on itself", loop_on_itself},
    {"a loop of two", loop_of_two},
    {"next outside the table", next_outside},
    {"next far outside the table", next_far_outside},
    {"length 0", length_zero},
    {"length 4 GiB", length_of_4_gib},
    {"a buffer past the end of memory", buffer_past_the_end},
    {"a buffer that wraps", buffer_that_wraps},
    {"readable behind writable", readable_behind_writable},
    {"indirect in indirect", indirect_in_indirect},
    {"indirect with next", indirect_with_next},
    {"an indirect table of odd length", indirect_of_odd_length},
    {"an indirect table of no length", indirect_of_no_length},
    {"an indirect table outside memory", indirect_outside},
    {"an indirect loop", indirect_loop},
    {"an indirect chain of 4096", indirect_chain_of_4096},
};

static void bad_chains_need_a_reset(void **state)
{
    struct fixture f;
    init(&f, false);
    for (unsigned i = 0; i < ARRAY_LENGTH(bad_chains); i++) {
        f.driver.next_free = MIB;
        test_driver_start(&f.driver, ALL, SIZE);
        bad_chains[i].make(&f.driver, f.driver.rings[0].descriptors);
        test_make_available(&f.driver, 0, 0);
        test_notify(&f.driver, 0);
        if (!needs_reset(&f) || test_has_used(&f.driver, 0))
            fail_msg("%s was taken", bad_chains[i].what);
        works_again(&f);
    }
    fini(&f);
}

static void indirect_needs_negotiation(void **state)
{
    struct fixture f;
    init(&f, false);
    test_driver_start(&f.driver, 0, SIZE);
    test_put_descriptor(&f.driver, f.driver.rings[0].descriptors, 0, MIB / 2, 16, 4, 0);
    one(&f.driver, MIB / 2);
    test_make_available(&f.driver, 0, 0);
    test_notify(&f.driver, 0);
    assert_true(needs_reset(&f));
    fini(&f);
}

static void an_index_that_runs_ahead_needs_a_reset(void **state)
{
    struct fixture f;
    init(&f, false);
    for (unsigned ahead = SIZE + 1; ahead < 0x10000; ahead += 4999) {
        f.driver.next_free = MIB;
        test_driver_start(&f.driver, ALL, SIZE);
        uint16_t index = (uint16_t)ahead;
        test_store(&f.driver, f.driver.rings[0].available + 2, &index, 2);
        test_notify(&f.driver, 0);
        assert_true(needs_reset(&f));
    }
    f.driver.next_free = MIB;
    test_driver_start(&f.driver, ALL, SIZE);
    test_make_available(&f.driver, 0, SIZE); // a head outside the table
    test_notify(&f.driver, 0);
    assert_true(needs_reset(&f));
    works_again(&f);
    fini(&f);
}

// ---- Registers

static void a_running_queue_cannot_be_changed(void **state)
{
    struct fixture f;
    init(&f, false);
    struct test_driver *d = &f.driver;
    test_driver_start(d, ALL, SIZE);
    uint64_t was = test_read(d, d->common + 32, 8);
    test_write(d, d->common + 22, 2, 0);
    test_write(d, d->common + 32, 8, TEST_RAM_BYTES);
    test_write(d, d->common + 24, 2, 64);
    test_write(d, d->common + 28, 2, 0);
    assert_true(test_read(d, d->common + 32, 8) == was);
    assert_int_equal(test_read(d, d->common + 24, 2), SIZE);
    assert_int_equal(test_read(d, d->common + 28, 2), 1);
    fini(&f);
}

static void senseless_sizes_and_features_are_refused(void **state)
{
    struct fixture f;
    init(&f, false);
    struct test_driver *d = &f.driver;
    test_driver_negotiate(d, ALL);
    test_write(d, d->common + 22, 2, 0);
    static const uint16_t sizes[] = {0, 3, 65, 128, 0x8000, 0xFFFF};
    for (unsigned i = 0; i < ARRAY_LENGTH(sizes); i++) {
        test_write(d, d->common + 24, 2, sizes[i]);
        assert_int_equal(test_read(d, d->common + 24, 2), 64);
    }
    test_write(d, d->common + 22, 2, 1); // there is one queue only
    assert_int_equal(test_read(d, d->common + 24, 2), 0);
    test_write(d, d->common + 32, 8, MIB);
    test_write(d, d->common + 28, 2, 1);
    test_driver_reset(d);
    test_write(d, d->common + 20, 1, 3);
    test_write(d, d->common + 8, 4, 0);
    test_write(d, d->common + 12, 4, 0xFFFFFFFF); // more than was offered
    test_write(d, d->common + 20, 1, 3 | 8);
    assert_int_equal(test_driver_status(d), 3);
    test_driver_reset(d);
    test_write(d, d->common + 20, 1, 3 | 8 | 4); // without VERSION_1
    assert_int_equal(test_driver_status(d), 3);
    fini(&f);
}

// One CPU notifies and fills rings, another resets and sets up again, the I/O thread works.
struct race {
    struct fixture *f;
    atomic_bool stop;
};

static void *notify_always(void *context)
{
    struct race *race = context;
    while (!atomic_load(&race->stop)) {
        for (uint16_t i = 0; i < 100; i++) {
            test_notify(&race->f->driver, i % 3);
            guest_memory_write(race->f->machine.memory, gpa(MIB + 16 * 64 + 2), &i, 2);
        }
        sched_yield();
    }
    return NULL;
}

static void resets_and_notifications_race(void **state)
{
    struct fixture f;
    init(&f, true);
    struct race race = {.f = &f};
    pthread_t thread;
    pthread_create(&thread, NULL, notify_always, &race);
    for (unsigned i = 0; i < 2000; i++) {
        f.driver.next_free = MIB;
        test_driver_start_quietly(&f.driver, ALL, 64);
        one(&f.driver, MIB);
    }
    atomic_store(&race.stop, true);
    pthread_join(thread, NULL);
    works_again(&f);
    fini(&f);
}

static void random_guests_do_no_harm(void **state)
{
    const char *text = getenv("HOSTILE_SEED"), *many = getenv("HOSTILE_RUNS");
    uint64_t seed = text ? strtoull(text, NULL, 0) : 1;
    unsigned runs = many ? (unsigned)strtoul(many, NULL, 0) : 3000;
    for (unsigned run = 0; run < runs; run++) {
        uint8_t program[1024];
        uint64_t x = (seed + run) * 0x9E3779B97F4A7C15ull + 1;
        for (unsigned i = 0; i < sizeof(program); i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            program[i] = (uint8_t)(x >> 32);
        }
        hostile_run(program, sizeof(program));
    }
    hostile_end();
}

static void quiet(enum log_level level, const char *line)
{
}

int main(void)
{
    log_set_sink(quiet);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rings_outside_memory_need_a_reset),
        cmocka_unit_test(rings_on_top_of_each_other_do_no_harm),
        cmocka_unit_test(bad_chains_need_a_reset),
        cmocka_unit_test(indirect_needs_negotiation),
        cmocka_unit_test(an_index_that_runs_ahead_needs_a_reset),
        cmocka_unit_test(a_running_queue_cannot_be_changed),
        cmocka_unit_test(senseless_sizes_and_features_are_refused),
        cmocka_unit_test(resets_and_notifications_race),
        cmocka_unit_test(random_guests_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
