// SPDX-License-Identifier: Apache-2.0
//
// Tier 0's engine room: fetch, decode, bind, dispatch, and the run loop.
//
// The cache of bound instructions is indexed by a hash of the host address of the instruction's first byte, so that
// processes share what they share. An entry is used only when the 16 bytes there still are those it was made from (one vector
// comparison) and the code mode is the same: therefore it needs no invalidation, whoever writes the code and from wherever,
// and no page flags. Instructions in the last bytes of a page are fetched through the MMU into a buffer first and compared the same way.
//
// The number of retired instructions is kept as what is left of a slice: the run loop counts `left` down to 0, then publishes the count, runs the
// timers of a deterministic machine and looks at limits and the debugger.
#include "machine/engine/interp.h"

#include <assert.h>
#include <emmintrin.h>
#include <stdlib.h>

#include "machine/cpu/cpu_model.h"
#include "machine/device/vm_clock.h"
#include "machine/engine/interp_handlers.h"
#include "machine/engine/interp_vector.h"
#include "machine/engine/mmu.h"
#include "machine/engine/system.h"
#include "machine/engine/trace.h"

#define CACHE_BITS 14 // without tier 1 above

struct interp_cpu {
    // Slice of instructions: see above.
    uint64_t slice; // since the last publication
    uint64_t left;
    uint64_t translated; // of those that are not published: by tier 1
    bool resumed; // run() has executed nothing yet: a breakpoint here has been reported already
    struct interp_vector *vector; // owned
    struct bound_insn uncached;   // for an instruction that cannot be decoded
    unsigned cache_shift;         // 64 less the bits of an index into `cache`
    struct bound_insn cache[];
};

// ---- Binding ----

static struct bound_operand bind_operand(const struct insn *insn, unsigned n)
{
    struct bound_operand bound = {.place = PLACE_OTHER,
                                  .bytes = (uint8_t)insn_operand_bytes(insn, n)};
    switch ((enum operand_kind)insn->form->operands[n].kind) {
    case OPERAND_RM:
        bound.place = insn_has_memory(insn) ? PLACE_MEMORY : PLACE_REGISTER;
        bound.number = insn->rm;
        break;
    case OPERAND_RM_GPR:
    case OPERAND_OPCODE_GPR:
        bound.place = PLACE_REGISTER;
        bound.number = insn->rm;
        break;
    case OPERAND_GPR:
        bound.place = PLACE_REGISTER;
        bound.number = insn->reg;
        break;
    case OPERAND_VVVV_GPR:
        bound.place = PLACE_REGISTER;
        bound.number = insn->vex_vvvv;
        break;
    case OPERAND_ACC:
        bound.place = PLACE_REGISTER;
        bound.number = RAX;
        break;
    case OPERAND_CL:
        bound.place = PLACE_REGISTER;
        bound.number = RCX;
        bound.bytes = 1;
        break;
    case OPERAND_MEM:
    case OPERAND_MOFFS:
        bound.place = PLACE_MEMORY;
        break;
    case OPERAND_IMM:
        bound.place = PLACE_CONSTANT;
        break;
    case OPERAND_NONE:
    case OPERAND_DX:
    case OPERAND_ONE:
    case OPERAND_IMM2:
    case OPERAND_REL:
    case OPERAND_FAR_POINTER:
    case OPERAND_STRING_SRC:
    case OPERAND_STRING_DST:
    case OPERAND_SEG:
    case OPERAND_FIXED_SEG:
    case OPERAND_CR:
    case OPERAND_DR:
    case OPERAND_ST0:
    case OPERAND_STI:
    case OPERAND_MMX_REG:
    case OPERAND_MMX_RM:
    case OPERAND_MMX_RM_REG:
    case OPERAND_VEC_REG:
    case OPERAND_VEC_RM:
    case OPERAND_VEC_RM_REG:
    case OPERAND_VEC_VVVV:
    case OPERAND_VEC_IMM:
    case OPERAND_XMM0:
    case OPERAND_VSIB:
    case OPERAND_KIND_COUNT:
        break;
    }
    if (bound.place == PLACE_REGISTER && insn->form->operands[n].kind != OPERAND_CL &&
        insn->form->operands[n].kind != OPERAND_ACC &&
        insn_is_high_byte(insn, bound.number, bound.bytes)) {
        bound.place = PLACE_HIGH_BYTE;
        bound.number &= 3;
    }
    return bound;
}

