// SPDX-License-Identifier: Apache-2.0
//
// CPU models: what CPUID tells the guest, and with it which instructions exist.
//
// A model is made once when the machine is configured: "host" (what host and backend both support), "x86-64",
// "x86-64-v2", "x86-64-v3", then +FEATURE and -FEATURE. An instruction whose feature is not in `features` raises #UD
// in every tier. doc/security.md says which mitigation bits are offered and why.
#ifndef WIRT_MACHINE_CPU_CPU_MODEL_H
#define WIRT_MACHINE_CPU_CPU_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "machine/cpu/cpu_feature.h"

struct cpuid_leaf {
    uint32_t eax, ebx, ecx, edx;
};

struct cpu_model;

// What a backend that executes guest code on the CPU itself can let the guest have: CPUID as it answers it.
struct cpu_offer {
    const char *name; // for messages: "KVM"
    struct cpuid_leaf (*cpuid)(const struct cpu_offer *offer, uint32_t leaf, uint32_t subleaf);
};

// `name` ("host", or with changes behind it: "host,+la57") and `changes` ("+avx2,-pcid", may be NULL) as the user wrote them. `vcpus` shapes the topology leaves; `tsc_hz`
// the frequency leaves. `offer` NULL: the engine executes, its limits apply. Else a feature must be one that the engine has, so that a machine can move
// between both, and one that is offered.
struct cpu_model *cpu_model_create(const char *name, const char *changes, unsigned vcpus,
                                   uint64_t tsc_hz, const struct cpu_offer *offer, struct err *err);
void cpu_model_destroy(struct cpu_model *model);

// CPUID as executed by a vCPU in a given state (OSXSAVE, APIC bits and the XSAVE sizes follow CR4, XCR0 and APIC base).
struct vcpu;
struct cpuid_leaf cpu_model_cpuid(const struct cpu_model *model, const struct vcpu *vcpu,
                                  uint32_t leaf, uint32_t subleaf);

const struct cpu_feature_set *cpu_model_features(const struct cpu_model *model);
unsigned cpu_model_physical_bits(const struct cpu_model *model); // MAXPHYADDR

#endif
