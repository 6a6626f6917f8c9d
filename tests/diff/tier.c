// SPDX-License-Identifier: Apache-2.0
//
// See tier.h. Each exception's handler is one HLT in supervisor mode: the vCPU leaves its run loop there, the address
// says the vector and the frame on the stack the rest. The INT3 behind a completed instruction is such an exception, too.
#include "tier.h"

#include "base/bits.h"
#include "machine/cpu/cpu_model.h"
#include "machine/cpu/vcpu.h"
#include "machine/device/bus.h"
#include "machine/device/vm_clock.h"
#include "machine/engine/engine.h"
#include "machine/memory/guest_memory.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define RAM_BYTES (2ull << 20)
#define TSC_HZ    1000000000ull

// Guest physical addresses; all of them are mapped from KERNEL up for the supervisor.
enum {
    PML4 = 0x1000,
    PDPT = 0x2000,
    KERNEL_DIRECTORY = 0x3000,
    AREA_DIRECTORY = 0x4000,
    AREA_TABLE = 0x5000,
    GDT = 0x6000,
    IDT = 0x7000,
    TSS = 0x8000,
    HANDLERS = 0x9000,
    STACK_TOP = 0xC000,
    CODE_PAGE = 0x10000,
    DATA_PAGE_0 = 0x12000, // not side by side, as the linear pages are
    DATA_PAGE_1 = 0x14000,
    READ_ONLY_PAGE = 0x15000,
};

enum { HANDLER_BYTES = 16, VECTORS = 32, GDT_BYTES = 10 * 8 };
enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_LARGE = 0x80 };
#define PTE_NX BIT(63)
#define KERNEL 0xFFFFFFFF80000000ull

struct tier {
    struct cpu_system system;
    struct vcpu *vcpu;
    struct vcpu *vcpus[1];
    struct cpu_model *model;
};

// ---- The machine ----

static void put(struct tier *tier, uint64_t at, const void *bytes, size_t length)
{
    int failed = guest_memory_write(tier->system.memory, gpa(at), bytes, length);
    assert(!failed);
}

static void put64(struct tier *tier, uint64_t at, uint64_t value)
{
    put(tier, at, &value, sizeof(value));
}

static uint64_t get64(struct tier *tier, uint64_t at)
{
    uint64_t value;
    int failed = guest_memory_read(tier->system.memory, gpa(at), &value, sizeof(value));
    assert(!failed);
    return value;
}

static void map_area(struct tier *tier, uint64_t linear, uint64_t physical, uint64_t flags)
{
    put64(tier, AREA_TABLE + 8 * (linear >> 12 & 511), physical | flags | PTE_P | PTE_U);
}

static void make_page_tables(struct tier *tier)
{
    put64(tier, PML4, PDPT | PTE_P | PTE_W | PTE_U);
    put64(tier, PML4 + 8 * 511, PDPT | PTE_P | PTE_W | PTE_U); // one table serves both halves
    put64(tier, PDPT + 8 * 510, KERNEL_DIRECTORY | PTE_P | PTE_W | PTE_U);
    put64(tier, PDPT + 8, AREA_DIRECTORY | PTE_P | PTE_W | PTE_U);
    put64(tier, KERNEL_DIRECTORY, PTE_P | PTE_W | PTE_LARGE);
    put64(tier, AREA_DIRECTORY, AREA_TABLE | PTE_P | PTE_W | PTE_U);
    map_area(tier, CODE_ADDRESS, CODE_PAGE, 0);
    map_area(tier, DATA_ADDRESS, DATA_PAGE_0, PTE_W | PTE_NX);
    map_area(tier, DATA_ADDRESS + AREA_PAGE, DATA_PAGE_1, PTE_W | PTE_NX);
    map_area(tier, READ_ONLY_ADDRESS, READ_ONLY_PAGE, PTE_NX);
}

