// SPDX-License-Identifier: Apache-2.0
#include "machine/engine/descriptor.h"

#include "base/bits.h"
#include "machine/engine/exception.h"
#include "machine/engine/mmu.h"
#include "machine/engine/mmu_access.h"

static struct segment segment_of(uint16_t selector, uint64_t raw)
{
    uint32_t limit = (uint32_t)((raw & 0xFFFF) | (raw >> 32 & 0xF0000));
    struct segment segment = {
        .selector = selector,
        .base = (raw >> 16 & 0xFFFFFF) | (raw >> 32 & 0xFF000000),
        .attributes = (uint32_t)(raw >> 40) & 0xF0FF,
    };
    segment.limit = segment.attributes & SEG_G ? limit << 12 | 0xFFF : limit;
    return segment;
}

int descriptor_read(struct vcpu *vcpu, uint16_t selector, enum exception vector,
                    struct descriptor *descriptor)
{
    const struct cpu_state *cpu = &vcpu->state;
    const struct segment *ldtr = &cpu->segment[SEG_LDTR];
    bool local = (selector & 4) != 0;
    uint64_t base = local ? ldtr->base : cpu->gdtr.base;
    uint64_t limit = local ? ldtr->limit : cpu->gdtr.limit;

    if ((selector | 7u) > limit || (local && (ldtr->attributes & SEG_UNUSABLE)))
        return raise_exception_error(vcpu, vector, selector & ~3u);
    descriptor->at = gva(base + (selector & ~7u));
    if (!cpu_in_long_mode(cpu))
        descriptor->at.at &= UINT32_MAX;
    if (mmu_read(vcpu, descriptor->at, &descriptor->raw, 8, MMU_IMPLICIT) != 0)
        return -1;
    descriptor->upper = 0;
    descriptor->segment = segment_of(selector, descriptor->raw);
    return 0;
}

int descriptor_read_upper(struct vcpu *vcpu, struct descriptor *descriptor)
{
    uint16_t selector = descriptor->segment.selector;
    uint32_t limit = selector & 4 ? vcpu->state.segment[SEG_LDTR].limit : vcpu->state.gdtr.limit;

    if ((selector & ~7u) + 15 > limit)
        return raise_gp(vcpu, selector & ~3u);
    if (mmu_read(vcpu, gva_add(descriptor->at, 8), &descriptor->upper, 8, MMU_IMPLICIT) != 0)
        return -1;
    if (descriptor->upper >> 40 & 0x1F) // its type field must be 0
        return raise_gp(vcpu, selector & ~3u);
    descriptor->segment.base |= descriptor->upper << 32;
    return 0;
}

static int write_access_byte(struct vcpu *vcpu, struct descriptor *descriptor, uint8_t byte)
{
    if (mmu_write(vcpu, gva_add(descriptor->at, 5), &byte, 1, MMU_IMPLICIT) != 0)
        return -1;
    descriptor->segment.attributes = (descriptor->segment.attributes & ~0xFFu) | byte;
    return 0;
}

int descriptor_set_accessed(struct vcpu *vcpu, struct descriptor *descriptor)
{
    if (descriptor->segment.attributes & SEG_ACCESSED)
        return 0;
    return write_access_byte(vcpu, descriptor,
                             (uint8_t)(descriptor->segment.attributes | SEG_ACCESSED));
}

int descriptor_set_busy(struct vcpu *vcpu, struct descriptor *descriptor, bool busy)
{
    uint32_t attributes = descriptor->segment.attributes;
    return write_access_byte(
        vcpu, descriptor, (uint8_t)(busy ? attributes | SYSTEM_BUSY : attributes & ~SYSTEM_BUSY));
}

bool segment_contains(const struct segment *segment, uint64_t offset, unsigned size)
{
    uint64_t last = offset + size - 1;
    bool expand_down =
        (segment->attributes & (SEG_S | SEG_CODE | SEG_EXPAND_DOWN)) == (SEG_S | SEG_EXPAND_DOWN);

    if (expand_down)
        return offset > segment->limit &&
               last <= (segment->attributes & SEG_DB ? UINT32_MAX : UINT16_MAX);
    return last <= segment->limit;
}