static uint8_t bind_checks(const struct insn *insn)
{
    uint32_t attributes = insn->form->attributes;
    uint8_t checks = 0;
    checks |= attributes & INSN_CPL0 ? CHECK_CPL0 : 0;
    checks |= attributes & (INSN_PROTECTED | INSN_VEX) ? CHECK_PROTECTED : 0;
    switch ((enum insn_class)insn->form->class) {
    case CLASS_X87:
        return checks | CHECK_X87;
    case CLASS_MMX:
        return checks | CHECK_MMX;
    case CLASS_SSE:
        return checks | CHECK_SSE;
    case CLASS_AVX:
        return checks | CHECK_AVX;
    case CLASS_INTEGER:
    case CLASS_STACK:
    case CLASS_BRANCH:
    case CLASS_CALL:
    case CLASS_RET:
    case CLASS_STRING:
    case CLASS_IO:
    case CLASS_FAR:
    case CLASS_SEGMENT:
    case CLASS_SYSTEM:
    case CLASS_COUNT:
        break;
    }
    return checks;
}

static interp_handler *find_handler(const struct insn *insn)
{
    interp_handler *handler = interp_handlers[insn->form->op];
    if (handler)
        return handler;
    return insn->form->class >= CLASS_X87 ? interp_vector : interp_undefined;
}

static int raise_too_long(struct vcpu *vcpu, const struct bound_insn *bound)
{
    return raise_gp(vcpu, 0);
}

// Bytes that are no instruction.
static void bind_invalid(struct bound_insn *bound, enum code_mode mode, interp_handler *raise)
{
    *bound = (struct bound_insn){.run = raise, .mode = (uint8_t)mode, .insn.length = 1};
}

static void bind(struct vcpu *vcpu, const uint8_t *bytes, enum code_mode mode, struct insn *insn,
                 struct bound_insn *bound)
{
    const struct cpu_feature_set *features = cpu_model_features(vcpu->system->model);
    bool offered = cpu_feature_set_has(features, (enum cpu_feature)insn->form->feature) ||
                   insn_fall_back(insn);
    *bound = (struct bound_insn){.mode = (uint8_t)mode, .insn = *insn};
    memcpy(bound->bytes, bytes, insn->length);
    bound->byte_mask = (uint16_t)((1u << insn->length) - 1);
    bound->checks = bind_checks(insn);
    for (unsigned i = 0; i < BOUND_OPERANDS && insn->form->operands[i].kind != OPERAND_NONE; i++)
        bound->operand[i] = bind_operand(insn, i);
    bound->run = find_handler(insn);
    if (!offered) {
        bound->run = interp_undefined;
        bound->checks = 0;
    }
}

// ---- Fetching ----

static struct bound_insn *cache_slot(struct interp_cpu *interp, uint64_t key)
{
    return &interp->cache[key * 0x9e3779b97f4a7c15 >> interp->cache_shift];
}

static bool same_bytes(const struct bound_insn *bound, const uint8_t *bytes)
{
    __m128i now = _mm_loadu_si128((const __m128i *)(const void *)bytes);
    __m128i then = _mm_loadu_si128((const __m128i *)(const void *)bound->bytes);
    int equal = _mm_movemask_epi8(_mm_cmpeq_epi8(now, then));
    return (equal & bound->byte_mask) == bound->byte_mask;
}

// Decode into the slot; bytes that are no instruction get an entry that raises. NULL: more bytes are needed.
static struct bound_insn *decode_into(struct vcpu *vcpu, struct bound_insn *slot,
                                      const uint8_t *bytes, unsigned available)
{
    struct engine_cpu *cpu = engine_cpu_of(vcpu);
    enum code_mode mode = (enum code_mode)cpu->code_mode;
    struct insn insn;
    int length = decode(bytes, available, mode, &insn);
    if (length == DECODE_NEED_MORE)
        return NULL;
    if (length > 0) {
        bind(vcpu, bytes, mode, &insn, slot);
        return slot;
    }
    struct bound_insn *uncached = &cpu->interp->uncached;
    bind_invalid(uncached, mode, length == DECODE_TOO_LONG ? raise_too_long : interp_undefined);
    return uncached;
}

// Through the MMU: the first access to a page, and instructions near the end of one. The next page is looked at only when
// the instruction goes on there.
static struct bound_insn *fetch_slow(struct vcpu *vcpu, uint64_t linear)
{
    struct engine_cpu *cpu = engine_cpu_of(vcpu);
    struct bound_insn *slot = cache_slot(cpu->interp, linear), *bound = NULL;
    uint8_t bytes[32] = {0};
    unsigned available = 0;
    while (!bound) {
        int more = mmu_fetch(vcpu, gva(linear + available), bytes + available);
        if (more <= 0)
            return NULL;
        available += (unsigned)more;
        if (slot->mode == cpu->code_mode && slot->insn.length <= available &&
            same_bytes(slot, bytes))
            return slot;
        bound =
            decode_into(vcpu, slot, bytes, available < INSN_MAX_BYTES ? available : INSN_MAX_BYTES);
    }
    return bound;
}

