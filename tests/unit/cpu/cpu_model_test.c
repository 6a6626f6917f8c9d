// SPDX-License-Identifier: Apache-2.0
//
// CPUID: what every model must say and must not say; and the refusal of wrong models.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "machine/cpu/cpu_model.h"
#include "machine/cpu/vcpu.h"

#define TSC_HZ 2596000000ull

static struct vcpu vcpu; // only its state and index are looked at

static struct cpu_model *create(const char *name, const char *changes, unsigned vcpus)
{
    struct err err = {0};
    struct cpu_model *model = cpu_model_create(name, changes, vcpus, TSC_HZ, NULL, &err);
    if (!model)
        fail_msg("%s", err.text);
    cpu_state_reset(&vcpu.state, false, true);
    vcpu.state.apic_base = 0xFEE00900;
    vcpu.index = 0;
    return model;
}

static struct cpuid_leaf leaf(const struct cpu_model *model, uint32_t number, uint32_t sub)
{
    return cpu_model_cpuid(model, &vcpu, number, sub);
}

static bool has(const struct cpu_model *model, enum cpu_feature feature)
{
    return cpu_feature_set_has(cpu_model_features(model), feature);
}

static void vendor_and_ranges(void **state)
{
    struct cpu_model *model = create("host", NULL, 1);
    struct cpuid_leaf zero = leaf(model, 0, 0);
    char vendor[13] = {0};

    memcpy(vendor, &zero.ebx, 4);
    memcpy(vendor + 4, &zero.edx, 4);
    memcpy(vendor + 8, &zero.ecx, 4);
    assert_string_equal(vendor, "AuthenticAMD");
    assert_int_equal(zero.eax, 0x16);
    assert_int_equal(leaf(model, 0x80000000, 0).eax, 0x80000021);
    static const uint32_t beyond[] = {0x17,       0x1000,     0x3FFFFFFF, 0x80000022,
                                      0x8FFFFFFF, 0xC0000000, 0xFFFFFFFF};
    for (unsigned i = 0; i < ARRAY_LENGTH(beyond); i++) {
        struct cpuid_leaf got = leaf(model, beyond[i], 0);
        assert_int_equal(got.eax | got.ebx | got.ecx | got.edx, 0);
    }
    cpu_model_destroy(model);
}

static void hypervisor_leaves(void **state)
{
    struct cpu_model *model = create("x86-64", NULL, 1);
    struct cpuid_leaf base = leaf(model, 0x40000000, 0);

    assert_memory_equal(&base.ebx, "KVMK", 4);
    assert_memory_equal(&base.ecx, "VMKV", 4);
    assert_memory_equal(&base.edx, "M\0\0\0", 4);
    assert_int_equal(base.eax, 0x40000010);
    assert_true(leaf(model, 1, 0).ecx >> 31);
    uint32_t features = leaf(model, 0x40000001, 0).eax;
    assert_int_equal(features & (1u << 3 | 1u << 6 | 1u << 24), 1u << 3 | 1u << 6 | 1u << 24);
    assert_int_equal(features & (1u << 5 | 1u << 7 | 1u << 9 | 1u << 11), 0); // what is not there
    assert_int_equal(leaf(model, 0x40000010, 0).eax, TSC_HZ / 1000);
    assert_int_equal(leaf(model, 0x40000010, 0).ebx, 1000000);
    cpu_model_destroy(model);
}

static void no_useless_mitigation(void **state)
{
    struct cpu_model *model = create("x86-64", NULL, 1);

    assert_true(leaf(model, 0x80000021, 0).eax & 1u << 8);  // AutoIBRS
    assert_true(leaf(model, 0x80000021, 0).eax & 1u << 29); // SRSO_NO
    assert_true(leaf(model, 0x80000008, 0).ebx & 1u << 26); // SSB_NO
    assert_true(leaf(model, 0x80000008, 0).ebx & 1u << 29); // BTC_NO
    assert_int_equal(leaf(model, 0x80000008, 0).ebx & (1u << 12 | 1u << 14 | 1u << 15 | 1u << 24),
                     0); // IBPB, IBRS, STIBP, SSBD
    assert_int_equal(leaf(model, 7, 0).edx & (7u << 26 | 1u << 31), 0);
    cpu_model_destroy(model);
}

static void what_the_engine_lacks_is_not_offered(void **state)
{
    struct cpu_model *model = create("host", NULL, 1);
    const uint32_t avx512 =
        1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31;

    assert_int_equal(leaf(model, 7, 0).ebx & avx512, 0);
    assert_int_equal(leaf(model, 7, 0).ebx & (1u << 4 | 1u << 11 | 1u << 14), 0); // HLE, RTM, MPX
    assert_int_equal(leaf(model, 7, 0).ecx & (1u << 3 | 1u << 4 | 1u << 7), 0);   // PKU, OSPKE, CET
    assert_int_equal(leaf(model, 1, 0).ecx & (1u << 3 | 1u << 5), 0);             // MONITOR, VMX
    assert_int_equal(leaf(model, 0x80000001, 0).ecx & 1u << 2, 0);                // SVM
    assert_int_equal(leaf(model, 0xD, 0).eax & ~7u, 0);
    assert_int_equal(leaf(model, 0xA, 0).eax, 0); // performance counters
    assert_false(has(model, CPU_FEATURE_LA57));   // only on request
    cpu_model_destroy(model);
}

