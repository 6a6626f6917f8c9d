// SPDX-License-Identifier: Apache-2.0
//
// The local APIC's registers, priorities and paravirtual EOI.
//
// Paravirtual EOI (Documentation/virt/kvm/x86/msr.rst, MSR_KVM_PV_EOI_EN): when an edge-triggered interrupt goes into service and nothing else
// waits, a bit in guest memory is set; a guest that finds it set clears it instead of writing the EOI register. Before what is in service matters
// again (another interrupt waits, a register is read, the EOI register is written, the state is saved) the bit is taken back: cleared by the guest means that
// the interrupt has ended.
#define LOG_MODULE "apic"
#include <stdio.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/log.h"
#include "machine/cpu/cpu_model.h"
#include "machine/cpu/lapic_internal.h"
#include "machine/memory/guest_memory.h"

#define VERSION_VALUE    0x50014u // version 0x14, six local vector table entries
#define MSR_APIC_BASE    0x1Bu
#define MSR_TSC_DEADLINE 0x6E0u
#define MSR_X2APIC_FIRST 0x800u
#define MSR_X2APIC_LAST  0x8FFu
#define BASE_RESERVED    0xFFull // bits 0 to 7
#define BASE_BSP         0x100ull
#define ICR_BUSY         0x1000u
#define ICR_VALID        0xCCFFFu
#define ESR_ILLEGAL_SEND 0x20u
#define ESR_ILLEGAL_RECV 0x40u

// ---- Vectors.

static int highest(const _Atomic uint32_t bits[8])
{
    for (int word = 7; word >= 0; word--) {
        uint32_t value = atomic_load_explicit(&bits[word], memory_order_acquire);
        if (value)
            return word * 32 + 31 - __builtin_clz(value);
    }
    return -1;
}

static int highest_in_service(const struct lapic *lapic)
{
    for (int word = 7; word >= 0; word--)
        if (lapic->isr[word])
            return word * 32 + 31 - __builtin_clz(lapic->isr[word]);
    return -1;
}

void lapic_accept_vector(struct lapic *lapic, uint8_t vector, bool level)
{
    if (!(lapic->svr & SVR_ENABLED))
        return;
    if (vector < 16) {
        atomic_fetch_or(&lapic->esr, ESR_ILLEGAL_RECV);
        return;
    }
    uint32_t bit = 1u << (vector % 32);
    if (level)
        atomic_fetch_or(&lapic->tmr[vector / 32], bit);
    else
        atomic_fetch_and(&lapic->tmr[vector / 32], ~bit);
    atomic_fetch_or(&lapic->irr[vector / 32], bit);
    vcpu_raise(lapic->vcpu, VCPU_EVENT_INTERRUPT);
}

static uint32_t processor_priority(const struct lapic *lapic)
{
    int in_service = highest_in_service(lapic);
    uint32_t class = in_service < 0 ? 0 : (uint32_t)in_service & 0xF0;
    return (lapic->tpr & 0xF0) >= class ? lapic->tpr : class;
}

// ---- End of interrupt.

static _Atomic uint32_t *pv_eoi_word(const struct lapic *lapic)
{
    uint64_t msr = lapic->vcpu->state.kvm_eoi;
    if (!(msr & 1))
        return NULL;
    return guest_memory_map(lapic->vcpu->system->memory, gpa(msr & ~3ull), sizeof(uint32_t), true);
}

static void tell_eoi_word_written(const struct lapic *lapic)
{
    guest_memory_wrote(lapic->vcpu->system->memory, gpa(lapic->vcpu->state.kvm_eoi & ~3ull),
                       sizeof(uint32_t));
}

static void end_of_interrupt(struct lapic *lapic)
{
    int vector = highest_in_service(lapic);
    if (vector < 0)
        return;
    lapic->isr[vector / 32] &= ~(1u << (vector % 32));
    const struct cpu_system *system = lapic->vcpu->system;
    if ((lapic->tmr[vector / 32] >> (vector % 32) & 1) && system->eoi)
        system->eoi(system->eoi_context, (uint8_t)vector);
    // Something of lower priority may have waited for this.
    if (highest(lapic->irr) >= 0)
        vcpu_raise(lapic->vcpu, VCPU_EVENT_INTERRUPT);
}

