// SPDX-License-Identifier: Apache-2.0
//
// What user mode may do and how it gets in and out: SYSCALL and SYSRET, interrupt gates, IRET, call gates, compatibility mode, I/O
// permission, segment loads and their checks.
#include "tiny.h"

void enter_user(uint64_t argument, uint64_t rip, uint64_t cs, uint64_t flags);

extern uint8_t user_memory[65536];

// Position-independent user code; comes back by INT 0x80 with RAX in user_result.
#define USER_CODE(name, bits, ...)                                                                 \
    extern const uint8_t name[], name##_end[];                                                     \
    __asm__(".pushsection .rodata\n .code" bits "\n" #name ": " __VA_ARGS__ "\n int $0x80\n" #name \
            "_end:\n .code64\n .popsection");

static void run(const char *what, const uint8_t *code, const uint8_t *end, uint64_t argument)
{
    tell_trap(what, user_catches(code, (size_t)(end - code), argument), &last_trap);
}
#define RUN(what, code, argument) run(what, code, code##_end, argument)

// ---- Privileged instructions ----

USER_CODE(u_hlt, "64", "hlt")
USER_CODE(u_cli, "64", "cli")
USER_CODE(u_lgdt, "64", "lgdt (%rdi)")
USER_CODE(u_cr0, "64", "mov %cr0, %rax")
USER_CODE(u_rdmsr, "64", "mov $0xC0000080, %ecx\n rdmsr")
USER_CODE(u_invlpg, "64", "invlpg (%rdi)")
USER_CODE(u_swapgs, "64", "swapgs")
USER_CODE(u_in, "64", "mov $0x3fd, %edx\n in %dx, %al")
USER_CODE(u_ud2, "64", "ud2")
USER_CODE(u_int3, "64", "int3")
USER_CODE(u_int20, "64", "int $0x20")
USER_CODE(u_iret_kernel, "64", "push $0\n push %rsp\n push $2\n push $8\n push %rdi\n iretq")
USER_CODE(u_sgdt, "64", "sgdt -64(%rsp)")
USER_CODE(u_popf, "64", "pushf\n orl $0x3200, (%rsp)\n popf\n pushf\n pop %rax\n and $0x3200, %eax")

static void privileged(void)
{
    RUN("user hlt", u_hlt, 0);
    RUN("user cli", u_cli, 0);
    RUN("user lgdt", u_lgdt, USER_PAGES);
    RUN("user mov from cr0", u_cr0, 0);
    RUN("user rdmsr", u_rdmsr, 0);
    RUN("user invlpg", u_invlpg, 0);
    RUN("user swapgs", u_swapgs, 0);
    RUN("user ud2", u_ud2, 0);
    RUN("user int3", u_int3, 0);
    RUN("user int 20", u_int20, 0);
    RUN("user iret to the kernel", u_iret_kernel, 0x100000);
    RUN("user in", u_in, 0);
    RUN("user popf", u_popf, 0);
    tell("  flags", user_result);
    RUN("user sgdt", u_sgdt, 0);
    write_cr4(read_cr4() | 1 << 11);
    RUN("user sgdt with UMIP", u_sgdt, 0);
    write_cr4(read_cr4() & ~(1ull << 11));
}

// ---- The I/O permission bitmap ----

static uint8_t big_tss[104 + 0x3FD / 8 + 4] __attribute__((aligned(16)));

static void set_tss(const void *base, uint32_t limit)
{
    uint64_t at = (uint64_t)base;
    gdt[7] = (limit & 0xFFFF) | (at & 0xFFFFFF) << 16 | 0x89ull << 40 | (at >> 24 & 0xFF) << 56;
    gdt[8] = at >> 32;
    __asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
}

static void io_bitmap(void)
{
    memcpy(big_tss, tss, 104);
    for (unsigned i = 104; i < sizeof(big_tss); i++)
        big_tss[i] = 0xFF;
    *(uint16_t *)(big_tss + 102) = 104;
    set_tss(big_tss, sizeof(big_tss) - 1);
    RUN("in, bit set", u_in, 0);
    big_tss[104 + 0x3FD / 8] &= (uint8_t) ~(1u << (0x3FD % 8));
    RUN("in, bit clear", u_in, 0);
    set_tss(big_tss, 104 + 0x3FD / 8); // the second byte is outside
    RUN("in, short limit", u_in, 0);
    set_tss(tss, 103);
}

