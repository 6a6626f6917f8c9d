// SPDX-License-Identifier: Apache-2.0
//
// What tier 0's handlers work with: the bound instruction, and access to registers, memory and flags.
//
// interp.c decodes an instruction once and *binds* it: the handler, and for each of the first three operands where it
// is (a register, its high byte, memory, a constant), so that a handler asks for "operand 1" without looking at
// encodings. A bound instruction stays valid as long as the guest's bytes and the code mode are the same.
//
// Handlers return an enum interp_result. Until a handler succeeds it must leave the architectural state as it was (repeated
// string instructions excepted, which stop between elements): memory destinations are opened before registers change.
#ifndef WIRT_MACHINE_ENGINE_INTERP_INSN_H
#define WIRT_MACHINE_ENGINE_INTERP_INSN_H

#include "base/bits.h"
#include "machine/engine/decode.h"
#include "machine/engine/exception.h"
#include "machine/engine/interp_access.h"

enum interp_result {
    INTERP_FAULT = -1, // exception recorded, RIP stays
    INTERP_DONE = 0,   // go on at engine_cpu.next_rip
    INTERP_HALT = 1,   // done, and the CPU now waits for an event
    INTERP_AGAIN = 2,  // a repeated string instruction stopped between elements: RIP stays
};

enum operand_place { PLACE_OTHER, PLACE_REGISTER, PLACE_HIGH_BYTE, PLACE_MEMORY, PLACE_CONSTANT };

struct bound_operand {
    uint8_t place;  // enum operand_place
    uint8_t number; // register
    uint8_t bytes;
};

// What must be looked at before the handler runs, because it depends on the CPU's state and not on the bytes.
enum bound_check {
    CHECK_CPL0 = 1 << 0,
    CHECK_PROTECTED = 1 << 1, // not in real or virtual-8086 mode
    CHECK_X87 = 1 << 2,
    CHECK_MMX = 1 << 3,
    CHECK_SSE = 1 << 4,
    CHECK_AVX = 1 << 5,
};

struct bound_insn;
typedef int interp_handler(struct vcpu *vcpu, const struct bound_insn *bound);

#define BOUND_OPERANDS 3

struct bound_insn {
    interp_handler *run;
    uint8_t bytes[16];  // the instruction, then zeroes
    uint16_t byte_mask; // a bit for each byte of it
    uint8_t mode;       // enum code_mode; 0: empty entry
    uint8_t checks;     // CHECK_*
    struct bound_operand operand[BOUND_OPERANDS];
    struct insn insn;
};

// The table of handlers (interp_table.c).
extern interp_handler *const interp_handlers[INSN_OP_COUNT];

#define ALWAYS_INLINE static inline __attribute__((always_inline))

// ---- Registers ----

ALWAYS_INLINE uint64_t size_mask(unsigned bytes)
{
    return ~0ull >> (64 - 8 * bytes);
}

ALWAYS_INLINE uint64_t gpr_read(const struct vcpu *vcpu, unsigned number, unsigned bytes)
{
    return vcpu->state.gpr[number] & size_mask(bytes);
}

ALWAYS_INLINE void gpr_write(struct vcpu *vcpu, unsigned number, unsigned bytes, uint64_t value)
{
    uint64_t *gpr = &vcpu->state.gpr[number];
    if (bytes == 8)
        *gpr = value;
    else if (bytes == 4)
        *gpr = (uint32_t)value;
    else
        *gpr = (*gpr & ~size_mask(bytes)) | (value & size_mask(bytes));
}

// ---- Effective addresses ----

// The offset in its segment of the ModRM or moffs operand.
ALWAYS_INLINE uint64_t effective_address(const struct vcpu *vcpu, const struct bound_insn *bound)
{
    const struct insn *insn = &bound->insn;
    uint64_t address = (uint64_t)insn->displacement;
    if (insn->base == INSN_REG_RIP)
        address += vcpu->state.rip + insn->length;
    else if (insn->base != INSN_REG_NONE)
        address += vcpu->state.gpr[insn->base];
    if (insn->index != INSN_REG_NONE)
        address += vcpu->state.gpr[insn->index & 15] << insn->scale;
    return address & size_mask(insn->address_size);
}

// ---- Operands ----