// The bound instruction at RIP, or NULL with an exception recorded.
static inline struct bound_insn *fetch(struct vcpu *vcpu)
{
    struct engine_cpu *cpu = engine_cpu_of(vcpu);
    uint64_t linear = vcpu->state.rip;
    if (cpu->code_mode != CODE_64) {
        if (linear > vcpu->state.segment[SEG_CS].limit) {
            raise_gp(vcpu, 0);
            return NULL;
        }
        linear = (uint32_t)(linear + vcpu->state.segment[SEG_CS].base);
    }
    const struct fetch_tlb *tlb = &cpu->fetch[cpu->fetch_mode];
    uint32_t index = tlb_index(linear);
    if (__builtin_expect(linear + tlb->tag[index] > 4096 - 16, 0))
        return fetch_slow(vcpu, linear);
    uint64_t host = linear + tlb->addend[index];
    struct bound_insn *slot = cache_slot(cpu->interp, host);
    const uint8_t *bytes = (const uint8_t *)(uintptr_t)host;
    if (__builtin_expect(slot->mode == cpu->code_mode && same_bytes(slot, bytes), 1))
        return slot;
    uint8_t copy[16]; // another vCPU may be writing there: decode and remember the same bytes
    memcpy(copy, bytes, sizeof(copy));
    return decode_into(vcpu, slot, copy, INSN_MAX_BYTES);
}

// ---- Executing ----

// CPL, mode and the x87 and vector units' availability, in this order (SDM vol. 3, table 6-8, and vol. 2 for each class).
static int check(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned checks = bound->checks;
    if ((checks & CHECK_PROTECTED) && !cpu_in_protected_mode(&vcpu->state))
        return raise_ud(vcpu);
    if ((checks & CHECK_CPL0) && engine_cpu_of(vcpu)->cpl != 0) {
        unsigned op = bound->insn.form->op;
        bool undefined = op == OP_CLAC || op == OP_STAC || op == OP_MONITOR || op == OP_MWAIT;
        return undefined ? raise_ud(vcpu) : raise_gp(vcpu, 0);
    }
    if (checks & (CHECK_X87 | CHECK_MMX | CHECK_SSE | CHECK_AVX))
        return interp_vector_check(vcpu, bound);
    return 0;
}

static inline int execute(struct vcpu *vcpu, const struct bound_insn *bound)
{
    struct engine_cpu *cpu = engine_cpu_of(vcpu);
    uint64_t next = vcpu->state.rip + bound->insn.length;
    if (__builtin_expect(cpu->code_mode != CODE_64, 0)) {
        if (next - 1 > vcpu->state.segment[SEG_CS].limit)
            return raise_gp(vcpu, 0);
        next = (uint32_t)next;
    }
    cpu->next_rip = next;
    if (__builtin_expect(bound->checks != 0, 0) && check(vcpu, bound))
        return INTERP_FAULT;
    return bound->run(vcpu, bound);
}

static enum interp_step step_result(int result)
{
    return result == INTERP_DONE   ? INTERP_STEP_DONE
           : result == INTERP_HALT ? INTERP_STEP_HALT
                                   : INTERP_STEP_PART;
}

static enum interp_step deliver(struct vcpu *vcpu)
{
    return exception_deliver(vcpu, engine_cpu_of(vcpu)->next_rip) ? INTERP_STEP_SHUTDOWN
                                                                  : INTERP_STEP_DONE;
}

// With TF or RF set, or instruction breakpoints armed.
static enum interp_step step_with_checks(struct vcpu *vcpu)
{
    struct engine_cpu *cpu = engine_cpu_of(vcpu);
    uint64_t flags_before = vcpu->state.rflags;
    if (debug_before_instruction(vcpu))
        return deliver(vcpu);
    vcpu->state.interrupt_shadow = SHADOW_NONE;
    const struct bound_insn *bound = fetch(vcpu);
    int result = bound ? execute(vcpu, bound) : INTERP_FAULT;
    if (result == INTERP_FAULT)
        return deliver(vcpu);
    if (result != INTERP_AGAIN)
        vcpu->state.rip = cpu->next_rip;
    debug_after_instruction(vcpu, flags_before, bound->run == interp_iret);
    return step_result(result);
}

