// SPDX-License-Identifier: Apache-2.0
//
// Task switches (SDM vol. 3, 7.3). Up to the commit point everything can fail without a trace; after it the new task is the current one
// and faults (#TS mostly, for its segments) are its own, before its first instruction.
#include "base/bits.h"
#include "machine/engine/descriptor.h"
#include "machine/engine/exception.h"
#include "machine/engine/mmu.h"
#include "machine/engine/stack.h"
#include "machine/engine/system.h"

// Where fields stand in the two kinds of TSS (figures 7-2 and 7-10). Segments: ES CS SS DS, in the 32-bit one FS GS too.
struct tss_layout {
    unsigned bytes; // least size
    unsigned field_bytes, segment_stride, segment_count;
    uint32_t cr3, eip, flags, gpr, segments, ldt, trap;
};
static const struct tss_layout layout16 = {44, 2, 2, 4, 0, 14, 16, 18, 34, 42, 0};
static const struct tss_layout layout32 = {104, 4, 4, 6, 28, 32, 36, 40, 72, 96, 100};

struct task {
    uint32_t cr3, eip, flags, gpr[8];
    uint16_t selector[6], ldt;
    bool trap;
};

static const struct tss_layout *layout_of(const struct segment *tss)
{
    return tss->attributes & 8 ? &layout32 : &layout16;
}

static int copy_out(struct vcpu *vcpu, const struct segment *tss, uint32_t offset, uint32_t value,
                    unsigned size)
{
    return mmu_write(vcpu, gva((uint32_t)(tss->base + offset)), &value, size, MMU_IMPLICIT);
}

static uint32_t field_at(const uint8_t *image, uint32_t offset, unsigned size)
{
    return size == 4 ? load_le32(image + offset) : load_le16(image + offset);
}

static int read_task(struct vcpu *vcpu, const struct segment *tss, struct task *task)
{
    const struct tss_layout *layout = layout_of(tss);
    unsigned size = layout->field_bytes;
    uint8_t image[104] = {0};

    for (unsigned at = 0; at < layout->bytes; at += 4) {
        if (mmu_read(vcpu, gva((uint32_t)(tss->base + at)), image + at, 4, MMU_IMPLICIT) != 0)
            return -1;
    }
    *task = (struct task){
        .cr3 = layout->cr3 ? load_le32(image + layout->cr3) : 0,
        .eip = field_at(image, layout->eip, size),
        .flags = field_at(image, layout->flags, size),
        .ldt = load_le16(image + layout->ldt),
        .trap = layout->trap && (image[layout->trap] & 1),
    };
    for (unsigned i = 0; i < 8; i++)
        task->gpr[i] = field_at(image, layout->gpr + i * size, size) | (size == 2 ? 0xFFFF0000 : 0);
    for (unsigned i = 0; i < layout->segment_count; i++)
        task->selector[i] = load_le16(image + layout->segments + i * layout->segment_stride);
    return 0;
}

static int save_task(struct vcpu *vcpu, uint64_t rip, uint64_t flags)
{
    const struct cpu_state *cpu = &vcpu->state;
    const struct segment *tss = &cpu->segment[SEG_TR];
    const struct tss_layout *layout = layout_of(tss);
    unsigned size = layout->field_bytes;

    if (mmu_probe(vcpu, gva((uint32_t)tss->base), layout->bytes, MMU_WRITE, MMU_IMPLICIT) != 0 ||
        copy_out(vcpu, tss, layout->eip, (uint32_t)rip, size) != 0 ||
        copy_out(vcpu, tss, layout->flags, (uint32_t)flags, size) != 0)
        return -1;
    for (unsigned i = 0; i < 8; i++) {
        if (copy_out(vcpu, tss, layout->gpr + i * size, (uint32_t)cpu->gpr[i], size) != 0)
            return -1;
    }
    for (unsigned i = 0; i < layout->segment_count; i++) {
        uint32_t at = layout->segments + i * layout->segment_stride;
        if (copy_out(vcpu, tss, at, cpu->segment[i].selector, 2) != 0)
            return -1;
    }
    return 0;
}

