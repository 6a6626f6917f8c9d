// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/clock.h"
#include "os/loop.h"

static struct os_loop *new_loop(void)
{
    struct err err;
    struct os_loop *loop = os_loop_create(&err);
    assert_non_null(loop);
    return loop;
}

static void count(void *context)
{
    (*(int *)context)++;
}

static void a_post_runs_once_however_often_it_is_posted(void **state)
{
    struct os_loop *loop = new_loop();
    int runs = 0;
    struct os_loop_post post = {.function = count, .context = &runs};
    os_loop_post(loop, &post);
    os_loop_post(loop, &post);
    assert_true(os_loop_turn(loop, 0));
    assert_int_equal(runs, 1);
    assert_false(os_loop_turn(loop, 0));
    os_loop_post(loop, &post);
    os_loop_turn(loop, 0);
    assert_int_equal(runs, 2);
    os_loop_destroy(loop);
}

static int order[8];
static unsigned order_length;

static void note(void *context)
{
    order[order_length++] = *(int *)context;
}

static void posts_and_timers_run_in_order(void **state)
{
    struct os_loop *loop = new_loop();
    int numbers[] = {1, 2, 3, 4};
    struct os_loop_post first = {.function = note, .context = &numbers[0]};
    struct os_loop_post second = {.function = note, .context = &numbers[1]};
    os_loop_post(loop, &first);
    os_loop_post(loop, &second);
    os_loop_turn(loop, 0);
    struct os_loop_timer late = {.expired = note, .context = &numbers[3]};
    struct os_loop_timer early = {.expired = note, .context = &numbers[2]};
    uint64_t now = os_clock_monotonic_ns();
    os_loop_timer_arm(loop, &late, now + 2000000);
    os_loop_timer_arm(loop, &early, now + 1000000);
    while (order_length < 4)
        os_loop_turn(loop, UINT64_MAX);
    for (int i = 0; i < 4; i++)
        assert_int_equal(order[i], i + 1);
    assert_true(os_clock_monotonic_ns() >= now + 2000000);
    os_loop_destroy(loop);
}

static void a_disarmed_timer_does_not_expire(void **state)
{
    struct os_loop *loop = new_loop();
    int cancelled = 0, runs = 0;
    struct os_loop_timer timer = {.expired = count, .context = &cancelled};
    struct os_loop_timer later = {.expired = count, .context = &runs};
    uint64_t now = os_clock_monotonic_ns();
    os_loop_timer_arm(loop, &timer, now + 1000000);
    os_loop_timer_arm(loop, &later, now + 2000000);
    os_loop_timer_disarm(loop, &timer);
    while (!runs)
        os_loop_turn(loop, UINT64_MAX);
    assert_int_equal(cancelled, 0);
    os_loop_destroy(loop);
}

struct pair {
    struct os_loop *loop;
    struct os_loop_watch watch[2];
    int pipes[2][2];
    int ready;
};

static void unwatch_both(void *context, unsigned events)
{
    struct pair *pair = context;
    assert_true(events & OS_LOOP_READ);
    pair->ready++;
    os_loop_unwatch(pair->loop, &pair->watch[0]);
    os_loop_unwatch(pair->loop, &pair->watch[1]);
}

static void an_unwatched_descriptor_is_not_reported_even_from_the_same_batch(void **state)
{
    struct pair pair = {.loop = new_loop()};
    struct err err;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pipe(pair.pipes[i]), 0);
        assert_int_equal(write(pair.pipes[i][1], "x", 1), 1);
        pair.watch[i] = (struct os_loop_watch){.ready = unwatch_both, .context = &pair};
        assert_int_equal(
            os_loop_watch(pair.loop, &pair.watch[i], pair.pipes[i][0], OS_LOOP_READ, &err), 0);
    }
    os_loop_turn(pair.loop, UINT64_MAX);
    assert_false(os_loop_turn(pair.loop, 0));
    assert_int_equal(pair.ready, 1);
    for (int i = 0; i < 4; i++)
        close(pair.pipes[i / 2][i % 2]);
    os_loop_destroy(pair.loop);
}

static void who_am_i(void *context)
{
    *(pthread_t *)context = pthread_self();
}

static void a_call_runs_on_the_threads_loop_and_waits(void **state)
{
    struct os_loop_thread thread = {.loop = new_loop()};
    struct err err;
    assert_int_equal(os_loop_thread_start(&thread, "loop-test", &err), 0);
    for (int i = 0; i < 1000; i++) {
        pthread_t ran_on = pthread_self();
        os_loop_call(thread.loop, who_am_i, &ran_on);
        assert_true(pthread_equal(ran_on, thread.thread));
    }
    os_loop_thread_stop(&thread);
    os_loop_destroy(thread.loop);
}

static void a_cancelled_post_does_not_run(void **state)
{
    struct os_loop *loop = new_loop();
    int runs = 0, others = 0;
    struct os_loop_post before = {.function = count, .context = &others};
    struct os_loop_post post = {.function = count, .context = &runs};
    struct os_loop_post after = {.function = count, .context = &others};
    os_loop_post(loop, &before);
    os_loop_post(loop, &post);
    os_loop_post(loop, &after);
    os_loop_post_cancel(loop, &post);
    while (os_loop_turn(loop, 0))
        ;
    assert_int_equal(runs, 0);
    assert_int_equal(others, 2);
    os_loop_destroy(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_post_runs_once_however_often_it_is_posted),
        cmocka_unit_test(posts_and_timers_run_in_order),
        cmocka_unit_test(a_disarmed_timer_does_not_expire),
        cmocka_unit_test(an_unwatched_descriptor_is_not_reported_even_from_the_same_batch),
        cmocka_unit_test(a_call_runs_on_the_threads_loop_and_waits),
        cmocka_unit_test(a_cancelled_post_does_not_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
