// SPDX-License-Identifier: Apache-2.0
//
// What far returns and IRET share. Private to the engine's system side.
#ifndef WIRT_MACHINE_ENGINE_FAR_H
#define WIRT_MACHINE_ENGINE_FAR_H

#include "machine/engine/descriptor.h"
#include "machine/engine/system.h"
#include "machine/engine/tss.h"

// The code segment that a return names; its RPL becomes the CPL.
int far_read_return_code(struct vcpu *vcpu, uint16_t selector, struct descriptor *code);
// The stack segment that goes with it: null is one when returning to 64-bit code of CPL 0 to 2.
int far_read_return_stack(struct vcpu *vcpu, uint16_t selector, const struct descriptor *code,
                          struct segment *segment);
// After a return to `cpl`: data segments of inner levels become null.
void far_drop_inner_segments(struct vcpu *vcpu, unsigned cpl);

#endif
