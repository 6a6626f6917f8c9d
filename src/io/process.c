// SPDX-License-Identifier: Apache-2.0
//
// The first process of wirt-io, see io.h. One that ends by itself has its reasons: the client is gone, or makes no sense. One that is ended by a signal
// is followed by another, after a pause, unless that happens again and again: then what it is asked to do may be what ends it.
#include <stdio.h>

#include "base/bits.h"
#include "io/io.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/memory.h"
#include "os/process.h"
#include "os/sandbox.h"
#include "os/unix_socket.h"

#define LOG_MODULE "wirt-io"
#include "base/log.h"

#define BY_SIGNAL    128            // exit statuses, as a shell's
#define ENDS_MAX     5              // in a row
#define GOOD_LIFE_NS 60000000000ull // who lived so long was well: the row begins anew
#define PAUSE_NS     200000000ull   // before the first; twice as long each time

struct io_kept *io_kept_create(struct err *err)
{
    size_t bytes = align_up(sizeof(struct io_kept), 4096);
    int fd = os_memfd_create("wirt-io", bytes, err);
    void *at = fd < 0 ? NULL : os_memory_reserve(bytes, err);
    if (at && os_memory_place_file(at, bytes, OS_MEMORY_READ | OS_MEMORY_WRITE, fd, 0, err)) {
        os_memory_release(at, bytes);
        at = NULL;
    }
    if (fd >= 0)
        os_file_close(&fd);
    return at;
}

void io_kept_destroy(struct io_kept *kept)
{
    if (kept)
        os_memory_release(kept, align_up(sizeof(*kept), 4096));
}

// In the second process.
static _Noreturn void serve(const struct io_service *service)
{
    struct err err;
    int rc = os_sandbox_filter_storage(&err);
    if (!rc)
        rc = io_serve(service, &err);
    if (rc)
        log_error("%s: %s", service->url, err.text);
    os_process_exit(rc ? err_exit_status(err.code) : 0);
}

// A new connection for the client: its end goes to it by `next`, ours to the next process. -1: the client is gone.
static int join_again(struct io_service *service, int next)
{
    struct err err;
    int ends[2];
    if (os_unix_pair(ends, false, &err))
        return -1;
    ssize_t n = os_unix_send(next, "n", 1, &ends[0], 1);
    os_file_close(&ends[0]);
    if (n != 1)
        os_file_close(&ends[1]);
    service->fd = ends[1];
    return n == 1 ? 0 : -1;
}

static void tell_end(const struct io_service *service, int signal)
{
    char text[80];
    int n = snprintf(text, sizeof(text), "lost its process was ended by signal %d; another begins",
                     signal);
    (void)os_unix_send_ready(service->status_fd, text, (size_t)n);
}

// *status: how it exited, or minus the signal. -1 and *err when it could not begin.
static int run_one(struct io_service *service, int next, int *status, struct err *err)
{
    pid_t pid = os_process_fork(err);
    if (pid == 0) {
        os_file_close(&next);
        serve(service);
    }
    os_file_close(&service->fd);
    if (service->next_fd >= 0)
        os_file_close(&service->next_fd);
    *status = pid < 0 ? 0 : os_process_wait(pid);
    return pid < 0 ? -1 : 0;
}

static int run_all(struct io_service *service, int next, struct err *err)
{
    for (unsigned ends = 0;;) {
        uint64_t began = os_clock_monotonic_ns();
        int status;
        if (run_one(service, next, &status, err))
            return -1;
        if (status >= 0)
            return status;
        if (!service->kept->greeted)
            return BY_SIGNAL - status;
        if (os_clock_monotonic_ns() - began > GOOD_LIFE_NS)
            ends = 0;
        if (ends++ == ENDS_MAX || join_again(service, next))
            return BY_SIGNAL - status;
        tell_end(service, -status);
        os_clock_sleep_until_ns(os_clock_monotonic_ns() + (PAUSE_NS << (ends - 1)));
    }
}

int io_run(int fd, int status_fd, const char *url, bool read_only, struct err *err)
{
    int next[2];
    struct io_service service = {
        .fd = fd, .status_fd = status_fd, .url = url, .read_only = read_only};
    if (os_unix_pair(next, true, err))
        return -1;
    service.next_fd = next[1];
    service.kept = io_kept_create(err);
    int status = service.kept ? run_all(&service, next[0], err) : -1;
    io_kept_destroy(service.kept);
    os_file_close(&next[0]);
    return status;
}