static void make_descriptor_tables(struct tier *tier)
{
    put64(tier, GDT + 0x08, 0x00AF9B000000FFFF);
    put64(tier, GDT + (SELECTOR_CODE_32 & ~7), 0x00CFFB000000FFFF);
    put64(tier, GDT + (SELECTOR_DATA & ~7), 0x00CFF3000000FFFF);
    put64(tier, GDT + (SELECTOR_CODE_64 & ~7), 0x00AFFB000000FFFF);
    put64(tier, TSS + 4, KERNEL + STACK_TOP); // RSP0
    put64(tier, TSS + 0x60, 0xFFFFull << 48); // no I/O permission bitmap
    for (uint64_t vector = 0; vector < VECTORS; vector++) {
        uint64_t handler = HANDLERS + HANDLER_BYTES * vector;
        uint64_t access = vector == EXC_BP || vector == EXC_OF ? 0xEE00 : 0x8E00;
        uint64_t linear = KERNEL + handler;
        put64(tier, IDT + 16 * vector,
              (linear & 0xFFFF) | 8 << 16 | access << 32 | (linear >> 16 & 0xFFFF) << 48);
        put64(tier, IDT + 16 * vector + 8, linear >> 32);
        put(tier, handler, "\xF4", 1);
    }
}

static void fill_read_only(struct tier *tier)
{
    uint8_t page[AREA_PAGE];
    diff_fill_read_only(page);
    put(tier, READ_ONLY_PAGE, page, sizeof(page));
}

static const struct vcpu_backend_ops *backend_of(const char *name)
{
    static const struct vcpu_backend_ops *const backends[] = {&interpreter_backend,
                                                              &engine_backend};
    for (unsigned i = 0; i < ARRAY_LENGTH(backends); i++) {
        if (strcmp(backends[i]->name, name) == 0)
            return backends[i];
    }
    return NULL;
}

struct tier *tier_create(const char *name, const char *model)
{
    struct err err = {0};
    struct tier *tier = calloc(1, sizeof(*tier));
    assert(tier);
    struct cpu_system *system = &tier->system;
    tier->model = cpu_model_create(model, NULL, 1, TSC_HZ, NULL, &err);
    *system = (struct cpu_system){.memory = guest_memory_create(RAM_BYTES, -1, &err),
                                  .ports = bus_create(BUS_PORT),
                                  .mmio = bus_create(BUS_MMIO),
                                  .clock = vm_clock_create(false, TSC_HZ, NULL, NULL),
                                  .model = tier->model,
                                  .vcpus = tier->vcpus,
                                  .vcpu_count = 1,
                                  .backend = backend_of(name)};
    if (system->backend && system->memory && tier->model)
        tier->vcpu = tier->vcpus[0] = vcpu_create(system, 0, &err);
    if (!tier->vcpu) {
        fprintf(stderr, "no tier \"%s\": %s\n", name, err.text);
        tier_destroy(tier);
        return NULL;
    }
    make_page_tables(tier);
    make_descriptor_tables(tier);
    fill_read_only(tier);
    return tier;
}

void tier_destroy(struct tier *tier)
{
    if (!tier)
        return;
    vcpu_destroy(tier->vcpu);
    cpu_model_destroy(tier->model);
    vm_clock_destroy(tier->system.clock);
    bus_destroy(tier->system.mmio);
    bus_destroy(tier->system.ports);
    guest_memory_destroy(tier->system.memory);
    free(tier);
}

bool tier_offers(const struct tier *tier, const struct insn_form *form)
{
    const struct cpu_feature_set *features = cpu_model_features(tier->model);
    return cpu_feature_set_has(features, (enum cpu_feature)form->feature) &&
           (form->class != CLASS_AVX || cpu_feature_set_has(features, CPU_FEATURE_AVX));
}

// ---- State ----

static void set_control_state(struct cpu_state *state)
{
    state->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    state->cr3 = PML4;
    state->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE;
    state->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    state->xcr0 = XCR0_SUPPORTED;
    state->gdtr = (struct descriptor_table){KERNEL + GDT, GDT_BYTES - 1};
    state->idtr = (struct descriptor_table){KERNEL + IDT, 16 * VECTORS - 1};
}

