// SPDX-License-Identifier: Apache-2.0
//
// The clocks of two CPUs: their TSCs, handed over by a cache line that both write, and KVM's paravirtual clock, whose records are compared with the TSC, with
// each other and with the RTC.
#include "jobs.h"

#define PV_SIGNATURE    0x4B4D564Bu // "KVMK"
#define PV_CLOCK        (1u << 3)
#define PV_CLOCK_STABLE (1u << 24)
#define INVARIANT_TSC   (1u << 8)
#define FLAG_STABLE     1
#define NS_PER_SECOND   1000000000ull
#define FAR_AWAY        (1ull << 60)
#define CR4_TSD         (1ull << 2)
#define PV_LINES        17 // that a machine without this clock answers otherwise

enum { MSR_TSC = 0x10, MSR_WALL = 0x4B564D00, MSR_TIME = 0x4B564D01, MSR_TIME_OLD = 0x12 };
enum { ROUNDS = 100, CMOS_SECONDS = 0, CMOS_MINUTES = 2, CMOS_STATUS_A = 10, CMOS_STATUS_B = 11 };

// Documentation/virt/kvm/x86/msr.rst
struct record {
    uint32_t version, pad0;
    uint64_t tsc_timestamp, system_time;
    uint32_t multiplier;
    int8_t shift;
    uint8_t flags, pad[2];
};
struct wall {
    uint32_t version, seconds, nanoseconds;
};

static volatile struct record records[3] __attribute__((aligned(64)));
static volatile struct wall wall __attribute__((aligned(64)));

void ap_main(void)
{
    alive = 1;
    run_jobs(false);
}

// ---- A stamp goes to and fro: no CPU's clock is behind what the other's said before ----

static struct {
    volatile uint64_t stamp;
    volatile uint32_t turn, backwards;
} ball __attribute__((aligned(64)));
static uint64_t (*read_clock)(unsigned cpu);

static void play(unsigned me)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        while (ball.turn % 2 != me)
            __asm__ volatile("pause");
        ball.backwards += read_clock(me) < ball.stamp;
        ball.stamp = read_clock(me);
        ball.turn++;
    }
}

static void play_second(void)
{
    play(1);
}

static void hand_over(const char *what, uint64_t (*clock)(unsigned cpu))
{
    read_clock = clock;
    memset((void *)&ball, 0, sizeof(ball));
    start(play_second);
    play(0);
    wait_for_job();
    print(what);
    tell(": handed over", ball.turn);
    print("  ");
    print(what);
    tell(" is never behind", !ball.backwards);
}

// ---- The TSC ----

static uint64_t clock_tsc(unsigned cpu)
{
    return rdtsc();
}

// RDTSC of one CPU, the register of the other.
static uint64_t clock_mixed(unsigned cpu)
{
    return cpu ? rdmsr(MSR_TSC) : rdtsc();
}

static void tsc(void)
{
    tell("invariant TSC", (cpuid(0x80000007, 0).edx & INVARIANT_TSC) != 0);
    uint64_t before = rdtsc(), middle = rdmsr(MSR_TSC), after = rdtsc();
    tell("RDMSR of the TSC lies between two RDTSC", before <= middle && middle <= after);
    unsigned stood = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t first = rdtsc();
        stood += rdtsc() < first;
    }
    tell("alone: backwards", stood);
    hand_over("TSC", clock_tsc);
    hand_over("the other's MSR", clock_mixed);
}

// rdtsc, rdtscp; int $0x80
static const uint8_t user_rdtsc[] = {0x0F, 0x31, 0xCD, 0x80};
static const uint8_t user_rdtscp[] = {0x0F, 0x01, 0xF9, 0xCD, 0x80};

static void tsc_of_user_mode(void)
{
    tell_trap("RDTSC in user mode", user_catches(user_rdtsc, sizeof(user_rdtsc), 0), &last_trap);
    write_cr4(read_cr4() | CR4_TSD);
    tell_trap("  with TSD", user_catches(user_rdtsc, sizeof(user_rdtsc), 0), &last_trap);
    tell_trap("  RDTSCP", user_catches(user_rdtscp, sizeof(user_rdtscp), 0), &last_trap);
    write_cr4(read_cr4() & ~CR4_TSD);
    tell_trap("  without again", user_catches(user_rdtsc, sizeof(user_rdtsc), 0), &last_trap);
}

static uint64_t clock_record(unsigned cpu);
static uint64_t (*volatile read_through)(void) = rdtsc;
static volatile uint64_t second_tsc;

static void read_second(void)
{
    second_tsc = rdtsc();
}

// The last of all: nobody can put back exactly what was there. Code that has read the TSC before reads the new one, another CPU its own.
static void written(bool with_clock)
{
    uint64_t before = 0, clock = with_clock ? clock_record(0) : 0;
    for (unsigned i = 0; i < ROUNDS; i++)
        before = read_through();
    wrmsr(MSR_TSC, FAR_AWAY);
    uint64_t after = read_through(), clock_after = with_clock ? clock_record(0) : 0;
    start(read_second);
    wait_for_job();
    tell("TSC written: it goes on from there", after >= FAR_AWAY && after < 2 * FAR_AWAY);
    tell("  the MSR reads", rdmsr(MSR_TSC) >= after && rdmsr(MSR_TSC) < 2 * FAR_AWAY);
    tell("  the other CPU's is its own", second_tsc >= before && second_tsc < FAR_AWAY);
    // Some minutes: somebody else may have the processor.
    if (with_clock)
        tell("  kvmclock does not jump",
             clock_after >= clock && clock_after - clock < 600 * NS_PER_SECOND);
    else
        print("no paravirtual clock here\n");
}

