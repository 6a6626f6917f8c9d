// SPDX-License-Identifier: Apache-2.0
//
// A whole file as read-only memory.
#ifndef WIRT_OS_FILE_MAP_H
#define WIRT_OS_FILE_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// The contents of a regular file, private and read-only. An empty file gives NULL and length 0. The bytes may change under
// our feet when somebody writes to the file: readers check and use a copy, or do not care.
int os_file_map(int fd, const uint8_t **bytes, size_t *length, struct err *err);
void os_file_unmap(const uint8_t *bytes, size_t length); // NULL is fine

#endif
