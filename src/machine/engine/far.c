// SPDX-License-Identifier: Apache-2.0
//
// Far jumps, calls and returns (SDM vol. 2, JMP, CALL, RET; vol. 3, 5.8). IRET is in iret.c.
#include "machine/engine/far.h"
#include "base/bits.h"
#include "machine/engine/descriptor.h"
#include "machine/engine/exception.h"
#include "machine/engine/mmu_access.h"
#include "machine/engine/stack.h"

static int enter_real(struct vcpu *vcpu, uint16_t selector, uint64_t offset)
{
    if (offset > vcpu->state.segment[SEG_CS].limit)
        return raise_gp(vcpu, 0);
    segment_load_real(vcpu, SEG_CS, selector);
    vcpu->state.rip = offset;
    return 0;
}

// ---- Call gates ----

struct call_gate {
    uint16_t selector;
    uint64_t offset;
    unsigned parameters;
    unsigned size; // of what is pushed
};

static int read_gate(struct vcpu *vcpu, struct descriptor *descriptor, struct call_gate *gate)
{
    uint64_t raw = descriptor->raw;
    uint16_t selector = descriptor->segment.selector;
    bool long_mode = cpu_in_long_mode(&vcpu->state);

    if (descriptor_dpl(descriptor) < engine_cpu_of(vcpu)->cpl ||
        descriptor_dpl(descriptor) < (selector & 3u))
        return raise_gp(vcpu, selector & ~3u);
    if (!descriptor_present(descriptor))
        return raise_exception_error(vcpu, EXC_NP, selector & ~3u);
    if (long_mode && descriptor_read_upper(vcpu, descriptor) != 0)
        return -1;
    bool wide = descriptor_type(descriptor) == SYSTEM_CALL_GATE;
    *gate = (struct call_gate){
        .selector = (uint16_t)(raw >> 16),
        .offset = (raw & 0xFFFF) | (wide ? raw >> 32 & 0xFFFF0000 : 0) | descriptor->upper << 32,
        .parameters = long_mode ? 0 : raw >> 32 & 31,
        .size = long_mode ? 8
                : wide    ? 4
                          : 2,
    };
    return 0;
}

// The gate's target. In long mode it is 64-bit code.
static int read_gate_target(struct vcpu *vcpu, const struct call_gate *gate,
                            struct descriptor *code)
{
    if (selector_is_null(gate->selector))
        return raise_gp(vcpu, 0);
    if (descriptor_read(vcpu, gate->selector, EXC_GP, code) != 0)
        return -1;
    if (!descriptor_is_code(code) || descriptor_dpl(code) > engine_cpu_of(vcpu)->cpl)
        return raise_gp(vcpu, gate->selector & ~3u);
    if (cpu_in_long_mode(&vcpu->state) && (code->segment.attributes & (SEG_L | SEG_DB)) != SEG_L)
        return raise_gp(vcpu, gate->selector & ~3u);
    if (!descriptor_present(code))
        return raise_exception_error(vcpu, EXC_NP, gate->selector & ~3u);
    return 0;
}

static bool is_call_gate(const struct vcpu *vcpu, const struct descriptor *descriptor)
{
    unsigned type = descriptor_type(descriptor);

    return !(descriptor->segment.attributes & SEG_S) &&
           (type == SYSTEM_CALL_GATE ||
            (type == SYSTEM_CALL_GATE16 && !cpu_in_long_mode(&vcpu->state)));
}

// A TSS or a task gate: a task switch where there are such (not in long mode).
static int through_task(struct vcpu *vcpu, const struct descriptor *descriptor,
                        enum task_switch_kind kind, uint64_t next_rip)
{
    uint16_t selector = descriptor->segment.selector;
    unsigned type = descriptor_type(descriptor);
    bool gate = type == SYSTEM_TASK_GATE;

    if (cpu_in_long_mode(&vcpu->state) || (descriptor->segment.attributes & SEG_S) ||
        (!gate && type != SYSTEM_TSS && type != SYSTEM_TSS16))
        return raise_gp(vcpu, selector & ~3u);
    if (descriptor_dpl(descriptor) < engine_cpu_of(vcpu)->cpl ||
        descriptor_dpl(descriptor) < (selector & 3u))
        return raise_gp(vcpu, selector & ~3u);
    if (!descriptor_present(descriptor))
        return raise_exception_error(vcpu, EXC_NP, selector & ~3u);
    return task_switch(vcpu, gate ? (uint16_t)(descriptor->raw >> 16) : selector, kind, next_rip,
                       false, 0);
}

