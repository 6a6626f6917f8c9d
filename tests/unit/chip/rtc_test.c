// SPDX-License-Identifier: Apache-2.0
#include "bench.h"
#include "machine/chip/calendar.h"
#include "machine/chip/rtc.h"

#define SECOND 1000000000ull

enum { A = 10, B = 11, C = 12, D = 13 };

struct fixture {
    struct bench bench;
    struct rtc *rtc;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    bench_init(&f->bench);
    f->rtc = rtc_create(f->bench.ports, f->bench.clock, bench_irq(&f->bench, 8), &f->bench.err);
    assert_non_null(f->rtc);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    rtc_destroy(f->rtc);
    bench_fini(&f->bench);
    free(f);
    return 0;
}

static uint8_t get(struct fixture *f, uint8_t reg)
{
    outb(&f->bench, 0x70, reg);
    return inb(&f->bench, 0x71);
}

static void set(struct fixture *f, uint8_t reg, uint8_t value)
{
    outb(&f->bench, 0x70, reg);
    outb(&f->bench, 0x71, value);
}

static void the_calendar_knows_its_days(void **state)
{
    static const struct {
        uint64_t seconds;
        unsigned year, month, day, weekday;
    } days[] = {
        {0, 1970, 1, 1, 4},           {951782400, 2000, 2, 29, 2},    {951868800, 2000, 3, 1, 3},
        {1704067200, 2024, 1, 1, 1},  {1735603200, 2024, 12, 31, 2},  {4107542400, 2100, 3, 1, 1},
        {4107456000, 2100, 2, 28, 0}, {253402214400, 9999, 12, 31, 5}};
    for (unsigned i = 0; i < ARRAY_LENGTH(days); i++) {
        struct calendar_date d = calendar_from_seconds(days[i].seconds + 86399);
        assert_int_equal(d.year, days[i].year);
        assert_int_equal(d.month, days[i].month);
        assert_int_equal(d.day, days[i].day);
        assert_int_equal(d.weekday, days[i].weekday);
        assert_int_equal(d.hour * 10000 + d.minute * 100 + d.second, 235959);
        assert_int_equal(calendar_to_seconds(&d), days[i].seconds + 86399);
    }
    for (uint64_t day = 0; day < 400 * 366; day++) {
        struct calendar_date d = calendar_from_seconds(day * 86400);
        assert_int_equal(calendar_to_seconds(&d), day * 86400);
    }
    struct calendar_date odd = {.year = 2023, .month = 14, .day = 1};
    assert_int_equal(calendar_to_seconds(&odd), 1706745600); // 2024-02-01
    odd = (struct calendar_date){.year = 2023, .month = 1, .day = 0};
    assert_int_equal(calendar_to_seconds(&odd), 1672444800); // 2022-12-31
    odd = (struct calendar_date){.year = 0, .month = 0};
    assert_int_equal(calendar_to_seconds(&odd), 0);
}

static void it_shows_the_wall_time_in_bcd(void **state)
{
    struct fixture *f = *state; // 2024-01-01 00:00:00, a Monday
    bench_pass(&f->bench, (13 * 3600 + 45 * 60 + 59) * SECOND);
    assert_int_equal(get(f, 0), 0x59);
    assert_int_equal(get(f, 2), 0x45);
    assert_int_equal(get(f, 4), 0x13);
    assert_int_equal(get(f, 6), 2);
    assert_int_equal(get(f, 7), 1);
    assert_int_equal(get(f, 8), 1);
    assert_int_equal(get(f, 9), 0x24);
    assert_int_equal(get(f, 0x32), 0x20);
    assert_int_equal(get(f, D), 0x80);
    set(f, B, 0x06); // binary
    assert_int_equal(get(f, 0), 59);
    set(f, B, 0x04); // 12 hours
    assert_int_equal(get(f, 4), 0x81);
    set(f, B, 0x00);
    bench_pass(&f->bench, 10 * 3600 * SECOND + SECOND);
    assert_int_equal(get(f, 4), 0x11 | 0x80);
    bench_pass(&f->bench, 3600 * SECOND);
    assert_int_equal(get(f, 4), 0x12); // midnight is 12 AM
}

// As Linux does it.
static void setting_the_time_moves_it(void **state)
{
    struct fixture *f = *state;
    uint8_t b = get(f, B), a = get(f, A);
    set(f, B, b | 0x80);
    set(f, A, a | 0x70);
    set(f, 9, 0x30);
    set(f, 8, 0x02);
    set(f, 7, 0x28);
    set(f, 4, 0x23);
    set(f, 2, 0x59);
    set(f, 0, 0x59);
    set(f, 0x32, 0x21);
    bench_pass(&f->bench, 5 * SECOND);
    assert_int_equal(get(f, 0), 0x59); // held
    set(f, B, b);
    set(f, A, a);
    bench_pass(&f->bench, SECOND);
    assert_int_equal(get(f, 0), 0);
    assert_int_equal(get(f, 7), 0x01);
    assert_int_equal(get(f, 8), 0x03);
    assert_int_equal(get(f, 9), 0x30);
    assert_int_equal(get(f, 0x32), 0x21);
    set(f, 2, 0x30); // without SET, at once
    assert_int_equal(get(f, 2), 0x30);
    assert_int_equal(get(f, 8), 0x03);
}

