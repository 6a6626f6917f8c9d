// SPDX-License-Identifier: Apache-2.0
#include "machine/engine/stats.h"

#include <assert.h>

#include "machine/engine/translate.h"

static const char *const names[] = {"port",      "mmio", "halt",    "interrupt",
                                    "exception", "msr",  "control", "smc"};
static_assert(sizeof(names) / sizeof(names[0]) == ENGINE_EXIT_COUNT, "a name for each reason");

static const struct engine_cpu *engine_of(const struct vcpu *vcpu)
{
    return (const struct engine_cpu *)(const void *)((const char *)vcpu + VCPU_CONTEXT_OFFSET);
}

const char *engine_exit_name(unsigned reason)
{
    assert(reason < ENGINE_EXIT_COUNT);
    return names[reason];
}

uint64_t engine_exits(const struct vcpu *vcpu, unsigned reason)
{
    assert(reason < ENGINE_EXIT_COUNT);
    return engine_of(vcpu)->exits[reason];
}

uint64_t engine_instructions(const struct vcpu *vcpu, enum vcpu_tier tier)
{
    const struct translator *translator = engine_of(vcpu)->translate.translator;
    bool counted = !translator || translator->counts || translator->exact;

    return tier == TIER_TRANSLATED && !counted ? INSTRUCTIONS_NOT_COUNTED
                                               : engine_of(vcpu)->retired[tier];
}
