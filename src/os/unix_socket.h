// SPDX-License-Identifier: Apache-2.0
//
// Unix sockets: listening, connecting, pairs, and passing descriptors beside bytes.
#ifndef WIRT_OS_UNIX_SOCKET_H
#define WIRT_OS_UNIX_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

// A listening stream socket at `path`, mode 0600. A socket file that nobody listens on any more is replaced; anything else there is an error.
// Close-on-exec, not blocking. -1 and *err on failure.
int os_unix_listen(const char *path, struct err *err);
// A connection that waits to be accepted, close-on-exec; -1 when there is none (errno EAGAIN) or it failed.
int os_unix_accept(int listener, bool blocking);
int os_unix_connect(const char *path, struct err *err);
bool os_unix_is_socket(int fd);
bool os_unix_hung_up(int socket);      // the other end is closed, and what it sent is read
bool os_unix_is_left(int socket);      // the other end is closed, whatever is left to read
void os_unix_remove(const char *path); // a listening socket's file, at the end
int os_unix_pair(int ends[2], bool datagrams, struct err *err);

// Is this a Unix socket whose other end was opened by root or by our own user?
bool os_unix_peer_is_owner(int socket);

// Like read(2) and write(2) on a socket without SIGPIPE, with up to `fd_max` descriptors received beside the bytes (close-on-exec; *fd_count
// of them). -1 with errno.
ssize_t os_unix_receive(int socket, void *buffer, size_t length, int *fds, size_t fd_max,
                        size_t *fd_count);
// What the other end takes now, without waiting: bytes, or -1 with errno.
ssize_t os_unix_send_ready(int socket, const void *buffer, size_t length);
ssize_t os_unix_send(int socket, const void *buffer, size_t length, const int *fds,
                     size_t fd_count);

// All of it, however many transfers it takes, without descriptors: 0, or -EIO when the other end is gone.
int os_unix_receive_all(int socket, void *buffer, size_t length);
int os_unix_send_all(int socket, const void *buffer, size_t length);

#endif