// Take the offer back; was it used, the interrupt has ended.
static void sync_pv_eoi(struct lapic *lapic)
{
    if (!lapic->pv_eoi_offered)
        return;
    lapic->pv_eoi_offered = false;
    _Atomic uint32_t *word = pv_eoi_word(lapic);
    if (!word)
        return;
    if (atomic_fetch_and(word, ~1u) & 1)
        tell_eoi_word_written(lapic);
    else
        end_of_interrupt(lapic);
}

void lapic_eoi_word_moves(struct lapic *lapic)
{
    sync_pv_eoi(lapic);
}

static void offer_pv_eoi(struct lapic *lapic, int vector)
{
    if (lapic->tmr[vector / 32] >> (vector % 32) & 1 || highest(lapic->irr) >= 0)
        return;
    _Atomic uint32_t *word = pv_eoi_word(lapic);
    if (!word)
        return;
    atomic_fetch_or(word, 1);
    tell_eoi_word_written(lapic);
    lapic->pv_eoi_offered = true;
}

int lapic_pending_vector(struct lapic *lapic)
{
    int vector = highest(lapic->irr);
    if (vector < 0)
        return -1; // what was offered stays so
    sync_pv_eoi(lapic);
    if (((uint32_t)vector & 0xF0) <= (processor_priority(lapic) & 0xF0))
        return -1;
    return vector;
}

int lapic_acknowledge(struct lapic *lapic)
{
    int vector = lapic_pending_vector(lapic);
    if (vector < 0)
        return -1;
    atomic_fetch_and(&lapic->irr[vector / 32], ~(1u << (vector % 32)));
    lapic->isr[vector / 32] |= 1u << (vector % 32);
    offer_pv_eoi(lapic, vector);
    return vector;
}

bool lapic_accepts_pic(struct lapic *lapic)
{
    if (!(lapic->vcpu->state.apic_base & APIC_BASE_ENABLE))
        return true;
    uint32_t lint0 = lapic->lvt[LVT_LINT0];
    return !(lint0 & LVT_MASKED) && (lint0 & LVT_MODE_MASK) == LVT_MODE_EXTINT;
}

// ---- Registers.

static uint32_t read_esr(struct lapic *lapic)
{
    return atomic_load(&lapic->esr) >> 16; // what the last write latched
}

static void write_esr(struct lapic *lapic)
{
    uint32_t errors = atomic_load(&lapic->esr);
    atomic_store(&lapic->esr, (errors & 0xFFFF) << 16);
}

static uint32_t read_id(const struct lapic *lapic)
{
    return lapic_is_x2apic(lapic) ? lapic->vcpu->index : lapic->id;
}

static uint32_t read_ldr(const struct lapic *lapic)
{
    uint32_t id = lapic->vcpu->index;
    return lapic_is_x2apic(lapic) ? (id >> 4) << 16 | 1u << (id & 15) : lapic->ldr;
}

// The LVT registers in their order; -1 for another offset.
static int lvt_index(uint32_t offset)
{
    return offset >= APIC_LVT_TIMER && offset <= APIC_LVT_ERROR
               ? (int)((offset - APIC_LVT_TIMER) / 16)
               : -1;
}

static uint32_t read_register(struct lapic *lapic, uint32_t offset)
{
    int lvt = lvt_index(offset);
    if (lvt >= 0)
        return lapic->lvt[lvt];
    if (offset >= APIC_ISR && offset < APIC_ESR) {
        sync_pv_eoi(lapic);
        uint32_t word = (offset & 0x7F) / 16;
        return offset < APIC_TMR   ? lapic->isr[word]
               : offset < APIC_IRR ? lapic->tmr[word]
                                   : lapic->irr[word];
    }
    switch (offset) {
    case APIC_ID:
        return read_id(lapic);
    case APIC_VERSION:
        return VERSION_VALUE;
    case APIC_TPR:
        return lapic->tpr;
    case APIC_PPR:
        sync_pv_eoi(lapic);
        return processor_priority(lapic);
    case APIC_LDR:
        return read_ldr(lapic);
    case APIC_DFR:
        return lapic->dfr;
    case APIC_SVR:
        return lapic->svr;
    case APIC_ESR:
        return read_esr(lapic);
    case APIC_ICR:
        return (uint32_t)lapic->icr;
    case APIC_ICR_HIGH:
        return (uint32_t)(lapic->icr >> 32);
    case APIC_TIMER_INITIAL:
        return lapic->timer_initial;
    case APIC_TIMER_CURRENT:
        return lapic_timer_current(lapic);
    case APIC_TIMER_DIVIDE:
        return lapic->timer_divide;
    default:
        return 0;
    }
}