// The TSS that is switched to: free, or for IRET busy.
static int read_target(struct vcpu *vcpu, uint16_t selector, enum task_switch_kind kind,
                       struct descriptor *tss)
{
    enum exception vector = kind == TASK_IRET ? EXC_TS : EXC_GP;
    unsigned busy = kind == TASK_IRET ? SYSTEM_BUSY : 0;

    if (selector_is_null(selector) || (selector & 4))
        return raise_exception_error(vcpu, vector, selector & ~3u);
    if (descriptor_read(vcpu, selector, vector, tss) != 0)
        return -1;
    unsigned type = descriptor_type(tss);
    if ((tss->segment.attributes & SEG_S) ||
        (type != (SYSTEM_TSS | busy) && type != (SYSTEM_TSS16 | busy)))
        return raise_exception_error(vcpu, vector, selector & ~3u);
    if (!descriptor_present(tss))
        return raise_exception_error(vcpu, EXC_NP, selector & ~3u);
    if (tss->segment.limit < layout_of(&tss->segment)->bytes - 1)
        return raise_exception_error(vcpu, EXC_TS, selector & ~3u);
    return 0;
}

static int release_old(struct vcpu *vcpu)
{
    struct descriptor old;

    if (descriptor_read(vcpu, vcpu->state.segment[SEG_TR].selector, EXC_TS, &old) != 0)
        return -1;
    return descriptor_set_busy(vcpu, &old, false);
}

static void load_registers(struct vcpu *vcpu, const struct descriptor *tss, const struct task *task,
                           bool nested)
{
    struct cpu_state *cpu = &vcpu->state;

    cpu->segment[SEG_TR] = tss->segment;
    cpu->segment[SEG_TR].attributes |= SYSTEM_BUSY;
    cpu->cr0 |= CR0_TS;
    if (engine_cpu_of(vcpu)->paging && layout_of(&tss->segment)->cr3 && cpu->cr3 != task->cr3) {
        cpu->cr3 = task->cr3;
        mmu_flush_non_global(vcpu);
    }
    cpu->rip = task->eip;
    cpu->rflags = (task->flags & 0x3F7FD5) | FLAG_FIXED1 | (nested ? FLAG_NT : 0);
    for (unsigned i = 0; i < 8; i++)
        cpu->gpr[i] = task->gpr[i];
    if (task->trap)
        engine_cpu_of(vcpu)->debug_hits |= DR6_BT;
    cpu->dr7 &= ~0x55ull; // local breakpoints
    for (unsigned i = 0; i < SEG_LDTR; i++)
        cpu->segment[i] =
            (struct segment){.selector = task->selector[i], .attributes = SEG_UNUSABLE};
}

// ---- The new task's segments: every failure is #TS(selector), absence #NP or #SS ----

static int load_ldt(struct vcpu *vcpu, uint16_t selector)
{
    struct descriptor ldt;

    segment_load_null(vcpu, SEG_LDTR, selector);
    if (selector_is_null(selector))
        return 0;
    if (selector & 4)
        return raise_exception_error(vcpu, EXC_TS, selector & ~3u);
    if (descriptor_read(vcpu, selector, EXC_TS, &ldt) != 0)
        return -1;
    if ((ldt.segment.attributes & SEG_S) || descriptor_type(&ldt) != SYSTEM_LDT ||
        !descriptor_present(&ldt))
        return raise_exception_error(vcpu, EXC_TS, selector & ~3u);
    vcpu->state.segment[SEG_LDTR] = ldt.segment;
    return 0;
}

