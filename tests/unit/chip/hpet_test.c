// SPDX-License-Identifier: Apache-2.0
#include "bench.h"
#include "machine/chip/hpet.h"
#include "machine/device/memory_map.h"

#define TICK 10u // ns

enum { CAPABILITIES = 0, CONFIG = 0x10, STATUS = 0x20, COUNTER = 0xF0 };
#define T_CONFIG(n)     (0x100u + 0x20 * (n))
#define T_COMPARATOR(n) (0x108u + 0x20 * (n))
#define T_MESSAGE(n)    (0x110u + 0x20 * (n))

struct fixture {
    struct bench bench;
    struct hpet *hpet;
    bool legacy;
};

static void legacy(void *context, bool on)
{
    ((struct fixture *)context)->legacy = on;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    bench_init(&f->bench);
    f->hpet = hpet_create(f->bench.mmio, f->bench.clock, &f->bench.irqs, legacy, f, &f->bench.err);
    assert_non_null(f->hpet);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    hpet_destroy(f->hpet);
    bench_fini(&f->bench);
    free(f);
    return 0;
}

static uint64_t get(struct fixture *f, unsigned reg, unsigned size)
{
    return mmio_in(&f->bench, MAP_HPET_START + reg, size);
}

static void set(struct fixture *f, unsigned reg, uint64_t value, unsigned size)
{
    mmio_out(&f->bench, MAP_HPET_START + reg, value, size);
}

static void it_says_what_it_is(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(get(f, CAPABILITIES, 4), 0x8086A201); // as the ACPI table has it
    assert_int_equal(get(f, 4, 4), 10000000);
    assert_int_equal(get(f, T_CONFIG(0), 8) & 0xFFFF, 0x8030);
    assert_int_equal(get(f, T_CONFIG(1), 8) & 0xFFFF, 0x8020);
}

static void the_counter_counts_while_it_is_on(void **state)
{
    struct fixture *f = *state;
    bench_pass(&f->bench, 1000);
    assert_int_equal(get(f, COUNTER, 8), 0);
    set(f, COUNTER, 0x1FFFFFFF0, 8);
    set(f, CONFIG, 1, 4);
    bench_pass(&f->bench, 0x20 * TICK);
    assert_int_equal(get(f, COUNTER, 8), 0x200000010);
    assert_int_equal(get(f, COUNTER + 4, 4), 2);
    set(f, COUNTER, 0, 8); // has no effect now
    assert_int_equal(get(f, COUNTER, 8), 0x200000010);
    set(f, CONFIG, 0, 4);
    bench_pass(&f->bench, 1000);
    assert_int_equal(get(f, COUNTER, 8), 0x200000010);
}

static void a_one_shot_fires_at_its_comparator(void **state)
{
    struct fixture *f = *state;
    set(f, CONFIG, 1, 4);
    set(f, T_CONFIG(1), 4 | 8 << 9, 4);
    set(f, T_COMPARATOR(1), 500, 8);
    bench_pass(&f->bench, 499 * TICK);
    assert_int_equal(f->bench.edges[8], 0);
    bench_pass(&f->bench, TICK);
    assert_int_equal(f->bench.edges[8], 1);
    bench_pass(&f->bench, 1000000000);
    assert_int_equal(f->bench.edges[8], 1);
    assert_int_equal(get(f, STATUS, 4), 0); // edges leave no status
}

// As Linux does it: set-value, comparator, then the period.
static void a_periodic_timer_keeps_its_rhythm(void **state)
{
    struct fixture *f = *state;
    set(f, CONFIG, 3, 4);
    assert_true(f->legacy);
    set(f, T_CONFIG(0), 0x14C, 4); // enabled, periodic, set value, 32 bits
    set(f, T_COMPARATOR(0), 100000, 4);
    set(f, T_COMPARATOR(0), 400000, 4);
    bench_pass(&f->bench, 100000 * TICK);
    assert_int_equal(f->bench.edges[0], 1);
    bench_pass(&f->bench, 1000000000);
    assert_int_equal(f->bench.edges[0], 1 + 250);
    set(f, CONFIG, 0, 4);
    assert_false(f->legacy);
    bench_pass(&f->bench, 1000000000);
    assert_int_equal(f->bench.edges[0], 1 + 250);
}

