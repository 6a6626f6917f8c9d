// SPDX-License-Identifier: Apache-2.0
//
// What the current task state segment says (SDM vol. 3, 7.2): inner stacks, the interrupt stack table, the I/O permission bitmap. Every
// read raises #TS(TR selector) outside the segment's limit, or a page fault. Private to the engine's system side.
#ifndef WIRT_MACHINE_ENGINE_TSS_H
#define WIRT_MACHINE_ENGINE_TSS_H

#include "machine/engine/system.h"

int tss_read_stack(struct vcpu *vcpu, unsigned cpl, uint16_t *selector,
                   uint32_t *pointer);                            // 16- and 32-bit TSS
int tss_read_rsp(struct vcpu *vcpu, unsigned cpl, uint64_t *rsp); // 64-bit TSS
int tss_read_link(struct vcpu *vcpu, uint16_t *selector);         // of the previous task
int tss_read_ist(struct vcpu *vcpu, unsigned number, uint64_t *rsp);

#endif