// ---- JMP ----

static int jump_protected(struct vcpu *vcpu, uint16_t selector, uint64_t offset, uint64_t next_rip)
{
    unsigned cpl = engine_cpu_of(vcpu)->cpl;
    struct descriptor code;
    struct call_gate gate;

    if (selector_is_null(selector))
        return raise_gp(vcpu, 0);
    if (descriptor_read(vcpu, selector, EXC_GP, &code) != 0)
        return -1;
    if (code.segment.attributes & SEG_S)
        return code_segment_check(vcpu, &code, cpl, true) != 0
                   ? -1
                   : code_segment_enter(vcpu, &code, cpl, offset);
    if (!is_call_gate(vcpu, &code))
        return through_task(vcpu, &code, TASK_JUMP, next_rip);
    if (read_gate(vcpu, &code, &gate) != 0 || read_gate_target(vcpu, &gate, &code) != 0)
        return -1;
    if (!descriptor_is_conforming(&code) &&
        descriptor_dpl(&code) != cpl) // a jump changes no privilege
        return raise_gp(vcpu, gate.selector & ~3u);
    return code_segment_enter(vcpu, &code, cpl, gate.offset);
}

int far_jump(struct vcpu *vcpu, uint16_t selector, uint64_t offset, unsigned operand_size,
             uint64_t next_rip)
{
    int result = cpu_in_protected_mode(&vcpu->state)
                     ? jump_protected(vcpu, selector, offset, next_rip)
                     : enter_real(vcpu, selector, offset);
    if (result == 0)
        engine_mode_changed(vcpu);
    return result;
}

// ---- CALL ----

static int push_return(struct vcpu *vcpu, struct stack *stack, uint64_t return_rip, unsigned size)
{
    if (stack_push(vcpu, stack, vcpu->state.segment[SEG_CS].selector, size) != 0)
        return -1;
    return stack_push(vcpu, stack, return_rip, size);
}

static int call_same(struct vcpu *vcpu, struct descriptor *code, uint64_t offset, unsigned size,
                     uint64_t return_rip)
{
    struct stack stack = stack_current(vcpu);

    // Pushed in the width of the stack that was, or of 64-bit code that is entered by a gate.
    if (size == 8)
        stack.wide = true;
    if (push_return(vcpu, &stack, return_rip, size) != 0 ||
        code_segment_enter(vcpu, code, engine_cpu_of(vcpu)->cpl, offset) != 0)
        return -1;
    stack_commit(vcpu, &stack);
    return 0;
}

// To an inner level in long mode: RSP from the TSS, a null SS.
static int call_inner_long(struct vcpu *vcpu, struct descriptor *code, const struct call_gate *gate,
                           unsigned cpl, uint64_t return_rip)
{
    struct cpu_state *cpu = &vcpu->state;
    uint64_t rsp;

    if (tss_read_rsp(vcpu, cpl, &rsp) != 0)
        return -1;
    struct stack stack = stack_wide(vcpu, rsp, cpl);
    if (stack_push(vcpu, &stack, cpu->segment[SEG_SS].selector, 8) != 0 ||
        stack_push(vcpu, &stack, cpu->gpr[RSP], 8) != 0 ||
        push_return(vcpu, &stack, return_rip, 8) != 0 ||
        code_segment_enter(vcpu, code, cpl, gate->offset) != 0)
        return -1;
    cpu->segment[SEG_SS] = (struct segment){.selector = (uint16_t)cpl,
                                            .attributes = SEG_UNUSABLE | cpl << SEG_DPL_SHIFT};
    cpu->gpr[RSP] = stack.pointer;
    return 0;
}

// The parameters move from the outer stack to the inner one, in their order.
static int copy_parameters(struct vcpu *vcpu, struct stack *stack, const struct call_gate *gate)
{
    uint64_t values[31];
    struct stack outer = stack_current(vcpu);

    for (unsigned i = 0; i < gate->parameters; i++) {
        if (stack_pop(vcpu, &outer, &values[i], gate->size) != 0)
            return -1;
    }
    for (unsigned i = gate->parameters; i-- > 0;) {
        if (stack_push(vcpu, stack, values[i], gate->size) != 0)
            return -1;
    }
    return 0;
}

