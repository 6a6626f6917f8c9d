// SPDX-License-Identifier: Apache-2.0
//
// The same code under tier 0 and under tier 1 leaves equal registers, flags, vector state and memory.
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine_machine.h"
#include "machine/engine/engine.h"
#include "machine/engine/translate_trace.h"

// A piece of guest code, assembled here, ended by HLT.
#define GUEST_CODE(name, ...)                                                                      \
    extern const uint8_t guest_##name[], guest_##name##_end[];                                     \
    __asm__(".pushsection .rodata\n"                                                               \
            "guest_" #name ":\n" __VA_ARGS__ "\n\thlt\n"                                           \
            "guest_" #name "_end:\n"                                                               \
            ".popsection\n");

GUEST_CODE(
    arithmetic,
    "mov $1000, %ecx\n"
    "mov $0x123456789abcdef, %rax\n"
    "1: add %rcx, %rax\n adc %rax, %rbx\n rol $7, %rbx\n sbb %rdx, %rdx\n xor %rdx, %rax\n"
    "imul %rax, %rbp\n lea 5(%rbp,%rcx,2), %rbp\n mov %al, %ah\n setc %r8b\n cmovs %rax, %r9\n"
    "bswap %r10\n add %r8, %r10\n shld $3, %r10, %r11\n dec %ecx\n jnz 1b\n"
    "cmp %rax, %rbx")
GUEST_CODE(
    memory,
    "mov $500, %ecx\n"
    "1: mov %rcx, (%rsi,%rcx,8)\n add %rcx, 8(%rsi)\n mov (%rsi,%rcx,8), %rax\n add %rax, %rbx\n"
    "movzbl 3(%rsi,%rcx), %edx\n mov %dh, 0x100(%rsi)\n xor %rdx, %rbp\n lock xadd %rbx, "
    "0x200(%rsi)\n"
    "cmp %rbx, 0x200(%rsi)\n mov 16(%rsi), %r8\n adc $0, %r9\n mov %fs:(%rcx,%rcx), %r10\n mov "
    "%r10, %gs:8\n"
    "cmp $3, %rcx\n mov 0x200(%rsi), %r11\n mov 0x9000(%rsi), %rcx\n mov %gs:8, %r12\n setb %r13b\n"
    "mov 8(%rsi), %r14\n mov (%rsi), %rcx\n sub $1, %rcx\n test %rcx, %rcx\n"
    "mov 0x8000(%rsi), %ecx\n inc %ecx\n mov %ecx, 0x8000(%rsi)\n sub $500, %ecx\n neg %ecx\n jnz "
    "1b\n")
GUEST_CODE(stack,
           "mov $100, %ebx\n"
           "1: push %rbx\n call 2f\n pop %rax\n add %rax, %rcx\n push $-5\n push (%rsp)\n pop "
           "%rdx\n pop %rdx\n"
           "lea 3f(%rip), %rax\n call *%rax\n lea 4f(%rip), %rdi\n mov %rdi, 0x40(%rsi)\n call "
           "*0x40(%rsi)\n"
           "push %rsp\n and 8(%rsp,%rbx,4), %rdx\n pop %r8\n cmp %r8, %rsp\n sete %r9b\n dec "
           "%ebx\n jnz 1b\n hlt\n"
           "2: push %rbp\n mov %rsp, %rbp\n sub $32, %rsp\n mov %rcx, -8(%rbp)\n leave\n ret\n"
           "3: inc %r10\n stc\n ret $0\n"
           "4: adc $0, %r11\n push %r11\n mov (%rsp), %r12\n mov %rcx, %r13\n mov $77, %ecx\n push "
           "%rcx\n pop %r14\n mov %r13, %rcx\n"
           "pop %r15\n ret")
GUEST_CODE(
    page_crossing,
    "lea 0xffd(%rsi), %rdi\n mov $0x1122334455667788, %rax\n mov %rax, (%rdi)\n mov (%rdi), %rbx\n"
    "add %ebx, (%rdi)\n mov (%rdi), %rcx\n movups (%rdi), %xmm1\n mov $64, %edx\n"
    "1: mov %rdx, 0xfc8(%rsi,%rdx)\n dec %edx\n jnz 1b\n lea 0x1004(%rsi), %rsp\n push %rax\n pop "
    "%rbp")
