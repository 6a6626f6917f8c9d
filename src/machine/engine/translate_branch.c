// SPDX-License-Identifier: Apache-2.0
//
// Control flow and the stack.
//
// A direct jump within a page is linked: its displacement leads to an exit first, and to the target's code once that exists. A backward one
// looks for events, so that no loop escapes them; indirect jumps always do so. A jump to another page goes through the jump table, whose slot is
// known then: whether the target is still mapped there is a matter of the address space, and the table knows.
//
// At a block's end all guest registers are in their host registers, or for a jump through the table all but RCX and R11.
#include "base/bits.h"
#include "machine/engine/translate.h"

#define JUMP_REGISTERS (REGISTER_BIT(RCX) | REGISTER_BIT(R11))

static const struct guest_address stack_top = {
    .base = RSP, .index = HOST_NONE, .segment = SEG_NONE};

static void emit_miss_on_event(struct translation *t)
{
    emit_load32(&t->near, RCX, host_context(CONTEXT_EVENTS));
    uint8_t *quiet = emit_jrcxz(&t->near);
    emit_target(&t->near, emit_jmp(&t->near),
                t->translator->cache.write + t->translator->trampolines.jump_miss);
    emit_target8(&t->near, quiet);
}

static uint64_t jump_table(const struct translation *t)
{
    return CONTEXT_ENGINE(translate.jumps) +
           t->tlb_mode * sizeof(((struct translate_cpu *)0)->jumps[0]);
}

// To the address in R11. The current instruction has added `rsp_change` to RSP: to be undone if the address proves not canonical. A CALL has
// saved what it overwrote, too (emit_call_slot()).
static void emit_table_jump(struct translation *t, int32_t rsp_change)
{
    struct far_exit *record = translate_exit(t, EXIT_JUMP, t->insns[t->current].rip);
    struct emitter *e = &t->near;

    record->next_rip = (uint64_t) - (int64_t)rsp_change;
    translate_need(t, (uint16_t)~JUMP_REGISTERS);
    translate_evict(t, RCX);
    emit_store_imm32(e, false, host_context(CONTEXT_ENGINE(translate.jump_record)), 0);
    translate_exit_jump(record, e->at - 4);
    emit_miss_on_event(t);
    emit_rorx(e, RCX, R11, JUMP_BITS);
    emit_lea(e, false, RCX, (struct host_memory){RCX, R11, 0, false, 0});
    emit_movzx16(e, RCX, RCX);
    emit_jmp_memory(e, host_context_array(jump_table(t), RCX));
}

// To an address that is certainly canonical: nothing is ever undone.
static void emit_known_jump(struct translation *t, uint64_t target, bool poll)
{
    translate_need(t, (uint16_t)~JUMP_REGISTERS);
    translate_evict(t, RCX);
    translate_evict(t, R11);
    emit_constant(&t->near, R11, target);
    if (poll)
        emit_miss_on_event(t);
    emit_jmp_memory(&t->near, host_context(jump_table(t) + 8u * jump_index(target)));
}

// The displacement of the next jump of `opcode_bytes` will be aligned.
static void align_displacement(struct translation *t, unsigned opcode_bytes)
{
    emit_nops(&t->near, -(code_cache_offset(&t->translator->cache, t->near.at) + opcode_bytes) & 3);
}

static void add_link(struct translation *t, uint8_t *displacement, uint64_t target, unsigned link)
{
    struct far_exit *exit = translate_exit(t, EXIT_LINK, target);

    exit->link = (uint8_t)link;
    translate_exit_jump(exit, displacement);
    if (!t->near.overflow)
        t->block->links[link].patch = code_cache_offset(&t->translator->cache, displacement);
}

// Leave for `target` if an event is pending. Registers are home.
static void emit_poll(struct translation *t, uint64_t target, bool may_spoil)
{
    struct emitter *e = &t->near;
    struct far_exit *exit = translate_exit(t, EXIT_EVENT, target);

    if (may_spoil) {
        emit_cmp_memory_imm(e, false, host_context(CONTEXT_EVENTS), 0);
        translate_exit_jump(exit, emit_jcc(e, HOST_NE));
        return;
    }
    translate_evict(t, RCX);
    exit->evicted = t->evicted;
    emit_load32(e, RCX, host_context(CONTEXT_EVENTS));
    uint8_t *quiet = emit_jrcxz(e);
    translate_exit_jump(exit, emit_jmp(e));
    emit_target8(e, quiet);
    translate_need(t, REGISTER_BIT(RCX));
}

