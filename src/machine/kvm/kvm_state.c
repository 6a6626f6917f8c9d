// SPDX-License-Identifier: Apache-2.0
//
// Registers and pending events of a vCPU between the architecture's form and KVM's.
//
// An interrupt that KVM has taken from the local APIC and not yet delivered is remembered when the state is fetched, and put back with it. The saved form
// has no place for it: it is given back when the machine is saved and every CPU stands still (kvm_apic.c). While another CPU or a device can still send
// interrupts, the APIC's page must not be read and written: what came in between would be lost.
#define LOG_MODULE "kvm"
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "machine/cpu/lapic.h"
#include "machine/kvm/kvm_internal.h"

#define XSAVE_HEADER      512
#define EXCEPTION_VECTORS 32

static void segment_to_kvm(const struct segment *from, struct kvm_segment *to)
{
    uint32_t a = from->attributes;
    *to = (struct kvm_segment){
        .base = from->base,
        .limit = from->limit,
        .selector = from->selector,
        .type = a & SEG_TYPE_MASK,
        .s = !!(a & SEG_S),
        .dpl = (uint8_t)((a & SEG_DPL_MASK) >> SEG_DPL_SHIFT),
        .present = !!(a & SEG_P),
        .avl = !!(a & SEG_AVL),
        .l = !!(a & SEG_L),
        .db = !!(a & SEG_DB),
        .g = !!(a & SEG_G),
        .unusable = !!(a & SEG_UNUSABLE),
    };
    if (to->unusable)
        to->present = 0;
}

static void segment_from_kvm(const struct kvm_segment *from, struct segment *to)
{
    *to = (struct segment){
        .base = from->base,
        .limit = from->limit,
        .selector = from->selector,
        .attributes = (from->type & SEG_TYPE_MASK) | (from->s ? SEG_S : 0u) |
                      (uint32_t)(from->dpl & 3) << SEG_DPL_SHIFT | (from->present ? SEG_P : 0u) |
                      (from->avl ? SEG_AVL : 0u) | (from->l ? SEG_L : 0u) |
                      (from->db ? SEG_DB : 0u) | (from->g ? SEG_G : 0u),
    };
    if (from->unusable)
        to->attributes |= SEG_UNUSABLE;
}

// The order of enum segment_name.
static void segments_of(struct kvm_sregs *sregs, struct kvm_segment *segments[SEG_COUNT])
{
    segments[SEG_ES] = &sregs->es;
    segments[SEG_CS] = &sregs->cs;
    segments[SEG_SS] = &sregs->ss;
    segments[SEG_DS] = &sregs->ds;
    segments[SEG_FS] = &sregs->fs;
    segments[SEG_GS] = &sregs->gs;
    segments[SEG_LDTR] = &sregs->ldt;
    segments[SEG_TR] = &sregs->tr;
}

// The order of enum gpr.
static void registers_of(struct kvm_regs *regs, __u64 *gpr[GPR_COUNT])
{
    __u64 *const all[GPR_COUNT] = {&regs->rax, &regs->rcx, &regs->rdx, &regs->rbx,
                                   &regs->rsp, &regs->rbp, &regs->rsi, &regs->rdi,
                                   &regs->r8,  &regs->r9,  &regs->r10, &regs->r11,
                                   &regs->r12, &regs->r13, &regs->r14, &regs->r15};
    memcpy(gpr, all, sizeof(all));
}

// ---- Fetch

static int fetch_registers(int fd, struct cpu_state *state)
{
    struct kvm_regs regs;
    __u64 *gpr[GPR_COUNT];
    int failed = os_kvm(fd, KVM_GET_REGS, &regs);
    if (failed)
        return failed;
    registers_of(&regs, gpr);
    for (unsigned i = 0; i < GPR_COUNT; i++)
        state->gpr[i] = *gpr[i];
    state->rip = regs.rip;
    state->rflags = regs.rflags;
    return 0;
}

