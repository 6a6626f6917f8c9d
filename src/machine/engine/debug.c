// SPDX-License-Identifier: Apache-2.0
//
// Debug registers (SDM vol. 3, chapter 17): access to them, and the four kinds of condition that raise #DB.
#include "base/bits.h"
#include "machine/engine/exception.h"
#include "machine/engine/mmu.h"
#include "machine/engine/system.h"

#define DR6_WRITABLE 0xE00Full
#define DR7_WRITABLE 0xFFFF23FFull

enum breakpoint_type { BREAK_EXECUTE, BREAK_WRITE, BREAK_IO, BREAK_READ_WRITE };

struct breakpoint {
    bool armed;
    enum breakpoint_type type;
    uint64_t start, length;
};

static struct breakpoint breakpoint_at(const struct cpu_state *cpu, unsigned i)
{
    static const uint8_t lengths[] = {1, 2, 8, 4};
    unsigned control = (unsigned)(cpu->dr7 >> (16 + i * 4)) & 15;
    uint64_t length = lengths[control >> 2];

    return (struct breakpoint){
        .armed = (cpu->dr7 >> (i * 2) & 3) != 0,
        .type = (enum breakpoint_type)(control & 3),
        .start = align_down(cpu->dr[i], length),
        .length = length,
    };
}

static bool is_kind(const struct cpu_state *cpu, const struct breakpoint *breakpoint,
                    enum debug_kind kind)
{
    switch (kind) {
    case DEBUG_EXECUTE:
        return breakpoint->type == BREAK_EXECUTE;
    case DEBUG_DATA:
        return breakpoint->type == BREAK_WRITE || breakpoint->type == BREAK_READ_WRITE;
    case DEBUG_IO:
        return breakpoint->type == BREAK_IO && (cpu->cr4 & CR4_DE);
    }
    return false;
}

bool debug_armed(const struct cpu_state *cpu, enum debug_kind kind)
{
    if (!(cpu->dr7 & 0xFF))
        return false;
    for (unsigned i = 0; i < 4; i++) {
        struct breakpoint breakpoint = breakpoint_at(cpu, i);
        if (breakpoint.armed && is_kind(cpu, &breakpoint, kind))
            return true;
    }
    return false;
}

// The DR6 bits of the armed breakpoints of a kind that touch [start, start + length).
static uint64_t hits(const struct cpu_state *cpu, enum debug_kind kind, uint64_t start,
                     uint64_t length, bool write)
{
    uint64_t found = 0;

    for (unsigned i = 0; i < 4; i++) {
        struct breakpoint breakpoint = breakpoint_at(cpu, i);
        if (!breakpoint.armed || !is_kind(cpu, &breakpoint, kind) ||
            (breakpoint.type == BREAK_WRITE && !write))
            continue;
        if (start - breakpoint.start < breakpoint.length || breakpoint.start - start < length)
            found |= BIT(i);
    }
    return found;
}

// DR4 and DR5 are other names of DR6 and DR7, unless CR4.DE makes them undefined.
static int check_access(struct vcpu *vcpu, unsigned *number)
{
    if (*number > 7 || ((*number == 4 || *number == 5) && (vcpu->state.cr4 & CR4_DE)))
        return raise_ud(vcpu);
    if (vcpu->state.dr7 & DR7_GD) {
        raise_exception(vcpu, EXC_DB);
        engine_cpu_of(vcpu)->exception.dr6 = DR6_BD;
        return -1;
    }
    if (*number == 4 || *number == 5)
        *number += 2;
    return 0;
}

int system_read_dr(struct vcpu *vcpu, unsigned number, uint64_t *value)
{
    const struct cpu_state *cpu = &vcpu->state;

    if (check_access(vcpu, &number) != 0)
        return -1;
    *value = number < 4 ? cpu->dr[number] : number == 6 ? cpu->dr6 : cpu->dr7;
    return 0;
}

int system_write_dr(struct vcpu *vcpu, unsigned number, uint64_t value)
{
    struct cpu_state *cpu = &vcpu->state;
    bool watched = debug_armed(cpu, DEBUG_DATA);

    if (check_access(vcpu, &number) != 0)
        return -1;
    if (number >= 6 && value >> 32)
        return raise_gp(vcpu, 0);
    if (number < 4)
        cpu->dr[number] = value;
    else if (number == 6)
        cpu->dr6 = (value & DR6_WRITABLE) | DR6_FIXED;
    else
        cpu->dr7 = (value & DR7_WRITABLE) | DR7_FIXED;
    engine_mode_changed(vcpu);
    if (watched || debug_armed(cpu, DEBUG_DATA))
        mmu_flush_all(vcpu); // watched pages must miss, others no longer
    return 0;
}

int debug_before_instruction(struct vcpu *vcpu)
{
    const struct cpu_state *cpu = &vcpu->state;

    if (cpu->rflags & FLAG_RF)
        return 0;
    uint64_t linear = cpu->segment[SEG_CS].base + cpu->rip;
    uint64_t found =
        hits(cpu, DEBUG_EXECUTE, cpu_in_64bit_code(cpu) ? cpu->rip : (uint32_t)linear, 1, false);
    if (!found)
        return 0;
    raise_exception(vcpu, EXC_DB);
    engine_cpu_of(vcpu)->exception.dr6 = found;
    return -1;
}

void debug_after_instruction(struct vcpu *vcpu, uint64_t rflags_before, bool sets_rf)
{
    if (!sets_rf && (vcpu->state.rflags & FLAG_RF)) {
        vcpu->state.rflags &= ~(uint64_t)FLAG_RF;
        engine_flags_changed(vcpu);
    }
    if (rflags_before & FLAG_TF)
        engine_cpu_of(vcpu)->debug_hits |= DR6_BS;
}

static bool touches(const struct vcpu_watch *watch, uint64_t start, uint64_t length)
{
    return start - watch->start < watch->length || watch->start - start < length;
}

void debug_check_data(struct vcpu *vcpu, struct gva address, unsigned size, enum mmu_access access)
{
    bool write = (access & MMU_WRITE) != 0, read = access != MMU_WRITE;

    engine_cpu_of(vcpu)->debug_hits |= hits(&vcpu->state, DEBUG_DATA, address.at, size, write);
    for (unsigned i = 0; i < vcpu->watch_count; i++) {
        const struct vcpu_watch *watch = &vcpu->watches[i];
        if (touches(watch, address.at, size) &&
            ((watch->read && read) || (watch->write && write))) {
            vcpu->watch_hit = *watch;
            engine_cpu_of(vcpu)->debug_hits |= DEBUG_HIT_WATCH;
        }
    }
}

void debug_check_io(struct vcpu *vcpu, uint16_t port, unsigned size)
{
    if (vcpu->state.dr7 & 0xFF)
        engine_cpu_of(vcpu)->debug_hits |= hits(&vcpu->state, DEBUG_IO, port, size, true);
}

bool debug_page_watched(struct vcpu *vcpu, struct gva page)
{
    uint64_t start = align_down(page.at, 4096);

    for (unsigned i = 0; i < vcpu->watch_count; i++) {
        if (touches(&vcpu->watches[i], start, 4096))
            return true;
    }
    return hits(&vcpu->state, DEBUG_DATA, start, 4096, true) != 0;
}
