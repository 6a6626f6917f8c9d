// SPDX-License-Identifier: Apache-2.0
//
// MOVS, STOS and LODS.
//
// One element is a load and a store. A repetition of MOVS or STOS is the host's own on host addresses, where all of it lies within one page at either end;
// no events are looked for within: a page is short. Longer ones are tier 0's, page by page, and so are those with DF set (which is a bit of state.rflags).
// String instructions leave the status flags alone, so the checks do, too, where they are live.
#include "base/bits.h"
#include "machine/engine/translate.h"

#define STRING_REGISTERS                                                                           \
    ((uint16_t)(REGISTER_BIT(RAX) | REGISTER_BIT(RCX) | REGISTER_BIT(RSI) | REGISTER_BIT(RDI)))

static struct host_memory mask(enum translate_mask which)
{
    return host_context(CONTEXT_ENGINE(translate.masks) + 8u * which);
}

// Leave unless RCX, which was evicted, holds 0.
static void emit_miss_unless_zero(struct translation *t, struct far_exit *miss)
{
    uint8_t *zero = emit_jrcxz(&t->near);

    miss->evicted = t->evicted;
    translate_exit_jump(miss, emit_jmp(&t->near));
    emit_target8(&t->near, zero);
}

static void emit_direction_check(struct translation *t, const struct planned_insn *p)
{
    struct emitter *e = &t->near;
    struct host_memory flags = host_context(CONTEXT_STATE(rflags));
    bool may_spoil = translate_may_spoil_flags(t);
    struct far_exit *miss = translate_miss(t);

    if (!may_spoil) {
        translate_evict(t, RCX);
        emit_load(e, RCX, flags);
        emit_pext_memory(e, RCX, RCX, mask(MASK_DF));
        emit_miss_unless_zero(t, miss);
        return;
    }
    emit_op_memory(e, false, 0xF7, 0, flags); // test
    emit_u32(e, FLAG_DF);
    miss->evicted = t->evicted;
    translate_exit_jump(miss, emit_jcc(e, HOST_NE));
}

static bool look_up(struct translation *t, const struct planned_insn *p, unsigned pointer,
                    bool write, unsigned bytes, uint16_t busy, struct host_memory *host)
{
    const struct look_up l = {
        .address = {.base = (int8_t)pointer, .index = HOST_NONE, .segment = SEG_NONE},
        .size = bytes,
        .write = write,
        .flags_live = !translate_may_spoil_flags(t),
        .allowed = (uint16_t)~busy,
    };
    return translate_look_up(t, &l, translate_miss(t), host);
}

// mov between a register and memory of 1, 2, 4 or 8 bytes; `reg` is none of RSP, RBP, RSI and RDI.
static void emit_element(struct emitter *e, bool store, unsigned bytes, unsigned reg,
                         struct host_memory host)
{
    if (bytes == 2)
        emit_u8(e, 0x66);
    emit_op_memory(e, bytes == 8, (store ? 0x88 : 0x8A) | (bytes > 1), reg, host);
}

static void emit_advance(struct translation *t, unsigned pointer, unsigned bytes)
{
    translate_need(t, REGISTER_BIT(pointer));
    emit_lea(&t->near, true, pointer, host_base(pointer, (int32_t)bytes));
}

// Registers of a host operand, which the next look-up must leave alone.
static uint16_t registers_of(struct host_memory host)
{
    return (uint16_t)((host.base == HOST_NONE ? 0 : REGISTER_BIT(host.base)) |
                      (host.index == HOST_NONE ? 0 : REGISTER_BIT(host.index)));
}

