// SPDX-License-Identifier: Apache-2.0
//
// CPU models: which features a guest is offered, and CPUID's answers.
//
// Every model is an AuthenticAMD processor of family 19h, whatever the host: the engine's decoder and system instructions follow AMD's
// manuals, and AMD's leaves say in few bits that mitigations are needless (8000_0021: AutoIBRS, SRSO_NO, TSA_*_NO; 8000_0008: SSB_NO, BTC_NO). Inside
// translated code they protect nobody and cost much; a Linux guest that sees these bits chooses Automatic IBRS, which is a bit in EFER, and
// plain returns and indirect branches. doc/security.md says what that means.
//
// "host" is what the engine can execute (engine_supported) and the host's CPU has, less what is of no use by default (opt_in). "x86-64" and its
// levels are fixed lists.
#include "machine/cpu/cpu_model.h"

#include <cpuid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "machine/cpu/lapic_internal.h"
#include "machine/cpu/vcpu.h"

#define SIGNATURE     0x00A10F11u // family 19h, model 11h, stepping 1
#define PHYSICAL_BITS 40u
#define MAX_BASIC     0x16u
#define MAX_EXTENDED  0x80000021u
#define HYPERVISOR    0x40000000u
#define APIC_BUS_KHZ  1000000u

struct cpu_model {
    struct cpu_feature_set features;
    unsigned vcpus;
    unsigned core_bits; // of an APIC id
    uint64_t tsc_hz;
};

enum cpuid_register { EAX, EBX, ECX, EDX };

// Where a feature stands in CPUID, and whether an instruction of it runs on the host's own CPU (`native`), so that the host must have it.
struct feature_bit {
    uint8_t feature;
    uint8_t reg; // enum cpuid_register
    uint8_t bit;
    bool native;
    uint32_t leaf, subleaf;
};