GUEST_CODE(vectors, "mov $50, %ecx\n movq %rcx, %xmm0\n cvtsi2sd %rcx, %xmm1\n"
                    "1: addsd %xmm1, %xmm2\n mulsd %xmm1, %xmm2\n sqrtsd %xmm2, %xmm3\n movups "
                    "%xmm3, (%rsi)\n addps (%rsi), %xmm4\n"
                    "vaddpd %ymm1, %ymm2, %ymm5\n vmovupd %ymm5, 32(%rsi)\n fldl (%rsi)\n fadd "
                    "%st(0)\n fstpl 64(%rsi)\n"
                    "movd %xmm2, %eax\n pextrw $2, %xmm3, %edx\n paddq %mm0, %mm1\n emms\n comisd "
                    "%xmm1, %xmm2\n adc $0, %ebx\n"
                    "dec %ecx\n jnz 1b\n fld1\n fldpi\n stmxcsr 80(%rsi)")
GUEST_CODE(divide_error, "mov $5, %eax\n xor %edx, %edx\n xor %ecx, %ecx\n mov (%rsi), %r9\n add "
                         "%r9, %r8\n div %ecx\n mov $9, %r8")
// An x87 exception is pending at PSLLW, when what ADD worked on is overwritten and a look-up has spoiled its flags.
GUEST_CODE(flags_at_fault,
           "movw $0x37b, (%rsi)\n fldcw (%rsi)\n fld1\n fldz\n fdivrp\n mov $0x4d, %r9d\n"
           "add $0xbc55, %r9w\n cvtdq2ps (%rsi), %xmm3\n mov $0x8c, %r9b\n psllw $4, %mm2\n"
           "neg %r15b")
GUEST_CODE(unaligned_vector,
           "mov $5, %eax\n lea 1(%rsi), %rbx\n movaps (%rbx), %xmm0\n mov $6, %eax")
GUEST_CODE(page_fault,
           "mov $0x7f0000000000, %rbx\n mov $1, %eax\n mov %rax, 8(%rbx)\n mov $2, %eax")
GUEST_CODE(not_canonical,
           "mov $0x7f00000000000000, %rbx\n mov $1, %eax\n mov 8(%rbx), %rax\n mov $2, %eax")
GUEST_CODE(not_canonical_jump,
           "mov $0x7f00000000000000, %rbx\n mov $1, %eax\n jmp *%rbx\n mov $2, %eax")
// It reads the target where it would push.
GUEST_CODE(
    not_canonical_call,
    "mov $0x3000000000001830, %rbx\n mov %rbx, -16(%rsp)\n lea -9(%rsp), %rsp\n mov $1, %eax\n"
    "call *-7(%rsp)\n mov $2, %eax")
// The immediate of the MOV at 2 is changed in each round.
GUEST_CODE(modifies_itself, "mov $20, %ecx\n lea 2f+1(%rip), %rdi\n"
                            "1: mov %ecx, (%rdi)\n jmp 2f\n"
                            "2: mov $0, %eax\n add %eax, %ebx\n dec %ecx\n jnz 1b")
GUEST_CODE(string_and_count,
           "mov $40, %ecx\n lea 0x100(%rsi), %rdi\n mov $0x55, %al\n rep stosb\n mov $10, %ecx\n"
           "1: add %rcx, %rbx\n loop 1b\n jrcxz 2f\n mov $1, %edx\n"
           "2: mov $3, %ecx\n jrcxz 1b\n std\n lodsb\n lodsb\n cld\n lodsb\n pushf\n pop %r8\n"
           "mov $0x8d5, %eax\n push %rax\n popf\n pushf\n pop %r9\n bts %rcx, 0x40(%rsi)\n xlat")
GUEST_CODE(atomics,
           "mov $30, %ecx\n"
           "1: mov (%rsi), %rax\n lea 3(%rax), %rbx\n lock cmpxchg %rbx, (%rsi)\n jne 1b\n lock "
           "incl 8(%rsi)\n"
           "lock orl $1, 12(%rsi)\n xchg %rcx, 16(%rsi)\n mov 16(%rsi), %rcx\n lea -1(%rcx), %rcx\n"
           "mov 32(%rsi), %rax\n mov 40(%rsi), %rdx\n push %rcx\n mov $7, %ecx\n mov $9, %ebx\n "
           "lock cmpxchg16b 32(%rsi)\n pop %rcx\n"
           "test %rcx, %rcx\n jnz 1b")
