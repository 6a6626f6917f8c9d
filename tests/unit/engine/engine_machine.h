// SPDX-License-Identifier: Apache-2.0
//
// A machine without devices for tests of the engine: a vCPU or several in 64-bit mode at CPL 0, the first 64 MiB mapped to themselves, an IDT all of
// whose gates lead to HLT.
#ifndef WIRT_TESTS_ENGINE_MACHINE_H
#define WIRT_TESTS_ENGINE_MACHINE_H

#include "machine/cpu/cpu_model.h"
#include "machine/cpu/vcpu.h"
#include "machine/device/bus.h"
#include "machine/device/vm_clock.h"
#include "machine/memory/guest_memory.h"

#define TEST_RAM_BYTES (64ull << 20)
#define TEST_CODE      0x100000ull
#define TEST_DATA      0x200000ull
#define TEST_STACK_TOP 0x300000ull
#define TEST_CPUS_MAX  4
#define TEST_TABLE     0x3000ull // page directory of the first GiB
#define TEST_HANDLER   0x9000ull // HLT for vector n at TEST_HANDLER + n

struct engine_machine {
    struct cpu_system system;
    struct vcpu *vcpu; // the first
    struct vcpu *vcpus[TEST_CPUS_MAX];
};

// `code_cache_bytes` 0: the engine's default.
void engine_machine_create_smp(struct engine_machine *machine,
                               const struct vcpu_backend_ops *backend, unsigned cpus,
                               uint32_t code_cache_bytes);
void engine_machine_create(struct engine_machine *machine, const struct vcpu_backend_ops *backend);
void engine_machine_destroy(struct engine_machine *machine);

// Code to TEST_CODE, registers to 0 but RSP (TEST_STACK_TOP) and RSI (TEST_DATA), and run to HLT.
void engine_machine_load(struct engine_machine *machine, const void *code, size_t bytes);
// The same registers for one vCPU, to begin at `rip`.
void engine_machine_start_at(struct engine_machine *machine, unsigned cpu, uint64_t rip);
enum vcpu_exit engine_machine_run(struct engine_machine *machine);

#endif
