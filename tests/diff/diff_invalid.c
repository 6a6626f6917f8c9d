// SPDX-License-Identifier: Apache-2.0
//
// Cases that are no instructions. Left out is what the host may have beyond wirt's CPU models, as far as Zydis knows it.
#include "diff_make.h"

#include <string.h>

#include "base/bits.h"
#include "decode_zydis.h"

// VMCALL and VMMCALL with prefixes that make them invalid: where the host is a virtual machine itself its hypervisor may answer all the same.
static bool is_hypervisors(const uint8_t *bytes)
{
    static const uint8_t prefixes[] = {0x66, 0xF2, 0xF3, 0xF0, 0x67};
    for (unsigned i = 0; i < INSN_MAX_BYTES - 3; i++, bytes++)
        if (!memchr(prefixes, *bytes, sizeof(prefixes)) && (*bytes & 0xF0) != 0x40)
            break;
    return bytes[0] == 0x0F && bytes[1] == 0x01 && (bytes[2] == 0xC1 || bytes[2] == 0xD9);
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

bool diff_invalid_make(struct diff_case *out, enum code_mode mode, uint64_t seed)
{
    uint64_t random = seed, fs_base = out->fs_base, gs_base = out->gs_base;
    *out = (struct diff_case){.seed = seed, .mode = mode, .fs_base = fs_base, .gs_base = gs_base};
    for (unsigned attempt = 0; attempt < 100; attempt++) {
        random_opcode(&random, out->bytes);
        if (decode(out->bytes, INSN_MAX_BYTES, mode, &out->insn) != DECODE_INVALID ||
            is_hypervisors(out->bytes) ||
            is_instruction_of_absent_extension(out->bytes, INSN_MAX_BYTES, mode))
            continue;
        static const uint8_t nop = 0x90;
        decode(&nop, 1, mode, &out->insn); // for the comparison
        out->data_seed = diff_random(&random);
        diff_random_state(out, &random);
        out->length = INSN_MAX_BYTES;
        out->before.rip = out->code = CODE_ADDRESS + 0x800;
        return true;
    }
    return false;
}