static void set_tpr(struct lapic *lapic, uint32_t value)
{
    uint32_t before = lapic->tpr;
    lapic->tpr = value & 0xFF;
    lapic->vcpu->state.cr8 = lapic->tpr >> 4;
    if (lapic->tpr < before && highest(lapic->irr) >= 0)
        vcpu_raise(lapic->vcpu, VCPU_EVENT_INTERRUPT);
}

static void write_svr(struct lapic *lapic, uint32_t value)
{
    lapic->svr = value & 0x1FF;
    if (value & SVR_ENABLED)
        return;
    for (unsigned i = 0; i < LVT_COUNT; i++)
        if (i != LVT_TIMER)
            lapic->lvt[i] |= LVT_MASKED;
    lapic_timer_write_lvt(lapic, lapic->lvt[LVT_TIMER] | LVT_MASKED);
}

static void write_lvt(struct lapic *lapic, int lvt, uint32_t value)
{
    static const uint32_t writable[LVT_COUNT] = {
        [LVT_TIMER] = 0x700FF, [LVT_THERMAL] = 0x107FF, [LVT_PERF] = 0x107FF,
        [LVT_LINT0] = 0x1A7FF, [LVT_LINT1] = 0x1A7FF,   [LVT_ERROR] = 0x100FF,
    };
    if (lvt == LVT_TIMER) {
        lapic_timer_write_lvt(lapic, value);
        return;
    }
    if (!(lapic->svr & SVR_ENABLED))
        value |= LVT_MASKED;
    lapic->lvt[lvt] = value & writable[lvt];
    if (lvt == LVT_LINT0)
        vcpu_raise(lapic->vcpu, VCPU_EVENT_INTERRUPT); // the PIC may have waited
}

static void send_ipi(struct lapic *lapic)
{
    uint32_t low = (uint32_t)lapic->icr;
    uint32_t high = (uint32_t)(lapic->icr >> 32);
    struct apic_message message = {
        .destination = lapic_is_x2apic(lapic) ? high : high >> 24,
        .logical = low >> 11 & 1,
        .mode = (uint8_t)(low >> 8 & 7),
        .vector = (uint8_t)low,
        .level_triggered = low >> 15 & 1,
        .level_asserted = low >> 14 & 1,
        .shorthand = (uint8_t)(low >> 18 & 3),
    };
    if (message.mode <= 1 && message.vector < 16) {
        atomic_fetch_or(&lapic->esr, ESR_ILLEGAL_SEND);
        return;
    }
    // The trigger mode is honoured for INIT de-assert only: IPIs are edges (SDM vol. 3, 11.6.1).
    if (message.mode != 5)
        message.level_triggered = false;
    apic_bus_send(lapic->vcpu->system, lapic->vcpu, &message);
}

static void write_register(struct lapic *lapic, uint32_t offset, uint32_t value)
{
    int lvt = lvt_index(offset);
    if (lvt >= 0) {
        write_lvt(lapic, lvt, value);
        return;
    }
    switch (offset) {
    case APIC_ID:
        lapic->id = value & 0xFF000000u;
        break;
    case APIC_TPR:
        set_tpr(lapic, value);
        break;
    case APIC_EOI:
        sync_pv_eoi(lapic);
        end_of_interrupt(lapic);
        break;
    case APIC_LDR:
        lapic->ldr = value & 0xFF000000u;
        break;
    case APIC_DFR:
        lapic->dfr = value | 0x0FFFFFFFu;
        break;
    case APIC_SVR:
        write_svr(lapic, value);
        break;
    case APIC_ESR:
        write_esr(lapic);
        break;
    case APIC_ICR:
        lapic->icr = (lapic->icr & ~0xFFFFFFFFull) | (value & ICR_VALID & ~ICR_BUSY);
        send_ipi(lapic);
        break;
    case APIC_ICR_HIGH:
        lapic->icr = (lapic->icr & 0xFFFFFFFFull) | (uint64_t)(value & 0xFF000000u) << 32;
        break;
    case APIC_TIMER_INITIAL:
        lapic_timer_write_initial(lapic, value);
        break;
    case APIC_TIMER_DIVIDE:
        lapic_timer_write_divide(lapic, value);
        break;
    default:
        break;
    }
}

