// SPDX-License-Identifier: Apache-2.0
//
// Decoding, in the order of the bytes: prefixes, opcode (with its map, perhaps by VEX), ModRM with
// SIB and displacement, then the form, which is found among the few forms of the opcode by the
// selector bits, then what the form says about immediates and sizes.
//
// A cursor counts the bytes used. Beyond the 15th byte an instruction is too long, whatever it
// would be; beyond `available` more bytes are needed. Nothing past min(available, 15) is ever read.
#include "machine/engine/decode.h"
#include "base/bits.h"
#include "machine/engine/decode_table.h"

struct cursor {
    const uint8_t *bytes;
    unsigned at;
    unsigned limit;
};

// Are `count` more bytes there?
static inline bool cursor_has(const struct cursor *cursor, unsigned count)
{
    return cursor->limit - cursor->at >= count;
}

static int cursor_exhausted(const struct cursor *cursor)
{
    return cursor->limit == INSN_MAX_BYTES ? DECODE_TOO_LONG : DECODE_NEED_MORE;
}

// ---- Prefixes ----

enum prefix_kind {
    NO_PREFIX,
    P_ES, // the segments in their order
    P_CS,
    P_SS,
    P_DS,
    P_FS,
    P_GS,
    P_OPSIZE,
    P_ADDRSIZE,
    P_LOCK,
    P_REPNE,
    P_REP,
    P_REX,
};

static const uint8_t prefix_kinds[256] = {
    [0x26] = P_ES,  [0x2E] = P_CS,     [0x36] = P_SS,       [0x3E] = P_DS,   [0x64] = P_FS,
    [0x65] = P_GS,  [0x66] = P_OPSIZE, [0x67] = P_ADDRSIZE, [0xF0] = P_LOCK, [0xF2] = P_REPNE,
    [0xF3] = P_REP, [0x40] = P_REX,    [0x41] = P_REX,      [0x42] = P_REX,  [0x43] = P_REX,
    [0x44] = P_REX, [0x45] = P_REX,    [0x46] = P_REX,      [0x47] = P_REX,  [0x48] = P_REX,
    [0x49] = P_REX, [0x4A] = P_REX,    [0x4B] = P_REX,      [0x4C] = P_REX,  [0x4D] = P_REX,
    [0x4E] = P_REX, [0x4F] = P_REX,
};

static void note_prefix(struct insn *out, enum prefix_kind kind)
{
    if (kind <= P_GS) {
        // In 64-bit mode ES, CS, SS and DS overrides are as if they were not there.
        if (out->mode == CODE_64 && kind < P_FS)
            return;
        out->segment_override = (uint8_t)(kind - P_ES + SEG_ES);
        out->prefixes |= PREFIX_SEGMENT;
    } else if (kind == P_OPSIZE) {
        out->prefixes |= PREFIX_OPSIZE;
    } else if (kind == P_ADDRSIZE) {
        out->prefixes |= PREFIX_ADDRSIZE;
    } else if (kind == P_LOCK) {
        out->prefixes |= PREFIX_LOCK;
    } else {
        out->prefixes &= (uint8_t) ~(PREFIX_REP | PREFIX_REPNE);
        out->prefixes |= kind == P_REP ? PREFIX_REP : PREFIX_REPNE;
    }
}

// Leaves the cursor at the first opcode byte, which is there. A REX counts only right before it.
static int take_prefixes(struct cursor *cursor, struct insn *out)
{
    for (; cursor_has(cursor, 1); cursor->at++) {
        uint8_t byte = cursor->bytes[cursor->at];
        enum prefix_kind kind = prefix_kinds[byte];
        if (kind == P_REX && out->mode == CODE_64) {
            out->rex = (byte & 15) | REX_PRESENT;
        } else if (kind == NO_PREFIX || kind == P_REX) {
            return 0;
        } else {
            out->rex = 0;
            note_prefix(out, kind);
        }
    }
    return cursor_exhausted(cursor);
}

static uint8_t legacy_pp(unsigned prefixes)
{
    if (prefixes & PREFIX_REPNE)
        return 3;
    if (prefixes & PREFIX_REP)
        return 2;
    return prefixes & PREFIX_OPSIZE ? 1 : 0;
}

// ---- Opcode ----