// ---- SYSCALL and SYSRET ----

// The kernel's end of SYSCALL: what it finds goes to seen[], then back.
uint64_t seen[6];
void syscall_entry(void);
__asm__(
    ".pushsection .text\n"
    "syscall_entry:\n"
    " mov %rcx, seen\n mov %r11, seen+8\n pushf\n pop %rax\n mov %rax, seen+16\n"
    " mov %cs, %eax\n mov %rax, seen+24\n mov %ss, %eax\n mov %rax, seen+32\n mov %rsp, seen+40\n"
    " sysretq\n"
    ".popsection");

USER_CODE(u_syscall, "64",
          "std\n stc\n syscall\n pushf\n pop %rax\n cld\n and $0x401, %eax\n mov %cs, %ecx\n shl "
          "$16, %ecx\n or %rcx, %rax\n mov %ss, %ecx\n shl $32, %rcx\n or %rcx, %rax")
USER_CODE(u_sysenter, "64", "sysenter")
USER_CODE(u_sysret, "64", "sysretq")

static void system_calls(void)
{
    uint64_t efer = rdmsr(EFER);

    wrmsr(0xC0000081, (uint64_t)(SEL_USER_CODE32 | 3) << 48 | (uint64_t)SEL_CODE64 << 32);
    wrmsr(0xC0000082, (uint64_t)syscall_entry);
    wrmsr(0xC0000084, 0x400); // DF
    RUN("syscall", u_syscall, 0);
    tell("  rcx", seen[0] - USER_PAGES);
    tell("  r11", seen[1] & 0xCFF);
    tell("  flags", seen[2] & 0xC01);
    tell("  cs", seen[3]);
    tell("  ss", seen[4]);
    tell("  rsp", seen[5]);
    tell("  afterwards ss cs flags", user_result);
    wrmsr(EFER, efer & ~1ull);
    RUN("syscall without SCE", u_syscall, 0);
    wrmsr(EFER, efer);
    RUN("sysret in user mode", u_sysret, 0);
    RUN("sysenter in long mode", u_sysenter, 0);
}

// ---- Compatibility mode ----

USER_CODE(c_segments, "32", "mov %cs, %eax\n shl $16, %eax\n mov %ss, %ax")
USER_CODE(
    c_wide, "32",
    "mov $0xFFFFFFFF, %eax\n inc %eax\n .byte 0x48\n mov $5, %ebx\n dec %eax") // 48 is DEC EAX here
USER_CODE(c_limit, "32", "mov %edi, %ds\n mov 0x10, %eax\n mov 0x1000, %eax")
USER_CODE(c_expand_down, "32", "mov %edi, %ds\n mov 0x1000+0x40000000, %eax\n mov 0x800, %eax")
USER_CODE(c_read_only, "32", "mov %edi, %ds\n mov (0x40000000), %eax\n mov %eax, (0x40000000)")
USER_CODE(c_null, "32", "xor %eax, %eax\n mov %eax, %ds\n mov %fs, %eax\n mov (0x40000000), %eax")
USER_CODE(c_load, "32", "mov %edi, %es\n mov %es, %eax")
USER_CODE(c_load_ss, "32", "mov %edi, %ss\n mov %ss, %eax")

static void call_compat(void *argument)
{
    enter_user((uint64_t)argument, USER_PAGES, SEL_USER_CODE32 | 3, 2);
}

static void run32(const char *what, const uint8_t *code, const uint8_t *end, uint64_t argument)
{
    memcpy(user_memory, code, (size_t)(end - code));
    bool trapped = catches(call_compat, (void *)argument) && last_trap.vector != 0x80;
    tell_trap(what, trapped, &last_trap);
    if (!trapped)
        tell("  eax", user_result);
    else
        tell("  rip", last_trap.rip - USER_PAGES);
}
#define RUN32(what, code, argument) run32(what, code, code##_end, argument)

#define DESCRIPTOR(base, limit, access, flags)                                                     \
    ((uint64_t)((limit)&0xFFFF) | (uint64_t)((base)&0xFFFFFF) << 16 | (uint64_t)(access) << 40 |   \
     (uint64_t)((limit) >> 16 & 15) << 48 | (uint64_t)(flags) << 52 |                              \
     (uint64_t)((base) >> 24 & 0xFF) << 56)