uint32_t lapic_mmio_read(struct lapic *lapic, uint32_t offset)
{
    return offset & 15 || lapic_is_x2apic(lapic) ? 0 : read_register(lapic, offset & 0xFF0);
}

void lapic_mmio_write(struct lapic *lapic, uint32_t offset, uint32_t value)
{
    if (!(offset & 15) && !lapic_is_x2apic(lapic))
        write_register(lapic, offset & 0xFF0, value);
}

uint64_t lapic_get_tpr(struct lapic *lapic)
{
    return lapic->tpr >> 4;
}

void lapic_set_tpr(struct lapic *lapic, uint64_t cr8)
{
    set_tpr(lapic, (uint32_t)(cr8 & 15) << 4);
}

// ---- MSRs.

static bool write_base(struct lapic *lapic, uint64_t value)
{
    uint64_t *base = &lapic->vcpu->state.apic_base;
    uint64_t mode = value & (APIC_BASE_ENABLE | APIC_BASE_X2APIC);
    uint64_t before = *base & (APIC_BASE_ENABLE | APIC_BASE_X2APIC);
    // Off with x2APIC set, x2APIC to xAPIC, and off to x2APIC are not permitted (SDM vol. 3, figure 11-27).
    bool forbidden =
        mode == APIC_BASE_X2APIC ||
        (before == (APIC_BASE_ENABLE | APIC_BASE_X2APIC) && mode == APIC_BASE_ENABLE) ||
        (before == 0 && mode == (APIC_BASE_ENABLE | APIC_BASE_X2APIC));
    const struct cpu_model *model = lapic->vcpu->system->model;
    uint64_t reserved = BASE_RESERVED | 1u << 9 | ~bits_mask(cpu_model_physical_bits(model));
    if (!cpu_feature_set_has(cpu_model_features(model), CPU_FEATURE_X2APIC))
        reserved |= APIC_BASE_X2APIC;
    if (forbidden || (value & reserved))
        return false;
    *base = (value & ~BASE_BSP) | (*base & BASE_BSP);
    if (mode == 0 && before != 0)
        lapic_reset(lapic, true);
    return true;
}

// Which x2APIC registers exist, and how (SDM vol. 3, table 11-6).
static bool x2apic_readable(uint32_t offset)
{
    return offset == APIC_ID || offset == APIC_VERSION || offset == APIC_TPR ||
           offset == APIC_PPR || offset == APIC_LDR || offset == APIC_SVR ||
           (offset >= APIC_ISR && offset <= APIC_ESR) || offset == APIC_LVT_CMCI ||
           offset == APIC_ICR || (offset >= APIC_LVT_TIMER && offset <= APIC_TIMER_CURRENT) ||
           offset == APIC_TIMER_DIVIDE;
}

static bool x2apic_read(struct lapic *lapic, uint32_t offset, uint64_t *value)
{
    if (!lapic_is_x2apic(lapic) || !x2apic_readable(offset))
        return false;
    *value = offset == APIC_ICR ? lapic->icr : read_register(lapic, offset);
    return true;
}

static bool x2apic_write(struct lapic *lapic, uint32_t offset, uint64_t value)
{
    if (!lapic_is_x2apic(lapic))
        return false;
    if (offset == APIC_ICR) {
        lapic->icr = value & (0xFFFFFFFF00000000ull | (ICR_VALID & ~ICR_BUSY));
        send_ipi(lapic);
        return true;
    }
    if (offset == APIC_SELF_IPI) {
        if (value >> 8)
            return false;
        lapic_accept_vector(lapic, (uint8_t)value, false);
        return true;
    }
    bool writable = offset == APIC_TPR || offset == APIC_EOI || offset == APIC_SVR ||
                    offset == APIC_ESR || offset == APIC_LVT_CMCI || lvt_index(offset) >= 0 ||
                    offset == APIC_TIMER_INITIAL || offset == APIC_TIMER_DIVIDE;
    if (!writable || value >> 32 || ((offset == APIC_EOI || offset == APIC_ESR) && value))
        return false;
    write_register(lapic, offset, (uint32_t)value);
    return true;
}

