// SPDX-License-Identifier: Apache-2.0
//
// Cases of several instructions, for what single ones do not show in a translator: flags and registers that live from one
// to the next, shared checks of addresses, jumps within and between blocks, computed ones, loops to the start of a block or of the sequence.
//
// Most operands are in memory that is there: some registers hold addresses and are not written by the sequence, one
// counts a loop. Which flags are undefined is followed through, and none is read while it is.
#include "diff_make.h"

#include "base/bits.h"
#include "machine/engine/decode_table.h"

enum { LOOP_COUNTER = RCX, SMALL_INDEX = R14, AT_MOST = 12, RAW_AT_MOST = 32, SPACE = 256 };
enum { ENDING = 64 }; // bytes that a computed jump or the end of a loop may need

// Hold addresses of data. RSP, and with strings RSI and RDI, move a little.
static const uint8_t pointers[] = {RBX, RBP, RSI, RDI, R12, R13, RSP};

static uint16_t reserved_registers(void)
{
    uint16_t mask = 1u << LOOP_COUNTER | 1u << SMALL_INDEX;
    for (unsigned i = 0; i < ARRAY_LENGTH(pointers); i++)
        mask |= (uint16_t)(1u << pointers[i]);
    return mask;
}

static bool is_pointer(unsigned number)
{
    for (unsigned i = 0; i < ARRAY_LENGTH(pointers); i++) {
        if (pointers[i] == number)
            return true;
    }
    return false;
}

struct sequence {
    struct diff_case *c;
    uint64_t *random;
    unsigned starts[AT_MOST + RAW_AT_MOST]; // of each instruction
    unsigned count;
    uint64_t
        inner; // of these, by number: what a computed jump is made of, but its first; no loop begins there
    uint16_t read;       // flags that any instruction reads
    uint16_t undefined;  // flags now
    bool repeated;       // there is a REP: RCX is no loop counter any more
    unsigned jump_at;    // displacement that waits for its target, 0: none
    unsigned jump_bytes; // its size
    unsigned jump_from;  // what it is relative to
    unsigned jump_left;  // instructions that it still has to skip
    uint16_t jump_undefined;
};

static bool class_is_wanted(const struct insn_form *form)
{
    switch ((enum insn_class)form->class) {
    case CLASS_INTEGER:
    case CLASS_MMX:
    case CLASS_SSE:
    case CLASS_AVX:
    case CLASS_X87: // not what stores the x87 pointers, which differ
        return !(form->attributes & INSN_IMPLICIT_MEMORY) && form->op != OP_FNSTENV &&
               form->op != OP_FNSAVE && form->op != OP_UD0 && form->op != OP_UD1;
    case CLASS_STACK:
        return form->op == OP_PUSH || form->op == OP_POP;
    case CLASS_BRANCH:
        return form->op == OP_JCC || form->op == OP_JMP || form->op == OP_JMP_INDIRECT;
    case CLASS_CALL:
    case CLASS_STRING:
        return true;
    case CLASS_RET:
    case CLASS_IO:
    case CLASS_FAR:
    case CLASS_SEGMENT:
    case CLASS_SYSTEM:
    case CLASS_COUNT:
        break;
    }
    return false;
}

// Bring the memory operand near a pointer, by its displacement. False: its registers are others.
static bool settle_operand(struct sequence *sequence)
{
    struct diff_case *c = sequence->c;
    const struct insn *insn = &c->insn;
    if (insn->address_size != 8 || insn->form->operands[1].kind == OPERAND_VSIB ||
        insn->segment == SEG_FS || insn->segment == SEG_GS)
        return false;
    uint64_t here = c->code + sequence->starts[sequence->count] + c->length;
    uint64_t target = DATA_ADDRESS + diff_below(sequence->random, DATA_BYTES - 64);
    if (insn->base == INSN_REG_RIP)
        target -= here;
    else if (insn->base == INSN_REG_NONE && insn->index == INSN_REG_NONE)
        target += 0;
    else if (insn->base == INSN_REG_NONE || !is_pointer(insn->base) ||
             (insn->index != INSN_REG_NONE && insn->index != SMALL_INDEX))
        return false;
    else
        target = diff_below(sequence->random, 256) - 128ull;
    memcpy(c->bytes + insn->displacement_at, &target, insn->displacement_bytes);
    return true;
}

