// SPDX-License-Identifier: Apache-2.0
//
// Guest time is (source - base) scaled to nanoseconds, where the source is the host's TSC, or the
// nanoseconds that the instructions of a deterministic machine have taken. A pause notes the
// source's value and the end of the pause moves the base on by what has passed. Readers take base
// and pause without a lock, through a sequence count that writers make odd.
//
// Armed timers are a list in the order of their deadlines: a machine has some tens of timers, most
// of them short, so the place is found within a few steps.
#include "machine/device/vm_clock.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <x86intrin.h>

#include "os/clock.h"

#define NS_PER_SECOND         1000000000ull
#define DETERMINISTIC_WALL_NS (1704067200ull * NS_PER_SECOND) // 2024-01-01 00:00:00 UTC

struct vm_clock {
    // Constant.
    bool deterministic;
    uint64_t tsc_hz;
    vm_clock_wake *wake;
    void *wake_context;
    // Any thread; see base_read().
    _Atomic uint32_t sequence;
    _Atomic uint64_t base;      // the source at guest time 0
    _Atomic uint64_t paused_at; // the source when it was paused
    _Atomic uint64_t reference; // the source when it began to go; see vm_clock_reference()
    _Atomic bool paused;
    _Atomic uint64_t instruction_ns; // deterministic: the source
    // Under the lock: the queue, and writes to the above.
    pthread_mutex_t lock;
    pthread_cond_t ran;
    struct vm_timer *first;
    struct vm_timer *current; // whose callback runs; its memory may be gone
    bool running;
    pthread_t runner;
};

static uint64_t source(const struct vm_clock *clock)
{
    return clock->deterministic ? clock->instruction_ns : __rdtsc();
}

// a * b / c, saturating short of VM_CLOCK_NEVER. `a` has at most 65 bits, the others far less than
// 64.
static uint64_t scale(unsigned __int128 a, uint64_t b, uint64_t c)
{
    unsigned __int128 wide = a * b / c;
    return wide >= VM_CLOCK_NEVER ? VM_CLOCK_NEVER - 1 : (uint64_t)wide;
}

// Guest time when the source reads `at`. The base lies before the host's start (is negative) in a
// machine that was loaded and has run longer than the host; a reading before the base is 0.
static uint64_t source_to_ns(const struct vm_clock *clock, uint64_t at, uint64_t base)
{
    __int128 ticks = (__int128)at - (int64_t)base;
    if (ticks <= 0)
        return 0;
    return scale((unsigned __int128)ticks, clock->deterministic ? 1 : NS_PER_SECOND,
                 clock->deterministic ? 1 : clock->tsc_hz);
}

struct vm_clock *vm_clock_create(bool deterministic, uint64_t tsc_hz, vm_clock_wake *wake,
                                 void *context)
{
    assert(tsc_hz);
    struct vm_clock *clock = calloc(1, sizeof(*clock));
    if (!clock)
        return NULL;
    clock->deterministic = deterministic;
    clock->tsc_hz = tsc_hz;
    clock->wake = wake;
    clock->wake_context = context;
    clock->base = clock->reference = source(clock);
    pthread_mutex_init(&clock->lock, NULL);
    pthread_cond_init(&clock->ran, NULL);
    return clock;
}

void vm_clock_destroy(struct vm_clock *clock)
{
    if (!clock)
        return;
    pthread_mutex_destroy(&clock->lock);
    pthread_cond_destroy(&clock->ran);
    free(clock);
}

static uint64_t base_read(const struct vm_clock *clock, uint64_t *now)
{
    uint64_t base;
    uint32_t sequence;
    do {
        while ((sequence = clock->sequence) & 1)
            _mm_pause();
        base = clock->base;
        *now = clock->paused ? clock->paused_at : source(clock);
    } while (clock->sequence != sequence);
    return base;
}

uint64_t vm_clock_now_ns(const struct vm_clock *clock)
{
    uint64_t now, base = base_read(clock, &now);
    return source_to_ns(clock, now, base);
}

static uint64_t source_to_tsc(const struct vm_clock *clock, uint64_t at)
{
    return clock->deterministic ? scale(at, clock->tsc_hz, NS_PER_SECOND) : at;
}

uint64_t vm_clock_tsc(const struct vm_clock *clock)
{
    return source_to_tsc(clock, source(clock));
}

uint64_t vm_clock_tsc_hz(const struct vm_clock *clock)
{
    return clock->tsc_hz;
}

uint64_t vm_clock_tsc_to_ns(const struct vm_clock *clock, uint64_t tsc)
{
    uint64_t now, base = base_read(clock, &now);
    if (clock->deterministic) {
        // Rounded up, so that RDTSC at that time does not read less than `tsc`.
        unsigned __int128 ns =
            ((unsigned __int128)tsc * NS_PER_SECOND + clock->tsc_hz - 1) / clock->tsc_hz;
        tsc = ns >= VM_CLOCK_NEVER ? VM_CLOCK_NEVER - 1 : (uint64_t)ns;
    }
    return source_to_ns(clock, tsc, base);
}

void vm_clock_reference(const struct vm_clock *clock, uint64_t *tsc, uint64_t *ns)
{
    uint64_t base, reference, now;
    do {
        reference = clock->reference;
        base = base_read(clock, &now);
    } while (reference != clock->reference);
    *tsc = source_to_tsc(clock, reference);
    *ns = source_to_ns(clock, reference, base);
}

