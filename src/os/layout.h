// SPDX-License-Identifier: Apache-2.0
//
// Where in its address space a process lives.
//
// The engine will map pages of a guest at the guest's own addresses (doc/architecture.md, "windows"), for which everything of wirt-vm must stand in
// one slot of 2 TiB in the lower half, and the rest be free: program, libraries, vdso, thread stacks, guest RAM, code cache. The kernel does that for
// a process with the personality ADDR_COMPAT_LAYOUT that is started through the dynamic loader: it places all of them bottom-up from
// 0x2AAAAAAAA000 and at most 1 TiB of randomization above. So a program that finds itself elsewhere starts itself again that way; where the kernel
// randomizes by more, once more without randomization; and if that does not help either it goes on where it is.
//
// What stays outside is the initial stack, at the top of the address space. The heap of brk() is blocked, so that malloc maps.
#ifndef WIRT_OS_LAYOUT_H
#define WIRT_OS_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

// The slot: addresses whose upper bits are OS_LAYOUT_SLOT.
#define OS_LAYOUT_SLOT_SHIFT 41
#define OS_LAYOUT_SLOT       0x15ull

static inline bool os_layout_in_slot(const void *address)
{
    return (uintptr_t)address >> OS_LAYOUT_SLOT_SHIFT == OS_LAYOUT_SLOT;
}

// First thing in main(), before there are threads: returns whether the process is in the slot, or does not return but starts again. In
// sanitizer builds it returns false at once.
bool os_layout_enter(char **argv);

// As os_process_start_with(), for a program that will call os_layout_enter(): in such a way that it need not start itself again, where this can be told.
int os_layout_start(const char *program, char *const arguments[], const int *fds, size_t fd_count,
                    const int standard[3], pid_t *pid, struct err *err);

#endif
