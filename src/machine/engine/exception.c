// SPDX-License-Identifier: Apache-2.0
//
// Raising and delivering exceptions and interrupts (SDM vol. 3, chapter 6).
//
// Delivery computes everything first (gate, code segment, stack, pushes) and changes CS, SS, RIP, RSP and RFLAGS only when nothing can
// fail any more. A fault on the way leaves the vCPU as it was and is combined with the first one by the double fault rules. The EXT bit of
// error codes is added in one place: faults while delivering anything but a software interrupt have it.
#include "machine/engine/exception.h"

#include "base/bits.h"
#include "machine/engine/descriptor.h"
#include "machine/engine/mmu_access.h"
#include "machine/engine/stack.h"
#include "machine/engine/trace.h"
#include "machine/engine/tss.h"

#define ERROR_EXT 1u
#define ERROR_IDT 2u

void exception_record(struct vcpu *vcpu, struct engine_exception exception)
{
    engine_cpu_of(vcpu)->exception = exception;
}

int raise_software_interrupt(struct vcpu *vcpu, uint8_t vector, bool checked)
{
    const struct cpu_state *cpu = &vcpu->state;

    if (checked && (cpu->rflags & FLAG_VM) && (cpu->rflags & FLAG_IOPL) != FLAG_IOPL)
        return raise_gp(vcpu, 0);
    engine_cpu_of(vcpu)->exception = (struct engine_exception){.vector = vector, .software = true};
    return -1;
}

// ---- What is being delivered ----

struct delivery {
    uint8_t vector;
    bool has_error, software, fault; // fault: RF is set in the pushed flags
    uint32_t error;
    uint64_t rip; // to be pushed
};

struct gate {
    unsigned type;
    unsigned dpl;
    bool present;
    uint16_t selector;
    uint64_t offset;
    unsigned ist;
};

// Fault-class exceptions; #DB is none of them: its handler must see RF as it was.
static bool is_fault(uint8_t vector)
{
    const uint32_t faults = BIT(EXC_DE) | BIT(EXC_BR) | BIT(EXC_UD) | BIT(EXC_NM) | BIT(EXC_TS) |
                            BIT(EXC_NP) | BIT(EXC_SS) | BIT(EXC_GP) | BIT(EXC_PF) | BIT(EXC_MF) |
                            BIT(EXC_AC) | BIT(EXC_XM);
    return vector < 32 && (faults >> vector & 1);
}

static uint64_t flags_to_push(const struct vcpu *vcpu, const struct delivery *delivery)
{
    return vcpu->state.rflags | (delivery->fault ? FLAG_RF : 0);
}

static void change_flags(struct vcpu *vcpu, bool clear_if, uint64_t clear)
{
    vcpu->state.rflags &= ~(clear | (clear_if ? FLAG_IF : 0));
}

static uint32_t idt_error(const struct delivery *delivery)
{
    return delivery->vector * 8u + ERROR_IDT;
}

// ---- Real mode ----

static int deliver_real(struct vcpu *vcpu, const struct delivery *delivery)
{
    struct cpu_state *cpu = &vcpu->state;
    struct stack stack = stack_current(vcpu);
    uint32_t pointer;

    if (delivery->vector * 4u + 3 > cpu->idtr.limit)
        return raise_gp(vcpu, idt_error(delivery));
    if (mmu_read(vcpu, gva(cpu->idtr.base + delivery->vector * 4u), &pointer, 4, MMU_IMPLICIT) !=
            0 ||
        stack_push(vcpu, &stack, cpu->rflags, 2) != 0 ||
        stack_push(vcpu, &stack, cpu->segment[SEG_CS].selector, 2) != 0 ||
        stack_push(vcpu, &stack, delivery->rip, 2) != 0)
        return -1;
    stack_commit(vcpu, &stack);
    segment_load_real(vcpu, SEG_CS, (uint16_t)(pointer >> 16));
    cpu->rip = pointer & 0xFFFF;
    change_flags(vcpu, true, FLAG_TF | FLAG_RF | FLAG_AC);
    return 0;
}

// ---- Protected and long mode ----

