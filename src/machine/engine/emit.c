// SPDX-License-Identifier: Apache-2.0
//
// Encodings, by the AMD64 Architecture Programmer's Manual, volume 3, chapter 1 (prefixes, ModRM, SIB, VEX).
#include "machine/engine/emit.h"

#include <assert.h>

void emit_modrm_memory(struct emitter *e, unsigned reg, struct host_memory m)
{
    unsigned field = (reg & 7) << 3;
    unsigned index = m.index == HOST_NONE ? 4 : (unsigned)m.index & 7;

    assert(m.index != RSP);
    if (m.base == HOST_NONE) { // disp32, absolute or after an index: the SIB form without base
        emit_u8(e, field | 4);
        emit_u8(e, (unsigned)m.scale << 6 | index << 3 | 5);
        emit_u32(e, (uint32_t)m.displacement);
        return;
    }
    unsigned base = (unsigned)m.base & 7;
    unsigned mod = m.displacement == 0 && base != 5 ? 0 : fits_i8(m.displacement) ? 1 : 2;
    if (m.index != HOST_NONE || base == 4) {
        emit_u8(e, mod << 6 | field | 4);
        emit_u8(e, (unsigned)m.scale << 6 | index << 3 | base);
    } else {
        emit_u8(e, mod << 6 | field | base);
    }
    if (mod == 1)
        emit_u8(e, (uint32_t)m.displacement);
    else if (mod == 2)
        emit_u32(e, (uint32_t)m.displacement);
}

static void emit_opcode(struct emitter *e, unsigned rex, unsigned opcode)
{
    if (rex)
        emit_u8(e, 0x40 | rex);
    if (opcode > 0xFFFF)
        emit_u8(e, opcode >> 16);
    if (opcode > 0xFF)
        emit_u8(e, opcode >> 8);
    emit_u8(e, opcode);
}

void emit_op_memory(struct emitter *e, bool wide, unsigned opcode, unsigned reg,
                    struct host_memory m)
{
    if (m.gs)
        emit_u8(e, 0x65);
    emit_opcode(e, (wide ? 8u : 0u) | (reg & 8 ? 4u : 0u) | host_rex_xb(m), opcode);
    emit_modrm_memory(e, reg, m);
}

void emit_load_rip_relative(struct emitter *e, unsigned reg, const uint8_t *memory)
{
    emit_opcode(e, 8u | (reg & 8 ? 4u : 0u), 0x8B);
    emit_u8(e, (reg & 7) << 3 | 5);
    emit_u32(e, (uint32_t)(memory - (e->at + 4)));
}

void emit_op_register(struct emitter *e, bool wide, unsigned opcode, unsigned reg, unsigned rm)
{
    emit_opcode(e, (wide ? 8u : 0u) | (reg & 8 ? 4u : 0u) | (rm & 8 ? 1u : 0u), opcode);
    emit_u8(e, 0xC0 | (reg & 7) << 3 | (rm & 7));
}

void emit_constant(struct emitter *e, unsigned reg, uint64_t value)
{
    if (value <= UINT32_MAX) {
        if (reg & 8)
            emit_u8(e, 0x41);
        emit_u8(e, 0xB8 | (reg & 7));
        emit_u32(e, (uint32_t)value);
    } else if (fits_i32(value)) {
        emit_op_register(e, true, 0xC7, 0, reg);
        emit_u32(e, (uint32_t)value);
    } else {
        emit_u8(e, 0x48 | (reg & 8 ? 1 : 0));
        emit_u8(e, 0xB8 | (reg & 7));
        emit_u64(e, value);
    }
}

// Three-byte VEX, L = 0, W = 1.
static void emit_vex_wide(struct emitter *e, unsigned map, unsigned pp, unsigned reg, unsigned vvvv,
                          unsigned xb, unsigned opcode)
{
    emit_u8(e, 0xC4);
    emit_u8(e, (reg & 8 ? 0u : 0x80u) | (xb & 2 ? 0u : 0x40u) | (xb & 1 ? 0u : 0x20u) | map);
    emit_u8(e, 0x80 | (~vvvv & 15) << 3 | pp);
    emit_u8(e, opcode);
}

void emit_rorx(struct emitter *e, unsigned reg, unsigned from, unsigned count)
{
    emit_vex_wide(e, 3, 3, reg, 0, from & 8 ? 1 : 0, 0xF0);
    emit_u8(e, 0xC0 | (reg & 7) << 3 | (from & 7));
    emit_u8(e, count);
}

static void emit_bits_by_mask(struct emitter *e, unsigned pp, unsigned reg, unsigned from,
                              struct host_memory mask)
{
    if (mask.gs)
        emit_u8(e, 0x65);
    emit_vex_wide(e, 2, pp, reg, from, host_rex_xb(mask), 0xF5);
    emit_modrm_memory(e, reg, mask);
}

void emit_pext_memory(struct emitter *e, unsigned reg, unsigned from, struct host_memory mask)
{
    emit_bits_by_mask(e, 2, reg, from, mask);
}

void emit_pdep_memory(struct emitter *e, unsigned reg, unsigned from, struct host_memory mask)
{
    emit_bits_by_mask(e, 3, reg, from, mask);
}

uint8_t *emit_jmp(struct emitter *e)
{
    emit_u8(e, 0xE9);
    emit_u32(e, 0);
    return e->at - 4;
}

uint8_t *emit_jcc(struct emitter *e, unsigned condition)
{
    emit_u8(e, 0x0F);
    emit_u8(e, 0x80 | condition);
    emit_u32(e, 0);
    return e->at - 4;
}

uint8_t *emit_jrcxz(struct emitter *e)
{
    emit_u8(e, 0xE3);
    emit_u8(e, 0);
    return e->at - 1;
}

void emit_jmp_memory(struct emitter *e, struct host_memory m)
{
    emit_op_memory(e, false, 0xFF, 4, m);
}

void emit_nops(struct emitter *e, unsigned count)
{
    static const uint8_t nops[8][8] = {
        {0x90},
        {0x66, 0x90},
        {0x0F, 0x1F, 0x00},
        {0x0F, 0x1F, 0x40, 0x00},
        {0x0F, 0x1F, 0x44, 0x00, 0x00},
        {0x66, 0x0F, 0x1F, 0x44, 0x00, 0x00},
        {0x0F, 0x1F, 0x80, 0x00, 0x00, 0x00, 0x00},
        {0x0F, 0x1F, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
    };

    for (; count >= 8; count -= 8)
        emit_bytes(e, nops[7], 8);
    if (count > 0)
        emit_bytes(e, nops[count - 1], count);
}