static int take_vex(struct cursor *cursor, struct insn *out)
{
    unsigned payload = cursor->bytes[cursor->at] == 0xC4 ? 2 : 1;
    const uint8_t *vex = cursor->bytes + cursor->at + 1;
    if (!cursor_has(cursor, payload + 2))
        return cursor_exhausted(cursor);
    uint8_t last = vex[payload - 1];
    unsigned map = payload == 2 ? vex[0] & 31 : MAP_0F;
    if (map < MAP_0F || map > MAP_0F3A)
        return DECODE_INVALID;
    out->encoding = ENCODING_VEX;
    out->map = (uint8_t)map;
    out->vex_pp = last & 3;
    out->vex_l = (last >> 2) & 1;
    out->vex_vvvv = (~last >> 3) & 15;
    out->rex &= REX_PRESENT; // before VEX, for check_vex()
    out->rex |= (~vex[0] & 0x80) ? REX_R : 0;
    if (payload == 2)
        out->rex |= (uint8_t)(((~vex[0] >> 5) & 3) | ((last & 0x80) >> 4));
    if (out->mode != CODE_64) // eight registers: the upper bits are ignored, of vvvv in check_vex()
        out->rex &= REX_W;
    cursor->at += payload + 1;
    out->opcode_at = (uint8_t)cursor->at;
    out->opcode = cursor->bytes[cursor->at++];
    return 0;
}

// C4 and C5 outside 64-bit mode are LES and LDS when a memory operand follows.
static bool is_vex(const struct cursor *cursor, enum code_mode mode)
{
    return mode == CODE_64 || cursor->bytes[cursor->at + 1] >= 0xC0;
}

static int take_opcode(struct cursor *cursor, struct insn *out)
{
    uint8_t byte = cursor->bytes[cursor->at];
    if (byte == 0xC4 || byte == 0xC5) {
        if (!cursor_has(cursor, 2))
            return cursor_exhausted(cursor);
        if (is_vex(cursor, out->mode))
            return take_vex(cursor, out);
    }
    if (byte == 0x0F) {
        cursor->at++;
        if (!cursor_has(cursor, 1))
            return cursor_exhausted(cursor);
        byte = cursor->bytes[cursor->at];
        out->map = MAP_0F;
        if (byte == 0x38 || byte == 0x3A) {
            out->map = byte == 0x38 ? MAP_0F38 : MAP_0F3A;
            cursor->at++;
            if (!cursor_has(cursor, 1))
                return cursor_exhausted(cursor);
            byte = cursor->bytes[cursor->at];
        }
    }
    out->opcode_at = (uint8_t)cursor->at++;
    out->opcode = byte;
    return 0;
}

// ---- ModRM, SIB, displacement ----

static void set_segment(struct insn *out, bool stack)
{
    if (out->prefixes & PREFIX_SEGMENT)
        out->segment = out->segment_override;
    else
        out->segment = stack ? SEG_SS : SEG_DS;
}

static void take_displacement(struct cursor *cursor, struct insn *out, unsigned bytes)
{
    const uint8_t *p = cursor->bytes + cursor->at;
    out->displacement_at = (uint8_t)cursor->at;
    out->displacement_bytes = (uint8_t)bytes;
    cursor->at += bytes;
    if (bytes == 1)
        out->displacement = (int8_t)*p;
    else if (bytes == 2)
        out->displacement = (int16_t)load_le16(p);
    else
        out->displacement = (int32_t)load_le32(p);
}

static int take_memory_16(struct cursor *cursor, struct insn *out)
{
    static const uint8_t bases[8] = {RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX};
    static const uint8_t indexes[4] = {RSI, RDI, RSI, RDI};
    unsigned bytes = out->mod; // 0, 1, 2
    out->base = bases[out->rm];
    if (out->rm < 4)
        out->index = indexes[out->rm];
    if (out->mod == 0 && out->rm == 6) {
        out->base = INSN_REG_NONE;
        bytes = 2;
    }
    set_segment(out, out->base == RBP);
    if (!cursor_has(cursor, bytes))
        return cursor_exhausted(cursor);
    if (bytes)
        take_displacement(cursor, out, bytes);
    return 0;
}