GUEST_CODE(other_pages,
           "lea 3f(%rip), %rax\n mov $10, %ecx\n jmp 1f\n .skip 5000, 0x90\n"
           "1: jmp 2f\n .skip 9000, 0x90\n"
           "2: add $3, %rbx\n call *%rax\n dec %ecx\n jnz 1b\n hlt\n .skip 4096, 0x90\n"
           "3: add %rcx, %rdx\n ret")

// The first access to a page crosses into the next, with flags live.
GUEST_CODE(crossing_first, "cmp %rsi, %rax\n mov 0x6ffc(%rsi), %rbx\n adc $0, %rcx\n cmp %rsi, "
                           "%rax\n mov %rax, 0x8ffd(%rsi)\n adc $0, %rcx")
// Accesses by one register, within a page and around its end, with flags dead and live.
GUEST_CODE(one_base,
           "lea 0xfd0(%rsi), %rdi\n mov $80, %edx\n"
           "1: mov %rdx, (%rdi)\n add %rdx, 9(%rdi)\n mov -8(%rdi), %rax\n mov %rax, 32(%rdi)\n "
           "add %rax, %rbx\n"
           "cmp %rbx, %rax\n mov (%rdi), %r8\n mov 8(%rdi), %r9\n mov 6(%rdi), %r10d\n movzwl "
           "3(%rdi), %r11d\n mov %r9, 24(%rdi)\n mov %r8b, 17(%rdi)\n mov %ah, 18(%rdi)\n"
           "mov 0x1000(%rdi), %rbp\n adc %r8, %r12\n adc %r11, %r13\n push %r12\n push %rdi\n mov "
           "8(%rsp), %r14\n pop %rax\n pop %r15\n"
           "lea 8(%rdi), %rcx\n mov (%rcx), %rax\n mov 8(%rcx), %rcx\n add %rcx, %rax\n add %rax, "
           "%rbx\n"
           "inc %rdi\n dec %edx\n jnz 1b\n lea 0x4024(%rsi), %rsp\n push %rbx\n push %rax\n push "
           "%r12\n push %r13\n push %r14\n pop %rax\n pop %rbx\n pop %rbx\n")
GUEST_CODE(
    strings,
    "mov %rsi, %r15\n mov $80, %edx\n mov $0x1122334455667788, %rax\n"
    "1: lea 0xfe0(%r15,%rdx), %rdi\n lea 0x200(%r15), %rsi\n mov %edx, %ecx\n rep movsb\n add "
    "%rdi, %rbx\n"
    "lea 0x3fb0(%r15,%rdx), %rdi\n mov $4, %ecx\n cmp %rdx, %rax\n rep stosq\n adc %rsi, %r8\n"
    "lea 0x5000(%r15), %rsi\n lea 0x5001(%r15), %rdi\n mov $100, %ecx\n rep movsb\n rep stosb\n"
    "stc\n movsb\n movsw\n movsl\n movsq\n stosb\n stosw\n stosl\n stosq\n lodsb\n lodsw\n "
    "adc %rax, %r9\n lodsl\n add %rax, %r9\n lodsq\n mov %ds, %r10d\n"
    "std\n mov $5, %ecx\n rep movsl\n stosw\n lodsb\n cld\n dec %edx\n jnz 1b\n"
    "lea 0x6000(%r15), %rdi\n lea 0x7000(%r15), %rsi\n mov $4096, %ecx\n rep movsb\n mov $512, "
    "%ecx\n rep stosq\n mov $0x6001, %ecx\n rep movsb")
// Two jumps to other pages that share a slot of the jump table; one target reads the flags.
GUEST_CODE(shared_slot,
           "mov $40, %edx\n"
           "1: bt $0, %edx\n jmp 2f\n"
           "4: bt $1, %edx\n jmp 3f\n"
           "5: lea 3f(%rip), %rax\n bt $2, %edx\n call *%rax\n dec %edx\n jnz 1b\n hlt\n"
           ".skip 0x2000, 0x90\n"
           "2: xor %r8d, %r8d\n inc %rbx\n jmp 4b\n"
           ".skip 0xffff - (. - 2b), 0x90\n"
           "3: adc $1, %r9\n lea -1(%rbp), %rbp\n test $1, %rbp\n jne 5b\n ret")

