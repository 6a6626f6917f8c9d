// SPDX-License-Identifier: Apache-2.0
//
// Tier 0: the stack. The width of the stack pointer follows SS.B (64 bits in 64-bit code), the width of what is pushed the
// operand size; RSP changes last, so that a fault leaves it.
#include "machine/engine/interp_handlers.h"

static void set_stack_pointer(struct vcpu *vcpu, uint64_t value)
{
    gpr_write(vcpu, RSP, stack_address_bytes(vcpu), value);
}

int interp_push_value(struct vcpu *vcpu, unsigned bytes, uint64_t value)
{
    unsigned width = stack_address_bytes(vcpu);
    uint64_t top = (vcpu->state.gpr[RSP] - bytes) & size_mask(width);
    if (memory_write(vcpu, SEG_SS, top, bytes, value))
        return INTERP_FAULT;
    gpr_write(vcpu, RSP, width, top);
    return INTERP_DONE;
}

int interp_pop_value(struct vcpu *vcpu, unsigned bytes, uint64_t *value)
{
    unsigned width = stack_address_bytes(vcpu);
    if (memory_read(vcpu, SEG_SS, gpr_read(vcpu, RSP, width), bytes, value))
        return INTERP_FAULT;
    gpr_write(vcpu, RSP, width, vcpu->state.gpr[RSP] + bytes);
    return INTERP_DONE;
}

int interp_push(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t value;
    if (operand_read(vcpu, bound, 0, &value))
        return INTERP_FAULT;
    return interp_push_value(vcpu, bound->insn.operand_size, value);
}

// A memory destination is addressed with the stack pointer after the pop.
int interp_pop(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t value, old_rsp = vcpu->state.gpr[RSP];
    if (interp_pop_value(vcpu, bound->insn.operand_size, &value))
        return INTERP_FAULT;
    if (operand_write(vcpu, bound, 0, value)) {
        vcpu->state.gpr[RSP] = old_rsp;
        return INTERP_FAULT;
    }
    return INTERP_DONE;
}

// The selector's upper bytes: zero here (older processors left the memory alone).
int interp_push_seg(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return interp_push_value(vcpu, bound->insn.operand_size,
                             vcpu->state.segment[bound->insn.reg].selector);
}

int interp_pop_seg(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t value, old_rsp = vcpu->state.gpr[RSP];
    // Popping into SS may change the width of the stack pointer: RSP is advanced with the old one.
    if (interp_pop_value(vcpu, bound->insn.operand_size, &value))
        return INTERP_FAULT;
    if (segment_load(vcpu, (enum segment_name)bound->insn.reg, (uint16_t)value)) {
        vcpu->state.gpr[RSP] = old_rsp;
        return INTERP_FAULT;
    }
    if (bound->insn.reg == SEG_SS)
        vcpu->state.interrupt_shadow = SHADOW_MOV_SS;
    return INTERP_DONE;
}

int interp_pusha(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned bytes = bound->insn.operand_size, width = stack_address_bytes(vcpu);
    uint64_t old_rsp = vcpu->state.gpr[RSP];
    // The lowest word is written first: if the stack does not reach, nothing above matters to anybody.
    for (unsigned i = 0; i < 8; i++) {
        uint64_t at = (old_rsp - (i + 1) * bytes) & size_mask(width);
        if (memory_write(vcpu, SEG_SS, at, bytes, vcpu->state.gpr[i]))
            return INTERP_FAULT;
    }
    set_stack_pointer(vcpu, old_rsp - 8 * bytes);
    return INTERP_DONE;
}

int interp_popa(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned bytes = bound->insn.operand_size, width = stack_address_bytes(vcpu);
    uint64_t rsp = vcpu->state.gpr[RSP], words[8];
    for (unsigned i = 0; i < 8; i++)
        if (memory_read(vcpu, SEG_SS, (rsp + i * bytes) & size_mask(width), bytes, &words[i]))
            return INTERP_FAULT;
    for (unsigned i = 0; i < 8; i++) // the first word is EDI's; ESP's is skipped
        if (7 - i != RSP)
            gpr_write(vcpu, 7 - i, bytes, words[i]);
    set_stack_pointer(vcpu, rsp + 8 * bytes);
    return INTERP_DONE;
}

// Virtual-8086 mode below IOPL 3: #GP, or with CR4.VME and 16-bit operands the virtual interrupt flag (SDM vol. 3, 20.2.6).
static bool flags_restricted(const struct vcpu *vcpu)
{
    return (vcpu->state.rflags & FLAG_VM) && (vcpu->state.rflags & FLAG_IOPL) != FLAG_IOPL;
}

int interp_pushf(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned bytes = bound->insn.operand_size;
    uint64_t flags = vcpu->state.rflags & ~(uint64_t)(FLAG_VM | FLAG_RF);
    if (flags_restricted(vcpu)) {
        if (!(vcpu->state.cr4 & CR4_VME) || bytes != 2)
            return raise_gp(vcpu, 0);
        flags = (flags & ~(uint64_t)FLAG_IF) | FLAG_IOPL | (flags & FLAG_VIF ? FLAG_IF : 0);
    }
    return interp_push_value(vcpu, bytes, flags);
}

