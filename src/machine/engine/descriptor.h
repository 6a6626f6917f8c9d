// SPDX-License-Identifier: Apache-2.0
//
// Descriptors of the GDT and the LDT, read and taken apart; shared by segment loads, far transfers, exception
// delivery and task switches. Private to the engine's system side.
#ifndef WIRT_MACHINE_ENGINE_DESCRIPTOR_H
#define WIRT_MACHINE_ENGINE_DESCRIPTOR_H

#include "machine/engine/engine.h"

// System descriptor types (SDM vol. 3, table 3-2).
enum system_type {
    SYSTEM_TSS16 = 1,
    SYSTEM_LDT = 2,
    SYSTEM_TSS16_BUSY = 3,
    SYSTEM_CALL_GATE16 = 4,
    SYSTEM_TASK_GATE = 5,
    SYSTEM_INTERRUPT_GATE16 = 6,
    SYSTEM_TRAP_GATE16 = 7,
    SYSTEM_TSS = 9, // 32-bit, in long mode 64-bit
    SYSTEM_TSS_BUSY = 11,
    SYSTEM_CALL_GATE = 12,
    SYSTEM_INTERRUPT_GATE = 14,
    SYSTEM_TRAP_GATE = 15,
};
#define SYSTEM_BUSY 2u

struct descriptor {
    uint64_t raw;   // first 8 bytes
    uint64_t upper; // the second 8 of a system descriptor in long mode
    struct gva at;
    struct segment segment; // base, limit, attributes and selector as they would be loaded
};

// The selector's entry. 0; or -1: `vector` with the selector as error code when it lies outside its table or
// is a null selector of the GDT with no table at all, or a page fault. Does not ask whether the selector is null.
int descriptor_read(struct vcpu *vcpu, uint16_t selector, enum exception vector,
                    struct descriptor *descriptor);
// The second half of a system descriptor in long mode: its base becomes 64 bits wide. #GP(selector) when it is malformed.
int descriptor_read_upper(struct vcpu *vcpu, struct descriptor *descriptor);

// Set the accessed flag (segments) or the busy flag (TSS) in memory and in the descriptor.
int descriptor_set_accessed(struct vcpu *vcpu, struct descriptor *descriptor);
int descriptor_set_busy(struct vcpu *vcpu, struct descriptor *descriptor, bool busy);

static inline unsigned descriptor_type(const struct descriptor *d)
{
    return d->segment.attributes & SEG_TYPE_MASK;
}
static inline unsigned descriptor_dpl(const struct descriptor *d)
{
    return (d->segment.attributes & SEG_DPL_MASK) >> SEG_DPL_SHIFT;
}
static inline bool descriptor_present(const struct descriptor *d)
{
    return (d->segment.attributes & SEG_P) != 0;
}
static inline bool descriptor_is_code(const struct descriptor *d)
{
    return (d->segment.attributes & (SEG_S | SEG_CODE)) == (SEG_S | SEG_CODE);
}
static inline bool descriptor_is_writable_data(const struct descriptor *d)
{
    return (d->segment.attributes & (SEG_S | SEG_CODE | SEG_WRITABLE)) == (SEG_S | SEG_WRITABLE);
}
static inline bool descriptor_is_conforming(const struct descriptor *d)
{
    return (d->segment.attributes & SEG_CONFORMING) != 0;
}
static inline bool selector_is_null(uint16_t selector)
{
    return (selector & ~3u) == 0;
}

// Does [offset, offset + size) lie within the segment's limit? Expand-down segments too.
bool segment_contains(const struct segment *segment, uint64_t offset, unsigned size);

// A code segment as a target: conforming or not, `cpl` and the selector's RPL (`check_rpl`). #GP(selector), #NP(selector).
int code_segment_check(struct vcpu *vcpu, const struct descriptor *descriptor, unsigned cpl,
                       bool check_rpl);
// Load CS from a checked descriptor with privilege `cpl`, and RIP: the limit and canonical check of the offset is #GP(0). Nothing is changed
// on -1. The caller calls engine_mode_changed() when it is done with SS too.
int code_segment_enter(struct vcpu *vcpu, struct descriptor *descriptor, unsigned cpl,
                       uint64_t offset);
// The stack segment of an inner or outer privilege `cpl`: null, RPL, DPL, type raise `vector`(selector), absence #SS(selector).
int stack_segment_read(struct vcpu *vcpu, uint16_t selector, unsigned cpl, enum exception vector,
                       struct descriptor *descriptor);

// Real and virtual-8086 mode: base is 16 times the selector.
void segment_load_real(struct vcpu *vcpu, enum segment_name name, uint16_t selector);
// A null (unusable) data segment.
void segment_load_null(struct vcpu *vcpu, enum segment_name name, uint16_t selector);

#endif
