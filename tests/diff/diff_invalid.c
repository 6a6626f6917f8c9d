// SPDX-License-Identifier: Apache-2.0
//
// Cases that are no instructions. Left out is what the host may have beyond wirt's CPU models, as far as Zydis knows it.
#include "diff_make.h"

#include <string.h>

#include "base/bits.h"
#include "decode_zydis.h"

static const uint8_t *skip_prefixes(const uint8_t *bytes, enum code_mode mode)
{
    static const uint8_t prefixes[] = {0x66, 0xF2, 0xF3, 0xF0, 0x67, 0x26,
                                       0x2E, 0x36, 0x3E, 0x64, 0x65};
    for (unsigned i = 0; i < INSN_MAX_BYTES - 4; i++, bytes++)
        if (!memchr(prefixes, *bytes, sizeof(prefixes)) &&
            (mode != CODE_64 || (*bytes & 0xF0) != 0x40))
            break;
    return bytes;
}

// VMCALL and VMMCALL with prefixes that make them invalid: where the host is a virtual machine itself its hypervisor may answer all the same.
static bool is_hypervisors(const uint8_t *opcode)
{
    return opcode[0] == 0x0F && opcode[1] == 0x01 && (opcode[2] == 0xC1 || opcode[2] == 0xD9);
}

// VPERMQ and VPERMPD with VEX.W clear. They are listed with W1 alone (Intel SDM 2, VPERMQ and VPERMPD: VEX.256.66.0F3A.W1 00 and 01), so that W0 is reserved: Zen 5
// ignores W there, in 64-bit and 32-bit code, others were reported to refuse it. The table refuses it, and a guest finds the same on every host.
static bool is_permutation_without_w(const uint8_t *opcode)
{
    return opcode[0] == 0xC4 && (opcode[1] & 31) == MAP_0F3A && opcode[2] == 0x7D && opcode[3] <= 1;
}

// XOP and EVEX that may be longer than 15 bytes: processors count even what they have none of, four bytes of immediate in XOP's map 10 and EVEX's map 7, and report #GP,
// where wirt's, which know neither encoding, report #UD.
static bool is_long_unknown(const uint8_t *bytes, const uint8_t *opcode)
{
    unsigned xop_map = opcode[1] & 31, evex_map = opcode[1] & 7;
    if (opcode[0] == 0x8F && xop_map >= 8)
        return opcode - bytes >= (xop_map == 10 ? 2 : 5);
    return opcode[0] == 0x62 && opcode - bytes >= (evex_map == 7 ? 1 : 4);
}

static bool is_comparable(const uint8_t *bytes, enum code_mode mode)
{
    const uint8_t *opcode = skip_prefixes(bytes, mode);
    return !is_hypervisors(opcode) && !is_permutation_without_w(opcode) &&
           !is_long_unknown(bytes, opcode) &&
           !is_instruction_of_absent_extension(bytes, INSN_MAX_BYTES, mode);
}

static void random_opcode(uint64_t *random, uint8_t *bytes)
{
    static const uint8_t prefixes[] = {0x66, 0xF2, 0xF3, 0xF0, 0x48, 0x45, 0x67};
    unsigned at = 0;
    diff_random_bytes(random, bytes, INSN_MAX_BYTES + 1);
    while (diff_one_in(random, 2) && at < 3)
        bytes[at++] = prefixes[diff_below(random, ARRAY_LENGTH(prefixes))];
    switch (diff_below(random, 6)) {
    case 0:
    case 1:
        bytes[at] = 0x0F;
        break;
    case 2:
        bytes[at++] = 0x0F;
        bytes[at] = diff_one_in(random, 2) ? 0x38 : 0x3A;
        break;
    case 3:
    case 4:
        bytes[at++] = 0xC4;
        bytes[at] = (uint8_t)((bytes[at] & 0xE0) | (1 + diff_below(random, 3)));
        break;
    default:
        break;
    }
}

// The case of out->bytes; false when they are an instruction, or none that can be compared.
static bool finish(struct diff_case *out, enum code_mode mode, uint64_t *random)
{
    static const uint8_t nop = 0x90;
    if (decode(out->bytes, INSN_MAX_BYTES, mode, &out->insn) != DECODE_INVALID ||
        !is_comparable(out->bytes, mode))
        return false;
    decode(&nop, 1, mode, &out->insn); // for the comparison
    out->data_seed = diff_random(random);
    diff_random_state(out, random);
    out->length = INSN_MAX_BYTES;
    out->before.rip = out->code = CODE_ADDRESS + 0x800;
    return true;
}

static void begin(struct diff_case *out, enum code_mode mode, uint64_t seed)
{
    uint64_t fs_base = out->fs_base, gs_base = out->gs_base;
    *out = (struct diff_case){.seed = seed, .mode = mode, .fs_base = fs_base, .gs_base = gs_base};
}

bool diff_invalid_make(struct diff_case *out, enum code_mode mode, uint64_t seed)
{
    uint64_t random = seed;
    begin(out, mode, seed);
    for (unsigned attempt = 0; attempt < 100; attempt++) {
        random_opcode(&random, out->bytes);
        if (finish(out, mode, &random))
            return true;
    }
    return false;
}

// Bits of the number, from the lowest: 64-bit mode, ModRM.mod 3, vvvv 1111, pp (2), L, W, opcode (8), map (2, from 0F).
bool diff_invalid_vex(struct diff_case *out, uint32_t number)
{
    uint64_t random = number + 1;
    enum code_mode mode = number & 1 ? CODE_64 : CODE_32;
    begin(out, mode, number);
    diff_random_bytes(&random, out->bytes, INSN_MAX_BYTES + 1);
    unsigned unused = number & 4 ? 15 : diff_below(&random, 15);
    out->bytes[0] = 0xC4;
    // Outside 64-bit mode R and X are set, or this is LES.
    out->bytes[1] = (uint8_t)((out->bytes[1] & 0xE0) | (mode == CODE_64 ? 0 : 0xC0) |
                              (MAP_0F + (number >> 15)));
    out->bytes[2] = (uint8_t)((number >> 6 & 1) << 7 | unused << 3 | (number >> 5 & 1) << 2 |
                              (number >> 3 & 3));
    out->bytes[3] = (uint8_t)(number >> 7);
    out->bytes[4] = number & 2 ? out->bytes[4] | 0xC0 : out->bytes[4] & 0x7F;
    return finish(out, mode, &random);
}
