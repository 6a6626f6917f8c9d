// SPDX-License-Identifier: Apache-2.0
#include "machine/vm/vm_control.h"
#include "machine/vm/vm_internal.h"

int vm_devices_create(struct vm *vm, struct err *err)
{
    return 0;
}

void vm_devices_destroy(struct vm *vm)
{
}

void vm_devices_reset(struct vm *vm)
{
}

void vm_devices_pause(struct vm *vm)
{
}

void vm_devices_resume(struct vm *vm)
{
}

json_t *vm_do_plug(struct vm *vm, const json_t *request, struct vm_passed *passed, struct err *err)
{
    err_set(err, ERR_UNSUPPORTED, "plug is not offered yet");
    return NULL;
}

json_t *vm_do_unplug(struct vm *vm, const json_t *request, struct vm_passed *passed, struct err *err)
{
    err_set(err, ERR_UNSUPPORTED, "unplug is not offered yet");
    return NULL;
}

json_t *vm_do_balloon(struct vm *vm, const json_t *request, struct vm_passed *passed, struct err *err)
{
    err_set(err, ERR_UNSUPPORTED, "balloon is not offered yet");
    return NULL;
}
