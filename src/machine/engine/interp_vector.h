// SPDX-License-Identifier: Apache-2.0
//
// Tier 0's execution of x87, MMX, SSE and AVX instructions by the host's own.
//
// The guest's extended state is loaded (XRSTOR), the instruction is executed from a stub with its memory operand replaced by
// [RDI] and its general register by RAX, and the state is saved (XSAVE). Stubs are made when first used, in a small memfd that is
// mapped twice: writable here, executable there. RDI points to the operand in guest RAM itself, or to a copy where it crosses
// a page or is not RAM.
//
// The instruction runs with the guest's own control words. An unmasked SIMD exception thus arrives as SIGFPE in the stub: interp_vector_fault()
// makes it return, and the guest gets its #XM with MXCSR as the processor left it. An unmasked x87 exception is only pending after
// its instruction; the next waiting one finds it here, by software, and never runs.
//
// The image in cpu_state.xsave always holds all components' data while tier 0 runs (XSTATE_BV says so); what the guest
// sees as XINUSE is computed. FIP, FDP and FOP in it are kept by software, as guest addresses; FCS and FDS are always 0.
#ifndef WIRT_MACHINE_ENGINE_INTERP_VECTOR_H
#define WIRT_MACHINE_ENGINE_INTERP_VECTOR_H

#include "machine/engine/interp_insn.h"

struct interp_vector;
struct os_fault;

struct interp_vector *interp_vector_create(struct err *err);
void interp_vector_destroy(struct interp_vector *vector);
struct interp_vector *interp_vector_of(struct vcpu *vcpu);

// May this x87, MMX, SSE or AVX instruction execute now? CR0.EM and TS, CR4, XCR0, pending x87 exceptions. 0 or -1.
int interp_vector_check(struct vcpu *vcpu, const struct bound_insn *bound);

// A host fault on this thread: was it in a stub? Then it is handled. For the process's fault handler.
bool interp_vector_fault(struct os_fault *fault);

// The image with every component's data in place.
uint8_t *interp_xsave_image(struct vcpu *vcpu);

// x87 instructions that leave FIP, FDP and FOP alone (SDM vol. 1, 8.1.8).
bool interp_is_x87_control(unsigned op);
static inline uint16_t interp_x87_opcode(uint8_t opcode, uint8_t modrm)
{
    return (uint16_t)((opcode & 7) << 8 | modrm);
}

// Offsets in the image (SDM vol. 1, 13.4).
enum {
    XSAVE_FCW = 0,
    XSAVE_FSW = 2,
    XSAVE_FTW = 4, // abridged: a bit a register, 1 for not empty
    XSAVE_FOP = 6,
    XSAVE_FIP = 8,
    XSAVE_FDP = 16,
    XSAVE_MXCSR = 24,
    XSAVE_MXCSR_MASK = 28,
    XSAVE_ST = 32,   // 8 registers in stack order, 16 bytes each
    XSAVE_XMM = 160, // 16 registers
    XSAVE_LEGACY_BYTES = 512,
    XSAVE_BV = 512,
    XSAVE_COMP_BV = 520,
    XSAVE_YMM_HIGH = 576,
};

#define XSTATE_X87 1u
#define XSTATE_SSE 2u
#define XSTATE_AVX 4u

#define FCW_INIT   0x037f
#define MXCSR_INIT 0x1f80u
#define MXCSR_MASK 0xffffu // what a guest may set: not AMD's misaligned mode

#endif
