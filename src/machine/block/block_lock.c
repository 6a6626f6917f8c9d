// SPDX-License-Identifier: Apache-2.0
//
// QEMU's locks on an image. Each right has two bytes: at 100 + right a shared lock says "I use it",
// at 200 + right a shared lock says "others must not". To use a right, nobody else may forbid it;
// to forbid it, nobody else may use it. First both kinds are taken (they are shared, so that cannot
// fail), then the others' are looked for: of two that come at once, at least one sees the other.
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/block_image.h"
#include "os/clock.h"
#include "os/file.h"

#define USED_BASE      100
#define FORBIDDEN_BASE 200
// How long a lock without an owner is waited for, and how often it is looked at.
#define LINGER_NS 2000000000u
#define LOOK_NS   2000000u

enum right { RIGHT_CONSISTENT_READ, RIGHT_WRITE, RIGHT_WRITE_UNCHANGED, RIGHT_RESIZE, RIGHT_COUNT };

static const unsigned reader_uses = BIT(RIGHT_CONSISTENT_READ);
static const unsigned writer_uses =
    BIT(RIGHT_CONSISTENT_READ) | BIT(RIGHT_WRITE) | BIT(RIGHT_RESIZE);
static const unsigned both_forbid = BIT(RIGHT_WRITE) | BIT(RIGHT_RESIZE);

static int take_bytes(int fd, unsigned base, unsigned rights)
{
    int rc = 0;
    for (unsigned right = 0; right < RIGHT_COUNT && !rc; right++) {
        if (rights & BIT(right))
            rc = os_file_lock(fd, base + right, 1, false);
    }
    return rc;
}

static int look_for(int fd, unsigned base, unsigned rights)
{
    int rc = 0;
    for (unsigned right = 0; right < RIGHT_COUNT && !rc; right++) {
        if (rights & BIT(right))
            rc = os_file_lock_test(fd, base + right, 1, true);
    }
    return rc;
}

static int refused(bool write, const char *name, int pid, const char *holder, struct err *err)
{
    const char *verb = write ? "write to" : "read";
    if (pid)
        return err_set(err, ERR_BUSY,
                       "cannot %s '%s' while process %d (%s) uses it; stop that first", verb, name,
                       pid, holder);
    return err_set(err, ERR_BUSY,
                   "cannot %s '%s' while another process uses it; see who with 'fuser %s'", verb,
                   name, name);
}

void block_lock_give_up(int fd)
{
    (void)os_file_unlock(fd, USED_BASE, RIGHT_COUNT);
    (void)os_file_unlock(fd, FORBIDDEN_BASE, RIGHT_COUNT);
}

// One's own locks never stand in one's own way: the shared ones of a reader are among a writer's.
int block_lock_change(int fd, bool write, const char *name, struct err *err)
{
    if (!block_lock_take(fd, write, name, err)) {
        for (unsigned right = 0; right < RIGHT_COUNT && !write; right++) {
            if (!(reader_uses & BIT(right)))
                (void)os_file_unlock(fd, USED_BASE + right, 1);
        }
        return 0;
    }
    // Refused: what was there before is a reader's, which nobody had reason to refuse.
    if (write) {
        (void)take_bytes(fd, USED_BASE, reader_uses);
        (void)take_bytes(fd, FORBIDDEN_BASE, both_forbid);
    }
    return -1;
}

static int try_lock(int fd, unsigned uses)
{
    int rc = take_bytes(fd, USED_BASE, uses);
    if (!rc)
        rc = take_bytes(fd, FORBIDDEN_BASE, both_forbid);
    if (!rc)
        rc = look_for(fd, FORBIDDEN_BASE, uses);
    if (!rc)
        rc = look_for(fd, USED_BASE, both_forbid);
    if (rc)
        block_lock_give_up(fd);
    return rc;
}

// A lock that no process holds, not even we by another descriptor (a chain may name a file twice), is that of one that was killed: the kernel ends its requests (io_uring's rings are torn down later than the
// process) and lets the file go only then, so that nothing is written beneath its next user. There is no event to wait for.
int block_lock_take(int fd, bool write, const char *name, struct err *err)
{
    unsigned uses = write ? writer_uses : reader_uses;
    uint64_t end = os_clock_monotonic_ns() + LINGER_NS;
    int rc, pid = 0;
    char holder[32] = "";
    while ((rc = try_lock(fd, uses)) == -EAGAIN) {
        uint64_t now = os_clock_monotonic_ns();
        if (!os_file_find_holder(fd, &pid, holder, sizeof(holder)))
            pid = 0;
        if (pid || os_file_is_open_again(fd) || now >= end)
            return refused(write, name, pid, holder, err);
        os_clock_sleep_until_ns(now + LOOK_NS);
    }
    return rc ? err_set_errno(err, -rc, "cannot lock '%s'", name) : 0;
}
