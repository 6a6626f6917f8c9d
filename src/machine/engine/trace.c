// SPDX-License-Identifier: Apache-2.0
#include "machine/engine/trace.h"

#include <stdarg.h>

#include "base/bits.h"
#include "machine/device/bus.h"
#include "machine/memory/guest_memory.h"

__thread struct vcpu *trace_current;

static const char *const exception_names[] = {
    [EXC_DE] = "divide error",
    [EXC_DB] = "debug",
    [EXC_NMI] = "NMI",
    [EXC_BP] = "breakpoint",
    [EXC_OF] = "overflow",
    [EXC_BR] = "bound range",
    [EXC_UD] = "invalid opcode",
    [EXC_NM] = "device not available",
    [EXC_DF] = "double fault",
    [EXC_TS] = "invalid TSS",
    [EXC_NP] = "segment not present",
    [EXC_SS] = "stack fault",
    [EXC_GP] = "general protection",
    [EXC_PF] = "page fault",
    [EXC_MF] = "x87 exception",
    [EXC_AC] = "alignment check",
    [EXC_MC] = "machine check",
    [EXC_XM] = "SIMD exception",
};

void trace_line(struct vcpu *vcpu, const char *format, ...)
{
    char text[768];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    engine_sync_clock(vcpu); // for an exact count
    fprintf(engine_cpu_of(vcpu)->trace->to, "cpu%u %llu %llx  %s\n", vcpu->index,
            (unsigned long long)atomic_load_explicit(&vcpu->instructions, memory_order_relaxed),
            (unsigned long long)vcpu->state.rip, text);
}

static void trace_page_fault(struct vcpu *vcpu, const struct engine_exception *exception)
{
    uint32_t error = exception->error;
    trace_line(vcpu, "page fault at %llx, error %x (%s, %s%s%s)",
               (unsigned long long)exception->cr2, error,
               error & 16  ? "fetch"
               : error & 2 ? "write"
                           : "read",
               error & 4 ? "user" : "supervisor", error & 1 ? ", protection" : "",
               error & 8 ? ", reserved bit" : "");
}

void trace_exception(struct vcpu *vcpu, const struct engine_exception *exception)
{
    const char *name = exception->vector < ARRAY_LENGTH(exception_names)
                           ? exception_names[exception->vector]
                           : NULL;
    if (exception->software)
        trace_line(vcpu, "software interrupt %02x", exception->vector);
    else if (exception->vector == EXC_PF)
        trace_page_fault(vcpu, exception);
    else if (exception->has_error)
        trace_line(vcpu, "%s, error %x", name ? name : "exception", exception->error);
    else
        trace_line(vcpu, "%s", name ? name : "exception");
}

void trace_interrupt(struct vcpu *vcpu, uint8_t vector, bool nmi)
{
    if (nmi)
        trace_line(vcpu, "NMI");
    else
        trace_line(vcpu, "interrupt %02x", vector);
}

static const char *mode_name(const struct cpu_state *cpu)
{
    bool wide = cpu->segment[SEG_CS].attributes & SEG_DB;
    if (!(cpu->cr0 & CR0_PE))
        return "real mode";
    if (cpu->rflags & FLAG_VM)
        return "virtual-8086 mode";
    if (cpu_in_long_mode(cpu))
        return cpu->segment[SEG_CS].attributes & SEG_L ? "64-bit mode" : "compatibility mode";
    return wide ? "32-bit protected mode" : "16-bit protected mode";
}

void trace_mode(struct vcpu *vcpu)
{
    struct engine_cpu *engine = engine_cpu_of(vcpu);
    const struct cpu_state *cpu = &vcpu->state;
    const char *mode = mode_name(cpu);
    bool paging = cpu->cr0 & CR0_PG;
    if (mode == engine->traced_mode && paging == engine->traced_paging)
        return;
    engine->traced_mode = mode;
    engine->traced_paging = paging;
    trace_line(vcpu, "%s, paging %s", mode,
               !paging                 ? "off"
               : cpu->cr4 & CR4_LA57   ? "5-level"
               : cpu_in_long_mode(cpu) ? "4-level"
               : cpu->cr4 & CR4_PAE    ? "PAE"
                                       : "2-level");
}

// ---- Hash ----

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15;
    return hash ^ hash >> 29;
}

static uint64_t mix_bytes(uint64_t hash, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i += 8)
        hash = mix(hash, load_le64(bytes + i));
    return hash;
}

// Status flags are left out: tier 1 does not keep those that the next instructions overwrite. A wrong one soon shows in a register.
// The x87 pointers are left out: tier 1 executes x87 instructions without keeping them.
static uint64_t hash_vectors(uint64_t hash, const uint8_t *xsave)
{
    uint64_t present = load_le64(xsave + 512);
    if (present & 1)
        hash = mix_bytes(mix(hash, load_le64(xsave) & 0xffffffffffffull), xsave + 32, 128);
    hash = mix(hash, load_le32(xsave + 24));
    if (present & 2)
        hash = mix_bytes(hash, xsave + 160, 256);
    return present & 4 ? mix_bytes(hash, xsave + 576, 256) : hash;
}

