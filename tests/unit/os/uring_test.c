// SPDX-License-Identifier: Apache-2.0
//
// A ring does what it was made for, and refuses all else.
#include <errno.h>
#include <linux/io_uring.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "os/uring.h"

static int finish(struct os_uring *ring, uint64_t *tag)
{
    int result;
    assert_int_equal(os_uring_submit(ring), 0);
    while (!os_uring_next(ring, tag, &result))
        os_uring_wait(ring);
    return result;
}

static void bytes_are_written_and_read(void **state)
{
    struct os_uring *ring = *state;
    int fd = memfd_create("file", MFD_CLOEXEC);
    char out[] = "one two", in[sizeof(out)] = "";
    struct iovec whole = {out, sizeof(out)};
    struct iovec parts[] = {{in, 3}, {in + 3, sizeof(in) - 3}};
    uint64_t tag;
    assert_int_equal(os_uring_set_file(ring, 3, fd), 0);
    close(fd); // the ring has its own reference
    assert_true(os_uring_prepare(
        ring, &(struct os_uring_transfer){
                  .file = 3, .write = true, .iov = &whole, .count = 1, .offset = 100, .tag = 7}));
    assert_int_equal(finish(ring, &tag), sizeof(out));
    assert_int_equal(tag, 7);
    assert_true(os_uring_prepare(
        ring,
        &(struct os_uring_transfer){.file = 3, .iov = parts, .count = 2, .offset = 100, .tag = 8}));
    assert_int_equal(finish(ring, &tag), sizeof(in));
    assert_memory_equal(in, out, sizeof(out));
    assert_int_equal(os_uring_set_file(ring, 3, -1), 0);
    assert_true(os_uring_prepare(
        ring,
        &(struct os_uring_transfer){.file = 3, .iov = parts, .count = 2, .offset = 100, .tag = 9}));
    assert_int_equal(finish(ring, &tag), -EBADF);
}

static void as_many_are_prepared_as_fit(void **state)
{
    struct os_uring *ring = *state;
    char byte;
    struct iovec iov = {&byte, 1};
    struct os_uring_transfer transfer = {.file = 1, .iov = &iov, .count = 1};
    int prepared = 0;
    while (os_uring_prepare(ring, &transfer))
        prepared++;
    assert_int_equal(prepared, 8);
    uint64_t tag;
    while (prepared--)
        assert_int_equal(finish(ring, &tag), -EBADF); // no such file
}

static void nothing_else_can_be_registered(void **state)
{
    int fd = os_uring_fd(*state);
    char bytes[64];
    struct iovec iov = {bytes, sizeof(bytes)};
    assert_int_equal(syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, &iov, 1), -1);
    assert_int_equal(errno, EACCES);
    assert_int_equal(syscall(SYS_io_uring_register, fd, IORING_REGISTER_EVENTFD, &fd, 1), -1);
    assert_int_equal(errno, EACCES);
}

// Straight into the shared memory, as an attacker would.
static void nothing_else_can_be_submitted(void **state)
{
    int fd = os_uring_fd(*state);
    struct io_uring_sqe *sqes = mmap(NULL, 8 * sizeof(*sqes), PROT_READ | PROT_WRITE, MAP_SHARED,
                                     fd, (off_t)IORING_OFF_SQES);
    assert_true(sqes != MAP_FAILED);
    struct os_uring *ring = *state;
    char byte;
    struct iovec iov = {&byte, 1};
    struct os_uring_transfer transfer = {.file = 1, .iov = &iov, .count = 1};
    uint64_t tag;
    static const struct {
        uint8_t opcode, flags;
    } forbidden[] = {{IORING_OP_OPENAT, IOSQE_FIXED_FILE},
                     {IORING_OP_SOCKET, 0},
                     {IORING_OP_SENDMSG, IOSQE_FIXED_FILE},
                     {IORING_OP_READ, 0}}; // of a descriptor that is not in the table
    for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
        assert_true(os_uring_prepare(ring, &transfer));
        for (int entry = 0; entry < 8; entry++) {
            sqes[entry].opcode = forbidden[i].opcode;
            sqes[entry].flags = forbidden[i].flags;
        }
        assert_int_equal(finish(ring, &tag), -EACCES);
    }
    munmap(sqes, 8 * sizeof(*sqes));
}

static int set_up(void **state)
{
    struct err err;
    *state = os_uring_create(8, 16, &err);
    return 0;
}

static int tear_down(void **state)
{
    os_uring_destroy(*state);
    return 0;
}

int main(void)
{
    struct err err;
    struct os_uring *ring = os_uring_create(8, 16, &err);
    if (!ring) {
        printf("skipped: %s\n", err.text);
        return 77;
    }
    os_uring_destroy(ring);
#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH(bytes_are_written_and_read),
        WITH(as_many_are_prepared_as_fit),
        WITH(nothing_else_can_be_registered),
        WITH(nothing_else_can_be_submitted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