// What the jump table leads to was translated while SSE was available; the last call, with CR0.TS set, is #NM.
GUEST_CODE(
    other_mode,
    "mov $20, %edx\n lea 2f(%rip), %rax\n"
    "1: call *%rax\n dec %edx\n jnz 1b\n mov %cr0, %rbx\n or $8, %rbx\n mov %rbx, %cr0\n mov $5, "
    "%edx\n"
    "3: dec %edx\n jnz 3b\n call *%rax\n hlt\n .skip 0x2000, 0x90\n"
    "2: addps %xmm0, %xmm1\n inc %r9\n ret")
// The same address as 64-bit code, where 48 is a prefix, and as 32-bit code, where it is DEC EAX.
GUEST_CODE(
    other_width,
    "movabs $0x00cf9b000000ffff, %rax\n movabs $0x00af9b000000ffff, %rcx\n mov %rcx, 8(%rsi)\n"
    "mov %rax, 24(%rsi)\n movw $31, 64(%rsi)\n mov %rsi, 66(%rsi)\n lgdt 64(%rsi)\n"
    "mov $20, %edx\n xor %eax, %eax\n lea 1f(%rip), %rbx\n lea 2f(%rip), %rcx\n"
    "1: dec %edx\n js 3f\n jmp *%rcx\n"
    "3: lea 4f(%rip), %rbx\n push $24\n push %rcx\n lretq\n"
    "4: hlt\n .skip 0x2000, 0x90\n"
    "2: .byte 0x48, 0xff, 0xc0\n jmp *%rbx")

// More pauses than are executed in a row: RAX, by which flags are saved, and the flags outlive those that tier 0 executes, in a block that saves flags, in
// one that jumps to its own start, and where they are live.
GUEST_CODE(pauses, "mov $0x123456789, %rax\n mov $2000, %edx\n"
                   "1: pause\n mov (%rsi), %rbx\n add %rax, %r8\n jmp 2f\n"
                   "2: adc $3, %r9\n dec %edx\n jnz 1b\n"
                   "mov $2000, %edx\n"
                   "3: pause\n mov (%rsi), %rbx\n lea (%r10,%rax), %r10\n sub $1, %edx\n jnz 3b\n"
                   "mov $2000, %edx\n"
                   "4: bt $3, %edx\n pause\n adc %rax, %r11\n dec %edx\n jnz 4b")

// Pages that share an entry of the TLB (they are 16 MiB apart), by turns and by each kind of look-up, flags dead and live; the highest alias is a constant of
// more than 32 bits. No more than two share one.
GUEST_CODE(
    shared_entry,
    "mov 0x1000, %rax\n mov %rax, 0x1008\n lea 0x1000000(%rsi), %rbp\n lea 0x1004100(%rsi), %rsp\n"
    "mov $200, %edx\n mov $24, %r15d\n"
    "1: mov %rdx, (%rsi,%r15)\n mov %rbx, 8(%rbp,%r15)\n add (%rsi,%r15), %rbx\n add 8(%rbp,%r15), "
    "%r8\n"
    "cmp %rbx, %r8\n mov (%rsi,%r15), %r9\n mov %r9, 16(%rbp,%r15)\n mov 16(%rsi), %rcx\n mov "
    "%rdx, 32(%rbp)\n adc %rcx, %r8\n"
    "lea 0x1000(%rsi), %rdi\n mov %rdx, (%rdi)\n add %rdx, 8(%rdi)\n add $0x1000000, %rdi\n mov "
    "%r8, (%rdi)\n mov 8(%rdi), %r10\n add $0x1000000, %r10\n sub $0x1000000, %rdi\n"
    "mov 8(%rdi), %r11\n add %r11, 16(%rdi)\n cmp %r11, %r10\n mov (%rdi), %r12\n lea "
    "0x1000000(%rdi), %rdi\n mov 8(%rdi), %r13\n mov %r12, 24(%rdi)\n adc %r13, %r14\n"
    "mov 0x202010, %rax\n add %rax, 0x1202018\n cmp %rdx, %rax\n mov 0x202018, %rcx\n mov %rbx, "
    "0x1202020\n adc %rcx, %r14\n"
    "movabs 0x8000203010, %rax\n add %rax, %rbx\n mov %rbx, %rax\n movabs %rax, 0x8001203018\n "
    "cmp %rdx, %rbx\n"
    "movabs 0x8000203018, %rax\n adc %rax, %r8\n add $1, %r8\n mov %r14, 0x4000(%rsi)\n push "
    "0x4000(%rsi)\n pop %r9\n call 2f\n"
    "movups 0x4000(%rsi), %xmm1\n movups %xmm1, -32(%rsp)\n lea 0x5000(%rsi), %rdi\n lea "
    "0x1005000(%rsi), %rsi\n mov $40, %ecx\n rep movsb\n movsq\n lea -0x1005030(%rsi), %rsi\n"
    "mov %fs:0x20(%r15), %rax\n add %rax, 0x1001030(%rsi)\n dec %edx\n jnz 1b\n hlt\n"
    "2: add %rdx, 0x4010(%rsi)\n ret")