static const struct feature_bit feature_bits[] = {
    {CPU_FEATURE_SSE3, ECX, 0, true, 1, 0},
    {CPU_FEATURE_PCLMULQDQ, ECX, 1, true, 1, 0},
    {CPU_FEATURE_MONITOR, ECX, 3, false, 1, 0},
    {CPU_FEATURE_SSSE3, ECX, 9, true, 1, 0},
    {CPU_FEATURE_FMA, ECX, 12, true, 1, 0},
    {CPU_FEATURE_CX16, ECX, 13, true, 1, 0},
    {CPU_FEATURE_PCID, ECX, 17, false, 1, 0},
    {CPU_FEATURE_SSE4_1, ECX, 19, true, 1, 0},
    {CPU_FEATURE_SSE4_2, ECX, 20, true, 1, 0},
    {CPU_FEATURE_X2APIC, ECX, 21, false, 1, 0},
    {CPU_FEATURE_MOVBE, ECX, 22, true, 1, 0},
    {CPU_FEATURE_POPCNT, ECX, 23, true, 1, 0},
    {CPU_FEATURE_TSC_DEADLINE, ECX, 24, false, 1, 0},
    {CPU_FEATURE_AES, ECX, 25, true, 1, 0},
    {CPU_FEATURE_XSAVE, ECX, 26, true, 1, 0},
    {CPU_FEATURE_AVX, ECX, 28, true, 1, 0},
    {CPU_FEATURE_F16C, ECX, 29, true, 1, 0},
    {CPU_FEATURE_RDRAND, ECX, 30, true, 1, 0},
    {CPU_FEATURE_FPU, EDX, 0, true, 1, 0},
    {CPU_FEATURE_VME, EDX, 1, false, 1, 0},
    {CPU_FEATURE_DE, EDX, 2, false, 1, 0},
    {CPU_FEATURE_PSE, EDX, 3, false, 1, 0},
    {CPU_FEATURE_TSC, EDX, 4, false, 1, 0},
    {CPU_FEATURE_PAE, EDX, 6, false, 1, 0},
    {CPU_FEATURE_MCE, EDX, 7, false, 1, 0},
    {CPU_FEATURE_CX8, EDX, 8, true, 1, 0},
    {CPU_FEATURE_SEP, EDX, 11, false, 1, 0},
    {CPU_FEATURE_MTRR, EDX, 12, false, 1, 0},
    {CPU_FEATURE_PGE, EDX, 13, false, 1, 0},
    {CPU_FEATURE_CMOV, EDX, 15, true, 1, 0},
    {CPU_FEATURE_PAT, EDX, 16, false, 1, 0},
    {CPU_FEATURE_PSE36, EDX, 17, false, 1, 0},
    {CPU_FEATURE_CLFLUSH, EDX, 19, true, 1, 0},
    {CPU_FEATURE_MMX, EDX, 23, true, 1, 0},
    {CPU_FEATURE_FXSR, EDX, 24, true, 1, 0},
    {CPU_FEATURE_SSE, EDX, 25, true, 1, 0},
    {CPU_FEATURE_SSE2, EDX, 26, true, 1, 0},
    {CPU_FEATURE_FSGSBASE, EBX, 0, false, 7, 0},
    {CPU_FEATURE_BMI1, EBX, 3, true, 7, 0},
    {CPU_FEATURE_AVX2, EBX, 5, true, 7, 0},
    {CPU_FEATURE_SMEP, EBX, 7, false, 7, 0},
    {CPU_FEATURE_BMI2, EBX, 8, true, 7, 0},
    {CPU_FEATURE_ERMS, EBX, 9, false, 7, 0},
    {CPU_FEATURE_INVPCID, EBX, 10, false, 7, 0},
    {CPU_FEATURE_RDSEED, EBX, 18, true, 7, 0},
    {CPU_FEATURE_ADX, EBX, 19, true, 7, 0},
    {CPU_FEATURE_SMAP, EBX, 20, false, 7, 0},
    {CPU_FEATURE_CLFLUSHOPT, EBX, 23, false, 7, 0},
    {CPU_FEATURE_CLWB, EBX, 24, false, 7, 0},
    {CPU_FEATURE_SHA, EBX, 29, true, 7, 0},
    {CPU_FEATURE_UMIP, ECX, 2, false, 7, 0},
    {CPU_FEATURE_PKU, ECX, 3, true, 7, 0},
    {CPU_FEATURE_WAITPKG, ECX, 5, true, 7, 0},
    {CPU_FEATURE_GFNI, ECX, 8, true, 7, 0},
    {CPU_FEATURE_VAES, ECX, 9, true, 7, 0},
    {CPU_FEATURE_VPCLMULQDQ, ECX, 10, true, 7, 0},
    {CPU_FEATURE_LA57, ECX, 16, false, 7, 0},
    {CPU_FEATURE_RDPID, ECX, 22, false, 7, 0},
    {CPU_FEATURE_MOVDIRI, ECX, 27, true, 7, 0},
    {CPU_FEATURE_MOVDIR64B, ECX, 28, true, 7, 0},
    {CPU_FEATURE_FSRM, EDX, 4, false, 7, 0},
    {CPU_FEATURE_SERIALIZE, EDX, 14, true, 7, 0},
    {CPU_FEATURE_AVX_VNNI, EAX, 4, true, 7, 1},
    {CPU_FEATURE_XSAVEOPT, EAX, 0, false, 0xD, 1},
    {CPU_FEATURE_XSAVEC, EAX, 1, false, 0xD, 1},
    {CPU_FEATURE_XGETBV1, EAX, 2, false, 0xD, 1},
    {CPU_FEATURE_XSAVES, EAX, 3, false, 0xD, 1},
    {CPU_FEATURE_LAHF_LM, ECX, 0, true, 0x80000001, 0},
    {CPU_FEATURE_SVM, ECX, 2, true, 0x80000001, 0},
    {CPU_FEATURE_CR8_LEGACY, ECX, 4, false, 0x80000001, 0},
    {CPU_FEATURE_LZCNT, ECX, 5, true, 0x80000001, 0},
    {CPU_FEATURE_SSE4A, ECX, 6, true, 0x80000001, 0},
    {CPU_FEATURE_PREFETCHW, ECX, 8, false, 0x80000001, 0},
    {CPU_FEATURE_MONITORX, ECX, 29, false, 0x80000001, 0},
    {CPU_FEATURE_SYSCALL, EDX, 11, false, 0x80000001, 0},
    {CPU_FEATURE_NX, EDX, 20, false, 0x80000001, 0},
    {CPU_FEATURE_PDPE1GB, EDX, 26, false, 0x80000001, 0},
    {CPU_FEATURE_RDTSCP, EDX, 27, false, 0x80000001, 0},
    {CPU_FEATURE_LM, EDX, 29, false, 0x80000001, 0},
    {CPU_FEATURE_CLZERO, EBX, 0, false, 0x80000008, 0},
    {CPU_FEATURE_WBNOINVD, EBX, 9, false, 0x80000008, 0},
};

