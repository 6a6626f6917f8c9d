// SPDX-License-Identifier: Apache-2.0
//
// Whole frames through descriptors, never waiting: TAP devices and packet sockets.
#ifndef WIRT_OS_FRAME_H
#define WIRT_OS_FRAME_H

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

// One frame to a TAP device or a packet socket: 0, -EAGAIN when it takes none now, or another negative errno.
int os_frame_write(int tap, const struct iovec *iov, int count);
int os_frame_send(int socket, const struct iovec *iov, int count);

// One frame from it: its length, at most `length` (the rest of it is lost), 0 when the other end of a socket is gone, -EAGAIN
// when none waits, or another negative errno.
ssize_t os_frame_read(int tap, void *buffer, size_t length);
ssize_t os_frame_receive(int socket, void *buffer, size_t length);

// Room for frames under way in a socket, as far as the system allows.
void os_frame_socket_room(int socket, size_t bytes);

#endif
