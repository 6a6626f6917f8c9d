// SPDX-License-Identifier: Apache-2.0
//
// Tier 0: system instructions. What they mean stands in system.h's modules; here operands are fetched and results stored.
#include "machine/cpu/cpu_model.h"
#include "machine/device/vm_clock.h"
#include "machine/engine/interp_handlers.h"
#include "machine/engine/system.h"
#include "machine/engine/trace.h"

// ---- Segment registers ----

int interp_mov_from_seg(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return operand_write(vcpu, bound, 0, vcpu->state.segment[bound->insn.reg].selector);
}

int interp_mov_to_seg(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t selector;
    if (bound->insn.reg == SEG_CS || bound->insn.reg > SEG_GS)
        return raise_ud(vcpu);
    if (operand_read(vcpu, bound, 1, &selector) ||
        segment_load(vcpu, (enum segment_name)bound->insn.reg, (uint16_t)selector))
        return INTERP_FAULT;
    if (bound->insn.reg == SEG_SS)
        vcpu->state.interrupt_shadow = SHADOW_MOV_SS;
    return INTERP_DONE;
}

static int load_far(struct vcpu *vcpu, const struct bound_insn *bound, enum segment_name name)
{
    unsigned bytes = bound->insn.operand_size;
    uint8_t image[10] = {0};
    if (memory_read_bytes(vcpu, bound->insn.segment, effective_address(vcpu, bound), image,
                          bytes + 2) ||
        segment_load(vcpu, name, load_le16(image + bytes)))
        return INTERP_FAULT;
    gpr_write(vcpu, bound->operand[0].number, bytes, load_le64(image));
    return INTERP_DONE;
}

int interp_les(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return load_far(vcpu, bound, SEG_ES);
}

int interp_lds(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return load_far(vcpu, bound, SEG_DS);
}

int interp_lss(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return load_far(vcpu, bound, SEG_SS);
}

int interp_lfs(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return load_far(vcpu, bound, SEG_FS);
}

int interp_lgs(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return load_far(vcpu, bound, SEG_GS);
}

static void set_zero_flag(struct vcpu *vcpu, bool zero)
{
    vcpu->state.rflags = (vcpu->state.rflags & ~(uint64_t)FLAG_ZF) | (zero ? FLAG_ZF : 0);
}

int interp_lar(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t selector;
    uint32_t rights;
    int fault = 0;
    if (operand_read(vcpu, bound, 1, &selector))
        return INTERP_FAULT;
    bool visible = segment_lar(vcpu, (uint16_t)selector, &rights, &fault);
    if (fault)
        return INTERP_FAULT;
    set_zero_flag(vcpu, visible);
    if (visible)
        operand_write_register(vcpu, &bound->operand[0], rights);
    return INTERP_DONE;
}

int interp_lsl(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t selector;
    uint32_t limit;
    int fault = 0;
    if (operand_read(vcpu, bound, 1, &selector))
        return INTERP_FAULT;
    bool visible = segment_lsl(vcpu, (uint16_t)selector, &limit, &fault);
    if (fault)
        return INTERP_FAULT;
    set_zero_flag(vcpu, visible);
    if (visible)
        operand_write_register(vcpu, &bound->operand[0], limit);
    return INTERP_DONE;
}

static int verify(struct vcpu *vcpu, const struct bound_insn *bound, bool write)
{
    uint64_t selector;
    int fault = 0;
    if (operand_read(vcpu, bound, 0, &selector))
        return INTERP_FAULT;
    bool usable = segment_verify(vcpu, (uint16_t)selector, write, &fault);
    if (fault)
        return INTERP_FAULT;
    set_zero_flag(vcpu, usable);
    return INTERP_DONE;
}

int interp_verr(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return verify(vcpu, bound, false);
}

int interp_verw(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return verify(vcpu, bound, true);
}

