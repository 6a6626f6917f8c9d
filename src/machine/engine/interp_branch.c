// SPDX-License-Identifier: Apache-2.0
//
// Tier 0: control flow. Near transfers set engine_cpu.next_rip; far ones are done by segment and privilege code
// (system.h), which sets state.rip itself.
#include "machine/engine/interp_handlers.h"

// Take a near branch: the target is cut to the operand size and must lie within the code segment, or be canonical.
static int branch_to(struct vcpu *vcpu, const struct bound_insn *bound, uint64_t target)
{
    struct engine_cpu *cpu = engine_cpu_of(vcpu);
    if (bound->insn.operand_size != 8)
        target &= size_mask(bound->insn.operand_size);
    if (cpu->code_mode == CODE_64 ? !address_is_canonical(vcpu, target)
                                  : target > vcpu->state.segment[SEG_CS].limit)
        return raise_gp(vcpu, 0);
    cpu->next_rip = target;
    return INTERP_DONE;
}

static int branch_relative(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return branch_to(vcpu, bound, vcpu->state.rip + bound->insn.length + bound->insn.immediate);
}

int interp_jmp(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return branch_relative(vcpu, bound);
}

int interp_jcc(struct vcpu *vcpu, const struct bound_insn *bound)
{
    if (!condition_holds(vcpu->state.rflags, bound->insn.opcode))
        return INTERP_DONE;
    return branch_relative(vcpu, bound);
}

int interp_jmp_indirect(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t target;
    if (operand_read(vcpu, bound, 0, &target))
        return INTERP_FAULT;
    return branch_to(vcpu, bound, target);
}

int interp_jcxz(struct vcpu *vcpu, const struct bound_insn *bound)
{
    if (gpr_read(vcpu, RCX, bound->insn.address_size))
        return INTERP_DONE;
    return branch_relative(vcpu, bound);
}

static int loop_if(struct vcpu *vcpu, const struct bound_insn *bound, bool condition)
{
    unsigned width = bound->insn.address_size;
    uint64_t count = (vcpu->state.gpr[RCX] - 1) & size_mask(width);
    if (count && condition && branch_relative(vcpu, bound))
        return INTERP_FAULT;
    gpr_write(vcpu, RCX, width, count);
    return INTERP_DONE;
}

int interp_loop(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return loop_if(vcpu, bound, true);
}

int interp_loope(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return loop_if(vcpu, bound, vcpu->state.rflags & FLAG_ZF);
}

int interp_loopne(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return loop_if(vcpu, bound, !(vcpu->state.rflags & FLAG_ZF));
}

// The target is checked before the push, and next_rip means nothing to a push that faults.
static int call_to(struct vcpu *vcpu, const struct bound_insn *bound, uint64_t target)
{
    uint64_t return_rip = engine_cpu_of(vcpu)->next_rip;
    if (branch_to(vcpu, bound, target))
        return INTERP_FAULT;
    return interp_push_value(vcpu, bound->insn.operand_size, return_rip);
}

int interp_call(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return call_to(vcpu, bound, vcpu->state.rip + bound->insn.length + bound->insn.immediate);
}

int interp_call_indirect(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t target;
    if (operand_read(vcpu, bound, 0, &target))
        return INTERP_FAULT;
    return call_to(vcpu, bound, target);
}

int interp_ret(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t target, old_rsp = vcpu->state.gpr[RSP];
    if (interp_pop_value(vcpu, bound->insn.operand_size, &target))
        return INTERP_FAULT;
    if (branch_to(vcpu, bound, target)) {
        vcpu->state.gpr[RSP] = old_rsp;
        return INTERP_FAULT;
    }
    if (bound->insn.immediate_bytes)
        gpr_write(vcpu, RSP, stack_address_bytes(vcpu),
                  vcpu->state.gpr[RSP] + (uint16_t)bound->insn.immediate);
    return INTERP_DONE;
}

// ---- Far ----

// A far transfer that succeeded has set state.rip.
static int landed(struct vcpu *vcpu, int result)
{
    if (result)
        return INTERP_FAULT;
    engine_cpu_of(vcpu)->next_rip = vcpu->state.rip;
    return INTERP_DONE;
}

struct far_pointer {
    uint64_t offset;
    uint16_t selector;
};

