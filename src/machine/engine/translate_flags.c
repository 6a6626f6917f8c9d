// SPDX-License-Identifier: Apache-2.0
//
// Status flags: where they may be spoiled, and how they come back.
//
// A look-up is shorter when it may spoil the status flags. It may where the block overwrites them all before it reads one or ends; but the look-up can
// miss, the access can fault, and the handler of that fault sees the flags as they were. So each stretch of instructions between two that
// write flags knows how its flags are had again, at every point where the code can leave:
//
//  - FLAGS_FROM_SOURCE: the instruction that wrote them is executed once more. It worked on registers that still hold what they held, or
//    can be taken back first (SUB before an ADD). This costs nothing but a few bytes of far code.
//  - FLAGS_SAVED: LAHF and SETO into the context before they are spoiled for the first time.
//  - FLAGS_AT_ENTRY: a block that jumps back to its own start is entered there with the flags of its own last writer, and from elsewhere with any, which
//    are saved then. The saving stands before the place to which it jumps back.
//  - FLAGS_KEPT: neither pays; look-ups leave the flags alone.
//
// An instruction that writes some of the flags, or none in certain cases, needs the others right. Flags that the manual calls undefined
// are what this host's CPU makes of them, the same in both tiers, so that only such instructions count as writing all of which that is known
// not to depend on what the flags were.
#include <assert.h>

#include "base/bits.h"
#include "machine/engine/translate.h"

// Fewer spoiling instructions than this in a stretch do not pay for saving the flags.
#define SAVING_PAYS 2

static bool writes_all(const struct insn *insn)
{
    if (insn_flags_killed(insn) != FLAGS_STATUS)
        return false;
    switch ((unsigned)insn->form->op) {
    case OP_AND:
    case OP_OR:
    case OP_XOR:
    case OP_TEST:
    case OP_SHL:
    case OP_SHR:
    case OP_SAR:
        return true;
    default:
        return insn_flags_undefined(insn) == 0;
    }
}

static bool writes_some(const struct insn *insn)
{
    return (insn_flags_written(insn) | insn_flags_undefined(insn)) != 0;
}

// Backward: which flags may be read, or be shown to anybody, before they are overwritten?
static void find_live(struct translation *t)
{
    uint16_t live = FLAGS_STATUS;

    for (unsigned i = t->count; i-- > 0;) {
        struct planned_insn *p = &t->insns[i];
        if (p->plan >= PLAN_BRANCH)
            live = FLAGS_STATUS;
        else if (writes_all(&p->insn))
            live = insn_flags_read(&p->insn) & FLAGS_STATUS;
        else if (writes_some(&p->insn))
            live = FLAGS_STATUS;
        else
            live |= insn_flags_read(&p->insn) & FLAGS_STATUS;
        p->flags_live = live != 0;
    }
}

// ---- Executing the source again ----

enum again {
    AGAIN_NOT,
    AGAIN_ONCE,   // the same operands give the same flags, and the same result
    AGAIN_TWICE,  // the first time takes it back
    AGAIN_INVERSE // the opposite takes it back
};

static enum again how_again(const struct planned_insn *p)
{
    const struct insn *insn = &p->insn;
    bool self = insn->form->operands[1].kind != OPERAND_IMM && insn->reg == insn->rm;

    if (p->plan != PLAN_COPY || insn_has_memory(insn) || insn->encoding != ENCODING_LEGACY)
        return AGAIN_NOT;
    switch ((unsigned)insn->form->op) {
    case OP_CMP:
    case OP_TEST:
    case OP_AND:
    case OP_OR:
        return AGAIN_ONCE;
    case OP_NEG:
        return AGAIN_TWICE;
    case OP_XOR:
        return self ? AGAIN_ONCE : AGAIN_TWICE;
    case OP_SUB:
        return self ? AGAIN_ONCE : AGAIN_INVERSE;
    case OP_ADD:
        return self ? AGAIN_NOT : AGAIN_INVERSE;
    default:
        return AGAIN_NOT;
    }
}