uint64_t engine_state_hash(const struct cpu_state *cpu)
{
    uint64_t hash = mix_bytes(0, (const uint8_t *)cpu->gpr, sizeof(cpu->gpr));
    const uint64_t words[] = {cpu->rip,           cpu->rflags & ~(uint64_t)FLAGS_STATUS,
                              cpu->cr0,           cpu->cr2,
                              cpu->cr3,           cpu->cr4,
                              cpu->xcr0,          cpu->efer,
                              cpu->kernel_gs_base};
    hash = mix_bytes(hash, (const uint8_t *)words, sizeof(words));
    for (unsigned i = 0; i < SEG_COUNT; i++)
        hash = mix(mix(hash, cpu->segment[i].base),
                   cpu->segment[i].selector | (uint64_t)cpu->segment[i].attributes << 16);
    return hash_vectors(hash, cpu->xsave);
}

// RAM's pages from 0 up, then those above 4 GiB. NULL behind the last one.
static const uint8_t *ram_page(struct vcpu *vcpu, uint64_t number, struct gpa *at)
{
    struct guest_memory *memory = vcpu->system->memory;
    uint64_t offset = number * PAGE_BYTES, low = guest_memory_low_bytes(memory);

    *at = gpa(offset < low ? offset : offset - low + GUEST_HIGH_RAM_START);
    return offset < guest_memory_ram_bytes(memory)
               ? guest_memory_map(memory, *at, PAGE_BYTES, false)
               : NULL;
}

static uint64_t ram_hash(struct vcpu *vcpu)
{
    const uint8_t *page;
    uint64_t hash = 0;
    struct gpa at;

    for (uint64_t i = 0; (page = ram_page(vcpu, i, &at)); i++)
        hash = mix_bytes(hash, page, PAGE_BYTES);
    return hash;
}

void trace_hash(struct vcpu *vcpu)
{
    trace_line(vcpu, "hash %016llx", (unsigned long long)engine_state_hash(&vcpu->state));
    if (atomic_load_explicit(&vcpu->instructions, memory_order_relaxed) % TRACE_RAM_INTERVAL == 0)
        trace_line(vcpu, "ram %016llx", (unsigned long long)ram_hash(vcpu));
}

// ---- States ----

static uint64_t count_now(struct vcpu *vcpu)
{
    engine_sync_clock(vcpu);
    return atomic_load_explicit(&vcpu->instructions, memory_order_relaxed);
}

uint64_t trace_states_slice(struct vcpu *vcpu, uint64_t count, uint64_t slice)
{
    const struct engine_trace *trace = engine_cpu_of(vcpu)->trace;

    return count < trace->first && trace->first - count < slice ? trace->first - count : slice;
}

bool trace_states_now(struct vcpu *vcpu)
{
    const struct engine_trace *trace = engine_cpu_of(vcpu)->trace;

    if (!engine_traces(vcpu, TRACE_STATES))
        return false;
    uint64_t count = count_now(vcpu);
    return count >= trace->first && count <= trace->last;
}

static void trace_pages(struct vcpu *vcpu)
{
    const uint8_t *page;
    struct gpa at;

    for (uint64_t i = 0; (page = ram_page(vcpu, i, &at)); i++)
        trace_line(vcpu, "page %llx %016llx", (unsigned long long)at.at,
                   (unsigned long long)mix_bytes(0, page, PAGE_BYTES));
}

void trace_states(struct vcpu *vcpu)
{
    static const char *const names[GPR_COUNT] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
                                                 "rsi", "rdi", "r8",  "r9",  "r10", "r11",
                                                 "r12", "r13", "r14", "r15"};
    const struct cpu_state *cpu = &vcpu->state;
    char text[512];
    int length = 0;

    for (unsigned i = 0; i < GPR_COUNT; i++)
        length += snprintf(text + length, sizeof(text) - (size_t)length, "%s=%llx ", names[i],
                           (unsigned long long)cpu->gpr[i]);
    trace_line(vcpu, "state %srflags=%llx cr2=%llx vectors=%llx all=%llx", text,
               (unsigned long long)cpu->rflags, (unsigned long long)cpu->cr2,
               (unsigned long long)hash_vectors(0, cpu->xsave),
               (unsigned long long)engine_state_hash(cpu));
    if (count_now(vcpu) == engine_cpu_of(vcpu)->trace->last)
        trace_pages(vcpu);
}

// ---- Setting it up ----

static void trace_access(void *context, const struct bus_range *range, uint64_t address,
                         unsigned size, bool write, uint64_t value)
{
    struct vcpu *vcpu = trace_current;
    if (vcpu)
        trace_line(vcpu, "%s %s %llx %s %llx (%u)", (const char *)context,
                   range ? range->name : "nobody", (unsigned long long)address, write ? "<-" : "->",
                   (unsigned long long)value, size);
    trace_current = NULL;
}

void engine_trace_set(struct cpu_system *system, const struct engine_trace *trace)
{
    for (unsigned i = 0; i < system->vcpu_count; i++)
        engine_cpu_of(system->vcpus[i])->trace = trace;
    if (trace->what & TRACE_EXITS) {
        bus_set_trace(system->ports, trace_access, (void *)(uintptr_t) "port");
        bus_set_trace(system->mmio, trace_access, (void *)(uintptr_t) "mmio");
    }
}
