// SPDX-License-Identifier: Apache-2.0
//
// The engine as a backend: the run loop around generated code.
//
// The loop finds the block for state.rip and enters it; generated code goes from block to block by itself and comes back for what it cannot do
// (enum exit_kind). Everything here runs on the vCPU's thread.
//
// The jump table caches "linear address → code" of the current address space. It is only as good as the fetch TLB: whenever mmu.c drops mappings from
// that, the entries that may depend on them go, all of a table at once. Each enum tlb_mode has a table, so that a new CR3
// does not cost the kernel its entries as long as they are of global pages.
#define LOG_MODULE "engine"
#include "base/log.h"

#include <assert.h>
#include <stdlib.h>

#include "base/bits.h"
#include "machine/device/vm_clock.h"
#include "machine/engine/exception.h"
#include "machine/engine/fault.h"
#include "machine/engine/interp.h"
#include "machine/engine/mmu_access.h"
#include "machine/engine/system.h"
#include "machine/engine/trace.h"
#include "machine/engine/translate_smp.h"
#include "machine/engine/vectors.h"
#include "machine/memory/guest_memory.h"
#include "os/native_code.h"

#define DEFAULT_CACHE_BYTES (128u << 20)

// Beneath tier 1, tier 0 sees few instructions often.
#define INTERPRETER_CACHE_BITS 12

_Static_assert(JUMP_TABLES == TLB_MODE_COUNT, "a jump table for each TLB mode");

struct translator *translator_of(struct vcpu *vcpu)
{
    return engine_cpu_of(vcpu)->translate.translator;
}

uint32_t translate_mode(struct vcpu *vcpu)
{
    const struct engine_cpu *engine = engine_cpu_of(vcpu);
    const struct cpu_state *state = &vcpu->state;
    bool available = !(state->cr0 & (CR0_EM | CR0_TS));

    if (engine->code_mode != 64 || !engine->flat64 || engine->cpl == 1 || engine->cpl == 2)
        return 0;
    uint32_t mode = TRANSLATE_MODE_64 | engine->tlb_mode |
                    (engine->fetch_mode == FETCH_USER ? TRANSLATE_MODE_USER : 0u);
    if (available && (state->cr0 & CR0_NE))
        mode |= TRANSLATE_MODE_X87;
    if (available && (state->cr4 & CR4_OSFXSR))
        mode |= TRANSLATE_MODE_SSE;
    if (!(state->cr0 & CR0_TS) && (state->cr4 & CR4_OSXSAVE) && (state->xcr0 & 6) == 6)
        mode |= TRANSLATE_MODE_AVX;
    if (state->cr4 & CR4_SMAP)
        mode |= TRANSLATE_MODE_SMAP;
    if (translator_of(vcpu)->real_time && !state->tsc_offset &&
        (engine->cpl == 0 || !(state->cr4 & CR4_TSD)))
        mode |= TRANSLATE_MODE_TSC;
    return mode;
}

// ---- The jump table ----

static uint64_t jump_miss(const struct translate_cpu *translate)
{
    return (uint64_t)(uintptr_t)(translate->translator->cache.execute +
                                 translate->translator->trampolines.jump_miss);
}

static void empty_jumps(struct translate_cpu *translate, enum tlb_mode mode)
{
    struct jump_book *book = &translate->jump_books[mode];

    if (!book->count)
        return; // nor is there a translator in a machine of tier 0 alone
    uint64_t *jumps = translate->jumps[mode], miss = jump_miss(translate);
    if (book->count < JUMP_BOOK_ENTRIES) {
        for (uint32_t i = 0; i < book->count; i++)
            jumps[book->filled[i]] = miss;
    } else {
        for (uint32_t i = 0; i < JUMP_ENTRIES; i++)
            jumps[i] = miss;
    }
    book->count = 0;
}

static void new_generation(struct translate_cpu *translate, enum tlb_mode mode)
{
    empty_jumps(translate, mode);
    memset(translate->executed[mode], 0, sizeof(translate->executed[mode]));
    translate->mapping_changes++;
}

static void forget_jumps(struct translate_cpu *translate)
{
    for (enum tlb_mode mode = 0; mode < TLB_MODE_COUNT; mode++)
        new_generation(translate, mode);
    translate->supervisor_local = false;
}

