// SPDX-License-Identifier: Apache-2.0
//
// The instruction decoder: bytes in, one `struct insn` out.
//
// decode() is pure: it touches nothing but its arguments and constant tables, allocates nothing and
// may be called from any thread. It knows the instruction set, not the CPU: whether the guest's CPU
// model offers form->feature, whether CR0, CR4 and XCR0 allow the class, the privilege level and
// the alignment of operands are for the caller to check, in that order, from what the form says.
//
// What an instruction *is* stands in its form, a constant table entry shared by all instructions of
// one shape
// (`insn->form`); what these bytes *say* stands in `struct insn`. The table is insn_table.txt, from
// which the build makes insn_table.c (tools/make-insn-table).
//
// Choices where CPUs differ (AMD64 Architecture Programmer's Manual, volumes 2 and 3, is followed):
//  - 66 on a near branch in 64-bit mode is honoured as AMD does: 16-bit displacement and RIP
//  truncated to 16 bits.
//    Intel ignores it.
//  - 66 F2 and 66 F3 together: F2 and F3 win as mandatory prefixes over 66; the last of F2 and F3
//  wins.
//  - EVEX, XOP, AMX, MPX and 3DNow! arithmetic do not exist in wirt's CPU models: invalid.
//  - What is refused is fetched whole all the same, as far as the table or the opcode's map tells
//  its length: #PF and, beyond 15 bytes, #GP come before #UD.
//  - VPERMQ and VPERMPD need VEX.W, as the Intel SDM lists them; Zen 5 ignores it there.
//  - F3 0F BC and F3 0F BD decode as TZCNT and LZCNT; where the model has no such feature call
//  insn_fall_back(), which
//    makes BSF and BSR of them. ENDBR, and the other CET hints, are NOPs.
//  - VEX instructions in 16-bit mode decode; the caller refuses them in real and virtual-8086 mode
//  (INSN_VEX).
#ifndef WIRT_MACHINE_ENGINE_DECODE_H
#define WIRT_MACHINE_ENGINE_DECODE_H

#include "machine/cpu/cpu_feature.h"
#include "machine/cpu/cpu_state.h"
#include "machine/engine/insn_op.h"
#include "machine/engine/insn_op_vector.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INSN_MAX_BYTES 15

// The default operand size of the code segment: CS.D clear, CS.D set, CS.L set.
enum code_mode { CODE_16 = 16, CODE_32 = 32, CODE_64 = 64 };

enum decode_error {
    DECODE_NEED_MORE = -1, // `available` ends inside the instruction: fetch on
    DECODE_INVALID = -2,   // #UD
    DECODE_TOO_LONG = -3,  // more than 15 bytes: #GP(0)
};

// ---- What the table says about a shape of instruction ----

enum insn_op {
    OP_NONE,
#define X(name, text) OP_##name,
    INSN_OPS_INTEGER(X) INSN_OPS_SYSTEM(X) INSN_OPS_X87(X) INSN_OPS_VECTOR(X)
#undef X
        INSN_OP_COUNT
};

enum insn_class {
    CLASS_INTEGER, // general registers, memory, arithmetic flags: nothing else
    CLASS_STACK,   // PUSH, POP, PUSHA, POPA, ENTER, LEAVE (PUSHF and POPF are SYSTEM)
    CLASS_BRANCH,  // near jumps, conditional or not, LOOP
    CLASS_CALL,    // near calls
    CLASS_RET,     // near returns
    CLASS_STRING,  // MOVS, CMPS, STOS, LODS, SCAS (INS and OUTS are IO)
    CLASS_IO,      // IN, OUT, INS, OUTS: CPL, IOPL and the TSS decide
    CLASS_FAR,     // far transfers, IRET, INT: loads CS
    CLASS_SEGMENT, // loads or stores a segment register other than CS
    CLASS_SYSTEM,  // anything else privileged or changing state beyond registers
    CLASS_X87,     // x87: CR0.EM, CR0.TS, pending exceptions
    CLASS_MMX,     // MMX registers: CR0.EM (#UD), CR0.TS, pending x87 exceptions
    CLASS_SSE,     // XMM registers, legacy encoding: CR0.EM (#UD), CR4.OSFXSR (#UD), CR0.TS
    CLASS_AVX,     // XMM and YMM registers, VEX encoding: CR4.OSXSAVE and XCR0 (#UD), CR0.TS;
                   // needs CPU_FEATURE_AVX besides form->feature
    CLASS_COUNT
};

