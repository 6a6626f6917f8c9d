// SPDX-License-Identifier: Apache-2.0
//
// What a decoded instruction reads and writes, for the translator's liveness and the interpreter's
// sizes. Every answer is computed from the form and the instance; where the instance leaves it
// open, the answer errs towards reading more and killing less.
#include "base/bits.h"
#include "machine/engine/decode.h"

static unsigned size_by_vector(const struct insn *insn, unsigned bytes_128)
{
    return bytes_128 << insn->vex_l;
}

unsigned insn_operand_bytes(const struct insn *insn, unsigned operand)
{
    bool small = insn->operand_size == 2;
    bool wide = insn->mode == CODE_64;
    switch ((enum operand_size)insn->form->operands[operand].size) {
    case SIZE_NONE:
    case SIZE_COUNT:
        return 0;
    case SIZE_B:
        return 1;
    case SIZE_W:
        return 2;
    case SIZE_D:
        return 4;
    case SIZE_Q:
        return 8;
    case SIZE_V:
        return insn->operand_size;
    case SIZE_Z:
        return small ? 2 : 4;
    case SIZE_Y:
        return wide && (insn->rex & REX_W) ? 8 : 4;
    case SIZE_DQ:
        return 16;
    case SIZE_QQ:
        return 32;
    case SIZE_X:
        return size_by_vector(insn, 16);
    case SIZE_HALF_X:
        return size_by_vector(insn, 8);
    case SIZE_QUARTER_X:
        return size_by_vector(insn, 4);
    case SIZE_EIGHTH_X:
        return size_by_vector(insn, 2);
    case SIZE_T:
        return 10;
    case SIZE_P:
        return insn->operand_size + 2u;
    case SIZE_S:
        return wide ? 10 : 6;
    case SIZE_A:
        return insn->operand_size * 2u;
    case SIZE_ADDRESS:
        return insn->address_size;
    case SIZE_NATIVE:
        return wide ? 8 : 4;
    case SIZE_ENV:
        return small ? 14 : 28;
    case SIZE_FSAVE:
        return small ? 94 : 108;
    case SIZE_FXSAVE:
        return 512;
    }
    return 0;
}

// ---- General registers ----

static uint16_t register_bit(const struct insn *insn, unsigned number, unsigned bytes)
{
    return (uint16_t)(1u << (insn_is_high_byte(insn, number, bytes) ? number - 4 : number));
}

// The general register that an operand is, as a mask; 0 if it is none.
static uint16_t operand_register(const struct insn *insn, unsigned operand)
{
    unsigned bytes = insn_operand_bytes(insn, operand);
    enum operand_kind kind = insn->form->operands[operand].kind;
    switch ((unsigned)kind) {
    case OPERAND_RM:
        return insn->mod == 3 ? register_bit(insn, insn->rm, bytes) : 0;
    case OPERAND_RM_GPR:
    case OPERAND_OPCODE_GPR:
        return register_bit(insn, insn->rm, bytes);
    case OPERAND_GPR:
        return register_bit(insn, insn->reg, bytes);
    case OPERAND_VVVV_GPR:
        return register_bit(insn, insn->vex_vvvv, bytes);
    case OPERAND_ACC:
        return 1u << RAX;
    case OPERAND_CL:
        return 1u << RCX;
    case OPERAND_DX:
        return 1u << RDX;
    default:
        return 0;
    }
}

static uint16_t address_registers(const struct insn *insn)
{
    uint16_t mask = 0;
    if (insn->mod == 3)
        return 0;
    if (insn->base < GPR_COUNT)
        mask |= (uint16_t)(1u << insn->base);
    if (insn->index < GPR_COUNT && insn->form->operands[1].kind != OPERAND_VSIB)
        mask |= (uint16_t)(1u << insn->index);
    return mask;
}

static bool repeats(const struct insn *insn)
{
    return (insn->form->attributes & INSN_REP) && (insn->prefixes & (PREFIX_REP | PREFIX_REPNE));
}

// Writing less than 4 bytes keeps the rest. (A conditional move's destination is read as the table says.)
static bool write_is_partial(unsigned bytes)
{
    return bytes < 4;
}

// XOR, SUB and SBB of a register with itself do not depend on it (SBB only on the carry).
static bool is_zeroing(const struct insn *insn)
{
    enum insn_op op = insn->form->op;
    return (op == OP_XOR || op == OP_SUB || op == OP_SBB) && insn->mod == 3 &&
           insn->encoding == ENCODING_LEGACY && insn->reg == insn->rm &&
           insn->form->operands[0].kind != OPERAND_ACC &&
           insn->form->operands[1].kind != OPERAND_IMM && insn_operand_bytes(insn, 0) >= 4;
}

