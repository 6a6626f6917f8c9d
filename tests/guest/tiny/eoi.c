// SPDX-License-Identifier: Apache-2.0
//
// The end of interrupts with KVM's paravirtual EOI (Documentation/virt/kvm/x86/msr.rst, MSR_KVM_PV_EOI_EN): the bit is set when an interrupt is delivered and
// nothing else waits; who finds it set clears it and need not write the register. Interrupts of other priorities meanwhile, levels, another word.
//
// Where it is not offered the same handlers find the bit clear and write the register: all but what is said of the bit must be the same.
#include "cpus.h"

#define IOAPIC_PHYSICAL 0xFEC00000ull
#define IOAPIC          0x800000ull // seen there
#define MSR_PV_EOI      0x4B564D04u
#define PV_SIGNATURE    0x4B4D564Bu
#define PV_EOI          (1u << 6)
#define SELF            0x40000u
#define LEVEL           0x8000u
#define MASKED          0x10000u
#define REMOTE_IRR      0x4000u
#define REG_ISR         0x100

enum { COM1_IER = 0x3F9, COM1_IIR = 0x3FA, COM1_MCR = 0x3FC, COM1_INPUT = 4 };
enum { LOW = 0x40, MIDDLE = 0x50, HIGH = 0x70, LEVELS = 0x58, ROUNDS = 200 };

static volatile uint32_t words[32] __attribute__((aligned(64))); // one is used, or the other
static volatile uint32_t *word = &words[0];
static bool offered;

static volatile unsigned seen[256], set[256], by_register;

static void self_ipi(uint8_t vector)
{
    *apic_register(REG_ICR) = SELF | vector;
}

static void open(void)
{
    __asm__ volatile("sti; nop; nop; nop; cli" : : : "memory");
}

static bool in_service(uint8_t vector)
{
    return *apic_register(REG_ISR + vector / 32 * 16u) >> (vector % 32) & 1;
}

static bool bit_is_set(void)
{
    return *word & 1;
}

// As a kernel ends an interrupt.
static void end(void)
{
    bool was_set;
    __asm__ volatile("btrl $0, %1; setc %0" : "=q"(was_set), "+m"(*word) : : "memory", "cc");
    if (was_set)
        return;
    by_register++;
    end_interrupt();
}

static void note(struct trap *trap)
{
    seen[trap->vector]++;
    set[trap->vector] += bit_is_set();
}

static void on_interrupt(struct trap *trap)
{
    note(trap);
    end();
}

static void forget(void)
{
    memset((void *)seen, 0, sizeof(seen));
    memset((void *)set, 0, sizeof(set));
    by_register = 0;
}

static void enable(bool on)
{
    if (offered)
        wrmsr(MSR_PV_EOI, (uint64_t)word | on);
}

// ---- The other CPU: sends what it is asked to ----

static volatile unsigned wanted, sent, alive;
static volatile uint64_t msr_after_init;

void ap_main(void)
{
    prepare_apic();
    if (alive && offered)
        msr_after_init = rdmsr(MSR_PV_EOI);
    else if (offered)
        wrmsr(MSR_PV_EOI, (uint64_t)&words[16] | 1);
    alive++;
    for (;;) {
        unsigned vector;
        while (!(vector = wanted))
            __asm__ volatile("pause");
        wanted = 0;
        *apic_register(REG_ICR) = ICR_OTHERS | ICR_FIXED | vector;
        sent++;
    }
}

// Returns when it is on its way; it may have come.
static void ask_for(uint8_t vector)
{
    unsigned before = sent;
    wanted = vector;
    while (sent == before)
        __asm__ volatile("pause");
}

// ---- One interrupt ----

static void on_delivery(void)
{
    self_ipi(MIDDLE);
    open();
    tell("delivered: bit", set[MIDDLE]);
    tell("  by register", by_register);
    tell("  bit afterwards", bit_is_set());
    tell("  in service afterwards", in_service(MIDDLE));
    forget();
    for (unsigned i = 0; i < ROUNDS; i++) {
        self_ipi(MIDDLE);
        open();
    }
    tell("in a row", seen[MIDDLE]);
    tell("  bits", set[MIDDLE]);
    tell("  by register", by_register);
    forget();
}

