// SPDX-License-Identifier: Apache-2.0
//
// What the host says about this process.
#ifndef WIRT_OS_SELF_H
#define WIRT_OS_SELF_H

#include <stdint.h>

int os_self_pid(void);

// Before the sandbox closes: opens what the functions below read.
void os_self_open(void);

// What the process takes of the host's memory (Pss), by what it is for: the names given to os_memory_name() and os_memfd_create(), "program"
// (mapped files) and "heap and stacks". Returns how many parts there are: 0 where /proc does not tell, OS_SELF_PARTS_MAX at most.
#define OS_SELF_PARTS_MAX 32
struct os_self_part {
    char name[32];
    uint64_t bytes;
};
unsigned os_self_memory(struct os_self_part parts[OS_SELF_PARTS_MAX]);

#endif