static bool is_repeated(const struct insn *insn)
{
    return (insn->form->attributes & INSN_REP) && (insn->prefixes & (PREFIX_REP | PREFIX_REPNE));
}

// Registers that this instruction may change although they are reserved.
static uint16_t may_move(const struct insn *insn)
{
    switch ((unsigned)insn->form->class) {
    case CLASS_STACK:
    case CLASS_CALL:
        return 1u << RSP;
    case CLASS_STRING:
        return 1u << RSI | 1u << RDI | 1u << LOOP_COUNTER;
    default:
        return 0;
    }
}

static bool is_transfer(const struct insn *insn)
{
    return insn->form->class == CLASS_BRANCH || insn->form->class == CLASS_CALL;
}

static bool suits(const struct sequence *sequence)
{
    const struct insn *insn = &sequence->c->insn;
    if (insn->form->op == OP_POP && insn->rm == RSP)
        return false;
    if (is_transfer(insn) && insn->operand_size != 8)
        return false; // 66 truncates RIP
    if (insn->form->class == CLASS_STRING &&
        (insn->address_size != 8 || insn->segment_override != SEG_NONE))
        return false;
    if (is_transfer(insn) && insn->form->operands[0].kind == OPERAND_RM &&
        insn->base != INSN_REG_RIP)
        return false; // a target can be placed for a fixed address only
    if (insn_registers_written(insn) & reserved_registers() & (uint16_t)~may_move(insn))
        return false;
    if (insn->form->attributes & INSN_BIT_OFFSET && insn_has_memory(insn))
        return false; // anywhere
    return !(insn_flags_read(insn) & sequence->undefined);
}

// Where a transfer without a condition goes: to the instruction after it, by its displacement or by memory.
static bool settle_transfer(struct sequence *sequence)
{
    struct diff_case *c = sequence->c;
    const struct insn *insn = &c->insn;
    static const uint32_t zero;
    if (insn->form->operands[0].kind == OPERAND_REL) {
        memcpy(c->bytes + insn->immediate_at, &zero, insn->immediate_bytes);
        return true;
    }
    uint64_t next = c->code + sequence->starts[sequence->count] + c->length;
    for (unsigned i = 0; i < ARRAY_LENGTH(c->patches); i++) {
        if (c->patches[i].bytes)
            continue;
        c->patches[i] = (struct diff_patch){.address = DATA_ADDRESS + 8 * i, .bytes = 8};
        memcpy(c->patches[i].value, &next, 8);
        uint64_t displacement = c->patches[i].address - next;
        memcpy(c->bytes + insn->displacement_at, &displacement, insn->displacement_bytes);
        return true;
    }
    return false;
}

// Undefined flags after the instruction; those of a shift by CL as its form says.
static void follow_flags(struct sequence *sequence)
{
    const struct insn *insn = &sequence->c->insn;
    sequence->undefined &= (uint16_t)~insn_flags_killed(insn);
    sequence->undefined |= insn_flags_undefined(insn);
}

// An instruction that fits, at the end of `code`. False: none was found for the form.
static bool append(struct sequence *sequence, unsigned form, uint8_t *code)
{
    struct diff_case *c = sequence->c;
    for (unsigned attempt = 0; attempt < 40; attempt++) {
        if (!diff_make_bytes(c, form, sequence->random) || !suits(sequence))
            continue;
        if (is_transfer(&c->insn) ? !settle_transfer(sequence)
                                  : insn_has_memory(&c->insn) && !settle_operand(sequence))
            continue;
        if (decode(c->bytes, c->length, c->mode, &c->insn) != (int)c->length)
            continue;
        memcpy(code + sequence->starts[sequence->count], c->bytes, c->length);
        sequence->starts[sequence->count + 1] = sequence->starts[sequence->count] + c->length;
        sequence->count++;
        return true;
    }
    return false;
}