int interp_arpl(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t source, selector;
    if (operand_read(vcpu, bound, 1, &source) || operand_read(vcpu, bound, 0, &selector))
        return INTERP_FAULT;
    bool raise =
        (selector & 3) < (source & 3); // else the operand is not written, and need not be writable
    if (raise && operand_write(vcpu, bound, 0, (selector & ~3ull) | (source & 3)))
        return INTERP_FAULT;
    set_zero_flag(vcpu, raise);
    return INTERP_DONE;
}

// ---- Descriptor tables, task register, machine status word ----

// CR4.UMIP: these tell user mode where kernel structures are.
static int check_umip(struct vcpu *vcpu)
{
    return (vcpu->state.cr4 & CR4_UMIP) && engine_cpu_of(vcpu)->cpl > 0 ? raise_gp(vcpu, 0) : 0;
}

int interp_sldt(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return check_umip(vcpu) ? INTERP_FAULT
                            : operand_write(vcpu, bound, 0, vcpu->state.segment[SEG_LDTR].selector);
}

int interp_str(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return check_umip(vcpu) ? INTERP_FAULT
                            : operand_write(vcpu, bound, 0, vcpu->state.segment[SEG_TR].selector);
}

int interp_smsw(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return check_umip(vcpu) ? INTERP_FAULT : operand_write(vcpu, bound, 0, vcpu->state.cr0);
}

int interp_lldt(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t selector;
    if (operand_read(vcpu, bound, 0, &selector))
        return INTERP_FAULT;
    return segment_load_ldtr(vcpu, (uint16_t)selector);
}

int interp_ltr(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t selector;
    if (operand_read(vcpu, bound, 0, &selector))
        return INTERP_FAULT;
    return segment_load_tr(vcpu, (uint16_t)selector);
}

// LMSW cannot clear PE.
int interp_lmsw(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t word, changeable = CR0_PE | CR0_MP | CR0_EM | CR0_TS;
    if (operand_read(vcpu, bound, 0, &word))
        return INTERP_FAULT;
    return system_write_cr(
        vcpu, 0, (vcpu->state.cr0 & ~(changeable & ~(uint64_t)CR0_PE)) | (word & changeable));
}

static int store_table(struct vcpu *vcpu, const struct bound_insn *bound,
                       const struct descriptor_table *table)
{
    uint8_t image[10];
    if (check_umip(vcpu))
        return INTERP_FAULT;
    store_le16(image, table->limit);
    store_le64(image + 2, table->base);
    return memory_write_bytes(vcpu, bound->insn.segment, effective_address(vcpu, bound), image,
                              bound->insn.mode == CODE_64 ? 10 : 6);
}

int interp_sgdt(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return store_table(vcpu, bound, &vcpu->state.gdtr);
}

int interp_sidt(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return store_table(vcpu, bound, &vcpu->state.idtr);
}

static int load_table(struct vcpu *vcpu, const struct bound_insn *bound,
                      struct descriptor_table *table)
{
    uint8_t image[10] = {0};
    bool long_form = bound->insn.mode == CODE_64;
    if (memory_read_bytes(vcpu, bound->insn.segment, effective_address(vcpu, bound), image,
                          long_form ? 10 : 6))
        return INTERP_FAULT;
    uint64_t base = load_le64(image + 2);
    if (!long_form && bound->insn.operand_size == 2)
        base &= 0xffffff;
    if (long_form && !address_is_canonical(vcpu, base))
        return raise_gp(vcpu, 0);
    table->limit = load_le16(image);
    table->base = base;
    return INTERP_DONE;
}

int interp_lgdt(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return load_table(vcpu, bound, &vcpu->state.gdtr);
}

int interp_lidt(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return load_table(vcpu, bound, &vcpu->state.idtr);
}

// ---- Control and debug registers, MSRs ----

int interp_mov_from_cr(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t value;
    if (system_read_cr(vcpu, bound->insn.reg, &value))
        return INTERP_FAULT;
    return operand_write(vcpu, bound, 0, value);
}

