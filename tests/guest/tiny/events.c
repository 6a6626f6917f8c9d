// SPDX-License-Identifier: Apache-2.0
//
// When interrupts and debug exceptions come, and when they do not: the shadow of STI and MOV SS, the local APIC's timer, IPIs to itself,
// priorities, HLT, NMI, single step, breakpoints, and the flags that handlers see.
#include "tiny.h"

#define APIC        0xFEE00000ull
#define REG_ID      0x20
#define REG_TPR     0x80
#define REG_EOI     0xB0
#define REG_SVR     0xF0
#define REG_ISR     0x100
#define REG_ICR     0x300
#define REG_ICR2    0x310
#define REG_TIMER   0x320
#define REG_LINT0   0x350
#define REG_INITIAL 0x380
#define REG_CURRENT 0x390
#define REG_DIVIDE  0x3E0

static volatile uint32_t *apic_register(unsigned offset)
{
    return (volatile uint32_t *)(SCRATCH + offset);
}

static volatile unsigned count;
static struct trap first; // of the interrupts since count was 0

static void note(struct trap *trap)
{
    if (count++ == 0)
        first = *trap;
}

static void note_and_end(struct trap *trap)
{
    note(trap);
    *apic_register(REG_EOI) = 0;
}

static void self_ipi(uint8_t vector)
{
    *apic_register(REG_ICR) = 1u << 18 | vector;
}

// Long enough for an interrupt that was sent to have arrived.
static void settle(void)
{
    for (unsigned i = 0; i < 1000; i++)
        __asm__ volatile("pause");
}

static void map_apic(void)
{
    extern uint64_t page_directory[512];

    page_directory[SCRATCH >> 21] = APIC | 0x83; // the 2 MiB at SCRATCH show the APIC page
    invlpg(SCRATCH);
    *apic_register(REG_SVR) = 0x1FF;
    *apic_register(REG_LINT0) = 0x10000;
    outb(0x21, 0xFF);
    outb(0xA1, 0xFF);
}

static uint64_t label_of(const char *what, uint64_t rip, const void *start)
{
    print(what);
    print(" +");
    print_hex(rip - (uint64_t)start);
    print("\n");
    return rip;
}

// ---- The interrupt shadow ----

extern const uint8_t sti_at[], mov_ss_at[], sti_sti_at[];

static void shadows(void)
{
    count = 0;
    self_ipi(0x40);
    __asm__ volatile("sti_at: sti; nop; nop; cli" : : : "memory");
    tell("sti: interrupts", count);
    label_of("sti: came at", first.rip, sti_at);
    tell("sti: flags", first.rflags & 0x300);
    count = 0;
    self_ipi(0x40);
    __asm__ volatile("sti; cli; nop" : : : "memory");
    tell("sti, cli: interrupts", count);
    __asm__ volatile("sti; nop; cli" : : : "memory");
    tell("then: interrupts", count);
    count = 0;
    self_ipi(0x40);
    __asm__ volatile("sti_sti_at: sti; sti; nop; nop; cli" : : : "memory");
    label_of("sti, sti: came at", first.rip, sti_sti_at);
    count = 0;
    __asm__ volatile("sti" : : : "memory");
    self_ipi(0x40);
    settle();
    __asm__ volatile("cli" : : : "memory");
    tell("sent with IF set: interrupts", count);
}

// ---- Priorities ----

static uint8_t order[8];
static unsigned order_count;

static void note_order(struct trap *trap)
{
    if (order_count < sizeof(order))
        order[order_count++] = (uint8_t)trap->vector;
    *apic_register(REG_EOI) = 0;
}

static void note_nested(struct trap *trap)
{
    order[order_count++] = (uint8_t)trap->vector;
    self_ipi(0x45); // the same class: waits
    self_ipi(0x55); // a higher one: nests
    __asm__ volatile("sti; nop; nop; cli" : : : "memory");
    order[order_count++] = (uint8_t)(trap->vector | 1);
    *apic_register(REG_EOI) = 0;
}

static void tell_order(const char *what)
{
    print(what);
    for (unsigned i = 0; i < order_count; i++) {
        print(" ");
        print_hex(order[i]);
    }
    print("\n");
    order_count = 0;
}

static void open(void)
{
    __asm__ volatile("sti; nop; nop; nop; cli" : : : "memory");
}

