// SPDX-License-Identifier: Apache-2.0
//
// Random bytes from the host's kernel.
#ifndef WIRT_OS_RANDOM_H
#define WIRT_OS_RANDOM_H

#include <stddef.h>

// Never fails once the kernel's generator is seeded, which it waits for. Thread safe.
void os_random_bytes(void *buffer, size_t length);

#endif