int interp_mov_to_cr(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t value;
    if (operand_read(vcpu, bound, 1, &value))
        return INTERP_FAULT;
    engine_exit(vcpu, ENGINE_EXIT_CONTROL);
    if (engine_traces(vcpu, TRACE_EXITS))
        trace_line(vcpu, "cr%u <- %llx", bound->insn.reg, (unsigned long long)value);
    return system_write_cr(vcpu, bound->insn.reg, value);
}

int interp_mov_from_dr(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t value;
    if (system_read_dr(vcpu, bound->insn.reg, &value))
        return INTERP_FAULT;
    return operand_write(vcpu, bound, 0, value);
}

int interp_mov_to_dr(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t value;
    if (operand_read(vcpu, bound, 1, &value))
        return INTERP_FAULT;
    return system_write_dr(vcpu, bound->insn.reg, value);
}

int interp_clts(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return system_write_cr(vcpu, 0, vcpu->state.cr0 & ~(uint64_t)CR0_TS);
}

static uint64_t edx_eax(const struct vcpu *vcpu)
{
    return vcpu->state.gpr[RDX] << 32 | (uint32_t)vcpu->state.gpr[RAX];
}

static void set_edx_eax(struct vcpu *vcpu, uint64_t value)
{
    vcpu->state.gpr[RAX] = (uint32_t)value;
    vcpu->state.gpr[RDX] = value >> 32;
}

int interp_rdmsr(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t value;
    engine_exit(vcpu, ENGINE_EXIT_MSR);
    engine_sync_clock(vcpu);
    if (system_read_msr(vcpu, (uint32_t)vcpu->state.gpr[RCX], &value))
        return INTERP_FAULT;
    if (engine_traces(vcpu, TRACE_EXITS))
        trace_line(vcpu, "msr %x -> %llx", (uint32_t)vcpu->state.gpr[RCX],
                   (unsigned long long)value);
    set_edx_eax(vcpu, value);
    return INTERP_DONE;
}

int interp_wrmsr(struct vcpu *vcpu, const struct bound_insn *bound)
{
    engine_exit(vcpu, ENGINE_EXIT_MSR);
    if (engine_traces(vcpu, TRACE_EXITS))
        trace_line(vcpu, "msr %x <- %llx", (uint32_t)vcpu->state.gpr[RCX],
                   (unsigned long long)edx_eax(vcpu));
    engine_sync_clock(vcpu);
    return system_write_msr(vcpu, (uint32_t)vcpu->state.gpr[RCX], edx_eax(vcpu));
}

int interp_xgetbv(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint32_t number = (uint32_t)vcpu->state.gpr[RCX];
    if (!(vcpu->state.cr4 & CR4_OSXSAVE))
        return raise_ud(vcpu);
    bool in_use = number == 1 &&
                  cpu_feature_set_has(cpu_model_features(vcpu->system->model), CPU_FEATURE_XGETBV1);
    if (number != 0 && !in_use)
        return raise_gp(vcpu, 0);
    set_edx_eax(vcpu, vcpu->state.xcr0 & (in_use ? interp_xinuse(vcpu) : ~0ull));
    return INTERP_DONE;
}

int interp_xsetbv(struct vcpu *vcpu, const struct bound_insn *bound)
{
    if (!(vcpu->state.cr4 & CR4_OSXSAVE))
        return raise_ud(vcpu);
    return system_write_xcr(vcpu, (uint32_t)vcpu->state.gpr[RCX], edx_eax(vcpu));
}

static int read_tsc(struct vcpu *vcpu)
{
    if ((vcpu->state.cr4 & CR4_TSD) && engine_cpu_of(vcpu)->cpl > 0)
        return raise_gp(vcpu, 0);
    engine_sync_clock(vcpu);
    set_edx_eax(vcpu, vm_clock_tsc(vcpu->system->clock) + vcpu->state.tsc_offset);
    return INTERP_DONE;
}

int interp_rdtsc(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return read_tsc(vcpu);
}

