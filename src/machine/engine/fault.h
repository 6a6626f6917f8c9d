// SPDX-License-Identifier: Apache-2.0
//
// Faults of generated code (fault.c).
#ifndef WIRT_MACHINE_ENGINE_FAULT_H
#define WIRT_MACHINE_ENGINE_FAULT_H

#include "base/err.h"

// Once a process is enough; more do no harm.
int fault_handler_install(struct err *err);

#endif
