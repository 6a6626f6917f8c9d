// SPDX-License-Identifier: Apache-2.0
//
// A block from first to last: gather instructions up to a branch, the end of the page or the limit; plan each, and what becomes of the status
// flags; emit near code instruction by instruction, and the far code last.
//
// A block lies in one page, so an instruction that crosses into the next is tier 0's. It stays so on purpose: a block is found by the linear and the
// physical address of one page, and dropped with that. The bytes behind the boundary belong to a page whose mapping may change alone; a block
// that has them would have to compare that mapping each time it is entered, be in the lists of two pages, and have both watched. That is one
// instruction of a page at most, and the code around it is translated.
#include "machine/engine/translate.h"

#include <assert.h>

#include "base/bits.h"
#include "machine/cpu/cpu_model.h"
#include "machine/engine/interp_vector.h"

// ---- Planning ----

static enum plan by_tier_0(const struct insn *insn)
{
    return insn->form->attributes & INSN_END ? PLAN_STOP : PLAN_INTERPRET;
}

static enum plan plan_memory(const struct insn *insn)
{
    uint32_t attributes = insn->form->attributes;
    bool by_register = insn->form->operands[1].kind == OPERAND_GPR;

    if ((attributes & (INSN_NO_ACCESS | INSN_IMPLICIT_MEMORY | INSN_MASKED)) ||
        ((attributes & INSN_BIT_OFFSET) && by_register) || insn->address_size != 8)
        return PLAN_INTERPRET;
    unsigned bytes = insn_memory_access(insn).bytes;
    return bytes == 0 || bytes > 64 ? PLAN_INTERPRET : PLAN_MEMORY;
}

static enum plan plan_lea(const struct insn *insn)
{
    if (insn->base != INSN_REG_RIP)
        return PLAN_COPY;
    return insn->address_size == 8 && insn->operand_size >= 4 ? PLAN_ADDRESS : PLAN_INTERPRET;
}

static enum plan plan_integer(const struct insn *insn)
{
    switch ((unsigned)insn->form->op) {
    case OP_NOP:
    case OP_PREFETCH:
    case OP_ENDBR32:
    case OP_ENDBR64:
        return PLAN_NOTHING;
    case OP_LEA:
        return plan_lea(insn);
    case OP_RDRAND: // deterministic machines have a sequence of their own
    case OP_RDSEED:
    case OP_CLD: // DF is not in the host's flags
    case OP_STD:
    case OP_PAUSE: // now and then one is tier 0's
        return PLAN_SYSTEM;
    case OP_CLZERO:
    case OP_CLFLUSH:
    case OP_CLFLUSHOPT:
    case OP_CLWB:
        return PLAN_INTERPRET;
    default:
        if (insn->form->attributes & INSN_IMPLICIT_MEMORY)
            return PLAN_INTERPRET;
        return insn_has_memory(insn) ? plan_memory(insn) : PLAN_COPY;
    }
}

// These show or take the address of the last x87 instruction, which must be the guest's.
static bool is_environment(enum insn_op op)
{
    return op == OP_FNSTENV || op == OP_FLDENV || op == OP_FNSAVE || op == OP_FRSTOR;
}

static enum plan plan_vector(struct translation *t, const struct insn *insn, uint32_t mode,
                             uint32_t needed)
{
    for (unsigned i = 0; i < ARRAY_LENGTH(insn->form->operands); i++) {
        if (insn->form->operands[i].kind == OPERAND_VSIB)
            return by_tier_0(insn);
    }
    if (!(mode & needed) || is_environment(insn->form->op) ||
        (insn->form->attributes & INSN_IMPLICIT_MEMORY))
        return by_tier_0(insn);
    enum plan plan = insn_has_memory(insn) ? plan_memory(insn) : PLAN_COPY;
    if (plan != PLAN_INTERPRET)
        t->uses_vectors = true;
    return plan;
}

static enum plan plan_string(const struct insn *insn)
{
    bool known =
        insn->form->op == OP_MOVS || insn->form->op == OP_STOS || insn->form->op == OP_LODS;
    bool flat = insn->segment_override != SEG_FS && insn->segment_override != SEG_GS;