int interp_rdtscp(struct vcpu *vcpu, const struct bound_insn *bound)
{
    if (read_tsc(vcpu))
        return INTERP_FAULT;
    vcpu->state.gpr[RCX] = (uint32_t)vcpu->state.tsc_aux;
    return INTERP_DONE;
}

int interp_rdpid(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return operand_write(vcpu, bound, 0, (uint32_t)vcpu->state.tsc_aux);
}

// No model has performance counters.
int interp_rdpmc(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return raise_gp(vcpu, 0);
}

int interp_cpuid(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t *gpr = vcpu->state.gpr;
    struct cpuid_leaf leaf =
        cpu_model_cpuid(vcpu->system->model, vcpu, (uint32_t)gpr[RAX], (uint32_t)gpr[RCX]);
    gpr[RAX] = leaf.eax;
    gpr[RBX] = leaf.ebx;
    gpr[RCX] = leaf.ecx;
    gpr[RDX] = leaf.edx;
    return INTERP_DONE;
}

// ---- FS and GS bases ----

static int fsgsbase_read(struct vcpu *vcpu, const struct bound_insn *bound, enum segment_name name)
{
    if (!(vcpu->state.cr4 & CR4_FSGSBASE))
        return raise_ud(vcpu);
    return operand_write(vcpu, bound, 0, vcpu->state.segment[name].base);
}

static int fsgsbase_write(struct vcpu *vcpu, const struct bound_insn *bound, enum segment_name name)
{
    uint64_t base;
    if (!(vcpu->state.cr4 & CR4_FSGSBASE))
        return raise_ud(vcpu);
    if (operand_read(vcpu, bound, 0, &base))
        return INTERP_FAULT;
    if (!address_is_canonical(vcpu, base))
        return raise_gp(vcpu, 0);
    vcpu->state.segment[name].base = base;
    return INTERP_DONE;
}

int interp_rdfsbase(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return fsgsbase_read(vcpu, bound, SEG_FS);
}

int interp_rdgsbase(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return fsgsbase_read(vcpu, bound, SEG_GS);
}

int interp_wrfsbase(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return fsgsbase_write(vcpu, bound, SEG_FS);
}

int interp_wrgsbase(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return fsgsbase_write(vcpu, bound, SEG_GS);
}

int interp_swapgs(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t base = vcpu->state.segment[SEG_GS].base;
    vcpu->state.segment[SEG_GS].base = vcpu->state.kernel_gs_base;
    vcpu->state.kernel_gs_base = base;
    return INTERP_DONE;
}

// ---- Interrupt flag, alignment flag ----

// CLI and STI: the interrupt flag where IOPL allows it, else the virtual one (virtual-8086 mode with CR4.VME, CPL 3 with CR4.PVI),
// else #GP. SDM vol. 2, CLI.
static uint64_t interrupt_flag(const struct vcpu *vcpu)
{
    const struct cpu_state *cpu = &vcpu->state;
    unsigned cpl = cpu->rflags & FLAG_VM ? 3 : cpu_in_protected_mode(cpu) ? cpu_cpl(cpu) : 0;
    if (cpl <= (cpu->rflags & FLAG_IOPL) >> 12)
        return FLAG_IF;
    bool is_virtual =
        cpu->rflags & FLAG_VM ? (cpu->cr4 & CR4_VME) != 0 : cpl == 3 && (cpu->cr4 & CR4_PVI);
    return is_virtual ? FLAG_VIF : 0;
}

int interp_cli(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t flag = interrupt_flag(vcpu);
    if (!flag)
        return raise_gp(vcpu, 0);
    vcpu->state.rflags &= ~flag;
    return INTERP_DONE;
}

int interp_sti(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t flag = interrupt_flag(vcpu), before = vcpu->state.rflags;
    if (!flag || (flag == FLAG_VIF && (before & FLAG_VIP)))
        return raise_gp(vcpu, 0);
    vcpu->state.rflags |= flag;
    if (flag == FLAG_IF && !(before & FLAG_IF)) {
        vcpu->state.interrupt_shadow = SHADOW_STI;
        engine_flags_changed(vcpu);
    }
    return INTERP_DONE;
}

