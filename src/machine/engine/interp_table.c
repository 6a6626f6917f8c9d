// SPDX-License-Identifier: Apache-2.0
//
// Which handler executes which operation. What is missing here is a vector or x87 operation, or undefined (interp.c).
#include "machine/engine/interp_handlers.h"

interp_handler *const interp_handlers[INSN_OP_COUNT] = {
#define INTERP_ENTRY(op, name) [OP_##op] = interp_##name,
    INTERP_HANDLERS(INTERP_ENTRY) INTERP_ALIASES(INTERP_ENTRY)
#undef INTERP_ENTRY
};
