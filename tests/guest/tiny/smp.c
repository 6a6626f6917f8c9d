// SPDX-License-Identifier: Apache-2.0
//
// Two CPUs: INIT and SIPI, IPIs both ways, atomic instructions under contention, store ordering, TLB shootdown, code that one CPU changes
// and the other executes.
#include "jobs.h"

#define PAGE   (USER_PAGES + 0x100000)
#define ENTRY  (*(volatile uint64_t *)&user_table[256])
#define FRAME  0x900000ull
#define ROUNDS 200u

#define LOOP_CYCLES 10000000000ull

enum { VECTOR_PING = 0x50, VECTOR_SHOOTDOWN = 0x51, VECTOR_WAKE = 0x52 };

void ap_main(void)
{
    prepare_apic();
    __atomic_fetch_add(&alive, 1, __ATOMIC_SEQ_CST);
    run_jobs(false);
}

// ---- IPIs ----

static volatile unsigned pings, pongs;

static void ping_handler(struct trap *trap)
{
    bool bootstrap = rdmsr(0x1B) >> 8 & 1;

    if (bootstrap)
        pongs++;
    else
        pings++;
    end_interrupt();
    if (!bootstrap)
        *apic_register(REG_ICR) = ICR_OTHERS | 0x4000 | VECTOR_PING;
}

static void open_for_pings(void)
{
    __asm__ volatile("sti");
    while (pings < ROUNDS)
        __asm__ volatile("pause");
    __asm__ volatile("cli");
}

static void ping_pong(void)
{
    set_handler(VECTOR_PING, ping_handler);
    start(open_for_pings);
    __asm__ volatile("sti");
    for (unsigned i = 0; i < ROUNDS; i++) {
        *apic_register(REG_ICR) = ICR_OTHERS | 0x4000 | VECTOR_PING;
        while (pongs <= i)
            __asm__ volatile("pause");
    }
    __asm__ volatile("cli");
    wait_for_job();
    tell("pings", pings);
    tell("pongs", pongs);
}

static void wake_handler(struct trap *trap)
{
    end_interrupt();
}

static volatile unsigned halts;

static void halting(void)
{
    for (unsigned i = 0; i < 200; i++) {
        __asm__ volatile("sti; hlt; cli");
        halts++;
    }
}

// A halted CPU wakes for each IPI; one that is sent before HLT is not lost.
static void wake_up(void)
{
    set_handler(VECTOR_WAKE, wake_handler);
    start(halting);
    for (unsigned i = 0; i < 200; i++) {
        *apic_register(REG_ICR) = ICR_OTHERS | 0x4000 | VECTOR_WAKE;
        while (halts <= i)
            __asm__ volatile("pause");
    }
    wait_for_job();
    tell("halts", halts);
}

// ---- Atomics ----

static volatile uint64_t counter, adder, bits;
static volatile uint64_t wide[2] __attribute__((aligned(16)));
static volatile uint32_t lock, guarded;
static volatile uint64_t split_bytes[16] __attribute__((aligned(64)));

static void count_up(void)
{
    volatile uint64_t *split =
        (volatile uint64_t *)((uint64_t)split_bytes + 60); // across a cache line

    for (unsigned i = 0; i < 20000; i++) {
        __asm__ volatile("lock incq %0" : "+m"(counter) : : "cc");
        uint64_t one = 1;
        __asm__ volatile("lock xaddq %0, %1" : "+r"(one), "+m"(adder) : : "cc");
        __asm__ volatile("lock btcq %1, %0" : "+m"(bits) : "r"((uint64_t)(i & 63)) : "cc");
        uint64_t low = wide[0], high = wide[1];
        bool done = false;
        while (!done)
            __asm__ volatile("mov %%rax, %%rbx; mov %%rdx, %%rcx; add $1, %%rbx; adc $1, %%rcx; "
                             "lock cmpxchg16b %1; setz %0"
                             : "=r"(done), "+m"(wide), "+a"(low), "+d"(high)
                             :
                             : "rbx", "rcx", "cc");
        uint32_t taken = 1;
        do {
            taken = 1;
            __asm__ volatile("xchg %0, %1" : "+r"(taken), "+m"(lock));
        } while (taken);
        guarded = guarded + 1;
        __asm__ volatile("" : : : "memory");
        lock = 0;
        if (i < 2000)
            __asm__ volatile("lock addq $1, %0" : "+m"(*split) : : "cc");
    }
}

static void atomics(void)
{
    start(count_up);
    count_up();
    wait_for_job();
    tell("inc", counter);
    tell("xadd", adder);
    tell("btc", bits);
    tell("cmpxchg16b", wide[0]);
    tell("cmpxchg16b high", wide[1]);
    tell("under a lock", guarded);
    tell("across a line", *(volatile uint64_t *)((uint64_t)split_bytes + 60));
}