static const char *const feature_names[] = {
#define CPU_FEATURE_NAME(name, text) text,
    CPU_FEATURES(CPU_FEATURE_NAME)
#undef CPU_FEATURE_NAME
};
_Static_assert(ARRAY_LENGTH(feature_names) == CPU_FEATURE_COUNT, "a name for each feature");

// ---- Lists ----

#define F(name) CPU_FEATURE_##name

static const uint8_t baseline[] = {
    F(BASE),      F(FPU),  F(DE),   F(PSE),     F(TSC), F(PAE),   F(MCE),     F(CX8),
    F(SEP),       F(MTRR), F(PGE),  F(CMOV),    F(PAT), F(PSE36), F(CLFLUSH), F(MMX),
    F(FXSR),      F(SSE),  F(SSE2), F(SYSCALL), F(NX),  F(LM),    F(X2APIC),  F(TSC_DEADLINE),
    F(PREFETCHW), // goes with LM (AMD64 APM vol. 3, PREFETCHW): 64-bit kernels use it unasked
};
static const uint8_t level2[] = {F(CX16),  F(LAHF_LM), F(POPCNT), F(SSE3),
                                 F(SSSE3), F(SSE4_1),  F(SSE4_2)};
static const uint8_t level3[] = {F(AVX), F(AVX2),  F(BMI1),  F(BMI2), F(F16C),
                                 F(FMA), F(LZCNT), F(MOVBE), F(XSAVE)};

// What the engine executes beyond level 3.
static const uint8_t beyond[] = {
    F(PCLMULQDQ), F(PCID),     F(AES),      F(RDRAND),     F(FSGSBASE),   F(SMEP),    F(ERMS),
    F(INVPCID),   F(RDSEED),   F(ADX),      F(SMAP),       F(CLFLUSHOPT), F(CLWB),    F(SHA),
    F(UMIP),      F(GFNI),     F(VAES),     F(VPCLMULQDQ), F(LA57),       F(RDPID),   F(FSRM),
    F(AVX_VNNI),  F(XSAVEOPT), F(XSAVEC),   F(XGETBV1),    F(CR8_LEGACY), F(PDPE1GB), F(RDTSCP),
    F(SSE4A),     F(CLZERO),   F(WBNOINVD),
};

// Only by "+name": five levels make every page walk longer; short REP MOVS are slower than loops in translated code.
static const uint8_t opt_in[] = {F(LA57), F(FSRM)};

// A feature that is useless, or forbidden, without another.
static const struct {
    uint8_t feature, needs;
} dependencies[] = {
    {F(SSE), F(FXSR)},       {F(SSE2), F(SSE)},
    {F(SSE3), F(SSE2)},      {F(SSSE3), F(SSE3)},
    {F(SSE4_1), F(SSSE3)},   {F(SSE4_2), F(SSE4_1)},
    {F(SSE4A), F(SSE3)},     {F(AES), F(SSE2)},
    {F(PCLMULQDQ), F(SSE2)}, {F(SHA), F(SSE2)},
    {F(GFNI), F(SSE2)},      {F(AVX), F(XSAVE)},
    {F(AVX), F(SSE4_2)},     {F(AVX2), F(AVX)},
    {F(FMA), F(AVX)},        {F(F16C), F(AVX)},
    {F(VAES), F(AVX)},       {F(VAES), F(AES)},
    {F(VPCLMULQDQ), F(AVX)}, {F(VPCLMULQDQ), F(PCLMULQDQ)},
    {F(AVX_VNNI), F(AVX2)},  {F(XSAVEOPT), F(XSAVE)},
    {F(XSAVEC), F(XSAVE)},   {F(XGETBV1), F(XSAVE)},
    {F(BMI1), F(AVX)},       {F(BMI2), F(AVX)},
    {F(INVPCID), F(PCID)},   {F(PCID), F(LM)},
    {F(LM), F(PAE)},         {F(LM), F(SSE2)},
    {F(LA57), F(LM)},        {F(LAHF_LM), F(LM)},
    {F(CX16), F(LM)},        {F(PDPE1GB), F(LM)},
    {F(FSGSBASE), F(LM)},    {F(NX), F(PAE)},
    {F(PSE36), F(PSE)},      {F(FXSR), F(FPU)},
    {F(MMX), F(FPU)},        {F(RDSEED), F(RDRAND)},
};
#undef F

