// SPDX-License-Identifier: Apache-2.0
//
// Four CPUs get in each other's way: locked instructions of every width on the same bytes, also across cache lines and pages; pages that are taken away while
// others read, write and execute them; functions in one page that everybody changes and everybody executes. All that is told are
// counts of what came out wrong.
#include "cpus.h"

#define CPUS 4u
#ifndef FACTOR
#define FACTOR 1u
#endif
#define ATOMIC_ROUNDS    (1000u * FACTOR)
#define CROSSING_ROUNDS  (20000u * FACTOR) // so many that they do not pass within one slice of time
#define SHOOTDOWN_ROUNDS (40u * FACTOR)
#define CHANGE_ROUNDS    (300u * FACTOR)

#define VECTOR_SHOOTDOWN 0x51
#define POISON           0xDEADu

#define FRAMES         0x900000ull
#define MOVING         (USER_PAGES + 0x100000) // the page that is taken away, between two frames
#define MOVING_ENTRY   user_table[256]
#define CROSSING       (USER_PAGES + 0x110000) // two pages whose frames lie the other way round
#define CROSSING_ENTRY (&user_table[272])
#define WORD_ACROSS    (FRAMES + 0x20000 - 1) // these are neighbours
#define CHANGING       (FRAMES + 0x8000)

static unsigned barrier_arrived;

static void barrier(void)
{
    unsigned mine = __atomic_add_fetch(&barrier_arrived, 1, __ATOMIC_SEQ_CST);
    unsigned whole = (mine + CPUS - 1) / CPUS * CPUS;

    while (__atomic_load_n(&barrier_arrived, __ATOMIC_SEQ_CST) < whole)
        __asm__ volatile("pause");
}

// ---- Atomics ----

static volatile struct {
    uint8_t byte __attribute__((aligned(64)));
    uint16_t word;
    uint32_t dword, exchanged;
    uint64_t qword, added, compared, pair, inverted, bits;
    uint64_t wide[2] __attribute__((aligned(16)));
    uint32_t lock, guarded;
    uint8_t lines[128] __attribute__((aligned(64))); // what is added to lies around the boundary
} shared;

#define LOCKED(operation, operand, value)                                                          \
    __asm__ volatile("lock " operation " %1, %0" : "+m"(operand) : "r"(value) : "cc")
#define AT(type, address) (*(volatile type *)(address))

static void compare_pairs(void)
{
    uint64_t low = shared.wide[0], high = shared.wide[1];
    uint32_t old_low = (uint32_t)shared.pair, old_high = (uint32_t)(shared.pair >> 32);
    bool done = false;

    while (!done)
        __asm__ volatile("mov %%rax, %%rbx; mov %%rdx, %%rcx; add $1, %%rbx; adc $1, %%rcx; "
                         "lock cmpxchg16b %1; setz %0"
                         : "=r"(done), "+m"(shared.wide), "+a"(low), "+d"(high)
                         :
                         : "rbx", "rcx", "cc");
    for (done = false; !done;)
        __asm__ volatile("mov %%eax, %%ebx; mov %%edx, %%ecx; add $1, %%ebx; adc $1, %%ecx; "
                         "lock cmpxchg8b %1; setz %0"
                         : "=r"(done), "+m"(shared.pair), "+a"(old_low), "+d"(old_high)
                         :
                         : "rbx", "rcx", "cc");
}

static void one_by_one(void)
{
    uint32_t taken;

    do {
        taken = 1;
        __asm__ volatile("xchg %0, %1" : "+r"(taken), "+m"(shared.lock));
    } while (taken);
    shared.guarded = shared.guarded + 1;
    __asm__ volatile("" : : : "memory");
    shared.lock = 0;
}

static void add_one_each(unsigned round)
{
    uint64_t one = 1, seen = shared.compared;

    LOCKED("addb", shared.byte, (uint8_t)1);
    LOCKED("addw", shared.word, (uint16_t)1);
    LOCKED("addl", shared.dword, 1u);
    LOCKED("addq", shared.qword, 1ull);
    __asm__ volatile("lock xaddq %0, %1" : "+r"(one), "+m"(shared.added) : : "cc");
    LOCKED("btcq", shared.bits, (uint64_t)(round % 64));
    LOCKED("btcq", shared.bits, (uint64_t)(round % 64));
    __asm__ volatile("lock notq %0" : "+m"(shared.inverted));
    bool done = false;
    while (!done)
        __asm__ volatile("lock cmpxchgq %3, %1; setz %0"
                         : "=q"(done), "+m"(shared.compared), "+a"(seen)
                         : "r"(seen + 1)
                         : "cc");
    compare_pairs();
    one_by_one();
}

