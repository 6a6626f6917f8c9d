// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <x86intrin.h>

#include <cmocka.h>

#include "machine/device/vm_clock.h"
#include "os/clock.h"

#define HZ 2000000000ull

static void count(void *context)
{
    ++*(unsigned *)context;
}

static struct vm_clock *deterministic(void)
{
    return vm_clock_create(true, HZ, NULL, NULL);
}

static void instructions_are_time(void **state)
{
    struct vm_clock *clock = deterministic();
    assert_int_equal(vm_clock_now_ns(clock), 0);
    vm_clock_advance(clock, 1000);
    assert_int_equal(vm_clock_now_ns(clock), 1000);
    assert_int_equal(vm_clock_tsc(clock), 2000);
    assert_int_equal(vm_clock_tsc_to_ns(clock, 2000), 1000);
    assert_int_equal(vm_clock_tsc_to_ns(clock, 2001), 1001); // RDTSC reads 2002 then, not 2000
    assert_int_equal(vm_clock_tsc_to_ns(clock, 0), 0);
    assert_true(vm_clock_tsc_to_ns(clock, UINT64_MAX) > 1000);
    assert_int_equal(vm_clock_wall_ns(clock), 1704067200000001000ull);
    vm_clock_destroy(clock);
}

static void a_far_deadline_is_never_never(void **state)
{
    struct vm_clock *clock = vm_clock_create(true, 1000, NULL, NULL);
    assert_int_equal(vm_clock_tsc_to_ns(clock, UINT64_MAX), VM_CLOCK_NEVER - 1);
    vm_clock_destroy(clock);
}

static void a_timer_fires_at_its_count_and_once(void **state)
{
    struct vm_clock *clock = deterministic();
    unsigned fired = 0;
    struct vm_timer timer;
    vm_timer_init(&timer, clock, count, &fired);
    assert_int_equal(vm_clock_next_deadline_ns(clock), VM_CLOCK_NEVER);
    vm_timer_arm(&timer, 500);
    assert_int_equal(vm_clock_next_deadline_ns(clock), 500);
    vm_clock_advance(clock, 499);
    vm_clock_run_timers(clock);
    assert_int_equal(fired, 0);
    vm_clock_advance(clock, 1);
    vm_clock_run_timers(clock);
    vm_clock_run_timers(clock);
    assert_int_equal(fired, 1);
    assert_int_equal(vm_clock_next_deadline_ns(clock), VM_CLOCK_NEVER);
    vm_clock_destroy(clock);
}

static void arming_again_replaces_and_never_disarms(void **state)
{
    struct vm_clock *clock = deterministic();
    unsigned fired = 0;
    struct vm_timer timer;
    vm_timer_init(&timer, clock, count, &fired);
    vm_timer_arm(&timer, 10);
    vm_timer_arm(&timer, 20);
    assert_int_equal(vm_clock_next_deadline_ns(clock), 20);
    vm_timer_arm(&timer, VM_CLOCK_NEVER);
    assert_int_equal(vm_clock_next_deadline_ns(clock), VM_CLOCK_NEVER);
    vm_timer_arm(&timer, 5);
    vm_timer_disarm(&timer);
    vm_timer_disarm(&timer);
    vm_clock_advance(clock, 100);
    vm_clock_run_timers(clock);
    assert_int_equal(fired, 0);
    vm_clock_destroy(clock);
}

#define MANY 64
struct order {
    unsigned *next;
    unsigned at;
};

static void note_order(void *context)
{
    struct order *o = context;
    o->at = (*o->next)++;
}

static void timers_fire_in_order_of_deadline_then_arming(void **state)
{
    struct vm_clock *clock = deterministic();
    struct vm_timer timers[MANY];
    struct order orders[MANY];
    uint64_t deadlines[MANY];
    unsigned next = 0;
    uint32_t random = 1;
    for (unsigned i = 0; i < MANY; i++) {
        orders[i] = (struct order){&next, 0};
        random = random * 1664525 + 1013904223;
        deadlines[i] = random >> 29;
        vm_timer_init(&timers[i], clock, note_order, &orders[i]);
        vm_timer_arm(&timers[i], deadlines[i]);
    }
    vm_clock_advance(clock, 8);
    vm_clock_run_timers(clock);
    assert_int_equal(next, MANY);
    for (unsigned i = 0; i < MANY; i++)
        for (unsigned j = 0; j < i; j++)
            assert_int_equal(deadlines[j] <= deadlines[i], orders[j].at < orders[i].at);
    vm_clock_destroy(clock);
}