// Which flags POPF may change (SDM vol. 2, POPF).
static uint64_t popf_changeable(const struct vcpu *vcpu, unsigned bytes)
{
    const struct cpu_state *cpu = &vcpu->state;
    unsigned iopl = (cpu->rflags & FLAG_IOPL) >> 12;
    unsigned cpl = engine_cpu_of((struct vcpu *)vcpu)->cpl;
    uint64_t mask = FLAGS_STATUS | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID;
    if (!cpu_in_protected_mode(cpu)) // real mode all, virtual-8086 mode all but IOPL
        mask |= FLAG_IF | (cpu->rflags & FLAG_VM ? 0 : FLAG_IOPL);
    else
        mask |= (cpl <= iopl ? FLAG_IF : 0) | (cpl == 0 ? FLAG_IOPL : 0);
    return bytes == 2 ? mask & 0xffff : mask;
}

// The 16-bit POPF of virtual-8086 mode with CR4.VME: IF goes to VIF.
static int popf_virtual(struct vcpu *vcpu, uint64_t value)
{
    uint64_t *flags = &vcpu->state.rflags;
    if ((value & FLAG_TF) || ((value & FLAG_IF) && (*flags & FLAG_VIP)))
        return raise_gp(vcpu, 0);
    uint64_t mask = (FLAGS_STATUS | FLAG_DF | FLAG_NT) & 0xffff;
    *flags =
        (*flags & ~(mask | FLAG_VIF | FLAG_TF)) | (value & mask) | (value & FLAG_IF ? FLAG_VIF : 0);
    return INTERP_DONE;
}

int interp_popf(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned bytes = bound->insn.operand_size;
    uint64_t value, old_rsp = vcpu->state.gpr[RSP];
    bool restricted = flags_restricted(vcpu);
    if (restricted && (!(vcpu->state.cr4 & CR4_VME) || bytes != 2))
        return raise_gp(vcpu, 0);
    if (interp_pop_value(vcpu, bytes, &value))
        return INTERP_FAULT;
    if (restricted) {
        int result = popf_virtual(vcpu, value);
        if (result)
            vcpu->state.gpr[RSP] = old_rsp;
        else
            engine_flags_changed(vcpu);
        return result;
    }
    uint64_t mask = popf_changeable(vcpu, bytes);
    uint64_t kept = vcpu->state.rflags & ~(mask | FLAG_RF);
    if (bytes != 2 && !(vcpu->state.rflags & FLAG_VM))
        kept &= ~(uint64_t)(FLAG_VIP | FLAG_VIF);
    vcpu->state.rflags = kept | (value & mask) | FLAG_FIXED1;
    engine_flags_changed(vcpu);
    return INTERP_DONE;
}

int interp_leave(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned width = stack_address_bytes(vcpu);
    uint64_t value, frame = gpr_read(vcpu, RBP, width);
    if (memory_read(vcpu, SEG_SS, frame, bound->insn.operand_size, &value))
        return INTERP_FAULT;
    gpr_write(vcpu, RSP, width, frame + bound->insn.operand_size);
    gpr_write(vcpu, RBP, bound->insn.operand_size, value);
    return INTERP_DONE;
}

// SDM vol. 2, ENTER: the old frame pointer, then `level - 1` frame pointers of enclosing procedures, then the new one.
int interp_enter(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned bytes = bound->insn.operand_size, width = stack_address_bytes(vcpu);
    unsigned level = bound->insn.immediate2 & 31;
    uint64_t mask = size_mask(width), rsp = vcpu->state.gpr[RSP], rbp = vcpu->state.gpr[RBP], word;
    rsp -= bytes;
    if (memory_write(vcpu, SEG_SS, rsp & mask, bytes, rbp))
        return INTERP_FAULT;
    uint64_t frame = rsp;
    for (unsigned i = 1; i < level; i++) {
        rbp -= bytes;
        rsp -= bytes;
        if (memory_read(vcpu, SEG_SS, rbp & mask, bytes, &word) ||
            memory_write(vcpu, SEG_SS, rsp & mask, bytes, word))
            return INTERP_FAULT;
    }
    if (level > 0) {
        rsp -= bytes;
        if (memory_write(vcpu, SEG_SS, rsp & mask, bytes, frame))
            return INTERP_FAULT;
    }
    rsp -= bound->insn.immediate & 0xffff;
    // The new top must be writable, though nothing is written there.
    struct gva top;
    if (segment_linear(vcpu, SEG_SS, rsp & mask, 1, SEGMENT_WRITE, &top) ||
        mmu_probe(vcpu, top, 1, MMU_WRITE, MMU_NORMAL))
        return INTERP_FAULT;
    gpr_write(vcpu, RSP, width, rsp);
    gpr_write(vcpu, RBP, bytes, frame);
    return INTERP_DONE;
}
