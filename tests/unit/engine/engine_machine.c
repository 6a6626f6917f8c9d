// SPDX-License-Identifier: Apache-2.0
#include "engine_machine.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bits.h"
#include "machine/engine/engine.h"

#define TABLES 0x1000ull // PML4, PDPT, PD
#define GDT    0x5000ull
#define IDT    0x6000ull

static void poke(struct engine_machine *machine, uint64_t at, const void *bytes, size_t length)
{
    int failed = guest_memory_write(machine->system.memory, gpa(at), bytes, length);
    assert(!failed);
    (void)failed;
}

static void poke64(struct engine_machine *machine, uint64_t at, uint64_t value)
{
    poke(machine, at, &value, sizeof(value));
}

static void make_tables(struct engine_machine *machine)
{
    static const uint8_t hlt[256] = {[0 ... 255] = 0xF4};

    poke64(machine, TABLES, (TABLES + 0x1000) | 7);
    poke64(machine, TABLES + 0x1000, (TABLES + 0x2000) | 7);
    for (uint64_t i = 0; i < TEST_RAM_BYTES >> 21; i++)
        poke64(machine, TABLES + 0x2000 + 8 * i, i << 21 | 0x87);
    poke64(machine, GDT + 8, 0x00AF9B000000FFFFull);
    poke64(machine, GDT + 16, 0x00CF93000000FFFFull);
    for (uint64_t vector = 0; vector < 256; vector++) {
        uint64_t handler = TEST_HANDLER + vector;
        poke64(machine, IDT + 16 * vector,
               (handler & 0xFFFF) | 8 << 16 | 0x8E0000000000ull | (handler >> 16) << 48);
        poke64(machine, IDT + 16 * vector + 8, 0);
    }
    poke(machine, TEST_HANDLER, hlt, sizeof(hlt));
}

static void set_mode(struct cpu_state *state)
{
    struct segment data = {.limit = UINT32_MAX, .attributes = 0xC093, .selector = 16};

    state->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    state->cr3 = TABLES;
    state->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    state->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    state->xcr0 = XCR0_SUPPORTED;
    store_le16(state->xsave, 0x37F); // as after FNINIT
    state->gdtr = (struct descriptor_table){GDT, 23};
    state->idtr = (struct descriptor_table){IDT, 4095};
    state->segment[SEG_CS] =
        (struct segment){.limit = UINT32_MAX, .attributes = 0xA09B, .selector = 8};
    state->segment[SEG_DS] = state->segment[SEG_ES] = state->segment[SEG_SS] = data;
    state->segment[SEG_FS] = state->segment[SEG_GS] = data;
    state->segment[SEG_FS].base = TEST_DATA + 0x1000;
    state->segment[SEG_GS].base = TEST_DATA + 0x2000;
}

void engine_machine_create_smp(struct engine_machine *machine,
                               const struct vcpu_backend_ops *backend, unsigned cpus,
                               uint32_t code_cache_bytes)
{
    struct err err = {0};

    assert(cpus <= TEST_CPUS_MAX);
    *machine = (struct engine_machine){.system.backend = backend,
                                       .system.vcpu_count = cpus,
                                       .system.code_cache_bytes = code_cache_bytes};
    machine->system.vcpus = machine->vcpus;
    machine->system.memory = guest_memory_create(TEST_RAM_BYTES, -1, &err);
    machine->system.ports = bus_create(BUS_PORT);
    machine->system.mmio = bus_create(BUS_MMIO);
    machine->system.clock = vm_clock_create(false, 1000000000, NULL, NULL);
    machine->system.model = cpu_model_create("host", NULL, cpus, 1000000000, NULL, &err);
    for (unsigned i = 0; i < cpus; i++) {
        if (machine->system.memory && machine->system.model)
            machine->vcpus[i] = vcpu_create(&machine->system, i, &err);
        if (!machine->vcpus[i]) {
            fprintf(stderr, "%s\n", err.text);
            abort();
        }
    }
    machine->vcpu = machine->vcpus[0];
    make_tables(machine);
}

void engine_machine_create(struct engine_machine *machine, const struct vcpu_backend_ops *backend)
{
    engine_machine_create_smp(machine, backend, 1, 0);
}

void engine_machine_destroy(struct engine_machine *machine)
{
    for (unsigned i = 0; i < machine->system.vcpu_count; i++)
        vcpu_destroy(machine->vcpus[i]);
    cpu_model_destroy((struct cpu_model *)(uintptr_t)machine->system.model);
    vm_clock_destroy(machine->system.clock);
    bus_destroy(machine->system.mmio);
    bus_destroy(machine->system.ports);
    guest_memory_destroy(machine->system.memory);
}

void engine_machine_start_at(struct engine_machine *machine, unsigned cpu, uint64_t rip)
{
    struct cpu_state *state = &machine->vcpus[cpu]->state;

    cpu_state_reset(state, false, true);
    set_mode(state);
    for (unsigned i = 0; i < GPR_COUNT; i++)
        state->gpr[i] = 0;
    state->gpr[RSP] = TEST_STACK_TOP - 0x10000ull * cpu;
    state->gpr[RSI] = TEST_DATA;
    state->rip = rip;
    state->rflags = FLAG_FIXED1;
    machine->system.backend->state_changed(machine->vcpus[cpu]);
}

void engine_machine_load(struct engine_machine *machine, const void *code, size_t bytes)
{
    poke(machine, TEST_CODE, code, bytes);
    engine_machine_start_at(machine, 0, TEST_CODE);
}

enum vcpu_exit engine_machine_run(struct engine_machine *machine)
{
    return machine->system.backend->run(machine->vcpu);
}
