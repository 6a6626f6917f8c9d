// SPDX-License-Identifier: Apache-2.0
#include "machine/vm/vm_internal.h"

int vm_devices_create(struct vm *vm, struct err *err)
{
    (void)vm;
    (void)err;
    return 0;
}

void vm_devices_destroy(struct vm *vm)
{
    (void)vm;
}

void vm_devices_reset(struct vm *vm)
{
    (void)vm;
}

void vm_devices_pause(struct vm *vm)
{
    (void)vm;
}

void vm_devices_resume(struct vm *vm)
{
    (void)vm;
}
