// SPDX-License-Identifier: Apache-2.0
//
// What of the guest's state must not reach the host's, and the other way round: RFLAGS, the stack that signals arrive on, the x87 pointers.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>

#include "base/bits.h"
#include "engine_machine.h"
#include "machine/engine/engine.h"
#include "os/native_code.h"

#define GUEST(name, text)                                                                          \
    extern const uint8_t guest_##name[], guest_##name##_end[];                                     \
    __asm__(".pushsection .rodata\n"                                                               \
            "guest_" #name ":\n" text "\n hlt\nguest_" #name "_end:\n"                             \
            ".popsection\n");
#define RUN(name) run(guest_##name, guest_##name##_end)

static struct engine_machine machine;

// ---- What the host saw when guest code faulted ----

static unsigned faults;
static struct os_fault last_fault;

static bool note_fault(struct os_fault *fault)
{
    faults++;
    last_fault = *fault;
    return false; // the engine's business
}

// In the test, not before it: cmocka has put its own signal handlers there by then.
static void begin(void)
{
    struct err err = {0};

    faults = 0;
    assert_int_equal(os_fault_handler_install(note_fault, &err), 0); // asked before the engine's
    engine_machine_create(&machine, &engine_backend);
}

static enum vcpu_exit run(const uint8_t *code, const uint8_t *end)
{
    engine_machine_load(&machine, code, (size_t)(end - code));
    return engine_machine_run(&machine);
}

static uint64_t peek(uint64_t at, unsigned bytes)
{
    uint64_t value = 0;
    assert_int_equal(guest_memory_read(machine.system.memory, gpa(at), &value, bytes), 0);
    return value;
}

// ---- Flags ----

// RFLAGS in EAX, then a division by zero with them.
#define FLAGS_THEN_FAULT(bits)                                                                     \
    "mov $" bits ", %eax\n push %rax\n popf\n pushf\n pop %rdi\n mov (%rsi), %r9\n"                \
    "xor %edx, %edx\n xor %ecx, %ecx\n div %ecx"
GUEST(flags_ac, FLAGS_THEN_FAULT("0x40002"))
GUEST(flags_nt, FLAGS_THEN_FAULT("0x4002"))
GUEST(flags_df, FLAGS_THEN_FAULT("0x402"))
GUEST(flags_if, FLAGS_THEN_FAULT("0x202"))
GUEST(flags_id, FLAGS_THEN_FAULT("0x200002"))
GUEST(flags_all, FLAGS_THEN_FAULT("0x247ED7"))
GUEST(flags_tf, FLAGS_THEN_FAULT("0x102"))
GUEST(flags_by_name,
      "stac\n std\n cli\n mov (%rsi), %r9\n xor %edx, %edx\n xor %ecx, %ecx\n div %ecx")

#define HOST_FORBIDDEN (FLAG_AC | FLAG_TF | FLAG_NT | FLAG_DF | FLAG_IOPL | FLAG_VM)

static void expect_flags(uint64_t guest)
{
    // The frame of #DE: RIP, CS, RFLAGS.
    uint64_t pushed = peek(machine.vcpu->state.gpr[RSP] + 16, 8);

    assert_int_equal(machine.vcpu->state.rip, TEST_HANDLER + 1);
    assert_int_equal(pushed & ~(uint64_t)(FLAGS_STATUS | FLAG_RF), guest & ~(uint64_t)FLAGS_STATUS);
    assert_int_equal(faults, 1);
    assert_int_equal(last_fault.signal, SIGFPE);
    if (last_fault.flags & HOST_FORBIDDEN)
        fail_msg("guest %#lx: the host's flags were %#lx", (unsigned long)guest,
                 (unsigned long)last_fault.flags);
    assert_true(last_fault.flags & FLAG_IF);
}

#define FLAGS_TEST(name, guest)                                                                    \
    static void name(void **state)                                                                 \
    {                                                                                              \
        begin();                                                                                   \
        assert_int_equal(RUN(name), VCPU_EXIT_HALT);                                               \
        expect_flags(guest);                                                                       \
        engine_machine_destroy(&machine);                                                          \
    }
FLAGS_TEST(flags_ac, 0x40002)
FLAGS_TEST(flags_nt, 0x4002)
FLAGS_TEST(flags_df, 0x402)
FLAGS_TEST(flags_if, 0x202)
FLAGS_TEST(flags_id, 0x200002)
FLAGS_TEST(flags_all, 0x247602)

// A single step is the guest's: the host never traps.
static void flags_tf(void **state)
{
    begin();
    assert_int_equal(RUN(flags_tf), VCPU_EXIT_HALT);
    assert_int_equal(machine.vcpu->state.rip, TEST_HANDLER + 2); // #DB, behind HLT
    assert_int_equal(peek(machine.vcpu->state.gpr[RSP] + 16, 8) & FLAG_TF, FLAG_TF);
    assert_int_equal(faults, 0);
    engine_machine_destroy(&machine);
}

static void flags_by_name(void **state)
{
    begin();
    engine_machine_load(&machine, guest_flags_by_name,
                        (size_t)(guest_flags_by_name_end - guest_flags_by_name));
    machine.vcpu->state.cr4 |= CR4_SMAP;
    // Its pages are the user's: fetches and accesses with AC are what is wanted, so supervisor pages, all of them.
    for (unsigned i = 0; i < TEST_RAM_BYTES >> 21; i++) {
        uint64_t entry = (uint64_t)i << 21 | 0x83;
        guest_memory_write(machine.system.memory, gpa(TEST_TABLE + 8 * i), &entry, 8);
    }
    vcpu_state_changed(machine.vcpu);
    assert_int_equal(engine_machine_run(&machine), VCPU_EXIT_HALT);
    expect_flags(0x40402);
    engine_machine_destroy(&machine);
}

