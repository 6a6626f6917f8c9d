// SPDX-License-Identifier: Apache-2.0
//
// The guest computes time from its TSC: system_time + ((tsc - tsc_timestamp) << shift) * multiplier >> 32. The machine's clock is itself a
// linear function of the TSC, so one record, written when the guest asks for it, stays right until the machine was paused. The multiplier has 32 bits, so that
// a guest's time falls behind the machine's by up to half a nanosecond a second: the records of all vCPUs count from one instant, whenever they were asked for,
// and thereby agree to the nanosecond, which the stable bit promises. After a pause all count from its end.
#include "machine/cpu/pvclock.h"

#include <string.h>

#include "base/bits.h"
#include "machine/cpu/lapic.h"
#include "machine/cpu/vcpu.h"
#include "machine/device/vm_clock.h"
#include "machine/memory/guest_memory.h"

enum {
    MSR_WALL_CLOCK_OLD = 0x11,
    MSR_SYSTEM_TIME_OLD = 0x12,
    MSR_WALL_CLOCK = 0x4B564D00,
    MSR_SYSTEM_TIME = 0x4B564D01,
    MSR_PV_EOI = 0x4B564D04,
};

#define SYSTEM_TIME_ENABLED 1u
#define FLAG_TSC_STABLE     1u
#define NS_PER_SECOND       1000000000ull

struct time_record {
    uint32_t version; // odd while being written
    uint32_t pad0;
    uint64_t tsc_timestamp;
    uint64_t system_time;
    uint32_t multiplier;
    int8_t shift;
    uint8_t flags;
    uint8_t pad[2];
};
_Static_assert(sizeof(struct time_record) == 32, "struct pvclock_vcpu_time_info");

struct wall_record {
    uint32_t version, seconds, nanoseconds;
};

// The multiplier in [2^31, 2^32) and the shift that turn TSC ticks into nanoseconds.
static void scale_of(uint64_t tsc_hz, uint32_t *multiplier, int8_t *shift)
{
    unsigned __int128 scaled = ((unsigned __int128)NS_PER_SECOND << 32) / tsc_hz;
    int8_t moved = 0;

    while (scaled >> 32) {
        scaled = ((unsigned __int128)NS_PER_SECOND << 32) / ((unsigned __int128)tsc_hz << ++moved);
    }
    while (scaled && !(scaled >> 31)) {
        moved--;
        scaled = ((unsigned __int128)NS_PER_SECOND << (32 - moved)) / tsc_hz;
    }
    *multiplier = (uint32_t)scaled;
    *shift = moved;
}

// The version is odd while the rest is written, as the guest's reader expects of any writer. A bad address is the guest's loss.
static void publish(struct guest_memory *memory, struct gpa at, const void *record, size_t length,
                    uint32_t *version)
{
    if (guest_memory_read(memory, at, version, sizeof(*version)) != 0)
        return;
    *version = (*version | 1) + 2;
    guest_memory_write(memory, at, version, sizeof(*version));
    atomic_thread_fence(memory_order_seq_cst);
    guest_memory_write(memory, gpa_add(at, sizeof(*version)),
                       (const char *)record + sizeof(*version), length - sizeof(*version));
    atomic_thread_fence(memory_order_seq_cst);
    ++*version;
    guest_memory_write(memory, at, version, sizeof(*version));
}

void pvclock_update(struct vcpu *vcpu)
{
    const struct vm_clock *clock = vcpu->system->clock;
    struct time_record record = {.flags = FLAG_TSC_STABLE};

    if (!(vcpu->state.kvm_system_time & SYSTEM_TIME_ENABLED))
        return;
    vm_clock_reference(clock, &record.tsc_timestamp, &record.system_time);
    record.tsc_timestamp += vcpu->state.tsc_offset;
    scale_of(vm_clock_tsc_hz(clock), &record.multiplier, &record.shift);
    publish(vcpu->system->memory, gpa(vcpu->state.kvm_system_time & ~3ull), &record, sizeof(record),
            &record.version);
}

// The wall clock at guest time 0, to which the guest adds its system time.
static void write_wall_clock(struct vcpu *vcpu)
{
    const struct vm_clock *clock = vcpu->system->clock;
    uint64_t start = vm_clock_wall_ns(clock) - vm_clock_now_ns(clock);
    struct wall_record record = {
        .seconds = (uint32_t)(start / NS_PER_SECOND),
        .nanoseconds = (uint32_t)(start % NS_PER_SECOND),
    };

    publish(vcpu->system->memory, gpa(vcpu->state.kvm_wall_clock & ~3ull), &record, sizeof(record),
            &record.version);
}

bool pvclock_msr_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
    switch (msr) {
    case MSR_WALL_CLOCK_OLD:
    case MSR_WALL_CLOCK:
        *value = vcpu->state.kvm_wall_clock;
        return true;
    case MSR_SYSTEM_TIME_OLD:
    case MSR_SYSTEM_TIME:
        *value = vcpu->state.kvm_system_time;
        return true;
    case MSR_PV_EOI:
        *value = vcpu->state.kvm_eoi;
        return true;
    default:
        return false;
    }
}

bool pvclock_msr_write(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
    switch (msr) {
    case MSR_WALL_CLOCK_OLD:
    case MSR_WALL_CLOCK:
        vcpu->state.kvm_wall_clock = value;
        write_wall_clock(vcpu);
        return true;
    case MSR_SYSTEM_TIME_OLD:
    case MSR_SYSTEM_TIME:
        vcpu->state.kvm_system_time = value;
        pvclock_update(vcpu);
        return true;
    case MSR_PV_EOI:
        if (value & 2)
            return false;
        lapic_eoi_word_moves(vcpu->lapic);
        vcpu->state.kvm_eoi = value;
        return true;
    default:
        return false;
    }
}
