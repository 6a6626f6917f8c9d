// SPDX-License-Identifier: Apache-2.0
#include "bench.h"
#include "machine/chip/uart.h"

#define PORT 0x3F8
#define IRQ  4

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };

struct terminal {
    struct bench bench;
    struct uart *uart;
    char shown[256];
    unsigned shown_count;
    unsigned room; // how many more bytes it takes
    unsigned wanted;
};

static size_t terminal_write(void *context, const uint8_t *bytes, size_t length)
{
    struct terminal *t = context;
    if (length > t->room)
        length = t->room;
    t->room -= (unsigned)length;
    memcpy(t->shown + t->shown_count, bytes, length);
    t->shown_count += (unsigned)length;
    return length;
}

static void terminal_wanted(void *context)
{
    ((struct terminal *)context)->wanted++;
}

static const struct char_backend_ops terminal_ops = {terminal_write, terminal_wanted};

static int setup(void **state)
{
    struct terminal *t = calloc(1, sizeof(*t));
    bench_init(&t->bench);
    t->room = sizeof(t->shown);
    t->uart = uart_create("uart0", t->bench.ports, PORT, bench_irq(&t->bench, IRQ),
                          (struct char_backend){&terminal_ops, t}, &t->bench.err);
    assert_non_null(t->uart);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct terminal *t = *state;
    uart_destroy(t->uart);
    bench_fini(&t->bench);
    free(t);
    return 0;
}

static uint8_t get(struct terminal *t, unsigned reg)
{
    return inb(&t->bench, (uint16_t)(PORT + reg));
}

static void set(struct terminal *t, unsigned reg, uint8_t value)
{
    outb(&t->bench, (uint16_t)(PORT + reg), value);
}

static size_t type(struct terminal *t, const char *text)
{
    return uart_input(t->uart, (const uint8_t *)text, strlen(text));
}

static void bytes_written_are_shown(void **state)
{
    struct terminal *t = *state;
    assert_int_equal(get(t, LSR), 0x60);
    set(t, DATA, 'o');
    set(t, DATA, 'k');
    assert_int_equal(t->shown_count, 2);
    assert_memory_equal(t->shown, "ok", 2);
}

static void the_divisor_hides_behind_dlab(void **state)
{
    struct terminal *t = *state;
    set(t, LCR, 0x83);
    set(t, DATA, 0x34);
    set(t, IER, 0x12);
    assert_int_equal(get(t, DATA), 0x34);
    assert_int_equal(get(t, IER), 0x12);
    set(t, LCR, 0x03);
    assert_int_equal(get(t, IER), 0);
    assert_int_equal(t->shown_count, 0);
}

static void it_is_found_as_a_16550a(void **state)
{
    struct terminal *t = *state;
    set(t, SCR, 0xA5);
    assert_int_equal(get(t, SCR), 0xA5);
    set(t, IER, 0xFF);
    assert_int_equal(get(t, IER), 0x0F);
    set(t, IER, 0);
    set(t, MCR, 0x1A);
    assert_int_equal(get(t, MSR) & 0xF0, 0x90);
    set(t, MCR, 0);
    set(t, IIR, 1);
    assert_int_equal(get(t, IIR) >> 6, 3);
    set(t, IIR, 0);
    assert_int_equal(get(t, IIR) >> 6, 0);
}

static void received_data_interrupts_through_out2(void **state)
{
    struct terminal *t = *state;
    set(t, IER, 1);
    assert_int_equal(type(t, "a"), 1);
    assert_false(t->bench.level[IRQ]);
    assert_int_equal(get(t, IIR), 4);
    set(t, MCR, 8);
    assert_true(t->bench.level[IRQ]);
    assert_int_equal(get(t, LSR) & 1, 1);
    assert_int_equal(get(t, DATA), 'a');
    assert_false(t->bench.level[IRQ]);
    assert_int_equal(get(t, IIR), 1);
}

static void below_the_trigger_it_is_a_timeout(void **state)
{
    struct terminal *t = *state;
    set(t, IIR, 0x41); // FIFOs on, trigger at 4
    set(t, IER, 1);
    type(t, "abc");
    assert_int_equal(get(t, IIR) & 0x0F, 0x0C);
    type(t, "d");
    assert_int_equal(get(t, IIR) & 0x0F, 0x04);
}

static void the_fifo_takes_sixteen_and_asks_for_more(void **state)
{
    struct terminal *t = *state;
    assert_int_equal(type(t, "ab"), 1);
    get(t, DATA);
    assert_int_equal(t->wanted, 1);
    set(t, IIR, 1);
    assert_int_equal(type(t, "0123456789abcdefgh"), 16);
    for (unsigned i = 0; i < 15; i++)
        get(t, DATA);
    assert_int_equal(t->wanted, 1);
    assert_int_equal(get(t, DATA), 'f');
    assert_int_equal(t->wanted, 2);
    assert_int_equal(get(t, LSR) & 1, 0);
}

