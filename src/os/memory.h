// SPDX-License-Identifier: Apache-2.0
//
// Address space: reserving it, placing files and zeroed memory in it, giving it back.
//
// A range is first reserved (no access, no commitment), then parts of it are placed over. All
// lengths, addresses and file offsets are multiples of a page. Thread safe as far as the ranges are
// distinct.
#ifndef WIRT_OS_MEMORY_H
#define WIRT_OS_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// No mapping is ever both writable and executable: asserted.
enum os_memory_access {
    OS_MEMORY_NONE = 0,
    OS_MEMORY_READ = 1,
    OS_MEMORY_WRITE = 2,
    OS_MEMORY_EXECUTE = 4
};

// A descriptor of anonymous memory, close-on-exec, sealed so that its size never changes. -1 and
// *err on failure.
int os_memfd_create(const char *name, uint64_t bytes, struct err *err);

// NULL and *err on failure. Returned by os_memory_release(). A page that nobody may touch follows, so that neighbours stay apart.
void *os_memory_reserve(size_t length, struct err *err);
void os_memory_release(void *at, size_t length);

// Map `fd` shared, or fresh zeroed memory, over a part of a reservation (`at` not NULL). Pages are
// not committed before they are touched. -1 and *err on failure.
int os_memory_place_file(void *at, size_t length, unsigned access, int fd, uint64_t offset,
                         struct err *err);
int os_memory_place_zeroed(void *at, size_t length, unsigned access, struct err *err);
int os_memory_protect(void *at, size_t length, unsigned access, struct err *err);

// Say what a placed range of anonymous memory is for: in /proc/PID/smaps, where the kernel has that, and in os_self_memory(). `name` is a literal.
// Before other threads are started. Forgotten by os_memory_release() of a range that begins there.
void os_memory_name(const void *at, size_t length, const char *name);
const char *os_memory_name_at(uint64_t address); // NULL: has none

// Free the pages behind a shared mapping of a memfd, for all who map it; they read as zeroes
// afterwards. 0 or a negative errno.
int os_memory_discard_shared(void *at, size_t length);

#endif
