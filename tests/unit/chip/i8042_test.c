// SPDX-License-Identifier: Apache-2.0
#include "bench.h"
#include "machine/chip/i8042.h"

#define DATA    0x60
#define COMMAND 0x64

struct fixture {
    struct bench bench;
    struct i8042 *i8042;
};

static int make(void **state, bool keyboard)
{
    struct fixture *f = calloc(1, sizeof(*f));
    bench_init(&f->bench);
    f->i8042 = i8042_create(f->bench.ports, bench_irq(&f->bench, 1), bench_irq(&f->bench, 12),
                            keyboard, bench_events(&f->bench), &f->bench.err);
    assert_non_null(f->i8042);
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return make(state, false);
}

static int setup_keyboard(void **state)
{
    return make(state, true);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    i8042_destroy(f->i8042);
    bench_fini(&f->bench);
    free(f);
    return 0;
}

static void command(struct fixture *f, uint8_t value)
{
    outb(&f->bench, COMMAND, value);
}

static void send(struct fixture *f, uint8_t value)
{
    outb(&f->bench, DATA, value);
}

static uint8_t status(struct fixture *f)
{
    return inb(&f->bench, COMMAND);
}

static int receive(struct fixture *f)
{
    return status(f) & 1 ? inb(&f->bench, DATA) : -1;
}

static void it_passes_its_tests(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(receive(f), -1);
    command(f, 0xAA);
    assert_int_equal(receive(f), 0x55);
    command(f, 0xAB);
    assert_int_equal(receive(f), 0);
    assert_int_equal(receive(f), -1);
}

static void its_memory_is_written_and_read(void **state)
{
    struct fixture *f = *state;
    command(f, 0x60);
    send(f, 0x65);
    command(f, 0x7F);
    send(f, 0xA5);
    command(f, 0x20);
    assert_int_equal(receive(f), 0x65);
    command(f, 0x3F);
    assert_int_equal(receive(f), 0xA5);
    command(f, 0xA8);
    command(f, 0xAD);
    command(f, 0x20);
    assert_int_equal(receive(f), 0x75 & ~0x20);
    command(f, 0xA7);
    command(f, 0xAE);
    command(f, 0x20);
    assert_int_equal(receive(f), 0x65);
}

static void commands_reset_the_machine(void **state)
{
    struct fixture *f = *state;
    command(f, 0xFF);
    assert_int_equal(f->bench.resets, 0);
    command(f, 0xFE);
    assert_int_equal(f->bench.resets, 1);
    command(f, 0xF0);
    assert_int_equal(f->bench.resets, 2);
    command(f, 0xD1);
    send(f, 0xDF); // A20 on
    assert_int_equal(f->bench.resets, 2);
    command(f, 0xD1);
    send(f, 0xDE);
    assert_int_equal(f->bench.resets, 3);
    command(f, 0xD0);
    assert_int_equal(receive(f) & 3, 3);
}

static void without_a_keyboard_it_times_out_at_once(void **state)
{
    struct fixture *f = *state;
    send(f, 0xFF);
    assert_int_equal(status(f) & 0x41, 0x41);
    assert_int_equal(receive(f), 0xFE);
    assert_int_equal(status(f) & 0x41, 0);
    command(f, 0xD4);
    send(f, 0xF2);
    assert_int_equal(status(f) & 0x61, 0x61);
    assert_int_equal(receive(f), 0xFE);
    static const uint8_t key[] = {0x1C};
    assert_false(i8042_key(f->i8042, key, 1));
}

static void bytes_can_be_looped_through(void **state)
{
    struct fixture *f = *state;
    command(f, 0x60);
    send(f, 3);
    command(f, 0xD2);
    send(f, 0x12);
    assert_true(f->bench.level[1]);
    assert_int_equal(receive(f), 0x12);
    assert_false(f->bench.level[1]);
    command(f, 0xD3);
    send(f, 0x34);
    assert_true(f->bench.level[12]);
    assert_int_equal(status(f) & 0x21, 0x21);
    assert_int_equal(receive(f), 0x34);
    assert_false(f->bench.level[12]);
}

static void the_keyboard_answers(void **state)
{
    struct fixture *f = *state;
    send(f, 0xFF);
    assert_int_equal(receive(f), 0xFA);
    assert_int_equal(receive(f), 0xAA);
    send(f, 0xF2);
    command(f, 0x60);
    send(f, 0); // no translation: the identity as it is
    assert_int_equal(receive(f), 0xFA);
    assert_int_equal(receive(f), 0xAB);
    assert_int_equal(receive(f), 0x83);
    send(f, 0xED);
    assert_int_equal(receive(f), 0xFA);
    send(f, 7);
    assert_int_equal(receive(f), 0xFA);
    send(f, 0xF0);
    send(f, 0);
    assert_int_equal(receive(f), 0xFA);
    assert_int_equal(receive(f), 0xFA);
    assert_int_equal(receive(f), 2);
    send(f, 0x01);
    assert_int_equal(receive(f), 0xFE);
    assert_int_equal(receive(f), -1);
}

static void keys_are_translated_and_interrupt_one_by_one(void **state)
{
    struct fixture *f = *state;
    static const uint8_t keys[] = {0x1C, 0xF0, 0x1C, 0x5A}; // A down, A up, Enter down
    command(f, 0x60);
    send(f, 0x41);
    assert_true(i8042_key(f->i8042, keys, 4));
    assert_int_equal(f->bench.edges[1], 1);
    assert_int_equal(receive(f), 0x1E);
    assert_int_equal(f->bench.edges[1], 2);
    assert_int_equal(receive(f), 0x9E);
    assert_int_equal(receive(f), 0x1C);
    assert_int_equal(f->bench.edges[1], 3);
    assert_false(f->bench.level[1]);
    uint8_t many[17] = {0};
    assert_false(i8042_key(f->i8042, many, 17));
    assert_true(i8042_key(f->i8042, many, 16));
    assert_false(i8042_key(f->i8042, many, 16));
}

static void a_disabled_keyboard_keeps_its_bytes(void **state)
{
    struct fixture *f = *state;
    static const uint8_t key[] = {0x76};
    command(f, 0xAD);
    assert_true(i8042_key(f->i8042, key, 1));
    assert_int_equal(receive(f), -1);
    command(f, 0xAE);
    assert_int_equal(receive(f), 1);
    send(f, 0xF5);
    assert_int_equal(receive(f), 0xFA);
    assert_false(i8042_key(f->i8042, key, 1));
}

int main(void)
{
#define TEST(name)     cmocka_unit_test_setup_teardown(name, setup, teardown)
#define KEYBOARD(name) cmocka_unit_test_setup_teardown(name, setup_keyboard, teardown)
    const struct CMUnitTest tests[] = {
        TEST(it_passes_its_tests),
        TEST(its_memory_is_written_and_read),
        TEST(commands_reset_the_machine),
        TEST(without_a_keyboard_it_times_out_at_once),
        TEST(bytes_can_be_looped_through),
        KEYBOARD(the_keyboard_answers),
        KEYBOARD(keys_are_translated_and_interrupt_one_by_one),
        KEYBOARD(a_disabled_keyboard_keeps_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