// In the bed of tests/kvm QEMU's TCG ends itself where CR8 is written while a hypervisor waits for an interrupt window: it calls cpu_interrupt() without its lock.
static void task_priority(void)
{
    if (IN_BED) {
        print("above CR8 = 6: left out\nTPR: left out\nwith CR8 = 0: left out\n");
        return;
    }
    self_ipi(0x55);
    self_ipi(0x75);
    write_cr8(6);
    open();
    tell_order("above CR8 = 6:");
    tell("TPR", *apic_register(REG_TPR));
    write_cr8(0);
    open();
    tell_order("with CR8 = 0:");
}

static void priorities(void)
{
    static const uint8_t vectors[] = {0x45, 0x55, 0x65, 0x75};

    for (unsigned i = 0; i < sizeof(vectors); i++)
        set_handler(vectors[i], note_order);
    self_ipi(0x55);
    self_ipi(0x75);
    self_ipi(0x45);
    open();
    tell_order("order:");
    task_priority();
    set_handler(0x46, note_nested);
    self_ipi(0x46);
    open();
    tell_order("nesting:");
    self_ipi(0x65);
    self_ipi(0x65); // merged
    open();
    tell_order("twice the same:");
}

// ---- Timer and HLT ----

static void timer(void)
{
    set_handler(0x41, note_and_end);
    *apic_register(REG_DIVIDE) = 0xB;
    *apic_register(REG_TIMER) = 0x41;
    count = 0;
    *apic_register(REG_INITIAL) = 1000000;
    while (!count)
        __asm__ volatile("sti; hlt; cli" : : : "memory");
    tell("one shot: interrupts", count);
    tell("one shot: current", *apic_register(REG_CURRENT));
    count = 0;
    *apic_register(REG_TIMER) = 0x41 | 0x20000;
    *apic_register(REG_INITIAL) = 200000;
    while (count < 20)
        __asm__ volatile("sti; hlt; cli" : : : "memory");
    *apic_register(REG_INITIAL) = 0;
    open(); // one may have come just before
    tell("periodic: at least", count >= 20);
    *apic_register(REG_TIMER) = 0x10041;
    count = 0;
    *apic_register(REG_INITIAL) = 1000;
    while (*apic_register(REG_CURRENT))
        ;
    open();
    tell("masked: interrupts", count);
    // A busy loop is interrupted, too.
    *apic_register(REG_TIMER) = 0x41;
    *apic_register(REG_INITIAL) = 500000;
    __asm__ volatile("sti" : : : "memory");
    while (!count)
        ;
    __asm__ volatile("cli" : : : "memory");
    tell("busy loop: interrupts", count);
}

static void nmi_handler(struct trap *trap)
{
    note(trap);
    if (count == 1)
        *apic_register(REG_ICR) = 1u << 18 | 4u << 8; // held back until IRET
    if (count == 1)
        tell("NMI inside: interrupts", count);
}

static void non_maskable(void)
{
    set_handler(2, nmi_handler);
    count = 0;
    // A self shorthand does not take NMI: by the own id.
    *apic_register(REG_ICR2) = *apic_register(REG_ID);
    *apic_register(REG_ICR) = 4u << 8;
    settle();
    tell("NMI with IF clear: interrupts", count > 0);
    tell("NMI: flags", first.rflags & 0x200);
}

// ---- Debug exceptions ----

static uint64_t read_dr6(void)
{
    uint64_t value;
    __asm__ volatile("mov %%dr6, %0" : "=r"(value));
    return value;
}

static void write_dr(unsigned number, uint64_t value)
{
    switch (number) {
    case 0:
        __asm__ volatile("mov %0, %%dr0" : : "r"(value));
        break;
    case 1:
        __asm__ volatile("mov %0, %%dr1" : : "r"(value));
        break;
    case 2:
        __asm__ volatile("mov %0, %%dr2" : : "r"(value));
        break;
    case 6:
        __asm__ volatile("mov %0, %%dr6" : : "r"(value));
        break;
    case 7:
        __asm__ volatile("mov %0, %%dr7" : : "r"(value));
        break;
    default:
        break;
    }
}

static const void *steps_from;
static uint64_t stop_after;

