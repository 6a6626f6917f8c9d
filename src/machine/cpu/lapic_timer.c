// SPDX-License-Identifier: Apache-2.0
//
// The local APIC's timer: it counts nanoseconds of guest time divided by the divide configuration, or waits for the TSC.
#include "machine/cpu/lapic_internal.h"

#define TIMER_LVT_WRITABLE 0x700FFu
#define PERIOD_LEAST_NS    20000u // a guest cannot keep the clock's thread busier than that

static enum lapic_timer_mode mode(const struct lapic *lapic)
{
    return (enum lapic_timer_mode)(lapic->lvt[LVT_TIMER] >> LVT_TIMER_SHIFT & 3);
}

// Divide configuration: bits 0, 1 and 3 give 2, 4, … 128, and 1 for 7 (SDM vol. 3, figure 11-10).
static unsigned divide_shift(const struct lapic *lapic)
{
    unsigned code = (lapic->timer_divide & 3) | (lapic->timer_divide >> 1 & 4);
    return (code + 1) & 7;
}

static uint64_t period_ns(const struct lapic *lapic)
{
    return (uint64_t)lapic->timer_initial << divide_shift(lapic);
}

static void fire(struct lapic *lapic)
{
    uint32_t lvt = lapic->lvt[LVT_TIMER];
    if (!(lvt & LVT_MASKED))
        lapic_accept_vector(lapic, (uint8_t)lvt, false);
}

// Has the guest's TSC reached `tsc`? Correct for values up to 2^63 ticks apart.
static bool tsc_reached(const struct lapic *lapic, uint64_t tsc)
{
    return (int64_t)(vm_clock_tsc(lapic->timer.clock) + lapic->vcpu->state.tsc_offset - tsc) >= 0;
}

static bool count_is_over(const struct lapic *lapic, uint64_t now)
{
    return now - lapic->timer_start_ns >= period_ns(lapic);
}

// Periods that were missed (a host that did not run us) are not made up for.
static void start_next_period(struct lapic *lapic, uint64_t now)
{
    uint64_t period = period_ns(lapic);
    lapic->timer_start_ns += (now - lapic->timer_start_ns) / period * period;
    vm_timer_arm(&lapic->timer,
                 lapic->timer_start_ns + (period < PERIOD_LEAST_NS ? PERIOD_LEAST_NS : period));
}

// A callback that lost the race against a register write finds that its time has not come: the write has armed anew.
static void expired(void *context)
{
    struct lapic *lapic = context;
    pthread_mutex_lock(&lapic->timer_lock);
    uint64_t now = vm_clock_now_ns(lapic->timer.clock);
    if (mode(lapic) == TIMER_TSC_DEADLINE) {
        if (lapic->timer_tsc_deadline && tsc_reached(lapic, lapic->timer_tsc_deadline)) {
            lapic->timer_tsc_deadline = 0;
            fire(lapic);
        }
    } else if (lapic->timer_initial && count_is_over(lapic, now)) {
        fire(lapic);
        if (mode(lapic) == TIMER_PERIODIC)
            start_next_period(lapic, now);
    }
    pthread_mutex_unlock(&lapic->timer_lock);
}

// Start the count from the initial count now.
static void start_count(struct lapic *lapic)
{
    lapic->timer_start_ns = vm_clock_now_ns(lapic->timer.clock);
    if (lapic->timer_initial)
        vm_timer_arm(&lapic->timer, lapic->timer_start_ns + period_ns(lapic));
    else
        vm_timer_disarm(&lapic->timer);
}

void lapic_timer_write_lvt(struct lapic *lapic, uint32_t value)
{
    pthread_mutex_lock(&lapic->timer_lock);
    enum lapic_timer_mode before = mode(lapic);
    if (!(lapic->svr & SVR_ENABLED))
        value |= LVT_MASKED;
    lapic->lvt[LVT_TIMER] = value & TIMER_LVT_WRITABLE;
    // A change between TSC-deadline and the others disarms (SDM vol. 3, 11.5.4.1).
    if ((before == TIMER_TSC_DEADLINE) != (mode(lapic) == TIMER_TSC_DEADLINE)) {
        lapic->timer_initial = 0;
        lapic->timer_tsc_deadline = 0;
        vm_timer_disarm(&lapic->timer);
    }
    pthread_mutex_unlock(&lapic->timer_lock);
}

void lapic_timer_write_initial(struct lapic *lapic, uint32_t value)
{
    pthread_mutex_lock(&lapic->timer_lock);
    if (mode(lapic) != TIMER_TSC_DEADLINE) {
        lapic->timer_initial = value;
        start_count(lapic);
    }
    pthread_mutex_unlock(&lapic->timer_lock);
}