// The waiting jump's target is where the next instruction will stand.
static void land(struct sequence *sequence, uint8_t *code)
{
    uint32_t distance = sequence->starts[sequence->count] - sequence->jump_from;
    memcpy(code + sequence->jump_at, &distance, sequence->jump_bytes);
    sequence->jump_at = 0;
    sequence->undefined |= sequence->jump_undefined;
}

// The displacement of `bytes` bytes at `at` leads behind the next few instructions.
static void wait_for_target(struct sequence *sequence, unsigned at, unsigned bytes)
{
    sequence->jump_at = at;
    sequence->jump_bytes = bytes;
    sequence->jump_from = at + bytes;
    sequence->jump_left = 1 + diff_below(sequence->random, 3);
    sequence->jump_undefined = sequence->undefined;
}

static void after_append(struct sequence *sequence, uint8_t *code)
{
    const struct insn *insn = &sequence->c->insn;
    sequence->repeated |= is_repeated(insn);
    sequence->read |= insn_flags_read(insn);
    if (insn->form->op == OP_JCC) {
        wait_for_target(sequence, sequence->starts[sequence->count - 1] + insn->immediate_at, 1);
        return;
    }
    follow_flags(sequence);
    if (sequence->jump_at && --sequence->jump_left == 0)
        land(sequence, code);
}

// These very bytes as the next instruction. Returns where its last four bytes, perhaps a displacement, stand.
static unsigned append_raw(struct sequence *sequence, uint8_t *code, const void *bytes,
                           unsigned length)
{
    unsigned at = sequence->starts[sequence->count];
    memcpy(code + at, bytes, length);
    decode(code + at, length, CODE_64, &sequence->c->insn);
    follow_flags(sequence);
    sequence->read |= insn_flags_read(&sequence->c->insn);
    sequence->starts[++sequence->count] = at + length;
    return at + length - 4;
}

// LEA of a place in the sequence into a register. Returns where the displacement is to be put.
static unsigned append_lea_rip(struct sequence *sequence, uint8_t *code, unsigned reg)
{
    uint8_t bytes[7] = {(uint8_t)(0x48 | (reg >> 3) << 2), 0x8D, (uint8_t)((reg & 7) << 3 | 5)};
    return append_raw(sequence, code, bytes, sizeof(bytes));
}

static void lead_to_end(const struct sequence *sequence, uint8_t *code, unsigned at)
{
    uint32_t distance = sequence->starts[sequence->count] - at - 4;
    memcpy(code + at, &distance, 4);
}

static void append_transfer_by(struct sequence *sequence, uint8_t *code, unsigned reg)
{
    uint8_t rex = (uint8_t)(0x40 | reg >> 3), low = (uint8_t)(reg & 7);
    uint8_t push[] = {rex, (uint8_t)(0x50 | low)}, ret = 0xC3;
    uint8_t jump[] = {rex, 0xFF, (uint8_t)((diff_one_in(sequence->random, 2) ? 0xE0 : 0xD0) | low)};
    if (diff_one_in(sequence->random, 3)) {
        append_raw(sequence, code, push, sizeof(push));
        append_raw(sequence, code, &ret, 1);
    } else {
        append_raw(sequence, code, jump, sizeof(jump)); // or a CALL
    }
}

// A jump, call or return to a computed address: the next instruction, one a little further on, or either of them as a condition says.
static void append_computed(struct sequence *sequence, uint8_t *code)
{
    static const uint8_t targets[] = {RAX, RDX, R8, R9, R10, R11, R15};
    unsigned first = diff_below(sequence->random, ARRAY_LENGTH(targets));
    unsigned second = (first + 1) % ARRAY_LENGTH(targets);
    unsigned reg = targets[first], other = targets[second];
    unsigned at = append_lea_rip(sequence, code, reg);
    unsigned begin = sequence->count;
    bool both = !sequence->undefined && diff_one_in(sequence->random, 2);
    if (both) {
        uint8_t bytes[] = {(uint8_t)(0x48 | (reg >> 3) << 2 | other >> 3), 0x0F,
                           (uint8_t)(0x40 | diff_below(sequence->random, 16)),
                           (uint8_t)(0xC0 | (reg & 7) << 3 | (other & 7))};
        unsigned further = append_lea_rip(sequence, code, other);
        append_raw(sequence, code, bytes, sizeof(bytes)); // CMOVcc
        append_transfer_by(sequence, code, reg);
        wait_for_target(sequence, further, 4);
    } else {
        append_transfer_by(sequence, code, reg);
    }
    sequence->inner |= BIT(sequence->count) - BIT(begin);
    if (!both && diff_one_in(sequence->random, 2))
        wait_for_target(sequence, at, 4);
    else
        lead_to_end(sequence, code, at);
}