// ADD for SUB and the reverse: 00 to 05 and 28 to 2D, or /0 and /5 of 80, 81 and 83.
static void emit_inverse(struct emitter *e, const struct planned_insn *p)
{
    uint8_t bytes[INSN_MAX_BYTES];
    unsigned at = p->insn.opcode_at + (p->insn.opcode >= 0x80);

    memcpy(bytes, p->bytes, sizeof(bytes));
    bytes[at] ^= 0x28;
    emit_bytes(e, bytes, p->insn.length);
}

void translate_emit_source(struct emitter *e, const struct planned_insn *source)
{
    enum again again = how_again(source);

    if (again == AGAIN_TWICE)
        emit_bytes(e, source->bytes, source->insn.length);
    if (again == AGAIN_INVERSE)
        emit_inverse(e, source);
    emit_bytes(e, source->bytes, source->insn.length);
}

// ---- Stretches ----

static bool spoils(const struct planned_insn *p)
{
    return !p->flags_live && (p->plan == PLAN_MEMORY || p->plan == PLAN_STACK ||
                              p->plan == PLAN_STRING || p->plan == PLAN_SYSTEM);
}

// The instructions [from, to) see the flags of `source`, -1: those that the block was entered with.
static void plan_stretch(struct translation *t, int source, unsigned from, unsigned to)
{
    const struct planned_insn *writer = source < 0 ? NULL : &t->insns[source];
    uint16_t needed = writer ? writer->reads | writer->writes : 0, written = 0;
    bool again = writer && how_again(writer) != AGAIN_NOT;
    unsigned count = 0;

    for (unsigned i = from; i < to; i++) {
        count += spoils(&t->insns[i]);
        // Here, or by a fault here where they were spoiled before, code leaves with them.
        if (spoils(&t->insns[i]) || (count && translate_may_fault(&t->insns[i].insn)))
            again = again && !(written & needed);
        written |= t->insns[i].writes;
    }
    enum flags_way way = again ? FLAGS_FROM_SOURCE : count < SAVING_PAYS ? FLAGS_KEPT : FLAGS_SAVED;
    if (source < 0 && t->loop_source >= 0) {
        way = FLAGS_AT_ENTRY;
        source = t->loop_source;
    }
    for (unsigned i = from; i < to; i++) {
        t->insns[i].flags_way = (uint8_t)(spoils(&t->insns[i]) ? way : FLAGS_KEPT);
        t->insns[i].flags_source = (int8_t)source;
    }
}

// May the instruction be executed again where it perhaps was not the last one to write flags? What it changes it must take back.
static bool is_harmless(const struct planned_insn *p)
{
    enum again again = how_again(p);

    return again == AGAIN_TWICE || again == AGAIN_INVERSE ||
           (again == AGAIN_ONCE && p->insn.form->op == OP_CMP) ||
           (again == AGAIN_ONCE && p->insn.form->op == OP_TEST);
}

static int last_writer(const struct translation *t)
{
    int i = (int)t->count - 1;

    while (i >= 0 && !writes_some(&t->insns[i].insn) && t->insns[i].plan <= PLAN_BRANCH)
        i--;
    return i;
}

// Does the block end by a conditional jump to its start, where no flags are wanted, and can those that it brings there be had again?
static bool is_loop(const struct translation *t, int writer)
{
    const struct planned_insn *last = &t->insns[t->count - 1];
    uint16_t written = 0;

    if (last->plan != PLAN_BRANCH || last->insn.form->op != OP_JCC ||
        last->insn.operand_size != 8 || last->next_rip + last->insn.immediate != t->insns[0].rip ||
        t->insns[0].flags_live || writer < 0 || !is_harmless(&t->insns[writer]))
        return false;
    for (unsigned i = (unsigned)writer + 1; i < t->count; i++)
        written |= t->insns[i].writes;
    return !(written & (t->insns[writer].reads | t->insns[writer].writes));
}

static bool may_leave(const struct planned_insn *p)
{
    return p->plan != PLAN_COPY || insn_has_memory(&p->insn) || translate_may_fault(&p->insn);
}