static void set_segments(struct cpu_state *state, const struct diff_case *c)
{
    struct segment data = {.limit = UINT32_MAX, .attributes = 0xC0F3, .selector = SELECTOR_DATA};
    struct segment code = data;
    code.attributes = c->mode == CODE_64 ? 0xA0FB : 0xC0FB;
    code.selector = c->mode == CODE_64 ? SELECTOR_CODE_64 : SELECTOR_CODE_32;
    if (c->mode == CODE_16) {
        code = (struct segment){CODE_BASE_16, 0xFFFF, 0x00FB, SELECTOR_CODE_16};
        data = (struct segment){DATA_BASE_16, 0xFFFF, 0x40F3, SELECTOR_DATA_16};
    }
    state->segment[SEG_CS] = code;
    for (unsigned i = 0; i < SEG_LDTR; i++) {
        if (i != SEG_CS)
            state->segment[i] = data;
    }
    state->segment[SEG_FS].selector = state->segment[SEG_GS].selector = 0;
    state->segment[SEG_FS].limit = state->segment[SEG_GS].limit = UINT32_MAX;
    state->segment[SEG_FS].base = c->fs_base;
    state->segment[SEG_GS].base = c->gs_base;
    state->segment[SEG_LDTR] = (struct segment){.attributes = SEG_UNUSABLE};
    state->segment[SEG_TR] =
        (struct segment){.base = KERNEL + TSS, .limit = 0x67, .attributes = 0x8B, .selector = 0x40};
}

static void load_case(struct tier *tier, const struct diff_case *c)
{
    struct cpu_state *state = &tier->vcpu->state;
    cpu_state_reset(state, false, true);
    set_control_state(state);
    set_segments(state, c);
    memcpy(state->gpr, c->before.gpr, sizeof(state->gpr));
    state->rip = c->before.rip;
    state->rflags = c->before.rflags;
    memcpy(state->xsave, c->before.xsave, XSAVE_BYTES);
    tier->system.backend->state_changed(tier->vcpu);
}

static void load_memory(struct tier *tier, const struct diff_case *c)
{
    uint8_t page[AREA_PAGE], data[DATA_BYTES];
    uint64_t at = c->code - CODE_ADDRESS, room = AREA_PAGE - at;
    memset(page, 0xCC, sizeof(page));
    memcpy(page + at, c->bytes, c->length < room ? c->length : room);
    put(tier, CODE_PAGE, page, sizeof(page));
    diff_case_fill_data(c, data);
    put(tier, DATA_PAGE_0, data, AREA_PAGE);
    put(tier, DATA_PAGE_1, data + AREA_PAGE, AREA_PAGE);
}

// ---- Results ----

static bool has_error_code(unsigned vector)
{
    return vector == EXC_DF || (vector >= EXC_TS && vector <= EXC_PF) || vector == EXC_AC;
}

static void take_result(struct tier *tier, const struct diff_case *c, struct diff_result *result)
{
    const struct cpu_state *state = &tier->vcpu->state;
    uint64_t frame = state->gpr[RSP] - KERNEL;
    result->vector = (uint8_t)((state->rip - 1 - KERNEL - HANDLERS) / HANDLER_BYTES);
    result->error = 0;
    if (has_error_code(result->vector)) {
        result->error = (uint32_t)get64(tier, frame);
        frame += 8;
    }
    result->cr2 = state->cr2;
    memcpy(result->after.gpr, state->gpr, sizeof(result->after.gpr));
    memcpy(result->after.xsave, state->xsave, XSAVE_BYTES);
    result->after.rip = get64(tier, frame) + diff_code_base(c->mode);
    result->after.rflags = get64(tier, frame + 16);
    result->after.gpr[RSP] = get64(tier, frame + 24);
    if (result->vector == EXC_BP) {
        result->vector = EXC_NONE;
        result->after.rip--;
    } else if (result->after.rip - c->code >=
               c->length) { // the next instruction could not be fetched
        result->vector = EXC_NONE;
    }
    int failed = guest_memory_read(tier->system.memory, gpa(DATA_PAGE_0), result->data, AREA_PAGE);
    failed |= guest_memory_read(tier->system.memory, gpa(DATA_PAGE_1), result->data + AREA_PAGE,
                                AREA_PAGE);
    assert(!failed);
}

void tier_run(struct tier *tier, const struct diff_case *c, struct diff_result *result)
{
    load_memory(tier, c);
    load_case(tier, c);
    enum vcpu_exit exit = tier->system.backend->run(tier->vcpu);
    if (exit == VCPU_EXIT_HALT) {
        take_result(tier, c, result);
        return;
    }
    *result = (struct diff_result){.vector = EXC_DF, .error = (uint32_t)exit};
    result->after = c->before;
}