// ---- The paravirtual clock ----

// What the record says of a TSC.
static uint64_t time_at(const volatile struct record *record, uint64_t at)
{
    uint64_t delta = at - record->tsc_timestamp, high;
    delta = record->shift < 0 ? delta >> -record->shift : delta << record->shift;
    __asm__("mulq %2" : "+a"(delta), "=d"(high) : "r"((uint64_t)record->multiplier) : "cc");
    return record->system_time + (high << 32 | delta >> 32);
}

// As a kernel reads it: again when the version was odd or has changed meanwhile.
static uint64_t clock_record(unsigned cpu)
{
    const volatile struct record *record = &records[cpu];
    uint32_t version;
    uint64_t now;

    do {
        while ((version = record->version) & 1)
            __asm__ volatile("pause");
        now = time_at(record, rdtsc());
    } while (record->version != version);
    return now;
}

static void ask(unsigned cpu)
{
    wrmsr(MSR_TIME, (uint64_t)&records[cpu] | 1);
}

static void ask_second(void)
{
    ask(1);
}

static void disable_second(void)
{
    wrmsr(MSR_TIME, 0);
}

static bool is_sound(const volatile struct record *record)
{
    return record->version && !(record->version & 1) && record->multiplier &&
           record->tsc_timestamp <= rdtsc();
}

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

// The records' rate beside what the hypervisor's leaf says, in kHz.
static bool rate_agrees(void)
{
    uint64_t second = cpuid(0x40000010, 0).eax * 1000ull;
    uint64_t from = records[0].tsc_timestamp;
    uint64_t told = time_at(&records[0], from + second) - time_at(&records[0], from);
    return distance(told, NS_PER_SECOND) < 10000;
}

// At many instants, the last ones years away, both records say the same: the stable flag's promise.
static bool records_agree(void)
{
    uint64_t now = rdtsc();
    bool agree = true;
    for (unsigned shift = 0; shift < 56; shift++) {
        uint64_t at = now + (1ull << shift);
        agree &= time_at(&records[0], at) == time_at(&records[1], at);
    }
    return agree;
}

static uint8_t cmos(uint8_t index)
{
    outb(0x70, index);
    return inb(0x71);
}

static unsigned decimal(uint8_t value)
{
    return cmos(CMOS_STATUS_B) & 4 ? value : (value >> 4) * 10u + (value & 15);
}

// Minutes and seconds of the RTC, which do not change while they are read.
static unsigned rtc_seconds(void)
{
    uint8_t seconds, minutes;
    do {
        while (cmos(CMOS_STATUS_A) & 0x80)
            ;
        seconds = cmos(CMOS_SECONDS);
        minutes = cmos(CMOS_MINUTES);
    } while (seconds != cmos(CMOS_SECONDS) || minutes != cmos(CMOS_MINUTES));
    return decimal(minutes) * 60 + decimal(seconds);
}

static void wall_clock(void)
{
    wrmsr(MSR_WALL, (uint64_t)&wall);
    tell("wall clock: version is even", !(wall.version & 1) && wall.version);
    tell("wall clock: nanoseconds", wall.nanoseconds < NS_PER_SECOND);
    unsigned before = rtc_seconds();
    uint64_t now = wall.seconds * NS_PER_SECOND + wall.nanoseconds + clock_record(0);
    unsigned after = rtc_seconds();
    // The RTC's second begins when it likes: one more on both sides.
    unsigned told = (unsigned)(now / NS_PER_SECOND % 3600), span = (after + 3602 - before) % 3600;
    tell("wall clock: as the RTC says", (told + 3601 - before) % 3600 <= span);
}

static void not_asked(void)
{
    uint32_t version = records[2].version;
    wrmsr(MSR_TIME, (uint64_t)&records[2]); // without the bit that asks for it
    tell("not asked for: written", records[2].version != version);
    tell("not asked for: reads", rdmsr(MSR_TIME) == (uint64_t)&records[2]);
    ask(0);
}

static void paravirtual_clock(void)
{
    uint32_t features = cpuid(0x40000001, 0).eax;
    uint64_t before = rdtsc();

    tell("offered, and stable", (features & PV_CLOCK) && (features & PV_CLOCK_STABLE));
    ask(0);
    tell("first: sound", is_sound(&records[0]));
    tell("first: flags", records[0].flags & FLAG_STABLE);
    tell("its rate is the leaf's", rate_agrees());
    // The other one some time later: nothing of that may be left between them.
    while (rdtsc() - before < 200000000)
        __asm__ volatile("pause");
    start(ask_second);
    wait_for_job();
    tell("second: sound", is_sound(&records[1]));
    tell("second: flags", records[1].flags & FLAG_STABLE);
    tell("both agree to the nanosecond", records_agree());
    hand_over("kvmclock", clock_record);
    tell("the old number reads", rdmsr(MSR_TIME_OLD) == ((uint64_t)&records[0] | 1));
    uint32_t version = records[0].version;
    ask(0);
    tell("asked again: still sound", is_sound(&records[0]) && records[0].version >= version);
    tell("asked again: both agree", records_agree());
    wall_clock();
    not_asked();
    start(disable_second);
    wait_for_job();
}

static bool is_offered(void)
{
    return cpuid(1, 0).ecx >> 31 && cpuid(0x40000000, 0).ebx == PV_SIGNATURE;
}

void guest(void)
{
    map_apic();
    start_others();
    while (!alive)
        __asm__ volatile("pause");
    tsc();
    tsc_of_user_mode();
    if (is_offered())
        paravirtual_clock();
    for (unsigned i = 0; !is_offered() && i < PV_LINES; i++)
        print("no paravirtual clock here\n");
    written(is_offered());
}