static int load_code(struct vcpu *vcpu, uint16_t selector, struct descriptor *code)
{
    unsigned rpl = selector & 3u;

    if (selector_is_null(selector))
        return raise_exception_error(vcpu, EXC_TS, 0);
    if (descriptor_read(vcpu, selector, EXC_TS, code) != 0)
        return -1;
    bool allowed =
        descriptor_is_conforming(code) ? descriptor_dpl(code) <= rpl : descriptor_dpl(code) == rpl;
    if (!descriptor_is_code(code) || !allowed)
        return raise_exception_error(vcpu, EXC_TS, selector & ~3u);
    if (!descriptor_present(code))
        return raise_exception_error(vcpu, EXC_NP, selector & ~3u);
    return descriptor_set_accessed(vcpu, code);
}

static int load_data(struct vcpu *vcpu, enum segment_name name, uint16_t selector)
{
    struct engine_exception *exception = &engine_cpu_of(vcpu)->exception;

    if (segment_load(vcpu, name, selector) == 0)
        return 0;
    if (exception->vector == EXC_GP)
        exception->vector = EXC_TS;
    return -1;
}

static int load_segments(struct vcpu *vcpu, const struct task *task)
{
    static const enum segment_name data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    struct cpu_state *cpu = &vcpu->state;
    struct descriptor code, stack;

    if (load_ldt(vcpu, task->ldt) != 0)
        return -1;
    if (cpu->rflags & FLAG_VM) {
        for (unsigned i = 0; i < SEG_LDTR; i++)
            segment_load_real(vcpu, (enum segment_name)i, task->selector[i]);
        return 0;
    }
    unsigned cpl = task->selector[SEG_CS] & 3u;
    cpu->segment[SEG_SS].attributes |= cpl << SEG_DPL_SHIFT; // the CPL from here on
    if (load_code(vcpu, task->selector[SEG_CS], &code) != 0 ||
        stack_segment_read(vcpu, task->selector[SEG_SS], cpl, EXC_TS, &stack) != 0)
        return -1;
    cpu->segment[SEG_CS] = code.segment;
    cpu->segment[SEG_SS] = stack.segment;
    engine_mode_changed(vcpu);
    for (unsigned i = 0; i < ARRAY_LENGTH(data); i++) {
        if (load_data(vcpu, data[i], task->selector[data[i]]) != 0)
            return -1;
    }
    if (cpu->rip > cpu->segment[SEG_CS].limit)
        return raise_gp(vcpu, 0);
    return 0;
}

static int push_error(struct vcpu *vcpu, unsigned size, uint32_t error)
{
    struct stack stack = stack_current(vcpu);

    if (stack_push(vcpu, &stack, error, size) != 0)
        return -1;
    stack_commit(vcpu, &stack);
    return 0;
}

int task_switch(struct vcpu *vcpu, uint16_t selector, enum task_switch_kind kind, uint64_t next_rip,
                bool has_error, uint32_t error)
{
    struct cpu_state *cpu = &vcpu->state;
    bool nested = kind == TASK_CALL || kind == TASK_INTERRUPT;
    uint16_t old_selector = cpu->segment[SEG_TR].selector;
    struct descriptor tss;
    struct task task;

    if (read_target(vcpu, selector, kind, &tss) != 0 || read_task(vcpu, &tss.segment, &task) != 0 ||
        save_task(vcpu, next_rip,
                  kind == TASK_IRET ? cpu->rflags & ~(uint64_t)FLAG_NT : cpu->rflags) != 0 ||
        (!nested && release_old(vcpu) != 0) ||
        (nested && copy_out(vcpu, &tss.segment, 0, old_selector, 2) != 0) ||
        (kind != TASK_IRET && descriptor_set_busy(vcpu, &tss, true) != 0))
        return -1;
    // Commit point.
    load_registers(vcpu, &tss, &task, nested);
    int result = load_segments(vcpu, &task);
    engine_mode_changed(vcpu);
    if (result == 0 && has_error)
        result = push_error(vcpu, layout_of(&tss.segment)->field_bytes, error);
    return result;
}
