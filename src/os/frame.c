// SPDX-License-Identifier: Apache-2.0
#include "os/frame.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static int outcome(ssize_t n)
{
    if (n >= 0)
        return 0;
    return errno == EINTR || errno == ENOBUFS ? -EAGAIN : -errno;
}

int os_frame_write(int tap, const struct iovec *iov, int count)
{
    return outcome(writev(tap, iov, count));
}

int os_frame_send(int socket, const struct iovec *iov, int count)
{
    struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
    return outcome(sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL));
}

ssize_t os_frame_read(int tap, void *buffer, size_t length)
{
    ssize_t n = read(tap, buffer, length);
    return n >= 0 ? n : outcome(n);
}

ssize_t os_frame_receive(int socket, void *buffer, size_t length)
{
    ssize_t n = recv(socket, buffer, length, MSG_DONTWAIT);
    return n >= 0 ? n : outcome(n);
}

void os_frame_socket_room(int socket, size_t bytes)
{
    int room = (int)bytes;
    setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
}
