// SPDX-License-Identifier: Apache-2.0
//
// Making cases: bytes that decode to a given form, then a state in which the instruction does something interesting.
// First all registers get random or corner values, then the operands' addresses are chosen and the registers in
// them set so that they come out; branch targets, return addresses and the like are put where they are read.
#include "diff_make.h"

#include "base/bits.h"
#include "machine/engine/decode_table.h"

// ---- Which operations take no part ----

static const struct {
    enum insn_op op;
    const char *reason;
} skipped[] = {
    {OP_CPUID, "its values are the model's"},
    {OP_RDTSC, "time goes on"},
    {OP_RDTSCP, "time goes on"},
    {OP_RDPMC, "CR4.PCE is the host kernel's choice"},
    {OP_RDPID, "the processor's number is the host's"},
    {OP_RDRAND, "random"},
    {OP_RDSEED, "random"},
    {OP_XGETBV, "XCR0 is the host's"},
    {OP_XSAVE, "XCR0 is the host's, and with it the area"},
    {OP_XSAVEC, "XCR0 is the host's, and with it the area"},
    {OP_XSAVEOPT, "XCR0 is the host's, and with it the area"},
    {OP_XRSTOR, "XCR0 is the host's, and with it the area"},
    {OP_SGDT, "the host kernel answers for it (UMIP)"},
    {OP_SIDT, "the host kernel answers for it (UMIP)"},
    {OP_SLDT, "the host kernel answers for it (UMIP)"},
    {OP_STR, "the host kernel answers for it (UMIP)"},
    {OP_SMSW, "the host kernel answers for it (UMIP)"},
    {OP_SYSCALL, "enters the host kernel"},
    {OP_SYSENTER, "enters the host kernel"},
    {OP_INT, "enters the host kernel"},
    {OP_INT3, "ends a case"},
    {OP_INT1, "its trap is the host kernel's"},
    {OP_INTO, "its trap is the host kernel's"},
    {OP_VMCALL, "the hypervisor answers"},
    {OP_VMMCALL, "the hypervisor answers"},
    {OP_MONITORX, "waits"},
    {OP_MWAITX, "waits"},
    {OP_LAR, "the descriptor tables are the host's"},
    {OP_LSL, "the descriptor tables are the host's"},
    {OP_VERR, "the descriptor tables are the host's"},
    {OP_VERW, "the descriptor tables are the host's"},
    {OP_MOV_TO_SEG, "the descriptor tables are the host's"},
    {OP_POP_SEG, "the descriptor tables are the host's"},
    {OP_LES, "the descriptor tables are the host's"},
    {OP_LDS, "the descriptor tables are the host's"},
    {OP_LSS, "the descriptor tables are the host's"},
    {OP_LFS, "the descriptor tables are the host's"},
    {OP_LGS, "the descriptor tables are the host's"},
};

const char *diff_skip_reason(const struct insn_form *form)
{
    for (unsigned i = 0; i < ARRAY_LENGTH(skipped); i++) {
        if (skipped[i].op == form->op)
            return skipped[i].reason;
    }
    return form->class == CLASS_FAR ? "the descriptor tables are the host's" : NULL;
}

// ---- Addresses ----

#define ABSENT_ADDRESS 0x40020000ull

// Where a memory operand of `bytes` bytes is to be.
static uint64_t random_address(uint64_t *random, unsigned bytes, bool aligned)
{
    unsigned near = diff_below(random, bytes + 1);
    uint64_t address = DATA_ADDRESS + diff_below(random, DATA_BYTES - 64);
    switch (diff_below(random, 32)) {
    case 0:
    case 1:
    case 2:
        return DATA_ADDRESS + AREA_PAGE - near; // across the pages
    case 3:
    case 4:
        return DATA_ADDRESS + DATA_BYTES - near; // out at the end
    case 5:
        return DATA_ADDRESS - near; // in at the start
    case 6:
        return READ_ONLY_ADDRESS + diff_below(random, AREA_PAGE - 64) / 64 * 64;
    case 7:
        return diff_one_in(random, 2) ? READ_ONLY_ADDRESS + AREA_PAGE - near : ABSENT_ADDRESS;
    case 8:
        return diff_one_in(random, 2) ? 0x0000800000000000ull + near : 0x9000000000000000ull + near;
    case 9:
    case 10:
    case 11:
    case 12:
        return aligned ? address / 16 * 16 : address;
    default:
        return address / 64 * 64;
    }
}

static uint64_t address_mask(const struct insn *insn)
{
    return bits_mask(insn->address_size * 8u);
}

