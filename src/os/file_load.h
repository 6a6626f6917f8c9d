// SPDX-License-Identifier: Apache-2.0
//
// Whole files and parts of them into memory. A file is never mapped for that: whoever cuts it shorter meanwhile would kill us (SIGBUS).
#ifndef WIRT_OS_FILE_LOAD_H
#define WIRT_OS_FILE_LOAD_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// The length of what must be a regular file. -1 and *err.
int os_file_length(int fd, uint64_t *length, struct err *err);

// The contents of a regular file of at most `limit` bytes, for free(). An empty one gives bytes, too. -1 and *err.
int os_file_load(int fd, size_t limit, uint8_t **bytes, size_t *length, struct err *err);

// Copy within the kernel, into a file that is anonymous memory: for large parts cheaper than reading into its mapping, which would meet a page fault and
// zeros for each page. 0, -ENODATA where `from` ends earlier, or another negative errno. Moves the file position of `to`.
int os_file_send(int from, uint64_t from_offset, int to, uint64_t to_offset, uint64_t length);

#endif