void translate_page_unmapped(struct vcpu *vcpu, uint64_t linear, bool maybe_large)
{
    struct translate_cpu *translate = &engine_cpu_of(vcpu)->translate;
    uint32_t bit = (uint32_t)(linear >> 12) % EXECUTED_BITS;

    for (enum tlb_mode mode = 0; mode < TLB_MODE_COUNT; mode++) {
        if (maybe_large || (translate->executed[mode][bit / 64] >> (bit % 64) & 1))
            new_generation(translate, mode);
    }
}

void translate_local_unmapped(struct vcpu *vcpu)
{
    struct translate_cpu *translate = &engine_cpu_of(vcpu)->translate;

    new_generation(translate, TLB_USER);
    if (translate->supervisor_local)
        forget_jumps(translate);
}

void translate_all_unmapped(struct vcpu *vcpu)
{
    forget_jumps(&engine_cpu_of(vcpu)->translate);
}

// The table knows addresses and nothing of the mode that code was translated for. Code of another mode is entered by find_block() first, so it is enough
// that the tables are emptied then.
static void follow_mode(struct translate_cpu *translate, uint32_t block_mode)
{
    bool user = block_mode & TRANSLATE_MODE_USER;
    uint16_t mode = (uint16_t)(block_mode & ~(uint32_t)TRANSLATE_MODE_TLB);

    if (translate->jump_mode[user] == mode)
        return;
    translate->jump_mode[user] = mode;
    if (user) {
        new_generation(translate, TLB_USER);
    } else {
        new_generation(translate, TLB_SUPERVISOR);
        new_generation(translate, TLB_SUPERVISOR_AC);
    }
}

static void remember_jump(struct vcpu *vcpu, const struct block *block)
{
    struct engine_cpu *engine = engine_cpu_of(vcpu);
    struct translate_cpu *translate = &engine->translate;
    enum tlb_mode mode = (enum tlb_mode)engine->tlb_mode;
    uint32_t page_bit = (uint32_t)(block->rip >> 12) % EXECUTED_BITS;

    follow_mode(translate, block->mode);
    if (mode != TLB_USER &&
        !(engine->fetch[engine->fetch_mode].book.kind[tlb_index(block->rip)] & TLB_GLOBAL))
        translate->supervisor_local = true;
    translate->executed[mode][page_bit / 64] |= BIT(page_bit % 64);
    uint64_t *slot = &translate->jumps[mode][jump_index(block->rip)];
    struct jump_book *book = &translate->jump_books[mode];
    if (*slot == jump_miss(translate) && book->count < JUMP_BOOK_ENTRIES)
        book->filled[book->count++] = (uint16_t)jump_index(block->rip);
    *slot = (uint64_t)(uintptr_t)(translate->translator->cache.execute + block->code -
                                  block->jump_bytes);
}

// ---- Translations and the pages they were made from ----

static void page_done(void *context, uint64_t page)
{
    struct translator *translator = context;
    struct cpu_system *system = translator->system;
    void *host;
    uint8_t *flags;

    for (unsigned i = 0; i < system->vcpu_count; i++) {
        if (system->vcpus[i] && engine_cpu_of(system->vcpus[i])->translate.watching == page + 1)
            engine_cpu_of(system->vcpus[i])->translate.watching = 0;
    }

    if (guest_memory_page(translator->system->memory, gpa(page), &host, &flags) == PAGE_RAM)
        __atomic_fetch_and(flags, (uint8_t)~PAGE_CODE, __ATOMIC_RELEASE);
}

static void on_dropped(void *context)
{
    smp_code_dropped(context);
}

// Bytes of a page with translations were, or are about to be, written. Any thread, with any lock of a device.
static void on_code_written(void *context, struct gpa at, uint32_t length)
{
    struct translator *translator = context;

    translator_lock(translator);
    code_cache_drop(&translator->cache, at.at, length);
    translator_unlock(translator);
}

static bool others_watch(struct vcpu *vcpu, uint64_t page)
{
    struct cpu_system *system = vcpu->system;

    for (unsigned i = 0; i < system->vcpu_count; i++) {
        struct vcpu *other = system->vcpus[i];
        if (other && other != vcpu && engine_cpu_of(other)->translate.watching == page + 1)
            return true;
    }
    return false;
}

