// SPDX-License-Identifier: Apache-2.0
//
// Requests that go by a queue's ring (ring.h): what they must have in common with those that go by the pool.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/block_driver.h"
#include "machine/block/block_image.h"
#include "os/file.h"

#define DISK_BYTES (8 * MIB)
#define BLOCK      4096u
#define MANY       300 // more than the ring takes at once

#define CHAIN   1000
#define LONG_MS 60000

static unsigned syncs;
int __wrap_os_fdatasync(int fd);
int __real_os_fdatasync(int fd);

struct part {
    struct block_request request;
    struct iovec iov;
    int result;
    unsigned calls;
    uint8_t *memory; // owned
};

struct fixture {
    struct block_queue *queue;
    struct block_disk *disk;
    struct part parts[MANY];
    unsigned left; // to submit from `done`
};

// The linker gives us the block layer's syncs.
int __wrap_os_fdatasync(int fd)
{
    syncs++;
    return __real_os_fdatasync(fd);
}

static void on_done(struct block_request *request, int result)
{
    struct part *part = request->user;
    part->result = result;
    part->calls++;
}

static int new_file(uint64_t size)
{
    int fd = memfd_create("disk", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    return fd;
}

static void open_chain(struct fixture *f, const struct block_image *images, size_t count,
                       struct block_options options)
{
    struct err err = {0};
    options.chain = images;
    options.chain_length = count;
    f->disk = block_disk_open(&options, &err);
    if (!f->disk)
        fail_msg("%s", err.text);
}

static int set_up(void **state)
{
    struct err err = {0};
    struct fixture *f = calloc(1, sizeof(*f));
    f->queue = block_queue_create_with_ring(&err);
    for (int i = 0; i < MANY; i++)
        f->parts[i].memory = os_aligned_alloc(BLOCK);
    *state = f;
    return f->queue ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    block_disk_close(f->disk);
    block_queue_destroy(f->queue);
    for (int i = 0; i < MANY; i++)
        os_aligned_free(f->parts[i].memory);
    free(f);
    return 0;
}

static void submit(struct fixture *f, int index, enum block_op op, uint64_t offset)
{
    struct part *part = &f->parts[index];
    part->calls = 0;
    part->iov = (struct iovec){part->memory, BLOCK};
    part->request = (struct block_request){.op = op,
                                           .offset = offset,
                                           .length = op == BLOCK_FLUSH ? 0 : BLOCK,
                                           .iov = &part->iov,
                                           .iov_count = 1,
                                           .queue = f->queue,
                                           .done = on_done,
                                           .user = part};
    block_submit(f->disk, &part->request);
}

static void wait_for(struct fixture *f, unsigned count)
{
    while (count) {
        unsigned n = block_queue_wait(f->queue);
        assert_true(n <= count);
        count -= n;
    }
}

static uint64_t by_ring(struct fixture *f)
{
    struct block_stats stats;
    block_disk_stats(f->disk, &stats);
    assert_int_equal(stats.in_flight, 0);
    return stats.by_ring;
}

// Is there an io_uring here at all? A host without one runs the same tests by the pool.
static bool has_ring(struct fixture *f)
{
    submit(f, 0, BLOCK_READ, 0);
    wait_for(f, 1);
    return by_ring(f) > 0;
}

static void open_raw(struct fixture *f)
{
    struct block_image image = {.fd = new_file(DISK_BYTES), .format = "raw", .name = "raw"};
    open_chain(f, &image, 1, (struct block_options){0});
}

static void more_than_the_ring_takes_is_written_and_read(void **state)
{
    struct fixture *f = *state;
    open_raw(f);
    block_queue_begin(f->queue);
    for (int i = 0; i < MANY; i++) {
        memset(f->parts[i].memory, i % 255 + 1, BLOCK);
        submit(f, i, BLOCK_WRITE, (uint64_t)i * BLOCK);
    }
    block_queue_end(f->queue);
    wait_for(f, MANY);
    for (int i = 0; i < MANY; i++) {
        uint8_t back[BLOCK], expected[BLOCK];
        memset(expected, i % 255 + 1, BLOCK);
        assert_int_equal(f->parts[i].calls, 1);
        assert_int_equal(f->parts[i].result, 0);
        assert_int_equal(block_read(f->disk, (uint64_t)i * BLOCK, back, BLOCK), 0);
        assert_memory_equal(back, expected, BLOCK);
        memset(f->parts[i].memory, 0, BLOCK);
        submit(f, i, BLOCK_READ, (uint64_t)i * BLOCK);
    }
    wait_for(f, MANY);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(f->parts[i].memory[BLOCK - 1], i % 255 + 1);
    struct block_stats stats;
    block_disk_stats(f->disk, &stats);
    assert_int_equal(stats.op[BLOCK_WRITE].requests, MANY);
    assert_int_equal(stats.op[BLOCK_WRITE].bytes, MANY * BLOCK);
    if (has_ring(f))
        assert_true(stats.by_ring > 100);
}

// The thread that drains or pauses may be the one that takes completions.
static void the_owner_itself_may_drain_and_pause(void **state)
{
    struct fixture *f = *state;
    open_raw(f);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 64; i++)
            submit(f, i, BLOCK_READ, (uint64_t)i * BLOCK);
        if (round & 1) {
            block_disk_pause(f->disk);
            submit(f, 64, BLOCK_READ, 0); // waits for resume
            block_disk_resume(f->disk);
        } else {
            block_disk_drain(f->disk);
            submit(f, 64, BLOCK_READ, 0);
        }
        wait_for(f, 65);
    }
    assert_int_equal(f->parts[64].result, 0);
}