static bool same_page(const struct translation *t, uint64_t target)
{
    return align_down(target, 4096) == t->page_rip;
}

// With 4-level paging as with 5-level.
static bool is_canonical_anywhere(uint64_t address)
{
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

void translate_goto(struct translation *t, uint64_t target, unsigned link, uint64_t from)
{
    if (!same_page(t, target) && is_canonical_anywhere(target)) {
        emit_known_jump(t, target, target <= from);
        return;
    }
    if (!same_page(t, target)) {
        translate_evict(t, R11);
        emit_constant(&t->near, R11, target);
        emit_table_jump(t, 0);
        return;
    }
    translate_need(t, 0xFFFF);
    bool may_spoil = target == t->insns[0].rip && translate_loop_back(t);
    if (target <= from)
        emit_poll(t, target, may_spoil);
    align_displacement(t, 1);
    add_link(t, emit_jmp(&t->near), target, link);
    t->flags_now = FLAGS_KEPT;
}

// ---- Stack ----

// RSP - 8 is where the next value goes; registers in `forbidden` are to keep their value.
static bool push_slot(struct translation *t, const struct planned_insn *p, uint16_t forbidden,
                      struct host_memory *host)
{
    struct look_up l = {.address = stack_top,
                        .size = 8,
                        .write = true,
                        .flags_live = !translate_may_spoil_flags(t),
                        .forbidden = forbidden,
                        .allowed = 0xFFFF};

    l.address.displacement = -8;
    return translate_look_up(t, &l, translate_miss(t), host);
}

static void emit_adjust_rsp(struct translation *t, int32_t by)
{
    emit_lea(&t->near, true, RSP, host_base(RSP, by));
}

static uint16_t registers_of(struct host_memory host)
{
    unsigned base = host.base == HOST_NONE ? 0 : REGISTER_BIT(host.base);
    unsigned index = host.index == HOST_NONE ? 0 : REGISTER_BIT(host.index);

    return (uint16_t)(base | index);
}

// A 64-bit constant to memory: at most one scratch register besides those of the look-up.
static void emit_store_constant(struct translation *t, struct host_memory host, uint64_t value,
                                uint16_t forbidden)
{
    if (fits_i32(value)) {
        emit_store_imm32(&t->near, true, host, (uint32_t)value);
        return;
    }
    unsigned scratch = translate_scratch(t, (uint16_t) ~(forbidden | registers_of(host)));
    emit_constant(&t->near, scratch, value);
    emit_store(&t->near, host, scratch);
}

// Load the 8 bytes of a memory operand into a scratch register (or `reg` if that is one), which the caller forbids afterwards.
static bool load_operand(struct translation *t, const struct planned_insn *p, int want,
                         unsigned *reg)
{
    struct host_memory host;
    struct look_up l = {.size = 8, .flags_live = !translate_may_spoil_flags(t), .allowed = 0xFFFF};

    if (!translate_address(p, &l.address))
        return false;
    if (want != HOST_NONE)
        l.overwritten = REGISTER_BIT(want) & (uint16_t)~p->reads;
    if (!translate_look_up(t, &l, translate_miss(t), &host))
        return false;
    if (want == HOST_NONE)
        *reg = (unsigned)host.base != RSP && host.base != HOST_NONE &&
                       (t->evicted & REGISTER_BIT(host.base))
                   ? (unsigned)host.base
                   : (unsigned)host.index;
    else
        *reg = (unsigned)want;
    if (want != HOST_NONE)
        translate_evict(t, (unsigned)want);
    translate_forget(t, REGISTER_BIT(*reg));
    emit_load(&t->near, *reg, host);
    return true;
}

// The look-up must not want the guest's value of the register, which holds something else now.
bool translate_push_scratch(struct translation *t, const struct planned_insn *p, unsigned value)
{
    struct look_up l = {.address = stack_top,
                        .size = 8,
                        .write = true,
                        .flags_live = !translate_may_spoil_flags(t),
                        .allowed = (uint16_t)~REGISTER_BIT(value)};
    struct host_memory host;

    l.address.displacement = -8;
    if (l.flags_live && value == RCX)
        return false;
    if (!translate_look_up(t, &l, translate_miss(t), &host))
        return false;
    emit_store(&t->near, host, value);
    emit_adjust_rsp(t, -8);
    return true;
}

static bool push(struct translation *t, const struct planned_insn *p)
{
    const struct insn *insn = &p->insn;
    struct host_memory host;
    unsigned reg;

    if (insn->form->operands[0].kind == OPERAND_IMM) {
        if (!push_slot(t, p, 0, &host))
            return false;
        emit_store_imm32(&t->near, true, host, (uint32_t)insn->immediate);
    } else if (insn_has_memory(insn)) {
        return load_operand(t, p, HOST_NONE, &reg) && translate_push_scratch(t, p, reg);
    } else {
        if (!push_slot(t, p, REGISTER_BIT(insn->rm), &host))
            return false;
        emit_store(&t->near, host, insn->rm);
    }
    emit_adjust_rsp(t, -8);
    return true;
}

static bool pop(struct translation *t, const struct planned_insn *p)
{
    struct look_up l = {.address = stack_top,
                        .size = 8,
                        .flags_live = !translate_may_spoil_flags(t),
                        .allowed = 0xFFFF};
    struct host_memory host;
    unsigned reg = p->insn.rm;

    if (insn_has_memory(&p->insn))
        return false;
    l.overwritten = REGISTER_BIT(reg) & (uint16_t)~REGISTER_BIT(RSP);
    if (!translate_look_up(t, &l, translate_miss(t), &host))
        return false;
    emit_load(&t->near, reg, host);
    if (reg != RSP)
        emit_adjust_rsp(t, 8);
    translate_wrote(t, REGISTER_BIT(reg));
    return true;
}

static bool leave(struct translation *t, const struct planned_insn *p)
{
    struct look_up l = {.address = {.base = RBP, .index = HOST_NONE, .segment = SEG_NONE},
                        .size = 8,
                        .flags_live = !translate_may_spoil_flags(t),
                        .allowed = 0xFFFF,
                        .forbidden = REGISTER_BIT(RBP)};
    struct host_memory host;

    if (!translate_look_up(t, &l, translate_miss(t), &host))
        return false;
    emit_lea(&t->near, true, RSP, host_base(RBP, 8));
    emit_load(&t->near, RBP, host);
    return true;
}

bool translate_stack_insn(struct translation *t, const struct planned_insn *p)
{
    enum insn_op op = p->insn.form->op;

    if (p->insn.operand_size != 8)
        return false;
    return op == OP_PUSH    ? push(t, p)
           : op == OP_POP   ? pop(t, p)
           : op == OP_LEAVE ? leave(t, p)
                            : false;
}

// ---- Branches ----

static uint64_t branch_target(const struct planned_insn *p)
{
    return p->next_rip + p->insn.immediate;
}

static bool conditional(struct translation *t, const struct planned_insn *p)
{
    struct emitter *e = &t->near;
    uint64_t target = branch_target(p);

    translate_need(t, 0xFFFF);
    if (same_page(t, target) && target > p->rip) {
        align_displacement(t, 2);
        add_link(t, emit_jcc(e, p->insn.opcode & 15), target, 1);
    } else {
        uint8_t *over = emit_jcc(e, (p->insn.opcode & 15) ^ 1);
        translate_goto(t, target, 1, p->rip);
        emit_target(e, over, e->at);
        t->evicted = 0;
    }
    translate_goto(t, p->next_rip, 0, p->rip);
    return true;
}

// JRCXZ and LOOP.
static bool by_count(struct translation *t, const struct planned_insn *p)
{
    struct emitter *e = &t->near;
    bool loop = p->insn.form->op == OP_LOOP;

    if (p->insn.address_size != 8)
        return false;
    translate_need(t, 0xFFFF);
    if (loop)
        emit_lea(e, true, RCX, host_base(RCX, -1));
    uint8_t *zero = emit_jrcxz(e);
    uint8_t *other = emit_jmp(e);
    emit_target8(e, zero);
    translate_goto(t, loop ? p->next_rip : branch_target(p), 1, p->rip);
    emit_target(e, other, e->at);
    t->evicted = 0;
    translate_goto(t, loop ? branch_target(p) : p->next_rip, 0, p->rip);
    return true;
}

static bool call(struct translation *t, const struct planned_insn *p)
{
    struct host_memory host;

    if (!is_canonical_anywhere(branch_target(p)) || !push_slot(t, p, 0, &host))
        return false; // nothing is pushed where there is no such target
    emit_store_constant(t, host, p->next_rip, 0);
    emit_adjust_rsp(t, -8);
    translate_goto(t, branch_target(p), 0, p->rip);
    return true;
}

// R11 = where an indirect jump or call goes. R11's guest value is in state.gpr afterwards.
static bool load_target(struct translation *t, const struct planned_insn *p)
{
    unsigned reg;

    if (insn_has_memory(&p->insn))
        return load_operand(t, p, R11, &reg);
    translate_need(t, REGISTER_BIT(p->insn.rm));
    translate_evict(t, R11);
    if (p->insn.rm != R11)
        emit_move(&t->near, R11, p->insn.rm);
    return true;
}

// The return address goes there; what it overwrites is kept, since the target may prove not canonical.
static void emit_call_slot(struct translation *t, struct host_memory host, uint64_t return_rip)
{
    uint16_t used = REGISTER_BIT(R11) | registers_of(host);
    unsigned scratch = translate_scratch(t, (uint16_t)~used);

    emit_load(&t->near, scratch, host);
    emit_store(&t->near, host_context(CONTEXT_ENGINE(translate.overwritten)), scratch);
    emit_store_constant(t, host, return_rip, REGISTER_BIT(R11));
}

static bool indirect(struct translation *t, const struct planned_insn *p)
{
    struct host_memory host;

    if (!load_target(t, p))
        return false;
    if (p->insn.form->op == OP_CALL_INDIRECT) {
        struct look_up l = {.address = stack_top,
                            .size = 8,
                            .write = true,
                            .flags_live = !translate_may_spoil_flags(t),
                            .allowed = (uint16_t)~REGISTER_BIT(R11)};
        l.address.displacement = -8;
        if (!translate_look_up(t, &l, translate_miss(t), &host))
            return false;
        emit_call_slot(t, host, p->next_rip);
        emit_adjust_rsp(t, -8);
    }
    emit_table_jump(t, p->insn.form->op == OP_CALL_INDIRECT ? -8 : 0);
    return true;
}

static bool ret(struct translation *t, const struct planned_insn *p)
{
    struct look_up l = {.address = stack_top,
                        .size = 8,
                        .flags_live = !translate_may_spoil_flags(t),
                        .allowed = 0xFFFF,
                        .overwritten = REGISTER_BIT(R11)};
    struct host_memory host;

    if (!translate_look_up(t, &l, translate_miss(t), &host))
        return false;
    translate_evict(t, R11);
    emit_load(&t->near, R11, host);
    int32_t popped =
        8 + (int32_t)(p->insn.form->operands[0].kind == OPERAND_IMM ? p->insn.immediate : 0);
    emit_adjust_rsp(t, popped);
    emit_table_jump(t, popped);
    return true;
}

bool translate_branch_insn(struct translation *t, const struct planned_insn *p)
{
    if (p->insn.operand_size != 8)
        return false;
    switch ((unsigned)p->insn.form->op) {
    case OP_JMP:
        translate_goto(t, branch_target(p), 0, p->rip);
        return true;
    case OP_JCC:
        return conditional(t, p);
    case OP_JCXZ:
    case OP_LOOP:
        return by_count(t, p);
    case OP_CALL:
        return call(t, p);
    case OP_JMP_INDIRECT:
    case OP_CALL_INDIRECT:
        return indirect(t, p);
    case OP_RET:
        return ret(t, p);
    default:
        return false;
    }
}
