// SPDX-License-Identifier: Apache-2.0
//
// A stack as far transfers see it: the current one or one that is about to become current. Pushes and pops move only the local pointer;
// stack_commit() makes it RSP once nothing can fail any more. Private to the engine's system side.
#ifndef WIRT_MACHINE_ENGINE_STACK_H
#define WIRT_MACHINE_ENGINE_STACK_H

#include "machine/engine/mmu.h"

struct stack {
    struct segment segment; // SS; not looked at when `wide`
    uint64_t pointer;
    bool wide; // 64-bit: no segment, canonical addresses
    enum mmu_privilege privilege;
    uint32_t error; // error code of #SS
};

// SS:RSP as they are.
struct stack stack_current(struct vcpu *vcpu);
// Another one, for code of privilege `cpl`.
struct stack stack_other(struct vcpu *vcpu, const struct segment *segment, uint64_t pointer,
                         unsigned cpl);
// A 64-bit stack for code of privilege `cpl`.
struct stack stack_wide(struct vcpu *vcpu, uint64_t pointer, unsigned cpl);

// 0, or -1 with #SS or a page fault. `size` is 2, 4 or 8.
int stack_push(struct vcpu *vcpu, struct stack *stack, uint64_t value, unsigned size);
int stack_pop(struct vcpu *vcpu, struct stack *stack, uint64_t *value, unsigned size);
// Move the pointer over `bytes` without looking at them.
void stack_skip(struct stack *stack, unsigned bytes);

// RSP becomes the stack's pointer, in the width that its segment has.
void stack_commit(struct vcpu *vcpu, const struct stack *stack);

#endif