// From now on, stores to the page are noticed: no vCPU has it in the write half of its TLB, nor gets it there. With the lock, which may be given up in between.
// False: the page lost its mark meanwhile, by a write. A page whose mark another vCPU is about to make good is marked, but not yet safe.
static bool watch_page(struct vcpu *vcpu, uint64_t physical)
{
    struct translate_cpu *translate = &engine_cpu_of(vcpu)->translate;
    uint64_t page = align_down(physical, PAGE_BYTES);
    void *host;
    uint8_t *flags;

    if (guest_memory_page(vcpu->system->memory, gpa(page), &host, &flags) != PAGE_RAM)
        return true;
    if ((__atomic_fetch_or(flags, PAGE_CODE, __ATOMIC_SEQ_CST) & PAGE_CODE) &&
        !others_watch(vcpu, page))
        return true;
    translate->watching = page + 1;
    mmu_flush_write_page(vcpu, host);
    smp_flush_writes(translator_of(vcpu), vcpu);
    bool kept = translate->watching == page + 1;
    translate->watching = 0;
    return kept;
}

// NULL: not now.
static struct block *make_block(struct vcpu *vcpu, uint64_t physical, const uint8_t *host_page,
                                uint32_t mode)
{
    struct translator *translator = translator_of(vcpu);
    struct code_cache *cache = &translator->cache;
    uint64_t rip = vcpu->state.rip;

    translator_lock(translator);
    struct block *block = code_cache_find(cache, rip, physical, mode);
    if (!block && code_cache_make_room(cache) && watch_page(vcpu, physical)) {
        block = code_cache_find(cache, rip, physical, mode); // made by another meanwhile
        if (!block)
            block = translate_block(vcpu, rip, physical, host_page, mode);
    }
    translator_unlock(translator);
    return block;
}

// mmu_fetch_page() where the fetch TLB knows the page.
static bool fetch_hit(struct vcpu *vcpu, uint64_t rip, uint64_t *page, const uint8_t **host)
{
    const struct engine_cpu *engine = engine_cpu_of(vcpu);
    const struct fetch_tlb *fetch = &engine->fetch[engine->fetch_mode];
    uint64_t start = align_down(rip, PAGE_BYTES);
    uint32_t index = tlb_index(rip);

    if (start + fetch->tag[index] != 0)
        return false;
    *page = fetch->physical[index];
    *host = (const uint8_t *)(uintptr_t)(start + fetch->addend[index]);
    return true;
}

// Much of what a system executes, it executes once or twice: a translation would cost more time than it saves, and room for as long as the cache is not
// flushed. So tier 0 has the first runs. What is counted is where a run begins; the instructions behind it belong to it.
static bool is_cold(struct vcpu *vcpu, uint64_t physical)
{
    struct translate_cpu *translate = &engine_cpu_of(vcpu)->translate;
    uint64_t rip = vcpu->state.rip;
    bool goes_on = rip - translate->cold_rip - 1 < INSN_MAX_BYTES;
    uint8_t *runs =
        &translate->translator->runs[physical * 0x9E3779B97F4A7C15ull >> (64 - COLD_BITS)];

    uint8_t count = __atomic_load_n(runs, __ATOMIC_RELAXED);

    if (!goes_on && count >= vcpu->system->cold_runs)
        return false;
    if (!goes_on)
        __atomic_store_n(runs, count + 1, __ATOMIC_RELAXED);
    translate->cold_rip = rip;
    return true;
}

// The block at state.rip; NULL when tier 0 is to execute the instruction there: it finds out what is wrong, or the code is cold.
static struct block *find_block(struct vcpu *vcpu, uint32_t mode)
{
    struct translator *translator = translator_of(vcpu);
    uint64_t rip = vcpu->state.rip, page;
    const uint8_t *host;

    if (!fetch_hit(vcpu, rip, &page, &host)) {
        vectors_put_away(vcpu);
        if (mmu_fetch_page(vcpu, gva(rip), &page, &host) != 0) {
            engine_cpu_of(vcpu)->exception.vector = EXC_NONE;
            return NULL;
        }
    }
    if (!host)
        return NULL;
    uint64_t physical = page | (rip & (PAGE_BYTES - 1));
    struct block *block = code_cache_find(&translator->cache, rip, physical, mode);
    if (!block) {
        if (is_cold(vcpu, physical))
            return NULL;
        vectors_put_away(vcpu);
        block = make_block(vcpu, physical, host, mode);
    }
    if (block)
        remember_jump(vcpu, block);
    return block;
}

