// SPDX-License-Identifier: Apache-2.0
//
// Between decode.c and insn_table.c (made from insn_table.txt): how a form is found and what
// follows its ModRM.
#ifndef WIRT_MACHINE_ENGINE_DECODE_TABLE_H
#define WIRT_MACHINE_ENGINE_DECODE_TABLE_H

#include "machine/engine/decode.h"

// What a form may ask about (insn_form.match_mask): the instruction's properties at these bit
// positions.
enum selector_shift {
    SELECT_REG = 0,   // ModRM.reg
    SELECT_RM = 3,    // ModRM.rm
    SELECT_MOD3 = 6,  // ModRM.mod is 3
    SELECT_PP = 7,    // mandatory prefix: 0 none, 1: 66, 2: F3, 3: F2
    SELECT_W = 9,     // REX.W or VEX.W
    SELECT_L = 10,    // VEX.L
    SELECT_M64 = 11,  // 64-bit mode
    SELECT_REXB = 12, // REX.B
    SELECT_LOCK = 13, // LOCK prefix
};

enum immediate_kind {
    IMMEDIATE_NONE,
    IMMEDIATE_U8,
    IMMEDIATE_S8,
    IMMEDIATE_U16,
    IMMEDIATE_Z,     // 2 or 4 bytes by operand size, sign-extended
    IMMEDIATE_V,     // 2, 4 or 8 bytes by operand size
    IMMEDIATE_FAR,   // offset of 2 or 4 bytes, selector
    IMMEDIATE_MOFFS, // address of 2, 4 or 8 bytes by address size
};

// Restrictions beyond the selector bits.
enum form_check {
    CHECK_NONE,
    CHECK_SEG,      // segment registers 0 to 5
    CHECK_SEG_LOAD, // the same without CS
    CHECK_CR,       // CR0, CR2, CR3, CR4, CR8
    CHECK_CR8,      // CR0, which a LOCK prefix makes CR8 (APM 3, "MOV CRn")
    CHECK_DR,       // DR0 to DR7
    CHECK_GATHER,   // SIB with a vector index; destination, index and mask differ
    CHECK_SEG_ES,   // no restriction: the operand is this segment register
    CHECK_SEG_CS,
    CHECK_SEG_SS,
    CHECK_SEG_DS,
    CHECK_SEG_FS,
    CHECK_SEG_GS,
};

enum slot_flag {
    SLOT_MODRM = 1,     // a ModRM byte follows the opcode
    SLOT_NO_MEMORY = 2, // ModRM.mod is ignored: always a register
};

// The forms of one opcode: insn_forms[first] to insn_forms[first + count - 1], the first that fits
// is taken.
struct opcode_slot {
    uint16_t first;
    uint8_t count;
    uint8_t flags;
};

enum {
    LEGACY_MAPS = 4,
    VEX_MAPS = 3,
    SLOT_MAPS = LEGACY_MAPS + VEX_MAPS
}; // VEX has no one-byte map

extern const struct insn_form insn_forms[];
extern const unsigned insn_form_count;
extern const struct opcode_slot opcode_slots[SLOT_MAPS][256];

#endif
