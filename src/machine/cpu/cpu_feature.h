// SPDX-License-Identifier: Apache-2.0
//
// The instruction set extensions that wirt's CPU models can offer. The decoder names the feature that an
// instruction needs; a model says which are offered (cpu/cpu_model.h).
#ifndef WIRT_MACHINE_CPU_CPU_FEATURE_H
#define WIRT_MACHINE_CPU_CPU_FEATURE_H

#include <stdbool.h>
#include <stdint.h>

// X(enumerator suffix, name in --cpu and /proc/cpuinfo)
// clang-format never comes to rest on this list.
// clang-format off
#define CPU_FEATURES(X)                                                                            \
    X(BASE, "base") /* always there */                                                             \
    X(FPU, "fpu")                                                                                  \
    X(TSC, "tsc")                                                                                  \
    X(CX8, "cx8")                                                                                  \
    X(SEP, "sep")                                                                                  \
    X(CMOV, "cmov") X(CLFLUSH, "clflush") X(MMX, "mmx") X(FXSR, "fxsr") X(SSE, "sse")              \
        X(SSE2, "sse2") X(SSE3, "sse3") X(PCLMULQDQ, "pclmulqdq") X(MONITOR, "monitor")            \
            X(SSSE3, "ssse3") X(FMA, "fma") X(CX16, "cx16") X(PCID, "pcid") X(SSE4_1, "sse4.1") X( \
                SSE4_2, "sse4.2") X(X2APIC, "x2apic") X(MOVBE, "movbe") X(POPCNT, "popcnt")        \
                X(TSC_DEADLINE, "tsc-deadline") X(AES, "aes") X(XSAVE, "xsave") X(AVX, "avx") X(   \
                    F16C, "f16c") X(RDRAND, "rdrand") X(FSGSBASE, "fsgsbase") X(BMI1, "bmi1")      \
                    X(AVX2, "avx2") X(SMEP, "smep") X(BMI2, "bmi2") X(ERMS, "erms") X(             \
                        INVPCID, "invpcid") X(RDSEED, "rdseed")                                    \
                        X(ADX, "adx") X(SMAP, "smap") X(CLFLUSHOPT, "clflushopt") X(               \
                            CLWB,                                                                  \
                            "clwb") X(SHA, "sha") X(UMIP, "umip")                                  \
                            X(PKU, "pku") X(GFNI, "gfni") X(VAES, "vaes") X(                       \
                                VPCLMULQDQ,                                                        \
                                "vpclmulqdq") X(LA57, "la57")                                      \
                                X(RDPID, "rdpid") X(FSRM, "fsrm") X(AVX_VNNI, "avx-vnni") X(       \
                                    XSAVEOPT,                                                      \
                                    "xsaveopt") X(XSAVEC, "xsavec")                                \
                                    X(XGETBV1, "xgetbv1") X(XSAVES, "xsaves") X(                   \
                                        SYSCALL, "syscall") X(NX, "nx")                            \
                                        X(PDPE1GB, "pdpe1gb") X(RDTSCP, "rdtscp") X(LM, "lm")      \
                                            X(LAHF_LM, "lahf-lm") X(CR8_LEGACY, "cr8-legacy") X(   \
                                                LZCNT, "lzcnt") X(SSE4A, "sse4a")                  \
                                                X(PREFETCHW, "3dnowprefetch") X(                   \
                                                    CLZERO,                                        \
                                                    "clzero") X(WBNOINVD, "wbnoinvd")              \
                                                    X(MONITORX,                                    \
                                                      "monitorx") X(VMX, "vmx")                    \
                                                        X(SVM, "svm") X(WAITPKG, "waitpkg") X(     \
                                                            SERIALIZE,                             \
                                                            "serialize") X(MOVDIRI, "movdiri")     \
                                                            X(MOVDIR64B, "movdir64b") X(           \
                                                                CET, "cet") X(RDPRU, "rdpru")      \
                                                                X(MCOMMIT, "mcommit") X(           \
                                                                    PGE, "pge") X(PSE, "pse")      \
                                                                    X(PAE, "pae") X(VME, "vme") X( \
                                                                        DE, "de") X(MCE, "mce")    \
                                                                        X(MTRR, "mtrr")            \
                                                                            X(PAT, "pat")          \
                                                                                X(PSE36, "pse36")
// clang-format on

enum cpu_feature {
#define CPU_FEATURE_ENUM(name, text) CPU_FEATURE_##name,
    CPU_FEATURES(CPU_FEATURE_ENUM)
#undef CPU_FEATURE_ENUM
        CPU_FEATURE_COUNT
};

struct cpu_feature_set {
    uint64_t bits[2];
};
_Static_assert(CPU_FEATURE_COUNT <= 128, "the set holds every feature");

static inline bool cpu_feature_set_has(const struct cpu_feature_set *set, enum cpu_feature feature)
{
    return (set->bits[feature / 64] >> (feature % 64)) & 1;
}

static inline void cpu_feature_set_add(struct cpu_feature_set *set, enum cpu_feature feature)
{
    set->bits[feature / 64] |= 1ull << (feature % 64);
}

static inline void cpu_feature_set_remove(struct cpu_feature_set *set, enum cpu_feature feature)
{
    set->bits[feature / 64] &= ~(1ull << (feature % 64));
}

#endif