// All CPUs across the boundary, the odd ones also to its halves alone: each byte gets what it got, whoever came.
static void straddle(unsigned me, uint64_t boundary)
{
    LOCKED("addq", AT(uint64_t, boundary - 4), 0x0000000100000001ull);
    if (me & 1) {
        LOCKED("addl", AT(uint32_t, boundary - 4), 1u);
        LOCKED("addl", AT(uint32_t, boundary), 1u);
    }
}

static void atomics(unsigned me)
{
    for (unsigned i = 0; i < ATOMIC_ROUNDS; i++) {
        add_one_each(i);
        straddle(me, (uint64_t)shared.lines + 64);
        LOCKED("addw", AT(uint16_t, WORD_ACROSS), (uint16_t)0x0101);
    }
}

// The even ones add across the boundary, as long as that takes the odd ones add to its halves.
static volatile uint32_t straddlers_done;
static uint64_t halves_added;

static void straddle_pages(unsigned me)
{
    uint64_t boundary = CROSSING + 4096, added = 0;

    if (me % 2 == 0) {
        for (unsigned i = 0; i < CROSSING_ROUNDS; i++)
            LOCKED("addq", AT(uint64_t, boundary - 4), 0x0000000100000001ull);
        __atomic_fetch_add(&straddlers_done, 1, __ATOMIC_SEQ_CST);
        return;
    }
    for (; straddlers_done < CPUS / 2; added++) {
        LOCKED("addl", AT(uint32_t, boundary - 4), 1u);
        LOCKED("addl", AT(uint32_t, boundary), 1u);
    }
    __atomic_fetch_add(&halves_added, added, __ATOMIC_SEQ_CST);
}

static void tell_atomics(void)
{
    uint64_t all = CPUS * ATOMIC_ROUNDS;

    tell("byte", shared.byte - (uint8_t)all);
    tell("word", shared.word - (uint16_t)all);
    tell("dword", shared.dword - (uint32_t)all);
    tell("qword", shared.qword - all);
    tell("xadd", shared.added - all);
    tell("btc", shared.bits);
    tell("not", shared.inverted);
    tell("cmpxchg", shared.compared - all);
    tell("cmpxchg8b", shared.pair - (all << 32 | all));
    tell("cmpxchg16b", (shared.wide[0] - all) | (shared.wide[1] - all));
    tell("xchg", shared.guarded - all);
    uint64_t lines = all + CPUS / 2 * ATOMIC_ROUNDS;
    tell("across a line", AT(uint64_t, (uint64_t)shared.lines + 60) - (lines << 32 | lines));
    uint32_t each = (uint32_t)(CPUS / 2 * CROSSING_ROUNDS + halves_added);
    tell("across a page",
         (AT(uint32_t, CROSSING + 4092) - each) | (AT(uint32_t, CROSSING + 4096) - each));
    tell("word across a page", (uint16_t)(AT(uint16_t, WORD_ACROSS) - all * 0x0101));
}

// ---- Pages taken away ----

static volatile uint32_t acknowledged, shootdowns_over;
static uint32_t poison_read, poison_executed, stale_writes;

static void shootdown_handler(struct trap *trap)
{
    invlpg(MOVING);
    __atomic_fetch_add(&acknowledged, 1, __ATOMIC_SEQ_CST);
    end_interrupt();
}

// nop; nop; nop; mov $value, %eax; ret, then a number, then a counter for each CPU.
static void write_frame(uint64_t frame, uint32_t value)
{
    static const uint8_t code[] = {0x90, 0x90, 0x90, 0xB8};

    memcpy((void *)frame, code, sizeof(code));
    AT(uint32_t, frame + 4) = value;
    AT(uint8_t, frame + 8) = 0xC3;
    AT(uint32_t, frame + 64) = value;
}

static void use_moving_page(unsigned me)
{
    uint32_t (*code)(void) = (uint32_t(*)(void))MOVING;

    __asm__ volatile("sti");
    while (!shootdowns_over) {
        if (AT(uint32_t, MOVING + 64) == POISON)
            __atomic_fetch_add(&poison_read, 1, __ATOMIC_SEQ_CST);
        if (code() == POISON)
            __atomic_fetch_add(&poison_executed, 1, __ATOMIC_SEQ_CST);
        __asm__ volatile("incl %0" : "+m"(AT(uint32_t, MOVING + 128 + 64 * me)) : : "cc");
    }
    __asm__ volatile("cli");
}