// ---- Leaving and coming back ----

static const struct exit_record *exit_record(const struct vcpu *vcpu)
{
    const struct translate_cpu *translate = &engine_cpu_of((void *)(uintptr_t)vcpu)->translate;
    return (const void *)(translate->translator->cache.execute + translate->exit);
}

static bool exact(struct vcpu *vcpu)
{
    return translator_of(vcpu)->exact;
}

// Instructions that the block which was left has taken from the budget and not executed.
static unsigned undone(const struct vcpu *vcpu)
{
    const struct exit_record *record = exit_record(vcpu);

    switch ((enum exit_kind)record->kind) {
    case EXIT_FAULT:
        return engine_cpu_of((void *)(uintptr_t)vcpu)->translate.fault_undone;
    case EXIT_JUMP: // to an address that is not canonical: the branch faults
        return record->undone + !address_is_canonical(vcpu, vcpu->state.rip);
    case EXIT_INTERPRET:
    case EXIT_LINK:
    case EXIT_EVENT:
    case EXIT_BUDGET:
    case EXIT_VECTORS:
    case EXIT_KIND_COUNT:
        break;
    }
    return record->undone;
}

// The guest's status flags as the code left them.
static uint64_t status_flags(const struct vcpu *vcpu)
{
    const struct translate_cpu *translate = &engine_cpu_of((void *)(uintptr_t)vcpu)->translate;
    const struct exit_record *record = exit_record(vcpu);
    bool saved = record->kind == EXIT_FAULT
                     ? translate->fault_saved
                     : record->saved == SAVED_ALWAYS ||
                           (record->saved == SAVED_AT_ENTRY && translate->entry_saved);
    unsigned lahf = translate->saved_flags >> 8, overflow = translate->saved_flags & 1;

    return saved ? (lahf & FLAGS_STATUS) | overflow * FLAG_OF : translate->flags & FLAGS_STATUS;
}

// Where the run loop goes on: in the cache, or by state.rip.
struct onward {
    const void *code; // NULL: by state.rip
    unsigned ahead;   // instructions of the block that `code` lies in the middle of, 0 at its start
    unsigned whole;   // instructions of the block that `code` is the start of
    bool alone;       // this block and no other (--trace states)
};

static void enter(struct vcpu *vcpu, const struct onward *onward)
{
    struct translate_cpu *translate = &engine_cpu_of(vcpu)->translate;
    uint64_t may = onward->alone ? onward->ahead + onward->whole
                   : exact(vcpu) ? interp_left(vcpu)
                                 : 0;

    translate->budget = may - onward->ahead;
    translate->flags = (vcpu->state.rflags & FLAGS_STATUS) | FLAG_FIXED1 | FLAG_IF;
    translate->translator->trampolines.enter(onward->code);
    vcpu->state.rflags = (vcpu->state.rflags & ~(uint64_t)FLAGS_STATUS) | status_flags(vcpu);
    if (exact(vcpu))
        interp_retire(vcpu, may - translate->budget - undone(vcpu), TIER_TRANSLATED);
}

enum step { STEP_ON, STEP_LEAVE };

// One instruction by tier 0, as a run loop does it (engine.h).
static enum step step(struct vcpu *vcpu, enum vcpu_exit *exit)
{
    vectors_put_away(vcpu);
    enum interp_step result = interp_step(vcpu);
    if (!exact(vcpu))
        engine_cpu_of(vcpu)->retired[TIER_INTERPRETED]++;
    else if (result != INTERP_STEP_PART)
        interp_retire(vcpu, 1, TIER_INTERPRETED);
    switch (result) {
    case INTERP_STEP_DONE:
    case INTERP_STEP_PART:
        return STEP_ON;
    case INTERP_STEP_HALT:
        *exit = VCPU_EXIT_HALT;
        return exact(vcpu) && !interp_attend(vcpu, exit) ? STEP_ON : STEP_LEAVE;
    case INTERP_STEP_SHUTDOWN:
        *exit = VCPU_EXIT_SHUTDOWN;
        return STEP_LEAVE;
    }
    return STEP_LEAVE;
}

