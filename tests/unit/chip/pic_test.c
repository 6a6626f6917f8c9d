// SPDX-License-Identifier: Apache-2.0
#include "bench.h"
#include "machine/chip/pic.h"

struct fixture {
    struct bench bench;
    struct pic *pic;
    bool intr;
};

static void output(void *context, bool level)
{
    ((struct fixture *)context)->intr = level;
}

static void initialize(struct bench *b, uint8_t icw4)
{
    static const uint16_t ports[] = {0x20, 0xA0};
    for (unsigned i = 0; i < 2; i++) {
        outb(b, ports[i], 0x11);
        outb(b, (uint16_t)(ports[i] + 1), i ? 0x28 : 0x20);
        outb(b, (uint16_t)(ports[i] + 1), i ? 2 : 4);
        outb(b, (uint16_t)(ports[i] + 1), icw4);
        outb(b, (uint16_t)(ports[i] + 1), 0);
    }
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    bench_init(&f->bench);
    f->pic = pic_create(f->bench.ports, output, f, &f->bench.err);
    assert_non_null(f->pic);
    initialize(&f->bench, 1);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pic_destroy(f->pic);
    bench_fini(&f->bench);
    free(f);
    return 0;
}

static void pulse(struct fixture *f, unsigned line)
{
    pic_set_line(f->pic, line, true);
}

static void an_edge_is_served_once(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(pic_acknowledge(f->pic), -1);
    pulse(f, 4);
    assert_true(f->intr && pic_pending(f->pic));
    assert_int_equal(pic_acknowledge(f->pic), 0x24);
    assert_false(f->intr);
    outb(&f->bench, 0x20, 0x20);
    assert_false(f->intr); // the line is still high, and no new edge
    pic_set_line(f->pic, 4, false);
    pulse(f, 4);
    assert_int_equal(pic_acknowledge(f->pic), 0x24);
}

static void a_pulse_is_remembered(void **state)
{
    struct fixture *f = *state;
    pulse(f, 3);
    pic_set_line(f->pic, 3, false);
    assert_int_equal(pic_acknowledge(f->pic), 0x23);
    assert_false(f->intr);
}

static void a_slaves_level_that_goes_away_takes_the_cascade_along(void **state)
{
    struct fixture *f = *state;
    outb(&f->bench, 0x4D1, 0x08);
    pulse(f, 11);
    assert_true(f->intr);
    pic_set_line(f->pic, 11, false);
    assert_false(f->intr);
    assert_int_equal(pic_acknowledge(f->pic), -1);
}

static void lower_lines_come_first_and_interrupt_higher_ones(void **state)
{
    struct fixture *f = *state;
    pulse(f, 6);
    pulse(f, 1);
    assert_int_equal(pic_acknowledge(f->pic), 0x21);
    assert_false(f->intr); // 6 waits for 1
    pulse(f, 0);
    assert_int_equal(pic_acknowledge(f->pic), 0x20);
    outb(&f->bench, 0x20, 0x20);
    assert_false(f->intr);
    outb(&f->bench, 0x20, 0x20);
    assert_int_equal(pic_acknowledge(f->pic), 0x26);
}

static void the_slave_comes_through_the_cascade(void **state)
{
    struct fixture *f = *state;
    pulse(f, 12);
    pulse(f, 8);
    assert_int_equal(pic_acknowledge(f->pic), 0x28);
    outb(&f->bench, 0x20, 0x0B);
    assert_int_equal(inb(&f->bench, 0x20), 4); // the cascade is in service
    outb(&f->bench, 0xA0, 0x20);
    assert_false(f->intr);
    outb(&f->bench, 0x20, 0x20);
    assert_int_equal(pic_acknowledge(f->pic), 0x2C);
    pulse(f, 3);
    assert_false(f->intr); // 8 to 15 are above 3
    outb(&f->bench, 0xA0, 0x20);
    outb(&f->bench, 0x20, 0x20);
    assert_int_equal(pic_acknowledge(f->pic), 0x23);
}