static void take_away(uint32_t round)
{
    uint64_t old = FRAMES + (round & 1) * 0x1000, new = FRAMES + (~round & 1) * 0x1000;
    uint32_t before[CPUS];

    write_frame(new, round);
    acknowledged = 0;
    MOVING_ENTRY = new | 3;
    invlpg(MOVING);
    *apic_register(REG_ICR) = ICR_OTHERS | ICR_FIXED | VECTOR_SHOOTDOWN;
    while (acknowledged != CPUS - 1)
        __asm__ volatile("pause");
    // From here on nobody has anything of the old frame.
    write_frame(old, POISON);
    for (unsigned i = 1; i < CPUS; i++)
        before[i] = AT(uint32_t, old + 128 + 64 * i);
    for (unsigned i = 0; i < 200; i++)
        __asm__ volatile("pause");
    for (unsigned i = 1; i < CPUS; i++)
        stale_writes += AT(uint32_t, old + 128 + 64 * i) != before[i];
}

static void shootdowns(unsigned me)
{
    if (me) {
        use_moving_page(me);
        return;
    }
    for (uint32_t round = 1; round <= SHOOTDOWN_ROUNDS; round++)
        take_away(round);
    shootdowns_over = 1;
}

// ---- Code that everybody changes ----

static volatile struct {
    uint32_t value __attribute__((aligned(64)));
    uint32_t enough;
} said[CPUS];
static uint32_t old_in_one_page, old_in_pages;

static uint64_t function_of(unsigned cpu)
{
    return CHANGING + 64 * (cpu % CPUS);
}

static uint64_t page_of(unsigned cpu)
{
    return CHANGING + 0x1000 * (cpu + 1);
}

static void execute_at_least(uint64_t function, unsigned changer, uint32_t *old)
{
    uint32_t (*code)(void) = (uint32_t(*)(void))function;
    uint32_t least = said[changer].value;

    cpuid(0, 0); // serializes
    uint32_t got = code();
    if (got < least || got > said[changer].value + 1)
        __atomic_store_n(old, 1, __ATOMIC_SEQ_CST);
}

// All in one page: each changes its own function and executes the next one's, at least as new as what was said before it serialized.
static void change_and_execute(unsigned me)
{
    for (uint32_t i = 1; i <= CHANGE_ROUNDS; i++) {
        AT(uint32_t, function_of(me) + 4) = i;
        said[me].value = i;
        execute_at_least(function_of(me + 1), (me + 1) % CPUS, &old_in_one_page);
    }
}

// Two by two, a page for each pair: one changes all the time what the other executes.
static void change_for_another(unsigned me)
{
    unsigned changer = me & ~1u;

    if (me == changer) {
        for (uint32_t i = CHANGE_ROUNDS + 1; !said[me].enough; i++) {
            AT(uint32_t, page_of(me) + 4) = i;
            said[me].value = i;
        }
        return;
    }
    for (uint32_t i = 0, seen = CHANGE_ROUNDS; i < 30 * FACTOR; i++) {
        while (said[changer].value == seen || said[changer].value <= CHANGE_ROUNDS)
            __asm__ volatile("pause");
        seen = said[changer].value;
        for (unsigned k = 0; k < 4; k++)
            execute_at_least(page_of(changer), changer, &old_in_pages);
    }
    said[changer].enough = 1;
}

// ---- All of it ----

static void everybody(unsigned me)
{
    barrier();
    atomics(me);
    barrier();
    straddle_pages(me);
    barrier();
    shootdowns(me);
    barrier();
    change_and_execute(me);
    barrier();
    change_for_another(me);
    barrier();
}

static unsigned alive;

void ap_main(void)
{
    prepare_apic();
    everybody(__atomic_add_fetch(&alive, 1, __ATOMIC_SEQ_CST));
    for (;;)
        __asm__ volatile("cli; hlt");
}

static void prepare_pages(void)
{
    CROSSING_ENTRY[0] = (FRAMES + 0x5000) | 3;
    CROSSING_ENTRY[1] = (FRAMES + 0x4000) | 3;
    invlpg(CROSSING);
    invlpg(CROSSING + 4096);
    write_frame(FRAMES + 0x1000, 1);
    MOVING_ENTRY = (FRAMES + 0x1000) | 3;
    invlpg(MOVING);
    for (unsigned i = 0; i < CPUS; i++) {
        write_frame(function_of(i), 0);
        write_frame(page_of(i), 0);
    }
}

void guest(void)
{
    map_apic();
    prepare_pages();
    set_handler(VECTOR_SHOOTDOWN, shootdown_handler);
    start_others();
    everybody(0);
    tell_atomics();
    tell("poison read", poison_read);
    tell("poison executed", poison_executed);
    tell("stale writes", stale_writes);
    tell("old code in one page", old_in_one_page);
    tell("old code in pages", old_in_pages);
}