// What is left of the count goes on at the new pace.
void lapic_timer_write_divide(struct lapic *lapic, uint32_t value)
{
    pthread_mutex_lock(&lapic->timer_lock);
    uint64_t now = vm_clock_now_ns(lapic->timer.clock);
    uint64_t counted = (now - lapic->timer_start_ns) >> divide_shift(lapic);
    lapic->timer_divide = value & 0xB;
    if (mode(lapic) != TIMER_TSC_DEADLINE && lapic->timer_initial &&
        counted < lapic->timer_initial) {
        lapic->timer_start_ns = now - (counted << divide_shift(lapic));
        vm_timer_arm(&lapic->timer, lapic->timer_start_ns + period_ns(lapic));
    }
    pthread_mutex_unlock(&lapic->timer_lock);
}

uint32_t lapic_timer_current(struct lapic *lapic)
{
    pthread_mutex_lock(&lapic->timer_lock);
    uint32_t current = 0;
    uint64_t elapsed = vm_clock_now_ns(lapic->timer.clock) - lapic->timer_start_ns;
    if (mode(lapic) != TIMER_TSC_DEADLINE && lapic->timer_initial) {
        uint64_t period = period_ns(lapic);
        if (mode(lapic) == TIMER_PERIODIC)
            elapsed %= period;
        if (elapsed < period)
            current = lapic->timer_initial - (uint32_t)(elapsed >> divide_shift(lapic));
    }
    pthread_mutex_unlock(&lapic->timer_lock);
    return current;
}

static void arm_tsc_deadline(struct lapic *lapic)
{
    uint64_t deadline = lapic->timer_tsc_deadline;
    // One that has passed is not converted: where a TSC was written, the host's may never have been there.
    if (!deadline)
        vm_timer_disarm(&lapic->timer);
    else if (tsc_reached(lapic, deadline))
        vm_timer_arm(&lapic->timer, 0);
    else
        vm_timer_arm(&lapic->timer, vm_clock_tsc_to_ns(lapic->timer.clock,
                                                       deadline - lapic->vcpu->state.tsc_offset));
}

void lapic_timer_write_tsc_deadline(struct lapic *lapic, uint64_t value)
{
    pthread_mutex_lock(&lapic->timer_lock);
    if (mode(lapic) == TIMER_TSC_DEADLINE) {
        lapic->timer_tsc_deadline = value;
        if (value && tsc_reached(lapic, value)) {
            lapic->timer_tsc_deadline = 0; // it has passed: no way round through the clock
            vm_timer_disarm(&lapic->timer);
            fire(lapic);
        } else {
            arm_tsc_deadline(lapic);
        }
    }
    pthread_mutex_unlock(&lapic->timer_lock);
}

uint64_t lapic_timer_read_tsc_deadline(struct lapic *lapic)
{
    pthread_mutex_lock(&lapic->timer_lock);
    uint64_t value = mode(lapic) == TIMER_TSC_DEADLINE ? lapic->timer_tsc_deadline : 0;
    pthread_mutex_unlock(&lapic->timer_lock);
    return value;
}

void lapic_timer_loaded(struct lapic *lapic)
{
    pthread_mutex_lock(&lapic->timer_lock);
    if (mode(lapic) == TIMER_TSC_DEADLINE)
        arm_tsc_deadline(lapic);
    else if (lapic->timer_initial && (mode(lapic) == TIMER_PERIODIC ||
                                      !count_is_over(lapic, vm_clock_now_ns(lapic->timer.clock))))
        vm_timer_arm(&lapic->timer, lapic->timer_start_ns + period_ns(lapic));
    pthread_mutex_unlock(&lapic->timer_lock);
}

void lapic_timer_init(struct lapic *lapic)
{
    pthread_mutex_init(&lapic->timer_lock, NULL);
    vm_timer_init(&lapic->timer, lapic->vcpu->system->clock, expired, lapic);
}

void lapic_timer_fini(struct lapic *lapic)
{
    vm_timer_cancel(&lapic->timer);
    pthread_mutex_destroy(&lapic->timer_lock);
}

void lapic_timer_reset(struct lapic *lapic)
{
    pthread_mutex_lock(&lapic->timer_lock);
    lapic->timer_initial = lapic->timer_divide = 0;
    lapic->timer_tsc_deadline = 0;
    vm_timer_disarm(&lapic->timer);
    pthread_mutex_unlock(&lapic->timer_lock);
}
