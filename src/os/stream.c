// SPDX-License-Identifier: Apache-2.0
#include "os/stream.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

// A pipe that polls as writable takes this much without blocking (POSIX: PIPE_BUF), a terminal too.
#define CHUNK_BYTES 512

static bool ready(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, 0) > 0;
}

ssize_t os_stream_read(int fd, void *buffer, size_t length)
{
    if (!ready(fd, POLLIN))
        return -EAGAIN;
    ssize_t n = read(fd, buffer, length);
    return n < 0 ? -errno : n;
}

ssize_t os_stream_write(int fd, const void *bytes, size_t length)
{
    size_t done = 0;
    while (done < length && ready(fd, POLLOUT)) {
        size_t chunk = length - done < CHUNK_BYTES ? length - done : CHUNK_BYTES;
        ssize_t n = write(fd, (const char *)bytes + done, chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? (ssize_t)done : -errno;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int os_stream_write_all(int fd, const void *bytes, size_t length)
{
    size_t done = 0;
    while (done < length) {
        ssize_t n = write(fd, (const char *)bytes + done, length - done);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return -errno;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

ssize_t os_stream_read_wait(int fd, void *buffer, size_t length)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    ssize_t n;
    do {
        while (poll(&poll_fd, 1, -1) < 0 && errno == EINTR)
            ;
        n = os_stream_read(fd, buffer, length);
    } while (n == -EAGAIN);
    return n;
}