static void add_list(struct cpu_feature_set *set, const uint8_t *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        cpu_feature_set_add(set, (enum cpu_feature)list[i]);
}

static struct cpu_feature_set engine_supported(void)
{
    struct cpu_feature_set set = {0};
    add_list(&set, baseline, ARRAY_LENGTH(baseline));
    add_list(&set, level2, ARRAY_LENGTH(level2));
    add_list(&set, level3, ARRAY_LENGTH(level3));
    add_list(&set, beyond, ARRAY_LENGTH(beyond));
    return set;
}

// Bits of XCR0 that the host's kernel has enabled.
static uint32_t host_xcr0(void)
{
    uint32_t eax, ebx, ecx, edx;

    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    return eax;
}

static bool is_offered(const struct cpu_offer *offer, const struct feature_bit *bit)
{
    struct cpuid_leaf leaf = offer->cpuid(offer, bit->leaf, bit->subleaf);
    const uint32_t regs[4] = {leaf.eax, leaf.ebx, leaf.ecx, leaf.edx};

    return regs[bit->reg] >> bit->bit & 1;
}

// What the host's CPU answered last. Where the host is a virtual machine itself, each CPUID costs it some ten microseconds: bits of one leaf, which stand
// beside each other in the table, share one.
struct host_cpuid {
    uint32_t leaf, subleaf; // of `regs`; leaf 0: none yet
    uint32_t regs[4];
    uint32_t xcr0;
};

static bool host_has(const struct feature_bit *bit, struct host_cpuid *host)
{
    uint32_t *regs = host->regs;

    if (bit->leaf != host->leaf || bit->subleaf != host->subleaf) {
        host->leaf = bit->leaf;
        host->subleaf = bit->subleaf;
        if (!__get_cpuid_count(bit->leaf, bit->subleaf, &regs[EAX], &regs[EBX], &regs[ECX],
                               &regs[EDX]))
            memset(regs, 0, sizeof(host->regs));
    }
    if ((bit->feature == CPU_FEATURE_AVX || bit->feature == CPU_FEATURE_XSAVE) &&
        (host->xcr0 & 7) != 7)
        return false;
    return regs[bit->reg] >> bit->bit & 1;
}

static void remove_dependents(struct cpu_feature_set *set)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < ARRAY_LENGTH(dependencies); i++) {
            enum cpu_feature feature = (enum cpu_feature)dependencies[i].feature;
            if (cpu_feature_set_has(set, feature) &&
                !cpu_feature_set_has(set, (enum cpu_feature)dependencies[i].needs)) {
                cpu_feature_set_remove(set, feature);
                changed = true;
            }
        }
    }
}

static struct cpu_feature_set host_supported(const struct cpu_offer *offer)
{
    struct cpu_feature_set set = engine_supported();
    struct host_cpuid host = {.xcr0 = offer ? 0 : host_xcr0()};

    for (size_t i = 0; i < ARRAY_LENGTH(feature_bits); i++) {
        const struct feature_bit *bit = &feature_bits[i];
        if (offer ? !is_offered(offer, bit) : bit->native && !host_has(bit, &host))
            cpu_feature_set_remove(&set, (enum cpu_feature)bit->feature);
    }
    remove_dependents(&set);
    return set;
}

// ---- Names and changes ----

// The fixed models: how many of the lists.
static const struct {
    const char *name;
    unsigned level;
} fixed_models[] = {{"x86-64", 1}, {"x86-64-v2", 2}, {"x86-64-v3", 3}};

