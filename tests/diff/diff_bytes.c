// SPDX-License-Identifier: Apache-2.0
//
// Bytes that decode to a given form: what the form's selector bits demand, and the rest at random.
#include "diff_make.h"

#include "base/bits.h"
#include "machine/engine/decode_table.h"

// ---- Bytes ----

struct place { // of a form in the maps
    unsigned map;
    unsigned opcode;
};

static struct place place_of(unsigned form)
{
    for (unsigned map = 0; map < SLOT_MAPS; map++) {
        for (unsigned opcode = 0; opcode < 256; opcode++) {
            const struct opcode_slot *slot = &opcode_slots[map][opcode];
            if (slot->count && form >= slot->first && form < slot->first + slot->count)
                return (struct place){map, opcode};
        }
    }
    return (struct place){SLOT_MAPS, 0};
}

// A selector field of the form where it asks about it, else a random one.
static unsigned field(const struct insn_form *form, unsigned shift, unsigned mask, uint64_t *random)
{
    unsigned fixed = form->match_mask >> shift & mask;
    unsigned value = form->match_value >> shift & mask;
    return value | (diff_below(random, mask + 1) & ~fixed);
}

static unsigned put_prefixes(uint8_t *bytes, const struct insn_form *form, enum code_mode mode,
                             uint64_t *random)
{
    static const uint8_t segments[] = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x65, 0x65};
    unsigned at = 0, pp = field(form, SELECT_PP, 3, random);
    bool fixed = form->match_mask >> SELECT_PP & 1;
    if (diff_one_in(random, 8))
        bytes[at++] = segments[diff_below(random, mode == CODE_64 ? ARRAY_LENGTH(segments) : 4)];
    if (diff_one_in(random, 8))
        bytes[at++] = 0x67;
    bool must_lock = form->match_mask >> SELECT_LOCK & 1;
    if (must_lock || ((form->attributes & INSN_LOCKABLE) && diff_one_in(random, 4)))
        bytes[at++] = 0xF0;
    if (fixed) {
        if (pp == 1 || (pp > 1 && diff_one_in(random, 8)))
            bytes[at++] = 0x66;
        if (pp > 1)
            bytes[at++] = pp == 2 ? 0xF3 : 0xF2;
    } else {
        if (diff_one_in(random, 4))
            bytes[at++] = 0x66;
        // Reserved before LOOPE and LOOPNE (APM 3, "Repeat Prefixes"); Zen 5 takes the other condition for F2 E1.
        bool loop = form->op == OP_LOOPE || form->op == OP_LOOPNE;
        bool may_repeat = !(form->match_mask >> SELECT_PP & 2) && !loop;
        if (may_repeat && diff_one_in(random, form->attributes & INSN_REP ? 2 : 32))
            bytes[at++] = diff_one_in(random, 2) ? 0xF3 : 0xF2;
    }
    return at;
}

static unsigned put_legacy(uint8_t *bytes, const struct insn_form *form, struct place place,
                           enum code_mode mode, uint64_t *random)
{
    unsigned at = put_prefixes(bytes, form, mode, random);
    unsigned w = field(form, SELECT_W, 1, random), b = field(form, SELECT_REXB, 1, random);
    bool wanted = (form->match_value >> SELECT_W & 1) || !diff_one_in(random, 3);
    if (mode == CODE_64 && wanted)
        bytes[at++] = (uint8_t)(0x40 | w << 3 | diff_below(random, 4) << 1 | b);
    if (place.map != MAP_ONE)
        bytes[at++] = 0x0F;
    if (place.map > MAP_0F)
        bytes[at++] = place.map == MAP_0F38 ? 0x38 : 0x3A;
    bytes[at++] = (uint8_t)place.opcode;
    return at;
}

static unsigned put_vex(uint8_t *bytes, const struct insn_form *form, struct place place,
                        enum code_mode mode, uint64_t *random)
{
    unsigned at = 0;
    if (diff_one_in(random, 8))
        bytes[at++] = mode != CODE_64 || diff_one_in(random, 2) ? 0x67 : 0x65;
    unsigned vvvv = form->attributes & INSN_USES_VVVV ? diff_below(random, 16) : 15;
    bytes[at++] = 0xC4;
    bytes[at++] = (uint8_t)((mode == CODE_64 ? diff_below(random, 8) : 7) << 5 |
                            (place.map - LEGACY_MAPS + 1));
    bytes[at++] =
        (uint8_t)(field(form, SELECT_W, 1, random) << 7 | vvvv << 3 |
                  field(form, SELECT_L, 1, random) << 2 | field(form, SELECT_PP, 3, random));
    bytes[at++] = (uint8_t)place.opcode;
    return at;
}

bool diff_make_bytes(struct diff_case *c, unsigned index, uint64_t *random)
{
    const struct insn_form *form = &insn_forms[index];
    struct place place = place_of(index);
    for (unsigned attempt = 0; attempt < 30; attempt++) {
        uint8_t bytes[32];
        diff_random_bytes(random, bytes, sizeof(bytes));
        unsigned at = place.map >= LEGACY_MAPS ? put_vex(bytes, form, place, c->mode, random)
                                               : put_legacy(bytes, form, place, c->mode, random);
        unsigned mod = field(form, SELECT_MOD3, 1, random) ? 3 : diff_below(random, 3);
        if (opcode_slots[place.map][place.opcode].flags & SLOT_MODRM) {
            unsigned rm = field(form, SELECT_RM, 7, random);
            if (form->operands[1].kind == OPERAND_VSIB)
                rm = 4;
            bytes[at] = (uint8_t)(mod << 6 | field(form, SELECT_REG, 7, random) << 3 | rm);
        }
        int length = decode(bytes, INSN_MAX_BYTES, c->mode, &c->insn);
        if (length > 0 && c->insn.form == form) {
            memcpy(c->bytes, bytes, INSN_MAX_BYTES);
            c->length = (unsigned)length;
            return true;
        }
    }
    return false;
}
