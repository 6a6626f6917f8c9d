// SPDX-License-Identifier: Apache-2.0
//
// A disk's limits: the arithmetic in made-up time, and that a disk keeps to them.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/throttle.h"
#include "os/clock.h"

#define SECOND 1000000000ull

// The time at which the last of `count` requests may go, all made at `now`.
static uint64_t last_of(struct throttle *t, uint64_t now, unsigned count, uint64_t bytes)
{
    uint64_t due = now;
    for (unsigned i = 0; i < count; i++)
        due = throttle_take(t, now, bytes);
    return due;
}

static void no_limit_delays_nothing(void **state)
{
    struct throttle t;
    throttle_set(&t, &(struct block_rate){0});
    assert_int_equal(last_of(&t, 5, 1000, GIB), 5);
}

static void requests_a_second_are_kept(void **state)
{
    struct throttle t;
    throttle_set(&t, &(struct block_rate){.requests_per_s = 100, .burst_requests = 1});
    // 1,001 requests at 100 a second, of which one and the burst are free.
    assert_int_equal(last_of(&t, SECOND, 1001, 4096), SECOND + 999 * SECOND / 100);
}

static void bytes_a_second_are_kept(void **state)
{
    struct throttle t;
    throttle_set(&t, &(struct block_rate){.bytes_per_s = 10 * MIB, .burst_bytes = MIB});
    assert_int_equal(last_of(&t, SECOND, 101, MIB), SECOND + 99 * SECOND / 10);
}

static void the_stricter_limit_decides(void **state)
{
    struct throttle t;
    throttle_set(
        &t, &(struct block_rate){.bytes_per_s = MIB, .burst_bytes = 1, .requests_per_s = 1000000});
    uint64_t due = last_of(&t, 0, 11, MIB);
    assert_in_range(due, 10 * SECOND - SECOND / 100, 10 * SECOND);
}

static void a_burst_is_free_after_rest_and_only_once(void **state)
{
    struct throttle t;
    throttle_set(&t, &(struct block_rate){.requests_per_s = 10, .burst_requests = 50});
    assert_int_equal(last_of(&t, 0, 51, 0), 0);
    assert_true(throttle_take(&t, 0, 0) > 0);
    // After two seconds twenty more, not fifty.
    assert_int_equal(last_of(&t, 2 * SECOND, 19, 0), 2 * SECOND);
    assert_true(last_of(&t, 2 * SECOND, 2, 0) > 2 * SECOND);
}

static void huge_amounts_do_not_overflow(void **state)
{
    struct throttle t;
    throttle_set(&t, &(struct block_rate){.bytes_per_s = 1, .burst_bytes = UINT64_MAX});
    for (int i = 0; i < 10; i++)
        assert_true(throttle_take(&t, SECOND, UINT64_MAX) >= SECOND);
}

static void on_done(struct block_request *request, int result)
{
    assert_int_equal(result, 0);
}

static void a_disk_keeps_to_its_limit(void **state)
{
    struct err err = {0};
    int fd = memfd_create("disk", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, MIB), 0);
    struct block_image image = {.fd = fd, .format = "raw", .name = "disk"};
    const struct block_options options = {
        .chain = &image,
        .chain_length = 1,
        .rate = {.requests_per_s = 200, .burst_requests = 1},
    };
    struct block_disk *disk = block_disk_open(&options, &err);
    struct block_queue *queue = block_queue_create(&err);
    static struct block_request requests[41];
    static char bytes[512];
    struct iovec iov = {bytes, sizeof(bytes)};
    uint64_t start = os_clock_monotonic_ns();
    for (int i = 0; i < 41; i++) {
        requests[i] = (struct block_request){.op = BLOCK_READ,
                                             .length = sizeof(bytes),
                                             .iov = &iov,
                                             .iov_count = 1,
                                             .queue = queue,
                                             .done = on_done};
        block_submit(disk, &requests[i]);
    }
    for (unsigned left = 41; left;)
        left -= block_queue_wait(queue);
    uint64_t took = os_clock_monotonic_ns() - start;
    assert_true(took >= 39 * SECOND / 200); // never faster; how much slower is the machine's affair
    struct block_stats stats;
    block_disk_stats(disk, &stats);
    assert_int_equal(stats.delayed, 39);
    // Without limits the next one goes at once.
    block_disk_set_rate(disk, &(struct block_rate){0});
    block_submit(disk, &requests[0]);
    block_queue_wait(queue);
    block_disk_stats(disk, &stats);
    assert_int_equal(stats.delayed, 39);
    block_disk_close(disk);
    block_queue_destroy(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_limit_delays_nothing),
        cmocka_unit_test(requests_a_second_are_kept),
        cmocka_unit_test(bytes_a_second_are_kept),
        cmocka_unit_test(the_stricter_limit_decides),
        cmocka_unit_test(a_burst_is_free_after_rest_and_only_once),
        cmocka_unit_test(huge_amounts_do_not_overflow),
        cmocka_unit_test(a_disk_keeps_to_its_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