    return known && flat && insn->address_size == 8 ? PLAN_STRING : PLAN_INTERPRET;
}

static enum plan plan_system(const struct insn *insn)
{
    switch ((unsigned)insn->form->op) {
    case OP_CLI:
    case OP_STI:
    case OP_CLAC:
    case OP_STAC:
    case OP_PUSHF:
    case OP_SWAPGS:
    case OP_RDTSC:
    case OP_RDTSCP:
        return PLAN_SYSTEM;
    default:
        return by_tier_0(insn);
    }
}

static enum plan plan_insn(struct translation *t, const struct insn *insn, uint32_t mode)
{
    const struct cpu_feature_set *features = cpu_model_features(t->vcpu->system->model);

    if (!cpu_feature_set_has(features, insn->form->feature))
        return by_tier_0(insn); // #UD, or an older meaning
    switch ((enum insn_class)insn->form->class) {
    case CLASS_INTEGER:
        return plan_integer(insn);
    case CLASS_STACK:
        return PLAN_STACK;
    case CLASS_BRANCH:
    case CLASS_CALL:
    case CLASS_RET:
        return PLAN_BRANCH;
    case CLASS_X87:
    case CLASS_MMX:
        return plan_vector(t, insn, mode, TRANSLATE_MODE_X87);
    case CLASS_SSE:
        return plan_vector(t, insn, mode, TRANSLATE_MODE_SSE);
    case CLASS_AVX:
        return plan_vector(t, insn, mode, TRANSLATE_MODE_AVX);
    case CLASS_SYSTEM:
        return plan_system(insn);
    case CLASS_STRING:
        return plan_string(insn);
    case CLASS_SEGMENT:
        return insn->form->op == OP_MOV_FROM_SEG && !insn_has_memory(insn) &&
                       insn->operand_size >= 4
                   ? PLAN_SYSTEM
                   : by_tier_0(insn);
    case CLASS_IO:
    case CLASS_FAR:
    case CLASS_COUNT:
        break;
    }
    return by_tier_0(insn);
}

// Decode from t->page_rip's page on. False: not even one instruction lies within the page (it crosses, or is invalid: tier 0 knows).
static bool gather(struct translation *t, uint64_t rip, uint32_t mode)
{
    while (t->count < BLOCK_INSNS_MAX) {
        struct planned_insn *p = &t->insns[t->count];
        uint64_t offset = rip - t->page_rip;
        if (offset >= 4096)
            break;
        // Another vCPU, or a device, may write to the page while we read: what is executed is what is decoded here.
        unsigned available =
            offset + INSN_MAX_BYTES > 4096 ? (unsigned)(4096 - offset) : INSN_MAX_BYTES;
        memcpy(p->bytes, t->page + offset, available);
        int length = decode(p->bytes, available, CODE_64, &p->insn);
        if (length < 0)
            break;
        p->rip = rip;
        p->next_rip = rip += (unsigned)length;
        p->plan = (uint8_t)plan_insn(t, &p->insn, mode);
        p->reads = insn_registers_read(&p->insn);
        p->writes = insn_registers_written(&p->insn);
        t->count++;
        if (p->plan == PLAN_BRANCH || p->plan == PLAN_STOP) {
            t->end_rip = rip;
            return true;
        }
    }
    t->open_end = true;
    t->end_rip = rip;
    return t->count != 0;
}

// ---- Far code ----

struct far_exit *translate_exit(struct translation *t, enum exit_kind kind, uint64_t rip)
{
    assert(t->exit_count < FAR_EXITS_MAX);
    struct far_exit *exit = &t->exits[t->exit_count++];
    *exit = (struct far_exit){.kind = (uint8_t)kind, .rip = rip, .evicted = t->evicted};
    if (kind == EXIT_INTERPRET)
        exit->undone = (uint8_t)(t->count - t->current);
    exit->flags_way = t->flags_now;
    exit->flags_source = t->flags_source;
    if (kind == EXIT_LINK || kind == EXIT_EVENT || kind == EXIT_JUMP)
        exit->undone = (uint8_t)(t->count - t->current - 1);
    return exit;
}