struct periodic {
    struct vm_timer timer;
    uint64_t period;
    unsigned fired;
};

static void rearm(void *context)
{
    struct periodic *p = context;
    p->fired++;
    vm_timer_arm(&p->timer, p->timer.deadline_ns + p->period);
}

static void a_callback_may_arm_its_timer(void **state)
{
    struct vm_clock *clock = deterministic();
    struct periodic p = {.period = 100};
    vm_timer_init(&p.timer, clock, rearm, &p);
    vm_timer_arm(&p.timer, 100);
    vm_clock_advance(clock, 1050);
    vm_clock_run_timers(clock);
    assert_int_equal(p.fired, 10);
    assert_int_equal(vm_clock_next_deadline_ns(clock), 1100);
    vm_clock_destroy(clock);
}

static void cancel_self(void *context)
{
    struct periodic *p = context;
    p->fired++;
    vm_timer_arm(&p->timer, 0);
    vm_timer_cancel(&p->timer); // would wait for itself for ever
}

static void a_callback_may_cancel_its_timer(void **state)
{
    struct vm_clock *clock = deterministic();
    struct periodic p = {0};
    vm_timer_init(&p.timer, clock, cancel_self, &p);
    vm_timer_arm(&p.timer, 0);
    vm_clock_run_timers(clock);
    assert_int_equal(p.fired, 1);
    vm_clock_destroy(clock);
}

// What has passed on the host's clock between two readings of the guest's, at least and at most: whoever reads may be held up between any two.
struct passed {
    uint64_t least, most;
};

static struct passed passed_on_both(struct vm_clock *clock, uint64_t ns, uint64_t *guest_passed)
{
    uint64_t before = os_clock_monotonic_ns(), guest = vm_clock_now_ns(clock),
             after = os_clock_monotonic_ns();
    os_clock_sleep_until_ns(after + ns);
    uint64_t end_before = os_clock_monotonic_ns();
    *guest_passed = vm_clock_now_ns(clock) - guest;
    uint64_t end_after = os_clock_monotonic_ns();
    return (struct passed){.least = end_before - after, .most = end_after - before};
}

static void real_time_follows_the_host(void **state)
{
    struct vm_clock *clock = vm_clock_create(false, os_clock_tsc_hz(), NULL, NULL);
    uint64_t guest_passed;
    struct passed passed = passed_on_both(clock, 20000000, &guest_passed);
    uint64_t inexact = passed.most / 100 + 1000; // the rate is measured
    assert_true(guest_passed + inexact >= passed.least && guest_passed <= passed.most + inexact);
    assert_true(vm_clock_wall_ns(clock) > 1600000000000000000ull);
    uint64_t tsc = __rdtsc(), then = vm_clock_tsc_to_ns(clock, tsc), now = vm_clock_now_ns(clock);
    assert_true(then <= now);
    vm_clock_destroy(clock);
}

static void time_stands_still_in_a_pause(void **state)
{
    for (unsigned mode = 0; mode < 2; mode++) {
        struct vm_clock *clock = vm_clock_create(mode, os_clock_tsc_hz(), NULL, NULL);
        unsigned fired = 0;
        struct vm_timer timer;
        vm_timer_init(&timer, clock, count, &fired);
        vm_clock_pause(clock);
        uint64_t at = vm_clock_now_ns(clock);
        vm_timer_arm(&timer, at + 1);
        assert_int_equal(vm_clock_next_deadline_ns(clock), VM_CLOCK_NEVER);
        if (mode)
            vm_clock_advance(clock, 1000000);
        else
            os_clock_sleep_until_ns(os_clock_monotonic_ns() + 1000000);
        vm_clock_pause(clock);
        vm_clock_run_timers(clock);
        assert_int_equal(vm_clock_now_ns(clock), at);
        assert_int_equal(fired, 0);
        uint64_t resumed = os_clock_monotonic_ns();
        vm_clock_resume(clock);
        vm_clock_resume(clock);
        uint64_t after = vm_clock_now_ns(clock), gone = os_clock_monotonic_ns() - resumed;
        assert_true(after >= at && after <= at + gone + gone / 100 + 1000);
        vm_clock_destroy(clock);
    }
}