// In memory: the offset, then the selector.
static int read_far_pointer(struct vcpu *vcpu, const struct bound_insn *bound,
                            struct far_pointer *pointer)
{
    unsigned bytes = bound->insn.operand_size;
    uint8_t image[10] = {0};
    if (memory_read_bytes(vcpu, bound->insn.segment, effective_address(vcpu, bound), image,
                          bytes + 2))
        return INTERP_FAULT;
    pointer->offset = load_le64(image) & size_mask(bytes);
    pointer->selector = load_le16(image + bytes);
    return INTERP_DONE;
}

int interp_jmp_far(struct vcpu *vcpu, const struct bound_insn *bound)
{
    const struct insn *insn = &bound->insn;
    return landed(vcpu,
                  far_jump(vcpu, insn->immediate2, insn->immediate & size_mask(insn->operand_size),
                           insn->operand_size, engine_cpu_of(vcpu)->next_rip));
}

int interp_jmp_far_indirect(struct vcpu *vcpu, const struct bound_insn *bound)
{
    struct far_pointer to;
    if (read_far_pointer(vcpu, bound, &to))
        return INTERP_FAULT;
    return landed(vcpu, far_jump(vcpu, to.selector, to.offset, bound->insn.operand_size,
                                 engine_cpu_of(vcpu)->next_rip));
}

int interp_call_far(struct vcpu *vcpu, const struct bound_insn *bound)
{
    const struct insn *insn = &bound->insn;
    return landed(vcpu,
                  far_call(vcpu, insn->immediate2, insn->immediate & size_mask(insn->operand_size),
                           insn->operand_size, engine_cpu_of(vcpu)->next_rip));
}

int interp_call_far_indirect(struct vcpu *vcpu, const struct bound_insn *bound)
{
    struct far_pointer to;
    if (read_far_pointer(vcpu, bound, &to))
        return INTERP_FAULT;
    return landed(vcpu, far_call(vcpu, to.selector, to.offset, bound->insn.operand_size,
                                 engine_cpu_of(vcpu)->next_rip));
}

int interp_ret_far(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint16_t extra = bound->insn.immediate_bytes ? (uint16_t)bound->insn.immediate : 0;
    return landed(vcpu, far_return(vcpu, bound->insn.operand_size, extra));
}

int interp_iret(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return landed(vcpu,
                  interrupt_return(vcpu, bound->insn.operand_size, engine_cpu_of(vcpu)->next_rip));
}

int interp_syscall(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return landed(vcpu, system_syscall(vcpu, engine_cpu_of(vcpu)->next_rip));
}

int interp_sysret(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return landed(vcpu, system_sysret(vcpu, bound->insn.operand_size));
}

int interp_sysenter(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return landed(vcpu, system_sysenter(vcpu));
}

int interp_sysexit(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return landed(vcpu, system_sysexit(vcpu, bound->insn.operand_size));
}

// ---- Software interrupts ----

int interp_int(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return raise_software_interrupt(vcpu, (uint8_t)bound->insn.immediate, true);
}

int interp_int3(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return raise_software_interrupt(vcpu, EXC_BP, false);
}

int interp_into(struct vcpu *vcpu, const struct bound_insn *bound)
{
    if (!(vcpu->state.rflags & FLAG_OF))
        return INTERP_DONE;
    return raise_software_interrupt(vcpu, EXC_OF, false);
}

int interp_int1(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return raise_software_interrupt(vcpu, EXC_DB, false);
}

int interp_bound(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned bytes = bound->insn.operand_size, unused_bits = 64 - 8 * bytes;
    uint8_t image[16] = {0};
    if (memory_read_bytes(vcpu, bound->insn.segment, effective_address(vcpu, bound), image,
                          2 * bytes))
        return INTERP_FAULT;
    int64_t index = (int64_t)(vcpu->state.gpr[bound->insn.reg] << unused_bits) >> unused_bits;
    int64_t low = (int64_t)(load_le64(image) << unused_bits) >> unused_bits;
    int64_t high = (int64_t)(load_le64(image + bytes) << unused_bits) >> unused_bits;
    return index < low || index > high ? raise_exception(vcpu, EXC_BR) : INTERP_DONE;
}