static int call_inner(struct vcpu *vcpu, struct descriptor *code, const struct call_gate *gate,
                      unsigned cpl, uint64_t return_rip)
{
    struct cpu_state *cpu = &vcpu->state;
    struct descriptor inner;
    uint16_t selector;
    uint32_t pointer;

    if (tss_read_stack(vcpu, cpl, &selector, &pointer) != 0 ||
        stack_segment_read(vcpu, selector, cpl, EXC_TS, &inner) != 0)
        return -1;
    struct stack stack = stack_other(vcpu, &inner.segment, pointer, cpl);
    if (stack_push(vcpu, &stack, cpu->segment[SEG_SS].selector, gate->size) != 0 ||
        stack_push(vcpu, &stack, cpu->gpr[RSP], gate->size) != 0 ||
        copy_parameters(vcpu, &stack, gate) != 0 ||
        push_return(vcpu, &stack, return_rip, gate->size) != 0 ||
        code_segment_enter(vcpu, code, cpl, gate->offset) != 0)
        return -1;
    cpu->segment[SEG_SS] = inner.segment;
    stack_commit(vcpu, &stack);
    return 0;
}

static int call_gate(struct vcpu *vcpu, struct descriptor *descriptor, uint64_t return_rip)
{
    struct call_gate gate;
    struct descriptor code;

    if (read_gate(vcpu, descriptor, &gate) != 0 || read_gate_target(vcpu, &gate, &code) != 0)
        return -1;
    unsigned dpl = descriptor_dpl(&code);
    if (descriptor_is_conforming(&code) || dpl == engine_cpu_of(vcpu)->cpl)
        return call_same(vcpu, &code, gate.offset, gate.size, return_rip);
    return cpu_in_long_mode(&vcpu->state) ? call_inner_long(vcpu, &code, &gate, dpl, return_rip)
                                          : call_inner(vcpu, &code, &gate, dpl, return_rip);
}

static int call_protected(struct vcpu *vcpu, uint16_t selector, uint64_t offset,
                          unsigned operand_size, uint64_t return_rip)
{
    struct descriptor code;

    if (selector_is_null(selector))
        return raise_gp(vcpu, 0);
    if (descriptor_read(vcpu, selector, EXC_GP, &code) != 0)
        return -1;
    if (code.segment.attributes & SEG_S) {
        if (code_segment_check(vcpu, &code, engine_cpu_of(vcpu)->cpl, true) != 0)
            return -1;
        struct stack stack = stack_current(vcpu);
        if (push_return(vcpu, &stack, return_rip, operand_size) != 0 ||
            code_segment_enter(vcpu, &code, engine_cpu_of(vcpu)->cpl, offset) != 0)
            return -1;
        stack_commit(vcpu, &stack);
        return 0;
    }
    if (is_call_gate(vcpu, &code))
        return call_gate(vcpu, &code, return_rip);
    return through_task(vcpu, &code, TASK_CALL, return_rip);
}

static int call_real(struct vcpu *vcpu, uint16_t selector, uint64_t offset, unsigned operand_size,
                     uint64_t return_rip)
{
    struct stack stack = stack_current(vcpu);

    if (push_return(vcpu, &stack, return_rip, operand_size) != 0 ||
        enter_real(vcpu, selector, offset) != 0)
        return -1;
    stack_commit(vcpu, &stack);
    return 0;
}

int far_call(struct vcpu *vcpu, uint16_t selector, uint64_t offset, unsigned operand_size,
             uint64_t return_rip)
{
    int result = cpu_in_protected_mode(&vcpu->state)
                     ? call_protected(vcpu, selector, offset, operand_size, return_rip)
                     : call_real(vcpu, selector, offset, operand_size, return_rip);
    if (result == 0)
        engine_mode_changed(vcpu);
    return result;
}

// ---- RET ----