static void put_displacement(struct diff_case *c, uint64_t value)
{
    memcpy(c->bytes + c->insn.displacement_at, &value, c->insn.displacement_bytes);
}

// Make the ModRM operand come out at `target`, by its registers or displacement.
static void aim_operand(struct diff_case *c, uint64_t target, uint64_t *random)
{
    const struct insn *insn = &c->insn;
    uint64_t segment_base = insn->segment == SEG_FS   ? c->fs_base
                            : insn->segment == SEG_GS ? c->gs_base
                            : insn->segment == SEG_CS ? diff_code_base(c->mode)
                                                      : diff_data_base(c->mode);
    uint64_t wanted = target - segment_base;
    uint64_t *gpr = c->before.gpr;
    bool vector_index = insn->form->operands[1].kind == OPERAND_VSIB;
    if (insn->base == INSN_REG_RIP) {
        put_displacement(c, wanted - c->code - c->length);
    } else if (insn->base == INSN_REG_NONE && (insn->index == INSN_REG_NONE || vector_index)) {
        put_displacement(c, wanted);
    } else if (insn->base == INSN_REG_NONE || insn->base == insn->index) {
        unsigned factor = (1u << insn->scale) + (insn->base == INSN_REG_NONE ? 0 : 1);
        gpr[insn->index] = (wanted - (uint64_t)insn->displacement) / factor & address_mask(insn);
    } else {
        uint64_t rest = wanted - (uint64_t)insn->displacement;
        if (insn->index != INSN_REG_NONE && !vector_index) {
            if (!diff_one_in(random, 4))
                gpr[insn->index] = diff_below(random, 4096);
            rest -= gpr[insn->index] << insn->scale;
        }
        gpr[insn->base] = rest & address_mask(insn);
    }
    if (c->mode == CODE_64 && insn->address_size == 4 && insn->base < GPR_COUNT &&
        diff_one_in(random, 2))
        gpr[insn->base] |= diff_random(random) << 32; // ignored
}

static void put_patch(struct diff_case *c, uint64_t address, const void *value, unsigned bytes)
{
    for (unsigned i = 0; i < ARRAY_LENGTH(c->patches); i++) {
        struct diff_patch *patch = &c->patches[i];
        if (patch->bytes == 0) {
            patch->address = address;
            patch->bytes = bytes < sizeof(patch->value) ? bytes : sizeof(patch->value);
            memcpy(patch->value, value, patch->bytes);
            return;
        }
    }
}

static void put_patch_64(struct diff_case *c, uint64_t address, uint64_t value)
{
    put_patch(c, address, &value, 8);
}

// Something to find there that suits the kind of operand.
static void put_operand(struct diff_case *c, uint64_t address, unsigned bytes, uint64_t *random)
{
    uint8_t value[64];
    diff_random_vector(random, value, sizeof(value));
    if (c->insn.form->class == CLASS_X87 && bytes == 10)
        diff_random_extended(random, value);
    else if (c->insn.form->class == CLASS_INTEGER && bytes <= 8)
        store_le64(value, diff_random_integer(random));
    put_patch(c, address, value, bytes && bytes < sizeof(value) ? bytes : (unsigned)sizeof(value));
}

// An address for a jump: INT3s in the code page, beside the instruction; seldom elsewhere.
static uint64_t random_target(struct diff_case *c, uint64_t *random)
{
    if (diff_one_in(
            random,
            16)) // not to be executed; with 16-bit code beyond the limit or where nothing is
        return c->mode == CODE_16 ? 0xF000 + diff_below(random, 0x2000)
                                  : DATA_ADDRESS + diff_below(random, DATA_BYTES);
    if (diff_one_in(random, 16) && c->mode == CODE_64)
        return 0x0000800000000000 + diff_below(random, 4096);
    return CODE_ADDRESS + diff_below(random, 0x700) - diff_code_base(c->mode);
}

// ---- Operands by class ----

// What a register holds to address `linear` in a segment other than FS and GS.
static uint64_t offset_of(const struct diff_case *c, uint64_t linear)
{
    uint64_t offset = linear - diff_data_base(c->mode);
    return c->mode == CODE_64 ? offset : (uint32_t)offset;
}