// A flush goes by the pool, the others by the ring: one wait serves both.
static void completions_of_pool_and_ring_wake_one_waiter(void **state)
{
    struct fixture *f = *state;
    open_raw(f);
    for (int i = 0; i < 500; i++) {
        submit(f, 0, i & 1 ? BLOCK_FLUSH : BLOCK_READ, 0);
        wait_for(f, 1);
        assert_int_equal(f->parts[0].calls, 1);
    }
}

// A cluster may lie partly beyond the end of its file.
static void what_the_file_does_not_have_reads_as_zeros(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    int fd = new_file(0);
    struct block_create create = {.format = "qcow2", .size = DISK_BYTES};
    assert_int_equal(block_image_create(fd, "top", &create, &err), 0);
    int other = dup(fd);
    struct block_image image = {.fd = fd, .format = "qcow2", .name = "top"};
    open_chain(f, &image, 1, (struct block_options){0});
    uint8_t bytes[BLOCK];
    memset(bytes, 7, BLOCK);
    assert_int_equal(block_write(f->disk, 0, bytes, BLOCK), 0);
    assert_int_equal(block_flush(f->disk), 0);
    assert_int_equal(ftruncate(other, lseek(other, 0, SEEK_END) / BLOCK * BLOCK), 0);
    close(other);
    for (unsigned i = 0; i < 16; i++) {
        memset(f->parts[i].memory, 0xff, BLOCK);
        submit(f, (int)i, BLOCK_READ, (uint64_t)i * BLOCK);
    }
    wait_for(f, 16);
    assert_int_equal(f->parts[0].memory[0], 7);
    for (int i = 1; i < 16; i++) {
        assert_int_equal(f->parts[i].result, 0);
        assert_int_equal(f->parts[i].memory[0], 0);
    }
}

static void a_backing_image_is_read_by_the_ring(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    uint8_t bytes[BLOCK];
    int below = new_file(DISK_BYTES), fd = new_file(0);
    for (uint8_t i = 0; i < 32; i++) {
        memset(bytes, i + 1, BLOCK);
        assert_int_equal(pwrite(below, bytes, BLOCK, i * (off_t)BLOCK), BLOCK);
    }
    struct block_create create = {
        .format = "qcow2", .size = DISK_BYTES, .backing = "below", .backing_format = "raw"};
    assert_int_equal(block_image_create(fd, "top", &create, &err), 0);
    struct block_image images[] = {{.fd = fd, .format = "qcow2", .name = "top"},
                                   {.fd = below, .format = "raw", .name = "below"}};
    open_chain(f, images, 2, (struct block_options){0});
    memset(bytes, 99, BLOCK);
    assert_int_equal(block_write(f->disk, 16 * BLOCK, bytes, BLOCK),
                     0); // a cluster of the top's own
    for (int i = 0; i < 32; i++)
        submit(f, i, BLOCK_READ, (uint64_t)i * BLOCK);
    wait_for(f, 32);
    for (int i = 0; i < 32; i++)
        assert_int_equal(f->parts[i].memory[0], i == 16 ? 99 : i + 1);
    if (has_ring(f))
        assert_true(by_ring(f) >= 16);
}

static void an_error_is_held_and_tried_again(void **state)
{
    struct fixture *f = *state;
    int fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
    int other = dup(fd);
    struct block_image image = {.fd = fd, .format = "raw", .name = "sealed"};
    open_chain(f, &image, 1, (struct block_options){.on_error = BLOCK_ERROR_STOP});
    assert_int_equal(fcntl(other, F_ADD_SEALS, F_SEAL_WRITE), 0);
    close(other);
    submit(f, 0, BLOCK_WRITE, 0);
    block_disk_drain(f->disk);
    assert_int_equal(block_queue_run(f->queue), 0);
    struct block_stats stats;
    block_disk_stats(f->disk, &stats);
    assert_int_equal(stats.held, 1);
    assert_int_equal(block_disk_retry(f->disk), 1);
    block_disk_drain(f->disk);
    assert_int_equal(f->parts[0].calls, 0);
    assert_int_equal(block_disk_give_up(f->disk), 1);
    wait_for(f, 1);
    assert_int_equal(f->parts[0].result, -EPERM);
}

