// SPDX-License-Identifier: Apache-2.0
//
// Where the guest's vector and x87 registers are: in the host's registers (translate.vectors_live) or in state.xsave.
//
// Generated code that needs them has them loaded; C code is free to use vector registers, so they are put away before any is called that was not
// compiled without them. Leaving the cache and coming back for a direct link or an indirect jump need not touch them: those paths
// are compiled with -mgeneral-regs-only.
//
// The x87 pointers (FOP, FIP, FDP) in state.xsave are the guest's always. What the host's XSAVE writes there is not: on Intel addresses of generated code and of
// host memory, on AMD those or zeroes, according to whether an exception is pending. So it is undone; generated code says which x87
// instruction it executed last, by its block and fault site, and the address of the last operand in memory, which has the same meaning on every host.
#ifndef WIRT_MACHINE_ENGINE_VECTORS_H
#define WIRT_MACHINE_ENGINE_VECTORS_H

#include "base/bits.h"
#include "machine/engine/engine.h"
#include "machine/engine/translate.h"

#define VECTORS_COMPONENTS 7u // x87, SSE, AVX
#define XSAVE_HEADER_BV    512

// translate.x87_last: the block's number above the number of its fault site, of which every x87 instruction has one.
#define X87_SITE_BITS 8

struct x87_pointers {
    uint64_t fip, fdp;
    uint16_t fop;
};

static inline struct x87_pointers x87_pointers_of(struct vcpu *vcpu)
{
    struct x87_pointers pointers;

    __builtin_memcpy(&pointers.fop, vcpu->state.xsave + 6, sizeof(pointers.fop));
    __builtin_memcpy(&pointers.fip, vcpu->state.xsave + 8, sizeof(pointers.fip));
    __builtin_memcpy(&pointers.fdp, vcpu->state.xsave + 16, sizeof(pointers.fdp));
    return pointers;
}

// Make good what XSAVE wrote over `before`.
static inline void x87_pointers_restore(struct vcpu *vcpu, struct x87_pointers pointers)
{
    struct translate_cpu *translate = &engine_cpu_of(vcpu)->translate;

    if (translate->x87_last) {
        const struct code_cache *cache = &translate->translator->cache;
        const struct block *block = code_cache_block(cache, translate->x87_last >> X87_SITE_BITS);
        const struct fault_site *site =
            &cache->sites[block->first_site + (translate->x87_last & bits_mask(X87_SITE_BITS))];
        pointers.fip = block->rip + site->guest_offset;
        pointers.fop = site->x87_opcode;
        pointers.fdp = translate->x87_data;
        translate->x87_last = 0;
    }
    __builtin_memcpy(vcpu->state.xsave + 6, &pointers.fop, sizeof(pointers.fop));
    __builtin_memcpy(vcpu->state.xsave + 8, &pointers.fip, sizeof(pointers.fip));
    __builtin_memcpy(vcpu->state.xsave + 16, &pointers.fdp, sizeof(pointers.fdp));
}

static inline void vectors_load(struct vcpu *vcpu)
{
    struct engine_cpu *engine = engine_cpu_of(vcpu);
    uint64_t components = VECTORS_COMPONENTS;

    if (engine->translate.vectors_live)
        return;
    __builtin_memcpy(vcpu->state.xsave + XSAVE_HEADER_BV, &components, sizeof(components));
    engine->translate.x87_data = x87_pointers_of(vcpu).fdp;
    __asm__ volatile("xrstor64 (%0)"
                     :
                     : "r"(vcpu->state.xsave), "a"(VECTORS_COMPONENTS), "d"(0)
                     : "memory");
    engine->translate.vectors_live = 1;
}

static inline void vectors_put_away(struct vcpu *vcpu)
{
    static const uint32_t host_mxcsr = 0x1F80;
    struct engine_cpu *engine = engine_cpu_of(vcpu);
    uint64_t components = VECTORS_COMPONENTS;

    if (!engine->translate.vectors_live)
        return;
    struct x87_pointers before = x87_pointers_of(vcpu);
    __asm__ volatile("xsave64 (%0)\n\tfninit\n\tldmxcsr %1"
                     :
                     : "r"(vcpu->state.xsave), "m"(host_mxcsr), "a"(VECTORS_COMPONENTS), "d"(0)
                     : "memory");
    __builtin_memcpy(vcpu->state.xsave + XSAVE_HEADER_BV, &components, sizeof(components));
    x87_pointers_restore(vcpu, before);
    engine->translate.vectors_live = 0;
}

#endif
