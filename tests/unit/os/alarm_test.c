// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "os/alarm.h"
#include "os/clock.h"

#define HOUR_NS 3600000000000u

struct fixture {
    struct os_loop *loop;
    struct os_alarm alarm;
    uint64_t next_ns; // what the alarm is set to when it expires
    unsigned expired;
};

static void count(void *context, unsigned events)
{
    struct fixture *f = context;
    (void)events;
    f->expired++;
    os_alarm_set(&f->alarm, f->next_ns);
}

static int set_up(void **state)
{
    static struct fixture fixture;
    struct err err;
    fixture = (struct fixture){.alarm.fd = -1, .next_ns = UINT64_MAX};
    fixture.loop = os_loop_create(&err);
    *state = &fixture;
    return fixture.loop ? os_alarm_open(&fixture.alarm, fixture.loop, count, &fixture, &err) : -1;
}

static int take_down(void **state)
{
    struct fixture *f = *state;
    os_alarm_close(&f->alarm);
    os_alarm_close(&f->alarm);
    os_loop_destroy(f->loop);
    return 0;
}

static bool wakes(struct fixture *f)
{
    struct pollfd poll_fd = {.fd = os_loop_descriptor(f->loop), .events = POLLIN};
    return poll(&poll_fd, 1, 0) == 1;
}

static void *set_far_away(void *context)
{
    os_alarm_set(context, os_clock_monotonic_ns() + HOUR_NS);
    return NULL;
}

static void set_by_another_thread_it_wakes_nobody_before_its_time(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, set_far_away, &f->alarm), 0);
    pthread_join(thread, NULL);
    assert_false(wakes(f));
    assert_false(os_loop_turn(f->loop, 0));
    assert_int_equal(f->expired, 0);
}

static void it_expires_once_for_each_time_it_is_set(void **state)
{
    struct fixture *f = *state;
    f->next_ns = 0; // at once
    os_alarm_set(&f->alarm, os_clock_monotonic_ns() + 1000);
    assert_true(os_loop_turn(f->loop, UINT64_MAX));
    assert_int_equal(f->expired, 1);
    f->next_ns = UINT64_MAX;
    assert_true(os_loop_turn(f->loop, UINT64_MAX));
    assert_int_equal(f->expired, 2);
    assert_false(wakes(f));
}

static void what_was_set_last_holds(void **state)
{
    struct fixture *f = *state;
    os_alarm_set(&f->alarm, 1); // long past
    assert_true(wakes(f));
    os_alarm_set(&f->alarm, os_clock_monotonic_ns() + HOUR_NS);
    assert_false(wakes(f));
    os_alarm_set(&f->alarm, 0);
    assert_true(wakes(f));
    os_alarm_set(&f->alarm, UINT64_MAX);
    assert_false(wakes(f));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(set_by_another_thread_it_wakes_nobody_before_its_time,
                                        set_up, take_down),
        cmocka_unit_test_setup_teardown(it_expires_once_for_each_time_it_is_set, set_up, take_down),
        cmocka_unit_test_setup_teardown(what_was_set_last_holds, set_up, take_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