static void debug_handler(struct trap *trap)
{
    print("  #DB +");
    print_hex(trap->rip - (uint64_t)steps_from);
    print(" dr6 ");
    print_hex(read_dr6() & 0xF00F);
    print(trap->rflags & 0x10000 ? " RF" : "");
    print("\n");
    write_dr(6, 0);
    if (++count == stop_after)
        trap->rflags &= ~0x100ull;
    trap->rflags |= 0x10000; // RF: do not stop here again
}

extern const uint8_t step_at[], step_ss_at[], step_rep_at[], break_at[], data_at[], popf_at[],
    int_at[], wide_at[], wide_read_at[], ss_at[], io_at[];

static void single_step(void)
{
    set_handler(1, debug_handler);
    count = 0;
    stop_after = 4;
    steps_from = step_at;
    print("single step\n");
    __asm__ volatile("pushf; orl $0x100, (%%rsp); popf; step_at: nop; nop; nop; nop; nop; nop; nop"
                     :
                     :
                     : "memory", "cc");
    count = 0;
    stop_after = 4;
    steps_from = step_ss_at;
    print("single step over MOV SS\n");
    __asm__ volatile("mov %%ss, %%eax; pushf; orl $0x100, (%%rsp); popf; step_ss_at: nop; mov "
                     "%%eax, %%ss; nop; nop; nop; nop"
                     :
                     :
                     : "rax", "memory", "cc");
    count = 0;
    stop_after = 5;
    steps_from = step_rep_at;
    print("single step of REP STOSB\n");
    uint8_t bytes[3];
    void *to = bytes;
    uint64_t n = 3;
    __asm__ volatile(
        "pushf; orl $0x100, (%%rsp); popf; step_rep_at: rep stosb; nop; nop; nop; nop; nop"
        : "+D"(to), "+c"(n)
        : "a"(0)
        : "memory", "cc");
}

static void ignore(struct trap *trap)
{
    print("  INT handler, TF ");
    print_hex(trap->rflags >> 8 & 1);
    print("\n");
}

static void single_step_over_int(void)
{
    set_handler(0x77, ignore);
    count = 0;
    stop_after = 3;
    steps_from = int_at;
    print("single step over INT\n");
    __asm__ volatile("pushf; orl $0x100, (%%rsp); popf; int_at: nop; int $0x77; nop; nop; nop"
                     :
                     :
                     : "memory", "cc");
}

// ---- Eight bytes, and MOV SS from a watched word ----

static void wide_breakpoints(volatile uint32_t *word)
{
    print("breakpoints of eight bytes\n");
    steps_from = wide_at;
    write_dr(0, (uint64_t)word);
    write_dr(7, 0x2 | 0x9 << 16); // writes
    __asm__ volatile("wide_at: movb $1, 7(%0); movl $1, 8(%0); movl $1, 5(%0); mov (%0), %%rax; "
                     "movq $1, (%0); nop"
                     :
                     : "r"(word)
                     : "rax", "memory");
    print("the same, reads too\n");
    write_dr(0, (uint64_t)word + 8);
    write_dr(7, 0x2 | 0xB << 16);
    steps_from = wide_read_at;
    __asm__ volatile("wide_read_at: mov 4(%0), %%eax; mov 5(%0), %%eax; mov 15(%0), %%al; nop"
                     :
                     : "r"(word)
                     : "rax", "memory");
    write_dr(7, 0);
}

// The trap waits for the end of the instruction behind MOV SS.
static void ss_from_watched_memory(volatile uint32_t *word)
{
    print("MOV SS from a watched word\n");
    word[0] = 0x10;
    steps_from = ss_at;
    write_dr(0, (uint64_t)word);
    write_dr(7, 0x2 | 0xF << 16);
    __asm__ volatile("ss_at: mov (%0), %%ss; nop; nop" : : "r"(word) : "memory");
    write_dr(7, 0);
}

// ---- Ports ----

static void count_traps(struct trap *trap)
{
    count++;
    write_dr(6, 0);
    trap->rflags |= 0x10000; // RF
}

static void io_breakpoints(void)
{
    static uint8_t bytes[3];
    const void *from = bytes;
    uint64_t n = 3;

    write_cr4(read_cr4() | 8); // DE
    print("I/O breakpoints\n");
    steps_from = io_at;
    write_dr(0, 0x80);
    write_dr(1, 0xE0);
    write_dr(7, 0xA | 0x2 << 16 | 0x6 << 20); // a port, and a pair of ports
    __asm__ volatile("io_at: in $0x80, %%al; out %%al, $0x81; nop; out %%al, $0xE1; in $0xE2, %%al"
                     :
                     :
                     : "rax", "memory");
    set_handler(1, count_traps);
    count = 0;
    __asm__ volatile("rep outsb; nop" : "+S"(from), "+c"(n) : "d"(0x80) : "memory");
    tell("I/O breakpoints: traps of three OUTSB", count);
    set_handler(1, debug_handler);
    write_dr(7, 0);
    write_cr4(read_cr4() & ~8ull);
}

