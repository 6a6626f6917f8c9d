// SPDX-License-Identifier: Apache-2.0
#include "machine/cpu/cpu_fields.h"

#include "base/bits.h"
#include "machine/cpu/vcpu.h"

#define U64(member)         FIELD_U64(struct cpu_state, member)
#define U8_MAX(member, max) FIELD_U8_MAX(struct cpu_state, member, max)
#define SEGMENT(name)                                                                              \
    U64(segment[name].base), FIELD_U32(struct cpu_state, segment[name].limit),                     \
        FIELD_U32_MAX(struct cpu_state, segment[name].attributes, 0x1F0FF),                        \
        FIELD_U16(struct cpu_state, segment[name].selector)

static const struct field fields[] = {
    FIELD_U64S(struct cpu_state, gpr),
    U64(rip),
    FIELD_RANGE(FIELD_TYPE_U64, struct cpu_state, rflags, 1, 0, 0x3F7FD7),
    SEGMENT(SEG_ES),
    SEGMENT(SEG_CS),
    SEGMENT(SEG_SS),
    SEGMENT(SEG_DS),
    SEGMENT(SEG_FS),
    SEGMENT(SEG_GS),
    SEGMENT(SEG_LDTR),
    SEGMENT(SEG_TR),
    U64(gdtr.base),
    FIELD_U16(struct cpu_state, gdtr.limit),
    U64(idtr.base),
    FIELD_U16(struct cpu_state, idtr.limit),
    FIELD_RANGE(FIELD_TYPE_U64, struct cpu_state, cr0, 1, 0, UINT32_MAX),
    U64(cr2),
    U64(cr3),
    FIELD_RANGE(FIELD_TYPE_U64, struct cpu_state, cr4, 1, 0, UINT32_MAX),
    FIELD_RANGE(FIELD_TYPE_U64, struct cpu_state, cr8, 1, 0, 15),
    FIELD_RANGE(FIELD_TYPE_U64, struct cpu_state, xcr0, 1, 1, XCR0_SUPPORTED),
    FIELD_RANGE(FIELD_TYPE_U64, struct cpu_state, efer, 1, 0, UINT32_MAX),
    FIELD_U64S(struct cpu_state, dr),
    FIELD_RANGE(FIELD_TYPE_U64, struct cpu_state, dr6, 1, 0, UINT32_MAX),
    FIELD_RANGE(FIELD_TYPE_U64, struct cpu_state, dr7, 1, 0, UINT32_MAX),
    U64(star),
    U64(lstar),
    U64(cstar),
    U64(sfmask),
    U64(kernel_gs_base),
    U64(sysenter_cs),
    U64(sysenter_esp),
    U64(sysenter_eip),
    U64(pat),
    U64(tsc_aux),
    U64(apic_base),
    U64(misc_enable),
    U64(spec_ctrl),
    U64(tsc_offset),
    U64(mtrr_def_type),
    FIELD_U64S(struct cpu_state, mtrr_fixed),
    FIELD_U64S(struct cpu_state, mtrr_base),
    FIELD_U64S(struct cpu_state, mtrr_mask),
    U64(mcg_status),
    U64(kvm_system_time),
    U64(kvm_wall_clock),
    U64(kvm_eoi),
    U64(kvm_steal_time),
    U64(kvm_poll_control),
    U64(kvm_async_pf),
    U8_MAX(run_state, CPU_RUN_STATE_COUNT - 1),
    U8_MAX(interrupt_shadow, SHADOW_COUNT - 1),
    FIELD_BOOL(struct cpu_state, nmi_blocked),
    FIELD_BOOL(struct cpu_state, nmi_pending),
    FIELD_U8(struct cpu_state, pending_exception),
    FIELD_BOOL(struct cpu_state, pending_has_error),
    FIELD_U32(struct cpu_state, pending_error),
    FIELD_U8(struct cpu_state, sipi_vector),
    FIELD_U8S(struct cpu_state, xsave),
};

// What the engine takes for granted because no instruction can bring it about otherwise.
static int check(const void *state, struct err *err)
{
    const struct cpu_state *cpu = state;
    bool paging = (cpu->cr0 & CR0_PG) != 0, long_mode = (cpu->efer & EFER_LMA) != 0;

    if (paging && !(cpu->cr0 & CR0_PE))
        return err_set(err, ERR_INPUT, "CR0 %#llx has paging without protection",
                       (unsigned long long)cpu->cr0);
    if (long_mode != (paging && (cpu->efer & EFER_LME)))
        return err_set(err, ERR_INPUT, "EFER %#llx does not go with CR0 %#llx",
                       (unsigned long long)cpu->efer, (unsigned long long)cpu->cr0);
    if (long_mode && !(cpu->cr4 & CR4_PAE))
        return err_set(err, ERR_INPUT, "CR4 %#llx lacks PAE in long mode",
                       (unsigned long long)cpu->cr4);
    if ((cpu->rflags & FLAG_VM) && (long_mode || cpu_cpl(cpu) != 3))
        return err_set(err, ERR_INPUT, "RFLAGS %#llx has VM where it cannot be",
                       (unsigned long long)cpu->rflags);
    if (load_le32(cpu->xsave + 24) >> 16)
        return err_set(err, ERR_INPUT, "MXCSR %#x has reserved bits", load_le32(cpu->xsave + 24));
    if (load_le64(cpu->xsave + 512) & ~(uint64_t)XCR0_SUPPORTED)
        return err_set(err, ERR_INPUT, "the extended state has components %#llx",
                       (unsigned long long)load_le64(cpu->xsave + 512));
    return 0;
}

static void reset(void *device)
{
    struct vcpu *vcpu = device;
    cpu_state_reset(&vcpu->state, false, vcpu->index == 0);
    vcpu_state_changed(vcpu);
}

static void loaded(void *device)
{
    vcpu_state_changed(device);
}

const struct device_ops cpu_device_ops = {
    .kind = "cpu",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
    .reset = reset,
    .check = check,
    .loaded = loaded,
};
_Static_assert(offsetof(struct vcpu, state) == 0,
               "the fields are the state's, the callbacks take the vCPU");
