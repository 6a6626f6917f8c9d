// SPDX-License-Identifier: Apache-2.0
//
// Some guest instructions fault on the host as they would on the guest's CPU: division, unaligned vector operands, unmasked floating point
// exceptions. The host's signal is not turned into the guest's exception here; the vCPU is put back to the state before the instruction and
// leaves the cache (EXIT_FAULT), and tier 0 executes the instruction again and raises whatever is due.
//
// A fault of generated code anywhere else is a bug of the translator: the process dies of the signal.
#include "machine/engine/fault.h"

#include "machine/engine/translate.h"
#include "os/native_code.h"

static bool on_fault(struct os_fault *fault)
{
    struct vcpu *vcpu = os_gs_base_get();

    if (!vcpu)
        return false;
    struct translate_cpu *translate = &engine_cpu_of(vcpu)->translate;
    struct code_cache *cache = &translate->translator->cache;
    if (!code_cache_contains(cache, fault->pc))
        return false;
    const struct block *block = code_cache_block_at(cache, fault->pc);
    const struct fault_site *site = block ? code_cache_site_at(cache, block, fault->pc) : NULL;
    if (!site)
        return false;
    if (site->exit) {
        fault->pc = (uint64_t)(uintptr_t)(cache->execute + site->exit);
        return true;
    }
    for (unsigned reg = 0; reg < GPR_COUNT; reg++) {
        if (site->evicted & REGISTER_BIT(reg))
            fault->gpr[reg] = vcpu->state.gpr[reg];
    }
    translate->fault_rip = block->rip + site->guest_offset;
    translate->fault_undone = site->undone;
    translate->fault_saved = site->saved;
    fault->pc = (uint64_t)(uintptr_t)translate->translator->trampolines.fault;
    return true;
}

int fault_handler_install(struct err *err)
{
    return os_fault_handler_install(on_fault, err);
}
