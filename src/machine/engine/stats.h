// SPDX-License-Identifier: Apache-2.0
//
// What makes guest code leave the straight path, counted per vCPU (engine_cpu.exits) for --stats.
#ifndef WIRT_MACHINE_ENGINE_STATS_H
#define WIRT_MACHINE_ENGINE_STATS_H

#include "machine/cpu/vcpu.h"

enum engine_exit_reason {
    ENGINE_EXIT_PORT,      // IN, OUT and their string forms
    ENGINE_EXIT_MMIO,      // an access to a device's memory
    ENGINE_EXIT_HALT,      // HLT
    ENGINE_EXIT_INTERRUPT, // an external interrupt or NMI was delivered
    ENGINE_EXIT_EXCEPTION, // an exception was delivered
    ENGINE_EXIT_MSR,       // RDMSR, WRMSR
    ENGINE_EXIT_CONTROL,   // a control register was written
    ENGINE_EXIT_SMC,       // a store hit translated code
    ENGINE_EXIT_COUNT
};

// For the backends' tables.
const char *engine_exit_name(unsigned reason); // "port", …
uint64_t engine_exits(const struct vcpu *vcpu, unsigned reason);
uint64_t engine_instructions(const struct vcpu *vcpu, enum vcpu_tier tier);

#endif