// Does anything need the run loop's attention before the next instruction?
static bool attention(struct vcpu *vcpu)
{
    const struct engine_cpu *engine = engine_cpu_of(vcpu);

    return atomic_load_explicit(&vcpu->events, memory_order_relaxed) || engine->debug_hits ||
           engine->step_checks || engine->translate.code_dropped || vcpu->state.interrupt_shadow ||
           (exact(vcpu) && !interp_left(vcpu));
}

static enum step interpret(struct vcpu *vcpu, const struct exit_record *record,
                           struct onward *onward, enum vcpu_exit *exit)
{
    struct engine_cpu *engine = engine_cpu_of(vcpu);
    uint32_t mode = translate_mode(vcpu);
    uint64_t mappings = engine->translate.mapping_changes;
    bool live = engine->translate.vectors_live;

    vcpu->state.rip = record->rip;
    engine->retired[TIER_TRANSLATED] -= translator_of(vcpu)->counts; // counted at the block's entry
    if (step(vcpu, exit) == STEP_LEAVE)
        return STEP_LEAVE;
    if (record->resume && vcpu->state.rip == record->next_rip && !attention(vcpu) &&
        translate_mode(vcpu) == mode && engine->translate.mapping_changes == mappings) {
        if (live)
            vectors_load(vcpu);
        onward->code = engine->translate.translator->cache.execute + record->resume;
        onward->ahead = record->undone - 1u;
        onward->whole = 0;
    }
    return STEP_ON;
}

static const void *link_blocks(struct vcpu *vcpu, const struct exit_record *record)
{
    struct translator *translator = translator_of(vcpu);

    vcpu->state.rip = record->rip;
    if (attention(vcpu))
        return NULL;
    vectors_put_away(vcpu); // once for each link: what is called may use vector registers
    struct block *target = find_block(vcpu, translate_mode(vcpu));
    if (!target || engine_cpu_of(vcpu)->translate.code_dropped)
        return NULL;
    translator_lock(translator);
    code_cache_link(&translator->cache, record->block, record->link, target);
    translator_unlock(translator);
    return translator->cache.execute + target->code;
}

// An indirect jump, call or return went to an address that is not canonical: it has not happened, and tier 0 raises its fault.
static void undo_jump(struct vcpu *vcpu)
{
    struct translate_cpu *translate = &engine_cpu_of(vcpu)->translate;
    const struct exit_record *record =
        (const void *)(translate->translator->cache.execute + translate->jump_record);
    struct gva slot = gva(vcpu->state.gpr[RSP]);

    vectors_put_away(vcpu);
    if (record->next_rip == 8 && mmu_write64(vcpu, slot, translate->overwritten) != 0)
        engine_cpu_of(vcpu)->exception.vector =
            EXC_NONE; // another CPU has taken the page away meanwhile
    vcpu->state.gpr[RSP] += record->next_rip;
    vcpu->state.rip = record->rip;
}

// What generated code left for.
static enum step handle_exit(struct vcpu *vcpu, struct onward *onward, enum vcpu_exit *exit)
{
    struct translate_cpu *translate = &engine_cpu_of(vcpu)->translate;
    const struct exit_record *record = exit_record(vcpu);

    onward->code = NULL;
    onward->ahead = 0;
    switch ((enum exit_kind)record->kind) {
    case EXIT_INTERPRET:
        return interpret(vcpu, record, onward, exit);
    case EXIT_LINK:
        onward->code = onward->alone ? NULL : link_blocks(vcpu, record);
        break;
    case EXIT_JUMP:
        if (!address_is_canonical(vcpu, vcpu->state.rip)) { // the fault is the branch's
            undo_jump(vcpu);
            return step(vcpu, exit);
        }
        break;
    case EXIT_EVENT:
    case EXIT_BUDGET:
        vcpu->state.rip = record->rip;
        break;
    case EXIT_VECTORS:
        vcpu->state.rip = record->rip;
        vectors_load(vcpu);
        onward->code = translate->translator->cache.execute + record->resume;
        break;
    case EXIT_FAULT:
        vcpu->state.rip = translate->fault_rip;
        return step(vcpu, exit);
    case EXIT_KIND_COUNT:
        assert(false);
    }
    return STEP_ON;
}

// What generated code does not do at all: not 64-bit code, the guest's single step and breakpoints, the instruction after STI.
static bool tier_0_only(struct vcpu *vcpu, uint32_t mode)
{
    return !mode || engine_cpu_of(vcpu)->step_checks || vcpu->state.interrupt_shadow;
}