// A loop whose look for events spoils the flags: they are CMP's again where it leaves.
GUEST_CODE(endless, "mov $0x123456789abc, %rbx\n"
                    "1: mov %rcx, %rdx\n shl $13, %rdx\n xor %rdx, %rdi\n add $1, %rcx\n"
                    "cmp %rbx, %rcx\n jne 1b")

struct snippet {
    const char *name;
    const uint8_t *code, *end;
};
#define SNIPPET(name)                                                                              \
    {                                                                                              \
#name, guest_##name, guest_##name##_end                                                    \
    }

// Registers of the legacy region and the upper halves; not the x87 pointers, nor what software may use.
static void expect_equal(const struct snippet *snippet, struct engine_machine *reference,
                         struct engine_machine *tested)
{
    struct cpu_state *a = &reference->vcpu->state, *b = &tested->vcpu->state;
    const void *ram_a = guest_memory_map(reference->system.memory, gpa(0), TEST_RAM_BYTES, false);
    const void *ram_b = guest_memory_map(tested->system.memory, gpa(0), TEST_RAM_BYTES, false);

    for (unsigned i = 0; i < GPR_COUNT; i++) {
        if (a->gpr[i] != b->gpr[i])
            fail_msg("%s: register %u: tier 0 %#lx, tier 1 %#lx", snippet->name, i,
                     (unsigned long)a->gpr[i], (unsigned long)b->gpr[i]);
    }
    if (a->rip != b->rip || a->rflags != b->rflags || a->cr2 != b->cr2)
        fail_msg("%s: rip %#lx %#lx, rflags %#lx %#lx, cr2 %#lx %#lx", snippet->name,
                 (unsigned long)a->rip, (unsigned long)b->rip, (unsigned long)a->rflags,
                 (unsigned long)b->rflags, (unsigned long)a->cr2, (unsigned long)b->cr2);
    for (unsigned i = 0; i < XSAVE_BYTES; i++) {
        bool compared = i < 6 || (i >= 24 && i < 28) || (i >= 32 && i < 416) || i >= 576;
        if (compared && a->xsave[i] != b->xsave[i])
            fail_msg("%s: extended state differs at %u: %#x %#x", snippet->name, i, a->xsave[i],
                     b->xsave[i]);
    }
    if (memcmp(ram_a, ram_b, TEST_RAM_BYTES)) {
        size_t at = 0;
        while (((const char *)ram_a)[at] == ((const char *)ram_b)[at])
            at++;
        fail_msg("%s: memory differs at %#zx", snippet->name, at);
    }
}

static void both_tiers_agree(void **state)
{
    const struct snippet *snippet = *state;
    struct engine_machine reference, tested;
    size_t bytes = (size_t)(snippet->end - snippet->code);

    engine_machine_create(&reference, &interpreter_backend);
    engine_machine_create(&tested, &engine_backend);
    if (getenv("WIRT_TRACE"))
        translate_trace_to(&tested.system, stderr);
    engine_machine_load(&reference, snippet->code, bytes);
    engine_machine_load(&tested, snippet->code, bytes);
    assert_int_equal(engine_machine_run(&reference), VCPU_EXIT_HALT);
    assert_int_equal(engine_machine_run(&tested), VCPU_EXIT_HALT);
    expect_equal(snippet, &reference, &tested);
    engine_machine_destroy(&tested);
    engine_machine_destroy(&reference);
}