static void a_write_to_the_page_cache_is_made_by_the_submitter(void **state)
{
    struct fixture *f = *state;
    int fd = new_file(DISK_BYTES), other = dup(fd);
    struct block_image image = {.fd = fd, .format = "raw", .name = "raw"};
    open_chain(f, &image, 1, (struct block_options){0});
    if (has_ring(f)) {
        uint8_t back[BLOCK];
        memset(f->parts[0].memory, 77, BLOCK);
        submit(f, 0, BLOCK_WRITE, BLOCK);
        assert_int_equal(pread(other, back, BLOCK, BLOCK), BLOCK);
        assert_memory_equal(back, f->parts[0].memory, BLOCK);
        assert_int_equal(f->parts[0].calls, 0); // the queue's owner is told, nobody else
        wait_for(f, 1);
        assert_int_equal(f->parts[0].calls, 1);
    }
    close(other);
}

static void submit_next(struct block_request *request, int result)
{
    struct fixture *f = *(struct fixture **)request->user;
    assert_int_equal(result, 0);
    if (f->left && f->left--)
        block_submit(f->disk, request);
}

// An event loop runs the queue only when its descriptor is readable.
static void what_ends_while_it_is_submitted_from_done_wakes_the_loop(void **state)
{
    struct fixture *f = *state;
    open_raw(f);
    struct iovec iov = {f->parts[0].memory, BLOCK};
    struct block_request request = {.op = BLOCK_WRITE,
                                    .length = BLOCK,
                                    .iov = &iov,
                                    .iov_count = 1,
                                    .queue = f->queue,
                                    .done = submit_next,
                                    .user = &f};
    f->left = CHAIN - 1;
    block_submit(f->disk, &request);
    for (unsigned n = 0; n < CHAIN;) {
        struct pollfd wait = {.fd = block_queue_fd(f->queue), .events = POLLIN};
        assert_int_equal(poll(&wait, 1, LONG_MS), 1);
        unsigned count = block_queue_run(f->queue);
        assert_true(count <= 100); // the loop has other things to do
        n += count;
    }
    assert_int_equal(f->left, 0);
}

static int unlinked_file(void)
{
    int fd = open(".", O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
    if (fd < 0)
        fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return fd < 0 ? new_file(0) : fd;
}

static void expect_syncs(struct fixture *f, unsigned count)
{
    syncs = 0;
    assert_int_equal(block_flush(f->disk), 0);
    assert_int_equal(block_flush(f->disk), 0);
    assert_int_equal(syncs, count);
}

// What was done to the file before is not known: the first flush is one.
static void each_change_makes_one_flush_a_sync(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    int files[] = {new_file(DISK_BYTES), unlinked_file()};
    for (size_t i = 0; i < ARRAY_LENGTH(files); i++) {
        assert_int_equal(ftruncate(files[i], DISK_BYTES), 0);
        struct block_image image = {.fd = files[i], .format = "raw", .name = "raw"};
        block_disk_close(f->disk);
        open_chain(f, &image, 1, (struct block_options){0});
        expect_syncs(f, 1);
        expect_syncs(f, 0);
        submit(f, 0, BLOCK_READ, 0);
        wait_for(f, 1);
        expect_syncs(f, 0);
        submit(f, 0, BLOCK_WRITE, 0);
        wait_for(f, 1);
        expect_syncs(f, 1);
        assert_int_equal(block_write(f->disk, 0, f->parts[0].memory, BLOCK), 0);
        expect_syncs(f, 1);
        assert_int_equal(block_discard(f->disk, 0, BLOCK), 0);
        expect_syncs(f, 1);
        assert_int_equal(block_write_zeroes(f->disk, 0, BLOCK, BLOCK_UNMAP), 0);
        expect_syncs(f, 1);
        assert_int_equal(block_write_zeroes(f->disk, 0, BLOCK, 0), 0);
        expect_syncs(f, 1);
        assert_int_equal(block_disk_resize(f->disk, 2 * DISK_BYTES, &err), 0);
        expect_syncs(f, 1);
    }
}

static void dirty_bitmaps_keep_writes_off_the_ring(void **state)
{
    struct fixture *f = *state;
    open_raw(f);
    struct block_route route = {0};
    struct iovec iov = {f->parts[0].memory, BLOCK};
    struct block_node *node = block_disk_node(f->disk);
    node->bitmaps = (void *)f; // only looked at
    assert_int_equal(block_node_route(node, BLOCK_WRITE, 0, block_vec(&iov, BLOCK), &route),
                     -EAGAIN);
    node->bitmaps = NULL;
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH(more_than_the_ring_takes_is_written_and_read),
        WITH(the_owner_itself_may_drain_and_pause),
        WITH(completions_of_pool_and_ring_wake_one_waiter),
        WITH(what_the_file_does_not_have_reads_as_zeros),
        WITH(a_backing_image_is_read_by_the_ring),
        WITH(an_error_is_held_and_tried_again),
        WITH(a_write_to_the_page_cache_is_made_by_the_submitter),
        WITH(what_ends_while_it_is_submitted_from_done_wakes_the_loop),
        WITH(each_change_makes_one_flush_a_sync),
        WITH(dirty_bitmaps_keep_writes_off_the_ring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