// How an operand is encoded.
enum operand_kind {
    OPERAND_NONE,
    OPERAND_RM,          // E: general register or memory by ModRM.rm
    OPERAND_RM_GPR,      // R: general register by ModRM.rm, never memory
    OPERAND_MEM,         // M: memory by ModRM.rm, never a register
    OPERAND_GPR,         // G: general register by ModRM.reg
    OPERAND_VVVV_GPR,    // B: general register by VEX.vvvv
    OPERAND_OPCODE_GPR,  // Z: general register by the opcode's low three bits (insn->rm)
    OPERAND_ACC,         // AL, AX, EAX, RAX
    OPERAND_CL,          // CL
    OPERAND_DX,          // DX as an I/O port
    OPERAND_ONE,         // the constant 1
    OPERAND_IMM,         // I: insn->immediate, already extended to 64 bits as the instruction says
    OPERAND_IMM2,        // insn->immediate2
    OPERAND_REL,         // J: insn->immediate, relative to the next instruction
    OPERAND_FAR_POINTER, // A: selector in immediate2, offset in immediate
    OPERAND_MOFFS,       // O: memory at the absolute offset insn->displacement
    OPERAND_STRING_SRC,  // X: memory at segment:rSI
    OPERAND_STRING_DST,  // Y: memory at ES:rDI
    OPERAND_SEG,         // S: segment register by ModRM.reg (insn->reg)
    OPERAND_FIXED_SEG,   // the segment register in insn->reg, which follows from the opcode
    OPERAND_CR,          // C: control register by ModRM.reg
    OPERAND_DR,          // D: debug register by ModRM.reg
    OPERAND_ST0,         // x87 stack top
    OPERAND_STI,         // x87 register by ModRM.rm (insn->rm)
    OPERAND_MMX_REG,     // P: MMX register by ModRM.reg
    OPERAND_MMX_RM,      // Q: MMX register or memory by ModRM.rm
    OPERAND_MMX_RM_REG,  // N: MMX register by ModRM.rm
    OPERAND_VEC_REG,     // V: XMM or YMM register by ModRM.reg
    OPERAND_VEC_RM,      // W: XMM or YMM register or memory by ModRM.rm
    OPERAND_VEC_RM_REG,  // U: XMM or YMM register by ModRM.rm
    OPERAND_VEC_VVVV,    // H: XMM or YMM register by VEX.vvvv
    OPERAND_VEC_IMM,     // L: XMM or YMM register by the immediate's upper four bits
    OPERAND_XMM0,        // the implicit XMM0 of BLENDV and SHA256RNDS2
    OPERAND_VSIB,        // memory by ModRM.rm with a vector as index (gathers)
    OPERAND_KIND_COUNT
};

// How wide an operand is; insn_operand_bytes() computes it.
enum operand_size {
    SIZE_NONE,      // no size: LEA, hints, XSAVE areas (insn_memory_bytes() is 0)
    SIZE_B,         // 1
    SIZE_W,         // 2
    SIZE_D,         // 4
    SIZE_Q,         // 8
    SIZE_V,         // 2, 4, 8 by operand size
    SIZE_Z,         // 2, 4, 4 by operand size
    SIZE_Y,         // 4, 8 by REX.W or VEX.W (4 where the operand size is 2)
    SIZE_DQ,        // 16
    SIZE_QQ,        // 32
    SIZE_X,         // 16, 32 by VEX.L
    SIZE_HALF_X,    // 8, 16 by VEX.L
    SIZE_QUARTER_X, // 4, 8 by VEX.L
    SIZE_EIGHTH_X,  // 2, 4 by VEX.L
    SIZE_T,         // 10: x87 extended real, packed BCD
    SIZE_P,         // far pointer: selector after an offset of the operand size: 4, 6, 10
    SIZE_S,         // pseudo-descriptor: 6, in 64-bit mode 10
    SIZE_A,         // BOUND's pair: 4, 8
    SIZE_ADDRESS,   // the address size
    SIZE_NATIVE,    // 4, in 64-bit mode 8: control and debug registers
    SIZE_ENV,       // x87 environment: 14, 28
    SIZE_FSAVE,     // x87 state: 94, 108
    SIZE_FXSAVE,    // 512
    SIZE_COUNT
};

enum operand_access { ACCESS_NONE = 0, ACCESS_READ = 1, ACCESS_WRITE = 2, ACCESS_RW = 3 };

struct insn_operand {
    uint8_t kind;   // enum operand_kind
    uint8_t size;   // enum operand_size
    uint8_t access; // enum operand_access
};