static void on_interrupt_register(struct trap *trap)
{
    note(trap);
    end_interrupt();
}

static void without_using_it(void)
{
    set_handler(MIDDLE, on_interrupt_register);
    self_ipi(MIDDLE);
    open();
    tell("register in spite of the bit: bit", set[MIDDLE]);
    tell("  bit afterwards", bit_is_set());
    tell("  in service afterwards", in_service(MIDDLE));
    self_ipi(MIDDLE);
    open();
    tell("  interrupts", seen[MIDDLE]);
    set_handler(MIDDLE, on_interrupt);
    forget();
}

// ---- Others beside it ----

static void others_wait(void)
{
    self_ipi(LOW);
    self_ipi(HIGH);
    open();
    tell("another waits: bit", set[HIGH]);
    tell("  interrupts", seen[HIGH] + seen[LOW]);
    tell("  the last one: bit", set[LOW]);
    tell("  by register", by_register);
    forget();
}

static volatile bool bit_after;

static void on_interrupt_again(struct trap *trap)
{
    note(trap);
    if (seen[trap->vector] == 1) {
        self_ipi((uint8_t)trap->vector);
        bit_after = bit_is_set();
    }
    end();
}

static void the_same_again(void)
{
    set_handler(MIDDLE, on_interrupt_again);
    self_ipi(MIDDLE);
    open();
    open();
    tell("the same again while in service: bit", bit_after);
    tell("  interrupts", seen[MIDDLE]);
    set_handler(MIDDLE, on_interrupt);
    forget();
}

static volatile bool inner_in_service, outer_in_service;

// Without touching the APIC before the inner one has come and gone.
static void on_outer(struct trap *trap)
{
    note(trap);
    ask_for(HIGH);
    __asm__ volatile("sti" : : : "memory");
    while (!seen[HIGH])
        __asm__ volatile("pause");
    __asm__ volatile("cli" : : : "memory");
    bit_after = bit_is_set();
    inner_in_service = in_service(HIGH);
    outer_in_service = in_service((uint8_t)trap->vector);
    if (trap->vector == LEVELS)
        inb(COM1_IIR);
    end();
}

static void tell_nested(uint8_t outer)
{
    tell("  bit", set[outer]);
    tell("  the inner one's bit", set[HIGH]);
    tell("  bit after it", bit_after);
    tell("  the inner one in service", inner_in_service);
    tell("  the outer one in service", outer_in_service);
    tell("  in service afterwards", in_service(outer));
}

static void nested(void)
{
    set_handler(MIDDLE, on_outer);
    self_ipi(MIDDLE);
    open();
    print("nested\n");
    tell_nested(MIDDLE);
    set_handler(MIDDLE, on_interrupt);
    forget();
}

static void on_interrupt_below(struct trap *trap)
{
    note(trap);
    ask_for(LOW);
    for (unsigned i = 0; i < seen[trap->vector] % 64; i++)
        __asm__ volatile("pause");
    end();
}

// One of lower priority arrives while the bit may be used up already: it is not forgotten.
static void a_lower_one_comes(void)
{
    set_handler(MIDDLE, on_interrupt_below);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        self_ipi(MIDDLE);
        __asm__ volatile("sti" : : : "memory");
        while (seen[LOW] < i)
            __asm__ volatile("pause");
        __asm__ volatile("cli" : : : "memory");
    }
    tell("lower ones that came", seen[LOW]);
    tell("  bits of the higher", set[MIDDLE]);
    set_handler(MIDDLE, on_interrupt);
    forget();
}

// The other CPU sends when it likes; each wakes this one.
static void from_the_other(void)
{
    for (unsigned i = 1; i <= ROUNDS; i++) {
        wanted = i & 1 ? LOW : HIGH;
        while (seen[LOW] + seen[HIGH] < i)
            __asm__ volatile("sti; hlt; cli" : : : "memory");
    }
    tell("from the other CPU", seen[LOW] + seen[HIGH]);
    tell("  bits", set[LOW] + set[HIGH]);
    forget();
}

