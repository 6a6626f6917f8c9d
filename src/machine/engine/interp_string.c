// SPDX-License-Identifier: Apache-2.0
//
// Tier 0: string instructions and port I/O.
//
// A repeated instruction works element by element, and stops between elements when an event is pending: RIP then still
// points at it, and RCX, RSI and RDI say what is left, so it simply begins again. MOVS and STOS forward through RAM go page by
// page: the longest run that stays within the page of source and destination is copied at once.
#include "machine/device/bus.h"
#include "machine/engine/interp_handlers.h"
#include "machine/engine/trace.h"

// A repeated string instruction on its way.
struct repetition {
    unsigned bytes;         // of an element
    unsigned address_bytes; // of RCX, RSI and RDI
    bool repeated;
    uint64_t left; // elements to go; 1 when not repeated
    int64_t step;
    unsigned source_segment;
};

static struct repetition begin(struct vcpu *vcpu, const struct bound_insn *bound,
                               unsigned element_operand)
{
    const struct insn *insn = &bound->insn;
    struct repetition rep = {
        .bytes = bound->operand[element_operand].bytes,
        .address_bytes = insn->address_size,
        .repeated = insn->prefixes & (PREFIX_REP | PREFIX_REPNE),
        .source_segment = insn->segment_override != SEG_NONE ? insn->segment_override : SEG_DS,
        .left = 1,
    };
    if (rep.repeated)
        rep.left = gpr_read(vcpu, RCX, rep.address_bytes);
    rep.step = vcpu->state.rflags & FLAG_DF ? -(int64_t)rep.bytes : (int64_t)rep.bytes;
    return rep;
}

static uint64_t at(const struct vcpu *vcpu, const struct repetition *rep, enum gpr pointer)
{
    return gpr_read(vcpu, pointer, rep->address_bytes);
}

static void advance(struct vcpu *vcpu, const struct repetition *rep, enum gpr pointer,
                    uint64_t elements)
{
    gpr_write(vcpu, pointer, rep->address_bytes,
              vcpu->state.gpr[pointer] + (uint64_t)rep->step * elements);
}

// `elements` are done. True when the instruction goes on with the next one at once.
static bool count_down(struct vcpu *vcpu, struct repetition *rep, uint64_t elements)
{
    rep->left -= elements;
    if (rep->repeated)
        gpr_write(vcpu, RCX, rep->address_bytes, rep->left);
    return rep->left != 0;
}

// Between elements: must the instruction stop here? With TF each element is a step.
static bool must_stop(const struct vcpu *vcpu)
{
    const struct engine_cpu *cpu = engine_cpu_of((struct vcpu *)(uintptr_t)vcpu);
    return atomic_load_explicit(&vcpu->events, memory_order_relaxed) || cpu->debug_hits ||
           (vcpu->state.rflags & FLAG_TF);
}

// ---- MOVS and STOS ----

// How many elements from `offset` forward lie in its page, for the page-wise loops; 0 when they are not worth it.
static uint64_t run_in_page(const struct repetition *rep, uint64_t linear)
{
    return (4096 - (linear & 4095)) / rep->bytes;
}

// The host address of a run in a flat 64-bit segment that hits in the TLB.
static void *run_host(struct vcpu *vcpu, const struct repetition *rep, unsigned segment,
                      enum gpr pointer, bool write, uint64_t *elements)
{
    uint64_t offset = at(vcpu, rep, pointer);
    void *host = memory_fast(vcpu, segment, offset, rep->bytes, write);
    if (host) {
        uint64_t base =
            segment == SEG_FS || segment == SEG_GS ? vcpu->state.segment[segment].base : 0;
        uint64_t in_page = run_in_page(rep, offset + base);
        *elements = in_page < *elements ? in_page : *elements;
    }
    return host;
}

// Elements moved at once, or 0. Overlapping runs where the destination follows closely repeat a pattern: those go one by one.
static uint64_t movs_run(struct vcpu *vcpu, const struct repetition *rep)
{
    uint64_t elements = rep->left;
    if (elements < 4 || rep->step < 0 || rep->address_bytes != 8)
        return 0;
    const uint8_t *from = run_host(vcpu, rep, rep->source_segment, RSI, false, &elements);
    uint8_t *to = from ? run_host(vcpu, rep, SEG_ES, RDI, true, &elements) : NULL;
    if (!to || elements < 4 || (to > from && to < from + elements * rep->bytes))
        return 0;
    memmove(to, from, elements * rep->bytes);
    return elements;
}

