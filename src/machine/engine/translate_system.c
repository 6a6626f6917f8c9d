// SPDX-License-Identifier: Apache-2.0
//
// The system instructions that kernels execute all the time: reading and setting flags, time, SWAPGS, and PAUSE. All others are tier 0's.
//
// In these modes CPL 0 is certain where the code is the supervisor's (translate_mode() refuses CPL 1 and 2). Bits of RFLAGS other than the
// status flags live in state.rflags. AND with a constant is PEXT and PDEP with the same mask where the status flags are live.
#include "base/bits.h"
#include "machine/engine/translate.h"

static struct host_memory mask(enum translate_mask which)
{
    return host_context(CONTEXT_ENGINE(translate.masks) + 8u * which);
}

static void emit_and_mask(struct translation *t, unsigned reg, enum translate_mask which)
{
    emit_pext_memory(&t->near, reg, reg, mask(which));
    emit_pdep_memory(&t->near, reg, reg, mask(which));
}

static bool supervisor(const struct translation *t)
{
    return t->fetch_mode == FETCH_SUPERVISOR;
}

// Set or clear one bit of state.rflags.
static void emit_change_flag(struct translation *t, const struct planned_insn *p, uint32_t bit,
                             enum translate_mask others, bool set)
{
    struct emitter *e = &t->near;
    struct host_memory flags = host_context(CONTEXT_STATE(rflags));

    if (translate_may_spoil_flags(t)) {
        emit_op_memory(e, false, 0x81, set ? 1 : 4, flags); // or, and
        emit_u32(e, set ? bit : ~bit);
        return;
    }
    unsigned reg = translate_scratch(t, 0xFFFF);
    emit_load(e, reg, flags);
    emit_and_mask(t, reg, others);
    if (set)
        emit_lea(e, true, reg, host_base(reg, (int32_t)bit));
    emit_store(e, flags, reg);
}

// Interrupts stay inhibited for the next instruction: it must be in this block, since events are looked for at its end. If one is held
// back by IF, tier 0 sees to it.
static bool sti(struct translation *t, const struct planned_insn *p)
{
    struct emitter *e = &t->near;
    struct host_memory held = host_context(CONTEXT_ENGINE(interrupt_held));

    if (!supervisor(t) || t->current + 1 >= t->count)
        return false;
    bool may_spoil = translate_may_spoil_flags(t);
    struct far_exit *exit = translate_miss(t);
    if (!may_spoil) {
        translate_evict(t, RCX);
        emit_op_memory(e, false, 0x0FB6, RCX, held); // movzx
        uint8_t *none = emit_jrcxz(e);
        exit->evicted = t->evicted;
        translate_exit_jump(exit, emit_jmp(e));
        emit_target8(e, none);
    } else {
        emit_op_memory(e, false, 0x80, 7, held); // cmp byte, 0
        emit_u8(e, 0);
        translate_exit_jump(exit, emit_jcc(e, HOST_NE));
    }
    emit_change_flag(t, p, FLAG_IF, MASK_NOT_IF, true);
    return true;
}

static bool cli(struct translation *t, const struct planned_insn *p)
{
    if (!supervisor(t))
        return false;
    emit_change_flag(t, p, FLAG_IF, MASK_NOT_IF, false);
    return true;
}

// With SMAP, another TLB from here on.
static bool set_ac(struct translation *t, const struct planned_insn *p, bool set)
{
    if (!supervisor(t))
        return false;
    emit_change_flag(t, p, FLAG_AC, MASK_NOT_AC, set);
    if (t->smap) {
        translate_forget(t, 0xFFFF);
        t->tlb_mode = set ? TLB_SUPERVISOR_AC : TLB_SUPERVISOR;
        emit_op_memory(&t->near, false, 0xC6, 0, host_context(CONTEXT_ENGINE(tlb_mode)));
        emit_u8(&t->near, t->tlb_mode);
    }
    return true;
}

