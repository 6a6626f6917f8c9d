// SPDX-License-Identifier: Apache-2.0
//
// The virtual machine: a configuration becomes memory, CPUs and devices, runs, and ends.
//
// Threads. The main thread runs the event loop: console, control socket, timers, run states. Each vCPU has a thread (vcpu_thread.c). virtio
// devices work on I/O threads of their own. Run states (vm_run.c):
//
//     prepared ──► running ◄──► paused
//         │           │            │
//         └───────────┴────────────┴──► stopped
//
// Only the main thread changes the state. Others ask by vm_request(), which stops the vCPUs at once (their next look at `events`) and posts to the
// main thread, so that a guest that writes to the reset or power-off register executes nothing after it.
#ifndef WIRT_MACHINE_VM_VM_H
#define WIRT_MACHINE_VM_VM_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "machine/vm/vm_config.h"
#include "machine/vm/vm_status.h"

struct vm;

enum vm_state { VM_PREPARED, VM_RUNNING, VM_PAUSED, VM_STOPPED, VM_STATE_COUNT };
const char *vm_state_name(enum vm_state state);

// Builds the whole machine and loads what boots; no guest instruction is executed. `config` is borrowed and outlives it.
struct vm *vm_create(const struct vm_config *config, struct err *err);
void vm_destroy(struct vm *vm);

// Runs the machine to its end on the calling thread. Returns the exit status, or -1 and *err when it could not start.
int vm_run(struct vm *vm, struct err *err);

// ---- Requests, from any thread.
enum vm_request { VM_REQUEST_RESET = 1 << 0, VM_REQUEST_END = 1 << 1 };
void vm_request_reset(struct vm *vm);
void vm_request_end(struct vm *vm, enum vm_end end, unsigned debug_value); // the first one counts

// ---- On the main thread.
enum vm_state vm_state(const struct vm *vm);
void vm_pause(struct vm *vm);  // returns when no vCPU executes; nothing when paused
void vm_resume(struct vm *vm); // also prepared -> running
void vm_power_button(struct vm *vm);

// Statistics as the control protocol's `statistics` returns them; a new reference.
json_t *vm_statistics(struct vm *vm);
void vm_print_statistics(struct vm *vm, bool as_json);

#endif