// As Linux leaves it once it has a better clock: it costs nothing, and its comparator still moves on.
static void a_periodic_timer_that_does_nothing_wakes_nobody(void **state)
{
    struct fixture *f = *state;
    set(f, CONFIG, 3, 4);
    set(f, T_CONFIG(0), 0x14C, 4);
    set(f, T_COMPARATOR(0), 100000, 4);
    set(f, T_COMPARATOR(0), 400000, 4);
    bench_pass(&f->bench, 100000 * TICK);
    assert_int_equal(f->bench.edges[0], 1);
    set(f, T_CONFIG(0), 0x148, 4); // no longer enabled
    assert_true(vm_clock_next_deadline_ns(f->bench.clock) == VM_CLOCK_NEVER);
    bench_pass(&f->bench, 60000000000); // longer than 32 bits of ticks last
    assert_int_equal(f->bench.edges[0], 1);
    uint32_t now = (uint32_t)get(f, COUNTER, 8), comparator = (uint32_t)get(f, T_COMPARATOR(0), 4);
    assert_in_range((uint32_t)(comparator - now), 1, 400000);
    uint64_t matches = (60000000000 / TICK) / 400000 + 1;
    assert_int_equal(comparator, (uint32_t)(100000 + matches * 400000));
    set(f, T_CONFIG(0), 0x14C & ~0x40, 4); // enabled again, in the same rhythm
    bench_pass(&f->bench, (uint64_t)(comparator - now) * TICK);
    assert_int_equal(f->bench.edges[0], 2);
}

static void thirty_two_bits_wrap(void **state)
{
    struct fixture *f = *state;
    set(f, COUNTER, 0xFFFFFF00, 8);
    set(f, CONFIG, 1, 4);
    set(f, T_CONFIG(1), 0x104 | 8 << 9, 4);
    set(f, T_COMPARATOR(1), 0x100, 4);
    bench_pass(&f->bench, 0x1FF * TICK);
    assert_int_equal(f->bench.edges[8], 0);
    bench_pass(&f->bench, TICK);
    assert_int_equal(f->bench.edges[8], 1);
}

static void a_level_is_held_until_its_status_is_cleared(void **state)
{
    struct fixture *f = *state;
    set(f, CONFIG, 1, 4);
    set(f, T_CONFIG(2), 6 | 11 << 9, 4);
    set(f, T_COMPARATOR(2), 100, 8);
    bench_pass(&f->bench, 200 * TICK);
    assert_true(f->bench.level[11]);
    assert_int_equal(get(f, STATUS, 4), 4);
    set(f, STATUS, 3, 4);
    assert_true(f->bench.level[11]);
    set(f, STATUS, 4, 4);
    assert_false(f->bench.level[11]);
}

static void changing_the_route_moves_the_line(void **state)
{
    struct fixture *f = *state;
    set(f, CONFIG, 1, 4);
    set(f, T_CONFIG(2), 6 | 11 << 9, 4);
    set(f, T_COMPARATOR(2), 100, 8);
    bench_pass(&f->bench, 200 * TICK);
    set(f, T_CONFIG(2), 6 | 10 << 9, 4);
    assert_false(f->bench.level[11]);
    assert_true(f->bench.level[10]);
    set(f, T_CONFIG(2), 6 | 23 << 9, 4); // not one of its own: nowhere
    assert_false(f->bench.level[10]);
    assert_false(f->bench.level[23]);
}

static void a_message_is_sent_instead_of_a_line(void **state)
{
    struct fixture *f = *state;
    set(f, CONFIG, 1, 4);
    set(f, T_MESSAGE(1), 0xFEE01000000040EFull, 8);
    set(f, T_CONFIG(1), 0x4004 | 8 << 9, 4);
    set(f, T_COMPARATOR(1), 100, 8);
    bench_pass(&f->bench, 200 * TICK);
    assert_int_equal(f->bench.messages, 1);
    assert_int_equal(f->bench.message_address, 0xFEE01000);
    assert_int_equal(f->bench.message_data, 0x40EF);
    assert_int_equal(f->bench.edges[8], 0);
}

static void a_tiny_period_is_slowed_down(void **state)
{
    struct fixture *f = *state;
    set(f, CONFIG, 3, 4);
    set(f, T_CONFIG(0), 0x4C, 4);
    set(f, T_COMPARATOR(0), 1, 8);
    set(f, T_COMPARATOR(0), 1, 8);
    bench_pass(&f->bench, 100000000);
    assert_in_range(f->bench.edges[0], 900, 1001);
}

static void reset_gives_the_lines_back(void **state)
{
    struct fixture *f = *state;
    set(f, CONFIG, 3, 4);
    set(f, T_CONFIG(0), 6, 4);
    set(f, T_COMPARATOR(0), 10, 8);
    bench_pass(&f->bench, 1000);
    assert_true(f->bench.level[0] && f->legacy);
    struct device *device = hpet_device(f->hpet);
    device->ops->reset(device->self);
    assert_false(f->bench.level[0] || f->legacy);
    assert_int_equal(get(f, COUNTER, 8), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(it_says_what_it_is),
        TEST(the_counter_counts_while_it_is_on),
        TEST(a_one_shot_fires_at_its_comparator),
        TEST(a_periodic_timer_keeps_its_rhythm),
        TEST(a_periodic_timer_that_does_nothing_wakes_nobody),
        TEST(thirty_two_bits_wrap),
        TEST(a_level_is_held_until_its_status_is_cleared),
        TEST(changing_the_route_moves_the_line),
        TEST(a_message_is_sent_instead_of_a_line),
        TEST(a_tiny_period_is_slowed_down),
        TEST(reset_gives_the_lines_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