static void the_empty_transmitter_interrupts_once(void **state)
{
    struct terminal *t = *state;
    set(t, MCR, 8);
    set(t, IER, 2);
    assert_true(t->bench.level[IRQ]);
    assert_int_equal(get(t, IIR), 2);
    assert_false(t->bench.level[IRQ]);
    assert_int_equal(get(t, IIR), 1);
    set(t, DATA, 'x');
    assert_true(t->bench.level[IRQ]);
    set(t, IER, 0);
    assert_false(t->bench.level[IRQ]);
    set(t, IER, 2); // again: it is empty
    assert_true(t->bench.level[IRQ]);
}

static void a_full_back_end_holds_the_transmitter(void **state)
{
    struct terminal *t = *state;
    set(t, IIR, 1);
    set(t, MCR, 8);
    set(t, IER, 2);
    get(t, IIR);
    t->room = 1;
    set(t, DATA, 'a');
    assert_int_equal(get(t, LSR) & 0x60, 0x60);
    get(t, IIR);
    set(t, DATA, 'b');
    assert_int_equal(get(t, LSR) & 0x60, 0);
    assert_false(t->bench.level[IRQ]);
    for (char c = 'c'; c <= 'z'; c++) // 15 fit, the guest was not asked for more
        set(t, DATA, (uint8_t)c);
    assert_int_equal(t->shown_count, 1);
    t->room = 100;
    uart_output_ready(t->uart);
    assert_int_equal(t->shown_count, 17);
    assert_memory_equal(t->shown, "abcdefghijklmnopq", 17);
    assert_int_equal(get(t, LSR) & 0x60, 0x60);
    assert_true(t->bench.level[IRQ]);
}

static void loopback_returns_bytes_and_overruns(void **state)
{
    struct terminal *t = *state;
    set(t, IER, 5);
    set(t, MCR, 0x18);
    set(t, DATA, 'l');
    assert_int_equal(t->shown_count, 0);
    assert_int_equal(type(t, "x"), 0);
    assert_int_equal(get(t, IIR), 4);
    set(t, DATA, 'm');
    assert_int_equal(get(t, IIR), 6);
    assert_int_equal(get(t, LSR) & 3, 3);
    assert_int_equal(get(t, LSR) & 3, 1);
    assert_int_equal(get(t, DATA), 'l');
    set(t, MCR, 8);
    assert_int_equal(t->wanted, 1);
}

static void modem_changes_interrupt(void **state)
{
    struct terminal *t = *state;
    set(t, IER, 8);
    set(t, MCR, 0x08);
    assert_int_equal(get(t, MSR), 0xB0);
    set(t, MCR, 0x18); // loopback: CTS and DSR fall, DCD stays
    assert_true(t->bench.level[IRQ]);
    assert_int_equal(get(t, IIR), 0);
    assert_int_equal(get(t, MSR), 0x83);
    assert_false(t->bench.level[IRQ]);
    set(t, MCR, 0x1C); // ring rises: nothing; falls: TERI
    assert_int_equal(get(t, MSR), 0xC0);
    set(t, MCR, 0x18);
    assert_int_equal(get(t, MSR), 0x84);
}

static void clearing_the_fifo_drops_what_came(void **state)
{
    struct terminal *t = *state;
    set(t, IIR, 1);
    type(t, "abc");
    set(t, IIR, 3);
    assert_int_equal(get(t, LSR) & 1, 0);
    type(t, "abc");
    set(t, IIR, 0);
    assert_int_equal(get(t, LSR) & 1, 0);
}

static void reset_lowers_the_line(void **state)
{
    struct terminal *t = *state;
    set(t, MCR, 8);
    set(t, IER, 2);
    assert_true(t->bench.level[IRQ]);
    struct device *device = uart_device(t->uart);
    device->ops->reset(device->self);
    assert_false(t->bench.level[IRQ]);
    assert_int_equal(get(t, IER), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(bytes_written_are_shown),
        TEST(the_divisor_hides_behind_dlab),
        TEST(it_is_found_as_a_16550a),
        TEST(received_data_interrupts_through_out2),
        TEST(below_the_trigger_it_is_a_timeout),
        TEST(the_fifo_takes_sixteen_and_asks_for_more),
        TEST(the_empty_transmitter_interrupts_once),
        TEST(a_full_back_end_holds_the_transmitter),
        TEST(loopback_returns_bytes_and_overruns),
        TEST(modem_changes_interrupt),
        TEST(clearing_the_fifo_drops_what_came),
        TEST(reset_lowers_the_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