// ---- The signal stack ----

// RSP has been set from outside. The fault is found by the host; its delivery to the guest fails, since nothing is mapped there.
GUEST(nothing, "nop")
GUEST(fault_at_once, "mov (%rsi), %r9\n xor %edx, %edx\n xor %ecx, %ecx\n div %ecx")

static void a_signal_survives_a_guest_stack_in_its_own(void **state)
{
    static const unsigned offsets[] = {0, 8, 64, 1000, 4096, 32768, 65000, 65535};

    begin();
    assert_int_equal(RUN(nothing),
                     VCPU_EXIT_HALT); // the thread's signal stack is there from now on
    uint64_t stack = (uint64_t)(uintptr_t)engine_cpu_of(machine.vcpu)->translate.signal_stack;
    assert_true(stack != 0);
    for (unsigned i = 0; i < ARRAY_LENGTH(offsets); i++) {
        engine_machine_load(&machine, guest_fault_at_once,
                            (size_t)(guest_fault_at_once_end - guest_fault_at_once));
        machine.vcpu->state.gpr[RSP] = stack + offsets[i];
        faults = 0;
        assert_int_equal(engine_machine_run(&machine), VCPU_EXIT_SHUTDOWN);
        assert_int_equal(faults, 1);
        assert_int_equal(last_fault.gpr[RSP], stack + offsets[i]);
    }
    engine_machine_destroy(&machine);
}

// ---- x87 ----

// Offsets of what was stored in the data; R12 and R13 have the addresses of two instructions.
GUEST(x87, "mov $3, %ebx\n lea 1f(%rip), %r12\n lea 2f(%rip), %r13\n"
           "0: fninit\n lea 8(%rbx), %rdi\n"
           "1: fldl 0x10(%rsi,%rdi,8)\n xor %edi, %edi\n fnstenv 0x100(%rsi)\n"
           "2: fadd %st(0)\n fxsave64 0x200(%rsi)\n fnop\n fnstsw %ax\n fxsave 0x400(%rsi)\n"
           "fnsave 0x600(%rsi)\n mov $7, %eax\n xor %edx, %edx\n xsave64 0x700(%rsi)\n"
           "dec %ebx\n jnz 0b")
// An exception that is not masked: found by the next instruction that waits. R12: the culprit.
GUEST(x87_fault, "fninit\n lea 1f(%rip), %r12\n movw $0x37b, (%rsi)\n fldcw (%rsi)\n fld1\n fldz\n"
                 "1: fdivrp %st, %st(1)\n lea 5(%rsi), %rdi\n fld1")

#define OPERAND (TEST_DATA + 0x10 + 9 * 8) // in the last round

static void x87_pointers_are_the_guests(void **state)
{
    begin();
    assert_int_equal(RUN(x87), VCPU_EXIT_HALT);
    assert_true(engine_cpu_of(machine.vcpu)->exits[0] == 0);
    uint64_t load = machine.vcpu->state.gpr[R12], add = machine.vcpu->state.gpr[R13];
    assert_int_equal(peek(TEST_DATA + 0x100 + 12, 4), (uint32_t)load);
    assert_int_equal(peek(TEST_DATA + 0x100 + 20, 4), OPERAND);
    assert_int_equal(peek(TEST_DATA + 0x100 + 18, 2) & 0x7FF, 0x544); // DD 44 FE 10
    static const unsigned wide[] = {0x200, 0x700};
    static const bool cleared[] = {false, true}; // FNSAVE initializes
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(peek(TEST_DATA + wide[i] + 8, 8), cleared[i] ? 0 : add);
        assert_int_equal(peek(TEST_DATA + wide[i] + 16, 8), cleared[i] ? 0 : OPERAND);
    }
    assert_int_equal(peek(TEST_DATA + 0x400 + 8, 4), (uint32_t)add);
    assert_int_equal(peek(TEST_DATA + 0x400 + 16, 4), OPERAND);
    assert_int_equal(peek(TEST_DATA + 0x600 + 12, 4), (uint32_t)add);
    assert_int_equal(peek(TEST_DATA + 0x600 + 20, 4), OPERAND);
    engine_machine_destroy(&machine);
}

static void so_they_are_behind_an_exception(void **state)
{
    begin();
    assert_int_equal(RUN(x87_fault), VCPU_EXIT_HALT);
    assert_int_equal(machine.vcpu->state.rip, TEST_HANDLER + 16 + 1); // #MF
    const uint8_t *image = machine.vcpu->state.xsave;
    assert_int_equal(load_le64(image + 8), machine.vcpu->state.gpr[R12]);
    assert_true(load_le16(image + 2) & 0x80); // ES
    engine_machine_destroy(&machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_ac),
        cmocka_unit_test(flags_nt),
        cmocka_unit_test(flags_df),
        cmocka_unit_test(flags_if),
        cmocka_unit_test(flags_id),
        cmocka_unit_test(flags_all),
        cmocka_unit_test(flags_tf),
        cmocka_unit_test(flags_by_name),
        cmocka_unit_test(a_signal_survives_a_guest_stack_in_its_own),
        cmocka_unit_test(x87_pointers_are_the_guests),
        cmocka_unit_test(so_they_are_behind_an_exception),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
