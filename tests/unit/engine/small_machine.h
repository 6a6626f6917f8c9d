// SPDX-License-Identifier: Apache-2.0
//
// A machine of one CPU and 4 MiB of RAM without devices, for tests that run a few bytes of guest code.
//
// Code is placed at CODE_AT in a flat code segment of the chosen mode at CPL 0; in 64-bit mode all memory is mapped one to one. Each exception
// vector leads to a HLT of its own, so that a test sees where the CPU stopped: small_machine_run() returns the vector, or STOPPED for the HLT
// that ends the test's own code.
#ifndef WIRT_TESTS_UNIT_ENGINE_SMALL_MACHINE_H
#define WIRT_TESTS_UNIT_ENGINE_SMALL_MACHINE_H

#include "machine/cpu/vcpu.h"
#include "machine/memory/guest_memory.h"

#define CODE_AT     0x10000u
#define DATA_AT     0x30000u
#define STACK_AT    0x28000u
#define HANDLERS_AT 0x20000u
#define TABLES_AT   0x1000u // page tables, IDT, GDT
#define STOPPED     (-1)
#define SHUT_DOWN   (-2)

struct small_machine {
    struct cpu_system system;
    struct vcpu *vcpu;
    struct vcpu *vcpus[1];
    uint8_t *ram;
};

struct small_machine *small_machine_create(unsigned code_bits);
void small_machine_destroy(struct small_machine *machine);

// The bytes at CODE_AT with a HLT behind them, and RIP there.
void small_machine_code(struct small_machine *machine, const void *bytes, unsigned length);
int small_machine_run(struct small_machine *machine);

// small_machine_code() and small_machine_run(), for bytes written as arguments.
#define EXECUTE(machine, ...)                                                                      \
    (small_machine_code(machine, (const uint8_t[]){__VA_ARGS__},                                   \
                        sizeof((const uint8_t[]){__VA_ARGS__})),                                   \
     small_machine_run(machine))

#endif
