// SPDX-License-Identifier: Apache-2.0
//
// Tier 0's way to guest memory: segment, alignment check, TLB, bytes.
//
// The inline part serves what nearly every access is: 64-bit code, no alignment checking, a hit in the soft TLB. All else
// goes through segment_linear() and the MMU. A locked operand is a host atomic on the mapped address, also
// across two pages of RAM, which are mapped side by side for it (guest_memory_join()). Such an operand, and one of MMIO, holds one lock of the whole
// process from open to close: the window of the two pages is one, and accesses to MMIO are atomic among themselves.
#ifndef WIRT_MACHINE_ENGINE_INTERP_ACCESS_H
#define WIRT_MACHINE_ENGINE_INTERP_ACCESS_H

#include <string.h>

#include "machine/engine/engine.h"
#include "machine/engine/mmu_access.h"

// Sizes are 1, 2, 4 and 8 here; values are zero-extended. 0, or -1 with an exception recorded.
int memory_read_slow(struct vcpu *vcpu, unsigned segment, uint64_t offset, unsigned bytes,
                     uint64_t *value);
int memory_write_slow(struct vcpu *vcpu, unsigned segment, uint64_t offset, unsigned bytes,
                      uint64_t value);

// Any size up to 64 bytes, as bytes.
int memory_read_bytes(struct vcpu *vcpu, unsigned segment, uint64_t offset, void *buffer,
                      unsigned bytes);
int memory_write_bytes(struct vcpu *vcpu, unsigned segment, uint64_t offset, const void *buffer,
                       unsigned bytes);

// Segment check, alignment check (CR0.AM) and linear address.
int memory_linear(struct vcpu *vcpu, unsigned segment, uint64_t offset, unsigned bytes, bool write,
                  struct gva *linear);

// A place in memory between being read and being written back.
struct open_memory {
    void *host; // NULL: through the MMU at `linear`
    struct gva linear;
    uint8_t bytes;
    bool locked;
    bool holds_global_lock;
};
int memory_open(struct vcpu *vcpu, unsigned segment, uint64_t offset, unsigned bytes, bool locked,
                struct open_memory *open, uint64_t *value);
// 0 stored; 1 not stored, the place has changed to *value; -1 fault.
int memory_close(struct vcpu *vcpu, struct open_memory *open, uint64_t *value, uint64_t new_value);
void memory_drop(struct vcpu *vcpu, struct open_memory *open);

// For CMPXCHG16B and the like, whose operand is wider than a register.
void memory_lock_globally(void);
void memory_unlock_globally(void);

// Host address for a flat access that hits, else NULL.
static inline __attribute__((always_inline)) void *
memory_fast(struct vcpu *vcpu, unsigned segment, uint64_t offset, unsigned bytes, bool write)
{
    if (__builtin_expect(!engine_cpu_of(vcpu)->flat64, 0))
        return NULL;
    uint64_t base = segment == SEG_FS || segment == SEG_GS ? vcpu->state.segment[segment].base : 0;
    return mmu_hit(vcpu, offset + base, bytes, write);
}

// One access each, of any alignment, that the compiler neither splits nor repeats: other vCPUs are looking.
typedef volatile uint16_t __attribute__((aligned(1), may_alias)) host_u16;
typedef volatile uint32_t __attribute__((aligned(1), may_alias)) host_u32;
typedef volatile uint64_t __attribute__((aligned(1), may_alias)) host_u64;

static inline __attribute__((always_inline)) uint64_t host_load(const void *host, unsigned bytes)
{
    switch (bytes) {
    case 1:
        return *(const volatile uint8_t *)host;
    case 2:
        return *(const host_u16 *)host;
    case 4:
        return *(const host_u32 *)host;
    default:
        return *(const host_u64 *)host;
    }
}

static inline __attribute__((always_inline)) void host_store(void *host, unsigned bytes,
                                                             uint64_t value)
{
    switch (bytes) {
    case 1:
        *(volatile uint8_t *)host = (uint8_t)value;
        break;
    case 2:
        *(host_u16 *)host = (uint16_t)value;
        break;
    case 4:
        *(host_u32 *)host = (uint32_t)value;
        break;
    default:
        *(host_u64 *)host = value;
        break;
    }
}

static inline __attribute__((always_inline)) int
memory_read(struct vcpu *vcpu, unsigned segment, uint64_t offset, unsigned bytes, uint64_t *value)
{
    const void *host = memory_fast(vcpu, segment, offset, bytes, false);
    if (__builtin_expect(host == NULL, 0))
        return memory_read_slow(vcpu, segment, offset, bytes, value);
    *value = host_load(host, bytes);
    return 0;
}

static inline __attribute__((always_inline)) int
memory_write(struct vcpu *vcpu, unsigned segment, uint64_t offset, unsigned bytes, uint64_t value)
{
    void *host = memory_fast(vcpu, segment, offset, bytes, true);
    if (__builtin_expect(host == NULL, 0))
        return memory_write_slow(vcpu, segment, offset, bytes, value);
    host_store(host, bytes, value);
    return 0;
}

#endif