static void cpuid_and_the_feature_set_agree(void **state)
{
    struct cpu_model *model = create("x86-64-v2", "+rdrand,-pcid", 2);

    assert_true(leaf(model, 1, 0).ecx & 1u << 30);
    assert_true(has(model, CPU_FEATURE_RDRAND));
    assert_true(leaf(model, 1, 0).ecx & 1u << 20);  // SSE4.2
    assert_false(leaf(model, 1, 0).ecx & 1u << 28); // no AVX in this level
    assert_false(leaf(model, 1, 0).ecx & 1u << 17);
    assert_true(leaf(model, 0x80000001, 0).edx & 1u << 29);
    cpu_model_destroy(model);
}

static void dynamic_bits(void **state)
{
    struct cpu_model *model = create("host", NULL, 1);

    assert_false(leaf(model, 1, 0).ecx & 1u << 27);
    vcpu.state.cr4 |= CR4_OSXSAVE;
    assert_true(leaf(model, 1, 0).ecx & 1u << 27);
    assert_true(leaf(model, 1, 0).edx & 1u << 9);
    vcpu.state.apic_base &= ~0x800ull;
    assert_false(leaf(model, 1, 0).edx & 1u << 9);
    if (has(model, CPU_FEATURE_AVX)) {
        vcpu.state.xcr0 = 3;
        assert_int_equal(leaf(model, 0xD, 0).ebx, 576);
        assert_int_equal(leaf(model, 0xD, 0).ecx, XSAVE_BYTES);
        vcpu.state.xcr0 = 7;
        assert_int_equal(leaf(model, 0xD, 0).ebx, XSAVE_BYTES);
        assert_int_equal(leaf(model, 0xD, 2).eax, 256);
        assert_int_equal(leaf(model, 0xD, 2).ebx, 576);
    }
    cpu_model_destroy(model);
}

static void topology(void **state)
{
    struct cpu_model *model = create("x86-64", NULL, 6);

    vcpu.index = 5;
    assert_int_equal(leaf(model, 1, 0).ebx >> 24, 5);
    assert_int_equal(leaf(model, 1, 0).ebx >> 16 & 0xFF, 6);
    assert_int_equal(leaf(model, 0xB, 0).edx, 5);
    assert_int_equal(leaf(model, 0xB, 0).eax, 0);
    assert_int_equal(leaf(model, 0xB, 1).eax, 3); // six cores need three bits
    assert_int_equal(leaf(model, 0xB, 1).ebx, 6);
    assert_int_equal(leaf(model, 0xB, 2).ecx >> 8, 0); // the end
    assert_int_equal(leaf(model, 0x80000008, 0).ecx & 0xFF, 5);
    assert_int_equal(leaf(model, 0x80000008, 0).eax & 0xFF, cpu_model_physical_bits(model));
    cpu_model_destroy(model);
}

static void removing_a_feature_removes_what_needs_it(void **state)
{
    struct cpu_model *model = create("host", "-avx", 1);

    assert_false(has(model, CPU_FEATURE_AVX));
    assert_false(has(model, CPU_FEATURE_AVX2));
    assert_false(has(model, CPU_FEATURE_FMA));
    assert_false(has(model, CPU_FEATURE_VAES));
    assert_int_equal(leaf(model, 0xD, 0).eax, 3);
    cpu_model_destroy(model);
}

static void expect_refusal(const char *name, const char *changes, const char *text)
{
    struct err err = {0};

    assert_null(cpu_model_create(name, changes, 1, TSC_HZ, NULL, &err));
    assert_int_equal(err.code, ERR_USAGE);
    if (!strstr(err.text, text))
        fail_msg("\"%s\" does not mention \"%s\"", err.text, text);
}

static void wrong_models_are_refused(void **state)
{
    expect_refusal("pentium", NULL, "pentium");
    expect_refusal("host", "+nosuch", "nosuch");
    expect_refusal("host", "avx", "+NAME");
    expect_refusal("host", "+", "+NAME");
    expect_refusal("host", "+pku", "pku");
    expect_refusal("host", "-base", "base");
    expect_refusal("host", "-pcid,,+smep", "+NAME");
    expect_refusal("", NULL, "");
}

static void changes_may_follow_the_name(void **state)
{
    struct cpu_model *model = create("x86-64,+sse3,-sep", "+rdtscp", 1);

    assert_true(has(model, CPU_FEATURE_SSE3));
    assert_false(has(model, CPU_FEATURE_SEP));
    assert_true(has(model, CPU_FEATURE_RDTSCP));
    assert_true(has(model, CPU_FEATURE_PREFETCHW)); // goes with LM
    cpu_model_destroy(model);
    expect_refusal("host,avx", NULL, "+NAME");
    expect_refusal("host,", "+nosuch", "nosuch");
}

static void names_with_underscores_are_understood(void **state)
{
    struct cpu_model *model = create("x86-64-v2", "-sse4_2,+la57", 1);

    assert_false(has(model, CPU_FEATURE_SSE4_2));
    assert_true(has(model, CPU_FEATURE_LA57));
    assert_int_equal(leaf(model, 0x80000008, 0).eax >> 8 & 0xFF, 57);
    cpu_model_destroy(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vendor_and_ranges),
        cmocka_unit_test(hypervisor_leaves),
        cmocka_unit_test(no_useless_mitigation),
        cmocka_unit_test(what_the_engine_lacks_is_not_offered),
        cmocka_unit_test(cpuid_and_the_feature_set_agree),
        cmocka_unit_test(dynamic_bits),
        cmocka_unit_test(topology),
        cmocka_unit_test(removing_a_feature_removes_what_needs_it),
        cmocka_unit_test(wrong_models_are_refused),
        cmocka_unit_test(changes_may_follow_the_name),
        cmocka_unit_test(names_with_underscores_are_understood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
