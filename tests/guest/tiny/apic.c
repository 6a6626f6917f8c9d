// SPDX-License-Identifier: Apache-2.0
//
// The local APICs of two CPUs: the timer's dividers, its TSC deadline, logical destinations in the flat and the cluster model, x2APIC mode and its messages.
#include "jobs.h"

#define REG_ID      0x20
#define REG_LDR     0xD0
#define REG_DFR     0xE0
#define REG_ICR2    0x310
#define REG_TIMER   0x320
#define REG_INITIAL 0x380
#define REG_CURRENT 0x390
#define REG_DIVIDE  0x3E0

#define MSR_APIC_BASE 0x1Bu
#define MSR_TSC       0x10u
#define MSR_DEADLINE  0x6E0u
#define X2_ID         0x802u
#define X2_TPR        0x808u
#define X2_EOI        0x80Bu
#define X2_LDR        0x80Du
#define X2_SVR        0x80Fu
#define X2_ICR        0x830u
#define X2_SELF       0x83Fu

#define ECX_X2APIC   (1u << 21)
#define ECX_DEADLINE (1u << 24)
#define BASE_X2APIC  (1u << 10)
#define BASE_ENABLED (1u << 11)
#define LOGICAL      0x800u
#define LOWEST       0x100u

#define DEADLINE_LINES 12
#define X2APIC_LINES   21

enum { VECTOR_FENCE = 0x50, VECTOR_TEST = 0x70, VECTOR_TIMER = 0x60 };
enum { TIMER_MASKED = 0x10000, TIMER_DEADLINE = 0x40000 };

static bool x2apic;

// Which of the two is it? By the flag of the bootstrap CPU.
static unsigned this_cpu(void)
{
    return !(rdmsr(MSR_APIC_BASE) >> 8 & 1);
}

// ---- The other CPU ----

void ap_main(void)
{
    prepare_apic();
    alive = 1;
    run_jobs(true);
}

// On both.
static void on_both(job *todo)
{
    start(todo);
    wait_for_job();
    todo();
}

// ---- Who gets a message ----

static volatile unsigned got[2], fenced[2];

static void end_any(void)
{
    if (x2apic)
        wrmsr(X2_EOI, 0);
    else
        end_interrupt();
}

static void on_test(struct trap *trap)
{
    got[this_cpu()]++;
    end_any();
}

static void on_fence(struct trap *trap)
{
    fenced[this_cpu()]++;
    end_any();
}

static void send(uint32_t destination, uint32_t low)
{
    if (x2apic) {
        wrmsr(X2_ICR, (uint64_t)destination << 32 | low);
        return;
    }
    *apic_register(REG_ICR2) = destination << 24;
    *apic_register(REG_ICR) = low;
}

// The fence has the lower priority: when it is through, the message is, too.
static void try_message(const char *what, uint32_t destination, uint32_t low)
{
    got[0] = got[1] = 0;
    unsigned before[2] = {fenced[0], fenced[1]};
    send(destination, low | VECTOR_TEST);
    send(0, ICR_FIXED | 0x80000 | VECTOR_FENCE); // all, itself too
    __asm__ volatile("sti" : : : "memory");
    while (fenced[0] == before[0] || fenced[1] == before[1])
        __asm__ volatile("pause");
    __asm__ volatile("cli" : : : "memory");
    tell(what, got[0] | got[1] << 4);
}

static volatile uint32_t ldr[2], dfr;

static void set_logical(void)
{
    *apic_register(REG_DFR) = dfr;
    *apic_register(REG_LDR) = ldr[this_cpu()];
}

static void set_both_logical(uint32_t model, uint32_t first, uint32_t second)
{
    dfr = model;
    ldr[0] = first << 24;
    ldr[1] = second << 24;
    on_both(set_logical);
}

