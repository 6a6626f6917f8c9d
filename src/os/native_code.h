// SPDX-License-Identifier: Apache-2.0
//
// What a thread needs to run generated code that uses every register, the stack pointer included: a GS base of its
// own, a signal stack that does not depend on RSP, and a say in the faults which that code causes.
//
// The GS base is free on x86-64 Linux (thread-local storage hangs on FS), survives system calls and belongs to the thread. The
// signal stack is disarmed while a handler runs on it (SS_AUTODISARM): the kernel then does not compare RSP with its bounds, so an RSP
// that happens to point into it does no harm.
#ifndef WIRT_OS_NATIVE_CODE_H
#define WIRT_OS_NATIVE_CODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

// A synchronous fault (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP), as the handler may see and change it. Registers in the order of the
// instruction encoding.
struct os_fault {
    int signal;
    uint64_t address;
    uint64_t pc;
    uint64_t gpr[16];
    uint64_t flags;
};

// True: continue with *fault as it is now. False: not ours; the process dies of the signal. Runs on the signal stack and may
// call nothing that is not async-signal-safe.
typedef bool os_fault_handler(struct os_fault *fault);

// Add a handler; they are asked in the order of their installation. The same one twice is the same as once.
int os_fault_handler_install(os_fault_handler *handler, struct err *err);

// Once for each thread that runs generated code, and at its end.
int os_signal_stack_enter(void **stack, struct err *err);
void os_signal_stack_leave(void *stack);

void os_gs_base_set(void *base);
void *
os_gs_base_get(void); // NULL on a thread that never set it; may be called from a fault handler

// Every thread of the process has executed a serializing instruction when this returns (membarrier SYNC_CORE; -ENOSYS where refused).
int os_code_sync_prepare(void);
int os_code_sync(void);
// The calling thread alone executes one.
void os_code_serialize(void);

#endif