static int require_all(const char *name, const struct cpu_feature_set *wanted,
                       const struct cpu_feature_set *available, struct err *err)
{
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        if (cpu_feature_set_has(wanted, (enum cpu_feature)i) &&
            !cpu_feature_set_has(available, (enum cpu_feature)i))
            return err_set(err, ERR_USAGE,
                           "CPU model \"%s\" needs %s, which this host does not have; try \"host\"",
                           name, feature_names[i]);
    }
    return 0;
}

static int base_features(const char *name, const struct cpu_feature_set *available,
                         struct cpu_feature_set *set, struct err *err)
{
    if (strcmp(name, "host") == 0) {
        *set = *available;
        for (size_t i = 0; i < ARRAY_LENGTH(opt_in); i++)
            cpu_feature_set_remove(set, (enum cpu_feature)opt_in[i]);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LENGTH(fixed_models); i++) {
        if (strcmp(name, fixed_models[i].name) != 0)
            continue;
        *set = (struct cpu_feature_set){0};
        add_list(set, baseline, ARRAY_LENGTH(baseline));
        if (fixed_models[i].level >= 2)
            add_list(set, level2, ARRAY_LENGTH(level2));
        if (fixed_models[i].level >= 3)
            add_list(set, level3, ARRAY_LENGTH(level3));
        return require_all(name, set, available, err);
    }
    return err_set(err, ERR_USAGE,
                   "there is no CPU model \"%s\"; there are host, x86-64, x86-64-v2, x86-64-v3",
                   name);
}

// Linux spells some names with underscores ("sse4_1", "tsc_deadline_timer"): '_', '-' and '.' are the same here.
static char folded(char c)
{
    return c == '_' || c == '.' ? '-' : c;
}

static bool same_name(const char *text, size_t length, const char *name)
{
    if (strlen(name) != length)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (folded(text[i]) != folded(name[i]))
            return false;
    }
    return true;
}

static int find_feature(const char *text, size_t length)
{
    for (unsigned i = CPU_FEATURE_BASE + 1; i < CPU_FEATURE_COUNT; i++) {
        if (same_name(text, length, feature_names[i]))
            return (int)i;
    }
    return -1;
}

static int add_with_needs(struct cpu_feature_set *set, enum cpu_feature feature)
{
    if (cpu_feature_set_has(set, feature))
        return 0;
    cpu_feature_set_add(set, feature);
    for (size_t i = 0; i < ARRAY_LENGTH(dependencies); i++) {
        if (dependencies[i].feature == feature)
            add_with_needs(set, (enum cpu_feature)dependencies[i].needs);
    }
    return 0;
}

static int apply_change(const char *text, size_t length, const struct cpu_feature_set *available,
                        struct cpu_feature_set *set, struct err *err)
{
    if (length < 2 || (text[0] != '+' && text[0] != '-'))
        return err_set(err, ERR_USAGE, "CPU feature \"%.*s\": write +NAME or -NAME", (int)length,
                       text);
    int feature = find_feature(text + 1, length - 1);
    if (feature < 0)
        return err_set(err, ERR_USAGE, "there is no CPU feature \"%.*s\"", (int)length - 1,
                       text + 1);
    if (text[0] == '-') {
        cpu_feature_set_remove(set, (enum cpu_feature)feature);
        remove_dependents(set);
        return 0;
    }
    if (!cpu_feature_set_has(available, (enum cpu_feature)feature))
        return err_set(err, ERR_USAGE,
                       "CPU feature \"%s\" is not supported here (by the engine or by this host)",
                       feature_names[feature]);
    return add_with_needs(set, (enum cpu_feature)feature);
}

static int apply_changes(const char *changes, const struct cpu_feature_set *available,
                         struct cpu_feature_set *set, struct err *err)
{
    while (changes && *changes) {
        size_t length = strcspn(changes, ",");
        if (apply_change(changes, length, available, set, err) != 0)
            return -1;
        changes += length;
        if (*changes == ',')
            changes++;
    }
    return 0;
}

