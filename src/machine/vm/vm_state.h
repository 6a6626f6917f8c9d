// SPDX-License-Identifier: Apache-2.0
//
// All state of a machine but its memory: the clock, CPUs, local APICs, chips, PCI and what is plugged, as sections of state/state.h. A machine saved on one backend
// loads on another. Main thread; the machine is prepared (loading) or paused.
#ifndef WIRT_MACHINE_VM_VM_STATE_H
#define WIRT_MACHINE_VM_VM_STATE_H

#include "machine/state/state.h"

struct guest_memory;
struct vm;

int vm_state_save(struct vm *vm, struct state_buffer *buffer, struct err *err);
// Into a machine of the same configuration. When it fails the machine must not run.
int vm_state_load(struct vm *vm, const uint8_t *bytes, size_t length, struct err *err);

struct guest_memory *vm_memory(struct vm *vm); // borrowed

#endif
