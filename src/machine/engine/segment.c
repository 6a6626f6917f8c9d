// SPDX-License-Identifier: Apache-2.0
//
// Segment registers: loading them with the manual's checks, and checking accesses through them.
#include "base/bits.h"
#include "machine/engine/descriptor.h"
#include "machine/engine/exception.h"
#include "machine/engine/mmu_access.h"

static int load_stack_segment(struct vcpu *vcpu, uint16_t selector)
{
    unsigned cpl = engine_cpu_of(vcpu)->cpl;
    struct descriptor descriptor;

    if (selector_is_null(selector) && engine_cpu_of(vcpu)->code_mode == 64 && cpl < 3 &&
        (selector & 3u) == cpl) {
        segment_load_null(vcpu, SEG_SS, selector);
        return 0;
    }
    if (stack_segment_read(vcpu, selector, cpl, EXC_GP, &descriptor) != 0)
        return -1;
    vcpu->state.segment[SEG_SS] = descriptor.segment;
    engine_mode_changed(vcpu);
    return 0;
}

static bool is_readable(const struct descriptor *descriptor)
{
    uint32_t attributes = descriptor->segment.attributes;
    return (attributes & SEG_S) && (!(attributes & SEG_CODE) || (attributes & SEG_READABLE));
}

// Data and non-conforming code ask for privilege; conforming code does not.
static bool privilege_allows(const struct descriptor *descriptor, unsigned cpl)
{
    if (descriptor_is_code(descriptor) && descriptor_is_conforming(descriptor))
        return true;
    return descriptor_dpl(descriptor) >= cpl &&
           descriptor_dpl(descriptor) >= (descriptor->segment.selector & 3u);
}

static int load_data_segment(struct vcpu *vcpu, enum segment_name name, uint16_t selector)
{
    struct descriptor descriptor;

    if (selector_is_null(selector)) {
        segment_load_null(vcpu, name, selector);
        return 0;
    }
    if (descriptor_read(vcpu, selector, EXC_GP, &descriptor) != 0)
        return -1;
    if (!is_readable(&descriptor) || !privilege_allows(&descriptor, engine_cpu_of(vcpu)->cpl))
        return raise_gp(vcpu, selector & ~3u);
    if (!descriptor_present(&descriptor))
        return raise_exception_error(vcpu, EXC_NP, selector & ~3u);
    if (descriptor_set_accessed(vcpu, &descriptor) != 0)
        return -1;
    vcpu->state.segment[name] = descriptor.segment;
    return 0;
}

int segment_load(struct vcpu *vcpu, enum segment_name name, uint16_t selector)
{
    if (!cpu_in_protected_mode(&vcpu->state)) {
        segment_load_real(vcpu, name, selector);
        return 0;
    }
    return name == SEG_SS ? load_stack_segment(vcpu, selector)
                          : load_data_segment(vcpu, name, selector);
}

// The descriptor of an LDT or a TSS: in the GDT, of a permitted type, present, in long mode 16 bytes with a canonical base.
static int read_system(struct vcpu *vcpu, uint16_t selector, uint32_t types,
                       struct descriptor *descriptor)
{
    if (selector & 4)
        return raise_gp(vcpu, selector & ~3u);
    if (descriptor_read(vcpu, selector, EXC_GP, descriptor) != 0)
        return -1;
    if ((descriptor->segment.attributes & SEG_S) || !(types & BIT(descriptor_type(descriptor))))
        return raise_gp(vcpu, selector & ~3u);
    if (!descriptor_present(descriptor))
        return raise_exception_error(vcpu, EXC_NP, selector & ~3u);
    if (!cpu_in_long_mode(&vcpu->state))
        return 0;
    if (descriptor_read_upper(vcpu, descriptor) != 0)
        return -1;
    return address_is_canonical(vcpu, descriptor->segment.base) ? 0
                                                                : raise_gp(vcpu, selector & ~3u);
}

int segment_load_ldtr(struct vcpu *vcpu, uint16_t selector)
{
    struct descriptor descriptor;

    if (selector_is_null(selector)) {
        segment_load_null(vcpu, SEG_LDTR, selector);
        return 0;
    }
    if (read_system(vcpu, selector, BIT(SYSTEM_LDT), &descriptor) != 0)
        return -1;
    vcpu->state.segment[SEG_LDTR] = descriptor.segment;
    return 0;
}

int segment_load_tr(struct vcpu *vcpu, uint16_t selector)
{
    uint32_t types =
        cpu_in_long_mode(&vcpu->state) ? BIT(SYSTEM_TSS) : BIT(SYSTEM_TSS) | BIT(SYSTEM_TSS16);
    struct descriptor descriptor;

    if (selector_is_null(selector))
        return raise_gp(vcpu, 0);
    if (read_system(vcpu, selector, types, &descriptor) != 0 ||
        descriptor_set_busy(vcpu, &descriptor, true) != 0)
        return -1;
    vcpu->state.segment[SEG_TR] = descriptor.segment;
    return 0;
}