struct cpu_model *cpu_model_create(const char *name, const char *changes, unsigned vcpus,
                                   uint64_t tsc_hz, const struct cpu_offer *offer, struct err *err)
{
    struct cpu_feature_set available = host_supported(offer), features = {0};
    size_t length = strcspn(name, ",");
    char base[32];

    snprintf(base, sizeof(base), "%.*s", (int)length, name);
    if (base_features(base, &available, &features, err) != 0 ||
        (name[length] && apply_changes(name + length + 1, &available, &features, err) != 0) ||
        apply_changes(changes, &available, &features, err) != 0)
        return NULL;
    struct cpu_model *model = calloc(1, sizeof(*model));
    if (!model) {
        err_set(err, ERR_LIMIT, "CPU model: out of memory");
        return NULL;
    }
    *model = (struct cpu_model){.features = features, .vcpus = vcpus, .tsc_hz = tsc_hz};
    while (1u << model->core_bits < vcpus)
        model->core_bits++;
    return model;
}

void cpu_model_destroy(struct cpu_model *model)
{
    free(model);
}

const struct cpu_feature_set *cpu_model_features(const struct cpu_model *model)
{
    return &model->features;
}

unsigned cpu_model_physical_bits(const struct cpu_model *model)
{
    return PHYSICAL_BITS;
}

// ---- CPUID ----

static bool offers(const struct cpu_model *model, enum cpu_feature feature)
{
    return cpu_feature_set_has(&model->features, feature);
}

static struct cpuid_leaf from_text(uint32_t eax, const char text[12])
{
    struct cpuid_leaf leaf = {.eax = eax};
    leaf.ebx = load_le32(text);
    leaf.edx = load_le32(text + 4);
    leaf.ecx = load_le32(text + 8);
    return leaf;
}

static struct cpuid_leaf leaf_1(const struct cpu_model *model, const struct vcpu *vcpu)
{
    struct cpuid_leaf leaf = {
        .eax = SIGNATURE,
        .ebx = vcpu->index << 24 | model->vcpus << 16 | 8u << 8, // APIC id, CPUs, CLFLUSH line
        .ecx = 1u << 31,                                         // hypervisor
        .edx = 1u << 5 | 1u << 14,                               // MSR, MCA
    };

    if (vcpu->state.cr4 & CR4_OSXSAVE)
        leaf.ecx |= 1u << 27;
    if (vcpu->state.apic_base & APIC_BASE_ENABLE)
        leaf.edx |= 1u << 9;
    if (model->vcpus > 1)
        leaf.edx |= 1u << 28; // HTT: the count in EBX is valid
    return leaf;
}

static struct cpuid_leaf leaf_topology(const struct cpu_model *model, const struct vcpu *vcpu,
                                       uint32_t subleaf)
{
    struct cpuid_leaf leaf = {.ecx = subleaf, .edx = vcpu->index};

    if (subleaf == 0) { // threads
        leaf.ebx = 1;
        leaf.ecx |= 1u << 8;
    } else if (subleaf == 1) { // cores
        leaf.eax = model->core_bits;
        leaf.ebx = model->vcpus;
        leaf.ecx |= 2u << 8;
    }
    return leaf;
}

static uint32_t xsave_bytes(uint64_t xcr0)
{
    return xcr0 & 4 ? XSAVE_BYTES : 576;
}

static struct cpuid_leaf leaf_xsave(const struct cpu_model *model, const struct vcpu *vcpu,
                                    uint32_t subleaf)
{
    uint32_t supported = offers(model, CPU_FEATURE_AVX) ? 7 : 3;

    if (!offers(model, CPU_FEATURE_XSAVE))
        return (struct cpuid_leaf){0};
    if (subleaf == 0)
        return (struct cpuid_leaf){
            .eax = supported, .ebx = xsave_bytes(vcpu->state.xcr0), .ecx = xsave_bytes(supported)};
    if (subleaf == 1)
        return (struct cpuid_leaf){
            .ebx = offers(model, CPU_FEATURE_XSAVEC) ? xsave_bytes(vcpu->state.xcr0) : 0};
    if (subleaf == 2 && (supported & 4))
        return (struct cpuid_leaf){.eax = 256, .ebx = 576};
    return (struct cpuid_leaf){0};
}