// ---- Levels ----

static void ioapic_set(uint32_t reg, uint32_t value)
{
    *(volatile uint32_t *)IOAPIC = reg;
    *(volatile uint32_t *)(IOAPIC + 0x10) = value;
}

static uint32_t ioapic_get(uint32_t reg)
{
    *(volatile uint32_t *)IOAPIC = reg;
    return *(volatile uint32_t *)(IOAPIC + 0x10);
}

static void levels(void)
{
    extern uint64_t page_directory[512];

    page_directory[IOAPIC >> 21] = IOAPIC_PHYSICAL | 0x93;
    invlpg(IOAPIC);
    set_handler(LEVELS, on_outer);
    ioapic_set(0x10 + 2 * COM1_INPUT + 1, 0);
    ioapic_set(0x10 + 2 * COM1_INPUT, LEVELS | LEVEL);
    outb(COM1_MCR, 0x0B);
    outb(COM1_IER, 0);
    outb(COM1_IER, 2);
    while (!seen[LEVELS])
        __asm__ volatile("sti; hlt; cli" : : : "memory");
    uint32_t entry = ioapic_get(0x10 + 2 * COM1_INPUT);
    outb(COM1_IER, 0);
    ioapic_set(0x10 + 2 * COM1_INPUT, MASKED);
    print("level\n");
    tell_nested(LEVELS);
    tell("  remote IRR afterwards", (entry & REMOTE_IRR) != 0);
    forget();
}

// ---- The word ----

static void on_interrupt_move(struct trap *trap)
{
    note(trap);
    word = word == &words[0] ? &words[8] : &words[0];
    enable(true);
    outer_in_service = in_service((uint8_t)trap->vector);
    end();
}

static void another_word(void)
{
    volatile uint32_t *before = word;
    set_handler(MIDDLE, on_interrupt_move);
    self_ipi(MIDDLE);
    open();
    tell("another word: bit", set[MIDDLE]);
    tell("  in service when it is moved", outer_in_service);
    tell("  the old bit", *before & 1);
    tell("  in service afterwards", in_service(MIDDLE));
    set_handler(MIDDLE, on_interrupt);
    self_ipi(MIDDLE);
    open();
    tell("  bits", set[MIDDLE]);
    enable(false);
    forget();
    self_ipi(MIDDLE);
    open();
    tell("disabled: bit", set[MIDDLE]);
    tell("  by register", by_register);
    forget();
}

static void write_msr(void *value)
{
    wrmsr(MSR_PV_EOI, (uint64_t)value);
}

static void the_msr(void)
{
    TELL_CATCH("MSR: not aligned", write_msr, (char *)(uintptr_t)word + 2);
    enable(true);
    if (offered)
        tell("MSR reads back", rdmsr(MSR_PV_EOI) == ((uint64_t)word | 1));
    else
        print("no MSR here\n");
}

static void after_init(void)
{
    start_others();
    while (alive < 2)
        __asm__ volatile("pause");
    tell("after INIT", msr_after_init);
}

void guest(void)
{
    outb(0x21, 0xFF);
    outb(0xA1, 0xFF);
    offered = cpuid(1, 0).ecx >> 31 && cpuid(0x40000000, 0).ebx == PV_SIGNATURE &&
              (cpuid(0x40000001, 0).eax & PV_EOI);
    map_apic();
    start_others();
    while (!alive)
        __asm__ volatile("pause");
    pause_long();
    set_handler(LOW, on_interrupt);
    set_handler(MIDDLE, on_interrupt);
    set_handler(HIGH, on_interrupt);
    tell("offered", offered);
    the_msr();
    on_delivery();
    without_using_it();
    others_wait();
    the_same_again();
    nested();
    a_lower_one_comes();
    from_the_other();
    levels();
    another_word();
    after_init();
}
