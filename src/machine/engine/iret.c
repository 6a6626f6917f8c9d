// SPDX-License-Identifier: Apache-2.0
//
// IRET in all its forms (SDM vol. 2, IRET): real mode, out of and into virtual-8086 mode, same and outer privilege, back to
// the previous task (NT), and 64-bit code, which always pops SS:RSP.
#include "base/bits.h"
#include "machine/engine/exception.h"
#include "machine/engine/far.h"
#include "machine/engine/stack.h"

#define FLAGS_ALWAYS (FLAGS_STATUS | FLAG_TF | FLAG_DF | FLAG_NT)
#define FLAGS_WIDE   (FLAG_RF | FLAG_AC | FLAG_ID)

// The flags that IRET may change in protected mode at the privilege that executes it.
static uint64_t changeable_flags(const struct vcpu *vcpu, unsigned operand_size)
{
    unsigned cpl = cpu_cpl(&vcpu->state), iopl = (unsigned)(vcpu->state.rflags & FLAG_IOPL) >> 12;
    uint64_t flags = FLAGS_ALWAYS;

    if (operand_size > 2)
        flags |= FLAGS_WIDE;
    if (cpl <= iopl)
        flags |= FLAG_IF;
    if (cpl == 0)
        flags |= FLAG_IOPL | (operand_size > 2 ? FLAG_VIF | FLAG_VIP : 0);
    return flags;
}

static void load_flags(struct vcpu *vcpu, uint64_t image, uint64_t mask)
{
    vcpu->state.rflags = (vcpu->state.rflags & ~mask) | (image & mask) | FLAG_FIXED1;
}

struct frame {
    uint64_t rip, cs, flags;
};

static int pop_frame(struct vcpu *vcpu, struct stack *stack, unsigned size, struct frame *frame)
{
    if (stack_pop(vcpu, stack, &frame->rip, size) != 0 ||
        stack_pop(vcpu, stack, &frame->cs, size) != 0)
        return -1;
    return stack_pop(vcpu, stack, &frame->flags, size);
}

// Real mode, and virtual-8086 mode with IOPL 3, which keeps IOPL.
static int return_real(struct vcpu *vcpu, unsigned size)
{
    struct cpu_state *cpu = &vcpu->state;
    bool virtual_8086 = (cpu->rflags & FLAG_VM) != 0;
    struct stack stack = stack_current(vcpu);
    struct frame frame;

    if (virtual_8086 && (cpu->rflags & FLAG_IOPL) != FLAG_IOPL)
        return raise_gp(vcpu, 0);
    if (pop_frame(vcpu, &stack, size, &frame) != 0)
        return -1;
    if (frame.rip > cpu->segment[SEG_CS].limit)
        return raise_gp(vcpu, 0);
    stack_commit(vcpu, &stack);
    segment_load_real(vcpu, SEG_CS, (uint16_t)frame.cs);
    cpu->rip = frame.rip;
    load_flags(vcpu, frame.flags,
               FLAGS_ALWAYS | FLAG_IF | (virtual_8086 ? 0 : FLAG_IOPL) |
                   (size > 2 ? FLAGS_WIDE : 0));
    return 0;
}

static int return_to_virtual_8086(struct vcpu *vcpu, struct stack *stack, const struct frame *frame)
{
    static const enum segment_name names[] = {SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    struct cpu_state *cpu = &vcpu->state;
    uint64_t rsp, selectors[ARRAY_LENGTH(names)];

    if (stack_pop(vcpu, stack, &rsp, 4) != 0)
        return -1;
    for (unsigned i = 0; i < ARRAY_LENGTH(names); i++) {
        if (stack_pop(vcpu, stack, &selectors[i], 4) != 0)
            return -1;
    }
    if (frame->rip > 0xFFFF)
        return raise_gp(vcpu, 0);
    load_flags(vcpu, frame->flags,
               FLAGS_ALWAYS | FLAGS_WIDE | FLAG_IF | FLAG_IOPL | FLAG_VM | FLAG_VIF | FLAG_VIP);
    segment_load_real(vcpu, SEG_CS, (uint16_t)frame->cs);
    for (unsigned i = 0; i < ARRAY_LENGTH(names); i++)
        segment_load_real(vcpu, names[i], (uint16_t)selectors[i]);
    cpu->gpr[RSP] = rsp;
    cpu->rip = frame->rip & 0xFFFF;
    return 0;
}

static int return_protected(struct vcpu *vcpu, unsigned size)
{
    struct cpu_state *cpu = &vcpu->state;
    unsigned old_cpl = engine_cpu_of(vcpu)->cpl;
    bool from_64bit = engine_cpu_of(vcpu)->code_mode == 64;
    uint64_t mask = changeable_flags(vcpu, size), rsp = 0, ss = 0;
    struct stack stack = stack_current(vcpu);
    struct segment segment;
    struct descriptor code;
    struct frame frame;

    if (pop_frame(vcpu, &stack, size, &frame) != 0)
        return -1;
    if (size > 2 && (frame.flags & FLAG_VM) && old_cpl == 0 && !cpu_in_long_mode(cpu))
        return return_to_virtual_8086(vcpu, &stack, &frame);
    if (far_read_return_code(vcpu, (uint16_t)frame.cs, &code) != 0)
        return -1;
    unsigned cpl = frame.cs & 3;
    bool with_stack = from_64bit || cpl != old_cpl;
    if (with_stack &&
        (stack_pop(vcpu, &stack, &rsp, size) != 0 || stack_pop(vcpu, &stack, &ss, size) != 0 ||
         far_read_return_stack(vcpu, (uint16_t)ss, &code, &segment) != 0))
        return -1;
    if (code_segment_enter(vcpu, &code, cpl, frame.rip) != 0)
        return -1;
    load_flags(vcpu, frame.flags, mask);
    if (with_stack) {
        cpu->segment[SEG_SS] = segment;
        stack = (struct stack){.segment = segment, .pointer = rsp, .wide = cpu_in_64bit_code(cpu)};
    }
    stack_commit(vcpu, &stack);
    if (cpl != old_cpl)
        far_drop_inner_segments(vcpu, cpl);
    return 0;
}

static int return_to_task(struct vcpu *vcpu, uint64_t next_rip)
{
    uint16_t selector;

    if (cpu_in_long_mode(&vcpu->state))
        return raise_gp(vcpu, 0);
    if (tss_read_link(vcpu, &selector) != 0)
        return -1;
    return task_switch(vcpu, selector, TASK_IRET, next_rip, false, 0);
}

int interrupt_return(struct vcpu *vcpu, unsigned operand_size, uint64_t next_rip)
{
    const struct cpu_state *cpu = &vcpu->state;
    int result;

    if (!cpu_in_protected_mode(cpu))
        result = return_real(vcpu, operand_size);
    else if (cpu->rflags & FLAG_NT)
        result = return_to_task(vcpu, next_rip);
    else
        result = return_protected(vcpu, operand_size);
    if (result != 0)
        return -1;
    vcpu->state.nmi_blocked = false;
    atomic_fetch_or(&vcpu->events, vcpu->state.nmi_pending ? VCPU_EVENT_NMI : 0);
    engine_mode_changed(vcpu);
    return 0;
}