int code_segment_check(struct vcpu *vcpu, const struct descriptor *descriptor, unsigned cpl,
                       bool check_rpl)
{
    uint16_t selector = descriptor->segment.selector;
    unsigned dpl = descriptor_dpl(descriptor);
    uint32_t attributes = descriptor->segment.attributes;
    bool allowed = descriptor_is_conforming(descriptor)
                       ? dpl <= cpl
                       : dpl == cpl && (!check_rpl || (selector & 3u) <= cpl);

    if (!descriptor_is_code(descriptor) || !allowed)
        return raise_gp(vcpu, selector & ~3u);
    if (cpu_in_long_mode(&vcpu->state) && (attributes & SEG_L) && (attributes & SEG_DB))
        return raise_gp(vcpu, selector & ~3u);
    if (!descriptor_present(descriptor))
        return raise_exception_error(vcpu, EXC_NP, selector & ~3u);
    return 0;
}

int code_segment_enter(struct vcpu *vcpu, struct descriptor *descriptor, unsigned cpl,
                       uint64_t offset)
{
    bool wide = cpu_in_long_mode(&vcpu->state) && (descriptor->segment.attributes & SEG_L);

    if (wide ? !address_is_canonical(vcpu, offset) : offset > descriptor->segment.limit)
        return raise_gp(vcpu, 0);
    if (descriptor_set_accessed(vcpu, descriptor) != 0)
        return -1;
    vcpu->state.segment[SEG_CS] = descriptor->segment;
    vcpu->state.segment[SEG_CS].selector = (uint16_t)((descriptor->segment.selector & ~3u) | cpl);
    vcpu->state.rip = offset;
    return 0;
}

int stack_segment_read(struct vcpu *vcpu, uint16_t selector, unsigned cpl, enum exception vector,
                       struct descriptor *descriptor)
{
    if (selector_is_null(selector))
        return raise_exception_error(vcpu, vector, 0);
    if (descriptor_read(vcpu, selector, vector, descriptor) != 0)
        return -1;
    if ((selector & 3u) != cpl || descriptor_dpl(descriptor) != cpl ||
        !descriptor_is_writable_data(descriptor))
        return raise_exception_error(vcpu, vector, selector & ~3u);
    if (!descriptor_present(descriptor))
        return raise_exception_error(vcpu, EXC_SS, selector & ~3u);
    return descriptor_set_accessed(vcpu, descriptor);
}

// Real mode keeps limit and size of what protected mode loaded ("unreal mode"); virtual-8086 mode has fixed ones.
void segment_load_real(struct vcpu *vcpu, enum segment_name name, uint16_t selector)
{
    struct segment *segment = &vcpu->state.segment[name];
    bool virtual_8086 = (vcpu->state.rflags & FLAG_VM) != 0;

    segment->selector = selector;
    segment->base = (uint64_t)selector << 4;
    if (virtual_8086) {
        segment->limit = 0xFFFF;
        segment->attributes = SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED | SEG_DPL_MASK;
    } else {
        segment->attributes = (segment->attributes & (SEG_G | SEG_DB | SEG_AVL)) | SEG_P | SEG_S |
                              SEG_WRITABLE | SEG_ACCESSED;
    }
}

// The base becomes 0 too, as CPUID 8000_0021 EAX bit 6 (NullSelectorClearsBase) promises. The privilege level of SS stays: it is the CPL.
void segment_load_null(struct vcpu *vcpu, enum segment_name name, uint16_t selector)
{
    uint32_t dpl = name == SEG_SS ? vcpu->state.segment[SEG_SS].attributes & SEG_DPL_MASK : 0;
    vcpu->state.segment[name] =
        (struct segment){.selector = selector, .attributes = SEG_UNUSABLE | dpl};
}
