// SPDX-License-Identifier: Apache-2.0
//
// The rarer ways back: SYSRET to compatibility mode and to an address that is not canonical, and IRET with 32- and 16-bit operands in 64-bit code, to 64-, 32-
// and 16-bit code.
#include "tiny.h"

#define STAR          0xC0000081u
#define NOT_CANONICAL 0x0000800000000000ull
#define FLAGS_IMAGE   0x33486ull // VM, RF, IOPL 3, DF, SF, PF: the first two are not taken
#define LOW_CODE      0x8000ull  // within reach of 16 bits
#define LOW_STACK     0x7000ull
#define BEYOND        0x18000ull // of a segment of 64 KiB: INT 80 is there
#define FLAG_AC       0x40000ull
#define FLAG_ID       0x200000ull

extern uint8_t user_memory[65536];

// ---- SYSRET: RCX holds the address, R11 the flags ----

struct sysret {
    uint64_t rip;
    bool wide;
};
void sysret_wide(uint64_t rip, uint64_t flags);
void sysret_compatible(uint64_t rip, uint64_t flags);
__asm__(".pushsection .text\n"
        "sysret_wide:\n mov %rdi, %rcx\n mov %rsi, %r11\n sysretq\n"
        "sysret_compatible:\n mov %rdi, %rcx\n mov %rsi, %r11\n sysretl\n"
        ".popsection");

static void sysret(void *argument)
{
    const struct sysret *to = argument;
    (to->wide ? sysret_wide : sysret_compatible)(to->rip, FLAGS_IMAGE);
}

// XOR of EAX; DEC of it, or a prefix without effect in 64-bit code; INT 80.
static const uint8_t which_mode[] = {0x31, 0xC0, 0x48, 0x90, 0xCD, 0x80};

static void try_sysret(const char *what, uint64_t rip, bool wide)
{
    struct sysret to = {rip, wide};
    user_result = 0x5555;
    catches(sysret, &to);
    print(what);
    print("\n");
    tell("  vector", last_trap.vector);
    tell("  cs", last_trap.cs);
    tell("  ss", last_trap.ss);
    tell("  rip", last_trap.rip);
    if (last_trap.vector != 0x80)
        return;
    tell("  flags", last_trap.rflags & ~0x8D5ull); // XOR made those
    tell("  eax", user_result);
}

static void system_returns(void)
{
    wrmsr(STAR, (uint64_t)SEL_USER_CODE32 << 48 | (uint64_t)SEL_CODE64 << 32);
    memcpy(user_memory, which_mode, sizeof(which_mode));
    try_sysret("SYSRET to 64-bit code", USER_PAGES, true);
    try_sysret("SYSRET to compatibility mode", USER_PAGES, false);
    try_sysret("SYSRET to compatibility mode, upper half", 0xABCD000000000000ull | USER_PAGES,
               false);
    try_sysret("SYSRET to an address that is not canonical", NOT_CANONICAL, true);
    try_sysret("SYSRET to no page", 0x7FFFFFFFF000ull, true);
}

// ---- IRET ----

// What the code behind an IRET finds.
struct arrival {
    uint64_t rsp, flags, cs, ss;
} arrival;
uint64_t iret_saved_rsp;

// A frame of five words of 4 or 2 bytes at RDI; the flags before it are RSI.
void iret_frame(const void *frame, uint64_t flags, uint64_t wide);
extern const uint8_t low_code[], low_code_end[], low_32[], low_16[];
__asm__(".pushsection .text\n"
        "iret_frame:\n"
        " push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        " mov %rsp, iret_saved_rsp\n"
        " push %rsi\n popf\n"
        " mov %rdi, %rsp\n"
        " dec %edx\n js 1f\n"
        " push %rsi\n popf\n"
        " iretl\n"
        "1: push %rsi\n popf\n"
        " iretw\n"
        "iret_back:\n"
        " mov iret_saved_rsp, %rsp\n"
        " mov $0x10, %eax\n mov %eax, %ss\n"
        " push $2\n popf\n"
        " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n"
        ".popsection\n"
        ".pushsection .rodata\n"
        "low_code:\n" // 64-bit, at LOW_CODE
        " mov %rsp, arrival\n"
        " mov $0x6800, %rsp\n pushf\n pop %rax\n mov %rax, arrival+8\n"
        " mov %cs, %eax\n mov %rax, arrival+16\n mov %ss, %eax\n mov %rax, arrival+24\n"
        " mov $iret_back, %eax\n jmp *%rax\n"
        ".code32\n"
        "low_32:\n" // the data segments' limits do not matter in what follows: DS is 10
        " mov %esp, arrival\n"
        " mov $0x6800, %esp\n pushf\n pop %eax\n mov %eax, arrival+8\n"
        " mov %cs, %eax\n mov %eax, arrival+16\n mov %ss, %eax\n mov %eax, arrival+24\n"
        " ljmp $0x08, $iret_back\n"
        ".code16\n"
        "low_16:\n"
        " movzwl %sp, %eax\n addr32 mov %eax, arrival\n"
        " mov $0x6800, %sp\n pushfl\n pop %eax\n addr32 mov %eax, arrival+8\n"
        " mov %cs, %eax\n addr32 mov %eax, arrival+16\n mov %ss, %eax\n addr32 mov %eax, "
        "arrival+24\n"
        " ljmpl $0x08, $iret_back\n"
        "low_code_end:\n"
        ".code64\n"
        ".popsection");