enum insn_attribute {
    INSN_LOCKABLE = 1u << 0,         // LOCK is allowed with memory; decode() has checked it
    INSN_CPL0 = 1u << 1,             // #GP unless CPL is 0
    INSN_DEFAULT_64 = 1u << 2,       // operand size 64 by default in 64-bit mode
    INSN_INVALID_64 = 1u << 3,       // not in 64-bit mode
    INSN_ONLY_64 = 1u << 4,          // only in 64-bit mode
    INSN_ALIGNED = 1u << 5,          // memory operand must be aligned to its size: #GP
    INSN_NO_ACCESS = 1u << 6,        // memory operand is an address only: LEA, NOP, PREFETCH
    INSN_FLAGS_MAYBE = 1u << 7,      // flags_written may keep their values: shifts by 0, REP
    INSN_REP = 1u << 8,              // REP, or REPE and REPNE, repeat it
    INSN_MODRM = 1u << 9,            // has a ModRM byte
    INSN_VEX = 1u << 10,             // VEX encoded: #UD in real and virtual-8086 mode
    INSN_PROTECTED = 1u << 11,       // #UD in real and virtual-8086 mode: ARPL, LAR, LLDT
    INSN_SHADOW = 1u << 12,          // inhibits interrupts after it: STI, MOV SS, POP SS
    INSN_END = 1u << 13,             // control may not go on to the next instruction
    INSN_BIT_OFFSET = 1u << 14,      // BT and its like by register: the offset moves the address
    INSN_IGNORES_66 = 1u << 15,      // 66 does not change the operand size
    INSN_CLEARS_UPPER = 1u << 16,    // VEX: zeroes the bits above its destination
    INSN_NON_TEMPORAL = 1u << 17,    // MOVNT and its like, otherwise a plain access
    INSN_LOCKS_ALWAYS = 1u << 18,    // atomic without LOCK when the operand is memory: XCHG
    INSN_FALLBACK = 1u << 19,        // older meaning without the feature: insn_fall_back()
    INSN_MASKED = 1u << 20,          // accesses only elements that a mask selects
    INSN_IMPLICIT_MEMORY = 1u << 21, // accesses memory that is no operand: stack, XLAT, MASKMOV
    INSN_USES_VVVV = 1u << 22,       // VEX.vvvv is an operand; else it must be 1111
    INSN_TOUCHES_MMX = 1u << 23,     // of CLASS_SSE, but uses an MMX register or switches to MMX
};

struct insn_form {
    uint16_t op;                     // enum insn_op
    uint8_t class;                   // enum insn_class
    uint8_t feature;                 // enum cpu_feature: needed to exist
    struct insn_operand operands[4]; // destination first; OPERAND_NONE ends them
    uint16_t flags_read;             // FLAG_* of cpu_state.h
    uint16_t flags_written;          // to a defined value (see INSN_FLAGS_MAYBE)
    uint16_t flags_undefined;        // left with an undefined value; never also in flags_written
    uint16_t implicit_read;          // general registers that are no operands: bit n is register n
    uint16_t implicit_written;
    uint32_t attributes; // INSN_*
    // Private to the decoder (decode_table.h):
    uint16_t fallback;    // index of the form that insn_fall_back() takes
    uint16_t match_mask;  // which selector bits this form asks about,
    uint16_t match_value; // and what they must be
    uint8_t immediate;    // enum immediate_kind
    uint8_t immediate2;
    uint8_t check; // enum form_check
};

// ---- What the bytes say ----

enum insn_encoding { ENCODING_LEGACY, ENCODING_VEX };
enum insn_map { MAP_ONE, MAP_0F, MAP_0F38, MAP_0F3A }; // values as VEX.mmmmm

enum insn_prefix {
    PREFIX_LOCK = 1,      // F0
    PREFIX_REPNE = 2,     // F2 is the later of F2 and F3 (mandatory prefixes included)
    PREFIX_REP = 4,       // F3 is the later
    PREFIX_OPSIZE = 8,    // 66
    PREFIX_ADDRSIZE = 16, // 67
    PREFIX_SEGMENT = 32,  // a segment override that counts (in 64-bit mode FS and GS only)
};

// W, R, X and B come from VEX, too; PRESENT does not.
enum insn_rex { REX_B = 1, REX_X = 2, REX_R = 4, REX_W = 8, REX_PRESENT = 0x40 };

enum { INSN_REG_NONE = 0xff, INSN_REG_RIP = 0x10 }; // for base and index

