// SPDX-License-Identifier: Apache-2.0
#include "machine/engine/stats.h"

#include <assert.h>

static const char *const names[] = {"port",      "mmio", "halt",    "interrupt",
                                    "exception", "msr",  "control", "smc"};
static_assert(sizeof(names) / sizeof(names[0]) == ENGINE_EXIT_COUNT, "a name for each reason");

const char *engine_exit_name(enum engine_exit_reason reason)
{
    assert(reason < ENGINE_EXIT_COUNT);
    return names[reason];
}