static int fetch_system(int fd, struct cpu_state *state)
{
    struct kvm_sregs sregs;
    struct kvm_segment *segments[SEG_COUNT];
    int failed = os_kvm(fd, KVM_GET_SREGS, &sregs);
    if (failed)
        return failed;
    segments_of(&sregs, segments);
    for (unsigned i = 0; i < SEG_COUNT; i++)
        segment_from_kvm(segments[i], &state->segment[i]);
    state->gdtr = (struct descriptor_table){sregs.gdt.base, sregs.gdt.limit};
    state->idtr = (struct descriptor_table){sregs.idt.base, sregs.idt.limit};
    state->cr0 = sregs.cr0;
    state->cr2 = sregs.cr2;
    state->cr3 = sregs.cr3;
    state->cr4 = sregs.cr4;
    state->cr8 = sregs.cr8;
    state->efer = sregs.efer;
    state->apic_base = sregs.apic_base;
    return 0;
}

static int fetch_extended(int fd, struct cpu_state *state)
{
    struct kvm_xsave xsave;
    struct kvm_xcrs xcrs;
    struct kvm_debugregs debug;
    int failed = os_kvm(fd, KVM_GET_XSAVE, &xsave);
    if (!failed)
        failed = os_kvm(fd, KVM_GET_XCRS, &xcrs);
    if (!failed)
        failed = os_kvm(fd, KVM_GET_DEBUGREGS, &debug);
    if (failed)
        return failed;
    memcpy(state->xsave, xsave.region, XSAVE_BYTES);
    // Components that the guest's CPU does not have are as after reset.
    store_le64(state->xsave + XSAVE_HEADER,
               load_le64(state->xsave + XSAVE_HEADER) & XCR0_SUPPORTED);
    for (unsigned i = 0; i < xcrs.nr_xcrs && i < KVM_MAX_XCRS; i++)
        if (xcrs.xcrs[i].xcr == 0)
            state->xcr0 = xcrs.xcrs[i].value;
    for (unsigned i = 0; i < 4; i++)
        state->dr[i] = debug.db[i];
    state->dr6 = debug.dr6;
    state->dr7 = debug.dr7;
    return 0;
}

static void take_exception(const struct kvm_vcpu_events *events, struct cpu_state *state)
{
    bool waits = events->exception.injected || events->exception.pending;
    state->pending_exception = waits ? events->exception.nr : EXC_NONE;
    state->pending_has_error = waits && events->exception.has_error_code;
    state->pending_error = state->pending_has_error ? events->exception.error_code : 0;
}

static uint8_t run_state_of(uint32_t mp_state)
{
    switch (mp_state) {
    case KVM_MP_STATE_RUNNABLE:
    case KVM_MP_STATE_SIPI_RECEIVED:
        return CPU_RUNNING;
    case KVM_MP_STATE_HALTED:
        return CPU_HALTED;
    default:
        return CPU_WAIT_FOR_SIPI;
    }
}

static int fetch_events(struct vcpu *vcpu, int fd)
{
    struct cpu_state *state = &vcpu->state;
    struct kvm_vcpu_events events;
    struct kvm_mp_state mp;
    int failed = os_kvm(fd, KVM_GET_VCPU_EVENTS, &events);
    if (!failed)
        failed = os_kvm(fd, KVM_GET_MP_STATE, &mp);
    if (failed)
        return failed;
    take_exception(&events, state);
    state->interrupt_shadow = events.interrupt.shadow & KVM_X86_SHADOW_INT_STI      ? SHADOW_STI
                              : events.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS ? SHADOW_MOV_SS
                                                                                    : SHADOW_NONE;
    state->nmi_pending = events.nmi.pending || events.nmi.injected;
    state->nmi_blocked = events.nmi.masked && !events.nmi.injected;
    state->sipi_vector = (uint8_t)events.sipi_vector;
    state->run_state = run_state_of(mp.mp_state);
    kvm_vcpu_of(vcpu)->injected = events.interrupt.injected ? events.interrupt.nr : -1;
    return 0;
}

int kvm_fetch_state(struct vcpu *vcpu)
{
    int fd = kvm_vcpu_of(vcpu)->fd;
    int failed = fetch_registers(fd, &vcpu->state);
    if (!failed)
        failed = fetch_system(fd, &vcpu->state);
    if (!failed)
        failed = fetch_extended(fd, &vcpu->state);
    if (!failed)
        failed = kvm_fetch_msrs(vcpu);
    if (!failed)
        failed = fetch_events(vcpu, fd);
    if (failed)
        log_error("the state of vCPU %u cannot be read from KVM: %s", vcpu->index,
                  strerror(-failed));
    return failed;
}

// ---- Put