static inline enum interp_step step(struct vcpu *vcpu)
{
    if (__builtin_expect(engine_cpu_of(vcpu)->step_checks, 0))
        return step_with_checks(vcpu);
    vcpu->state.interrupt_shadow = SHADOW_NONE;
    const struct bound_insn *bound = fetch(vcpu);
    int result = bound ? execute(vcpu, bound) : INTERP_FAULT;
    if (__builtin_expect(result == INTERP_DONE, 1)) {
        vcpu->state.rip = engine_cpu_of(vcpu)->next_rip;
        return INTERP_STEP_DONE;
    }
    if (result == INTERP_FAULT)
        return deliver(vcpu);
    if (result == INTERP_HALT)
        vcpu->state.rip = engine_cpu_of(vcpu)->next_rip;
    return step_result(result);
}

enum interp_step interp_step(struct vcpu *vcpu)
{
    return step(vcpu);
}

// ---- The run loop ----

void engine_sync_clock(struct vcpu *vcpu)
{
    struct engine_cpu *cpu = engine_cpu_of(vcpu);
    struct interp_cpu *interp = cpu->interp;
    uint64_t done = interp->slice - interp->left;
    if (!done)
        return;
    interp->slice = interp->left;
    cpu->retired[TIER_INTERPRETED] += done - interp->translated;
    cpu->retired[TIER_TRANSLATED] += interp->translated;
    interp->translated = 0;
    // Only this thread writes it: no need for an atomic addition.
    atomic_store_explicit(&vcpu->instructions,
                          atomic_load_explicit(&vcpu->instructions, memory_order_relaxed) + done,
                          memory_order_relaxed);
    if (vm_clock_is_deterministic(vcpu->system->clock))
        vm_clock_advance(vcpu->system->clock, done);
}

static bool at_breakpoint(const struct vcpu *vcpu)
{
    uint64_t linear = vcpu->state.rip;
    if (engine_cpu_of((struct vcpu *)(uintptr_t)vcpu)->code_mode != CODE_64)
        linear = (uint32_t)(linear + vcpu->state.segment[SEG_CS].base);
    for (unsigned i = 0; i < vcpu->breakpoint_count; i++)
        if (vcpu->breakpoints[i] == linear)
            return true;
    return false;
}

// The slice is used up. Starts the next; true when the caller has to leave run() with *exit.
bool interp_next_slice(struct vcpu *vcpu, enum vcpu_exit *exit)
{
    struct interp_cpu *interp = engine_cpu_of(vcpu)->interp;
    struct vm_clock *clock = vcpu->system->clock;
    engine_sync_clock(vcpu);
    uint64_t count = atomic_load_explicit(&vcpu->instructions, memory_order_relaxed);
    if (count >= vcpu->instruction_limit) {
        *exit = VCPU_EXIT_LIMIT;
        return true;
    }
    bool stepped = vcpu->single_step && !interp->resumed;
    if (stepped || (vcpu->breakpoint_count && !interp->resumed && at_breakpoint(vcpu))) {
        *exit = VCPU_EXIT_BREAKPOINT;
        return true;
    }
    interp->resumed = false;
    if (count % TRACE_HASH_INTERVAL == 0 && engine_traces(vcpu, TRACE_HASH))
        trace_hash(vcpu);
    if (vm_clock_is_deterministic(clock) && count % INTERP_QUANTUM == 0 &&
        vm_clock_next_deadline_ns(clock) <= vm_clock_now_ns(clock))
        vm_clock_run_timers(clock);
    uint64_t slice = INTERP_QUANTUM - count % INTERP_QUANTUM;
    if (slice > vcpu->instruction_limit - count)
        slice = vcpu->instruction_limit - count;
    if (vcpu->single_step || vcpu->breakpoint_count)
        slice = 1;
    if (engine_traces(vcpu, TRACE_STATES))
        slice = trace_states_slice(vcpu, count, slice);
    if (!engine_cpu_of(vcpu)->translate.translator &&
        trace_states_now(vcpu)) { // tier 1 tells its own
        trace_states(vcpu);
        slice = 1;
    }
    interp->slice = interp->left = slice;
    return false;
}

