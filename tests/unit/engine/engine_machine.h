// SPDX-License-Identifier: Apache-2.0
//
// A machine without devices for tests of the engine: one vCPU in 64-bit mode at CPL 0, the first 64 MiB mapped to themselves, an IDT all of
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
#define TEST_HANDLER   0x9000ull // HLT for vector n at TEST_HANDLER + n

struct engine_machine {
    struct cpu_system system;
    struct vcpu *vcpu;
    struct vcpu *vcpus[1];
};

void engine_machine_create(struct engine_machine *machine, const struct vcpu_backend_ops *backend);
void engine_machine_destroy(struct engine_machine *machine);

// Code to TEST_CODE, registers to 0 but RSP (TEST_STACK_TOP) and RSI (TEST_DATA), and run to HLT.
void engine_machine_load(struct engine_machine *machine, const void *code, size_t bytes);
enum vcpu_exit engine_machine_run(struct engine_machine *machine);

#endif
