// SPDX-License-Identifier: Apache-2.0
//
// A raw disk through the users' header: requests, ranges, pause, errors held, filters.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/block.h"
#include "machine/block/filter.h"
#include "os/file.h"

#define DISK_BYTES (4 * MIB)

static int new_file(uint64_t size)
{
    int fd = memfd_create("disk", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    return fd;
}

static struct block_disk *open_raw(struct block_options options, int fd)
{
    struct err err = {0};
    struct block_image image = {.fd = fd, .format = "raw", .name = "test"};
    options.chain = &image;
    options.chain_length = 1;
    struct block_disk *disk = block_disk_open(&options, &err);
    if (!disk)
        fail_msg("%s", err.text);
    return disk;
}

// ---- Requests

struct waiter {
    struct block_request request;
    atomic_int calls;
    int result;
};

static void on_done(struct block_request *request, int result)
{
    struct waiter *waiter = request->user;
    waiter->result = result;
    atomic_fetch_add(&waiter->calls, 1);
}

static void what_is_written_is_read(void **state)
{
    struct block_disk *disk = open_raw((struct block_options){0}, new_file(DISK_BYTES));
    struct err err = {0};
    struct block_queue *queue = block_queue_create(&err);
    enum { N = 64 };
    static struct waiter waiters[N];
    static char memory[N][3000];
    struct iovec iov[N][2];
    for (int i = 0; i < N; i++) {
        memset(memory[i], i + 1, sizeof(memory[i]));
        iov[i][0] = (struct iovec){memory[i], 1000};
        iov[i][1] = (struct iovec){memory[i] + 1000, 2000};
        waiters[i] = (struct waiter){.request = {.op = BLOCK_WRITE,
                                                 .offset = (uint64_t)i * 5000,
                                                 .length = 3000,
                                                 .iov = iov[i],
                                                 .iov_count = 2,
                                                 .queue = queue,
                                                 .done = on_done,
                                                 .user = &waiters[i]}};
        block_submit(disk, &waiters[i].request);
    }
    unsigned done = 0;
    while (done < N)
        done += block_queue_wait(queue);
    block_disk_drain(disk);
    assert_int_equal(block_queue_run(queue), 0);
    for (int i = 0; i < N; i++) {
        char back[3000];
        assert_int_equal(waiters[i].calls, 1);
        assert_int_equal(waiters[i].result, 0);
        assert_int_equal(block_read(disk, (uint64_t)i * 5000, back, sizeof(back)), 0);
        assert_memory_equal(back, memory[i], sizeof(back));
    }
    struct block_stats stats;
    block_disk_stats(disk, &stats);
    assert_int_equal(stats.op[BLOCK_WRITE].requests, N);
    assert_int_equal(stats.op[BLOCK_WRITE].bytes, N * 3000);
    assert_int_equal(stats.in_flight, 0);
    assert_int_equal(block_disk_close(disk), 0);
    block_queue_destroy(queue);
}

static int submit_and_wait(struct block_disk *disk, struct block_request request)
{
    struct waiter waiter = {.request = request};
    waiter.request.done = on_done;
    waiter.request.user = &waiter;
    block_submit(disk, &waiter.request);
    block_disk_drain(disk);
    assert_int_equal(waiter.calls, 1);
    return waiter.result;
}

static void a_range_outside_the_disk_is_refused(void **state)
{
    struct block_disk *disk = open_raw((struct block_options){0}, new_file(DISK_BYTES));
    char byte[2] = {0};
    struct iovec iov = {byte, 1};
    struct block_request one = {
        .op = BLOCK_READ, .offset = DISK_BYTES, .length = 1, .iov = &iov, .iov_count = 1};
    assert_int_equal(submit_and_wait(disk, one), -EINVAL);
    one.offset = UINT64_MAX;
    assert_int_equal(submit_and_wait(disk, one), -EINVAL);
    one.offset = DISK_BYTES - 1;
    assert_int_equal(submit_and_wait(disk, one), 0);
    one.length = 2; // more than its memory
    one.offset = 0;
    assert_int_equal(submit_and_wait(disk, one), -EINVAL);
    struct block_request zeroes = {
        .op = BLOCK_WRITE_ZEROES, .offset = 512, .length = UINT64_MAX - 511};
    assert_int_equal(submit_and_wait(disk, zeroes), -EINVAL);
    assert_int_equal(block_disk_close(disk), 0);
}

static void a_read_only_disk_refuses_writes(void **state)
{
    struct block_disk *disk =
        open_raw((struct block_options){.read_only = true}, new_file(DISK_BYTES));
    assert_true(block_disk_limits(disk)->read_only);
    assert_int_equal(block_write(disk, 0, "x", 1), -EROFS);
    assert_int_equal(block_discard(disk, 0, 512), -EROFS);
    assert_int_equal(block_write_zeroes(disk, 0, 512, 0), -EROFS);
    assert_int_equal(block_disk_close(disk), 0);
}

static void zeroes_and_discard_give_zeros_and_space(void **state)
{
    int fd = new_file(DISK_BYTES);
    struct block_disk *disk = open_raw((struct block_options){0}, dup(fd));
    static char memory[MIB], zeros[MIB];
    memset(memory, 'x', sizeof(memory));
    assert_int_equal(block_write(disk, 0, memory, MIB), 0);
    assert_int_equal(block_write(disk, MIB, memory, MIB), 0);
    assert_int_equal(block_write_zeroes(disk, 100, MIB - 200, 0), 0);
    assert_int_equal(block_read(disk, 0, memory, MIB), 0);
    assert_memory_equal(memory + 100, zeros, MIB - 200);
    assert_int_equal(memory[99], 'x');
    assert_int_equal(memory[MIB - 100], 'x');
    assert_int_equal(block_discard(disk, MIB, MIB), 0);
    struct block_extent extent;
    assert_int_equal(block_disk_extent(disk, MIB, MIB, &extent), 0);
    assert_true(extent.zero);
    assert_int_equal(extent.length, MIB);
    assert_int_equal(block_disk_close(disk), 0);
    close(fd);
}

static void a_disk_grows(void **state)
{
    struct block_disk *disk = open_raw((struct block_options){0}, new_file(DISK_BYTES));
    struct err err = {0};
    assert_int_equal(block_write(disk, DISK_BYTES, "x", 1), -EINVAL);
    assert_int_equal(block_disk_resize(disk, 2 * DISK_BYTES, &err), 0);
    assert_int_equal(block_disk_size(disk), 2 * DISK_BYTES);
    assert_int_equal(block_write(disk, DISK_BYTES, "x", 1), 0);
    assert_int_equal(block_disk_close(disk), 0);
}

// ---- Pause and errors

static void a_paused_disk_does_nothing(void **state)
{
    struct block_disk *disk = open_raw((struct block_options){0}, new_file(DISK_BYTES));
    struct iovec iov = {(char[]){"x"}, 1};
    struct waiter waiter = {.request = {.op = BLOCK_WRITE,
                                        .length = 1,
                                        .iov = &iov,
                                        .iov_count = 1,
                                        .done = on_done,
                                        .user = &waiter}};
    block_disk_pause(disk);
    block_submit(disk, &waiter.request);
    block_disk_drain(disk);
    assert_int_equal(waiter.calls, 0);
    block_disk_resume(disk);
    block_disk_drain(disk);
    assert_int_equal(waiter.calls, 1);
    assert_int_equal(block_disk_close(disk), 0);
}

static atomic_int stops;

static void on_stop(void *user, enum block_op op, int error)
{
    assert_int_equal(error, ENOSPC);
    atomic_fetch_add(&stops, 1);
}

static void a_failed_request_is_held_and_tried_again(void **state)
{
    struct block_options options = {
        .on_error = BLOCK_ERROR_STOP,
        .on_stop = on_stop,
        .fault = {.error = ENOSPC, .ops = 1u << BLOCK_WRITE, .after = 1, .count = 2},
    };
    int fd = new_file(DISK_BYTES);
    struct block_disk *disk = open_raw(options, dup(fd));
    assert_int_equal(block_write(disk, 0, "a", 1), 0); // the first goes through
    struct iovec iov = {(char[]){"b"}, 1};
    struct waiter waiter = {.request = {.op = BLOCK_WRITE,
                                        .length = 1,
                                        .iov = &iov,
                                        .iov_count = 1,
                                        .done = on_done,
                                        .user = &waiter}};
    block_submit(disk, &waiter.request);
    for (int i = 1; i <= 2; i++) {
        block_disk_drain(disk);
        assert_int_equal(stops, i);
        assert_int_equal(waiter.calls, 0);
        assert_int_equal(block_disk_retry(disk), 1);
    }
    block_disk_drain(disk);
    assert_int_equal(waiter.calls, 1);
    assert_int_equal(waiter.result, 0);
    char byte;
    assert_int_equal(pread(fd, &byte, 1, 0), 1);
    assert_int_equal(byte, 'b');
    assert_int_equal(block_disk_close(disk), 0);
    close(fd);
}

// ---- Filters

static void the_log_has_writes_and_flushes_in_order(void **state)
{
    int log = memfd_create("log", 0);
    struct block_disk *disk = open_raw((struct block_options){.log_fd = log}, new_file(DISK_BYTES));
    assert_int_equal(block_write(disk, 4096, "hello", 5), 0);
    assert_int_equal(block_flush(disk), 0);
    assert_int_equal(block_discard(disk, 0, 512), 0);
    assert_int_equal(block_disk_close(disk), 0);
    struct block_log_record record;
    char bytes[5];
    assert_int_equal(pread(log, &record, sizeof(record), 0), sizeof(record));
    assert_int_equal(record.magic, BLOCK_LOG_MAGIC);
    assert_int_equal(record.op, BLOCK_WRITE);
    assert_int_equal(record.offset, 4096);
    assert_int_equal(pread(log, bytes, 5, sizeof(record)), 5);
    assert_memory_equal(bytes, "hello", 5);
    assert_int_equal(pread(log, &record, sizeof(record), sizeof(record) + 5), sizeof(record));
    assert_int_equal(record.op, BLOCK_FLUSH);
    assert_int_equal(pread(log, &record, sizeof(record), 2 * sizeof(record) + 5), sizeof(record));
    assert_int_equal(record.op, BLOCK_DISCARD);
    close(log);
}

static void an_unknown_format_is_refused(void **state)
{
    struct block_image image = {.fd = new_file(512), .format = "tape", .name = "x"};
    struct err err = {0};
    assert_null(block_disk_open(&(struct block_options){.chain = &image, .chain_length = 1}, &err));
    assert_int_equal(err.code, ERR_USAGE);
    assert_int_equal(fcntl(image.fd, F_GETFD), -1); // the descriptor was taken over
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(a_range_outside_the_disk_is_refused),
        cmocka_unit_test(a_read_only_disk_refuses_writes),
        cmocka_unit_test(zeroes_and_discard_give_zeros_and_space),
        cmocka_unit_test(a_disk_grows),
        cmocka_unit_test(a_paused_disk_does_nothing),
        cmocka_unit_test(a_failed_request_is_held_and_tried_again),
        cmocka_unit_test(the_log_has_writes_and_flushes_in_order),
        cmocka_unit_test(an_unknown_format_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
