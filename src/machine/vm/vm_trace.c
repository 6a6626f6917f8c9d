// SPDX-License-Identifier: Apache-2.0
//
// `--trace WHAT`: which of the engine's traces are on. They go to standard error, beside the guest's console on standard output.
#include "base/bits.h"
#include "machine/engine/translate_trace.h"
#include "machine/vm/vm_internal.h"

void vm_trace_start(struct vm *vm)
{
    static const struct {
        enum vm_trace asked;
        enum engine_trace_what what;
    } traces[] = {
        {VM_TRACE_EXITS, TRACE_EXITS},   {VM_TRACE_INTERRUPTS, TRACE_INTERRUPTS},
        {VM_TRACE_FAULTS, TRACE_FAULTS}, {VM_TRACE_MODES, TRACE_MODES},
        {VM_TRACE_HASH, TRACE_HASH},     {VM_TRACE_STATES, TRACE_STATES},
    };
    if (!vm->config->trace)
        return;
    vm->trace = (struct engine_trace){
        .to = stderr, .first = vm->config->trace_first, .last = vm->config->trace_last};
    for (unsigned i = 0; i < ARRAY_LENGTH(traces); i++)
        if (vm->config->trace & traces[i].asked)
            vm->trace.what |= traces[i].what;
    engine_trace_set(&vm->system, &vm->trace);
    if (vm->config->trace & VM_TRACE_TRANSLATE)
        translate_trace_to(&vm->system, stderr);
}
