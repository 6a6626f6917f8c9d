// SPDX-License-Identifier: Apache-2.0
#include "machine/engine/tss.h"

#include "base/bits.h"
#include "machine/engine/descriptor.h"
#include "machine/engine/exception.h"
#include "machine/engine/mmu.h"

#define TSS_RSP0      4u
#define TSS_IST1      36u
#define TSS_IO_BITMAP 102u

static int read_tss(struct vcpu *vcpu, uint32_t offset, void *buffer, unsigned size)
{
    const struct segment *tr = &vcpu->state.segment[SEG_TR];

    if ((tr->attributes & SEG_UNUSABLE) || offset + size - 1 > tr->limit)
        return raise_exception_error(vcpu, EXC_TS, tr->selector & ~3u);
    struct gva at = gva(tr->base + offset);
    if (!cpu_in_long_mode(&vcpu->state))
        at.at &= UINT32_MAX;
    return mmu_read(vcpu, at, buffer, size, MMU_IMPLICIT);
}

int tss_read_stack(struct vcpu *vcpu, unsigned cpl, uint16_t *selector, uint32_t *pointer)
{
    bool wide = (vcpu->state.segment[SEG_TR].attributes & 8) != 0;
    uint8_t bytes[8];

    if (wide) {
        if (read_tss(vcpu, 4 + cpl * 8, bytes, 6) != 0)
            return -1;
        *pointer = load_le32(bytes);
        *selector = load_le16(bytes + 4);
        return 0;
    }
    if (read_tss(vcpu, 2 + cpl * 4, bytes, 4) != 0)
        return -1;
    *pointer = load_le16(bytes);
    *selector = load_le16(bytes + 2);
    return 0;
}

int tss_read_link(struct vcpu *vcpu, uint16_t *selector)
{
    return read_tss(vcpu, 0, selector, 2);
}

int tss_read_rsp(struct vcpu *vcpu, unsigned cpl, uint64_t *rsp)
{
    return read_tss(vcpu, TSS_RSP0 + cpl * 8, rsp, 8);
}

int tss_read_ist(struct vcpu *vcpu, unsigned number, uint64_t *rsp)
{
    return read_tss(vcpu, TSS_IST1 + (number - 1) * 8, rsp, 8);
}

// Two bytes of the bitmap are read whatever the size, hence the limit must hold both (SDM vol. 1, 19.5.2).
static bool bitmap_allows(struct vcpu *vcpu, uint16_t port, unsigned size, int *fault)
{
    const struct segment *tr = &vcpu->state.segment[SEG_TR];
    uint16_t start, bits;

    *fault = 0;
    if ((tr->attributes & SEG_UNUSABLE) || !(tr->attributes & 8) || tr->limit < TSS_IO_BITMAP + 1)
        return false;
    if ((*fault = read_tss(vcpu, TSS_IO_BITMAP, &start, 2)) != 0)
        return false;
    uint32_t offset = start + port / 8u;
    if (offset + 1 > tr->limit)
        return false;
    if ((*fault = read_tss(vcpu, offset, &bits, 2)) != 0)
        return false;
    return ((bits >> (port % 8)) & bits_mask(size)) == 0;
}

int system_check_io(struct vcpu *vcpu, uint16_t port, unsigned size)
{
    const struct cpu_state *cpu = &vcpu->state;
    unsigned iopl = (unsigned)(cpu->rflags & FLAG_IOPL) >> 12;
    int fault;

    if (!(cpu->cr0 & CR0_PE) || (!(cpu->rflags & FLAG_VM) && engine_cpu_of(vcpu)->cpl <= iopl))
        return 0;
    if (bitmap_allows(vcpu, port, size, &fault))
        return 0;
    return fault ? -1 : raise_gp(vcpu, 0);
}