// Lowest priority: one of them.
static void try_lowest(void)
{
    unsigned rounds = 0;
    for (unsigned i = 0; i < 20; i++) {
        got[0] = got[1] = 0;
        unsigned before[2] = {fenced[0], fenced[1]};
        send(3, ICR_FIXED | LOGICAL | LOWEST | VECTOR_TEST);
        send(0, ICR_FIXED | 0x80000 | VECTOR_FENCE);
        __asm__ volatile("sti" : : : "memory");
        while (fenced[0] == before[0] || fenced[1] == before[1])
            __asm__ volatile("pause");
        __asm__ volatile("cli" : : : "memory");
        rounds += got[0] + got[1] == 1;
    }
    tell("flat: lowest priority, one of both", rounds);
}

static void logical_destinations(void)
{
    set_both_logical(UINT32_MAX, 1, 2);
    tell("LDR", *apic_register(REG_LDR));
    tell("DFR", *apic_register(REG_DFR));
    try_message("flat: 1", 1, ICR_FIXED | LOGICAL);
    try_message("flat: 2", 2, ICR_FIXED | LOGICAL);
    try_message("flat: 3", 3, ICR_FIXED | LOGICAL);
    try_message("flat: 4", 4, ICR_FIXED | LOGICAL);
    try_message("flat: 0", 0, ICR_FIXED | LOGICAL);
    try_message("flat: FF", 0xFF, ICR_FIXED | LOGICAL);
    try_lowest();
    set_both_logical(0x0FFFFFFF, 0x11, 0x21);
    tell("cluster: DFR", *apic_register(REG_DFR));
    try_message("cluster: 11", 0x11, ICR_FIXED | LOGICAL);
    try_message("cluster: 21", 0x21, ICR_FIXED | LOGICAL);
    try_message("cluster: 22", 0x22, ICR_FIXED | LOGICAL);
    try_message("cluster: 31", 0x31, ICR_FIXED | LOGICAL);
    set_both_logical(0x0FFFFFFF, 0x11, 0x12);
    try_message("one cluster: 11", 0x11, ICR_FIXED | LOGICAL);
    try_message("one cluster: 13", 0x13, ICR_FIXED | LOGICAL);
    set_both_logical(UINT32_MAX, 0, 0);
    try_message("no logical id: 1", 1, ICR_FIXED | LOGICAL);
    try_message("physical: 0", 0, ICR_FIXED);
    try_message("physical: 1", 1, ICR_FIXED);
    try_message("physical: 5", 5, ICR_FIXED);
    try_message("physical: FF", 0xFF, ICR_FIXED);
}

// ---- The timer's dividers ----

// What the counter and the TSC say of one stretch of time, which lies between `least` and `most` ticks of the TSC.
struct stretch {
    uint64_t counted, least, most;
};

// Of a count that goes on. Where somebody else had the processor until it was over, it says nothing.
static bool observe(struct stretch *seen)
{
    uint64_t before = rdtsc();
    uint32_t first = *apic_register(REG_CURRENT);
    uint64_t started = rdtsc();
    while (rdtsc() - started < 10000000)
        __asm__ volatile("pause");
    uint64_t ending = rdtsc();
    uint32_t last = *apic_register(REG_CURRENT);
    uint64_t after = rdtsc();
    *seen = (struct stretch){first - last, ending - started, after - before};
    return last > 0;
}

// The count may begin at another pace.
static struct stretch measure(uint32_t first_divide, uint32_t divide)
{
    struct stretch seen;
    do {
        *apic_register(REG_DIVIDE) = first_divide;
        *apic_register(REG_INITIAL) = UINT32_MAX;
        *apic_register(REG_DIVIDE) = divide;
    } while (!observe(&seen));
    *apic_register(REG_INITIAL) = 0;
    return seen;
}

