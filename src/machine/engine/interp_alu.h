// SPDX-License-Identifier: Apache-2.0
//
// Arithmetic with its flags, computed by the host's own instructions, so that results are right by construction, undefined
// flags included: they are whatever this host's CPU makes of them, as in translated code.
//
// The status flags travel as LAHF and SETO leave them: AH holds SF, ZF, AF, PF and CF, AL holds OF. ALU_FLAGS_IN puts them
// into the host's flags (adding 127 to 0 or 1 sets OF as wanted, SAHF the rest), ALU_FLAGS_OUT takes them out.
#ifndef WIRT_MACHINE_ENGINE_INTERP_ALU_H
#define WIRT_MACHINE_ENGINE_INTERP_ALU_H

#include "machine/cpu/cpu_state.h"

#define ALU_FLAGS_IN  "addb $0x7f, %%al\n\tsahf\n\t"
#define ALU_FLAGS_OUT "\n\tlahf\n\tseto %%al"

#define ALU_INLINE static inline __attribute__((always_inline))

ALU_INLINE uint32_t alu_flags_pack(uint64_t rflags)
{
    return (uint32_t)(((rflags & 0xff) << 8) | ((rflags >> 11) & 1));
}

ALU_INLINE uint64_t alu_flags_merge(uint64_t rflags, uint32_t packed)
{
    return (rflags & ~(uint64_t)FLAGS_STATUS) | ((packed >> 8) & 0xd5) |
           ((uint64_t)(packed & 1) << 11);
}

// One instruction of each width; the template names %[a] (in and out) and %[b] with size modifiers.
#define ALU_CASE(constraint, b_constraint, text)                                                   \
    __asm__(ALU_FLAGS_IN text ALU_FLAGS_OUT                                                        \
            : [a] "+" constraint(a), "+a"(*packed)                                                 \
            : [b] b_constraint(b)                                                                  \
            : "cc");                                                                               \
    break;

// a = a <op> b
#define ALU_BINARY(name, op)                                                                       \
    ALU_INLINE uint64_t alu_##name(uint64_t a, uint64_t b, unsigned bytes, uint32_t *packed)       \
    {                                                                                              \
        switch (bytes) {                                                                           \
        case 1:                                                                                    \
            ALU_CASE("q", "q", op "b %b[b], %b[a]")                                                \
        case 2:                                                                                    \
            ALU_CASE("r", "r", op "w %w[b], %w[a]")                                                \
        case 4:                                                                                    \
            ALU_CASE("r", "r", op "l %k[b], %k[a]")                                                \
        default:                                                                                   \
            ALU_CASE("r", "r", op "q %[b], %[a]")                                                  \
        }                                                                                          \
        return a;                                                                                  \
    }

// Without a byte form (bit operations, two-operand IMUL, scans).
#define ALU_BINARY_WIDE(name, op)                                                                  \
    ALU_INLINE uint64_t alu_##name(uint64_t a, uint64_t b, unsigned bytes, uint32_t *packed)       \
    {                                                                                              \
        switch (bytes) {                                                                           \
        case 2:                                                                                    \
            ALU_CASE("r", "r", op "w %w[b], %w[a]")                                                \
        case 4:                                                                                    \
            ALU_CASE("r", "r", op "l %k[b], %k[a]")                                                \
        default:                                                                                   \
            ALU_CASE("r", "r", op "q %[b], %[a]")                                                  \
        }                                                                                          \
        return a;                                                                                  \
    }

// a = <op> a; b is not used.
#define ALU_UNARY(name, op)                                                                        \
    ALU_INLINE uint64_t alu_##name(uint64_t a, uint64_t b, unsigned bytes, uint32_t *packed)       \
    {                                                                                              \
        switch (bytes) {                                                                           \
        case 1:                                                                                    \
            ALU_CASE("q", "q", op "b %b[a]")                                                       \
        case 2:                                                                                    \
            ALU_CASE("r", "r", op "w %w[a]")                                                       \
        case 4:                                                                                    \
            ALU_CASE("r", "r", op "l %k[a]")                                                       \
        default:                                                                                   \
            ALU_CASE("r", "r", op "q %[a]")                                                        \
        }                                                                                          \
        return a;                                                                                  \
    }

// a = a shifted by b in CL.
#define ALU_SHIFT(name, op)                                                                        \
    ALU_INLINE uint64_t alu_##name(uint64_t a, uint64_t b, unsigned bytes, uint32_t *packed)       \
    {                                                                                              \
        switch (bytes) {                                                                           \
        case 1:                                                                                    \
            ALU_CASE("q", "c", op "b %%cl, %b[a]")                                                 \
        case 2:                                                                                    \
            ALU_CASE("r", "c", op "w %%cl, %w[a]")                                                 \
        case 4:                                                                                    \
            ALU_CASE("r", "c", op "l %%cl, %k[a]")                                                 \
        default:                                                                                   \
            ALU_CASE("r", "c", op "q %%cl, %[a]")                                                  \
        }                                                                                          \
        return a;                                                                                  \
    }

#endif
