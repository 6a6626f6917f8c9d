// SPDX-License-Identifier: Apache-2.0
//
// The emitter: writes host instructions into a buffer.
//
// One function an instruction form, named after what it does; no knowledge of guests. An emitter that runs out of room goes on
// writing nothing and says so in `overflow`, so that callers check once, at the end. Jumps are emitted with a displacement to be filled in
// (emit_jcc(), emit_jmp() return where it stands); displacements are relative, so code may be written through another mapping of the
// memory it is executed from.
#ifndef WIRT_MACHINE_ENGINE_EMIT_H
#define WIRT_MACHINE_ENGINE_EMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "machine/cpu/cpu_state.h"

struct emitter {
    uint8_t *at;
    uint8_t *end;
    bool overflow;
};

// A host memory operand. base and index: a register, or HOST_NONE; index is never RSP.
#define HOST_NONE (-1)
struct host_memory {
    int8_t base;
    int8_t index;
    uint8_t scale; // shift
    bool gs;       // in the vCPU's context
    int32_t displacement;
};

static inline struct host_memory host_context(uint64_t offset)
{
    return (struct host_memory){HOST_NONE, HOST_NONE, 0, true, (int32_t)offset};
}

// An array of 8-byte elements in the context, indexed by a register.
static inline struct host_memory host_context_array(uint64_t offset, unsigned index)
{
    return (struct host_memory){HOST_NONE, (int8_t)index, 3, true, (int32_t)offset};
}

static inline struct host_memory host_base(unsigned base, int32_t displacement)
{
    return (struct host_memory){(int8_t)base, HOST_NONE, 0, false, displacement};
}

// Condition codes, as in the opcode's low nibble.
enum host_condition { HOST_O, HOST_NO, HOST_B, HOST_AE, HOST_E, HOST_NE, HOST_BE, HOST_A };

static inline void emit_bytes(struct emitter *e, const void *bytes, unsigned count)
{
    if (e->end - e->at < (int64_t)count) {
        e->overflow = true;
        return;
    }
    memcpy(e->at, bytes, count);
    e->at += count;
}

static inline void emit_u8(struct emitter *e, unsigned value)
{
    uint8_t byte = (uint8_t)value;
    emit_bytes(e, &byte, 1);
}

static inline void emit_u32(struct emitter *e, uint32_t value)
{
    emit_bytes(e, &value, 4);
}

static inline void emit_u64(struct emitter *e, uint64_t value)
{
    emit_bytes(e, &value, 8);
}

static inline bool fits_i32(uint64_t value)
{
    return (uint64_t)(int64_t)(int32_t)value == value;
}

static inline bool fits_i8(int32_t value)
{
    return value == (int8_t)value;
}

static inline unsigned host_rex_xb(struct host_memory m)
{
    return (m.index != HOST_NONE && m.index >= 8 ? 2u : 0u) |
           (m.base != HOST_NONE && m.base >= 8 ? 1u : 0u);
}

// ModRM, SIB and displacement of a memory operand; `reg` is the ModRM.reg field's low three bits.
void emit_modrm_memory(struct emitter *e, unsigned reg, struct host_memory m);

// [GS] [REX] opcode modrm. `opcode` is up to three bytes, 0x0FB7 for 0F B7.
void emit_op_memory(struct emitter *e, bool wide, unsigned opcode, unsigned reg,
                    struct host_memory m);
// From memory near the code, by its address in the same mapping.
void emit_load_rip_relative(struct emitter *e, unsigned reg, const uint8_t *memory);
void emit_op_register(struct emitter *e, bool wide, unsigned opcode, unsigned reg, unsigned rm);

static inline void emit_load(struct emitter *e, unsigned reg, struct host_memory m)
{
    emit_op_memory(e, true, 0x8B, reg, m);
}

static inline void emit_load32(struct emitter *e, unsigned reg, struct host_memory m)
{
    emit_op_memory(e, false, 0x8B, reg, m);
}

static inline void emit_store(struct emitter *e, struct host_memory m, unsigned reg)
{
    emit_op_memory(e, true, 0x89, reg, m);
}

static inline void emit_store_imm32(struct emitter *e, bool wide, struct host_memory m,
                                    uint32_t value)
{
    emit_op_memory(e, wide, 0xC7, 0, m);
    emit_u32(e, value);
}

static inline void emit_move(struct emitter *e, unsigned to, unsigned from)
{
    emit_op_register(e, true, 0x8B, to, from);
}

static inline void emit_lea(struct emitter *e, bool wide, unsigned reg, struct host_memory m)
{
    emit_op_memory(e, wide, 0x8D, reg, m);
}

static inline void emit_add_memory(struct emitter *e, unsigned reg, struct host_memory m)
{
    emit_op_memory(e, true, 0x03, reg, m);
}

static inline void emit_cmp_imm(struct emitter *e, unsigned reg, uint32_t value)
{
    emit_op_register(e, true, 0x81, 7, reg);
    emit_u32(e, value);
}

static inline void emit_cmp_memory_imm(struct emitter *e, bool wide, struct host_memory m,
                                       uint32_t value)
{
    bool small = fits_i8((int32_t)value);

    emit_op_memory(e, wide, small ? 0x83 : 0x81, 7, m);
    if (small)
        emit_u8(e, value);
    else
        emit_u32(e, value);
}

static inline void emit_and32_imm(struct emitter *e, unsigned reg, uint32_t value)
{
    emit_op_register(e, false, 0x81, 4, reg);
    emit_u32(e, value);
}

static inline void emit_test(struct emitter *e, unsigned reg)
{
    emit_op_register(e, true, 0x85, reg, reg);
}

// REX.W makes the low byte of every register reachable.
static inline void emit_movzx8(struct emitter *e, unsigned to, unsigned from)
{
    emit_op_register(e, true, 0x0FB6, to, from);
}

static inline void emit_movzx16(struct emitter *e, unsigned to, unsigned from)
{
    emit_op_register(e, false, 0x0FB7, to, from);
}

// The shortest form that loads the constant; leaves flags alone.
void emit_constant(struct emitter *e, unsigned reg, uint64_t value);

// BMI2, flags untouched: reg = rotate `from` right by `count`; reg = the bits of `from` that the mask in memory selects,
// and back.
void emit_rorx(struct emitter *e, unsigned reg, unsigned from, unsigned count);
void emit_pext_memory(struct emitter *e, unsigned reg, unsigned from, struct host_memory mask);
void emit_pdep_memory(struct emitter *e, unsigned reg, unsigned from, struct host_memory mask);

// Jumps with a 32-bit displacement, which emit_target() sets; the returned pointer is where it stands.
uint8_t *emit_jmp(struct emitter *e);
uint8_t *emit_jcc(struct emitter *e, unsigned condition);
// JRCXZ over what follows; emit_target8() sets how far.
uint8_t *emit_jrcxz(struct emitter *e);
void emit_jmp_memory(struct emitter *e, struct host_memory m);

static inline void emit_target(struct emitter *e, uint8_t *displacement, const uint8_t *target)
{
    if (!e->overflow) {
        int32_t distance = (int32_t)(target - (displacement + 4));
        memcpy(displacement, &distance, 4);
    }
}

static inline void emit_target8(struct emitter *e, uint8_t *displacement)
{
    if (!e->overflow)
        *displacement = (uint8_t)(e->at - (displacement + 1));
}

// Multi-byte NOPs.
void emit_nops(struct emitter *e, unsigned count);

#endif