// Can both stretches have been counted at paces that are `times` apart? However long somebody else had the processor meanwhile.
static bool may_be(const struct stretch *one, const struct stretch *other, uint64_t times)
{
    unsigned __int128 slowest = (unsigned __int128)(other->counted + 1) * times * one->most;
    unsigned __int128 fastest = (unsigned __int128)other->counted * times * one->least;
    return slowest >= (unsigned __int128)other->least * one->counted &&
           fastest <= (unsigned __int128)other->most * (one->counted + 1);
}

static void dividers(void)
{
    static const uint8_t codes[8] = {0xB, 0, 1, 2, 3, 8, 9, 0xA}; // 1, 2, 4, … 128
    *apic_register(REG_TIMER) = TIMER_MASKED | VECTOR_TIMER;
    struct stretch one = measure(0xB, 0xB);
    for (unsigned shift = 0; shift < 8; shift++) {
        struct stretch other = measure(codes[shift], codes[shift]);
        print("divided by ");
        print_hex(1u << shift);
        tell("", may_be(&one, &other, 1u << shift));
    }
    *apic_register(REG_DIVIDE) = UINT32_MAX;
    tell("writable bits", *apic_register(REG_DIVIDE));
    struct stretch faster = measure(0xA, 0xB), slower = measure(0xB, 0xA);
    tell("a pace that changes to 1", may_be(&one, &faster, 1));
    tell("a pace that changes to 128", may_be(&one, &slower, 128));
}

// ---- The TSC's deadline ----

static volatile unsigned fired;
static volatile uint64_t fired_at;

static void on_timer(struct trap *trap)
{
    fired_at = rdtsc();
    fired++;
    end_any();
}

static void await_timer(unsigned count)
{
    while (fired < count)
        __asm__ volatile("sti; hlt; cli" : : : "memory");
}

static void open(void)
{
    __asm__ volatile("sti; nop; nop; cli" : : : "memory");
}

static void deadlines(void)
{
    if (!(cpuid(1, 0).ecx & ECX_DEADLINE)) {
        for (unsigned i = 0; i < DEADLINE_LINES; i++)
            print("no TSC deadline here\n");
        return;
    }
    *apic_register(REG_TIMER) = VECTOR_TIMER;
    wrmsr(MSR_DEADLINE, rdtsc() + 1000000);
    tell("deadline in another mode: reads", rdmsr(MSR_DEADLINE));
    *apic_register(REG_TIMER) = TIMER_DEADLINE | VECTOR_TIMER;
    *apic_register(REG_INITIAL) = 1000;
    tell("count in this mode: reads", *apic_register(REG_CURRENT));
    uint64_t deadline = rdtsc() + 10000000;
    wrmsr(MSR_DEADLINE, deadline);
    uint64_t told = rdmsr(MSR_DEADLINE);
    tell("deadline: reads itself, or is over", told == deadline || !told);
    await_timer(1);
    tell("  fired", fired);
    tell("  not before", fired_at >= deadline);
    tell("  reads", rdmsr(MSR_DEADLINE));
    wrmsr(MSR_DEADLINE, rdtsc() - 1);
    open();
    tell("in the past: fired", fired);
    wrmsr(MSR_DEADLINE, 1);
    open();
    tell("at 1: fired", fired);
    wrmsr(MSR_DEADLINE, rdtsc() + (1ull << 40));
    wrmsr(MSR_DEADLINE, 0);
    tell("disarmed: reads", rdmsr(MSR_DEADLINE));
    wrmsr(MSR_DEADLINE, rdtsc() + (1ull << 40));
    *apic_register(REG_TIMER) = VECTOR_TIMER; // the change of mode disarms
    *apic_register(REG_TIMER) = TIMER_DEADLINE | VECTOR_TIMER;
    tell("mode changed: reads", rdmsr(MSR_DEADLINE));
    // Masked, it passes without a word.
    *apic_register(REG_TIMER) = TIMER_DEADLINE | TIMER_MASKED | VECTOR_TIMER;
    wrmsr(MSR_DEADLINE, rdtsc() - 1);
    *apic_register(REG_TIMER) = TIMER_DEADLINE | VECTOR_TIMER;
    open();
    tell("masked: fired", fired);
    // A TSC that is written moves past it.
    wrmsr(MSR_DEADLINE, rdtsc() + (1ull << 50));
    wrmsr(MSR_TSC, rdtsc() + (1ull << 51));
    await_timer(4);
    tell("TSC written: fired", fired);
    *apic_register(REG_TIMER) = TIMER_MASKED | VECTOR_TIMER;
}

