// SPDX-License-Identifier: Apache-2.0
#include "machine/engine/trampoline.h"

#include <assert.h>

#include "base/bits.h"

_Static_assert(offsetof(struct vcpu, state) == 0, "GS + 0 is the architectural state");

static const uint8_t callee_saved[] = {RBX, RBP, R12, R13, R14, R15};

static void emit_push(struct emitter *e, unsigned reg)
{
    if (reg & 8)
        emit_u8(e, 0x41);
    emit_u8(e, 0x50 | (reg & 7));
}

static void emit_pop(struct emitter *e, unsigned reg)
{
    if (reg & 8)
        emit_u8(e, 0x41);
    emit_u8(e, 0x58 | (reg & 7));
}

void emit_exit_reason(struct emitter *e, uint32_t record)
{
    emit_store_imm32(e, false, host_context(CONTEXT_ENGINE(translate.exit)), record);
}

static void emit_enter(struct emitter *e)
{
    for (unsigned i = 0; i < ARRAY_LENGTH(callee_saved); i++)
        emit_push(e, callee_saved[i]);
    emit_store(e, host_context(CONTEXT_ENGINE(translate.host_rsp)), RSP);
    emit_store(e, host_context(CONTEXT_ENGINE(translate.enter_target)), RDI);
    emit_op_memory(e, false, 0xFF, 6, host_context(CONTEXT_ENGINE(translate.flags))); // push
    emit_u8(e, 0x9D);                                                                 // popfq
    for (unsigned reg = 0; reg < GPR_COUNT; reg++)
        emit_load(e, reg, host_context(CONTEXT_GPR(reg)));
    emit_jmp_memory(e, host_context(CONTEXT_ENGINE(translate.enter_target)));
}

static void emit_leave(struct emitter *e)
{
    for (unsigned reg = 0; reg < GPR_COUNT; reg++)
        emit_store(e, host_context(CONTEXT_GPR(reg)), reg);
    emit_load(e, RSP, host_context(CONTEXT_ENGINE(translate.host_rsp)));
    emit_u8(e, 0x9C); // pushfq
    emit_pop(e, RAX);
    emit_store(e, host_context(CONTEXT_ENGINE(translate.flags)), RAX);
    for (unsigned i = ARRAY_LENGTH(callee_saved); i-- > 0;)
        emit_pop(e, callee_saved[i]);
    emit_u8(e, 0xC3);
}

// Flags are the guest's throughout.
static void emit_jump_miss(struct emitter *e, uint32_t record, const uint8_t *leave)
{
    emit_store(e, host_context(CONTEXT_STATE(rip)), R11);
    emit_exit_reason(e, record);
    emit_load(e, RCX, host_context(CONTEXT_GPR(RCX)));
    emit_load(e, R11, host_context(CONTEXT_GPR(R11)));
    emit_target(e, emit_jmp(e), leave);
}

static uint32_t emit_record(struct code_cache *cache, struct emitter *e, enum exit_kind kind)
{
    struct exit_record record = {.kind = (uint8_t)kind};

    while (code_cache_offset(cache, e->at) & 7)
        emit_u8(e, 0xCC);
    uint32_t at = code_cache_offset(cache, e->at);
    emit_bytes(e, &record, sizeof(record));
    return at;
}

void trampolines_emit(struct trampolines *trampolines, struct code_cache *cache)
{
    struct emitter e = code_cache_trampolines(cache);
    uint32_t fault_record = emit_record(cache, &e, EXIT_FAULT);
    uint32_t jump_record = emit_record(cache, &e, EXIT_JUMP);
    uint32_t enter = code_cache_offset(cache, e.at);

    emit_enter(&e);
    const uint8_t *leave = e.at;
    trampolines->leave = code_cache_offset(cache, leave);
    emit_leave(&e);
    trampolines->jump_miss = code_cache_offset(cache, e.at);
    emit_jump_miss(&e, jump_record, leave);
    trampolines->fault = cache->execute + code_cache_offset(cache, e.at);
    emit_exit_reason(&e, fault_record);
    emit_target(&e, emit_jmp(&e), leave);
    trampolines->enter = (void (*)(const void *))(uintptr_t)(cache->execute + enter);
    assert(!e.overflow);
}