// Tier 0 would have each access of the 200 turns.
static void shared_entries_stay_in_tier_1(void **state)
{
    struct engine_machine machine;

    engine_machine_create(&machine, &engine_backend);
    engine_machine_load(&machine, guest_shared_entry,
                        (size_t)(guest_shared_entry_end - guest_shared_entry));
    assert_int_equal(engine_machine_run(&machine), VCPU_EXIT_HALT);
    assert_in_range(engine_cpu_of(machine.vcpu)->retired[TIER_INTERPRETED], 1, 60);
    engine_machine_destroy(&machine);
}

struct raiser {
    struct vcpu *vcpu;
    sem_t wanted;
    atomic_bool over;
};

static void *raise_events(void *arg)
{
    struct raiser *raiser = arg;

    for (;;) {
        sem_wait(&raiser->wanted);
        if (atomic_load(&raiser->over))
            return NULL;
        vcpu_raise(raiser->vcpu, VCPU_EVENT_PAUSE);
    }
}

static uint64_t flags_of_cmp(uint64_t a, uint64_t b)
{
    uint64_t flags;

    __asm__("cmp %2, %1\n pushf\n pop %0" : "=r"(flags) : "r"(a), "r"(b) : "cc");
    return flags & FLAGS_STATUS;
}

static void events_leave_loops_with_their_flags(void **state)
{
    struct engine_machine machine;
    struct raiser raiser = {0};
    pthread_t thread;
    (void)state;

    engine_machine_create(&machine, &engine_backend);
    engine_machine_load(&machine, guest_endless, (size_t)(guest_endless_end - guest_endless));
    raiser.vcpu = machine.vcpu;
    sem_init(&raiser.wanted, 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, raise_events, &raiser), 0);
    const struct cpu_state *cpu = &machine.vcpu->state;
    for (unsigned seen = 0; seen < 20;) {
        uint64_t before = cpu->gpr[RCX];
        sem_post(&raiser.wanted);
        assert_int_equal(engine_machine_run(&machine), VCPU_EXIT_EVENT);
        atomic_fetch_and(&machine.vcpu->events, ~(uint32_t)VCPU_EVENT_PAUSE);
        if (cpu->gpr[RCX] == before)
            continue;
        assert_int_equal(cpu->rflags & FLAGS_STATUS, flags_of_cmp(cpu->gpr[RCX], cpu->gpr[RBX]));
        seen++;
    }
    atomic_store(&raiser.over, true);
    sem_post(&raiser.wanted);
    pthread_join(thread, NULL);
    sem_destroy(&raiser.wanted);
    engine_machine_destroy(&machine);
}

int main(void)
{
    static struct snippet snippets[] = {
        SNIPPET(arithmetic),
        SNIPPET(memory),
        SNIPPET(stack),
        SNIPPET(page_crossing),
        SNIPPET(vectors),
        SNIPPET(divide_error),
        SNIPPET(flags_at_fault),
        SNIPPET(unaligned_vector),
        SNIPPET(page_fault),
        SNIPPET(not_canonical),
        SNIPPET(not_canonical_jump),
        SNIPPET(not_canonical_call),
        SNIPPET(modifies_itself),
        SNIPPET(string_and_count),
        SNIPPET(atomics),
        SNIPPET(other_pages),
        SNIPPET(crossing_first),
        SNIPPET(one_base),
        SNIPPET(strings),
        SNIPPET(shared_slot),
        SNIPPET(other_mode),
        SNIPPET(other_width),
        SNIPPET(pauses),
        SNIPPET(shared_entry),
    };
    struct CMUnitTest tests[sizeof(snippets) / sizeof(snippets[0]) + 2];
    unsigned count = 0;

    for (; count < sizeof(snippets) / sizeof(snippets[0]); count++)
        tests[count] = (struct CMUnitTest){snippets[count].name, both_tiers_agree, NULL, NULL,
                                           &snippets[count]};
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(shared_entries_stay_in_tier_1);
    tests[count] = (struct CMUnitTest)cmocka_unit_test(events_leave_loops_with_their_flags);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