// ---- x2APIC mode ----

static void enter_x2apic(void)
{
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | BASE_X2APIC);
    wrmsr(X2_SVR, 0x1FF);
}

static volatile uint64_t ids[2], ldrs[2];

static void note_ids(void)
{
    ids[this_cpu()] = rdmsr(X2_ID);
    ldrs[this_cpu()] = rdmsr(X2_LDR);
}

static void read_msr(void *msr)
{
    rdmsr((uint32_t)(uintptr_t)msr);
}

struct written {
    uint32_t msr;
    uint64_t value;
};

static void write_msr(void *argument)
{
    const struct written *w = argument;
    wrmsr(w->msr, w->value);
}

static void try_write(const char *what, uint32_t msr, uint64_t value)
{
    struct written w = {msr, value};
    TELL_CATCH(what, write_msr, &w);
}

static void extended_mode(void)
{
    if (!(cpuid(1, 0).ecx & ECX_X2APIC)) {
        for (unsigned i = 0; i < X2APIC_LINES; i++)
            print("no x2APIC here\n");
        return;
    }
    TELL_CATCH("x2APIC: MSRs before", read_msr, (void *)(uintptr_t)X2_ID);
    on_both(enter_x2apic);
    x2apic = true;
    on_both(note_ids);
    tell("x2APIC: ids", ids[0] | ids[1] << 4);
    tell("x2APIC: logical ids", ldrs[0] | ldrs[1] << 4);
    try_message("x2APIC: physical 0", 0, 0);
    try_message("x2APIC: physical 1", 1, 0);
    try_message("x2APIC: physical 7", 7, 0);
    try_message("x2APIC: physical FF", 0xFF, 0);
    try_message("x2APIC: physical FFFFFFFF", UINT32_MAX, 0);
    try_message("x2APIC: logical 1", 1, LOGICAL);
    try_message("x2APIC: logical 2", 2, LOGICAL);
    try_message("x2APIC: logical 3", 3, LOGICAL);
    try_message("x2APIC: logical, another cluster", 0x10003, LOGICAL);
    try_message("x2APIC: others", 0, 0xC0000);
    got[0] = 0;
    wrmsr(X2_SELF, VECTOR_TEST);
    open();
    tell("x2APIC: self", got[0]);
    try_write("x2APIC: EOI of 1", X2_EOI, 1);
    try_write("x2APIC: TPR of 64 bits", X2_TPR, 1ull << 32);
    try_write("x2APIC: SELF, reserved bits", X2_SELF, 0x100 | VECTOR_TEST);
    try_write("x2APIC: ID", X2_ID, 0);
    try_write("x2APIC: upper half of ICR", X2_ICR + 1, 0);
    try_write("back to xAPIC at once", MSR_APIC_BASE,
              rdmsr(MSR_APIC_BASE) & ~(uint64_t)BASE_X2APIC);
    try_write("off", MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) & ~(uint64_t)(BASE_X2APIC | BASE_ENABLED));
}

void guest(void)
{
    outb(0x21, 0xFF);
    outb(0xA1, 0xFF);
    set_handler(VECTOR_FENCE, on_fence);
    set_handler(VECTOR_TEST, on_test);
    set_handler(VECTOR_TIMER, on_timer);
    map_apic();
    start_others();
    while (!alive)
        __asm__ volatile("pause");
    logical_destinations();
    dividers();
    deadlines();
    extended_mode();
}
