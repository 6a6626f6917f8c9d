// SPDX-License-Identifier: Apache-2.0
//
// The serial console's other end: plain standard input and output, a file, a Unix socket, or connections of the control protocol that
// asked for it. A person's terminal, with its escape key and menu, is the launcher's business: it is a connection that is there from the start.
//
// The first reader (standard output, the file, else the first connection) is waited for: a guest that prints faster than it reads is slowed
// down. Those beside it lose what they do not take. When the first connection goes away the guest goes on, and the next one takes its place.
//
// Threads: output comes on a vCPU's thread and goes straight to the descriptors that are ready; what is not taken is offered again by the
// loop. Input is read on the main loop only while the serial port takes it. End of file on standard input ends reading and nothing else.
#ifndef WIRT_MACHINE_VM_VM_CONSOLE_H
#define WIRT_MACHINE_VM_VM_CONSOLE_H

#include "machine/device/char_backend.h"
#include "machine/vm/vm.h"

struct char_backend vm_console_backend(struct vm *vm);
struct char_backend vm_console_debug_backend(struct vm *vm); // port 0xE9: output only, takes all

// Another reader and writer of the console (control protocol): takes the descriptor over. Main thread.
int vm_console_attach(struct vm *vm, int fd, struct err *err);

// The uart exists now: input may flow. After vm_chips_create().
void vm_console_start(struct vm *vm);

#endif