static struct cpuid_leaf leaf_hypervisor(const struct cpu_model *model, uint32_t number)
{
    // Clock source (both kinds of MSR), no delay for port I/O, paravirtual EOI, stable clock.
    const uint32_t features = 1u << 0 | 1u << 1 | 1u << 3 | 1u << 6 | 1u << 24;

    if (number == HYPERVISOR)
        return (struct cpuid_leaf){HYPERVISOR + 0x10, 0x4B4D564B, 0x564B4D56, 0x4D}; // "KVMKVMKVM"
    if (number == HYPERVISOR + 1)
        return (struct cpuid_leaf){.eax = features};
    if (number == HYPERVISOR + 0x10)
        return (struct cpuid_leaf){.eax = (uint32_t)(model->tsc_hz / 1000), .ebx = APIC_BUS_KHZ};
    return (struct cpuid_leaf){0};
}

// 8000_001D, and the same numbers in the older 8000_0005 and 8000_0006.
static struct cpuid_leaf leaf_cache(const struct cpu_model *model, uint32_t subleaf)
{
    static const struct {
        uint8_t type, level;
        bool shared;
        uint32_t ways, sets;
    } caches[] = {{1, 1, false, 8, 64},
                  {2, 1, false, 8, 64},
                  {3, 2, false, 8, 2048},
                  {3, 3, true, 16, 32768}};

    if (subleaf >= ARRAY_LENGTH(caches))
        return (struct cpuid_leaf){0};
    uint32_t sharing = caches[subleaf].shared ? model->vcpus - 1 : 0;
    return (struct cpuid_leaf){
        .eax =
            caches[subleaf].type | (uint32_t)caches[subleaf].level << 5 | 1u << 8 | sharing << 14,
        .ebx = 63 | (caches[subleaf].ways - 1) << 22,
        .ecx = caches[subleaf].sets - 1,
    };
}

static struct cpuid_leaf leaf_brand(uint32_t number)
{
    static const char brand[48] = "AMD EPYC compatible (wirt)";
    const char *part = brand + (number - 0x80000002) * 16;

    return (struct cpuid_leaf){load_le32(part), load_le32(part + 4), load_le32(part + 8),
                               load_le32(part + 12)};
}

static struct cpuid_leaf leaf_extended_1(const struct cpu_model *model)
{
    struct cpuid_leaf leaf = {.eax = SIGNATURE};

    leaf.ecx = 1u << 7 | 1u << 22;              // misaligned SSE, topology extensions
    leaf.ecx |= model->vcpus > 1 ? 1u << 1 : 0; // CmpLegacy: several cores, not threads
    leaf.edx = 1u << 5 | 1u << 9 | 1u << 14;    // MSR, APIC, MCA
    leaf.edx |=
        offers(model, CPU_FEATURE_SSE) ? 1u << 22 | 1u << 25 : 0; // MMX extensions, fast FXSAVE
    // The features of leaf 1 that AMD repeats here.
    static const uint8_t repeated[] = {
        CPU_FEATURE_FPU, CPU_FEATURE_DE,    CPU_FEATURE_PSE,  CPU_FEATURE_TSC, CPU_FEATURE_PAE,
        CPU_FEATURE_MCE, CPU_FEATURE_CX8,   CPU_FEATURE_MTRR, CPU_FEATURE_PGE, CPU_FEATURE_CMOV,
        CPU_FEATURE_PAT, CPU_FEATURE_PSE36, CPU_FEATURE_MMX,  CPU_FEATURE_FXSR};
    for (size_t i = 0; i < ARRAY_LENGTH(feature_bits); i++) {
        if (memchr(repeated, feature_bits[i].feature, sizeof(repeated)) &&
            offers(model, (enum cpu_feature)feature_bits[i].feature))
            leaf.edx |= 1u << feature_bits[i].bit;
    }
    return leaf;
}

static struct cpuid_leaf leaf_sizes(const struct cpu_model *model)
{
    uint32_t linear = offers(model, CPU_FEATURE_LA57) ? 57 : 48;
    return (struct cpuid_leaf){
        .eax = PHYSICAL_BITS | linear << 8,
        .ebx = 1u << 2 | 1u << 26 | 1u << 29, // XSAVE keeps error pointers, SSB_NO, BTC_NO
        .ecx = (model->vcpus - 1) | model->core_bits << 12,
    };
}