int far_read_return_code(struct vcpu *vcpu, uint16_t selector, struct descriptor *code)
{
    unsigned rpl = selector & 3u;

    if (selector_is_null(selector))
        return raise_gp(vcpu, 0);
    if (rpl < engine_cpu_of(vcpu)->cpl)
        return raise_gp(vcpu, selector & ~3u);
    if (descriptor_read(vcpu, selector, EXC_GP, code) != 0)
        return -1;
    return code_segment_check(vcpu, code, rpl, false);
}

int far_read_return_stack(struct vcpu *vcpu, uint16_t selector, const struct descriptor *code,
                          struct segment *segment)
{
    unsigned cpl = code->segment.selector & 3u;
    bool to_64bit = cpu_in_long_mode(&vcpu->state) && (code->segment.attributes & SEG_L);
    struct descriptor stack;

    if (selector_is_null(selector) && to_64bit && cpl != 3 && (selector & 3u) == cpl) {
        *segment = (struct segment){.selector = selector,
                                    .attributes = SEG_UNUSABLE | cpl << SEG_DPL_SHIFT};
        return 0;
    }
    if (stack_segment_read(vcpu, selector, cpl, EXC_GP, &stack) != 0)
        return -1;
    *segment = stack.segment;
    return 0;
}

// Segments of an inner level must not stay loaded (SDM vol. 3, 5.8.6).
void far_drop_inner_segments(struct vcpu *vcpu, unsigned cpl)
{
    static const enum segment_name names[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

    for (unsigned i = 0; i < ARRAY_LENGTH(names); i++) {
        uint32_t attributes = vcpu->state.segment[names[i]].attributes;
        bool conforming = (attributes & (SEG_CODE | SEG_CONFORMING)) == (SEG_CODE | SEG_CONFORMING);
        unsigned dpl = (attributes & SEG_DPL_MASK) >> SEG_DPL_SHIFT;
        if (!(attributes & SEG_UNUSABLE) && !conforming && dpl < cpl)
            segment_load_null(vcpu, names[i], 0);
    }
}

static int return_outer(struct vcpu *vcpu, struct stack *stack, struct descriptor *code,
                        uint64_t rip, unsigned size, uint16_t extra)
{
    struct cpu_state *cpu = &vcpu->state;
    unsigned cpl = code->segment.selector & 3u;
    uint64_t rsp, selector;
    struct segment segment;

    stack_skip(stack, extra);
    if (stack_pop(vcpu, stack, &rsp, size) != 0 || stack_pop(vcpu, stack, &selector, size) != 0 ||
        far_read_return_stack(vcpu, (uint16_t)selector, code, &segment) != 0)
        return -1;
    if (code_segment_enter(vcpu, code, cpl, rip) != 0)
        return -1;
    cpu->segment[SEG_SS] = segment;
    struct stack outer = {.segment = segment, .pointer = rsp, .wide = cpu_in_64bit_code(cpu)};
    stack_skip(&outer, extra);
    stack_commit(vcpu, &outer);
    far_drop_inner_segments(vcpu, cpl);
    return 0;
}

static int return_protected(struct vcpu *vcpu, struct stack *stack, uint64_t rip, uint16_t selector,
                            unsigned size, uint16_t extra)
{
    struct descriptor code;

    if (far_read_return_code(vcpu, selector, &code) != 0)
        return -1;
    if ((selector & 3u) != engine_cpu_of(vcpu)->cpl)
        return return_outer(vcpu, stack, &code, rip, size, extra);
    if (code_segment_enter(vcpu, &code, selector & 3u, rip) != 0)
        return -1;
    stack_skip(stack, extra);
    stack_commit(vcpu, stack);
    return 0;
}

int far_return(struct vcpu *vcpu, unsigned operand_size, uint16_t extra_bytes)
{
    struct stack stack = stack_current(vcpu);
    uint64_t rip, selector;

    if (stack_pop(vcpu, &stack, &rip, operand_size) != 0 ||
        stack_pop(vcpu, &stack, &selector, operand_size) != 0)
        return -1;
    if (cpu_in_protected_mode(&vcpu->state)) {
        if (return_protected(vcpu, &stack, rip, (uint16_t)selector, operand_size, extra_bytes) != 0)
            return -1;
    } else {
        if (enter_real(vcpu, (uint16_t)selector, rip) != 0)
            return -1;
        stack_skip(&stack, extra_bytes);
        stack_commit(vcpu, &stack);
    }
    engine_mode_changed(vcpu);
    return 0;
}
