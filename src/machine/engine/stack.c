// SPDX-License-Identifier: Apache-2.0
#include "machine/engine/stack.h"

#include "base/bits.h"
#include "machine/engine/descriptor.h"
#include "machine/engine/exception.h"
#include "machine/engine/mmu_access.h"

static uint64_t mask_of(const struct stack *stack)
{
    if (stack->wide)
        return UINT64_MAX;
    return stack->segment.attributes & SEG_DB ? UINT32_MAX : UINT16_MAX;
}

struct stack stack_current(struct vcpu *vcpu)
{
    return (struct stack){
        .segment = vcpu->state.segment[SEG_SS],
        .pointer = vcpu->state.gpr[RSP],
        .wide = engine_cpu_of(vcpu)->code_mode == 64,
        .privilege = MMU_NORMAL,
    };
}

// An inner stack is reached with supervisor rights although the CPL is still 3.
static enum mmu_privilege privilege_for(struct vcpu *vcpu, unsigned cpl)
{
    return engine_cpu_of(vcpu)->cpl == 3 && cpl < 3 ? MMU_IMPLICIT : MMU_NORMAL;
}

struct stack stack_other(struct vcpu *vcpu, const struct segment *segment, uint64_t pointer,
                         unsigned cpl)
{
    return (struct stack){
        .segment = *segment,
        .pointer = pointer,
        .privilege = privilege_for(vcpu, cpl),
        .error = segment->selector & ~3u,
    };
}

struct stack stack_wide(struct vcpu *vcpu, uint64_t pointer, unsigned cpl)
{
    return (struct stack){.pointer = pointer, .wide = true, .privilege = privilege_for(vcpu, cpl)};
}

static int address_of(struct vcpu *vcpu, const struct stack *stack, uint64_t pointer, unsigned size,
                      struct gva *linear)
{
    if (stack->wide) {
        if (!address_is_canonical(vcpu, pointer) || !address_is_canonical(vcpu, pointer + size - 1))
            return raise_exception_error(vcpu, EXC_SS, stack->error);
        *linear = gva(pointer);
        return 0;
    }
    if ((stack->segment.attributes & SEG_UNUSABLE) ||
        !segment_contains(&stack->segment, pointer, size))
        return raise_exception_error(vcpu, EXC_SS, stack->error);
    *linear = gva((uint32_t)(stack->segment.base + pointer));
    return 0;
}

int stack_push(struct vcpu *vcpu, struct stack *stack, uint64_t value, unsigned size)
{
    uint64_t mask = mask_of(stack), pointer = (stack->pointer - size) & mask;
    struct gva linear = gva(0);

    if (address_of(vcpu, stack, pointer, size, &linear) != 0 ||
        mmu_write(vcpu, linear, &value, size, stack->privilege) != 0)
        return -1;
    stack->pointer = (stack->pointer & ~mask) | pointer;
    return 0;
}

int stack_pop(struct vcpu *vcpu, struct stack *stack, uint64_t *value, unsigned size)
{
    struct gva linear = gva(0);

    *value = 0;
    if (address_of(vcpu, stack, stack->pointer & mask_of(stack), size, &linear) != 0 ||
        mmu_read(vcpu, linear, value, size, stack->privilege) != 0)
        return -1;
    stack_skip(stack, size);
    return 0;
}

void stack_skip(struct stack *stack, unsigned bytes)
{
    uint64_t mask = mask_of(stack);
    stack->pointer = (stack->pointer & ~mask) | ((stack->pointer + bytes) & mask);
}

void stack_commit(struct vcpu *vcpu, const struct stack *stack)
{
    uint64_t mask = mask_of(stack), old = vcpu->state.gpr[RSP];

    // A 32-bit write clears the upper half, a 16-bit write keeps it.
    vcpu->state.gpr[RSP] =
        mask == UINT16_MAX ? (old & ~mask) | (stack->pointer & mask) : stack->pointer & mask;
}