uint64_t vm_clock_wall_ns(const struct vm_clock *clock)
{
    return clock->deterministic ? DETERMINISTIC_WALL_NS + vm_clock_now_ns(clock)
                                : os_clock_wall_ns();
}

bool vm_clock_is_deterministic(const struct vm_clock *clock)
{
    return clock->deterministic;
}

void vm_clock_advance(struct vm_clock *clock, uint64_t instructions)
{
    assert(clock->deterministic);
    clock->instruction_ns += instructions * VM_CLOCK_NS_PER_INSTRUCTION;
}

static void tell(struct vm_clock *clock, bool earlier)
{
    if (earlier && clock->wake)
        clock->wake(clock->wake_context);
}

void vm_clock_pause(struct vm_clock *clock)
{
    pthread_mutex_lock(&clock->lock);
    if (!clock->paused) {
        clock->sequence++;
        clock->paused_at = source(clock);
        clock->paused = true;
        clock->sequence++;
    }
    pthread_mutex_unlock(&clock->lock);
}

void vm_clock_resume(struct vm_clock *clock)
{
    pthread_mutex_lock(&clock->lock);
    bool was_paused = clock->paused;
    if (was_paused) {
        clock->sequence++;
        clock->reference = source(clock);
        clock->base += clock->reference - clock->paused_at;
        clock->paused = false;
        clock->sequence++;
    }
    pthread_mutex_unlock(&clock->lock);
    tell(clock, was_paused);
}

void vm_clock_set_ns(struct vm_clock *clock, uint64_t now_ns)
{
    assert(clock->paused);
    uint64_t ticks = clock->deterministic ? now_ns : scale(now_ns, clock->tsc_hz, NS_PER_SECOND);
    pthread_mutex_lock(&clock->lock);
    clock->sequence++;
    clock->base = clock->paused_at - ticks;
    clock->reference = clock->paused_at;
    clock->sequence++;
    pthread_mutex_unlock(&clock->lock);
}

uint64_t vm_clock_next_deadline_ns(const struct vm_clock *clock)
{
    struct vm_clock *c = (struct vm_clock *)(uintptr_t)clock; // for its lock alone
    pthread_mutex_lock(&c->lock);
    uint64_t deadline = clock->first && !clock->paused ? clock->first->deadline_ns : VM_CLOCK_NEVER;
    pthread_mutex_unlock(&c->lock);
    return deadline;
}

static void unlink_timer(struct vm_timer *timer)
{
    if (!timer->armed)
        return;
    if (timer->previous)
        timer->previous->next = timer->next;
    else
        timer->clock->first = timer->next;
    if (timer->next)
        timer->next->previous = timer->previous;
    timer->armed = false;
}

static void link_timer(struct vm_timer *timer)
{
    struct vm_timer *previous = NULL, *next = timer->clock->first;
    while (next && next->deadline_ns <= timer->deadline_ns) {
        previous = next;
        next = next->next;
    }
    timer->previous = previous;
    timer->next = next;
    if (previous)
        previous->next = timer;
    else
        timer->clock->first = timer;
    if (next)
        next->previous = timer;
    timer->armed = true;
}

void vm_clock_run_timers(struct vm_clock *clock)
{
    pthread_mutex_lock(&clock->lock);
    if (clock->running) {
        pthread_mutex_unlock(&clock->lock);
        return;
    }
    clock->running = true;
    clock->runner = pthread_self();
    while (clock->first && !clock->paused && clock->first->deadline_ns <= vm_clock_now_ns(clock)) {
        struct vm_timer *timer = clock->first;
        vm_timer_callback *callback = timer->callback;
        void *context = timer->context;
        unlink_timer(timer);
        clock->current = timer;
        pthread_mutex_unlock(&clock->lock);
        callback(context);
        pthread_mutex_lock(&clock->lock);
        clock->current = NULL;
        pthread_cond_broadcast(&clock->ran);
    }
    clock->running = false;
    pthread_mutex_unlock(&clock->lock);
}

void vm_timer_init(struct vm_timer *timer, struct vm_clock *clock, vm_timer_callback *callback,
                   void *context)
{
    *timer = (struct vm_timer){.clock = clock, .callback = callback, .context = context};
}

void vm_timer_arm(struct vm_timer *timer, uint64_t deadline_ns)
{
    struct vm_clock *clock = timer->clock;
    pthread_mutex_lock(&clock->lock);
    unlink_timer(timer);
    timer->deadline_ns = deadline_ns;
    bool earlier = false;
    if (deadline_ns != VM_CLOCK_NEVER) {
        link_timer(timer);
        // The runner looks at the queue again by itself.
        bool by_runner = clock->running && pthread_equal(clock->runner, pthread_self());
        earlier = clock->first == timer && !by_runner;
    }
    pthread_mutex_unlock(&clock->lock);
    tell(clock, earlier);
}

void vm_timer_disarm(struct vm_timer *timer)
{
    pthread_mutex_lock(&timer->clock->lock);
    unlink_timer(timer);
    pthread_mutex_unlock(&timer->clock->lock);
}

void vm_timer_cancel(struct vm_timer *timer)
{
    struct vm_clock *clock = timer->clock;
    pthread_mutex_lock(&clock->lock);
    unlink_timer(timer);
    while (clock->current == timer && !pthread_equal(clock->runner, pthread_self()))
        pthread_cond_wait(&clock->ran, &clock->lock);
    // Its callback may have armed it again.
    unlink_timer(timer);
    pthread_mutex_unlock(&clock->lock);
}
