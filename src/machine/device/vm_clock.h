// SPDX-License-Identifier: Apache-2.0
//
// The machine's time, and timers on it.
//
// Guest time is nanoseconds since the machine started, and stands still while the machine is
// paused. Real-time machines derive it from the host's TSC (the guest's TSC is the host's, so that
// both agree) and run timers on the main loop's thread. In a deterministic machine time is a
// function of the guest instructions retired: the one vCPU advances it, asks for the next deadline,
// and runs the timers itself at the exact count. An instruction is VM_CLOCK_NS_PER_INSTRUCTION
// there; a halted vCPU advances by what is left to the next deadline.
//
// Threads: any thread may arm and cancel. A callback runs without any lock of the clock;
// vm_timer_cancel() called from another thread waits for a callback that is running, so a device
// must not hold a lock its own callback takes while it cancels: use vm_timer_disarm(), which does
// not wait, there.
#ifndef WIRT_MACHINE_DEVICE_VM_CLOCK_H
#define WIRT_MACHINE_DEVICE_VM_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct vm_clock;

#define VM_CLOCK_NEVER              UINT64_MAX
#define VM_CLOCK_NS_PER_INSTRUCTION 1u

// `wake` (may be NULL) is called on any thread, without locks of the clock, when the earliest
// deadline moved forward or the clock goes on after a pause; the main loop then asks
// vm_clock_next_deadline_ns() and calls vm_clock_run_timers() when it is reached. In a
// deterministic machine the one who arms is the vCPU itself, and wake tells it to look again.
// `tsc_hz`: of the host's TSC (os_clock_tsc_hz()), or any for a deterministic machine. NULL: no
// memory.
typedef void vm_clock_wake(void *context);
struct vm_clock *vm_clock_create(bool deterministic, uint64_t tsc_hz, vm_clock_wake *wake,
                                 void *context);
void vm_clock_destroy(struct vm_clock *clock);

uint64_t vm_clock_now_ns(const struct vm_clock *clock);
uint64_t
vm_clock_tsc(const struct vm_clock *clock); // what RDTSC reads, before a guest's own offset
uint64_t vm_clock_tsc_hz(const struct vm_clock *clock);
// The guest time at which RDTSC reads `tsc`: 0 for one before the start, never VM_CLOCK_NEVER.
uint64_t vm_clock_tsc_to_ns(const struct vm_clock *clock, uint64_t tsc);
// An instant at or after which the clock last began to go, the same for all who ask until it is paused: what RDTSC read then, and the guest time.
void vm_clock_reference(const struct vm_clock *clock, uint64_t *tsc, uint64_t *ns);

// Wall-clock time in nanoseconds since 1970, UTC (RTC, kvmclock). Deterministic machines start at
// 2024-01-01.
uint64_t vm_clock_wall_ns(const struct vm_clock *clock);

// Timers do not fire while the machine is paused. Pausing twice is one pause.
void vm_clock_pause(struct vm_clock *clock);
void vm_clock_resume(struct vm_clock *clock);
// While paused: guest time goes on from `now_ns` (a saved machine is loaded).
void vm_clock_set_ns(struct vm_clock *clock, uint64_t now_ns);

// Deterministic machines only: `instructions` more were retired.
bool vm_clock_is_deterministic(const struct vm_clock *clock);
void vm_clock_advance(struct vm_clock *clock, uint64_t instructions);

uint64_t vm_clock_next_deadline_ns(const struct vm_clock *clock); // VM_CLOCK_NEVER if none
// Runs what is due, earliest first, equal deadlines in the order of arming. One caller at a time: a
// second returns at once.
void vm_clock_run_timers(struct vm_clock *clock);

typedef void vm_timer_callback(void *context);
struct vm_timer {
    struct vm_clock *clock;
    vm_timer_callback *callback;
    void *context;
    // Private, under the clock's lock.
    uint64_t deadline_ns;
    struct vm_timer *next, *previous;
    bool armed;
};

void vm_timer_init(struct vm_timer *timer, struct vm_clock *clock, vm_timer_callback *callback,
                   void *context);
void vm_timer_arm(struct vm_timer *timer,
                  uint64_t deadline_ns);      // replaces an earlier deadline; NEVER disarms
void vm_timer_disarm(struct vm_timer *timer); // does not wait
void vm_timer_cancel(struct vm_timer *timer); // disarms and waits for a running callback

#endif
