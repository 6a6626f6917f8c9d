// SPDX-License-Identifier: Apache-2.0
//
// The frequency of the time-stamp counter, which a process measures once: each case in a child of its own.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/clock.h"

#define SECOND_NS 1000000000u

// Over a time ten times as long as the measurement's own.
static uint64_t reference_hz(void)
{
    struct os_clock_reading first = os_clock_read();
    os_clock_sleep_until_ns(first.ns + 20000000);
    struct os_clock_reading last = os_clock_read();
    return (uint64_t)((unsigned __int128)(last.tsc - first.tsc) * SECOND_NS / (last.ns - first.ns));
}

static void expect_right_after(struct os_clock_reading earlier)
{
    uint64_t right = reference_hz();
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        os_clock_start(earlier);
        int64_t error = (int64_t)(os_clock_tsc_hz() - right);
        _exit(llabs(error) > (int64_t)(right / 1000));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void it_is_right_from_a_reading_of_the_parent(void **state)
{
    (void)state;
    expect_right_after(os_clock_read());
}

static void it_is_right_without_one(void **state)
{
    (void)state;
    expect_right_after((struct os_clock_reading){0});
}

static void a_reading_from_long_ago_or_from_the_future_is_not_taken(void **state)
{
    (void)state;
    struct os_clock_reading now = os_clock_read();
    expect_right_after((struct os_clock_reading){now.tsc / 2, now.ns - 2ull * SECOND_NS});
    expect_right_after((struct os_clock_reading){UINT64_MAX, now.ns});
    expect_right_after((struct os_clock_reading){now.tsc, now.ns + 60ull * SECOND_NS});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_right_from_a_reading_of_the_parent),
        cmocka_unit_test(it_is_right_without_one),
        cmocka_unit_test(a_reading_from_long_ago_or_from_the_future_is_not_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