static struct cpuid_leaf leaf_extended(const struct cpu_model *model, const struct vcpu *vcpu,
                                       uint32_t number, uint32_t subleaf)
{
    switch (number) {
    case 0x80000000:
        return from_text(MAX_EXTENDED, "AuthenticAMD");
    case 0x80000001:
        return leaf_extended_1(model);
    case 0x80000002:
    case 0x80000003:
    case 0x80000004:
        return leaf_brand(number);
    case 0x80000005:
        return (struct cpuid_leaf){0xFF40FF40, 0xFF40FF40, 0x20080140, 0x20080140};
    case 0x80000006:
        return (struct cpuid_leaf){0, 0x42004200, 0x04006140, 0x01009140};
    case 0x80000007:
        return (struct cpuid_leaf){.edx = 1u << 8}; // invariant TSC
    case 0x80000008:
        return leaf_sizes(model);
    case 0x8000001D:
        return leaf_cache(model, subleaf);
    case 0x8000001E:
        return (struct cpuid_leaf){.eax = vcpu->index, .ebx = vcpu->index};
    case 0x80000021:
        return (struct cpuid_leaf){
            // No nested data breakpoints, LFENCE serializes, a null selector clears the base, AutoIBRS, SRSO_NO.
            .eax = 1u << 0 | 1u << 2 | 1u << 6 | 1u << 8 | 1u << 29,
            .ecx = 1u << 1 | 1u << 2, // TSA_SQ_NO, TSA_L1_NO
        };
    default:
        return (struct cpuid_leaf){0};
    }
}

static struct cpuid_leaf leaf_basic(const struct cpu_model *model, const struct vcpu *vcpu,
                                    uint32_t number, uint32_t subleaf)
{
    uint32_t tsc_mhz = (uint32_t)(model->tsc_hz / 1000000);

    switch (number) {
    case 0:
        return from_text(MAX_BASIC, "AuthenticAMD");
    case 1:
        return leaf_1(model, vcpu);
    case 4:
        return leaf_cache(model, subleaf);
    case 6:
        return (struct cpuid_leaf){.eax = 1u << 2}; // the APIC timer never stops
    case 7:
        return (struct cpuid_leaf){.eax = subleaf == 0 ? 1 : 0};
    case 0xB:
        return leaf_topology(model, vcpu, subleaf);
    case 0xD:
        return leaf_xsave(model, vcpu, subleaf);
    case 0x15:
        return (struct cpuid_leaf){.eax = 1, .ebx = tsc_mhz, .ecx = 1000000};
    case 0x16:
        return (struct cpuid_leaf){.eax = tsc_mhz, .ebx = tsc_mhz, .ecx = 100};
    default:
        return (struct cpuid_leaf){0};
    }
}

static void add_features(const struct cpu_model *model, uint32_t number, uint32_t subleaf,
                         struct cpuid_leaf *leaf)
{
    uint32_t *regs[] = {&leaf->eax, &leaf->ebx, &leaf->ecx, &leaf->edx};

    for (size_t i = 0; i < ARRAY_LENGTH(feature_bits); i++) {
        const struct feature_bit *bit = &feature_bits[i];
        bool indexed = number == 7 || number == 0xD;
        if (bit->leaf == number && (!indexed || bit->subleaf == subleaf) &&
            offers(model, (enum cpu_feature)bit->feature))
            *regs[bit->reg] |= 1u << bit->bit;
    }
}

struct cpuid_leaf cpu_model_cpuid(const struct cpu_model *model, const struct vcpu *vcpu,
                                  uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_leaf answer;

    if (leaf >= HYPERVISOR && leaf < HYPERVISOR + 0x100)
        return leaf_hypervisor(model, leaf);
    answer = leaf & 0x80000000 ? leaf_extended(model, vcpu, leaf, subleaf)
                               : leaf_basic(model, vcpu, leaf, subleaf);
    add_features(model, leaf, subleaf, &answer);
    return answer;
}