// ---- LAR, LSL, VERR, VERW ----

// The descriptor, when the selector names one at all: for these instructions a bad selector is an answer, not a fault.
static bool look_up(struct vcpu *vcpu, uint16_t selector, struct descriptor *descriptor, int *fault)
{
    struct engine_exception *exception = &engine_cpu_of(vcpu)->exception;

    *fault = 0;
    if (selector_is_null(selector))
        return false;
    if (descriptor_read(vcpu, selector, EXC_GP, descriptor) == 0)
        return true;
    if (exception->vector == EXC_GP)
        exception->vector = EXC_NONE;
    else
        *fault = -1;
    return false;
}

static bool is_visible(struct vcpu *vcpu, const struct descriptor *descriptor,
                       uint32_t system_types)
{
    if (!(descriptor->segment.attributes & SEG_S) &&
        !(system_types & BIT(descriptor_type(descriptor))))
        return false;
    return privilege_allows(descriptor, engine_cpu_of(vcpu)->cpl);
}

#define LSL_TYPES_LONG (BIT(SYSTEM_LDT) | BIT(SYSTEM_TSS) | BIT(SYSTEM_TSS_BUSY))
#define LSL_TYPES      (LSL_TYPES_LONG | BIT(SYSTEM_TSS16) | BIT(SYSTEM_TSS16_BUSY))
#define LAR_TYPES_LONG (LSL_TYPES_LONG | BIT(SYSTEM_CALL_GATE))
#define LAR_TYPES                                                                                  \
    (LSL_TYPES | BIT(SYSTEM_CALL_GATE) | BIT(SYSTEM_CALL_GATE16) | BIT(SYSTEM_TASK_GATE))

bool segment_lar(struct vcpu *vcpu, uint16_t selector, uint32_t *rights, int *fault)
{
    struct descriptor descriptor;
    uint32_t types = (uint32_t)(cpu_in_long_mode(&vcpu->state) ? LAR_TYPES_LONG : LAR_TYPES);

    if (!look_up(vcpu, selector, &descriptor, fault) || !is_visible(vcpu, &descriptor, types))
        return false;
    *rights = (uint32_t)(descriptor.raw >> 32) & 0x00F0FF00;
    return true;
}

bool segment_lsl(struct vcpu *vcpu, uint16_t selector, uint32_t *limit, int *fault)
{
    struct descriptor descriptor;
    uint32_t types = (uint32_t)(cpu_in_long_mode(&vcpu->state) ? LSL_TYPES_LONG : LSL_TYPES);

    if (!look_up(vcpu, selector, &descriptor, fault) || !is_visible(vcpu, &descriptor, types))
        return false;
    *limit = descriptor.segment.limit;
    return true;
}

bool segment_verify(struct vcpu *vcpu, uint16_t selector, bool write, int *fault)
{
    struct descriptor descriptor;

    if (!look_up(vcpu, selector, &descriptor, fault) || !is_visible(vcpu, &descriptor, 0))
        return false;
    return write ? descriptor_is_writable_data(&descriptor) : is_readable(&descriptor);
}

// ---- Accesses ----

static int raise_segment(struct vcpu *vcpu, enum segment_name name)
{
    return raise_exception_error(vcpu, name == SEG_SS ? EXC_SS : EXC_GP, 0);
}

static bool type_allows(const struct cpu_state *cpu, const struct segment *segment,
                        enum segment_access access)
{
    if (segment->attributes & SEG_UNUSABLE)
        return false;
    if (!cpu_in_protected_mode(cpu))
        return true;
    bool code = (segment->attributes & SEG_CODE) != 0;
    if (access == SEGMENT_WRITE)
        return !code && (segment->attributes & SEG_WRITABLE);
    return !code || (segment->attributes & SEG_READABLE);
}

int segment_linear(struct vcpu *vcpu, enum segment_name name, uint64_t offset, unsigned size,
                   enum segment_access access, struct gva *linear)
{
    const struct segment *segment = &vcpu->state.segment[name];

    if (engine_cpu_of(vcpu)->code_mode == 64) {
        uint64_t at = offset + (name == SEG_FS || name == SEG_GS ? segment->base : 0);
        if (!address_is_canonical(vcpu, at) || !address_is_canonical(vcpu, at + size - 1))
            return raise_segment(vcpu, name);
        *linear = gva(at);
        return 0;
    }
    if (!type_allows(&vcpu->state, segment, access) || !segment_contains(segment, offset, size))
        return raise_segment(vcpu, name);
    *linear = gva((uint32_t)(segment->base + offset));
    return 0;
}