static int take_memory(struct cursor *cursor, struct insn *out)
{
    unsigned bytes = out->mod == 2 ? 4 : out->mod;
    unsigned base = out->rm;
    if (base == 4) {
        if (!cursor_has(cursor, 1))
            return cursor_exhausted(cursor);
        uint8_t sib = cursor->bytes[cursor->at++];
        uint8_t index = ((sib >> 3) & 7) | (out->rex & REX_X ? 8 : 0);
        base = sib & 7;
        out->scale = sib >> 6;
        if (index != 4)
            out->index = index;
    }
    if (base == 5 && out->mod == 0) {
        bytes = 4;
        out->base = out->rm == 5 && out->mode == CODE_64 ? INSN_REG_RIP : INSN_REG_NONE;
    } else {
        out->base = (uint8_t)(base | (out->rex & REX_B ? 8 : 0));
    }
    set_segment(out, out->base == RSP || out->base == RBP);
    if (!cursor_has(cursor, bytes))
        return cursor_exhausted(cursor);
    if (bytes)
        take_displacement(cursor, out, bytes);
    return 0;
}

static int take_modrm(struct cursor *cursor, struct insn *out, unsigned slot_flags)
{
    if (!cursor_has(cursor, 1))
        return cursor_exhausted(cursor);
    uint8_t modrm = cursor->bytes[cursor->at];
    out->modrm = modrm;
    out->modrm_at = (uint8_t)cursor->at++;
    out->reg = ((modrm >> 3) & 7) | (out->rex & REX_R ? 8 : 0);
    out->rm = modrm & 7;
    if (modrm >= 0xC0 || (slot_flags & SLOT_NO_MEMORY)) {
        out->rm |= out->rex & REX_B ? 8 : 0;
        return 0;
    }
    out->mod = modrm >> 6;
    return out->address_size == 2 ? take_memory_16(cursor, out) : take_memory(cursor, out);
}

// ---- Form ----

static const struct insn_form *find_form(const struct insn *insn, const struct opcode_slot *slot)
{
    const struct insn_form *form = insn_forms + slot->first;
    unsigned pp = insn->encoding == ENCODING_VEX ? insn->vex_pp : legacy_pp(insn->prefixes);
    unsigned key = ((insn->modrm >> 3) & 7u) << SELECT_REG | (insn->modrm & 7u) << SELECT_RM |
                   (insn->mod == 3) << SELECT_MOD3 | pp << SELECT_PP |
                   !!(insn->rex & REX_W) << SELECT_W | (unsigned)insn->vex_l << SELECT_L |
                   (insn->mode == CODE_64) << SELECT_M64 | !!(insn->rex & REX_B) << SELECT_REXB |
                   !!(insn->prefixes & PREFIX_LOCK) << SELECT_LOCK;
    for (unsigned i = 0; i < slot->count; i++, form++) {
        if ((key & form->match_mask) == form->match_value)
            return form;
    }
    return NULL;
}

static uint8_t effective_operand_size(const struct insn *insn)
{
    bool opsize = insn->prefixes & PREFIX_OPSIZE;
    if (insn->mode == CODE_16)
        return opsize ? 4 : 2;
    if (insn->mode == CODE_32)
        return opsize ? 2 : 4;
    if (insn->rex & REX_W)
        return 8;
    if (opsize)
        return 2;
    return insn->form->attributes & INSN_DEFAULT_64 ? 8 : 4;
}

static uint8_t effective_address_size(const struct insn *insn)
{
    bool other = insn->prefixes & PREFIX_ADDRSIZE;
    if (insn->mode == CODE_64)
        return other ? 4 : 8;
    return (insn->mode == CODE_16) != other ? 2 : 4;
}

// A gather's index is a vector register, whose number 4 is no exception. (AMD64 manual, volume 4,
// VGATHER: #UD when two of destination, index and mask are the same.)
static bool check_gather(struct insn *insn)
{
    if (insn->address_size == 2 || insn->rm != 4)
        return false;
    if (insn->index == INSN_REG_NONE)
        insn->index = 4;
    return insn->reg != insn->index && insn->reg != insn->vex_vvvv && insn->index != insn->vex_vvvv;
}

static bool check_form(struct insn *insn)
{
    switch ((enum form_check)insn->form->check) {
    case CHECK_NONE:
        return true;
    case CHECK_SEG:
    case CHECK_SEG_LOAD:
        insn->reg &= 7;
        return insn->reg <= SEG_GS && (insn->reg != SEG_CS || insn->form->check == CHECK_SEG);
    case CHECK_CR:
        return insn->reg == 0 || (insn->reg >= 2 && insn->reg <= 4) || insn->reg == 8;
    case CHECK_CR8:
        insn->reg += 8;
        return insn->reg == 8;
    case CHECK_DR:
        return insn->reg < 8;
    case CHECK_GATHER:
        return check_gather(insn);
    case CHECK_SEG_ES:
    case CHECK_SEG_CS:
    case CHECK_SEG_SS:
    case CHECK_SEG_DS:
    case CHECK_SEG_FS:
    case CHECK_SEG_GS:
        insn->reg = (uint8_t)(insn->form->check - CHECK_SEG_ES + SEG_ES);
        return true;
    }
    return false;
}

