// SPDX-License-Identifier: Apache-2.0
//
// Bytes through descriptors that are not ours alone (a terminal, standard input and output): they must stay in blocking mode, because the
// mode belongs to the open file that others share, and must not block us all the same.
#ifndef WIRT_OS_STREAM_H
#define WIRT_OS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

// Reads what is there: bytes, 0 at the end of the file, -EAGAIN when nothing waits, or another negative errno.
ssize_t os_stream_read(int fd, void *buffer, size_t length);

// The same, but waits for bytes.
ssize_t os_stream_read_wait(int fd, void *buffer, size_t length);

// Writes what fits now: bytes (possibly 0), or a negative errno when the other end is gone.
ssize_t os_stream_write(int fd, const void *bytes, size_t length);

// Writes all, however long it takes: for messages at the end. 0 or a negative errno.
int os_stream_write_all(int fd, const void *bytes, size_t length);

#endif