struct iret {
    const char *what;
    bool wide;  // 32-bit operands
    bool fails; // it is no use to look at what it led to
    uint16_t cs, ss;
    uint32_t rip, rsp, flags;
    uint64_t before; // flags
};

static void iret(void *argument)
{
    const struct iret *to = argument;
    uint32_t wide[5] = {to->rip, to->cs, to->flags, to->rsp, to->ss};
    uint16_t narrow[5] = {(uint16_t)to->rip, to->cs, (uint16_t)to->flags, (uint16_t)to->rsp,
                          to->ss};
    // Room below: the flags are pushed there.
    static uint8_t stack[256] __attribute__((aligned(16)));
    memcpy(stack + 128, to->wide ? (void *)wide : narrow, to->wide ? sizeof(wide) : sizeof(narrow));
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(SEL_DATA));
    iret_frame(stack + 128, to->before, to->wide);
}

static void try_iret(const struct iret *to)
{
    struct iret copy = *to;
    memset(&arrival, 0, sizeof(arrival));
    tell_trap(to->what, catches(iret, &copy), &last_trap);
    if (to->fails)
        return;
    tell("  rsp", arrival.rsp);
    tell("  flags", arrival.flags);
    tell("  cs", arrival.cs);
    tell("  ss", arrival.ss);
}

static void interrupt_returns(void)
{
    uint32_t at32 = (uint32_t)(LOW_CODE + (uint64_t)(low_32 - low_code));
    uint32_t at16 = (uint32_t)(LOW_CODE + (uint64_t)(low_16 - low_code));
    const struct iret forms[] = {
        {"IRETD to 64-bit code", true, false, SEL_CODE64, SEL_DATA, LOW_CODE, 0xFFFF8000, 0x40C82,
         FLAG_ID},
        {"IRETD to 32-bit code", true, false, SEL_CODE32, SEL_DATA, at32, 0xFFFF8000, 0x200C82,
         FLAG_AC},
        {"IRETD to 16-bit code", true, false, SEL_CODE16, SEL_DATA16, at16, 0x12347000, 0x82, 0},
        {"IRETW to 64-bit code", false, false, SEL_CODE64, SEL_DATA, LOW_CODE, LOW_STACK, 0xC82,
         FLAG_AC | FLAG_ID},
        {"IRETW to 32-bit code", false, false, SEL_CODE32, SEL_DATA, at32, LOW_STACK, 0x3C82,
         FLAG_ID},
        {"IRETW to 16-bit code", false, false, SEL_CODE16, SEL_DATA16, at16, LOW_STACK, 0x482, 0},
        {"IRETD, null SS", true, false, SEL_CODE64, 0, LOW_CODE, LOW_STACK, 0x2, 0},
        {"IRETD, null SS of 32-bit code", true, true, SEL_CODE32, 0, at32, LOW_STACK, 0x2, 0},
        {"IRETD beyond 16-bit code", true, true, SEL_CODE16, SEL_DATA16, BEYOND, LOW_STACK, 0x2, 0},
        {"IRETW, wrong CS", false, true, SEL_DATA, SEL_DATA, LOW_CODE, LOW_STACK, 0x2, 0},
    };
    *(volatile uint16_t *)BEYOND = 0x80CD;
    memcpy((void *)LOW_CODE, low_code, (size_t)(low_code_end - low_code));
    for (unsigned i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
        try_iret(&forms[i]);
}

void guest(void)
{
    system_returns();
    interrupt_returns();
}