static bool form_is_wanted(const struct sequence *sequence, unsigned form,
                           bool (*offered)(const void *, const struct insn_form *),
                           const void *context)
{
    const struct insn_form *f = &insn_forms[form];
    bool short_jump = f->op != OP_JCC || f->immediate == IMMEDIATE_S8;
    return class_is_wanted(f) && short_jump && !diff_skip_reason(f) && offered(context, f) &&
           !(f->op == OP_JCC && sequence->jump_at);
}

// Weighted towards what programs are made of: every other instruction is one of the integer ones.
static unsigned choose_form(const struct sequence *sequence,
                            bool (*offered)(const void *, const struct insn_form *),
                            const void *context)
{
    bool integer = diff_one_in(sequence->random, 2), jump = diff_one_in(sequence->random, 8);
    for (;;) {
        unsigned form = diff_below(sequence->random, insn_form_count);
        unsigned class = insn_forms[form].class;
        bool transfer = class == CLASS_BRANCH || class == CLASS_CALL;
        if (jump && !transfer)
            continue;
        if (!jump && integer && class != CLASS_INTEGER && class != CLASS_STACK &&
            class != CLASS_STRING)
            continue;
        if (form_is_wanted(sequence, form, offered, context))
            return form;
    }
}

static void set_pointers(struct diff_case *c, uint64_t *random)
{
    for (unsigned i = 0; i < ARRAY_LENGTH(pointers); i++) {
        uint64_t address = DATA_ADDRESS + 256 + diff_below(random, (DATA_BYTES - 512) / 64) * 64;
        if (diff_one_in(random, 6))
            address += diff_below(random, 64);
        if (diff_one_in(random, 12)) // near an end, where some accesses fault
            address = DATA_ADDRESS + (diff_one_in(random, 2) ? 0 : DATA_BYTES) +
                      diff_below(random, 64) - 32;
        c->before.gpr[pointers[i]] = address;
    }
    c->before.gpr[SMALL_INDEX] = diff_below(random, 16);
    c->before.gpr[LOOP_COUNTER] = 1 + diff_below(random, 40);
}

// Count down, and set flags by it. Returns the condition under which the loop goes on. In the last of the ways the operand of what wrote
// the flags has changed when they are asked.
static uint8_t append_count(struct sequence *sequence, uint8_t *code)
{
    enum { JNE = 5, JL = 12, JG = 15 };
    static const struct {
        uint8_t bytes[8];
        uint8_t length;
        uint8_t condition;
    } ways[] = {{{0xFF, 0xC9}, 2, JNE},                              // DEC ECX
                {{0x48, 0x83, 0xE9, 0x01}, 4, JNE},                  // SUB RCX, 1
                {{0x83, 0xC1, 0xFF}, 3, JNE},                        // ADD ECX, -1
                {{0x8D, 0x49, 0xFF, 0x48, 0x85, 0xC9}, 6, JNE},      // LEA; TEST RCX, RCX
                {{0x8D, 0x49, 0xFF, 0x83, 0xF9, 0x00}, 6, JNE},      // LEA; CMP ECX, 0
                {{0x48, 0x83, 0xE9, 0x02, 0x8D, 0x49, 0x01}, 7, JG}, // SUB RCX, 2; LEA + 1
                {{0x83, 0xF9, 0x01, 0x8D, 0x49, 0xFF}, 6, JG},       // CMP ECX, 1; LEA - 1
                {{0x48, 0x85, 0xC9, 0x8D, 0x49, 0xFF}, 6, JG},       // TEST RCX, RCX; LEA - 1
                {{0xF7, 0xD9, 0xF7, 0xD1}, 4, JL}};                  // NEG ECX; NOT ECX
    unsigned way = diff_below(sequence->random, ARRAY_LENGTH(ways));
    struct insn insn;
    for (unsigned at = 0; at < ways[way].length; at += insn.length) {
        decode(ways[way].bytes + at, ways[way].length - at, CODE_64, &insn);
        append_raw(sequence, code, ways[way].bytes + at, insn.length);
    }
    return ways[way].condition;
}