static int movs_one(struct vcpu *vcpu, const struct repetition *rep)
{
    uint64_t value;
    if (memory_read(vcpu, rep->source_segment, at(vcpu, rep, RSI), rep->bytes, &value))
        return INTERP_FAULT;
    return memory_write(vcpu, SEG_ES, at(vcpu, rep, RDI), rep->bytes, value);
}

int interp_movs(struct vcpu *vcpu, const struct bound_insn *bound)
{
    struct repetition rep = begin(vcpu, bound, 0);
    while (rep.left) {
        uint64_t done = movs_run(vcpu, &rep);
        if (done == 0) {
            if (movs_one(vcpu, &rep))
                return INTERP_FAULT;
            done = 1;
        }
        advance(vcpu, &rep, RSI, done);
        advance(vcpu, &rep, RDI, done);
        if (count_down(vcpu, &rep, done) && must_stop(vcpu))
            return INTERP_AGAIN;
    }
    return INTERP_DONE;
}

static uint64_t stos_run(struct vcpu *vcpu, const struct repetition *rep)
{
    uint64_t elements = rep->left, value = vcpu->state.gpr[RAX];
    if (elements < 4 || rep->step < 0 || rep->address_bytes != 8)
        return 0;
    uint8_t *to = run_host(vcpu, rep, SEG_ES, RDI, true, &elements);
    if (!to)
        return 0;
    for (uint64_t i = 0; i < elements; i++)
        host_store(to + i * rep->bytes, rep->bytes, value);
    return elements;
}

int interp_stos(struct vcpu *vcpu, const struct bound_insn *bound)
{
    struct repetition rep = begin(vcpu, bound, 0);
    while (rep.left) {
        uint64_t done = stos_run(vcpu, &rep);
        if (done == 0) {
            if (memory_write(vcpu, SEG_ES, at(vcpu, &rep, RDI), rep.bytes, vcpu->state.gpr[RAX]))
                return INTERP_FAULT;
            done = 1;
        }
        advance(vcpu, &rep, RDI, done);
        if (count_down(vcpu, &rep, done) && must_stop(vcpu))
            return INTERP_AGAIN;
    }
    return INTERP_DONE;
}

int interp_lods(struct vcpu *vcpu, const struct bound_insn *bound)
{
    struct repetition rep = begin(vcpu, bound, 0);
    uint64_t value;
    while (rep.left) {
        if (memory_read(vcpu, rep.source_segment, at(vcpu, &rep, RSI), rep.bytes, &value))
            return INTERP_FAULT;
        gpr_write(vcpu, RAX, rep.bytes, value);
        advance(vcpu, &rep, RSI, 1);
        if (count_down(vcpu, &rep, 1) && must_stop(vcpu))
            return INTERP_AGAIN;
    }
    return INTERP_DONE;
}

// ---- CMPS and SCAS: repeated while equal (REPE), or while not equal (REPNE) ----

static bool goes_on(const struct vcpu *vcpu, const struct bound_insn *bound)
{
    bool equal = vcpu->state.rflags & FLAG_ZF;
    return equal == !(bound->insn.prefixes & PREFIX_REPNE);
}

int interp_cmps(struct vcpu *vcpu, const struct bound_insn *bound)
{
    struct repetition rep = begin(vcpu, bound, 0);
    uint64_t a, b;
    while (rep.left) {
        if (memory_read(vcpu, rep.source_segment, at(vcpu, &rep, RSI), rep.bytes, &a) ||
            memory_read(vcpu, SEG_ES, at(vcpu, &rep, RDI), rep.bytes, &b))
            return INTERP_FAULT;
        interp_set_compare_flags(vcpu, a, b, rep.bytes);
        advance(vcpu, &rep, RSI, 1);
        advance(vcpu, &rep, RDI, 1);
        if (!count_down(vcpu, &rep, 1) || !goes_on(vcpu, bound))
            break;
        if (must_stop(vcpu))
            return INTERP_AGAIN;
    }
    return INTERP_DONE;
}