// The value, zero-extended. INTERP_DONE or INTERP_FAULT.
ALWAYS_INLINE int operand_read(struct vcpu *vcpu, const struct bound_insn *bound, unsigned n,
                               uint64_t *value)
{
    const struct bound_operand *operand = &bound->operand[n];
    switch (operand->place) {
    case PLACE_REGISTER:
        *value = gpr_read(vcpu, operand->number, operand->bytes);
        return INTERP_DONE;
    case PLACE_CONSTANT:
        *value = bound->insn.immediate;
        return INTERP_DONE;
    case PLACE_HIGH_BYTE:
        *value = (vcpu->state.gpr[operand->number] >> 8) & 0xff;
        return INTERP_DONE;
    default:
        return memory_read(vcpu, bound->insn.segment, effective_address(vcpu, bound),
                           operand->bytes, value);
    }
}

ALWAYS_INLINE void operand_write_register(struct vcpu *vcpu, const struct bound_operand *operand,
                                          uint64_t value)
{
    if (operand->place == PLACE_REGISTER)
        gpr_write(vcpu, operand->number, operand->bytes, value);
    else
        vcpu->state.gpr[operand->number] =
            (vcpu->state.gpr[operand->number] & ~0xff00ull) | ((value & 0xff) << 8);
}

ALWAYS_INLINE int operand_write(struct vcpu *vcpu, const struct bound_insn *bound, unsigned n,
                                uint64_t value)
{
    const struct bound_operand *operand = &bound->operand[n];
    if (operand->place != PLACE_MEMORY) {
        operand_write_register(vcpu, operand, value);
        return INTERP_DONE;
    }
    return memory_write(vcpu, bound->insn.segment, effective_address(vcpu, bound), operand->bytes,
                        value);
}

// An operand that is read, changed and written back. After operand_open(), `value` holds it; operand_close() stores the new
// value: 0 done, 1 when it was locked and somebody else changed it (compute again from the new `value`), -1 fault.
struct open_operand {
    uint64_t value;
    struct open_memory memory;
    const struct bound_operand *operand;
};

ALWAYS_INLINE int operand_open(struct vcpu *vcpu, const struct bound_insn *bound, unsigned n,
                               struct open_operand *open)
{
    const struct bound_operand *operand = &bound->operand[n];
    open->operand = operand;
    if (operand->place != PLACE_MEMORY)
        return operand_read(vcpu, bound, n, &open->value);
    bool locked =
        (bound->insn.prefixes & PREFIX_LOCK) || (bound->insn.form->attributes & INSN_LOCKS_ALWAYS);
    return memory_open(vcpu, bound->insn.segment, effective_address(vcpu, bound), operand->bytes,
                       locked, &open->memory, &open->value);
}

ALWAYS_INLINE int operand_close(struct vcpu *vcpu, struct open_operand *open, uint64_t value)
{
    if (open->operand->place != PLACE_MEMORY) {
        operand_write_register(vcpu, open->operand, value);
        return 0;
    }
    return memory_close(vcpu, &open->memory, &open->value, value);
}

// Give up an open operand without storing.
ALWAYS_INLINE void operand_drop(struct vcpu *vcpu, struct open_operand *open)
{
    if (open->operand->place == PLACE_MEMORY)
        memory_drop(vcpu, &open->memory);
}

// ---- Flags ----

// Conditions as encoded in the low nibble of Jcc, SETcc and CMOVcc.
ALWAYS_INLINE bool condition_holds(uint64_t flags, unsigned code)
{
    bool holds;
    switch ((code >> 1) & 7) {
    case 0:
        holds = flags & FLAG_OF;
        break;
    case 1:
        holds = flags & FLAG_CF;
        break;
    case 2:
        holds = flags & FLAG_ZF;
        break;
    case 3:
        holds = flags & (FLAG_CF | FLAG_ZF);
        break;
    case 4:
        holds = flags & FLAG_SF;
        break;
    case 5:
        holds = flags & FLAG_PF;
        break;
    case 6:
        holds = ((flags >> 7) ^ (flags >> 11)) & 1;
        break;
    default:
        holds = (((flags >> 7) ^ (flags >> 11)) & 1) | ((flags >> 6) & 1);
        break;
    }
    return holds ^ (code & 1);
}

// The address mask of stack accesses: 64-bit code, or SS.B.
ALWAYS_INLINE unsigned stack_address_bytes(const struct vcpu *vcpu)
{
    if (engine_cpu_of((struct vcpu *)vcpu)->code_mode == CODE_64)
        return 8;
    return vcpu->state.segment[SEG_SS].attributes & SEG_DB ? 4 : 2;
}

#endif