// ---- MOV SS with an interrupt that waits ----

static void stack_segment_shadow(void)
{
    count = 0;
    self_ipi(0x40);
    __asm__ volatile("mov %%ss, %%eax; mov_ss_at: sti; mov %%eax, %%ss; nop; nop; cli"
                     :
                     :
                     : "rax", "memory");
    tell("sti, mov ss: interrupts", count);
    label_of("sti, mov ss: came at", first.rip, mov_ss_at);
    // An NMI to itself, by an instruction that MOV SS covers: it comes behind that.
    set_handler(2, note);
    count = 0;
    *apic_register(REG_ICR2) = *apic_register(REG_ID);
    __asm__ volatile("mov %%ss, %%ecx; mov_ss_nmi_at: mov %%ecx, %%ss; movl %1, (%0); nop; nop"
                     :
                     : "r"(apic_register(REG_ICR)), "i"(4u << 8)
                     : "rcx", "memory");
    settle();
    tell("NMI behind MOV SS: interrupts", count);
}

static void breakpoints(void)
{
    static volatile uint32_t word[4] __attribute__((aligned(16)));

    count = 0;
    stop_after = 0;
    print("instruction breakpoint\n");
    steps_from = break_at;
    write_dr(0, (uint64_t)break_at + 1);
    write_dr(7, 0x2);
    __asm__ volatile("break_at: nop; nop; nop" : : : "memory");
    write_dr(7, 0);
    print("data breakpoints\n");
    steps_from = data_at;
    write_dr(0, (uint64_t)&word[1]);
    write_dr(1, (uint64_t)&word[2]);
    write_dr(7,
             0x8 | 0x2 | 0xD << 16 | 0xF << 20); // DR0 writes, DR1 reads and writes, 4 bytes each
    __asm__ volatile("data_at: movl $1, (%0); movl $1, 4(%0); mov 4(%0), %%eax; mov 8(%0), %%eax; "
                     "movb $0, 11(%0); movl $1, 12(%0); nop"
                     :
                     : "r"(word)
                     : "rax", "memory");
    write_dr(7, 0);
    if (!IN_BED) {
        wide_breakpoints(word);
        ss_from_watched_memory(word);
        io_breakpoints();
    }
    print("INT3\n");
    set_handler(3, debug_handler);
    steps_from = popf_at;
    __asm__ volatile("popf_at: nop; int3; nop" : : : "memory");
    set_handler(3, NULL);
}

static void int1(void *unused)
{
    __asm__ volatile(".byte 0xF1");
}

static void read_dr0(void *unused)
{
    uint64_t value;
    __asm__ volatile("mov %%dr0, %0" : "=r"(value));
}

static void read_dr4(void *unused)
{
    uint64_t value;
    __asm__ volatile("mov %%db4, %0" : "=r"(value));
}

static void write_dr7_high(void *unused)
{
    write_dr(7, 1ull << 32);
}

static void debug_registers(void)
{
    set_handler(1, NULL);
    TELL_CATCH("INT1", int1, NULL);
    TELL_CATCH("DR4", read_dr4, NULL);
    write_cr4(read_cr4() | 8);
    TELL_CATCH("DR4 with CR4.DE", read_dr4, NULL);
    write_cr4(read_cr4() & ~8ull);
    TELL_CATCH("DR7, upper half", write_dr7_high, NULL);
    write_dr(6, 0);
    write_dr(7, 0x2000); // GD
    TELL_CATCH("DR0 with GD", read_dr0, NULL);
    tell("  dr6", read_dr6() & 0xF00F);
    TELL_CATCH("DR0 afterwards", read_dr0, NULL);
}

void guest(void)
{
    map_apic();
    set_handler(0x40, note_and_end);
    shadows();
    if (!IN_BED)
        stack_segment_shadow();
    priorities();
    timer();
    non_maskable();
    single_step();
    single_step_over_int();
    breakpoints();
    debug_registers();
}
