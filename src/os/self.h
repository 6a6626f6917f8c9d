// SPDX-License-Identifier: Apache-2.0
//
// What the host says about this process.
#ifndef WIRT_OS_SELF_H
#define WIRT_OS_SELF_H

#include <stdint.h>

int os_self_pid(void);

// Before the sandbox closes: opens what the functions below read.
void os_self_open(void);

// Proportional set size of the process without the mappings of the file behind `except_fd`, in bytes; 0 where /proc does not tell.
uint64_t os_self_memory_bytes(int except_fd);

#endif