static void masked_lines_wait(void **state)
{
    struct fixture *f = *state;
    outb(&f->bench, 0x21, 0x10);
    assert_int_equal(inb(&f->bench, 0x21), 0x10);
    pulse(f, 4);
    assert_false(f->intr);
    outb(&f->bench, 0x20, 0x0A);
    assert_int_equal(inb(&f->bench, 0x20), 0x10); // requested all the same
    outb(&f->bench, 0x21, 0);
    assert_int_equal(pic_acknowledge(f->pic), 0x24);
}

static void a_level_is_served_until_it_falls(void **state)
{
    struct fixture *f = *state;
    out(&f->bench, 0x4D0, 0xFFFF, 2);
    assert_int_equal(in(&f->bench, 0x4D0, 2), 0xDEF8);
    pulse(f, 11);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pic_acknowledge(f->pic), 0x2B);
        outb(&f->bench, 0xA0, 0x20);
        outb(&f->bench, 0x20, 0x20);
    }
    pic_set_line(f->pic, 11, false);
    assert_false(f->intr);
}

static void automatic_eoi_leaves_nothing_in_service(void **state)
{
    struct fixture *f = *state;
    initialize(&f->bench, 3);
    pulse(f, 5);
    pulse(f, 7);
    assert_int_equal(pic_acknowledge(f->pic), 0x25);
    assert_int_equal(pic_acknowledge(f->pic), 0x27);
}

static void rotation_makes_the_served_line_last(void **state)
{
    struct fixture *f = *state;
    pulse(f, 0);
    assert_int_equal(pic_acknowledge(f->pic), 0x20);
    outb(&f->bench, 0x20, 0xA0); // rotate on non-specific EOI
    pic_set_line(f->pic, 0, false);
    pulse(f, 0);
    pulse(f, 5);
    assert_int_equal(pic_acknowledge(f->pic), 0x25);
    outb(&f->bench, 0x20, 0x65); // specific EOI of 5
    assert_int_equal(pic_acknowledge(f->pic), 0x20);
}

static void special_mask_mode_lets_lower_ones_through(void **state)
{
    struct fixture *f = *state;
    pulse(f, 1);
    assert_int_equal(pic_acknowledge(f->pic), 0x21);
    pulse(f, 6);
    assert_false(f->intr);
    outb(&f->bench, 0x21, 2);
    outb(&f->bench, 0x20, 0x68);
    assert_int_equal(pic_acknowledge(f->pic), 0x26);
}

static void polling_acknowledges(void **state)
{
    struct fixture *f = *state;
    pulse(f, 9);
    outb(&f->bench, 0x20, 0x0C);
    assert_int_equal(inb(&f->bench, 0x20), 0x82);
    outb(&f->bench, 0xA0, 0x0C);
    assert_int_equal(inb(&f->bench, 0xA0), 0x81);
    outb(&f->bench, 0xA0, 0x0C);
    assert_int_equal(inb(&f->bench, 0xA0), 0);
}

static void line_two_and_beyond_do_nothing(void **state)
{
    struct fixture *f = *state;
    pulse(f, 2);
    pulse(f, 16);
    pulse(f, 1000);
    assert_false(f->intr);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_edge_is_served_once),
        TEST(a_pulse_is_remembered),
        TEST(a_slaves_level_that_goes_away_takes_the_cascade_along),
        TEST(lower_lines_come_first_and_interrupt_higher_ones),
        TEST(the_slave_comes_through_the_cascade),
        TEST(masked_lines_wait),
        TEST(a_level_is_served_until_it_falls),
        TEST(automatic_eoi_leaves_nothing_in_service),
        TEST(rotation_makes_the_served_line_last),
        TEST(special_mask_mode_lets_lower_ones_through),
        TEST(polling_acknowledges),
        TEST(line_two_and_beyond_do_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