static void nonsense_is_carried_over(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 10; i++)
        set(f, (uint8_t)i, 0xFF);
    set(f, 0x32, 0xFF);
    bench_pass(&f->bench, 3 * SECOND);
    assert_true(get(f, 8) >= 1 && get(f, 8) <= 0x12);
}

static void update_in_progress_comes_before_the_second(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(get(f, A) & 0x80, 0);
    bench_pass(&f->bench, SECOND - 200000);
    assert_int_equal(get(f, A) & 0x80, 0x80);
    bench_pass(&f->bench, 200000);
    assert_int_equal(get(f, A) & 0x80, 0);
    assert_int_equal(get(f, 0), 1);
}

static void update_ended_interrupts_each_second(void **state)
{
    struct fixture *f = *state;
    get(f, C);
    set(f, B, 0x12);
    bench_pass(&f->bench, SECOND);
    assert_true(f->bench.level[8]);
    assert_int_equal(get(f, C) & 0x90, 0x90);
    assert_false(f->bench.level[8]);
    bench_pass(&f->bench, 10 * SECOND); // not read: one interrupt
    assert_int_equal(f->bench.edges[8], 2);
}

static void the_alarm_goes_off_on_time(void **state)
{
    struct fixture *f = *state;
    set(f, 5, 0x00);
    set(f, 3, 0x02);
    set(f, 1, 0x03);
    set(f, B, 0x22);
    bench_pass(&f->bench, 122 * SECOND);
    assert_int_equal(f->bench.edges[8], 0);
    bench_pass(&f->bench, SECOND);
    assert_int_equal(f->bench.edges[8], 1);
    assert_int_equal(get(f, C) & 0xA0, 0xA0);
    set(f, 5, 0xC0); // any hour, any minute: each minute
    set(f, 3, 0xFF);
    for (unsigned i = 0; i < 5; i++) {
        bench_pass(&f->bench, 60 * SECOND);
        assert_int_equal(get(f, C) & 0x20, 0x20);
    }
    assert_int_equal(f->bench.edges[8], 6);
    set(f, 1, 0x77); // never
    bench_pass(&f->bench, 86400 * SECOND);
    assert_int_equal(f->bench.edges[8], 6);
    assert_int_equal(vm_clock_next_deadline_ns(f->bench.clock), VM_CLOCK_NEVER);
}

static void periodic_interrupts_at_the_chosen_rate(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint8_t rate;
        unsigned hz;
    } rates[] = {{3, 8192}, {6, 1024}, {15, 2}, {1, 256}, {2, 128}};
    for (unsigned i = 0; i < ARRAY_LENGTH(rates); i++) {
        set(f, A, 0x20 | rates[i].rate);
        set(f, B, 0x42);
        get(f, C);
        unsigned count = 0;
        uint64_t end = vm_clock_now_ns(f->bench.clock) + SECOND;
        while (vm_clock_now_ns(f->bench.clock) < end) {
            bench_pass(&f->bench, 10000);
            if (f->bench.level[8] && (get(f, C) & 0x40))
                count++;
        }
        assert_in_range(count, rates[i].hz - 1, rates[i].hz + 1);
        set(f, B, 0x02);
    }
    set(f, A, 0x20); // off
    get(f, C);
    set(f, B, 0x42);
    bench_pass(&f->bench, SECOND);
    assert_int_equal(get(f, C) & 0x40, 0);
}

static void flags_come_up_without_interrupts(void **state)
{
    struct fixture *f = *state;
    get(f, C);
    bench_pass(&f->bench, SECOND);
    assert_int_equal(get(f, C), 0x50);
    assert_int_equal(get(f, C), 0);
    assert_int_equal(f->bench.edges[8], 0);
}

static void firmware_reads_the_memory_size(void **state)
{
    struct fixture *f = *state;
    rtc_set_memory(f->rtc, 3ull << 30, 5ull << 30);
    rtc_set_cpus(f->rtc, 4);
    assert_int_equal(get(f, 0x34) | get(f, 0x35) << 8, (3072 - 16) * 16);
    assert_int_equal(get(f, 0x5B) | get(f, 0x5C) << 8 | get(f, 0x5D) << 16, 5 * 1024 * 16);
    assert_int_equal(get(f, 0x17) | get(f, 0x18) << 8, 0xFFFF);
    assert_int_equal(get(f, 0x5F), 3);
    set(f, 0x40, 0xAB);
    struct device *device = rtc_device(f->rtc);
    device->ops->reset(device->self);
    assert_int_equal(get(f, 0x40), 0xAB);
    assert_int_equal(get(f, 0x34) | get(f, 0x35) << 8, (3072 - 16) * 16);
}

static void the_index_has_seven_bits_and_is_write_only(void **state)
{
    struct fixture *f = *state;
    set(f, 0x80 | 0x40, 0x12); // with NMI masked
    assert_int_equal(get(f, 0x40), 0x12);
    assert_int_equal(inb(&f->bench, 0x70), 0xFF);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_calendar_knows_its_days),
        TEST(it_shows_the_wall_time_in_bcd),
        TEST(setting_the_time_moves_it),
        TEST(nonsense_is_carried_over),
        TEST(update_in_progress_comes_before_the_second),
        TEST(update_ended_interrupts_each_second),
        TEST(the_alarm_goes_off_on_time),
        TEST(periodic_interrupts_at_the_chosen_rate),
        TEST(flags_come_up_without_interrupts),
        TEST(firmware_reads_the_memory_size),
        TEST(the_index_has_seven_bits_and_is_write_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
