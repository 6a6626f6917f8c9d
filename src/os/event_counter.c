// SPDX-License-Identifier: Apache-2.0
//
// eventfd(2). A raise can only fail when the counter is at its maximum, and then it is raised
// already.
#include "os/event_counter.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>

int os_event_counter_open(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int os_event_counter_open_for_ring(void)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

void os_event_counter_raise(int fd)
{
    (void)eventfd_write(fd, 1);
}

void os_event_counter_clear(int fd)
{
    eventfd_t value;
    (void)eventfd_read(fd, &value);
}

void os_event_counter_wait(int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    while (poll(&wait, 1, -1) < 0 && errno == EINTR)
        ;
}