int interp_scas(struct vcpu *vcpu, const struct bound_insn *bound)
{
    struct repetition rep = begin(vcpu, bound, 0);
    uint64_t value;
    while (rep.left) {
        if (memory_read(vcpu, SEG_ES, at(vcpu, &rep, RDI), rep.bytes, &value))
            return INTERP_FAULT;
        interp_set_compare_flags(vcpu, gpr_read(vcpu, RAX, rep.bytes), value, rep.bytes);
        advance(vcpu, &rep, RDI, 1);
        if (!count_down(vcpu, &rep, 1) || !goes_on(vcpu, bound))
            break;
        if (must_stop(vcpu))
            return INTERP_AGAIN;
    }
    return INTERP_DONE;
}

// ---- Ports ----

static void port_read(struct vcpu *vcpu, uint16_t port, unsigned bytes, uint64_t *value)
{
    engine_exit(vcpu, ENGINE_EXIT_PORT);
    engine_sync_clock(vcpu);
    bus_read(vcpu->system->ports, port, bytes, value);
    debug_check_io(vcpu, port, bytes);
}

static void port_write(struct vcpu *vcpu, uint16_t port, unsigned bytes, uint64_t value)
{
    engine_exit(vcpu, ENGINE_EXIT_PORT);
    engine_sync_clock(vcpu);
    bus_write(vcpu->system->ports, port, value & size_mask(bytes), bytes);
    debug_check_io(vcpu, port, bytes);
}

// The port: an immediate byte, or DX.
static uint16_t port_of(const struct vcpu *vcpu, const struct bound_insn *bound, unsigned operand)
{
    bool immediate = bound->operand[operand].place == PLACE_CONSTANT;
    return immediate ? (uint8_t)bound->insn.immediate : (uint16_t)vcpu->state.gpr[RDX];
}

int interp_in(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned bytes = bound->operand[0].bytes;
    uint16_t port = port_of(vcpu, bound, 1);
    uint64_t value;
    if (system_check_io(vcpu, port, bytes))
        return INTERP_FAULT;
    port_read(vcpu, port, bytes, &value);
    gpr_write(vcpu, RAX, bytes, value);
    return INTERP_DONE;
}

int interp_out(struct vcpu *vcpu, const struct bound_insn *bound)
{
    unsigned bytes = bound->operand[1].bytes;
    uint16_t port = port_of(vcpu, bound, 0);
    if (system_check_io(vcpu, port, bytes))
        return INTERP_FAULT;
    port_write(vcpu, port, bytes, vcpu->state.gpr[RAX]);
    return INTERP_DONE;
}

// The destination is checked before the port is read: reading may have effects.
int interp_ins(struct vcpu *vcpu, const struct bound_insn *bound)
{
    struct repetition rep = begin(vcpu, bound, 0);
    uint16_t port = (uint16_t)vcpu->state.gpr[RDX];
    if (system_check_io(vcpu, port, rep.bytes))
        return INTERP_FAULT;
    while (rep.left) {
        uint64_t value, to = at(vcpu, &rep, RDI);
        struct gva linear;
        if (memory_linear(vcpu, SEG_ES, to, rep.bytes, true, &linear) ||
            mmu_probe(vcpu, linear, rep.bytes, MMU_WRITE, MMU_NORMAL))
            return INTERP_FAULT;
        port_read(vcpu, port, rep.bytes, &value);
        if (mmu_write(vcpu, linear, &value, rep.bytes, MMU_NORMAL))
            return INTERP_FAULT;
        advance(vcpu, &rep, RDI, 1);
        if (count_down(vcpu, &rep, 1) && must_stop(vcpu))
            return INTERP_AGAIN;
    }
    return INTERP_DONE;
}

int interp_outs(struct vcpu *vcpu, const struct bound_insn *bound)
{
    struct repetition rep = begin(vcpu, bound, 1);
    uint16_t port = (uint16_t)vcpu->state.gpr[RDX];
    if (system_check_io(vcpu, port, rep.bytes))
        return INTERP_FAULT;
    while (rep.left) {
        uint64_t value;
        if (memory_read(vcpu, rep.source_segment, at(vcpu, &rep, RSI), rep.bytes, &value))
            return INTERP_FAULT;
        port_write(vcpu, port, rep.bytes, value);
        advance(vcpu, &rep, RSI, 1);
        if (count_down(vcpu, &rep, 1) && must_stop(vcpu))
            return INTERP_AGAIN;
    }
    return INTERP_DONE;
}