struct insn {
    const struct insn_form *form;
    uint64_t immediate;       // extended; of a branch the displacement, of a far pointer the offset
    int64_t displacement;     // of the memory operand, sign-extended; moffs: the offset
    uint16_t immediate2;      // ENTER's level, far pointer's selector, EXTRQ's second byte
    uint8_t length;           // 1 to 15
    uint8_t mode;             // enum code_mode it was decoded in
    uint8_t encoding;         // enum insn_encoding
    uint8_t map;              // enum insn_map
    uint8_t opcode;           // last opcode byte
    uint8_t opcode_at;        // its offset in the instruction
    uint8_t prefixes;         // PREFIX_* (VEX.pp appears in vex_pp only)
    uint8_t rex;              // REX_*
    uint8_t segment_override; // enum segment_name as prefixed and counting, or SEG_NONE
    uint8_t segment;          // effective segment: of the memory operand, of a string's source
                              // (destination: ES), of XLAT and MASKMOV; else SEG_NONE
    uint8_t vex_pp;           // 0 none, 1: 66, 2: F3, 3: F2
    uint8_t vex_l;            // 0: 128 bits, 1: 256 bits
    uint8_t vex_vvvv;         // register number (already complemented)
    uint8_t operand_size;     // 2, 4, 8 (instructions on bytes say so in their operands' sizes)
    uint8_t address_size;     // 2, 4, 8
    uint8_t modrm;            // the byte
    uint8_t modrm_at;         // its offset, 0 without one
    uint8_t mod;              // 0 to 3; 3 without ModRM, 0 for an absolute offset (moffs)
    uint8_t reg;   // ModRM.reg extended by REX.R or VEX.R; of FIXED_SEG operands the segment
    uint8_t rm;    // ModRM.rm, or the opcode's register, extended by REX.B; with memory raw bits
    uint8_t base;  // 0 to 15, INSN_REG_RIP or INSN_REG_NONE; 16-bit addressing too (BX, BP, SI, DI)
    uint8_t index; // 0 to 15 or INSN_REG_NONE; with VSIB a vector register
    uint8_t scale; // 0 to 3: shift
    uint8_t displacement_bytes; // 0, 1, 2, 4, 8
    uint8_t displacement_at;    // offset in the instruction, 0 without one
    uint8_t immediate_bytes;    // 0, 1, 2, 4, 8
    uint8_t immediate_at;
    uint8_t immediate2_bytes;
    uint8_t immediate2_at;
};

// Decode the instruction at `bytes`, of which `available` may be read. Returns its length, or an
// enum decode_error, which leaves *out undefined.
int decode(const uint8_t *bytes, size_t available, enum code_mode mode, struct insn *out);

// The CPU model does not offer insn->form->feature: if the bytes have an older meaning, make it
// that and return true; else it is #UD.
bool insn_fall_back(struct insn *insn);

// A general register of size `bytes` encoded by `number` may be AH, CH, DH or BH: is it? (number 4
// to 7, no REX)
static inline bool insn_is_high_byte(const struct insn *insn, unsigned number, unsigned bytes)
{
    return bytes == 1 && number >= 4 && number < 8 && !(insn->rex & REX_PRESENT) &&
           insn->encoding == ENCODING_LEGACY;
}

// Has it a memory operand by ModRM or an absolute offset? (String instructions have theirs
// elsewhere.)
static inline bool insn_has_memory(const struct insn *insn)
{
    return insn->mod != 3;
}

const char *insn_op_name(enum insn_op op);

// ---- Questions (decode_query.c) ----

// Width in bytes of operand 0 to 3; 0 when it has none.
unsigned insn_operand_bytes(const struct insn *insn, unsigned operand);

// General registers read and written, bit n is register n: explicit, implicit and address
// registers. Writing a part of a register (8 or 16 bits, a conditional move) counts as reading it
// too.
uint16_t insn_registers_read(const struct insn *insn);
uint16_t insn_registers_written(const struct insn *insn);

// Flags, as in the form, with what depends on the instance decided: shifts by an immediate 0, REP
// prefixes, conditions of Jcc. `insn_flags_killed` are the flags whose old value certainly does not
// survive.
uint16_t insn_flags_read(const struct insn *insn);
uint16_t insn_flags_written(const struct insn *insn);
uint16_t insn_flags_undefined(const struct insn *insn);
uint16_t insn_flags_killed(const struct insn *insn);

struct insn_access {
    enum operand_access
        access;     // of the ModRM, moffs or string operand; ACCESS_NONE without an access
    unsigned bytes; // 0 when not fixed (XSAVE)
};

// The explicit memory operand. Implicit accesses (stack) are not counted: see INSN_IMPLICIT_MEMORY.
// MOVS and CMPS have two: this answers for the destination, or for CMPS the source.
struct insn_access insn_memory_access(const struct insn *insn);

#endif