// A deterministic machine's time stands still while its CPU waits, so it is moved to the next timer's deadline. False: nothing will come.
static bool skip_to_next_timer(struct vcpu *vcpu)
{
    struct vm_clock *clock = vcpu->system->clock;
    while (!atomic_load(&vcpu->events)) {
        uint64_t now = vm_clock_now_ns(clock), deadline = vm_clock_next_deadline_ns(clock);
        if (deadline == VM_CLOCK_NEVER)
            return false;
        if (deadline > now)
            vm_clock_advance(clock, deadline - now);
        vm_clock_run_timers(clock);
    }
    return true;
}

// Events and waiting. True when the caller has to leave run() with *exit.
bool interp_attend(struct vcpu *vcpu, enum vcpu_exit *exit)
{
    bool deterministic = vm_clock_is_deterministic(vcpu->system->clock);
    engine_sync_clock(vcpu);
    while (engine_take_events(vcpu, exit))
        if (*exit != VCPU_EXIT_HALT || !deterministic || !skip_to_next_timer(vcpu))
            return true;
    return false;
}

void interp_begin(struct vcpu *vcpu)
{
    struct interp_cpu *interp = engine_cpu_of(vcpu)->interp;
    interp->slice = interp->left = 0;
    interp->resumed = true;
}

uint64_t interp_left(struct vcpu *vcpu)
{
    return engine_cpu_of(vcpu)->interp->left;
}

void interp_retire(struct vcpu *vcpu, uint64_t instructions, enum vcpu_tier tier)
{
    struct interp_cpu *interp = engine_cpu_of(vcpu)->interp;
    assert(instructions <= interp->left);
    interp->left -= instructions;
    if (tier == TIER_TRANSLATED)
        interp->translated += instructions;
}

enum vcpu_exit interp_run(struct vcpu *vcpu)
{
    struct engine_cpu *cpu = engine_cpu_of(vcpu);
    struct interp_cpu *interp = cpu->interp;
    enum vcpu_exit exit;
    interp_begin(vcpu);
    if (vcpu->state.run_state != CPU_RUNNING && interp_attend(vcpu, &exit))
        return exit;
    for (;;) {
        if (__builtin_expect(interp->left == 0, 0) && interp_next_slice(vcpu, &exit))
            return exit;
        if (__builtin_expect(
                atomic_load_explicit(&vcpu->events, memory_order_relaxed) | cpu->debug_hits, 0) &&
            interp_attend(vcpu, &exit))
            break;
        enum interp_step result = step(vcpu);
        if (__builtin_expect(result == INTERP_STEP_PART, 0))
            continue;
        interp->left--;
        if (__builtin_expect(result == INTERP_STEP_DONE, 1))
            continue;
        exit = VCPU_EXIT_SHUTDOWN;
        if (result == INTERP_STEP_SHUTDOWN || interp_attend(vcpu, &exit))
            break;
    }
    engine_sync_clock(vcpu);
    return exit;
}

// ---- The backend ----

struct interp_vector *interp_vector_of(struct vcpu *vcpu)
{
    return engine_cpu_of(vcpu)->interp->vector;
}

int interp_cpu_init(struct vcpu *vcpu, unsigned cache_bits, struct err *err)
{
    struct engine_cpu *cpu = engine_cpu_of(vcpu);
    size_t cache_bytes = sizeof(struct bound_insn) << cache_bits;
    cpu->interp = calloc(1, sizeof(*cpu->interp) + cache_bytes);
    if (!cpu->interp)
        return err_set(err, ERR_LIMIT, "no memory for the interpreter of CPU %u", vcpu->index);
    cpu->interp->cache_shift = 64 - cache_bits;
    engine_cpu_init(vcpu);
    cpu->interp->vector = interp_vector_create(err);
    return cpu->interp->vector ? 0 : -1;
}

void interp_cpu_fini(struct vcpu *vcpu)
{
    struct interp_cpu *interp = engine_cpu_of(vcpu)->interp;
    if (interp)
        interp_vector_destroy(interp->vector);
    free(interp);
    engine_cpu_of(vcpu)->interp = NULL;
}

static int vcpu_init(struct vcpu *vcpu, struct err *err)
{
    return interp_cpu_init(vcpu, CACHE_BITS, err);
}

const struct vcpu_backend_ops interpreter_backend = {
    .name = "interpreter",
    .sandbox = OS_SANDBOX_VCPU,
    .context_bytes = sizeof(struct engine_cpu),
    .vcpu_init = vcpu_init,
    .vcpu_fini = interp_cpu_fini,
    .run = interp_run,
    .state_changed = engine_state_changed,
    .exit_reasons = ENGINE_EXIT_COUNT,
    .exit_name = engine_exit_name,
    .exits = engine_exits,
    .instructions = engine_instructions,
};