static void loaded_time_goes_on_even_before_the_hosts_start(void **state)
{
    for (unsigned mode = 0; mode < 2; mode++) {
        struct vm_clock *clock = vm_clock_create(mode, os_clock_tsc_hz(), NULL, NULL);
        uint64_t long_ago = 400ull * 86400 * 1000000000;
        vm_clock_pause(clock);
        vm_clock_set_ns(clock, long_ago);
        uint64_t read = vm_clock_now_ns(clock);
        assert_true(read + 1 >= long_ago && read <= long_ago);
        uint64_t resumed = os_clock_monotonic_ns();
        vm_clock_resume(clock);
        assert_true(vm_clock_now_ns(clock) + 1 >= long_ago);
        uint64_t now = vm_clock_now_ns(clock), gone = os_clock_monotonic_ns() - resumed;
        assert_true(now <= long_ago + gone + gone / 100 + 1000);
        vm_clock_destroy(clock);
    }
}

static void waking_happens_only_for_an_earlier_deadline(void **state)
{
    unsigned woken = 0, fired = 0;
    struct vm_clock *clock = vm_clock_create(true, HZ, count, &woken);
    struct vm_timer a, b;
    vm_timer_init(&a, clock, count, &fired);
    vm_timer_init(&b, clock, count, &fired);
    vm_timer_arm(&a, 100);
    assert_int_equal(woken, 1);
    vm_timer_arm(&b, 200);
    assert_int_equal(woken, 1);
    vm_timer_arm(&b, 50);
    assert_int_equal(woken, 2);
    vm_clock_pause(clock);
    vm_clock_resume(clock);
    assert_int_equal(woken, 3);
    vm_clock_destroy(clock);
}

struct slow {
    struct vm_clock *clock;
    struct vm_timer timer;
    atomic_bool entered, leave, left;
};

static void slow_callback(void *context)
{
    struct slow *s = context;
    s->entered = true;
    while (!s->leave)
        sched_yield();
    s->left = true;
}

static void *run_thread(void *argument)
{
    struct slow *s = argument;
    vm_clock_run_timers(s->clock);
    return NULL;
}

static void *let_go(void *argument)
{
    struct slow *s = argument;
    os_clock_sleep_until_ns(os_clock_monotonic_ns() + 2000000); // gives cancel the time to be wrong
    s->leave = true;
    return NULL;
}

static void cancel_waits_for_a_running_callback(void **state)
{
    struct slow s = {.clock = deterministic()};
    vm_timer_init(&s.timer, s.clock, slow_callback, &s);
    vm_timer_arm(&s.timer, 0);
    pthread_t runner, other;
    pthread_create(&runner, NULL, run_thread, &s);
    while (!s.entered)
        sched_yield();
    vm_timer_disarm(&s.timer); // does not wait
    assert_false(s.left);
    pthread_create(&other, NULL, let_go, &s);
    vm_timer_cancel(&s.timer);
    assert_true(s.left);
    pthread_join(runner, NULL);
    pthread_join(other, NULL);
    vm_clock_destroy(s.clock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(instructions_are_time),
        cmocka_unit_test(a_far_deadline_is_never_never),
        cmocka_unit_test(a_timer_fires_at_its_count_and_once),
        cmocka_unit_test(arming_again_replaces_and_never_disarms),
        cmocka_unit_test(timers_fire_in_order_of_deadline_then_arming),
        cmocka_unit_test(a_callback_may_arm_its_timer),
        cmocka_unit_test(a_callback_may_cancel_its_timer),
        cmocka_unit_test(real_time_follows_the_host),
        cmocka_unit_test(time_stands_still_in_a_pause),
        cmocka_unit_test(loaded_time_goes_on_even_before_the_hosts_start),
        cmocka_unit_test(waking_happens_only_for_an_earlier_deadline),
        cmocka_unit_test(cancel_waits_for_a_running_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