// Does an implicit write leave a part of its register, or perhaps all of it?
static bool implicit_write_is_partial(const struct insn *insn)
{
    switch ((unsigned)insn->form->op) {
    case OP_MUL:
    case OP_IMUL:
    case OP_DIV:
    case OP_IDIV:
        return insn->operand_size == 2 || insn_operand_bytes(insn, 0) == 1;
    case OP_CBW:
    case OP_CWD:
    case OP_POPA:
    case OP_ENTER:
    case OP_LEAVE:
        return insn->operand_size == 2;
    case OP_CMPXCHG:
    case OP_CMPXCHG8B:
    case OP_CMPXCHG16B:
    case OP_LAHF:
    case OP_SALC:
    case OP_XLAT:
    case OP_DAA:
    case OP_DAS:
    case OP_AAA:
    case OP_AAS:
    case OP_AAM:
    case OP_AAD:
        return true;
    default:
        return insn->form->class == CLASS_STRING;
    }
}

uint16_t insn_registers_read(const struct insn *insn)
{
    const struct insn_form *form = insn->form;
    uint16_t mask = form->implicit_read | address_registers(insn);
    bool zeroing = is_zeroing(insn);
    for (unsigned i = 0; i < ARRAY_LENGTH(form->operands); i++) {
        const struct insn_operand *operand = &form->operands[i];
        bool reads = operand->access & ACCESS_READ;
        bool keeps = (operand->access & ACCESS_WRITE) &&
                     (repeats(insn) || write_is_partial(insn_operand_bytes(insn, i)));
        if ((reads && !zeroing) || keeps)
            mask |= operand_register(insn, i);
    }
    if (repeats(insn))
        mask |= 1u << RCX;
    if (implicit_write_is_partial(insn))
        mask |= form->implicit_written;
    return mask;
}

uint16_t insn_registers_written(const struct insn *insn)
{
    const struct insn_form *form = insn->form;
    uint16_t mask = form->implicit_written;
    for (unsigned i = 0; i < ARRAY_LENGTH(form->operands); i++) {
        if (form->operands[i].access & ACCESS_WRITE)
            mask |= operand_register(insn, i);
    }
    if (repeats(insn))
        mask |= 1u << RCX;
    return mask;
}

// ---- Flags ----

static bool is_shift(const struct insn *insn)
{
    switch ((unsigned)insn->form->op) {
    case OP_ROL:
    case OP_ROR:
    case OP_RCL:
    case OP_RCR:
    case OP_SHL:
    case OP_SHR:
    case OP_SAR:
    case OP_SHLD:
    case OP_SHRD:
        return true;
    default:
        return false;
    }
}

// A shift's count when it is an immediate (masked as the processor does), 1 for the short forms, -1
// for CL.
static int shift_count(const struct insn *insn)
{
    if (insn->immediate_bytes)
        return (int)insn->immediate & (insn_operand_bytes(insn, 0) == 8 ? 63 : 31);
    return insn->form->attributes & INSN_FLAGS_MAYBE ? -1 : 1;
}

// Flags change for certain, never, or as it turns out at run time.
enum flags_change { FLAGS_KEPT, FLAGS_CHANGED, FLAGS_OPEN };

static enum flags_change flags_change(const struct insn *insn)
{
    if (is_shift(insn)) {
        int count = shift_count(insn);
        if (count < 0)
            return FLAGS_OPEN;
        return count ? FLAGS_CHANGED : FLAGS_KEPT;
    }
    return repeats(insn) ? FLAGS_OPEN : FLAGS_CHANGED;
}

uint16_t insn_flags_read(const struct insn *insn)
{
    return insn->form->flags_read;
}

uint16_t insn_flags_written(const struct insn *insn)
{
    if (flags_change(insn) == FLAGS_KEPT)
        return 0;
    uint16_t written = insn->form->flags_written;
    if (is_shift(insn) && shift_count(insn) == 1)
        written |= FLAG_OF;
    return written;
}

uint16_t insn_flags_undefined(const struct insn *insn)
{
    if (flags_change(insn) == FLAGS_KEPT)
        return 0;
    uint16_t undefined = insn->form->flags_undefined;
    if (is_shift(insn) && shift_count(insn) == 1)
        undefined &= (uint16_t)~FLAG_OF;
    return undefined;
}

uint16_t insn_flags_killed(const struct insn *insn)
{
    if (flags_change(insn) != FLAGS_CHANGED)
        return 0;
    return insn_flags_written(insn) | insn_flags_undefined(insn);
}

// ---- Memory ----

static struct insn_access access_of_operand(const struct insn *insn, unsigned i)
{
    return (struct insn_access){insn->form->operands[i].access, insn_operand_bytes(insn, i)};
}

static bool is_memory_operand(const struct insn *insn, unsigned i)
{
    switch ((unsigned)insn->form->operands[i].kind) {
    case OPERAND_RM:
    case OPERAND_MEM:
    case OPERAND_MMX_RM:
    case OPERAND_VEC_RM:
    case OPERAND_MOFFS:
    case OPERAND_VSIB:
        return insn->mod != 3;
    case OPERAND_STRING_SRC:
    case OPERAND_STRING_DST:
        return true;
    default:
        return false;
    }
}

struct insn_access insn_memory_access(const struct insn *insn)
{
    if (!(insn->form->attributes & INSN_NO_ACCESS)) {
        for (unsigned i = 0; i < ARRAY_LENGTH(insn->form->operands); i++) {
            if (is_memory_operand(insn, i))
                return access_of_operand(insn, i);
        }
    }
    return (struct insn_access){ACCESS_NONE, 0};
}