static bool one(struct translation *t, const struct planned_insn *p, unsigned bytes)
{
    struct host_memory from, to;
    enum insn_op op = p->insn.form->op;
    uint16_t busy = STRING_REGISTERS | REGISTER_BIT(RBP);
    unsigned value = RAX;

    if (op != OP_STOS) {
        if (!look_up(t, p, RSI, false, bytes, busy, &from))
            return false;
        busy |= registers_of(from);
    }
    if (op != OP_LODS) {
        if (!look_up(t, p, RDI, true, bytes, busy, &to))
            return false;
        busy |= registers_of(to);
    }
    if (op == OP_MOVS)
        value = translate_scratch(t, (uint16_t)~busy);
    else
        translate_need(t, REGISTER_BIT(RAX));
    if (op != OP_STOS) {
        translate_need(t, REGISTER_BIT(RSI));
        emit_element(&t->near, false, bytes, value, from);
        emit_advance(t, RSI, bytes);
    }
    if (op != OP_LODS) {
        translate_need(t, REGISTER_BIT(RDI));
        emit_element(&t->near, true, bytes, value, to);
        emit_advance(t, RDI, bytes);
    }
    return true;
}

// Leave unless RCX elements from each pointer on lie in its page. A count that is no page's is looked at first: the product may wrap.
static void emit_range_check(struct translation *t, unsigned shift, bool source)
{
    struct emitter *e = &t->near;
    uint16_t busy = STRING_REGISTERS;
    struct far_exit *miss = translate_miss(t);
    unsigned sum = translate_scratch(t, (uint16_t)~busy);
    unsigned end = translate_scratch(t, (uint16_t) ~(busy | REGISTER_BIT(sum)));

    translate_need(t, STRING_REGISTERS);
    emit_pext_memory(e, sum, RCX, mask(MASK_LONG));
    for (unsigned i = 0; i < (source ? 2u : 1u); i++) {
        emit_pext_memory(e, end, i ? RSI : RDI, mask(MASK_OFFSET));
        emit_lea(e, true, end, (struct host_memory){(int8_t)end, RCX, (uint8_t)shift, false, -1});
        emit_pext_memory(e, end, end, host_context(CONTEXT_ENGINE(translate.page_mask)));
        emit_lea(e, true, sum, (struct host_memory){(int8_t)sum, (int8_t)end, 0, false, 0});
    }
    translate_evict(t, RCX);
    emit_move(e, RCX, sum);
    emit_miss_unless_zero(t, miss);
}

static bool repeat(struct translation *t, const struct planned_insn *p, unsigned bytes)
{
    struct emitter *e = &t->near;
    bool source = p->insn.form->op == OP_MOVS;
    unsigned shift = (unsigned)__builtin_ctz(bytes);
    uint16_t busy = STRING_REGISTERS;
    struct host_memory from, to;

    emit_range_check(t, shift, source);
    if (!look_up(t, p, RDI, true, 1, busy, &to))
        return false;
    busy |= registers_of(to);
    if (source && !look_up(t, p, RSI, false, 1, busy, &from))
        return false;
    if (source)
        busy |= registers_of(from);
    unsigned to_end = translate_scratch(t, (uint16_t)~busy);
    unsigned from_end = translate_scratch(t, (uint16_t) ~(busy | REGISTER_BIT(to_end)));

    translate_need(t, STRING_REGISTERS);
    emit_lea(e, true, to_end, (struct host_memory){RDI, RCX, (uint8_t)shift, false, 0});
    emit_lea(e, true, RDI, to);
    if (source) {
        emit_lea(e, true, from_end, (struct host_memory){RSI, RCX, (uint8_t)shift, false, 0});
        emit_lea(e, true, RSI, from);
    }
    emit_bytes(e, p->bytes, p->insn.length);
    emit_move(e, RDI, to_end);
    if (source)
        emit_move(e, RSI, from_end);
    return true;
}

bool translate_string_insn(struct translation *t, const struct planned_insn *p)
{
    unsigned bytes = insn_operand_bytes(&p->insn, 0);
    bool repeated = (p->insn.prefixes & (PREFIX_REP | PREFIX_REPNE)) != 0;

    if (repeated && p->insn.form->op == OP_LODS)
        return false;
    translate_need(t, STRING_REGISTERS);
    emit_direction_check(t, p);
    return repeated ? repeat(t, p, bytes) : one(t, p, bytes);
}
