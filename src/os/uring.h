// SPDX-License-Identifier: Apache-2.0
//
// io_uring: transfers that the kernel carries out while we do something else.
//
// A ring can read and write the files that were put into its table, and nothing else: it is made with restrictions
// (IORING_REGISTER_RESTRICTIONS) that last as long as it does, so that whoever takes over the process gains nothing by it.
// Making one is a call that a sandbox denies afterwards (os/sandbox.h); where the kernel or somebody above us refuses it,
// os_uring_create() says so and the caller does without.
//
// Threads: preparing and submitting by one thread at a time, taking completions by one at a time, beside each other; waiting by any.
#ifndef WIRT_OS_URING_H
#define WIRT_OS_URING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct err;
struct os_uring;

// Room for `entries` transfers at once (a power of two) and `files` files. NULL with err set where there is no io_uring.
struct os_uring *os_uring_create(unsigned entries, unsigned files, struct err *err);
void os_uring_destroy(struct os_uring *ring); // NULL is fine; nothing may be in flight
// Readable while completions wait. Borrowed.
int os_uring_fd(const struct os_uring *ring);

// Put a descriptor (borrowed: the kernel keeps a reference) into place `file` of the table, or take it out with -1. 0 or
// -errno. Any thread.
int os_uring_set_file(struct os_uring *ring, unsigned file, int fd);

struct os_uring_transfer {
    unsigned file; // of the table
    bool write;
    const struct iovec
        *iov; // borrowed until os_uring_submit() has returned; the memory until completion
    int count;
    uint64_t offset; // of a file that has none (an event counter): 0
    uint64_t tag;    // comes back with the completion
};
// False when as many are prepared as fit.
bool os_uring_prepare(struct os_uring *ring, const struct os_uring_transfer *transfer);
// Give what was prepared to the kernel. 0 or -errno; what was not taken stays prepared.
int os_uring_submit(struct os_uring *ring);
// Wait until a completion is there, or a signal was handled.
void os_uring_wait(struct os_uring *ring);

// Take one completion: bytes or -errno. False when there is none.
bool os_uring_next(struct os_uring *ring, uint64_t *tag, int *result);

#endif