// A quiescent point: nothing that was found in the cache before is used from here on.
static void pass(struct vcpu *vcpu)
{
    struct translate_cpu *translate = &engine_cpu_of(vcpu)->translate;
    const struct code_epochs *epochs = &translate->translator->cache.epochs;
    uint64_t epoch;
    bool passing = code_reader_passing(epochs, &translate->reader, &epoch);

    if (atomic_exchange(&translate->code_dropped, false))
        forget_jumps(translate);
    if (passing)
        code_reader_pass(epochs, &translate->reader, epoch);
}

void translate_answer(struct vcpu *vcpu)
{
    atomic_fetch_and(&vcpu->events, ~(uint32_t)VCPU_EVENT_CODE);
    smp_answer(vcpu);
}

static bool take_events(struct vcpu *vcpu, enum vcpu_exit *exit)
{
    struct engine_cpu *engine = engine_cpu_of(vcpu);

    if (!atomic_load(&vcpu->events) && !engine->debug_hits && !engine->translate.code_dropped)
        return false;
    vectors_put_away(vcpu);
    translate_answer(vcpu);
    pass(vcpu);
    return exact(vcpu) ? interp_attend(vcpu, exit) : engine_take_events(vcpu, exit) != 0;
}

// A deterministic machine's slice of instructions is used up (interp.h). True: leave run().
static bool slice_ends(struct vcpu *vcpu, enum vcpu_exit *exit)
{
    if (!exact(vcpu))
        return false;
    if (!interp_left(vcpu)) {
        vectors_put_away(vcpu);
        if (interp_next_slice(vcpu, exit))
            return true;
    }
    if (trace_states_now(vcpu)) {
        vectors_put_away(vcpu);
        trace_states(vcpu);
    }
    return false;
}

static enum vcpu_exit run_loop(struct vcpu *vcpu)
{
    struct onward onward = {0};
    enum vcpu_exit exit = VCPU_EXIT_EVENT;

    for (;;) {
        if (!onward.code) {
            if (slice_ends(vcpu, &exit) || take_events(vcpu, &exit))
                return exit;
            uint32_t mode = translate_mode(vcpu);
            struct block *block = tier_0_only(vcpu, mode) ? NULL : find_block(vcpu, mode);
            if (!block || (exact(vcpu) && block->instructions > interp_left(vcpu))) {
                if (step(vcpu, &exit) == STEP_LEAVE)
                    return exit;
                continue;
            }
            onward.alone = trace_states_now(vcpu);
            if (engine_cpu_of(vcpu)->translate.code_dropped)
                continue; // to make room: the jump table is stale
            onward.code = translator_of(vcpu)->cache.execute + block->code;
            onward.whole = block->instructions;
        }
        enter(vcpu, &onward);
        if (handle_exit(vcpu, &onward, &exit) == STEP_LEAVE)
            return exit;
    }
}

// What needs a look at each instruction.
static bool interpreter_only(const struct vcpu *vcpu)
{
    return vcpu->single_step || vcpu->breakpoint_count || vcpu->instruction_limit != UINT64_MAX;
}

static enum vcpu_exit run_translated(struct vcpu *vcpu)
{
    enum vcpu_exit exit = VCPU_EXIT_HALT;

    os_gs_base_set(vcpu);
    pass(vcpu);
    interp_begin(vcpu);
    bool leave = vcpu->state.run_state != CPU_RUNNING && take_events(vcpu, &exit);
    if (!leave && vcpu->state.run_state == CPU_RUNNING)
        exit = run_loop(vcpu);
    engine_sync_clock(vcpu);
    vectors_put_away(vcpu);
    code_reader_away(&engine_cpu_of(vcpu)->translate.reader);
    return exit;
}

static enum vcpu_exit run(struct vcpu *vcpu)
{
    struct translate_cpu *translate = &engine_cpu_of(vcpu)->translate;
    struct err err;

    if (!translate->signal_stack && os_signal_stack_enter(&translate->signal_stack, &err) != 0) {
        log_error("%s", err.text);
        return VCPU_EXIT_HOST_FAILURE;
    }
    smp_start_running(vcpu);
    enum vcpu_exit exit = interpreter_only(vcpu) ? interp_run(vcpu) : run_translated(vcpu);
    smp_stop_running(vcpu);
    return exit;
}

// ---- Creation ----