int interp_clac(struct vcpu *vcpu, const struct bound_insn *bound)
{
    vcpu->state.rflags &= ~(uint64_t)FLAG_AC;
    engine_flags_changed(vcpu);
    return INTERP_DONE;
}

int interp_stac(struct vcpu *vcpu, const struct bound_insn *bound)
{
    vcpu->state.rflags |= FLAG_AC;
    engine_flags_changed(vcpu);
    return INTERP_DONE;
}

// ---- Waiting, caches, TLB ----

int interp_hlt(struct vcpu *vcpu, const struct bound_insn *bound)
{
    engine_exit(vcpu, ENGINE_EXIT_HALT);
    if (engine_traces(vcpu, TRACE_EXITS))
        trace_line(vcpu, "halt");
    vcpu->state.run_state = CPU_HALTED;
    return INTERP_HALT;
}

// MONITOR checks its address; MWAIT may return at any time, and does so at once.
int interp_monitor(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned segment =
        bound->insn.segment_override != SEG_NONE ? bound->insn.segment_override : SEG_DS;
    uint64_t value;
    return memory_read(vcpu, segment, gpr_read(vcpu, RAX, bound->insn.address_size), 1, &value);
}

static struct gva linear_unchecked(const struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint64_t offset = effective_address(vcpu, bound),
             base = vcpu->state.segment[bound->insn.segment].base;
    if (bound->insn.mode == CODE_64)
        return gva(offset + (bound->insn.segment >= SEG_FS ? base : 0));
    return gva((uint32_t)(offset + base));
}

int interp_invlpg(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return system_invlpg(vcpu, linear_unchecked(vcpu, bound));
}

int interp_invpcid(struct vcpu *vcpu, const struct bound_insn *bound)
{
    uint8_t descriptor[16];
    if (memory_read_bytes(vcpu, bound->insn.segment, effective_address(vcpu, bound), descriptor,
                          sizeof(descriptor)))
        return INTERP_FAULT;
    return system_invpcid(vcpu, gpr_read(vcpu, bound->operand[0].number, bound->operand[0].bytes),
                          load_le64(descriptor), gva(load_le64(descriptor + 8)));
}

// Cache line hints have nothing to do but fault as a read would.
int interp_clflush(struct vcpu *vcpu, const struct bound_insn *bound)
{
    struct gva linear;
    if (memory_linear(vcpu, bound->insn.segment, effective_address(vcpu, bound), 1, false, &linear))
        return INTERP_FAULT;
    return mmu_probe(vcpu, linear, 1, MMU_READ, MMU_NORMAL);
}

int interp_clzero(struct vcpu *vcpu, const struct bound_insn *bound)
{
    static const uint8_t zeroes[64];
    unsigned segment =
        bound->insn.segment_override != SEG_NONE ? bound->insn.segment_override : SEG_DS;
    uint64_t offset = gpr_read(vcpu, RAX, bound->insn.address_size) & ~63ull;
    return memory_write_bytes(vcpu, segment, offset, zeroes, sizeof(zeroes));
}

int interp_mfence(struct vcpu *vcpu, const struct bound_insn *bound)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return INTERP_DONE;
}

// ---- Hypercalls, undefined opcodes ----

// The hypervisor interface that CPUID announces has the calls of KVM's, of which none is offered: -KVM_ENOSYS, outside CPL 0 -EPERM.
int interp_vmcall(struct vcpu *vcpu, const struct bound_insn *bound)
{
    vcpu->state.gpr[RAX] = engine_cpu_of(vcpu)->cpl == 0 ? (uint64_t)-1000 : (uint64_t)-1;
    return INTERP_DONE;
}

int interp_undefined(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return raise_ud(vcpu);
}
