// SPDX-License-Identifier: Apache-2.0
#include "machine/vm/vm_status.h"

#include <assert.h>

static const struct {
    const char *name;
    int status;
} ends[] = {
    [VM_END_NONE] = {"none", 0},
    [VM_END_POWER_OFF] = {"power-off", 0},
    [VM_END_STOP] = {"stop", 0},
    [VM_END_RESET] = {"reset", VM_STATUS_RESET},
    [VM_END_TRIPLE_FAULT] = {"triple-fault", VM_STATUS_TRIPLE_FAULT},
    [VM_END_PANIC] = {"panic", VM_STATUS_PANIC},
    [VM_END_DEBUG_EXIT] = {"debug-exit", 1},
    [VM_END_TIMEOUT] = {"timeout", VM_STATUS_TIMEOUT},
    [VM_END_FAILURE] = {"failure", VM_STATUS_FAILURE},
};
static_assert(sizeof(ends) / sizeof(ends[0]) == VM_END_COUNT, "a row for each end");

const char *vm_end_name(enum vm_end end)
{
    assert(end < VM_END_COUNT);
    return ends[end].name;
}

int vm_end_status(enum vm_end end, unsigned debug_value)
{
    assert(end < VM_END_COUNT);
    return end == VM_END_DEBUG_EXIT ? (int)((debug_value << 1 | 1) & 0xFF) : ends[end].status;
}