static void aim_stack(struct diff_case *c, uint64_t *random)
{
    static const uint64_t poppable = FLAGS_STATUS | FLAG_DF | FLAG_ID | FLAG_NT | FLAG_IOPL;
    uint64_t *gpr = c->before.gpr;
    uint64_t top = random_address(random, 64, false) + (diff_one_in(random, 2) ? 0 : 8);
    if (c->insn.form->op ==
        OP_POPF) // what is popped must be known: TF and AC would trap in the handler
        top = diff_one_in(random, 8) ? DATA_ADDRESS - 16
                                     : DATA_ADDRESS + 8 * diff_below(random, 1000);
    gpr[RSP] = offset_of(c, top);
    if (c->insn.form->op == OP_ENTER || c->insn.form->op == OP_LEAVE)
        gpr[RBP] = offset_of(c, random_address(random, 64, false));
    if (c->insn.form->class == CLASS_RET)
        put_patch_64(c, top, random_target(c, random));
    if (c->insn.form->op == OP_POPF)
        put_patch_64(c, top, (diff_random(random) & poppable) | FLAG_IF);
}

static void aim_string(struct diff_case *c, uint64_t *random)
{
    uint64_t *gpr = c->before.gpr, mask = address_mask(&c->insn);
    uint64_t source = random_address(random, 64, false), target = random_address(random, 64, false);
    gpr[RSI] = offset_of(c, source) & mask;
    gpr[RDI] = offset_of(c, target) & mask;
    if (c->insn.segment == SEG_FS || c->insn.segment == SEG_GS)
        gpr[RSI] = (source - (c->insn.segment == SEG_FS ? c->fs_base : c->gs_base)) & mask;
    gpr[RCX] = diff_below(random, diff_one_in(random, 4) ? 2000 : 40);
    if (diff_one_in(random, 3)) { // equal bytes, so that comparisons go on
        put_patch(c, source, "aaaaaaaaaaaaaaaa", 16);
        put_patch(c, target, "aaaaaaaaaaaaaaab", 16);
    }
}

static void aim_implicit(struct diff_case *c, uint64_t *random)
{
    uint64_t *gpr = c->before.gpr, mask = address_mask(&c->insn);
    uint64_t target = offset_of(c, random_address(random, 16, false));
    switch ((unsigned)c->insn.form->op) {
    case OP_XLAT:
        gpr[RBX] = (target - (gpr[RAX] & 0xFF)) & mask;
        break;
    case OP_MASKMOVQ:
    case OP_MASKMOVDQU:
    case OP_VMASKMOVDQU:
        gpr[RDI] = target & mask;
        break;
    case OP_CLZERO:
        gpr[RAX] = target & mask;
        break;
    case OP_DIV:
    case OP_IDIV: // quotients that fit, now and then
        if (diff_one_in(random, 2))
            gpr[RDX] = diff_one_in(random, 2) ? 0 : ~0ull;
        if (c->mode != CODE_64)
            gpr[RDX] = (uint32_t)gpr[RDX];
        break;
    default:
        break;
    }
}

static void aim_branch(struct diff_case *c, uint64_t *random)
{
    const struct insn *insn = &c->insn;
    if (insn->form->operands[0].kind == OPERAND_REL && insn->immediate_bytes >= 2) {
        uint64_t target = random_target(c, random) - c->before.rip - c->length;
        memcpy(c->bytes + insn->immediate_at, &target, insn->immediate_bytes);
    }
    bool branch = insn->form->class == CLASS_BRANCH || insn->form->class == CLASS_CALL;
    if (branch && insn->form->operands[0].kind == OPERAND_RM && insn->mod == 3)
        c->before.gpr[insn->rm] = random_target(c, random);
}

// A gather's indexes: small, so that the elements stay near the base.
static void aim_vector_index(struct diff_case *c, uint64_t *random)
{
    uint8_t *low = c->before.xsave + 160 + 16 * c->insn.index;
    uint8_t *high = c->before.xsave + 576 + 16 * c->insn.index;
    bool wide = c->insn.opcode & 1; // 91 and 93 have 64-bit indexes
    for (unsigned i = 0; i < 16; i += wide ? 8 : 4) {
        uint64_t values[2] = {diff_below(random, 128), diff_below(random, 128)};
        memcpy(low + i, &values[0], wide ? 8 : 4);
        memcpy(high + i, &values[1], wide ? 8 : 4);
    }
}

