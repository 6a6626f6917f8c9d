// SPDX-License-Identifier: Apache-2.0
#include "bench.h"
#include "machine/chip/pit.h"

struct fixture {
    struct bench bench;
    struct pit *pit;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    bench_init(&f->bench);
    f->pit = pit_create(f->bench.ports, f->bench.clock, bench_irq(&f->bench, 0), &f->bench.err);
    assert_non_null(f->pit);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pit_destroy(f->pit);
    bench_fini(&f->bench);
    free(f);
    return 0;
}

static void program(struct bench *b, unsigned counter, unsigned mode, uint16_t count)
{
    outb(b, 0x43, (uint8_t)(counter << 6 | 0x30 | mode << 1));
    outb(b, (uint16_t)(0x40 + counter), (uint8_t)count);
    outb(b, (uint16_t)(0x40 + counter), (uint8_t)(count >> 8));
}

static unsigned read_counter(struct bench *b, unsigned counter)
{
    unsigned low = inb(b, (uint16_t)(0x40 + counter));
    return low | (unsigned)inb(b, (uint16_t)(0x40 + counter)) << 8;
}

static uint64_t ticks_ns(uint64_t ticks)
{
    return (ticks * 1000000000 + PIT_HZ - 1) / PIT_HZ;
}

static void periodic_modes_interrupt_at_their_rate(void **state)
{
    struct fixture *f = *state;
    for (unsigned mode = 2; mode <= 3; mode++) {
        program(&f->bench, 0, mode, 11932); // 100 Hz
        f->bench.edges[0] = 0;
        bench_pass(&f->bench, 1000000000);
        assert_in_range(f->bench.edges[0], 99, 100);
    }
}

static void zero_is_65536(void **state)
{
    struct fixture *f = *state;
    program(&f->bench, 0, 2, 0);
    f->bench.edges[0] = 0;
    bench_pass(&f->bench, 1000000000);
    assert_int_equal(f->bench.edges[0], 18);
}

static void terminal_count_interrupts_once(void **state)
{
    struct fixture *f = *state;
    program(&f->bench, 0, 0, 1000);
    assert_false(f->bench.level[0]);
    bench_pass(&f->bench, ticks_ns(1000) - 1000);
    assert_int_equal(f->bench.edges[0], 0);
    bench_pass(&f->bench, 2000);
    assert_true(f->bench.level[0]);
    bench_pass(&f->bench, 1000000000);
    assert_int_equal(f->bench.edges[0], 1);
    outb(&f->bench, 0x40, 1); // a new count lowers the output again
    outb(&f->bench, 0x40, 1);
    assert_false(f->bench.level[0]);
}

static void a_strobe_is_an_edge(void **state)
{
    struct fixture *f = *state;
    program(&f->bench, 0, 4, 500);
    assert_true(f->bench.level[0]); // high from the start
    f->bench.edges[0] = 0;
    bench_pass(&f->bench, ticks_ns(502));
    assert_int_equal(f->bench.edges[0], 1);
    bench_pass(&f->bench, 1000000000);
    assert_int_equal(f->bench.edges[0], 1);
}

static void stopping_by_mode_0_ends_the_interrupts(void **state)
{
    struct fixture *f = *state;
    program(&f->bench, 0, 2, 1193);
    bench_pass(&f->bench, 10000000);
    outb(&f->bench, 0x43, 0x30);
    f->bench.edges[0] = 0;
    bench_pass(&f->bench, 1000000000);
    assert_int_equal(f->bench.edges[0], 0);
    assert_int_equal(vm_clock_next_deadline_ns(f->bench.clock), VM_CLOCK_NEVER);
}

static void counting_down_is_seen_latched_and_live(void **state)
{
    struct fixture *f = *state;
    program(&f->bench, 2, 2, 50000);
    outb(&f->bench, 0x61, 1);
    bench_pass(&f->bench, ticks_ns(100));
    assert_int_equal(read_counter(&f->bench, 2), 49900);
    outb(&f->bench, 0x43, 0x80);
    bench_pass(&f->bench, ticks_ns(100));
    assert_int_equal(read_counter(&f->bench, 2), 49900); // as latched
    assert_in_range(read_counter(&f->bench, 2), 49799, 49800);
}

static void the_gate_holds_counter_two(void **state)
{
    struct fixture *f = *state;
    outb(&f->bench, 0x61, 0);
    program(&f->bench, 2, 0, 10000);
    bench_pass(&f->bench, ticks_ns(20000));
    assert_int_equal(inb(&f->bench, 0x61) & 0x21, 0);
    outb(&f->bench, 0x61, 1);
    bench_pass(&f->bench, ticks_ns(5000));
    outb(&f->bench, 0x61, 0);
    bench_pass(&f->bench, ticks_ns(50000));
    outb(&f->bench, 0x61, 3);
    bench_pass(&f->bench, ticks_ns(4990));
    assert_int_equal(inb(&f->bench, 0x61) & 0x23, 3);
    bench_pass(&f->bench, ticks_ns(20));
    assert_int_equal(inb(&f->bench, 0x61) & 0x23, 0x23);
}

