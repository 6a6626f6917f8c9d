// SPDX-License-Identifier: Apache-2.0
//
// Commands of the control protocol that live beside what they act on.
#ifndef WIRT_MACHINE_VM_VM_CONTROL_H
#define WIRT_MACHINE_VM_VM_CONTROL_H

#include <jansson.h>

#include "machine/vm/vm.h"

// Descriptors that came beside the request, oldest first. A command that takes one over sets it to -1.
struct vm_passed {
    int *fds;
    size_t *count;
};

// vm_devices.c. A new reference, or NULL and *err.
json_t *vm_do_plug(struct vm *vm, const json_t *request, struct vm_passed *passed, struct err *err);
json_t *vm_do_unplug(struct vm *vm, const json_t *request, struct vm_passed *passed,
                     struct err *err);
json_t *vm_do_balloon(struct vm *vm, const json_t *request, struct vm_passed *passed,
                      struct err *err);

#endif
