// SPDX-License-Identifier: Apache-2.0
//
// Every host register holds a guest register, so a scratch register is borrowed: its guest value is stored to its place in state.gpr
// ("evicted") and loaded again before an instruction that reads it, or at the block's end. State.gpr is where tier 0 and the trampolines look
// for it anyway. A register that is borrowed again without having been loaded costs no second store.
#include <assert.h>

#include "machine/engine/translate.h"

void translate_forget(struct translation *t, uint16_t registers)
{
    for (unsigned i = 0; i < KNOWN_PAGES; i++) {
        struct known_page *page = &t->pages[i];
        if (registers & (REGISTER_BIT(page->tag) | REGISTER_BIT(page->addend)))
            page->valid = false;
    }
}

bool translate_knows_pages(const struct translation *t)
{
    bool any = false;

    for (unsigned i = 0; i < KNOWN_PAGES; i++)
        any |= t->pages[i].valid;
    return any;
}

static uint16_t held(const struct translation *t)
{
    uint16_t registers = 0;

    for (unsigned i = 0; i < KNOWN_PAGES; i++) {
        const struct known_page *page = &t->pages[i];
        if (page->valid)
            registers |= (uint16_t)(REGISTER_BIT(page->tag) | REGISTER_BIT(page->addend));
    }
    return registers;
}

void translate_evict(struct translation *t, unsigned reg)
{
    translate_forget(t, REGISTER_BIT(reg));
    if (t->evicted & REGISTER_BIT(reg))
        return;
    emit_store(&t->near, host_context(CONTEXT_GPR(reg)), reg);
    t->evicted |= REGISTER_BIT(reg);
}

void translate_need(struct translation *t, uint16_t registers)
{
    translate_forget(t, t->evicted & registers);
    for (uint16_t missing = t->evicted & registers; missing; missing &= (uint16_t)(missing - 1)) {
        unsigned reg = (unsigned)__builtin_ctz(missing);
        emit_load(&t->near, reg, host_context(CONTEXT_GPR(reg)));
    }
    t->evicted &= (uint16_t)~registers;
}

// Their host registers hold new guest values; what state.gpr holds is stale.
void translate_wrote(struct translation *t, uint16_t registers)
{
    translate_forget(t, registers);
    t->evicted &= (uint16_t)~registers;
}

// How good a register is to borrow: best one whose value is never needed again, then one that is not used in this block, then the one used
// latest.
static unsigned worth(const struct translation *t, unsigned reg)
{
    uint16_t bit = REGISTER_BIT(reg);

    for (unsigned i = t->current + 1; i < t->count; i++) {
        if (t->insns[i].reads & bit)
            return i - t->current;
        if (t->insns[i].writes & bit)
            return 2 * BLOCK_INSNS_MAX;
    }
    return BLOCK_INSNS_MAX;
}

unsigned translate_scratch(struct translation *t, uint16_t allowed)
{
    unsigned best = RAX, best_worth = 0;

    allowed &= (uint16_t)~REGISTER_BIT(RSP);
    if (allowed & ~held(t))
        allowed &= (uint16_t)~held(t);
    for (unsigned reg = 0; reg < GPR_COUNT; reg++) {
        if (!(allowed & REGISTER_BIT(reg)))
            continue;
        unsigned value =
            worth(t, reg) * 2 + (t->evicted & REGISTER_BIT(reg) ? 4 * BLOCK_INSNS_MAX : 0) + 1;
        if (value > best_worth) {
            best = reg;
            best_worth = value;
        }
    }
    assert(best_worth);
    translate_evict(t, best);
    return best;
}

int translate_spare(struct translation *t, uint16_t allowed, unsigned distance)
{
    int best = HOST_NONE;
    unsigned best_worth = 0;

    allowed &= (uint16_t) ~(held(t) | REGISTER_BIT(RSP));
    for (unsigned reg = 0; reg < GPR_COUNT; reg++) {
        if (!(allowed & REGISTER_BIT(reg)))
            continue;
        unsigned away = 1;
        while (t->current + away < t->count &&
               !((t->insns[t->current + away].reads | t->insns[t->current + away].writes) &
                 REGISTER_BIT(reg)))
            away++;
        if (t->current + away >= t->count)
            away = BLOCK_INSNS_MAX;
        unsigned value = away + (t->evicted & REGISTER_BIT(reg) ? 2 * BLOCK_INSNS_MAX : 0);
        if (away > distance && value > best_worth) {
            best = (int)reg;
            best_worth = value;
        }
    }
    if (best != HOST_NONE)
        translate_evict(t, (unsigned)best);
    return best;
}
