// SPDX-License-Identifier: Apache-2.0
#include "small_machine.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "machine/cpu/cpu_model.h"
#include "machine/device/bus.h"
#include "machine/device/vm_clock.h"
#include "machine/engine/engine.h"

#define RAM_BYTES  (4 * MIB)
#define GDT_AT     (TABLES_AT + 0x4000)
#define IDT_AT     (TABLES_AT + 0x5000)
#define CODE_SEL   0x08
#define DATA_SEL   0x10
#define HLT_OPCODE 0xf4

static void store(struct small_machine *machine, uint64_t at, uint64_t value)
{
    memcpy(machine->ram + at, &value, sizeof(value));
}

// One PML4, one PDPT, one page directory of 2 MiB pages.
static void write_page_tables(struct small_machine *machine)
{
    store(machine, TABLES_AT, (TABLES_AT + 0x1000) | 7);
    store(machine, TABLES_AT + 0x1000, (TABLES_AT + 0x2000) | 7);
    for (unsigned i = 0; i < 512; i++)
        store(machine, TABLES_AT + 0x2000 + 8 * i, (uint64_t)i << 21 | 0x87);
}

static void write_gates(struct small_machine *machine, unsigned code_bits)
{
    for (unsigned vector = 0; vector < 256; vector++) {
        uint64_t handler = HANDLERS_AT + 16 * vector;
        machine->ram[handler] = HLT_OPCODE;
        uint64_t type = code_bits == 16 ? 0x86 : 0x8e; // 16-bit or 32/64-bit interrupt gate
        uint64_t gate = (handler & 0xffff) | CODE_SEL << 16 | type << 40 | (handler >> 16) << 48;
        if (code_bits == 64) {
            store(machine, IDT_AT + 16 * vector, gate);
            store(machine, IDT_AT + 16 * vector + 8, 0);
        } else {
            store(machine, IDT_AT + 8 * vector, gate);
        }
    }
}

static void set_mode(struct small_machine *machine, unsigned code_bits)
{
    struct cpu_state *cpu = &machine->vcpu->state;
    uint32_t mode = code_bits == 64 ? SEG_L : code_bits == 32 ? SEG_DB : 0;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        cpu->segment[i] = (struct segment){.limit = UINT32_MAX,
                                           .attributes = SEG_P | SEG_S | 3 | SEG_DB | SEG_G,
                                           .selector = DATA_SEL};
    cpu->segment[SEG_CS] = (struct segment){.limit = UINT32_MAX,
                                            .attributes = SEG_P | SEG_S | 0xb | mode | SEG_G,
                                            .selector = CODE_SEL};
    store(machine, GDT_AT + CODE_SEL,
          0x008f9b000000ffff | (uint64_t)(code_bits == 64   ? 0x20
                                          : code_bits == 32 ? 0x40
                                                            : 0)
                                   << 48);
    store(machine, GDT_AT + DATA_SEL, 0x00cf93000000ffff);
    cpu->gdtr = (struct descriptor_table){GDT_AT, 0xff};
    cpu->idtr = (struct descriptor_table){IDT_AT, 0xfff};
    cpu->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_MP;
    cpu->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_PAE;
    cpu->xcr0 = XCR0_SUPPORTED;
    if (code_bits == 64) {
        cpu->cr3 = TABLES_AT;
        cpu->cr0 |= CR0_PG | CR0_WP;
        cpu->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    }
}

struct small_machine *small_machine_create(unsigned code_bits)
{
    struct small_machine *machine = calloc(1, sizeof(*machine));
    struct cpu_system *system = &machine->system;
    system->memory = guest_memory_create(RAM_BYTES, -1, NULL);
    machine->ram = guest_memory_map(system->memory, gpa(0), RAM_BYTES, true);
    system->ports = bus_create(BUS_PORT);
    system->mmio = bus_create(BUS_MMIO);
    system->clock = vm_clock_create(false, 1000000000, NULL, NULL);
    system->model = cpu_model_create("host", NULL, 1, 1000000000, NULL, NULL);
    system->backend = &interpreter_backend;
    system->vcpus = machine->vcpus;
    system->vcpu_count = 1;
    machine->vcpu = machine->vcpus[0] = vcpu_create(system, 0, NULL);
    assert(machine->vcpu);
    write_page_tables(machine);
    write_gates(machine, code_bits);
    set_mode(machine, code_bits);
    return machine;
}

void small_machine_destroy(struct small_machine *machine)
{
    struct cpu_system *system = &machine->system;
    vcpu_destroy(machine->vcpu);
    cpu_model_destroy((struct cpu_model *)(uintptr_t)system->model);
    vm_clock_destroy(system->clock);
    bus_destroy(system->mmio);
    bus_destroy(system->ports);
    guest_memory_destroy(system->memory);
    free(machine);
}

void small_machine_code(struct small_machine *machine, const void *bytes, unsigned length)
{
    memcpy(machine->ram + CODE_AT, bytes, length);
    machine->ram[CODE_AT + length] = HLT_OPCODE;
    machine->vcpu->state.rip = CODE_AT;
}

int small_machine_run(struct small_machine *machine)
{
    struct cpu_state *cpu = &machine->vcpu->state;
    cpu->run_state = CPU_RUNNING;
    cpu->gpr[RSP] = cpu->gpr[RSP] ? cpu->gpr[RSP] : STACK_AT;
    machine->system.backend->state_changed(machine->vcpu);
    machine->vcpu->instruction_limit = atomic_load(&machine->vcpu->instructions) + 1000000;
    enum vcpu_exit exit = machine->system.backend->run(machine->vcpu);
    if (exit != VCPU_EXIT_HALT)
        return SHUT_DOWN;
    uint64_t stopped_at = cpu->rip - 1;
    if (stopped_at >= HANDLERS_AT && stopped_at < HANDLERS_AT + 16 * 256)
        return (int)(stopped_at - HANDLERS_AT) / 16;
    return STOPPED;
}