static uint16_t describe(unsigned slot, uint64_t descriptor)
{
    gdt[SEL_FREE / 8 + slot] = descriptor;
    return (uint16_t)(SEL_FREE + slot * 8);
}

static void compatibility(void)
{
    RUN32("compat", c_segments, 0);
    RUN32("compat, REX is INC and DEC", c_wide, 0);
    uint16_t limited = describe(0, DESCRIPTOR(USER_PAGES, 0xFFF, 0xF3, 4));
    RUN32("limit", c_limit, limited | 3u);
    tell("  accessed", gdt[SEL_FREE / 8] >> 40 & 1);
    uint16_t down = describe(1, DESCRIPTOR(0, 0xFFF, 0xF7, 4));
    RUN32("expand down", c_expand_down, down | 3u);
    uint16_t read_only = describe(2, DESCRIPTOR(0, 0xFFFFF, 0xF1, 0xC));
    RUN32("read only", c_read_only, read_only | 3u);
    RUN32("null", c_null, 0);
    uint16_t kernel = describe(3, DESCRIPTOR(0, 0xFFFFF, 0x93, 0xC));
    RUN32("load: DPL 0", c_load, kernel | 3u);
    uint16_t absent = describe(4, DESCRIPTOR(0, 0xFFFFF, 0x73, 0xC));
    RUN32("load: absent", c_load, absent | 3u);
    uint16_t execute_only = describe(5, DESCRIPTOR(0, 0xFFFFF, 0xF9, 0xC));
    RUN32("load: execute only", c_load, execute_only | 3u);
    uint16_t readable = describe(6, DESCRIPTOR(0, 0xFFFFF, 0xFB, 0xC));
    RUN32("load: readable code", c_load, readable | 3u);
    uint16_t conforming = describe(7, DESCRIPTOR(0, 0xFFFFF, 0x9F, 0xC));
    RUN32("load: conforming code of DPL 0", c_load, conforming | 3u);
    RUN32("load: beyond the table", c_load, 0xFFFB);
    RUN32("load: no LDT", c_load, 0xF);
    RUN32("load: gate", c_load, SEL_TSS | 3u);
    RUN32("ss: RPL 0", c_load_ss, SEL_USER_DATA);
    RUN32("ss: null", c_load_ss, 0);
    RUN32("ss: read only", c_load_ss, read_only | 3u);
    gdt[SEL_FREE / 8 + 4] = DESCRIPTOR(0, 0xFFFFF, 0x73, 0xC);
    RUN32("ss: absent", c_load_ss, absent | 3u);
    RUN32("ss: good", c_load_ss, SEL_USER_DATA | 3u);
}

// ---- LAR, LSL, VERR, VERW ----

static void look_at(const char *what, uint16_t selector)
{
    uint64_t rights = 0, limit = 0;
    bool lar, lsl, verr, verw;

    __asm__ volatile("lar %2, %0; setz %1"
                     : "+r"(rights), "=r"(lar)
                     : "r"((uint64_t)selector)
                     : "cc");
    __asm__ volatile("lsl %2, %0; setz %1"
                     : "+r"(limit), "=r"(lsl)
                     : "r"((uint64_t)selector)
                     : "cc");
    __asm__ volatile("verr %1; setz %0" : "=r"(verr) : "r"(selector) : "cc");
    __asm__ volatile("verw %1; setz %0" : "=r"(verw) : "r"(selector) : "cc");
    print(what);
    print(": ");
    print_hex((uint64_t)lar << 12 | (uint64_t)lsl << 8 | (uint64_t)verr << 4 | verw);
    print(" ");
    print_hex(rights);
    print(" ");
    print_hex(limit);
    print("\n");
}

static void looking(void)
{
    look_at("look: null", 0);
    look_at("look: code", SEL_CODE64);
    look_at("look: data", SEL_DATA);
    look_at("look: TSS", SEL_TSS);
    look_at("look: user data, RPL 3", SEL_USER_DATA | 3);
    look_at("look: data, RPL 3", SEL_DATA | 3);
    look_at("look: beyond", 0xFFF8);
    look_at("look: LDT", 0xC);
    look_at("look: execute only", describe(8, DESCRIPTOR(0, 0x12345, 0x99, 0xA)));
    look_at("look: interrupt gate", describe(9, DESCRIPTOR(0, 0, 0x8E, 0)));
    look_at("look: call gate", describe(10, DESCRIPTOR(0, 0, 0x8C, 0)));
    look_at("look: task gate", describe(11, DESCRIPTOR(0, 0, 0x85, 0)));
    look_at("look: LDT descriptor", describe(12, DESCRIPTOR(0, 0xABC, 0x82, 0)));
    look_at("look: conforming, RPL 3", describe(13, DESCRIPTOR(0, 0xABC, 0x9F, 0xA)) | 3);
}

