// SPDX-License-Identifier: Apache-2.0
//
// Our operands are written down in Zydis's terms (expected_operand) and compared with what Zydis found. What the two
// describe differently on purpose stands in known_differences, each entry with its reason.
#include "decode_zydis.h"

#include "base/bits.h"
#include <stdio.h>
#include <string.h>
#include <Zydis/Zydis.h>

// ---- Zydis ----

static const ZydisDecoder *decoder_of(enum code_mode mode)
{
    static ZydisDecoder decoders[3];
    static bool ready;
    static const ZydisMachineMode modes[3] = {
        ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_MACHINE_MODE_LONG_64};
    static const ZydisStackWidth widths[3] = {ZYDIS_STACK_WIDTH_16, ZYDIS_STACK_WIDTH_32,
                                              ZYDIS_STACK_WIDTH_64};
    for (unsigned i = 0; i < ARRAY_LENGTH(decoders) && !ready; i++) {
        ZydisDecoderInit(&decoders[i], modes[i], widths[i]);
        ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_AMD_BRANCHES, ZYAN_TRUE);
        ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_KNC, ZYAN_FALSE);
        ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
        ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
        ZydisDecoderEnableMode(&decoders[i], ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_TRUE);
    }
    ready = true;
    return &decoders[mode == CODE_16 ? 0 : mode == CODE_32 ? 1 : 2];
}