void translate_exit_jump(struct far_exit *exit, uint8_t *displacement)
{
    assert(exit->jump_count < ARRAY_LENGTH(exit->jumps));
    exit->jumps[exit->jump_count++] = displacement;
}

struct far_exit *translate_miss(struct translation *t)
{
    const struct planned_insn *p = &t->insns[t->current];
    struct far_exit *exit = translate_exit(t, EXIT_INTERPRET, p->rip);

    exit->next_rip = p->next_rip;
    return exit;
}

static uint8_t saved_of(enum flags_way way)
{
    return way == FLAGS_SAVED ? SAVED_ALWAYS : way == FLAGS_AT_ENTRY ? SAVED_AT_ENTRY : SAVED_NOT;
}

static void emit_far_exit(struct translation *t, const struct far_exit *exit)
{
    struct code_cache *cache = &t->translator->cache;
    struct emitter *e = &t->far;
    struct exit_record record = {
        exit->rip,  exit->next_rip, t->block,     exit->resume,
        exit->kind, exit->link,     exit->undone, saved_of(exit->flags_way)};

    if (!exit->jump_count && !exit->site)
        return;
    while (code_cache_offset(cache, e->at) & 7)
        emit_u8(e, 0xCC);
    uint32_t at = code_cache_offset(cache, e->at);
    emit_bytes(e, &record, sizeof(record));
    if (exit->kind == EXIT_JUMP) { // R10 names it to the jump trampoline
        if (!t->near.overflow && !e->overflow)
            memcpy(exit->jumps[0], &at, 4);
        return;
    }
    if (!t->near.overflow && !e->overflow) {
        for (unsigned i = 0; i < exit->jump_count; i++)
            emit_target(e, exit->jumps[i], e->at);
        if (exit->kind == EXIT_LINK)
            t->block->links[exit->link].exit = code_cache_offset(cache, e->at);
    }
    if (exit->site)
        t->sites[exit->site - 1].exit = code_cache_offset(cache, e->at);
    for (uint16_t left = exit->evicted; left; left &= (uint16_t)(left - 1)) {
        unsigned reg = (unsigned)__builtin_ctz(left);
        emit_load(e, reg, host_context(CONTEXT_GPR(reg)));
    }
    if (exit->flags_way == FLAGS_FROM_SOURCE || exit->flags_way == FLAGS_AT_ENTRY)
        translate_emit_source(e, &t->insns[exit->flags_source]);
    emit_exit_reason(e, at);
    emit_target(e, emit_jmp(e), cache->write + t->translator->trampolines.leave);
}

// ---- Near code ----

bool translate_may_fault(const struct insn *insn)
{
    enum insn_op op = insn->form->op;

    return insn->form->class >= CLASS_X87 || op == OP_DIV || op == OP_IDIV || op == OP_CMPXCHG16B;
}

void translate_fault_site(struct translation *t)
{
    const struct planned_insn *p = &t->insns[t->current];

    if (!translate_may_fault(&p->insn))
        return;
    t->sites[t->site_count++] = (struct fault_site){
        .host_offset =
            (uint16_t)(code_cache_offset(&t->translator->cache, t->near.at) - t->block->code),
        .guest_offset = (uint16_t)(p->rip - t->insns[0].rip),
        .evicted = t->evicted,
        .x87_opcode = interp_x87_opcode(p->insn.opcode, p->insn.modrm),
        .undone = (uint8_t)(t->count - t->current),
        .saved = t->flags_now == FLAGS_SAVED,
    };
    if (t->flags_now == FLAGS_FROM_SOURCE ||
        t->flags_now == FLAGS_AT_ENTRY) { // by an exit of its own, which sees to them
        struct far_exit *exit = translate_miss(t);
        exit->evicted = t->evicted;
        exit->site = (uint8_t)t->site_count;
    }
}

static void emit_interpret(struct translation *t)
{
    translate_exit_jump(translate_miss(t), emit_jmp(&t->near));
}

