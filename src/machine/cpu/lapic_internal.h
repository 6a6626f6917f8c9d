// SPDX-License-Identifier: Apache-2.0
//
// The local APIC's insides, for lapic.c (registers), lapic_timer.c and apic_bus.c.
#ifndef WIRT_MACHINE_CPU_LAPIC_INTERNAL_H
#define WIRT_MACHINE_CPU_LAPIC_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "machine/cpu/lapic.h"
#include "machine/cpu/vcpu.h"
#include "machine/device/vm_clock.h"

// Register offsets in the xAPIC page (SDM vol. 3, table 11-1); x2APIC MSR 0x800 + offset / 16.
enum {
    APIC_ID = 0x020,
    APIC_VERSION = 0x030,
    APIC_TPR = 0x080,
    APIC_APR = 0x090,
    APIC_PPR = 0x0A0,
    APIC_EOI = 0x0B0,
    APIC_LDR = 0x0D0,
    APIC_DFR = 0x0E0,
    APIC_SVR = 0x0F0,
    APIC_ISR = 0x100,
    APIC_TMR = 0x180,
    APIC_IRR = 0x200,
    APIC_ESR = 0x280,
    APIC_LVT_CMCI = 0x2F0,
    APIC_ICR = 0x300,
    APIC_ICR_HIGH = 0x310,
    APIC_LVT_TIMER = 0x320,
    APIC_LVT_THERMAL = 0x330,
    APIC_LVT_PERF = 0x340,
    APIC_LVT_LINT0 = 0x350,
    APIC_LVT_LINT1 = 0x360,
    APIC_LVT_ERROR = 0x370,
    APIC_TIMER_INITIAL = 0x380,
    APIC_TIMER_CURRENT = 0x390,
    APIC_TIMER_DIVIDE = 0x3E0,
    APIC_SELF_IPI = 0x3F0,
};

#define APIC_BASE_X2APIC (1u << 10)
#define APIC_BASE_ENABLE (1u << 11)
#define SVR_ENABLED      0x100u
#define LVT_MASKED       0x10000u
#define LVT_MODE_MASK    0x700u
#define LVT_MODE_EXTINT  0x700u
#define LVT_MODE_NMI     0x400u
#define LVT_TIMER_SHIFT  17
#define LVT_COUNT        6

enum lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR };
enum lapic_timer_mode { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE };

struct lapic {
    struct vcpu *vcpu; // borrowed
    struct device device;
    char name[16]; // "lapic0"
    struct vm_timer timer;

    // Read by any thread that sends a message, written by the vCPU's.
    _Atomic uint32_t id, ldr, dfr, svr, tpr;
    _Atomic uint32_t irr[8], tmr[8];
    _Atomic uint32_t esr;

    // The vCPU's thread.
    uint32_t isr[8];
    uint64_t icr;
    bool
        pv_eoi_offered; // the guest may end the interrupt in service by clearing a bit in its memory

    // The timer's, under its lock: the vCPU's thread and the clock's callback.
    pthread_mutex_t timer_lock;
    uint32_t lvt[LVT_COUNT]; // all of them here: the callback reads LVT_TIMER
    uint32_t timer_initial, timer_divide;
    uint64_t timer_start_ns;     // when the count began, or the current period
    uint64_t timer_tsc_deadline; // 0: not armed
};

// lapic_timer.c
void lapic_timer_init(struct lapic *lapic);
void lapic_timer_fini(struct lapic *lapic);
void lapic_timer_reset(struct lapic *lapic);
void lapic_timer_write_lvt(struct lapic *lapic, uint32_t value);
void lapic_timer_write_initial(struct lapic *lapic, uint32_t value);
void lapic_timer_write_divide(struct lapic *lapic, uint32_t value);
uint32_t lapic_timer_current(struct lapic *lapic);
void lapic_timer_write_tsc_deadline(struct lapic *lapic, uint64_t value);
uint64_t lapic_timer_read_tsc_deadline(struct lapic *lapic);
void lapic_timer_loaded(struct lapic *lapic);

// Any thread: a vector arrives.
void lapic_accept_vector(struct lapic *lapic, uint8_t vector, bool level);

static inline bool lapic_is_x2apic(const struct lapic *lapic)
{
    return (lapic->vcpu->state.apic_base & (APIC_BASE_ENABLE | APIC_BASE_X2APIC)) ==
           (APIC_BASE_ENABLE | APIC_BASE_X2APIC);
}

#endif