// From the start to the first writer of flags there is a look-up that spoils them, or else nothing that could leave with them: then only the look for events
// at the jump spoils them.
static void find_loop(struct translation *t)
{
    int writer = last_writer(t);
    unsigned first = 0;
    uint16_t written = 0;
    bool spoiled = false, leaves = t->translator->exact; // at its entry

    if (!is_loop(t, writer))
        return;
    while (!writes_some(&t->insns[first].insn) && t->insns[first].plan < PLAN_BRANCH) {
        spoiled = spoiled || spoils(&t->insns[first]);
        leaves = leaves || may_leave(&t->insns[first]);
        written |= t->insns[first++].writes;
    }
    spoiled = spoiled || spoils(&t->insns[first]);
    leaves = leaves || may_leave(&t->insns[first]);
    if (spoiled && !(written & (t->insns[writer].reads | t->insns[writer].writes)))
        t->loop_source = (int8_t)writer;
    if (!leaves)
        t->poll_source = (int8_t)writer;
}

static void emit_save(struct translation *t)
{
    struct emitter *e = &t->near;

    translate_evict(t, RAX);
    emit_u8(e, 0x9F);                                      // lahf
    emit_bytes(e, (const uint8_t[]){0x0F, 0x90, 0xC0}, 3); // seto al
    emit_u8(e, 0x66);
    emit_op_memory(e, false, 0x89, RAX, host_context(CONTEXT_ENGINE(translate.saved_flags)));
}

static void emit_entry_saved(struct translation *t, bool saved)
{
    emit_op_memory(&t->near, false, 0xC6, 0, host_context(CONTEXT_ENGINE(translate.entry_saved)));
    emit_u8(&t->near, saved);
}

void translate_loop_entry(struct translation *t)
{
    emit_save(t);
    emit_entry_saved(t, true);
    translate_need(t, REGISTER_BIT(RAX));
    t->block->loop_entry =
        (uint16_t)(code_cache_offset(&t->translator->cache, t->near.at) - t->block->code);
    t->flags_now = FLAGS_AT_ENTRY;
    t->flags_source = t->loop_source;
}

bool translate_loop_back(struct translation *t)
{
    int source = t->loop_source >= 0 ? t->loop_source : t->poll_source;

    if (source < 0)
        return false;
    if (t->loop_source >= 0)
        emit_entry_saved(t, false);
    t->flags_now = FLAGS_FROM_SOURCE;
    t->flags_source = (int8_t)source;
    return true;
}

void translate_plan_flags(struct translation *t)
{
    int source = -1;
    unsigned from = 0;

    find_live(t);
    find_loop(t);
    for (unsigned i = 0; i < t->count; i++) {
        if (t->insns[i].plan < PLAN_BRANCH && !writes_some(&t->insns[i].insn))
            continue;
        plan_stretch(t, source, from, i + 1); // its own look-up comes before it writes
        source = (int)i;
        from = i + 1;
    }
    plan_stretch(t, source, from, t->count);
}

static bool has_exit(const struct translation *t, const struct planned_insn *p)
{
    if (!t->exit_count)
        return false;
    const struct far_exit *last = &t->exits[t->exit_count - 1];
    return last->kind == EXIT_INTERPRET && last->rip == p->rip;
}

bool translate_may_spoil_flags(struct translation *t)
{
    const struct planned_insn *p = &t->insns[t->current];

    if (p->flags_way == FLAGS_SAVED && t->flags_now != FLAGS_SAVED) {
        assert(!has_exit(t, p)); // it would not know that RAX is lent
        emit_save(t);
    }
    if (p->flags_way != FLAGS_KEPT) {
        t->flags_now = p->flags_way;
        t->flags_source = p->flags_source;
    }
    return p->flags_way != FLAGS_KEPT;
}

void translate_flags_written(struct translation *t)
{
    const struct planned_insn *p = &t->insns[t->current];

    if (p->plan >= PLAN_BRANCH || writes_some(&p->insn))
        t->flags_now = FLAGS_KEPT;
}