// ---- Store ordering: with MFENCE at least one sees the other's store ----

static volatile uint32_t flag_a, flag_b, seen_by_a, seen_by_b, round_a, round_b;

static void order_other(void)
{
    for (unsigned i = 1; i <= ROUNDS; i++) {
        while (round_a != i)
            ;
        flag_b = i;
        __asm__ volatile("mfence" : : : "memory");
        seen_by_b = flag_a;
        __asm__ volatile("" : : : "memory");
        round_b = i;
    }
}

static void ordering(void)
{
    unsigned neither = 0;

    start(order_other);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        round_a = i;
        flag_a = i;
        __asm__ volatile("mfence" : : : "memory");
        seen_by_a = flag_b;
        while (round_b != i)
            ;
        neither += seen_by_a != i && seen_by_b != i;
    }
    wait_for_job();
    tell("neither saw the other", neither);
}

// ---- TLB shootdown ----

static volatile unsigned shot, stale, reads;
static volatile uint64_t expected;

static void shootdown_handler(struct trap *trap)
{
    invlpg(PAGE);
    shot++;
    end_interrupt();
}

static void reader(void)
{
    __asm__ volatile("sti");
    while (shot < ROUNDS) {
        unsigned before = shot;
        uint64_t want = expected, got = *(volatile uint64_t *)PAGE;
        // Only a read between two shootdowns has a known answer.
        if (before == shot && want == expected && before == want)
            stale += got != want;
        reads++;
    }
    __asm__ volatile("cli");
}

// The new number is expected before the entry shows it: a processor may drop the old entry of its TLB at any time, and the reader sees the new page then
// before it is told to.
static void shootdown(void)
{
    *(volatile uint64_t *)FRAME = 0;
    ENTRY = FRAME | 3;
    invlpg(PAGE);
    set_handler(VECTOR_SHOOTDOWN, shootdown_handler);
    start(reader);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        uint64_t frame = FRAME + (i & 1) * 0x1000;
        *(volatile uint64_t *)frame = i;
        expected = i;
        ENTRY = frame | 3;
        *apic_register(REG_ICR) = ICR_OTHERS | 0x4000 | VECTOR_SHOOTDOWN;
        while (shot < i)
            __asm__ volatile("pause");
    }
    wait_for_job();
    tell("shootdowns", shot);
    tell("stale reads", stale);
    tell("reads at all", reads > 0);
}

// ---- Cross-modifying code ----

static volatile uint32_t published, executed, wrong;

static void execute_changed(void)
{
    uint32_t (*code)(void) = (uint32_t(*)(void))(FRAME + 0x2000);

    for (uint32_t i = 1; i <= ROUNDS; i++) {
        while (published != i)
            __asm__ volatile("pause");
        cpuid(0, 0); // serializes
        wrong += code() != i;
        executed = i;
    }
}

static void cross_modify(void)
{
    volatile uint8_t *code = (volatile uint8_t *)(FRAME + 0x2000);

    // Three bytes of NOP so that the immediate is aligned: nop; nop; nop; mov $imm, %eax; ret
    code[0] = code[1] = code[2] = 0x90;
    code[3] = 0xB8;
    code[8] = 0xC3;
    start(execute_changed);
    for (uint32_t i = 1; i <= ROUNDS; i++) {
        *(volatile uint32_t *)(code + 4) = i;
        published = i;
        while (executed != i)
            __asm__ volatile("pause");
    }
    wait_for_job();
    tell("changed code executed", executed);
    tell("old code executed", wrong);
}

// A loop that never ends but for the byte that the other CPU changes in it: JMP to itself becomes a RET. Some seconds must be enough; INIT gets the CPU out
// of it in any case.
static void spin_in_code(void)
{
    ((void (*)(void))(FRAME + 0x3000))();
}

static void break_a_loop(void)
{
    volatile uint8_t *code = (volatile uint8_t *)(FRAME + 0x3000);

    code[0] = 0xEB; // jmp .
    code[1] = 0xFE;
    start(spin_in_code);
    pause_long();
    pause_long();
    code[0] = 0xC3;
    uint64_t start_tsc = rdtsc();
    while (jobs_done != jobs_started && rdtsc() - start_tsc < LOOP_CYCLES)
        __asm__ volatile("pause");
    print(jobs_done == jobs_started ? "the loop ended\n" : "the loop goes on\n");
}

void guest(void)
{
    map_apic();
    start_others();
    while (!alive)
        __asm__ volatile("pause");
    pause_long();
    tell("others alive", alive);
    ping_pong();
    wake_up();
    atomics();
    ordering();
    shootdown();
    cross_modify();
    break_a_loop();
    // INIT takes it from whatever it does; it starts again.
    start_others();
    while (alive < 2)
        __asm__ volatile("pause");
    tell("alive again", alive);
}
