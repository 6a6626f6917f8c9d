// SPDX-License-Identifier: Apache-2.0
//
// The APIC bus: which local APICs a message is for (SDM vol. 3, 11.6.2), and what each does with it.
#define LOG_MODULE "apic"
#include "base/log.h"
#include "machine/cpu/lapic_internal.h"

enum {
    MODE_FIXED = 0,
    MODE_LOWEST_PRIORITY = 1,
    MODE_NMI = 4,
    MODE_INIT = 5,
    MODE_SIPI = 6,
    MODE_EXTINT = 7,
};
enum { SHORTHAND_NONE, SHORTHAND_SELF, SHORTHAND_ALL, SHORTHAND_OTHERS };

// All ones is everybody: of the eight bits that a message of a chip has, of the 32 that an x2APIC sends.
static bool matches_physical(const struct lapic *lapic, const struct vcpu *sender,
                             uint32_t destination)
{
    uint32_t id = lapic->vcpu->index;
    if (lapic_is_x2apic(lapic))
        return destination == id || destination == UINT32_MAX ||
               (destination == 0xFF && !(sender && lapic_is_x2apic(sender->lapic)));
    return destination == lapic->id >> 24 || (destination & 0xFF) == 0xFF;
}

static bool matches_logical(const struct lapic *lapic, uint32_t destination)
{
    if (lapic_is_x2apic(lapic)) {
        uint32_t id = lapic->vcpu->index;
        uint32_t own = (id >> 4) << 16 | 1u << (id & 15);
        if (destination == UINT32_MAX)
            return true;
        return destination >> 16 == own >> 16 && (destination & own & 0xFFFF);
    }
    uint8_t own = (uint8_t)(lapic->ldr >> 24);
    if (lapic->dfr >> 28 == 0xF)
        return own & destination & 0xFF;
    return ((own >> 4 == (destination >> 4 & 0xF)) || (destination >> 4 & 0xF) == 0xF) &&
           (own & destination & 0xF);
}

static bool matches(const struct lapic *lapic, const struct vcpu *sender,
                    const struct apic_message *message)
{
    switch (message->shorthand) {
    case SHORTHAND_SELF:
        return lapic->vcpu == sender;
    case SHORTHAND_ALL:
        return true;
    case SHORTHAND_OTHERS:
        return lapic->vcpu != sender;
    default:
        break;
    }
    return message->logical ? matches_logical(lapic, message->destination)
                            : matches_physical(lapic, sender, message->destination);
}

void lapic_accept(struct lapic *lapic, const struct apic_message *message)
{
    struct vcpu *vcpu = lapic->vcpu;
    switch (message->mode) {
    case MODE_FIXED:
    case MODE_LOWEST_PRIORITY:
        lapic_accept_vector(lapic, message->vector, message->level_triggered);
        break;
    case MODE_NMI:
        vcpu_raise(vcpu, VCPU_EVENT_NMI);
        break;
    case MODE_INIT:
        // The de-assert form does nothing on anything newer than a Pentium.
        if (!message->level_triggered || message->level_asserted)
            vcpu_raise(vcpu, VCPU_EVENT_INIT);
        break;
    case MODE_SIPI:
        __atomic_store_n(&vcpu->state.sipi_vector, message->vector, __ATOMIC_RELEASE);
        vcpu_raise(vcpu, VCPU_EVENT_SIPI);
        break;
    case MODE_EXTINT:
        vcpu_raise(vcpu, VCPU_EVENT_INTERRUPT);
        break;
    default:
        log_guest("an APIC message has delivery mode %u", message->mode);
    }
}

void lapic_set_lint0(struct lapic *lapic, bool level)
{
    if (level)
        vcpu_raise(lapic->vcpu, VCPU_EVENT_INTERRUPT); // the vCPU asks lapic_accepts_pic() itself
}

bool lapic_answers_at(const struct lapic *lapic, uint64_t page)
{
    uint64_t base = lapic->vcpu->state.apic_base;
    return (base & (APIC_BASE_ENABLE | APIC_BASE_X2APIC)) == APIC_BASE_ENABLE &&
           (base & ~0xFFFull) == page;
}

static bool is_enabled(const struct vcpu *vcpu)
{
    return (vcpu->state.apic_base & APIC_BASE_ENABLE) != 0;
}

// One receiver: the lowest task priority, among equals the one that the vector falls on, so that vectors spread.
static void send_to_lowest(struct cpu_system *system, const struct vcpu *sender,
                           const struct apic_message *message)
{
    struct lapic *best = NULL;
    for (unsigned i = 0; i < system->vcpu_count; i++) {
        struct vcpu *vcpu = system->vcpus[(i + message->vector) % system->vcpu_count];
        struct lapic *lapic = vcpu->lapic;
        if (!is_enabled(vcpu) || !(lapic->svr & SVR_ENABLED) || !matches(lapic, sender, message))
            continue;
        if (!best || lapic->tpr < best->tpr)
            best = lapic;
    }
    if (best)
        lapic_accept(best, message);
}

void apic_bus_send(struct cpu_system *system, const struct vcpu *sender,
                   const struct apic_message *message)
{
    if (message->mode == MODE_LOWEST_PRIORITY) {
        send_to_lowest(system, sender, message);
        return;
    }
    for (unsigned i = 0; i < system->vcpu_count; i++) {
        struct vcpu *vcpu = system->vcpus[i];
        if (is_enabled(vcpu) && matches(vcpu->lapic, sender, message))
            lapic_accept(vcpu->lapic, message);
    }
}

// Message address and data formats (SDM vol. 3, 11.11).
void apic_bus_send_msi(struct cpu_system *system, uint64_t address, uint32_t data)
{
    if ((address & 0xFFF00000u) != APIC_DEFAULT_BASE || address >> 32) {
        log_guest("a message signalled interrupt has the address 0x%llx",
                  (unsigned long long)address);
        return;
    }
    struct apic_message message = {
        .destination = (uint32_t)(address >> 12 & 0xFF),
        .logical = address >> 2 & 1,
        .mode = (uint8_t)(data >> 8 & 7),
        .vector = (uint8_t)data,
        .level_triggered = data >> 15 & 1,
        .level_asserted = data >> 14 & 1,
    };
    apic_bus_send(system, NULL, &message);
}