// Something that leaves flags alone.
static void append_between(struct sequence *sequence, uint8_t *code,
                           bool (*offered)(const void *, const struct insn_form *),
                           const void *context)
{
    for (unsigned attempt = 0; attempt < 10; attempt++) {
        unsigned form = choose_form(sequence, offered, context), op = insn_forms[form].op;
        if (op != OP_MOV && op != OP_LEA && op != OP_MOVZX && op != OP_PUSH && op != OP_MOVUPS)
            continue;
        if (append(sequence, form, code))
            return;
    }
}

// Back to instruction `head`, by LOOP or by a condition. What is undefined at the end must not be read there: then no loop.
static void close_loop(struct sequence *sequence, uint8_t *code, unsigned head,
                       bool (*offered)(const void *, const struct insn_form *), const void *context)
{
    bool by_condition = diff_one_in(sequence->random, 2);
    if (sequence->repeated)
        return;
    uint8_t condition = 0;
    if (by_condition) {
        condition = append_count(sequence, code);
        for (unsigned i = diff_below(sequence->random, 3); i; i--)
            append_between(sequence, code, offered, context);
    }
    if (sequence->undefined & sequence->read)
        return;
    unsigned end = sequence->starts[sequence->count];
    int32_t distance = (int32_t)(sequence->starts[head] - end) - 2, far = distance - 4;
    uint8_t near_jump[2] = {by_condition ? 0x70 | condition : 0xE2, (uint8_t)distance};
    uint8_t far_jump[6] = {0x0F, 0x80 | condition};
    memcpy(far_jump + 2, &far, 4);
    if (distance >= -128 && !(by_condition && diff_one_in(sequence->random, 4)))
        append_raw(sequence, code, near_jump, sizeof(near_jump));
    else if (by_condition)
        append_raw(sequence, code, far_jump, sizeof(far_jump));
}

bool diff_sequence_make(struct diff_case *out, uint64_t seed,
                        bool (*offered)(const void *, const struct insn_form *),
                        const void *context)
{
    uint64_t random = seed, fs_base = out->fs_base, gs_base = out->gs_base;
    uint8_t code[SPACE] = {0};
    *out =
        (struct diff_case){.seed = seed, .mode = CODE_64, .fs_base = fs_base, .gs_base = gs_base};
    out->sequence = true;
    out->data_seed = diff_random(&random);
    diff_random_state(out, &random);
    set_pointers(out, &random);
    out->code = CODE_ADDRESS + 0x800 - (diff_one_in(&random, 8) ? diff_below(&random, 16) : 0);
    out->before.rip = out->code;
    struct sequence sequence = {.c = out, .random = &random};
    unsigned wanted = 2 + diff_below(&random, AT_MOST - 2);
    while (sequence.count < wanted &&
           sequence.starts[sequence.count] < SPACE - ENDING - INSN_MAX_BYTES) {
        if (!sequence.jump_at && diff_one_in(&random, 16))
            append_computed(&sequence, code);
        else if (append(&sequence, choose_form(&sequence, offered, context), code))
            after_append(&sequence, code);
    }
    if (sequence.jump_at)
        land(&sequence, code);
    unsigned head = diff_one_in(&random, 2) ? 0 : diff_below(&random, sequence.count);
    while (sequence.inner >> head & 1)
        head--;
    if (diff_one_in(&random, 2))
        close_loop(&sequence, code, head, offered, context);
    out->undefined_flags = sequence.undefined;
    out->length = sequence.starts[sequence.count];
    memcpy(out->bytes, code, out->length);
    return true;
}