// The status flags are in the host's flags, which only the host's stack can tell in one piece.
static bool pushf(struct translation *t, const struct planned_insn *p)
{
    struct emitter *e = &t->near;
    struct host_memory saved = host_context(CONTEXT_ENGINE(translate.scratch));

    if (p->insn.operand_size != 8)
        return false;
    unsigned value = translate_scratch(t, (uint16_t)~REGISTER_BIT(RCX));
    unsigned rest = translate_scratch(t, (uint16_t) ~(REGISTER_BIT(RCX) | REGISTER_BIT(value)));
    emit_store(e, saved, RSP);
    emit_load(e, RSP, host_context(CONTEXT_ENGINE(translate.host_rsp)));
    emit_u8(e, 0x9C); // pushfq
    if (value & 8)
        emit_u8(e, 0x41);
    emit_u8(e, 0x58 | (value & 7)); // pop
    emit_load(e, RSP, saved);
    emit_and_mask(t, value, MASK_STATUS);
    emit_load(e, rest, host_context(CONTEXT_STATE(rflags)));
    emit_and_mask(t, rest, MASK_PUSHED);
    emit_lea(e, true, value, (struct host_memory){(int8_t)value, (int8_t)rest, 0, false, 0});
    return translate_push_scratch(t, p, value);
}

static bool swapgs(struct translation *t)
{
    struct host_memory base = host_context(CONTEXT_STATE(segment[SEG_GS].base));
    struct host_memory other = host_context(CONTEXT_STATE(kernel_gs_base));

    if (!supervisor(t))
        return false;
    unsigned a = translate_scratch(t, 0xFFFF);
    unsigned b = translate_scratch(t, (uint16_t)~REGISTER_BIT(a));
    emit_load(&t->near, a, base);
    emit_load(&t->near, b, other);
    emit_store(&t->near, base, b);
    emit_store(&t->near, other, a);
    return true;
}

// The guest's TSC is the host's in this mode (TRANSLATE_MODE_TSC).
static bool rdtsc(struct translation *t, const struct planned_insn *p)
{
    if (!t->native_tsc)
        return false;
    translate_wrote(t, p->writes);
    emit_bytes(&t->near, p->bytes, p->insn.length);
    if (p->insn.form->op == OP_RDTSCP)
        emit_load32(&t->near, RCX, host_context(CONTEXT_STATE(tsc_aux)));
    return true;
}

static bool move_from_segment(struct translation *t, const struct planned_insn *p)
{
    uint64_t at = CONTEXT_STATE(segment[0].selector) + p->insn.reg * sizeof(struct segment);

    emit_op_memory(&t->near, false, 0x0FB7, p->insn.rm, host_context(at)); // movzx
    translate_wrote(t, REGISTER_BIT(p->insn.rm));
    return true;
}

// When the pauses that may be executed here are used up, tier 0 executes one, and gives the CPU up.
static bool spin_pause(struct translation *t, const struct planned_insn *p)
{
    struct emitter *e = &t->near;
    struct host_memory left = host_context(CONTEXT_ENGINE(spin.pauses_left));
    bool may_spoil = translate_may_spoil_flags(t); // before the exit, which knows where they are
    struct far_exit *exit = translate_miss(t);

    if (may_spoil) {
        emit_cmp_memory_imm(e, false, left, 0);
        translate_exit_jump(exit, emit_jcc(e, HOST_E));
        emit_op_memory(e, false, 0x83, 5, left); // sub
        emit_u8(e, 1);
    } else {
        translate_evict(t, RCX);
        exit->evicted = t->evicted;
        emit_load32(e, RCX, left);
        uint8_t *none = emit_jrcxz(e), *some = emit_jmp(e);
        emit_target8(e, none);
        translate_exit_jump(exit, emit_jmp(e));
        emit_target(e, some, e->at);
        emit_lea(e, false, RCX, host_base(RCX, -1));
        emit_op_memory(e, false, 0x89, RCX, left); // mov
    }
    emit_bytes(e, p->bytes, p->insn.length);
    return true;
}

bool translate_system_insn(struct translation *t, const struct planned_insn *p)
{
    switch ((unsigned)p->insn.form->op) {
    case OP_CLI:
        return cli(t, p);
    case OP_STI:
        return sti(t, p);
    case OP_CLD:
        emit_change_flag(t, p, FLAG_DF, MASK_NOT_DF, false);
        return true;
    case OP_STD:
        emit_change_flag(t, p, FLAG_DF, MASK_NOT_DF, true);
        return true;
    case OP_CLAC:
        return set_ac(t, p, false);
    case OP_STAC:
        return set_ac(t, p, true);
    case OP_PUSHF:
        return pushf(t, p);
    case OP_PAUSE:
        return spin_pause(t, p);
    case OP_SWAPGS:
        return swapgs(t);
    case OP_MOV_FROM_SEG:
        return move_from_segment(t, p);
    case OP_RDTSC:
    case OP_RDTSCP:
        return rdtsc(t, p);
    default:
        return false;
    }
}