static bool emit_planned(struct translation *t, const struct planned_insn *p)
{
    switch ((enum plan)p->plan) {
    case PLAN_COPY:
        translate_need(t, p->reads);
        translate_fault_site(t);
        emit_bytes(&t->near, p->bytes, p->insn.length);
        translate_wrote(t, p->writes);
        translate_note_x87(t, p);
        return true;
    case PLAN_NOTHING:
        return true;
    case PLAN_MEMORY:
        return translate_memory_insn(t, p);
    case PLAN_ADDRESS: {
        uint64_t address = p->next_rip + (uint64_t)p->insn.displacement;
        emit_constant(&t->near, p->insn.reg,
                      p->insn.operand_size == 4 ? (uint32_t)address : address);
        translate_wrote(t, p->writes);
        return true;
    }
    case PLAN_STACK:
        return translate_stack_insn(t, p);
    case PLAN_STRING:
        return translate_string_insn(t, p);
    case PLAN_SYSTEM:
        return translate_system_insn(t, p);
    case PLAN_BRANCH:
        return translate_branch_insn(t, p);
    case PLAN_INTERPRET:
    case PLAN_STOP:
        break;
    }
    return false;
}

static void emit_insn(struct translation *t, unsigned i)
{
    const struct planned_insn *p = &t->insns[i];
    unsigned first_exit = t->exit_count;

    t->current = i;
    if (!emit_planned(t, p)) {
        emit_interpret(t);
        translate_forget(t, 0xFFFF);
    }
    if (p->plan == PLAN_BRANCH || p->plan == PLAN_STOP)
        return;
    translate_flags_written(t);
    if (translate_knows_pages(t))
        return; // tier 0 would come back without them
    for (unsigned k = first_exit; k < t->exit_count; k++) {
        if (t->exits[k].kind == EXIT_INTERPRET)
            t->exits[k].resume = code_cache_offset(&t->translator->cache, t->near.at);
    }
}

// The vector registers hold the guest's values only when they have been needed since they were last put away.
static void emit_vector_check(struct translation *t)
{
    struct emitter *e = &t->near;
    struct host_memory live = host_context(CONTEXT_ENGINE(translate.vectors_live));
    struct far_exit *exit = translate_exit(t, EXIT_VECTORS, t->insns[0].rip);

    translate_evict(t, RCX);
    exit->evicted = t->evicted;
    emit_load32(e, RCX, live);
    uint8_t *absent = emit_jrcxz(e);
    translate_need(t, REGISTER_BIT(RCX));
    uint8_t *present = emit_jmp(e);
    emit_target8(e, absent);
    translate_exit_jump(exit, emit_jmp(e));
    emit_target(e, present, e->at);
    exit->resume = code_cache_offset(&t->translator->cache, e->at);
    t->block->entry_vectors = (uint16_t)(exit->resume - t->block->code);
}

// --stats: the block's instructions are counted when it is entered. Those it does not come to, by a fault, are counted, too.
static void emit_count(struct translation *t)
{
    struct emitter *e = &t->near;
    struct host_memory count = host_context(CONTEXT_ENGINE(retired) + 8u * TIER_TRANSLATED);

    translate_evict(t, RCX);
    emit_load(e, RCX, count);
    emit_lea(e, true, RCX, host_base(RCX, (int32_t)t->count));
    emit_store(e, count, RCX);
}

// A deterministic machine: the block's instructions are taken from the budget on entry, and given back where it is left early. It is not
// entered when there are too few.
static void emit_budget(struct translation *t)
{
    struct emitter *e = &t->near;
    struct host_memory budget = host_context(CONTEXT_ENGINE(translate.budget));
    struct far_exit *exit = translate_exit(t, EXIT_BUDGET, t->insns[0].rip);

    exit->undone = (uint8_t)t->count;
    translate_evict(t, RCX);
    exit->evicted = t->evicted;
    emit_load(e, RCX, budget);
    emit_lea(e, true, RCX, host_base(RCX, -(int32_t)t->count));
    emit_store(e, budget, RCX);
    emit_pext_memory(e, RCX, RCX, host_context(CONTEXT_ENGINE(translate.masks) + 8u * MASK_SIGN));
    uint8_t *enough = emit_jrcxz(e);
    translate_exit_jump(exit, emit_jmp(e));
    emit_target8(e, enough);
}