static void aim_modrm(struct diff_case *c, uint64_t *random)
{
    const struct insn_form *form = c->insn.form;
    unsigned bytes = insn_memory_access(&c->insn).bytes;
    uint64_t target = random_address(random, bytes ? bytes : 64, form->attributes & INSN_ALIGNED);
    aim_operand(c, target, random);
    if (form->op == OP_FXRSTOR && target % 16 == 0 &&
        diff_one_in(random, 2)) // else a reserved MXCSR bit is all one sees
        put_patch(c, target + 24, "\x80\x1F\0\0", 4);
    if (form->operands[1].kind == OPERAND_VSIB && !diff_one_in(random, 4))
        aim_vector_index(c, random);
    if (form->class == CLASS_BRANCH || form->class == CLASS_CALL)
        put_patch_64(c, target, random_target(c, random));
    else
        put_operand(c, target, bytes, random);
    if (form->attributes & INSN_BIT_OFFSET && !diff_one_in(random, 4) &&
        c->insn.reg != c->insn.base && c->insn.reg != c->insn.index)
        c->before.gpr[c->insn.reg] = (uint64_t)((int64_t)diff_below(random, 4096) - 2048);
}

// Where the instruction stands: in the middle of its page, or up to or across the page's end.
static void choose_code(struct diff_case *c, uint64_t *random)
{
    unsigned op = c->insn.form->op;
    c->code = CODE_ADDRESS + 0x800;
    c->before.rip = c->code - diff_code_base(c->mode);
    if (op == OP_UD0 || op == OP_UD1) // the processor may not fetch what follows the opcode
        return;
    if (diff_one_in(random, 32))
        c->code = CODE_ADDRESS + AREA_PAGE - c->length;
    else if (diff_one_in(random, 64) && c->length > 1)
        c->code = CODE_ADDRESS + AREA_PAGE - diff_below(random, c->length - 1) - 1;
    c->before.rip = c->code - diff_code_base(c->mode);
}

// A jump into the instruction itself would execute other instructions than meant.
static bool comes_back(const struct diff_case *c)
{
    const struct insn *insn = &c->insn;
    if (insn->form->operands[0].kind != OPERAND_REL)
        return false;
    uint64_t target = c->before.rip + c->length + insn->immediate;
    if (insn->operand_size < 8)
        target &= bits_mask(insn->operand_size * 8u);
    return target - c->before.rip < c->length;
}

// Does RFLAGS.AC have a meaning that processors agree on? Elements that a mask selects are not checked, areas in parts
// (FXSAVE, FNSTENV, ENTER's frames) in the parts' own order.
static bool checks_alignment(const struct insn *insn)
{
    return !(insn->form->attributes & INSN_MASKED) && insn_memory_access(insn).bytes <= 32 &&
           insn->form->op != OP_ENTER && insn->form->op != OP_BOUND &&
           insn->form->op != OP_FLDENV && insn->form->op != OP_FNSTENV;
}

bool diff_case_make(struct diff_case *out, unsigned form, enum code_mode mode, uint64_t seed)
{
    uint64_t random = seed;
    uint64_t fs_base = out->fs_base, gs_base = out->gs_base;
    *out = (struct diff_case){.seed = seed, .mode = mode, .fs_base = fs_base, .gs_base = gs_base};
    if (diff_skip_reason(&insn_forms[form]) || !diff_make_bytes(out, form, &random))
        return false;
    out->data_seed = diff_random(&random);
    diff_random_state(out, &random);
    if (diff_one_in(&random, 16) && checks_alignment(&out->insn))
        out->before.rflags |= FLAG_AC;
    choose_code(out, &random);
    if (out->insn.form->attributes & INSN_IMPLICIT_MEMORY)
        aim_stack(out, &random);
    if (out->insn.form->class == CLASS_STRING || out->insn.form->class == CLASS_IO)
        aim_string(out, &random);
    aim_implicit(out, &random);
    if (insn_has_memory(&out->insn))
        aim_modrm(out, &random);
    aim_branch(out, &random);
    // The displacement may have changed the bytes: what counts is what they say now.
    return decode(out->bytes, out->length, mode, &out->insn) == (int)out->length &&
           !comes_back(out);
}

// ---- Data ----

void diff_case_fill_data(const struct diff_case *c, uint8_t data[DATA_BYTES])
{
    uint64_t random = c->data_seed;
    diff_random_bytes(&random, data, DATA_BYTES);
    for (unsigned i = 0; i < ARRAY_LENGTH(c->patches); i++) {
        const struct diff_patch *patch = &c->patches[i];
        for (unsigned k = 0; k < patch->bytes; k++) {
            uint64_t at = patch->address + k - DATA_ADDRESS;
            if (at < DATA_BYTES)
                data[at] = patch->value[k];
        }
    }
}

void diff_fill_read_only(uint8_t page[AREA_PAGE])
{
    uint64_t random = 0x524F;
    diff_random_bytes(&random, page, AREA_PAGE);
}