static int read_gate(struct vcpu *vcpu, const struct delivery *delivery, struct gate *gate)
{
    const struct cpu_state *cpu = &vcpu->state;
    bool wide = cpu_in_long_mode(cpu);
    unsigned bytes = wide ? 16 : 8;
    uint64_t raw[2] = {0, 0};

    if (delivery->vector * bytes + bytes - 1 > cpu->idtr.limit)
        return raise_gp(vcpu, idt_error(delivery));
    struct gva at = gva(cpu->idtr.base + delivery->vector * bytes);
    if (!wide)
        at.at &= UINT32_MAX;
    if (mmu_read(vcpu, at, raw, bytes, MMU_IMPLICIT) != 0)
        return -1;
    *gate = (struct gate){
        .type = raw[0] >> 40 & 0x1F,
        .dpl = raw[0] >> 45 & 3,
        .present = raw[0] >> 47 & 1,
        .selector = (uint16_t)(raw[0] >> 16),
        .offset = (raw[0] & 0xFFFF) | (raw[0] >> 32 & 0xFFFF0000) | raw[1] << 32,
        .ist = wide ? raw[0] >> 32 & 7 : 0,
    };
    return 0;
}

static int check_gate(struct vcpu *vcpu, const struct delivery *delivery, const struct gate *gate)
{
    uint32_t wide_types = (uint32_t)(BIT(SYSTEM_INTERRUPT_GATE) | BIT(SYSTEM_TRAP_GATE));
    uint32_t types = (uint32_t)(wide_types | BIT(SYSTEM_INTERRUPT_GATE16) |
                                BIT(SYSTEM_TRAP_GATE16) | BIT(SYSTEM_TASK_GATE));

    if (!((cpu_in_long_mode(&vcpu->state) ? wide_types : types) >> gate->type & 1))
        return raise_gp(vcpu, idt_error(delivery));
    if (delivery->software && gate->dpl < engine_cpu_of(vcpu)->cpl)
        return raise_gp(vcpu, idt_error(delivery));
    if (!gate->present)
        return raise_exception_error(vcpu, EXC_NP, idt_error(delivery));
    return 0;
}

// The handler's code segment and privilege.
static int read_target(struct vcpu *vcpu, const struct gate *gate, struct descriptor *code,
                       unsigned *cpl)
{
    const struct cpu_state *cpu = &vcpu->state;
    unsigned old_cpl = engine_cpu_of(vcpu)->cpl;
    uint32_t error = gate->selector & ~3u;

    if (selector_is_null(gate->selector))
        return raise_gp(vcpu, 0);
    if (descriptor_read(vcpu, gate->selector, EXC_GP, code) != 0)
        return -1;
    if (!descriptor_is_code(code) || descriptor_dpl(code) > old_cpl)
        return raise_gp(vcpu, error);
    if (cpu_in_long_mode(cpu) && (code->segment.attributes & (SEG_L | SEG_DB)) != SEG_L)
        return raise_gp(vcpu, error);
    if (!descriptor_present(code))
        return raise_exception_error(vcpu, EXC_NP, error);
    *cpl = descriptor_is_conforming(code) ? old_cpl : descriptor_dpl(code);
    if ((cpu->rflags & FLAG_VM) && *cpl != 0)
        return raise_gp(vcpu, error);
    return 0;
}

static bool gate_clears_if(const struct gate *gate)
{
    return (gate->type & 1) == 0;
}

static int push_all(struct vcpu *vcpu, struct stack *stack, const uint64_t *values, unsigned count,
                    unsigned size)
{
    for (unsigned i = 0; i < count; i++) {
        if (stack_push(vcpu, stack, values[i], size) != 0)
            return -1;
    }
    return 0;
}

static int deliver_long(struct vcpu *vcpu, const struct delivery *delivery, const struct gate *gate)
{
    struct cpu_state *cpu = &vcpu->state;
    struct descriptor code;
    unsigned cpl;
    uint64_t rsp = cpu->gpr[RSP];

    if (read_target(vcpu, gate, &code, &cpl) != 0)
        return -1;
    bool inner = cpl != engine_cpu_of(vcpu)->cpl;
    if (gate->ist ? tss_read_ist(vcpu, gate->ist, &rsp) != 0
                  : inner && tss_read_rsp(vcpu, cpl, &rsp) != 0)
        return -1;
    struct stack stack = stack_wide(vcpu, rsp & ~15ull, cpl);
    const uint64_t frame[] = {
        cpu->segment[SEG_SS].selector, cpu->gpr[RSP], flags_to_push(vcpu, delivery),
        cpu->segment[SEG_CS].selector, delivery->rip, delivery->error};
    if (push_all(vcpu, &stack, frame, delivery->has_error ? 6 : 5, 8) != 0 ||
        code_segment_enter(vcpu, &code, cpl, gate->offset) != 0)
        return -1;
    cpu->gpr[RSP] = stack.pointer;
    if (inner)
        cpu->segment[SEG_SS] = (struct segment){.selector = (uint16_t)cpl,
                                                .attributes = SEG_UNUSABLE | cpl << SEG_DPL_SHIFT};
    change_flags(vcpu, gate_clears_if(gate), FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM);
    return 0;
}

