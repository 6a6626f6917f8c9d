// SPDX-License-Identifier: Apache-2.0
//
// Features of a CPU model, as far as they decide whether an instruction exists.
//
// The decoder names one of these for every instruction form. Who executes the instruction looks it up in the
// model's bitmap (struct cpu_features) and raises #UD, or takes the older meaning of the same bytes
// (insn_fall_back() in machine/engine/decode.h), when the model does not offer it. What CPUID shows is
// computed from the same bitmap, so that the two never disagree.
#ifndef WIRT_MACHINE_CPU_FEATURE_H
#define WIRT_MACHINE_CPU_FEATURE_H

#include <stdbool.h>
#include <stdint.h>

// X(enumerator suffix, name as people write it in --cpu). At most 64.
#define CPU_FEATURES(X)                                                                            \
    X(BASE, "base") /* i486 and whatever every model has; always set */                           \
    X(FPU, "fpu")                                                                                  \
    X(TSC, "tsc")                                                                                  \
    X(MSR, "msr")                                                                                  \
    X(CX8, "cx8")                                                                                  \
    X(SEP, "sep")                                                                                  \
    X(CMOV, "cmov")                                                                                \
    X(CLFLUSH, "clflush")                                                                          \
    X(MMX, "mmx")                                                                                  \
    X(FXSR, "fxsr")                                                                                \
    X(SSE, "sse")                                                                                  \
    X(SSE2, "sse2")                                                                                \
    X(SSE3, "sse3")                                                                                \
    X(SSSE3, "ssse3")                                                                              \
    X(SSE4_1, "sse4.1")                                                                            \
    X(SSE4_2, "sse4.2")                                                                            \
    X(SSE4A, "sse4a")                                                                              \
    X(AES, "aes")                                                                                  \
    X(PCLMUL, "pclmulqdq")                                                                         \
    X(SHA, "sha-ni")                                                                               \
    X(GFNI, "gfni")                                                                                \
    X(MOVBE, "movbe")                                                                              \
    X(POPCNT, "popcnt")                                                                            \
    X(LZCNT, "lzcnt")                                                                              \
    X(BMI1, "bmi1")                                                                                \
    X(BMI2, "bmi2")                                                                                \
    X(ADX, "adx")                                                                                  \
    X(CX16, "cx16")                                                                                \
    X(LAHF64, "lahf-lm")                                                                           \
    X(RDRAND, "rdrand")                                                                            \
    X(RDSEED, "rdseed")                                                                            \
    X(FSGSBASE, "fsgsbase")                                                                        \
    X(RDPID, "rdpid")                                                                              \
    X(RDTSCP, "rdtscp")                                                                            \
    X(XSAVE, "xsave")                                                                              \
    X(XSAVEOPT, "xsaveopt")                                                                        \
    X(XSAVEC, "xsavec")                                                                            \
    X(XSAVES, "xsaves")                                                                            \
    X(CLFLUSHOPT, "clflushopt")                                                                    \
    X(CLWB, "clwb")                                                                                \
    X(CLZERO, "clzero")                                                                            \
    X(WBNOINVD, "wbnoinvd")                                                                        \
    X(SMAP, "smap")                                                                                \
    X(INVPCID, "invpcid")                                                                          \
    X(MONITOR, "monitor")                                                                          \
    X(MONITORX, "monitorx")                                                                        \
    X(PREFETCHW, "3dnowprefetch")                                                                  \
    X(LONG_MODE, "lm")                                                                             \
    X(SYSCALL, "syscall")                                                                          \
    X(VMCALL, "vmcall") /* Intel's call to the hypervisor */                                       \
    X(VMMCALL, "vmmcall") /* AMD's */                                                              \
    X(AVX, "avx")                                                                                  \
    X(AVX2, "avx2")                                                                                \
    X(FMA, "fma")                                                                                  \
    X(F16C, "f16c")                                                                                \
    X(VAES, "vaes")                                                                                \
    X(VPCLMUL, "vpclmulqdq")                                                                       \
    X(AVX_VNNI, "avx-vnni")

enum cpu_feature {
#define X(name, text) CPU_FEATURE_##name,
    CPU_FEATURES(X)
#undef X
        CPU_FEATURE_COUNT
};

_Static_assert(CPU_FEATURE_COUNT <= 64, "struct cpu_features holds 64 of them");

struct cpu_features {
    uint64_t bits; // bit n: the model offers feature n
};

static inline bool cpu_features_have(struct cpu_features features, enum cpu_feature feature)
{
    return (features.bits >> feature) & 1;
}

#endif