static int put_registers(int fd, const struct cpu_state *state)
{
    struct kvm_regs regs;
    __u64 *gpr[GPR_COUNT];
    registers_of(&regs, gpr);
    for (unsigned i = 0; i < GPR_COUNT; i++)
        *gpr[i] = state->gpr[i];
    regs.rip = state->rip;
    regs.rflags = state->rflags;
    return os_kvm(fd, KVM_SET_REGS, &regs);
}

static int put_system(int fd, const struct cpu_state *state)
{
    struct kvm_sregs sregs = {
        .gdt = {.base = state->gdtr.base, .limit = state->gdtr.limit},
        .idt = {.base = state->idtr.base, .limit = state->idtr.limit},
        .cr0 = state->cr0,
        .cr2 = state->cr2,
        .cr3 = state->cr3,
        .cr4 = state->cr4,
        .cr8 = state->cr8,
        .efer = state->efer,
        .apic_base = state->apic_base,
    };
    struct kvm_segment *segments[SEG_COUNT];
    segments_of(&sregs, segments);
    for (unsigned i = 0; i < SEG_COUNT; i++)
        segment_to_kvm(&state->segment[i], segments[i]);
    return os_kvm(fd, KVM_SET_SREGS, &sregs);
}

static int put_extended(int fd, const struct cpu_state *state)
{
    struct kvm_xsave xsave = {0};
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = state->xcr0}}};
    struct kvm_debugregs debug = {.dr6 = state->dr6, .dr7 = state->dr7};
    for (unsigned i = 0; i < 4; i++)
        debug.db[i] = state->dr[i];
    memcpy(xsave.region, state->xsave, XSAVE_BYTES);
    int failed = os_kvm(fd, KVM_SET_XCRS, &xcrs);
    if (!failed)
        failed = os_kvm(fd, KVM_SET_XSAVE, &xsave);
    return failed ? failed : os_kvm(fd, KVM_SET_DEBUGREGS, &debug);
}

// A CPU that waits for its SIPI has had its INIT.
static uint32_t mp_state_of(uint8_t run_state)
{
    return run_state == CPU_HALTED          ? KVM_MP_STATE_HALTED
           : run_state == CPU_WAIT_FOR_SIPI ? KVM_MP_STATE_INIT_RECEIVED
                                            : KVM_MP_STATE_RUNNABLE;
}

// A pending vector beyond the exceptions is an interrupt that was acknowledged by a PIC.
static int put_events(const struct kvm_vcpu *kvm, const struct cpu_state *state)
{
    bool pending = state->pending_exception != EXC_NONE;
    bool exception = pending && state->pending_exception < EXCEPTION_VECTORS;
    int vector = pending && !exception ? state->pending_exception : kvm->injected;
    struct kvm_vcpu_events events = {
        .flags = KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_NMI_PENDING,
        .exception = {.injected = exception,
                      .nr = exception ? state->pending_exception : 0,
                      .has_error_code = state->pending_has_error,
                      .error_code = state->pending_error},
        .nmi = {.pending = state->nmi_pending, .masked = state->nmi_blocked},
        .interrupt.injected = vector >= 0,
        .interrupt.nr = vector >= 0 ? (uint8_t)vector : 0,
        .interrupt.shadow = state->interrupt_shadow == SHADOW_STI      ? KVM_X86_SHADOW_INT_STI
                            : state->interrupt_shadow == SHADOW_MOV_SS ? KVM_X86_SHADOW_INT_MOV_SS
                                                                       : 0,
    };
    struct kvm_mp_state mp = {.mp_state = mp_state_of(state->run_state)};
    int failed = os_kvm(kvm->fd, KVM_SET_VCPU_EVENTS, &events);
    return failed ? failed : os_kvm(kvm->fd, KVM_SET_MP_STATE, &mp);
}

int kvm_put_state(struct vcpu *vcpu)
{
    struct kvm_vcpu *kvm = kvm_vcpu_of(vcpu);
    int failed = put_registers(kvm->fd, &vcpu->state);
    if (!failed)
        failed = put_system(kvm->fd, &vcpu->state);
    if (!failed)
        failed = put_extended(kvm->fd, &vcpu->state);
    if (!failed)
        failed = kvm_put_msrs(vcpu);
    if (!failed)
        failed = put_events(kvm, &vcpu->state);
    kvm->dirty &= ~(unsigned)KVM_DIRTY_STATE;
    if (failed)
        log_error("KVM does not take the state of vCPU %u: %s", vcpu->index, strerror(-failed));
    return failed;
}