static struct translator *translator_create(struct cpu_system *system, struct err *err)
{
    struct translator *translator = calloc(1, sizeof(*translator));

    if (!translator) {
        err_set(err, ERR_LIMIT, "no memory for the translator");
        return NULL;
    }
    translator->system = system;
    translator->counts = system->count_instructions && !vm_clock_is_deterministic(system->clock);
    translator->exact = vm_clock_is_deterministic(system->clock);
    translator->real_time = !vm_clock_is_deterministic(system->clock);
    pthread_mutex_init(&translator->lock, NULL);
    const struct code_cache_listener listener = {page_done, on_dropped, translator};
    uint32_t bytes = system->code_cache_bytes ? system->code_cache_bytes : DEFAULT_CACHE_BYTES;
    if (fault_handler_install(err) != 0 ||
        code_cache_init(&translator->cache, bytes, &listener, err) != 0) {
        free(translator);
        return NULL;
    }
    trampolines_emit(&translator->trampolines, &translator->cache);
    guest_memory_set_code_watcher(system->memory, on_code_written, translator);
    return translator;
}

static int vcpu_init(struct vcpu *vcpu, struct err *err)
{
    struct translate_cpu *translate = &engine_cpu_of(vcpu)->translate;
    struct translator *translator = vcpu->system->backend_data;

    if (!translator) {
        translator = translator_create(vcpu->system, err);
        if (!translator)
            return -1;
        vcpu->system->backend_data = translator;
    }
    if (interp_cpu_init(vcpu, INTERPRETER_CACHE_BITS, err) != 0)
        return -1;
    translator->users++;
    translate->translator = translator;
    code_epochs_add(&translator->cache.epochs, &translate->reader);
    translate->page_mask = ~4095ull;
    translate->masks[MASK_STATUS] = FLAGS_STATUS;
    translate->masks[MASK_PUSHED] = ~(uint64_t)(FLAGS_STATUS | FLAG_RF | FLAG_VM);
    translate->masks[MASK_NOT_IF] = ~(uint64_t)FLAG_IF;
    translate->masks[MASK_NOT_DF] = ~(uint64_t)FLAG_DF;
    translate->masks[MASK_NOT_AC] = ~(uint64_t)FLAG_AC;
    translate->masks[MASK_SIGN] = BIT(63);
    translate->masks[MASK_DF] = FLAG_DF;
    translate->masks[MASK_LONG] = ~8191ull;
    translate->masks[MASK_OFFSET] = 4095;
    for (unsigned i = 0; i < ARRAY_LENGTH(translate->aligned_masks); i++)
        translate->aligned_masks[i] = ~4095ull | bits_mask(i);
    translate->index_mask = (uint64_t)(TLB_ENTRIES - 1) << 12;
    for (enum tlb_mode mode = 0; mode < TLB_MODE_COUNT; mode++) {
        translate->jump_books[mode].count = JUMP_BOOK_ENTRIES; // nothing is known to be empty
        empty_jumps(translate, mode);
    }
    return 0;
}

static void vcpu_fini(struct vcpu *vcpu)
{
    struct translate_cpu *translate = &engine_cpu_of(vcpu)->translate;
    struct translator *translator = translate->translator;

    interp_cpu_fini(vcpu);
    os_signal_stack_leave(translate->signal_stack);
    translate->signal_stack = NULL;
    if (!translator)
        return;
    code_epochs_remove(&translator->cache.epochs, &translate->reader);
    if (--translator->users)
        return;
    guest_memory_set_code_watcher(vcpu->system->memory, NULL, NULL);
    code_cache_fini(&translator->cache);
    pthread_mutex_destroy(&translator->lock);
    vcpu->system->backend_data = NULL;
    free(translator);
}

static void state_changed(struct vcpu *vcpu)
{
    engine_state_changed(vcpu);
    forget_jumps(&engine_cpu_of(vcpu)->translate);
}

const struct vcpu_backend_ops engine_backend = {
    .name = "engine",
    .sandbox = OS_SANDBOX_VCPU,
    .context_bytes = sizeof(struct engine_cpu),
    .vcpu_init = vcpu_init,
    .vcpu_fini = vcpu_fini,
    .run = run,
    .state_changed = state_changed,
    .exit_reasons = ENGINE_EXIT_COUNT,
    .exit_name = engine_exit_name,
    .exits = engine_exits,
    .instructions = engine_instructions,
};