// As Linux's quick calibration does it: mode 0, all ones, and the high byte is watched going down.
static void it_can_calibrate_a_kernel(void **state)
{
    struct fixture *f = *state;
    outb(&f->bench, 0x61, (uint8_t)((inb(&f->bench, 0x61) & ~2) | 1));
    program(&f->bench, 2, 0, 0xFFFF);
    bench_pass(&f->bench, ticks_ns(256 * 10) + 1000);
    inb(&f->bench, 0x42);
    assert_int_equal(inb(&f->bench, 0x42), 0xFF - 10);
    program(&f->bench, 2, 0, 59659); // 50 ms
    uint64_t start = vm_clock_now_ns(f->bench.clock);
    while (!(inb(&f->bench, 0x61) & 0x20))
        bench_pass(&f->bench, 1000);
    assert_in_range(vm_clock_now_ns(f->bench.clock) - start, 50000000, 50002000);
}

static void a_one_shot_is_triggered_by_the_gate(void **state)
{
    struct fixture *f = *state;
    outb(&f->bench, 0x61, 0);
    program(&f->bench, 2, 1, 100);
    assert_int_equal(inb(&f->bench, 0x61) & 0x20, 0x20);
    outb(&f->bench, 0x61, 1);
    assert_int_equal(inb(&f->bench, 0x61) & 0x20, 0);
    bench_pass(&f->bench, ticks_ns(101));
    assert_int_equal(inb(&f->bench, 0x61) & 0x20, 0x20);
}

static void read_back_gives_status_then_count(void **state)
{
    struct fixture *f = *state;
    program(&f->bench, 0, 2, 1000);
    outb(&f->bench, 0x43, 0xC2);
    assert_int_equal(inb(&f->bench, 0x40), 0xB4);
    assert_int_equal(read_counter(&f->bench, 0), 1000);
    outb(&f->bench, 0x43, 0x36); // no count yet
    outb(&f->bench, 0x43, 0xE2);
    assert_int_equal(inb(&f->bench, 0x40) & 0x7F, 0x76);
}

static void single_bytes_and_bcd(void **state)
{
    struct fixture *f = *state;
    outb(&f->bench, 0x43, 0x15); // counter 0, low byte only, mode 2, BCD
    outb(&f->bench, 0x40, 0x50);
    bench_pass(&f->bench, ticks_ns(5));
    assert_int_equal(inb(&f->bench, 0x40), 0x45);
    outb(&f->bench, 0x43, 0x24); // high byte only
    outb(&f->bench, 0x40, 0x10);
    bench_pass(&f->bench, ticks_ns(0x100));
    assert_int_equal(inb(&f->bench, 0x40), 0x0F);
}

static void a_tiny_period_is_slowed_down(void **state)
{
    struct fixture *f = *state;
    program(&f->bench, 0, 2, 1);
    f->bench.edges[0] = 0;
    bench_pass(&f->bench, 100000000);
    assert_in_range(f->bench.edges[0], 900, 1001);
}

static void lost_ticks_are_made_up(void **state)
{
    struct fixture *f = *state;
    program(&f->bench, 0, 2, 1193); // 1 kHz
    f->bench.edges[0] = 0;
    vm_clock_advance(f->bench.clock, 100000000); // the host slept
    vm_clock_run_timers(f->bench.clock);
    assert_int_equal(f->bench.edges[0], 1);
    bench_pass(&f->bench, 10000000);
    assert_in_range(f->bench.edges[0], 19, 22); // twice as fast for a while
    bench_pass(&f->bench, 290000000);
    assert_in_range(f->bench.edges[0], 399, 401);
}

static void no_more_than_a_second_is_made_up(void **state)
{
    struct fixture *f = *state;
    program(&f->bench, 0, 2, 1193);
    f->bench.edges[0] = 0;
    vm_clock_advance(f->bench.clock, 3600000000000);
    vm_clock_run_timers(f->bench.clock);
    bench_pass(&f->bench, 3000000000);
    assert_in_range(f->bench.edges[0], 3990, 4010);
}

static void disconnected_it_counts_in_silence(void **state)
{
    struct fixture *f = *state;
    program(&f->bench, 0, 2, 1193);
    pit_set_disconnected(f->pit, true);
    assert_false(f->bench.level[0]);
    f->bench.edges[0] = 0;
    bench_pass(&f->bench, 10000000);
    assert_int_equal(f->bench.edges[0], 0);
    pit_set_disconnected(f->pit, false);
    bench_pass(&f->bench, 10000000);
    assert_in_range(f->bench.edges[0], 9, 11);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(periodic_modes_interrupt_at_their_rate),
        TEST(zero_is_65536),
        TEST(terminal_count_interrupts_once),
        TEST(a_strobe_is_an_edge),
        TEST(stopping_by_mode_0_ends_the_interrupts),
        TEST(counting_down_is_seen_latched_and_live),
        TEST(the_gate_holds_counter_two),
        TEST(it_can_calibrate_a_kernel),
        TEST(a_one_shot_is_triggered_by_the_gate),
        TEST(read_back_gives_status_then_count),
        TEST(single_bytes_and_bcd),
        TEST(a_tiny_period_is_slowed_down),
        TEST(lost_ticks_are_made_up),
        TEST(no_more_than_a_second_is_made_up),
        TEST(disconnected_it_counts_in_silence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