// ---- A call gate from user mode ----

void gate_entry(void);
uint64_t gate_seen[5];
__asm__(".pushsection .text\n"
        "gate_entry:\n"
        " mov %cs, %eax\n mov %rax, gate_seen\n mov %ss, %eax\n mov %rax, gate_seen+8\n"
        " mov 8(%rsp), %rax\n mov %rax, gate_seen+16\n mov 16(%rsp), %rax\n mov %rax, "
        "gate_seen+24\n mov 24(%rsp), %rax\n mov %rax, gate_seen+32\n"
        " lretq\n"
        ".popsection");

USER_CODE(u_gate, "64",
          "mov %rsp, %rbx\n sub $16, %rsp\n movl $0, (%rsp)\n mov %di, 4(%rsp)\n lcall *(%rsp)\n "
          "mov %cs, %eax")

static void call_gates(void)
{
    uint64_t at = (uint64_t)gate_entry;
    uint16_t gate =
        describe(14, (at & 0xFFFF) | SEL_CODE64 << 16 | 0xECull << 40 | (at >> 16 & 0xFFFF) << 48);

    gdt[SEL_FREE / 8 + 15] = at >> 32;
    RUN("call gate", u_gate, gate | 3u);
    for (unsigned i = 0; i < 5; i++)
        tell("  seen", i == 3 ? gate_seen[3] - USER_PAGES : gate_seen[i]);
    tell("  cs afterwards", user_result);
    gdt[SEL_FREE / 8 + 14] &= ~(3ull << 45);
    RUN("call gate of DPL 0", u_gate, gate | 3u);
    gdt[SEL_FREE / 8 + 14] |= 3ull << 45;
    gdt[SEL_FREE / 8 + 15] = 1ull << 40; // type bits of the upper half
    RUN("call gate, malformed", u_gate, gate | 3u);
}

// ---- IRET in kernel mode ----

struct iret_frame {
    uint64_t rip, cs, flags, rsp, ss;
};

static void do_iret(void *argument)
{
    const struct iret_frame *f = argument;
    __asm__ volatile("push %0; push %1; push %2; push %3; push %4; iretq"
                     :
                     : "r"(f->ss), "r"(f->rsp), "r"(f->flags), "r"(f->cs), "r"(f->rip)
                     : "memory");
}

static void returned(void)
{
    __asm__ volatile("ud2");
}

static void interrupt_returns(void)
{
    struct iret_frame frame = {(uint64_t)returned, SEL_CODE64, 2, SCRATCH + 0x1000, SEL_DATA};

    TELL_CATCH("iret", do_iret, &frame); // #6: it arrived
    tell("  rsp", last_trap.rsp);
    frame.ss = 0;
    TELL_CATCH("iret, null SS", do_iret, &frame);
    tell("  ss", last_trap.ss);
    frame.ss = 3;
    TELL_CATCH("iret, null SS of RPL 3", do_iret, &frame);
    frame.ss = SEL_DATA;
    frame.cs = 0;
    TELL_CATCH("iret, null CS", do_iret, &frame);
    frame.cs = SEL_DATA;
    TELL_CATCH("iret, data as CS", do_iret, &frame);
    frame.cs = SEL_USER_CODE64 | 3;
    TELL_CATCH("iret, user CS and kernel SS", do_iret, &frame);
    frame.cs = SEL_CODE64;
    frame.flags = 0x4002; // NT in the image only
    TELL_CATCH("iret, NT in the image", do_iret, &frame);
    tell("  NT", last_trap.rflags & 0x4000);
    frame.flags = 0x244CD7; // everything that may be set but TF, IF and VM
    TELL_CATCH("iret, many flags", do_iret, &frame);
    tell("  flags", last_trap.rflags & ~0x10000ull);
}

void guest(void)
{
    privileged();
    io_bitmap();
    system_calls();
    compatibility();
    looking();
    call_gates();
    interrupt_returns();
}