static bool check_lock(const struct insn *insn)
{
    if (!(insn->prefixes & PREFIX_LOCK) || insn->form->check == CHECK_CR8)
        return true;
    return (insn->form->attributes & INSN_LOCKABLE) && insn->mod != 3;
}

// REX and the prefixes that VEX has bits for must not stand before it (LOCK: check_lock()). A vvvv that is no operand must be
// 1111, all four bits in every mode.
static bool check_vex(struct insn *insn)
{
    if (insn->encoding == ENCODING_LEGACY)
        return true;
    if ((insn->rex & REX_PRESENT) || (insn->prefixes & (PREFIX_REP | PREFIX_REPNE | PREFIX_OPSIZE)))
        return false;
    if (!(insn->form->attributes & INSN_USES_VVVV))
        return insn->vex_vvvv == 0;
    if (insn->mode != CODE_64)
        insn->vex_vvvv &= 7;
    return true;
}

// ---- Immediates ----

static unsigned immediate_bytes(const struct insn *insn, enum immediate_kind kind)
{
    switch (kind) {
    case IMMEDIATE_NONE:
        return 0;
    case IMMEDIATE_U8:
    case IMMEDIATE_S8:
        return 1;
    case IMMEDIATE_U16:
        return 2;
    case IMMEDIATE_Z:
    case IMMEDIATE_FAR:
        return insn->operand_size == 2 ? 2 : 4;
    case IMMEDIATE_V:
        return insn->operand_size;
    case IMMEDIATE_MOFFS:
        return insn->address_size;
    }
    return 0;
}

static uint64_t load_unsigned(const uint8_t *p, unsigned bytes)
{
    if (bytes == 1)
        return *p;
    if (bytes == 2)
        return load_le16(p);
    return bytes == 4 ? load_le32(p) : load_le64(p);
}

static uint64_t sign_extend(uint64_t value, unsigned bytes)
{
    unsigned shift = 64 - 8 * bytes;
    return (uint64_t)((int64_t)(value << shift) >> shift);
}

static int take_immediate(struct cursor *cursor, struct insn *out)
{
    enum immediate_kind kind = out->form->immediate;
    unsigned bytes = immediate_bytes(out, kind);
    if (!cursor_has(cursor, bytes))
        return cursor_exhausted(cursor);
    uint64_t value = load_unsigned(cursor->bytes + cursor->at, bytes);
    if (kind == IMMEDIATE_MOFFS) {
        out->displacement = (int64_t)value;
        out->displacement_bytes = (uint8_t)bytes;
        out->displacement_at = (uint8_t)cursor->at;
        out->mod = 0;
        set_segment(out, false);
    } else {
        bool is_signed = kind == IMMEDIATE_S8 || kind == IMMEDIATE_Z;
        out->immediate = is_signed ? sign_extend(value, bytes) : value;
        out->immediate_bytes = (uint8_t)bytes;
        out->immediate_at = (uint8_t)cursor->at;
    }
    cursor->at += bytes;
    return 0;
}

static int take_immediate2(struct cursor *cursor, struct insn *out)
{
    unsigned bytes = out->form->immediate == IMMEDIATE_FAR ? 2 : 1;
    if (!cursor_has(cursor, bytes))
        return cursor_exhausted(cursor);
    out->immediate2 = (uint16_t)load_unsigned(cursor->bytes + cursor->at, bytes);
    out->immediate2_bytes = (uint8_t)bytes;
    out->immediate2_at = (uint8_t)cursor->at;
    cursor->at += bytes;
    return 0;
}

static int take_immediates(struct cursor *cursor, struct insn *out)
{
    int status = 0;
    if (out->form->immediate != IMMEDIATE_NONE)
        status = take_immediate(cursor, out);
    if (status == 0 &&
        (out->form->immediate2 != IMMEDIATE_NONE || out->form->immediate == IMMEDIATE_FAR))
        status = take_immediate2(cursor, out);
    return status;
}