struct oracle {
    bool valid;
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

// Extensions of the instruction set that wirt's CPU models do not have: their encodings are invalid.
static bool is_absent_extension(const ZydisDecodedInstruction *insn)
{
    switch ((unsigned)insn->meta.isa_ext) {
    case ZYDIS_ISA_EXT_AMD3DNOW:
    case ZYDIS_ISA_EXT_AMD_INVLPGB:
    case ZYDIS_ISA_EXT_AMX_BF16:
    case ZYDIS_ISA_EXT_AMX_INT8:
    case ZYDIS_ISA_EXT_AMX_TILE:
    case ZYDIS_ISA_EXT_AVX512EVEX:
    case ZYDIS_ISA_EXT_AVX512VEX:
    case ZYDIS_ISA_EXT_CET:
    case ZYDIS_ISA_EXT_CLDEMOTE:
    case ZYDIS_ISA_EXT_ENQCMD:
    case ZYDIS_ISA_EXT_FMA4:
    case ZYDIS_ISA_EXT_HRESET:
    case ZYDIS_ISA_EXT_KEYLOCKER:
    case ZYDIS_ISA_EXT_KEYLOCKER_WIDE:
    case ZYDIS_ISA_EXT_KNC:
    case ZYDIS_ISA_EXT_KNCE:
    case ZYDIS_ISA_EXT_KNCV:
    case ZYDIS_ISA_EXT_MCOMMIT:
    case ZYDIS_ISA_EXT_MOVDIR:
    case ZYDIS_ISA_EXT_PADLOCK:
    case ZYDIS_ISA_EXT_PCONFIG:
    case ZYDIS_ISA_EXT_PKU:
    case ZYDIS_ISA_EXT_PT:
    case ZYDIS_ISA_EXT_RDPRU:
    case ZYDIS_ISA_EXT_RTM:
    case ZYDIS_ISA_EXT_SERIALIZE:
    case ZYDIS_ISA_EXT_SGX:
    case ZYDIS_ISA_EXT_SGX_ENCLV:
    case ZYDIS_ISA_EXT_SMX:
    case ZYDIS_ISA_EXT_SNP:
    case ZYDIS_ISA_EXT_TBM:
    case ZYDIS_ISA_EXT_TDX:
    case ZYDIS_ISA_EXT_TSX_LDTRK:
    case ZYDIS_ISA_EXT_UINTR:
    case ZYDIS_ISA_EXT_VMFUNC:
    case ZYDIS_ISA_EXT_WAITPKG:
    case ZYDIS_ISA_EXT_XOP:
        return true;
    case ZYDIS_ISA_EXT_VTX:
        return insn->mnemonic != ZYDIS_MNEMONIC_VMCALL;
    case ZYDIS_ISA_EXT_SVM:
        return insn->mnemonic != ZYDIS_MNEMONIC_VMMCALL;
    default:
        return insn->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
               insn->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX;
    }
}

static void ask_zydis(const uint8_t *bytes, size_t available, enum code_mode mode,
                      struct oracle *oracle)
{
    size_t limit = available < INSN_MAX_BYTES ? available : INSN_MAX_BYTES;
    ZyanStatus status =
        ZydisDecoderDecodeFull(decoder_of(mode), bytes, limit, &oracle->insn, oracle->operands);
    oracle->valid = ZYAN_SUCCESS(status) && !is_absent_extension(&oracle->insn);
}

bool is_instruction_of_absent_extension(const uint8_t *bytes, size_t available, enum code_mode mode)
{
    struct oracle oracle;
    size_t limit = available < INSN_MAX_BYTES ? available : INSN_MAX_BYTES;
    return ZYAN_SUCCESS(ZydisDecoderDecodeFull(decoder_of(mode), bytes, limit, &oracle.insn,
                                               oracle.operands)) &&
           is_absent_extension(&oracle.insn);
}

void disassemble(const uint8_t *bytes, size_t available, enum code_mode mode, char *text,
                 size_t text_bytes)
{
    static ZydisFormatter formatter;
    static bool ready;
    struct oracle oracle;
    if (!ready)
        ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    ready = true;
    size_t limit = available < INSN_MAX_BYTES ? available : INSN_MAX_BYTES;
    snprintf(text, text_bytes, "(bad)");
    if (ZYAN_SUCCESS(
            ZydisDecoderDecodeFull(decoder_of(mode), bytes, limit, &oracle.insn, oracle.operands)))
        ZydisFormatterFormatInstruction(&formatter, &oracle.insn, oracle.operands,
                                        oracle.insn.operand_count_visible, text, text_bytes, 0,
                                        NULL);
}

// ---- Operands ----

// An operand in terms common to both.
struct operand {
    enum { SHOWN_NONE, SHOWN_REGISTER, SHOWN_MEMORY, SHOWN_IMMEDIATE, SHOWN_POINTER } what;
    ZydisRegister reg;
    uint8_t segment, base, index, scale; // memory: our numbers
    int64_t displacement;
    uint64_t value;
    uint16_t selector;
};

static ZydisRegister gpr(const struct insn *insn, unsigned number, unsigned bytes)
{
    static const ZydisRegisterClass classes[9] = {
        [2] = ZYDIS_REGCLASS_GPR16, [4] = ZYDIS_REGCLASS_GPR32, [8] = ZYDIS_REGCLASS_GPR64};
    if (bytes == 1) {
        bool legacy = insn_is_high_byte(insn, number, 1) || number < 4;
        return ZydisRegisterEncode(ZYDIS_REGCLASS_GPR8, (ZyanU8)(legacy ? number : number + 4));
    }
    return ZydisRegisterEncode(classes[bytes], (ZyanU8)number);
}

static ZydisRegister vector(const struct insn *insn, unsigned number, unsigned operand)
{
    bool wide = insn_operand_bytes(insn, operand) == 32;
    return ZydisRegisterEncode(wide ? ZYDIS_REGCLASS_YMM : ZYDIS_REGCLASS_XMM, (ZyanU8)number);
}

static struct operand show_register(ZydisRegister reg)
{
    return (struct operand){.what = SHOWN_REGISTER, .reg = reg};
}

static struct operand show_value(uint64_t value)
{
    return (struct operand){.what = SHOWN_IMMEDIATE, .value = value};
}

static struct operand show_memory(const struct insn *insn)
{
    return (struct operand){.what = SHOWN_MEMORY,
                            .segment = insn->segment,
                            .base = insn->base,
                            .index = insn->index,
                            .scale =
                                (uint8_t)(insn->index == INSN_REG_NONE ? 0 : 1u << insn->scale),
                            .displacement = insn->displacement};
}

static uint64_t truncate_to(uint64_t value, unsigned bytes)
{
    return bytes ? value & bits_mask(bytes * 8) : value;
}

static ZydisRegister encode(ZydisRegisterClass class, unsigned number)
{
    return ZydisRegisterEncode(class, (ZyanU8)number);
}

// Operand `i` of ours.
static struct operand ours(const struct insn *insn, unsigned i)
{
    unsigned bytes = insn_operand_bytes(insn, i);
    bool memory = insn_has_memory(insn);
    switch ((enum operand_kind)insn->form->operands[i].kind) {
    case OPERAND_NONE:
    case OPERAND_KIND_COUNT:
    case OPERAND_STRING_SRC:
    case OPERAND_STRING_DST:
        return (struct operand){.what = SHOWN_NONE};
    case OPERAND_RM:
        return memory ? show_memory(insn) : show_register(gpr(insn, insn->rm, bytes));
    case OPERAND_RM_GPR:
    case OPERAND_OPCODE_GPR:
        return show_register(gpr(insn, insn->rm, bytes));
    case OPERAND_MEM:
    case OPERAND_MOFFS:
    case OPERAND_VSIB:
        return show_memory(insn);
    case OPERAND_GPR:
        return show_register(gpr(insn, insn->reg, bytes));
    case OPERAND_VVVV_GPR:
        return show_register(gpr(insn, insn->vex_vvvv, bytes));
    case OPERAND_ACC:
        return show_register(gpr(insn, RAX, bytes));
    case OPERAND_CL:
        return show_register(ZYDIS_REGISTER_CL);
    case OPERAND_DX:
        return show_register(ZYDIS_REGISTER_DX);
    case OPERAND_ONE:
        return show_value(1);
    case OPERAND_IMM:
    case OPERAND_REL:
        return show_value(insn->immediate);
    case OPERAND_IMM2:
        return show_value(insn->immediate2);
    case OPERAND_FAR_POINTER:
        return (struct operand){
            .what = SHOWN_POINTER, .value = insn->immediate, .selector = insn->immediate2};
    case OPERAND_SEG:
    case OPERAND_FIXED_SEG:
        return show_register(encode(ZYDIS_REGCLASS_SEGMENT, insn->reg));
    case OPERAND_CR:
        return show_register(encode(ZYDIS_REGCLASS_CONTROL, insn->reg));
    case OPERAND_DR:
        return show_register(encode(ZYDIS_REGCLASS_DEBUG, insn->reg));
    case OPERAND_ST0:
        return show_register(ZYDIS_REGISTER_ST0);
    case OPERAND_STI:
        return show_register(encode(ZYDIS_REGCLASS_X87, insn->rm & 7));
    case OPERAND_MMX_REG:
        return show_register(encode(ZYDIS_REGCLASS_MMX, insn->reg & 7));
    case OPERAND_MMX_RM:
        return memory ? show_memory(insn) : show_register(encode(ZYDIS_REGCLASS_MMX, insn->rm & 7));
    case OPERAND_MMX_RM_REG:
        return show_register(encode(ZYDIS_REGCLASS_MMX, insn->rm & 7));
    case OPERAND_VEC_REG:
        return show_register(vector(insn, insn->reg, i));
    case OPERAND_VEC_RM:
        return memory ? show_memory(insn) : show_register(vector(insn, insn->rm, i));
    case OPERAND_VEC_RM_REG:
        return show_register(vector(insn, insn->rm, i));
    case OPERAND_VEC_VVVV:
        return show_register(vector(insn, insn->vex_vvvv, i));
    case OPERAND_VEC_IMM:
        return show_register(
            vector(insn, (unsigned)(insn->immediate >> 4) & (insn->mode == CODE_64 ? 15 : 7), i));
    case OPERAND_XMM0:
        return show_register(ZYDIS_REGISTER_XMM0);
    }
    return (struct operand){.what = SHOWN_NONE};
}

static uint8_t number_of(ZydisRegister reg)
{
    if (reg == ZYDIS_REGISTER_NONE)
        return INSN_REG_NONE;
    if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
        return INSN_REG_RIP;
    return (uint8_t)ZydisRegisterGetId(reg);
}

static struct operand theirs(const ZydisDecodedOperand *operand)
{
    switch (operand->type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
        return show_register(operand->reg.value);
    case ZYDIS_OPERAND_TYPE_MEMORY:
        return (struct operand){.what = SHOWN_MEMORY,
                                .segment = operand->mem.segment == ZYDIS_REGISTER_NONE
                                               ? SEG_NONE
                                               : (uint8_t)ZydisRegisterGetId(operand->mem.segment),
                                .base = number_of(operand->mem.base),
                                .index = number_of(operand->mem.index),
                                .scale = operand->mem.scale,
                                .displacement = operand->mem.disp.value};
    case ZYDIS_OPERAND_TYPE_POINTER:
        return (struct operand){
            .what = SHOWN_POINTER, .value = operand->ptr.offset, .selector = operand->ptr.segment};
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        return show_value(operand->imm.value.u);
    case ZYDIS_OPERAND_TYPE_UNUSED:
        break;
    }
    return (struct operand){.what = SHOWN_NONE};
}

// The width at which immediates act; Zydis extends some that we do not, and the other way round.
static unsigned immediate_width(const struct insn *insn)
{
    unsigned bytes = insn_operand_bytes(insn, 0);
    if (bytes == 0 || insn->form->operands[0].kind == OPERAND_REL)
        return insn->operand_size;
    return bytes < 8 ? bytes : 8;
}

static bool same_operand(const struct insn *insn, const struct operand *a, const struct operand *b)
{
    if (a->what != b->what)
        return false;
    unsigned bytes = immediate_width(insn);
    switch (a->what) {
    case SHOWN_NONE:
        return true;
    case SHOWN_REGISTER:
        return a->reg == b->reg;
    case SHOWN_MEMORY:
        return a->base == b->base && a->index == b->index && a->scale == b->scale &&
               truncate_to((uint64_t)a->displacement, insn->address_size) ==
                   truncate_to((uint64_t)b->displacement, insn->address_size) &&
               (a->segment == b->segment || (insn->form->attributes & INSN_NO_ACCESS));
    case SHOWN_IMMEDIATE:
        return truncate_to(a->value, bytes) == truncate_to(b->value, bytes);
    case SHOWN_POINTER:
        return truncate_to(a->value, bytes) == truncate_to(b->value, bytes) &&
               a->selector == b->selector;
    }
    return false;
}

static enum operand_access access_of(const ZydisDecodedOperand *operand)
{
    unsigned access = 0;
    if (operand->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
        access |= ACCESS_READ;
    if (operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
        access |= ACCESS_WRITE;
    if (operand->actions & ZYDIS_OPERAND_ACTION_CONDWRITE) // an old value may stay
        access |= ACCESS_READ;
    if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY && operand->mem.type != ZYDIS_MEMOP_TYPE_MEM &&
        operand->mem.type != ZYDIS_MEMOP_TYPE_VSIB)
        access = 0;
    return access;
}

static bool has_hidden_operands(const struct insn *insn)
{
    return insn->form->class == CLASS_STRING || insn->form->op == OP_INS ||
           insn->form->op == OP_OUTS;
}

// Whether ST0 of the x87 is an operand or implicit is a matter of taste; it is left out on both sides.
static bool is_shown(const struct insn *insn, const struct operand *operand)
{
    return operand->what != SHOWN_NONE &&
           !(insn->form->class == CLASS_X87 && operand->what == SHOWN_REGISTER &&
             operand->reg == ZYDIS_REGISTER_ST0);
}

struct shown {
    struct operand operand;
    unsigned access;
    unsigned bytes;
    bool partial; // writes a part of a vector register: the rest stays
};

static unsigned show_ours(const struct insn *insn, struct shown *list)
{
    unsigned count = 0;
    for (unsigned i = 0; i < 4; i++) {
        unsigned kind = insn->form->operands[i].kind, bytes = insn_operand_bytes(insn, i);
        bool partial = (kind == OPERAND_VEC_REG || kind == OPERAND_VEC_RM_REG) && bytes < 16;
        list[count] = (struct shown){ours(insn, i), insn->form->operands[i].access, bytes, partial};
        count += kind != OPERAND_XMM0 && is_shown(insn, &list[count].operand);
    }
    return count;
}

static unsigned show_theirs(const struct insn *insn, const struct oracle *oracle,
                            struct shown *list)
{
    unsigned count = 0;
    for (unsigned i = 0; i < oracle->insn.operand_count_visible && i < 5; i++) {
        const ZydisDecodedOperand *operand = &oracle->operands[i];
        list[count] =
            (struct shown){theirs(operand), access_of(operand), operand->size / 8u, false};
        count += is_shown(insn, &list[count].operand);
    }
    return count;
}

static enum difference compare_operands(const struct insn *insn, const struct oracle *oracle)
{
    struct shown a[5], b[6];
    if (has_hidden_operands(insn))
        return SAME;
    unsigned count = show_ours(insn, a);
    if (count != show_theirs(insn, oracle, b))
        return OPERANDS;
    enum difference difference = SAME;
    for (unsigned i = 0; i < count; i++) {
        if (!same_operand(insn, &a[i].operand, &b[i].operand))
            return OPERANDS;
        bool memory = a[i].operand.what == SHOWN_MEMORY;
        if (!memory && a[i].operand.what != SHOWN_REGISTER)
            continue;
        bool same = (insn->form->attributes & INSN_NO_ACCESS) || a[i].access == b[i].access ||
                    (a[i].partial && (b[i].access & ACCESS_WRITE));
        if (!same && difference == SAME)
            difference = ACCESS;
        if (memory && a[i].access != ACCESS_NONE && a[i].bytes != b[i].bytes && difference == SAME)
            difference = MEMORY_SIZE;
    }
    return difference;
}

// ---- Flags and registers ----

#define COMPARED_FLAGS (FLAGS_STATUS | FLAG_DF)

static enum difference compare_flags(const struct insn *insn, const struct oracle *oracle)
{
    static const ZydisAccessedFlags none;
    const ZydisAccessedFlags *flags = oracle->insn.cpu_flags ? oracle->insn.cpu_flags : &none;
    unsigned changed = flags->modified | flags->set_0 | flags->set_1;
    if ((insn_flags_read(insn) ^ flags->tested) & COMPARED_FLAGS)
        return FLAGS_READ;
    if ((insn_flags_written(insn) ^ changed) & COMPARED_FLAGS)
        return FLAGS_CHANGED;
    if ((insn_flags_undefined(insn) ^ flags->undefined) & COMPARED_FLAGS)
        return FLAGS_UNDEFINED;
    return SAME;
}

static uint16_t gpr_mask(ZydisRegister reg)
{
    ZydisRegister full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
    if (ZydisRegisterGetClass(full) != ZYDIS_REGCLASS_GPR64)
        return 0;
    return (uint16_t)(1u << ZydisRegisterGetId(full));
}

static void collect_registers(const struct oracle *oracle, uint16_t *read, uint16_t *written)
{
    *read = *written = 0;
    for (unsigned i = 0; i < oracle->insn.operand_count; i++) {
        const ZydisDecodedOperand *operand = &oracle->operands[i];
        if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY)
            *read |= gpr_mask(operand->mem.base) | gpr_mask(operand->mem.index);
        if (operand->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        uint16_t mask = gpr_mask(operand->reg.value);
        bool partial = operand->size < 32 || (operand->actions & ZYDIS_OPERAND_ACTION_CONDWRITE);
        if (operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
            *written |= mask;
        if ((operand->actions & ZYDIS_OPERAND_ACTION_MASK_READ) ||
            ((operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) && partial))
            *read |= mask;
    }
}

static enum difference compare_registers(const struct insn *insn, const struct oracle *oracle)
{
    uint16_t read, written;
    collect_registers(oracle, &read, &written);
    if (insn_registers_written(insn) != written)
        return REGISTERS_WRITTEN;
    return insn_registers_read(insn) != read ? REGISTERS_READ : SAME;
}

// Zydis 4.0 shows R13D as the base of a SIB with base 101, mod 00, REX.B and a 67 prefix. There is none (APM 3,
// "SIB Byte Format"); the real processor agrees, as tests/diff shows.
static bool is_sib_slip(const struct insn *insn)
{
    return insn->mode == CODE_64 && insn->address_size == 4 && insn->mod == 0 && insn->rm == 4 &&
           insn->base == INSN_REG_NONE && (insn->rex & REX_B);
}

// ---- Names ----

// Zydis puts size, condition or prefix into mnemonics; ours must be how theirs begins, or in this list.
static const struct {
    enum insn_op op;
    const char *zydis;
} other_names[] = {
    {OP_CBW, "cwde"},      {OP_CBW, "cdqe"},      {OP_CWD, "cdq"},         {OP_CWD, "cqo"},
    {OP_JCXZ, "jecxz"},    {OP_JCXZ, "jrcxz"},    {OP_MOVD, "movq"},       {OP_VMOVD, "vmovq"},
    {OP_PINSRD, "pinsrq"}, {OP_PEXTRD, "pextrq"}, {OP_VPINSRD, "vpinsrq"}, {OP_VPEXTRD, "vpextrq"},
    {OP_IRET, "iret"},
};

static bool same_name(const struct insn *insn, const char *zydis)
{
    const char *name = insn_op_name(insn->form->op);
    size_t length = strcspn(name, " ");
    if (strncmp(name, zydis, length) == 0)
        return true;
    for (unsigned i = 0; i < ARRAY_LENGTH(other_names); i++) {
        if (other_names[i].op == insn->form->op &&
            strncmp(zydis, other_names[i].zydis, strlen(other_names[i].zydis)) == 0)
            return true;
    }
    return false;
}

// ---- The whole ----

static const struct known {
    enum difference difference;
    enum insn_op op;   // OP_NONE: we refuse
    const char *zydis; // mnemonic, NULL: any
    const char *reason;
} known_differences[] = {
    {ONLY_ZYDIS, OP_NONE, "nop", "0F 0D with a register is #UD on AMD processors (seen on Zen 5)"},
    {ONLY_ZYDIS, OP_NONE, "vpinsrd", "with W1 #UD outside 64-bit mode (seen on Zen 5)"},
    {ONLY_ZYDIS, OP_NONE, "vpextrd", "with W1 #UD outside 64-bit mode (seen on Zen 5)"},
    {ONLY_ZYDIS, OP_NONE, "clzero", "#UD with F2 and F3 (seen on Zen 5)"},
    {OPERANDS, OP_MOVMSKPS, NULL, "zero-extended, whether the destination is called 32 or 64 bits"},
    {OPERANDS, OP_MOVMSKPD, NULL, "zero-extended, whether the destination is called 32 or 64 bits"},
    {OPERANDS, OP_LSL, NULL, "of a selector in a register the low 16 bits count"},
    {ONLY_OURS, OP_MOV_FROM_CR, NULL, "LOCK makes CR8 of CR0 (APM 3, MOV CRn; seen on Zen 5)"},
    {ONLY_OURS, OP_MOV_TO_CR, NULL, "LOCK makes CR8 of CR0 (APM 3, MOV CRn; seen on Zen 5)"},
    {ONLY_OURS, OP_ENDBR64, NULL, "a NOP where CET does not exist"},
    {ONLY_OURS, OP_ENDBR32, NULL, "a NOP where CET does not exist"},
    {NAME, OP_WBNOINVD, NULL, "Zydis tells it from WBINVD with other prefixes only"},
    {NAME, OP_XCHG, "pause", "with REX.B 90 is XCHG with R8, F3 or not (seen on Zen 5)"},
    {MEMORY_SIZE, OP_CLFLUSH, NULL, "checked like a load of one byte (APM 3, CLFLUSH)"},
    {MEMORY_SIZE, OP_CLFLUSHOPT, NULL, "checked like a load of one byte (APM 3, CLFLUSHOPT)"},
    {MEMORY_SIZE, OP_CLWB, NULL, "checked like a load of one byte (APM 3, CLWB)"},
    {MEMORY_SIZE, OP_CALL_INDIRECT, NULL, "66 makes near branches 16 bits wide (seen on Zen 5)"},
    {MEMORY_SIZE, OP_JMP_INDIRECT, NULL, "66 makes near branches 16 bits wide (seen on Zen 5)"},
    {ACCESS, OP_XSAVEC, NULL, "an update of the header, in part"},
    {ACCESS, OP_XSAVES, NULL, "an update of the header, in part"},
    {ONLY_OURS, OP_NOP, NULL,
     "0F 18 to 1F are NOPs where CET and the like do not exist (APM 3, NOP)"},
    {OPERANDS, OP_NOP, NULL, "the register operand of a hint NOP means nothing"},
    {OPERANDS, OP_CLZERO, NULL, "rAX is implicit (APM 3, CLZERO)"},
    {OPERANDS, OP_JMP_INDIRECT, NULL,
     "3E is a segment override, too, when CET reads it as NOTRACK"},
    {OPERANDS, OP_CALL_INDIRECT, NULL,
     "3E is a segment override, too, when CET reads it as NOTRACK"},
    {ACCESS, OP_BSF, NULL, "the destination stays when the source is 0 (APM 3, BSF)"},
    {ACCESS, OP_BSR, NULL, "the destination stays when the source is 0 (APM 3, BSR)"},
    {REGISTERS_READ, OP_BSF, NULL, "the destination stays when the source is 0 (APM 3, BSF)"},
    {REGISTERS_READ, OP_BSR, NULL, "the destination stays when the source is 0 (APM 3, BSR)"},
    {ACCESS, OP_MOVHPS, NULL, "half of the destination stays"},
    {ACCESS, OP_MOVHPD, NULL, "half of the destination stays"},
    {ACCESS, OP_MOVLHPS, NULL, "half of the destination stays"},
    {ACCESS, OP_EXTRQ, NULL, "the field is extracted from the destination (APM 4, EXTRQ)"},
    {ACCESS, OP_INSERTQ, NULL, "bits beside the field stay (APM 4, INSERTQ)"},
    {MEMORY_SIZE, OP_XSAVE, NULL, "the size follows from XCR0 and EDX:EAX (APM 4, XSAVE)"},
    {MEMORY_SIZE, OP_XSAVEC, NULL, "the size follows from XCR0 and EDX:EAX"},
    {MEMORY_SIZE, OP_XSAVES, NULL, "the size follows from XCR0 and EDX:EAX"},
    {MEMORY_SIZE, OP_XSAVEOPT, NULL, "the size follows from XCR0 and EDX:EAX"},
    {MEMORY_SIZE, OP_XRSTOR, NULL, "the size follows from XCR0 and EDX:EAX"},
    {MEMORY_SIZE, OP_XRSTORS, NULL, "the size follows from XCR0 and EDX:EAX"},
    {FLAGS_READ, OP_SYSCALL, NULL, "RFLAGS goes to R11 (APM 3, SYSCALL)"},
    {FLAGS_READ, OP_INT, NULL, "all flags are pushed"},
    {FLAGS_READ, OP_INT3, NULL, "all flags are pushed"},
    {FLAGS_READ, OP_INT1, NULL, "all flags are pushed"},
    {FLAGS_READ, OP_INTO, NULL, "all flags are pushed"},
    {FLAGS_READ, OP_CMPS, NULL, "REPE tests the ZF that the comparison makes, not an older one"},
    {FLAGS_READ, OP_SCAS, NULL, "REPE tests the ZF that the comparison makes, not an older one"},
    {FLAGS_CHANGED, OP_SBB, NULL, "SBB changes AF (APM 3, SBB); Zydis lists it as undefined"},
    {FLAGS_CHANGED, OP_BEXTR, NULL, "BEXTR clears CF and OF (APM 3, BEXTR)"},
    {FLAGS_CHANGED, OP_VTESTPS, NULL, "the flags but ZF and CF are cleared (APM 4, VTESTPS)"},
    {FLAGS_CHANGED, OP_VTESTPD, NULL, "the flags but ZF and CF are cleared (APM 4, VTESTPD)"},
    {FLAGS_CHANGED, OP_VPTEST, NULL, "the flags but ZF and CF are cleared (APM 4, PTEST)"},
    {FLAGS_CHANGED, OP_VMCALL, NULL, "what a hypervisor call changes is the hypervisor's"},
    // Ours look at the count: by 0 nothing changes, by 1 OF is defined (APM 3, SHL and the others).
    {FLAGS_CHANGED, OP_ROL, NULL, "OF is defined for a count of 1, nothing changes for 0"},
    {FLAGS_CHANGED, OP_ROR, NULL, "OF is defined for a count of 1, nothing changes for 0"},
    {FLAGS_CHANGED, OP_RCL, NULL, "OF is defined for a count of 1, nothing changes for 0"},
    {FLAGS_CHANGED, OP_RCR, NULL, "OF is defined for a count of 1, nothing changes for 0"},
    {FLAGS_CHANGED, OP_SHL, NULL, "OF is defined for a count of 1, nothing changes for 0"},
    {FLAGS_CHANGED, OP_SHR, NULL, "OF is defined for a count of 1, nothing changes for 0"},
    {FLAGS_CHANGED, OP_SAR, NULL, "OF is defined for a count of 1, nothing changes for 0"},
    {FLAGS_CHANGED, OP_SHLD, NULL, "OF is defined for a count of 1, nothing changes for 0"},
    {FLAGS_CHANGED, OP_SHRD, NULL, "OF is defined for a count of 1, nothing changes for 0"},
    {REGISTERS_WRITTEN, OP_INS, NULL, "strings move rDI and rSI without REP, too"},
    {REGISTERS_WRITTEN, OP_OUTS, NULL, "strings move rDI and rSI without REP, too"},
    {REGISTERS_WRITTEN, OP_CMPS, NULL, "strings move rDI and rSI without REP, too"},
    {REGISTERS_WRITTEN, OP_SCAS, NULL, "strings move rDI and rSI without REP, too"},
    {REGISTERS_READ, OP_LEAVE, NULL, "the old rSP does not matter (APM 3, LEAVE)"},
    {REGISTERS_READ, OP_MWAITX, NULL, "EBX is the timer when ECX says so (APM 3, MWAITX)"},
    {REGISTERS_READ, OP_XOR, NULL, "a register exclusive-or itself does not depend on it"},
    {REGISTERS_READ, OP_SUB, NULL, "a register less itself does not depend on it"},
    {REGISTERS_READ, OP_SBB, NULL, "a register less itself depends on the carry alone"},
    {REGISTERS_READ, OP_NOP, NULL, "an address alone"},
    {REGISTERS_READ, OP_UD0, NULL, "never executed"},
    {REGISTERS_READ, OP_UD1, NULL, "never executed"},
};

static const char *reason_for(const struct insn *insn, const struct comparison *comparison)
{
    if (insn->form && is_sib_slip(insn))
        return "a slip of Zydis";
    for (unsigned i = 0; i < ARRAY_LENGTH(known_differences); i++) {
        const struct known *known = &known_differences[i];
        if (known->difference == comparison->difference &&
            known->op == (insn->form ? insn->form->op : OP_NONE) &&
            (!known->zydis || strcmp(known->zydis, comparison->zydis_name) == 0))
            return known->reason;
    }
    return NULL;
}

static enum difference compare(const struct insn *insn, int length, const struct oracle *oracle)
{
    if (length < 0 || !oracle->valid) {
        if (length < 0 && !oracle->valid)
            return SAME;
        return oracle->valid ? ONLY_ZYDIS : ONLY_OURS;
    }
    if (length != oracle->insn.length)
        return LENGTH;
    if (!same_name(insn, ZydisMnemonicGetString(oracle->insn.mnemonic)))
        return NAME;
    enum difference difference = compare_operands(insn, oracle);
    if (difference == SAME)
        difference = compare_flags(insn, oracle);
    if (difference == SAME)
        difference = compare_registers(insn, oracle);
    return difference;
}

static void describe(const uint8_t *bytes, size_t available, const struct insn *insn, int length,
                     enum code_mode mode, const struct oracle *oracle, struct comparison *out)
{
    static const ZydisAccessedFlags none;
    int at = snprintf(out->text, sizeof(out->text), "mode %d, bytes", (int)mode);
    for (unsigned i = 0; i < available && i < INSN_MAX_BYTES; i++)
        at += snprintf(out->text + at, sizeof(out->text) - (size_t)at, " %02x", bytes[i]);
    char zydis[120];
    disassemble(bytes, available, mode, zydis, sizeof(zydis));
    snprintf(out->text + at, sizeof(out->text) - (size_t)at, ": ours %s (%d), Zydis %s",
             length > 0 ? insn_op_name(insn->form->op) : "bad", length, zydis);
    if (length < 0 || !oracle->valid)
        return;
    at = (int)strlen(out->text);
    const ZydisAccessedFlags *flags = oracle->insn.cpu_flags ? oracle->insn.cpu_flags : &none;
    uint16_t read, written;
    collect_registers(oracle, &read, &written);
    snprintf(out->text + at, sizeof(out->text) - (size_t)at,
             "; flags read %x/%x written %x/%x undefined %x/%x, registers read %x/%x written %x/%x",
             insn_flags_read(insn), flags->tested, insn_flags_written(insn),
             flags->modified | flags->set_0 | flags->set_1, insn_flags_undefined(insn),
             flags->undefined, insn_registers_read(insn), read, insn_registers_written(insn),
             written);
}

void compare_with_zydis(const uint8_t *bytes, size_t available, enum code_mode mode,
                        struct comparison *out)
{
    struct insn insn;
    struct oracle oracle;
    int length = decode(bytes, available, mode, &insn);
    ask_zydis(bytes, available, mode, &oracle);
    out->difference = compare(&insn, length, &oracle);
    if (out->difference == SAME)
        return;
    if (length < 0)
        insn.form = NULL;
    snprintf(out->zydis_name, sizeof(out->zydis_name), "%s",
             oracle.valid ? ZydisMnemonicGetString(oracle.insn.mnemonic) : "");
    out->reason = reason_for(&insn, out);
    if (!out->reason)
        describe(bytes, available, &insn, length, mode, &oracle, out);
}
