// SPDX-License-Identifier: Apache-2.0
//
// `--trace translate`: each new translation, guest code beside host code.
#ifndef WIRT_MACHINE_ENGINE_TRANSLATE_TRACE_H
#define WIRT_MACHINE_ENGINE_TRANSLATE_TRACE_H

#include <stdio.h>

struct cpu_system;

// From now on every translation of the machine is printed to `to` (borrowed; NULL: no more), by the thread that translates. Call after the
// vCPUs were created and before they run; does nothing on other backends than the engine.
void translate_trace_to(struct cpu_system *system, FILE *to);

#endif