bool lapic_msr_read(struct lapic *lapic, uint32_t msr, uint64_t *value)
{
    if (msr == MSR_APIC_BASE) {
        *value = lapic->vcpu->state.apic_base;
        return true;
    }
    if (msr == MSR_TSC_DEADLINE) {
        *value = lapic_timer_read_tsc_deadline(lapic);
        return true;
    }
    return msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST &&
           x2apic_read(lapic, (msr - MSR_X2APIC_FIRST) * 16, value);
}

bool lapic_msr_write(struct lapic *lapic, uint32_t msr, uint64_t value)
{
    if (msr == MSR_APIC_BASE)
        return write_base(lapic, value);
    if (msr == MSR_TSC_DEADLINE) {
        lapic_timer_write_tsc_deadline(lapic, value);
        return true;
    }
    return msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST &&
           x2apic_write(lapic, (msr - MSR_X2APIC_FIRST) * 16, value);
}

// ---- State, making, reset.

static int check(const void *device, struct err *err)
{
    const struct lapic *lapic = device;
    if (lapic->vcpu && lapic->id >> 24 >= 0xFF)
        return err_set(err, ERR_INPUT, "the local APIC has the broadcast id");
    return 0;
}

static void loaded(void *device)
{
    struct lapic *lapic = device;
    vcpu_lapic_changed(lapic->vcpu);
    if (lapic->vcpu->system->backend->owns_apic)
        return;
    lapic_timer_loaded(lapic);
    vcpu_raise(lapic->vcpu, VCPU_EVENT_INTERRUPT);
}

static void save_begin(void *device)
{
    sync_pv_eoi(device);
}

static const struct field fields[] = {
    FIELD_U32(struct lapic, id),
    FIELD_U32(struct lapic, ldr),
    FIELD_U32(struct lapic, dfr),
    FIELD_U32_MAX(struct lapic, svr, 0x1FF),
    FIELD_U32S(struct lapic, irr),
    FIELD_U32S(struct lapic, tmr),
    FIELD_U32S(struct lapic, isr),
    FIELD_U32(struct lapic, esr),
    FIELD_U32_MAX(struct lapic, tpr, 0xFF),
    FIELD_U64(struct lapic, icr),
    FIELD_U32S(struct lapic, lvt),
    FIELD_U32(struct lapic, timer_initial),
    FIELD_U32_MAX(struct lapic, timer_divide, 0xB),
    FIELD_U64(struct lapic, timer_start_ns),
    FIELD_U64(struct lapic, timer_tsc_deadline),
};

static const struct device_ops lapic_ops = {
    .kind = "lapic",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
    .check = check,
    .loaded = loaded,
    .save_begin = save_begin,
};

struct lapic *lapic_create(struct vcpu *vcpu)
{
    struct lapic *lapic = calloc(1, sizeof(*lapic));
    if (!lapic)
        return NULL;
    lapic->vcpu = vcpu;
    snprintf(lapic->name, sizeof(lapic->name), "lapic%u", vcpu->index);
    lapic->device = (struct device){.ops = &lapic_ops, .name = lapic->name, .self = lapic};
    lapic_timer_init(lapic);
    lapic_reset(lapic, false);
    return lapic;
}

void lapic_destroy(struct lapic *lapic)
{
    if (!lapic)
        return;
    lapic_timer_fini(lapic);
    free(lapic);
}

struct device *lapic_device(struct lapic *lapic)
{
    return &lapic->device;
}

void lapic_reset(struct lapic *lapic, bool init_only)
{
    if (!init_only)
        lapic->id = lapic->vcpu->index << 24;
    lapic->ldr = 0;
    lapic->dfr = UINT32_MAX;
    lapic->svr = 0xFF;
    lapic->esr = 0;
    lapic->tpr = 0;
    lapic->icr = 0;
    lapic->pv_eoi_offered = false;
    for (unsigned i = 0; i < 8; i++)
        lapic->irr[i] = lapic->tmr[i] = lapic->isr[i] = 0;
    lapic_timer_reset(lapic);
    for (unsigned i = 0; i < LVT_COUNT; i++)
        lapic->lvt[i] = LVT_MASKED;
    // A kernel that is started without firmware finds the PIC connected through, as firmware would leave it.
    if (lapic->vcpu->index == 0)
        lapic->lvt[LVT_LINT0] = LVT_MODE_EXTINT;
    vcpu_lapic_changed(lapic->vcpu);
}