// Out of virtual-8086 mode the data segments go onto the new stack too, and become null.
static int push_virtual_8086(struct vcpu *vcpu, struct stack *stack, unsigned size)
{
    const struct segment *segment = vcpu->state.segment;
    const uint64_t selectors[] = {segment[SEG_GS].selector, segment[SEG_FS].selector,
                                  segment[SEG_DS].selector, segment[SEG_ES].selector};
    return push_all(vcpu, stack, selectors, ARRAY_LENGTH(selectors), size);
}

static int deliver_inner(struct vcpu *vcpu, const struct delivery *delivery,
                         const struct gate *gate, struct descriptor *code, unsigned cpl)
{
    struct cpu_state *cpu = &vcpu->state;
    bool virtual_8086 = (cpu->rflags & FLAG_VM) != 0;
    unsigned size = gate->type & 8 ? 4 : 2;
    struct descriptor inner;
    uint16_t selector;
    uint32_t pointer;

    if (tss_read_stack(vcpu, cpl, &selector, &pointer) != 0 ||
        stack_segment_read(vcpu, selector, cpl, EXC_TS, &inner) != 0)
        return -1;
    struct stack stack = stack_other(vcpu, &inner.segment, pointer, cpl);
    const uint64_t frame[] = {
        cpu->segment[SEG_SS].selector, cpu->gpr[RSP], flags_to_push(vcpu, delivery),
        cpu->segment[SEG_CS].selector, delivery->rip, delivery->error};
    if ((virtual_8086 && push_virtual_8086(vcpu, &stack, size) != 0) ||
        push_all(vcpu, &stack, frame, delivery->has_error ? 6 : 5, size) != 0 ||
        code_segment_enter(vcpu, code, cpl, gate->offset) != 0)
        return -1;
    cpu->segment[SEG_SS] = inner.segment;
    stack_commit(vcpu, &stack);
    for (unsigned name = 0; virtual_8086 && name < SEG_LDTR; name++) {
        if (name != SEG_CS && name != SEG_SS)
            segment_load_null(vcpu, (enum segment_name)name, 0);
    }
    return 0;
}

static int deliver_protected(struct vcpu *vcpu, const struct delivery *delivery,
                             const struct gate *gate)
{
    struct cpu_state *cpu = &vcpu->state;
    unsigned size = gate->type & 8 ? 4 : 2, cpl;
    struct descriptor code;

    if (read_target(vcpu, gate, &code, &cpl) != 0)
        return -1;
    uint64_t offset = size == 2 ? gate->offset & 0xFFFF : (uint32_t)gate->offset;
    struct gate target = *gate;
    target.offset = offset;
    if (cpl != engine_cpu_of(vcpu)->cpl) {
        if (deliver_inner(vcpu, delivery, &target, &code, cpl) != 0)
            return -1;
    } else {
        struct stack stack = stack_current(vcpu);
        const uint64_t frame[] = {flags_to_push(vcpu, delivery), cpu->segment[SEG_CS].selector,
                                  delivery->rip, delivery->error};
        if (push_all(vcpu, &stack, frame, delivery->has_error ? 4 : 3, size) != 0 ||
            code_segment_enter(vcpu, &code, cpl, offset) != 0)
            return -1;
        stack_commit(vcpu, &stack);
    }
    change_flags(vcpu, gate_clears_if(gate), FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM);
    return 0;
}

static int deliver_once(struct vcpu *vcpu, const struct delivery *delivery)
{
    struct gate gate = {0};

    if (!(vcpu->state.cr0 & CR0_PE))
        return deliver_real(vcpu, delivery);
    if (read_gate(vcpu, delivery, &gate) != 0 || check_gate(vcpu, delivery, &gate) != 0)
        return -1;
    if (cpu_in_long_mode(&vcpu->state))
        return deliver_long(vcpu, delivery, &gate);
    if (gate.type == SYSTEM_TASK_GATE)
        return task_switch(vcpu, gate.selector, TASK_INTERRUPT, delivery->rip, delivery->has_error,
                           delivery->error);
    return deliver_protected(vcpu, delivery, &gate);
}

