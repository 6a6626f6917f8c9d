// SPDX-License-Identifier: Apache-2.0
//
// Where the guest's vector and x87 registers are: in the host's registers (translate.vectors_live) or in state.xsave.
//
// Generated code that needs them has them loaded; C code is free to use vector registers, so they are put away before any is called that was not
// compiled without them. Leaving the cache and coming back for a direct link or an indirect jump need not touch them: those paths
// are compiled with -mgeneral-regs-only.
#ifndef WIRT_MACHINE_ENGINE_VECTORS_H
#define WIRT_MACHINE_ENGINE_VECTORS_H

#include "machine/engine/engine.h"

#define VECTORS_COMPONENTS 7u // x87, SSE, AVX
#define XSAVE_HEADER_BV    512

static inline void vectors_load(struct vcpu *vcpu)
{
    struct engine_cpu *engine = engine_cpu_of(vcpu);
    uint64_t components = VECTORS_COMPONENTS;

    if (engine->translate.vectors_live)
        return;
    __builtin_memcpy(vcpu->state.xsave + XSAVE_HEADER_BV, &components, sizeof(components));
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
    __asm__ volatile("xsave64 (%0)\n\tfninit\n\tldmxcsr %1"
                     :
                     : "r"(vcpu->state.xsave), "m"(host_mxcsr), "a"(VECTORS_COMPONENTS), "d"(0)
                     : "memory");
    __builtin_memcpy(vcpu->state.xsave + XSAVE_HEADER_BV, &components, sizeof(components));
    engine->translate.vectors_live = 0;
}

#endif