// ---- The whole ----

// Segments of operands that ModRM does not describe, the register that the opcode names.
static void note_implicit(struct insn *out, unsigned slot_flags)
{
    const struct insn_form *form = out->form;
    if (slot_flags & SLOT_MODRM) {
        if (form->attributes & INSN_MASKED && out->mod == 3) // MASKMOV
            set_segment(out, false);
        return;
    }
    out->rm = (out->opcode & 7) | (out->rex & REX_B ? 8 : 0);
    if (form->class == CLASS_STRING || form->class == CLASS_IO || form->op == OP_XLAT) {
        bool only_destination = form->operands[0].kind == OPERAND_STRING_DST &&
                                form->operands[1].kind != OPERAND_STRING_SRC;
        bool scan = form->op == OP_SCAS;
        if (only_destination || scan)
            out->segment = SEG_ES;
        else if (form->class != CLASS_IO || form->op == OP_OUTS)
            set_segment(out, false);
    }
}

// Faults of fetching an instruction come before those of decoding it, and among these the length stands before the opcode (Intel SDM 3, 6.9, table 6-2). All of it is
// fetched, immediates and all, before it is found to be none: one that crosses into a page that is not present is #PF, one of more than 15 bytes #GP (seen on Zen 5).
static int refuse(struct cursor *cursor, struct insn *out)
{
    int status = take_immediates(cursor, out);
    return status ? status : DECODE_INVALID;
}

// The same for opcodes that the table does not have: those of the maps 38 and 3A have a ModRM byte, in 3A an immediate byte, too.
static int refuse_opcode(struct cursor *cursor, struct insn *out)
{
    int status = out->map >= MAP_0F38 ? take_modrm(cursor, out, 0) : 0;
    if (status == 0 && out->map == MAP_0F3A && !cursor_has(cursor, 1))
        status = cursor_exhausted(cursor);
    return status ? status : DECODE_INVALID;
}

static int take_form(struct cursor *cursor, struct insn *out)
{
    unsigned map = out->encoding == ENCODING_VEX ? LEGACY_MAPS + out->map - 1u : out->map;
    const struct opcode_slot *slot = &opcode_slots[map][out->opcode];
    out->address_size = effective_address_size(out);
    if (slot->count == 0)
        return refuse_opcode(cursor, out);
    if (slot->flags & SLOT_MODRM) {
        int status = take_modrm(cursor, out, slot->flags);
        if (status)
            return status;
    }
    const struct insn_form *form = find_form(out, slot);
    out->form = form ? form : insn_forms + slot->first; // all end in the same immediate
    out->operand_size = effective_operand_size(out);
    note_implicit(out, slot->flags);
    if (!form || !check_lock(out) || !check_vex(out) || !check_form(out))
        return refuse(cursor, out);
    return 0;
}

int decode(const uint8_t *bytes, size_t available, enum code_mode mode, struct insn *out)
{
    struct cursor cursor = {bytes, 0,
                            available < INSN_MAX_BYTES ? (unsigned)available : INSN_MAX_BYTES};
    *out = (struct insn){.mode = (uint8_t)mode,
                         .mod = 3,
                         .segment_override = SEG_NONE,
                         .segment = SEG_NONE,
                         .base = INSN_REG_NONE,
                         .index = INSN_REG_NONE};
    int status = take_prefixes(&cursor, out);
    if (status == 0)
        status = take_opcode(&cursor, out);
    if (status == 0)
        status = take_form(&cursor, out);
    if (status == 0)
        status = take_immediates(&cursor, out);
    if (status)
        return status;
    out->length = (uint8_t)cursor.at;
    return out->length;
}

bool insn_fall_back(struct insn *insn)
{
    if (!(insn->form->attributes & INSN_FALLBACK))
        return false;
    insn->form = insn_forms + insn->form->fallback;
    return true;
}

const char *insn_op_name(enum insn_op op)
{
    static const char *const names[] = {[OP_NONE] = "?",
#define X(name, text) [OP_##name] = text,
                                        INSN_OPS_INTEGER(X) INSN_OPS_SYSTEM(X) INSN_OPS_X87(X)
                                            INSN_OPS_VECTOR(X)
#undef X
    };
    _Static_assert(ARRAY_LENGTH(names) == INSN_OP_COUNT, "one name per operation");
    return op < INSN_OP_COUNT ? names[op] : names[OP_NONE];
}