// The entry for jumps through the jump table: with where they go in R11, and the guest's RCX and R11 in state.gpr. Is it this block? If not, the flags
// are another's, so that they are kept even where this block has no use for them.
static void emit_jump_entry(struct translation *t)
{
    struct emitter *e = &t->near;

    emit_u64(e, -t->insns[0].rip);
    const uint8_t *entry = e->at;
    emit_load_rip_relative(e, RCX, entry - 8);
    emit_lea(e, true, RCX, (struct host_memory){RCX, R11, 0, false, 0});
    uint8_t *here = emit_jrcxz(e);
    emit_target(e, emit_jmp(e), t->translator->cache.write + t->translator->trampolines.jump_miss);
    emit_target8(e, here);
    emit_load(e, RCX, host_context(CONTEXT_GPR(RCX)));
    emit_load(e, R11, host_context(CONTEXT_GPR(R11)));
    t->block->jump_bytes = (uint8_t)(e->at - entry);
    t->block->code = code_cache_offset(&t->translator->cache, e->at);
}

static void emit_block(struct translation *t)
{
    emit_jump_entry(t);
    t->block->vectors = t->uses_vectors;
    if (t->uses_vectors)
        emit_vector_check(t);
    if (t->loop_source >= 0)
        translate_loop_entry(t);
    if (t->translator->counts)
        emit_count(t);
    if (t->translator->exact)
        emit_budget(t);
    for (unsigned i = 0; i < t->count; i++)
        emit_insn(t, i);
    if (t->open_end)
        translate_goto(t, t->end_rip, 0, t->insns[t->count - 1].rip);
    translate_emit_renewals(t);
    for (unsigned i = 0; i < t->exit_count; i++)
        emit_far_exit(t, &t->exits[i]);
}

// Nothing of the page can be decoded at the first instruction: it crosses into the next page, or is invalid.
static void plan_single_step(struct translation *t, uint64_t rip)
{
    struct planned_insn *p = &t->insns[0];

    *p = (struct planned_insn){.plan = PLAN_STOP, .rip = rip, .next_rip = rip, .flags_live = true};
    t->count = 1;
    t->open_end = false;
    t->end_rip = rip + 1;
}

struct block *translate_block(struct vcpu *vcpu, uint64_t rip, uint64_t physical,
                              const uint8_t *host_page, uint32_t mode)
{
    struct translator *translator = translator_of(vcpu);
    static struct translation workspace; // under the translator's lock; too large for a stack
    struct translation *t = &workspace;

    t->vcpu = vcpu;
    t->translator = translator;
    t->tlb_mode = (enum tlb_mode)(mode & TRANSLATE_MODE_TLB);
    t->fetch_mode = mode & TRANSLATE_MODE_USER ? FETCH_USER : FETCH_SUPERVISOR;
    t->smap = (mode & TRANSLATE_MODE_SMAP) != 0;
    t->native_tsc = (mode & TRANSLATE_MODE_TSC) != 0;
    t->page = host_page;
    t->page_rip = align_down(rip, 4096);
    t->count = t->exit_count = t->site_count = 0;
    t->renewal_count = 0;
    translate_forget(t, 0xFFFF);
    t->evicted = 0;
    t->uses_vectors = t->open_end = false;
    t->flags_now = FLAGS_KEPT;
    t->loop_source = t->poll_source = -1;
    t->block = code_cache_begin(&translator->cache, &t->near, &t->far);
    if (!t->block)
        return NULL;
    t->block->rip = rip;
    t->block->frame = (uint32_t)(physical >> 12);
    t->block->mode = (uint16_t)mode;
    if (gather(t, rip, mode))
        translate_plan_flags(t);
    else
        plan_single_step(t, rip);
    t->block->guest_bytes = (uint16_t)(t->end_rip - rip);
    t->block->instructions = (uint8_t)t->count;
    emit_block(t);
    if (!code_cache_commit(&translator->cache, t->block, &t->near, &t->far, t->sites,
                           t->site_count))
        return NULL;
    if (translator->trace)
        translator->trace(translator->trace_context, &translator->cache, t->block,
                          host_page + (rip & 4095));
    return t->block;
}
