// SPDX-License-Identifier: Apache-2.0
#include "bench.h"
#include "machine/chip/ioapic.h"
#include "machine/device/memory_map.h"

struct fixture {
    struct bench bench;
    struct ioapic *ioapic;
    unsigned sent;
    struct apic_message last;
};

static void note(void *context, const struct apic_message *message)
{
    struct fixture *f = context;
    f->sent++;
    f->last = *message;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    bench_init(&f->bench);
    f->ioapic = ioapic_create(f->bench.mmio, note, f, &f->bench.err);
    assert_non_null(f->ioapic);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    ioapic_destroy(f->ioapic);
    bench_fini(&f->bench);
    free(f);
    return 0;
}

static uint32_t get(struct fixture *f, uint8_t reg)
{
    mmio_out(&f->bench, MAP_IOAPIC_START, reg, 4);
    return (uint32_t)mmio_in(&f->bench, MAP_IOAPIC_START + 0x10, 4);
}

static void set(struct fixture *f, uint8_t reg, uint32_t value)
{
    mmio_out(&f->bench, MAP_IOAPIC_START, reg, 4);
    mmio_out(&f->bench, MAP_IOAPIC_START + 0x10, value, 4);
}

static void it_says_what_it_is(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(get(f, 1), 0x00170020);
    set(f, 0, 0xFFFFFFFF);
    assert_int_equal(get(f, 0), 0x0F000000);
    assert_int_equal(get(f, 0x10), 0x00010000);
    assert_int_equal(get(f, 0x3F), 0);
    assert_int_equal(get(f, 0x40), 0xFFFFFFFF);
}

static void an_edge_sends_one_message(void **state)
{
    struct fixture *f = *state;
    set(f, 0x10 + 2 * 4 + 1, 0x03000000);
    set(f, 0x10 + 2 * 4, 0x00000931); // lowest priority, logical
    ioapic_set_line(f->ioapic, 4, true);
    ioapic_set_line(f->ioapic, 4, true);
    assert_int_equal(f->sent, 1);
    assert_int_equal(f->last.vector, 0x31);
    assert_int_equal(f->last.mode, 1);
    assert_true(f->last.logical);
    assert_int_equal(f->last.destination, 3);
    assert_false(f->last.level_triggered);
    ioapic_set_line(f->ioapic, 4, false);
    ioapic_set_line(f->ioapic, 4, true);
    assert_int_equal(f->sent, 2);
}

static void a_masked_edge_is_forgotten(void **state)
{
    struct fixture *f = *state;
    set(f, 0x10, 0x10031);
    ioapic_set_line(f->ioapic, 0, true);
    set(f, 0x10, 0x31);
    assert_int_equal(f->sent, 0);
}

static void a_level_waits_for_its_end(void **state)
{
    struct fixture *f = *state;
    set(f, 0x10 + 2 * 16, 0x8055);
    ioapic_set_line(f->ioapic, 16, true);
    assert_int_equal(f->sent, 1);
    assert_true(f->last.level_triggered);
    assert_int_equal(get(f, 0x10 + 2 * 16), 0xC055); // remote IRR
    ioapic_set_line(f->ioapic, 16, false);
    ioapic_set_line(f->ioapic, 16, true);
    assert_int_equal(f->sent, 1);
    ioapic_eoi(f->ioapic, 0x54);
    assert_int_equal(f->sent, 1);
    ioapic_eoi(f->ioapic, 0x55); // still asserted
    assert_int_equal(f->sent, 2);
    ioapic_set_line(f->ioapic, 16, false);
    mmio_out(&f->bench, MAP_IOAPIC_START + 0x40, 0x55, 4); // the EOI register
    assert_int_equal(f->sent, 2);
    assert_int_equal(get(f, 0x10 + 2 * 16), 0x8055);
}

static void a_masked_level_is_seen_later(void **state)
{
    struct fixture *f = *state;
    set(f, 0x10 + 2 * 9, 0x18055);
    ioapic_set_line(f->ioapic, 9, true);
    assert_int_equal(f->sent, 0);
    set(f, 0x10 + 2 * 9, 0x8055);
    assert_int_equal(f->sent, 1);
}

static void switching_to_edge_frees_a_stuck_entry(void **state)
{
    struct fixture *f = *state;
    set(f, 0x10 + 2 * 9, 0x8055);
    ioapic_set_line(f->ioapic, 9, true);
    set(f, 0x10 + 2 * 9, 0x10055);
    set(f, 0x10 + 2 * 9, 0x18055);
    assert_int_equal(get(f, 0x10 + 2 * 9), 0x18055);
    set(f, 0x10 + 2 * 9, 0x8055);
    assert_int_equal(f->sent, 2);
}

static void the_chips_own_bits_cannot_be_written(void **state)
{
    struct fixture *f = *state;
    set(f, 0x10, 0xFFFFFFFF);
    assert_int_equal(get(f, 0x10), 0x0001AFFF);
    set(f, 0x11, 0xFFFFFFFF);
    assert_int_equal(get(f, 0x11), 0xFF000000);
}

static void inputs_beyond_the_last_are_ignored(void **state)
{
    struct fixture *f = *state;
    ioapic_set_line(f->ioapic, IOAPIC_INPUTS, true);
    ioapic_set_line(f->ioapic, 64, true);
    assert_int_equal(f->sent, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(it_says_what_it_is),
        TEST(an_edge_sends_one_message),
        TEST(a_masked_edge_is_forgotten),
        TEST(a_level_waits_for_its_end),
        TEST(a_masked_level_is_seen_later),
        TEST(switching_to_edge_frees_a_stuck_entry),
        TEST(the_chips_own_bits_cannot_be_written),
        TEST(inputs_beyond_the_last_are_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
