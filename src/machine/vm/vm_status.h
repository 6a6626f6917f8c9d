// SPDX-License-Identifier: Apache-2.0
//
// How a machine can end, and the exit status of `wirt run` for each. Ours are even: odd ones come from the guest's debug exit device,
// as (value << 1) | 1.
#ifndef WIRT_MACHINE_VM_VM_STATUS_H
#define WIRT_MACHINE_VM_VM_STATUS_H

enum vm_end {
    VM_END_NONE, // still running
    VM_END_POWER_OFF,
    VM_END_STOP,
    VM_END_RESET,
    VM_END_TRIPLE_FAULT,
    VM_END_PANIC,
    VM_END_DEBUG_EXIT,
    VM_END_TIMEOUT,
    VM_END_FAILURE,
    VM_END_COUNT
};

#define VM_STATUS_PANIC        30
#define VM_STATUS_RESET        32
#define VM_STATUS_TRIPLE_FAULT 34
#define VM_STATUS_FAILURE      36
#define VM_STATUS_TIMEOUT      124

const char *vm_end_name(enum vm_end end); // "power-off", as in the protocol's event `shutdown`
int vm_end_status(enum vm_end end, unsigned debug_value);

#endif
