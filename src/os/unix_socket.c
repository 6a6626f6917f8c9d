// SPDX-License-Identifier: Apache-2.0
#include "os/unix_socket.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_FDS 250 // the kernel takes 253 in a message

static int make_address(const char *path, struct sockaddr_un *address, struct err *err)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address->sun_path))
        return err_set(err, ERR_USAGE, "socket path \"%s\" is longer than %zu bytes", path,
                       sizeof(address->sun_path) - 1);
    memcpy(address->sun_path, path, strlen(path) + 1);
    return 0;
}

// Remove what a process that died has left; refuse to touch anything else.
static int remove_stale(const char *path, const struct sockaddr_un *address, struct err *err)
{
    struct stat st;
    if (lstat(path, &st))
        return errno == ENOENT ? 0 : err_set_errno(err, errno, "cannot listen on \"%s\"", path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, ERR_EXISTS,
                       "cannot listen on \"%s\": there is a file of that name that is no socket",
                       path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set_errno(err, errno, "cannot make a socket");
    int result = connect(fd, (const struct sockaddr *)address, sizeof(*address));
    int reason = errno;
    close(fd);
    if (result == 0 || reason != ECONNREFUSED)
        return err_set(err, ERR_BUSY, "cannot listen on \"%s\": another process does", path);
    if (unlink(path))
        return err_set_errno(err, errno, "cannot replace the stale socket \"%s\"", path);
    return 0;
}

int os_unix_listen(const char *path, struct err *err)
{
    struct sockaddr_un address;
    if (make_address(path, &address, err) || remove_stale(path, &address, err))
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set_errno(err, errno, "cannot make a socket");
    // The file gets the mode that its socket has, less the process's mask. Changing that would reach what other threads make meanwhile: a folder that
    // nobody may enter.
    if (fchmod(fd, 0600) || bind(fd, (const struct sockaddr *)&address, sizeof(address)) ||
        listen(fd, 8)) {
        int reason = errno;
        close(fd);
        return err_set_errno(err, reason, "cannot listen on \"%s\"", path);
    }
    return fd;
}

int os_unix_accept(int listener, bool blocking)
{
    return accept4(listener, NULL, NULL, SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK));
}

int os_unix_connect(const char *path, struct err *err)
{
    struct sockaddr_un address;
    if (make_address(path, &address, err))
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_set_errno(err, errno, "cannot make a socket");
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address))) {
        int reason = errno;
        close(fd);
        return err_set_errno(err, reason, "cannot connect to \"%s\"", path);
    }
    return fd;
}

bool os_unix_hung_up(int socket)
{
    struct pollfd wait = {.fd = socket, .events = POLLIN};
    char byte;
    if (poll(&wait, 1, 0) <= 0)
        return false;
    return recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

bool os_unix_is_left(int socket)
{
    struct pollfd wait = {.fd = socket};
    return poll(&wait, 1, 0) > 0 && wait.revents & (POLLHUP | POLLERR);
}

bool os_unix_is_socket(int fd)
{
    struct stat st;
    return !fstat(fd, &st) && S_ISSOCK(st.st_mode);
}

void os_unix_remove(const char *path)
{
    unlink(path);
}

int os_unix_pair(int ends[2], bool datagrams, struct err *err)
{
    if (socketpair(AF_UNIX, (datagrams ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_CLOEXEC, 0, ends))
        return err_set_errno(err, errno, "cannot make a socket pair");
    return 0;
}

bool os_unix_peer_is_owner(int socket)
{
    struct ucred peer = {0};
    socklen_t length = sizeof(peer);
    struct sockaddr_storage address = {0};
    socklen_t address_length = sizeof(address);
    if (getsockname(socket, (struct sockaddr *)&address, &address_length) ||
        address.ss_family != AF_UNIX || getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length))
        return false;
    return peer.uid == 0 || peer.uid == getuid();
}

ssize_t os_unix_receive(int socket, void *buffer, size_t length, int *fds, size_t fd_max,
                        size_t *fd_count)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
    } control;
    struct iovec iov = {buffer, length};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    *fd_count = 0;
    ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (n < 0)
        return n;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (*fd_count < fd_max)
                fds[(*fd_count)++] = fd;
            else
                close(fd);
        }
    }
    return n;
}

ssize_t os_unix_send(int socket, const void *buffer, size_t length, const int *fds, size_t fd_count)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
    } control = {0};
    struct iovec iov = {(void *)(uintptr_t)buffer, length};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd_count > MAX_FDS) {
        errno = EINVAL;
        return -1;
    }
    if (fd_count) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL);
}

ssize_t os_unix_send_ready(int socket, const void *buffer, size_t length)
{
    return send(socket, buffer, length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int os_unix_receive_all(int socket, void *buffer, size_t length)
{
    char *at = buffer;
    while (length) {
        size_t none;
        ssize_t n = os_unix_receive(socket, at, length, NULL, 0, &none);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -EIO;
        at += n;
        length -= (size_t)n;
    }
    return 0;
}

int os_unix_send_all(int socket, const void *buffer, size_t length)
{
    const char *at = buffer;
    while (length) {
        ssize_t n = os_unix_send(socket, at, length, NULL, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -EIO;
        at += n;
        length -= (size_t)n;
    }
    return 0;
}
