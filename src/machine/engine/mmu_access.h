// SPDX-License-Identifier: Apache-2.0
//
// Data accesses of 1, 2, 4 and 8 bytes at the current privilege, with the soft TLB's hit path inline; and the
// segment check in front of them. Everything else falls through to mmu.c and segment.c.
#ifndef WIRT_MACHINE_ENGINE_MMU_ACCESS_H
#define WIRT_MACHINE_ENGINE_MMU_ACCESS_H

#include "machine/engine/mmu.h"
#include "machine/engine/system.h"

// Behind an entry that did not hit.
static inline void *mmu_victim_hit(const struct tlb *tlb, uint64_t linear, unsigned size,
                                   bool write)
{
    const struct tlb_victims *victims = &tlb->victims;
    uint32_t index = (uint32_t)(linear >> 12) % TLB_VICTIMS;
    uint64_t tag = write ? victims->write_tag[index] : victims->read_tag[index];

    if (linear + tag > 4096 - size)
        return NULL;
    return (void *)(uintptr_t)(linear + victims->addend[index]);
}

// The host address of `size` bytes at `linear` when the soft TLB permits the access as it is, else NULL. A hit never crosses a page.
static inline void *mmu_hit(struct vcpu *vcpu, uint64_t linear, unsigned size, bool write)
{
    const struct tlb *tlb = &engine_cpu_of(vcpu)->tlb[engine_cpu_of(vcpu)->tlb_mode];
    uint32_t index = tlb_index(linear);
    uint64_t tag = write ? tlb->write_tag[index] : tlb->read_tag[index];

    if (linear + tag > 4096 - size)
        return mmu_victim_hit(tlb, linear, size, write);
    return (void *)(uintptr_t)(linear + tlb->addend[index]);
}

// 0, or -1 with an exception recorded. A single host access, so as atomic as the guest expects of an aligned one.
#define MMU_ACCESS(bits)                                                                           \
    static inline int mmu_read##bits(struct vcpu *vcpu, struct gva address, uint##bits##_t *value) \
    {                                                                                              \
        const void *hit = mmu_hit(vcpu, address.at, bits / 8, false);                              \
        if (__builtin_expect(!hit, 0))                                                             \
            return mmu_read(vcpu, address, value, bits / 8, MMU_NORMAL);                           \
        memcpy(value, hit, bits / 8);                                                              \
        return 0;                                                                                  \
    }                                                                                              \
    static inline int mmu_write##bits(struct vcpu *vcpu, struct gva address, uint##bits##_t value) \
    {                                                                                              \
        void *hit = mmu_hit(vcpu, address.at, bits / 8, true);                                     \
        if (__builtin_expect(!hit, 0))                                                             \
            return mmu_write(vcpu, address, &value, bits / 8, MMU_NORMAL);                         \
        memcpy(hit, &value, bits / 8);                                                             \
        return 0;                                                                                  \
    }
MMU_ACCESS(8)
MMU_ACCESS(16)
MMU_ACCESS(32)
MMU_ACCESS(64)
#undef MMU_ACCESS

static inline bool address_is_canonical(const struct vcpu *vcpu, uint64_t address)
{
    unsigned shift = engine_cpu_of((struct vcpu *)(uintptr_t)vcpu)->canonical_shift;
    return (uint64_t)((int64_t)(address << shift) >> shift) == address;
}

// segment_linear() with the common case inline: 64-bit code.
static inline int segment_address(struct vcpu *vcpu, enum segment_name name, uint64_t offset,
                                  unsigned size, enum segment_access access, struct gva *linear)
{
    if (engine_cpu_of(vcpu)->code_mode == 64) {
        uint64_t at =
            offset + (name == SEG_FS || name == SEG_GS ? vcpu->state.segment[name].base : 0);
        if (address_is_canonical(vcpu, at) && address_is_canonical(vcpu, at + size - 1)) {
            *linear = gva(at);
            return 0;
        }
    }
    return segment_linear(vcpu, name, offset, size, access, linear);
}

#endif