// ---- Faults while delivering ----

static bool is_contributory(uint8_t vector)
{
    return vector == EXC_DE || (vector >= EXC_TS && vector <= EXC_GP);
}

enum consequence { DELIVER_SECOND, DELIVER_DOUBLE_FAULT, SHUT_DOWN };

// SDM vol. 3, table 6-5. `first` is EXC_NONE for what is no exception of the guest: interrupts and INT n.
static enum consequence combine(uint8_t first, uint8_t second)
{
    bool second_is_serious = is_contributory(second) || second == EXC_PF;

    if (first == EXC_DF && second_is_serious)
        return SHUT_DOWN;
    if (is_contributory(first) && is_contributory(second))
        return DELIVER_DOUBLE_FAULT;
    if (first == EXC_PF && second_is_serious)
        return DELIVER_DOUBLE_FAULT;
    return DELIVER_SECOND;
}

// What an exception changes besides the transfer of control.
static void note_exception(struct vcpu *vcpu, const struct engine_exception *exception)
{
    struct cpu_state *cpu = &vcpu->state;

    if (exception->software)
        return;
    if (exception->vector == EXC_PF)
        cpu->cr2 = exception->cr2;
    if (exception->vector == EXC_DB) {
        cpu->dr6 = (cpu->dr6 & ~DR6_BREAKPOINTS) | exception->dr6;
        cpu->dr7 &= ~DR7_GD;
    }
}

// The delivery of `exception` (already taken out of the context), then of what goes wrong on the way.
static int deliver(struct vcpu *vcpu, struct engine_exception exception, bool is_exception,
                   uint64_t rip)
{
    struct engine_cpu *engine = engine_cpu_of(vcpu);

    for (;;) {
        struct delivery delivery = {
            .vector = exception.vector,
            .has_error = exception.has_error && (vcpu->state.cr0 & CR0_PE),
            .software = exception.software,
            .fault = is_exception && !exception.software && is_fault(exception.vector),
            .error = exception.error,
            .rip = rip,
        };
        if (is_exception)
            note_exception(vcpu, &exception);
        engine->exception.vector = EXC_NONE;
        if (deliver_once(vcpu, &delivery) == 0)
            break;
        struct engine_exception second = engine->exception;
        if (!exception.software && second.vector >= EXC_TS && second.vector <= EXC_GP)
            second.error |= ERROR_EXT;
        uint8_t first = is_exception && !exception.software ? exception.vector : EXC_NONE;
        switch (combine(first, second.vector)) {
        case DELIVER_SECOND:
            break;
        case DELIVER_DOUBLE_FAULT:
            second = (struct engine_exception){.vector = EXC_DF, .has_error = true};
            break;
        case SHUT_DOWN:
            engine->exception.vector = EXC_NONE;
            vcpu->state.run_state = CPU_SHUTDOWN;
            return -1;
        }
        exception = second;
        is_exception = true;
        rip = vcpu->state.rip; // the fault is the interrupted instruction's
    }
    vcpu->state.interrupt_shadow = SHADOW_NONE;
    engine_mode_changed(vcpu);
    return 0;
}

int exception_deliver(struct vcpu *vcpu, uint64_t next_rip)
{
    struct engine_exception exception = engine_cpu_of(vcpu)->exception;

    engine_exit(vcpu, ENGINE_EXIT_EXCEPTION);
    if (engine_traces(vcpu, TRACE_FAULTS))
        trace_exception(vcpu, &exception);
    return deliver(vcpu, exception, true, exception.software ? next_rip : vcpu->state.rip);
}

int interrupt_deliver(struct vcpu *vcpu, uint8_t vector, bool nmi)
{
    engine_exit(vcpu, ENGINE_EXIT_INTERRUPT);
    if (engine_traces(vcpu, TRACE_INTERRUPTS))
        trace_interrupt(vcpu, vector, nmi);
    if (nmi)
        vcpu->state.nmi_blocked = true;
    return deliver(vcpu, (struct engine_exception){.vector = vector}, false, vcpu->state.rip);
}
