// SPDX-License-Identifier: Apache-2.0
//
// Delivery of exceptions and interrupts: frames in each mode, error codes, what two faults make together, shutdown, and that a delivery that fails
// leaves no trace. What a guest can see of it is in tests/guest/tiny; here are the corners that it cannot reach alive.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "engine_machine.h"
#include "machine/cpu/lapic.h"
#include "machine/engine/exception.h"
#include "machine/engine/mmu_access.h"
#include "machine/engine/system.h"

#define IDT 0x6000ull // of engine_machine.c: every gate leads to TEST_HANDLER + vector
#define TSS 0x20000ull

static struct engine_machine machine;

static struct cpu_state *cpu(void)
{
    return &machine.vcpu->state;
}

static struct engine_cpu *engine(void)
{
    return engine_cpu_of(machine.vcpu);
}

static void poke(uint64_t at, const void *bytes, size_t length)
{
    assert_int_equal(guest_memory_write(machine.system.memory, gpa(at), bytes, length), 0);
}

static void poke64(uint64_t at, uint64_t value)
{
    poke(at, &value, 8);
}

static uint64_t peek(uint64_t at, unsigned size)
{
    uint64_t value = 0;
    assert_int_equal(guest_memory_read(machine.system.memory, gpa(at), &value, size), 0);
    return value;
}

static int set_up(void **state)
{
    engine_machine_create(&machine, &interpreter_backend);
    engine_machine_load(&machine, "\xF4", 1);
    cpu()->segment[SEG_TR] =
        (struct segment){.base = TSS, .limit = 103, .attributes = 0x8B, .selector = 0x38};
    return 0;
}

static int tear_down(void **state)
{
    engine_machine_destroy(&machine);
    return 0;
}

static void set_gate_present(unsigned vector, bool present)
{
    uint64_t at = IDT + 16 * vector, raw = peek(at, 8);
    poke64(at, present ? raw | BIT(47) : raw & ~BIT(47));
}

static int deliver(enum exception vector, bool has_error, uint32_t error)
{
    if (has_error)
        raise_exception_error(machine.vcpu, vector, error);
    else
        raise_exception(machine.vcpu, vector);
    return exception_deliver(machine.vcpu, cpu()->rip + 2);
}

static bool arrived_at(unsigned vector)
{
    return cpu()->rip == TEST_HANDLER + vector;
}

// ---- Long mode ----

static void long_mode_frame(void **state)
{
    cpu()->gpr[RSP] = TEST_STACK_TOP - 3; // the frame is aligned to 16
    cpu()->rflags |= FLAG_IF | FLAG_TF | FLAG_AC;
    uint64_t flags = cpu()->rflags, rip = cpu()->rip;
    assert_int_equal(deliver(EXC_GP, true, 0x1234), 0);
    assert_true(arrived_at(EXC_GP));
    assert_int_equal(cpu()->gpr[RSP], TEST_STACK_TOP - 16 - 48);
    assert_int_equal(peek(cpu()->gpr[RSP], 8), 0x1234);
    assert_int_equal(peek(cpu()->gpr[RSP] + 8, 8), rip);
    assert_int_equal(peek(cpu()->gpr[RSP] + 16, 8), 8);
    assert_int_equal(peek(cpu()->gpr[RSP] + 24, 8), flags | FLAG_RF); // faults set RF in the image
    assert_int_equal(peek(cpu()->gpr[RSP] + 32, 8), TEST_STACK_TOP - 3);
    assert_int_equal(peek(cpu()->gpr[RSP] + 40, 8), 16);
    assert_int_equal(cpu()->rflags, FLAG_FIXED1 | FLAG_AC); // an interrupt gate
    assert_int_equal(engine()->exception.vector, EXC_NONE);
}

static void software_interrupts_push_the_next_instruction(void **state)
{
    uint64_t rip = cpu()->rip;

    assert_int_equal(raise_software_interrupt(machine.vcpu, 0x21, true), -1);
    assert_int_equal(exception_deliver(machine.vcpu, rip + 2), 0);
    assert_int_equal(peek(cpu()->gpr[RSP], 8), rip + 2);
    assert_int_equal(peek(cpu()->gpr[RSP] + 16, 8) & FLAG_RF, 0);
}

static void an_inner_stack_and_the_ist(void **state)
{
    poke64(TSS + 4, 0x400000);      // RSP0
    poke64(TSS + 36 + 8, 0x410000); // IST2
    cpu()->segment[SEG_CS].attributes |= SEG_DPL_MASK;
    cpu()->segment[SEG_SS].attributes |= SEG_DPL_MASK;
    engine_mode_changed(machine.vcpu);
    assert_int_equal(engine()->cpl, 3);
    assert_int_equal(deliver(EXC_UD, false, 0), 0);
    assert_int_equal(engine()->cpl, 0);
    assert_int_equal(cpu()->gpr[RSP], 0x400000 - 40);
    assert_int_equal(cpu()->segment[SEG_SS].selector, 0);
    poke64(IDT + 16 * EXC_NMI, peek(IDT + 16 * EXC_NMI, 8) | 2ull << 32);
    assert_int_equal(interrupt_deliver(machine.vcpu, EXC_NMI, true), 0);
    assert_int_equal(cpu()->gpr[RSP], 0x410000 - 40);
    assert_true(cpu()->nmi_blocked);
}

// ---- Two faults ----

static void a_missing_gate_is_np_with_ext(void **state)
{
    set_gate_present(EXC_UD, false);
    assert_int_equal(deliver(EXC_UD, false, 0), 0);
    assert_true(arrived_at(EXC_NP)); // #UD is benign: the second is delivered
    assert_int_equal(peek(cpu()->gpr[RSP], 8), EXC_UD * 8 + 2 + 1);
}

static void a_software_interrupt_has_no_ext(void **state)
{
    set_gate_present(0x21, false);
    raise_software_interrupt(machine.vcpu, 0x21, true);
    assert_int_equal(exception_deliver(machine.vcpu, cpu()->rip + 2), 0);
    assert_true(arrived_at(EXC_NP));
    assert_int_equal(peek(cpu()->gpr[RSP], 8), 0x21 * 8 + 2);
    assert_int_equal(peek(cpu()->gpr[RSP] + 8, 8), TEST_CODE); // a fault of the INT itself
}

static void combinations(void **state)
{
    // First, second (by a missing gate: #NP; by an unmapped stack: #PF), outcome.
    static const struct {
        uint8_t first;
        uint8_t outcome;
    } rows[] = {
        {EXC_DE, EXC_DF}, {EXC_GP, EXC_DF}, {EXC_TS, EXC_DF}, {EXC_PF, EXC_DF},
        {EXC_UD, EXC_NP}, {EXC_NM, EXC_NP}, {EXC_DB, EXC_NP}, {EXC_AC, EXC_NP},
    };

    for (unsigned i = 0; i < ARRAY_LENGTH(rows); i++) {
        engine_machine_load(&machine, "\xF4", 1);
        set_gate_present(rows[i].first, false);
        assert_int_equal(deliver((enum exception)rows[i].first, rows[i].first >= EXC_DF, 0), 0);
        if (!arrived_at(rows[i].outcome))
            fail_msg("first %u: arrived at %llx", rows[i].first, (unsigned long long)cpu()->rip);
        if (rows[i].outcome == EXC_DF)
            assert_int_equal(peek(cpu()->gpr[RSP], 8), 0);
        set_gate_present(rows[i].first, true);
    }
}

static void a_page_fault_while_delivering(void **state)
{
    // The stack is unmapped: a contributory first fault and a page fault are delivered one after the other, which faults again.
    cpu()->gpr[RSP] = 0x7F0000001000;
    poke64(TSS + 36, 0x410000);
    poke64(IDT + 16 * EXC_DF, peek(IDT + 16 * EXC_DF, 8) | 1ull << 32);
    poke64(IDT + 16 * EXC_PF, peek(IDT + 16 * EXC_PF, 8) | 1ull << 32);
    assert_int_equal(deliver(EXC_GP, true, 0), 0);
    assert_true(arrived_at(EXC_PF)); // contributory, then #PF: not a double fault
    assert_int_equal(cpu()->cr2, 0x7F0000001000 - 8);
    assert_int_equal(peek(cpu()->gpr[RSP], 8), 2); // a supervisor write of a missing page
    engine_machine_load(&machine, "\xF4", 1);
    cpu()->segment[SEG_TR] =
        (struct segment){.base = TSS, .limit = 103, .attributes = 0x8B, .selector = 0x38};
    cpu()->gpr[RSP] = 0x7F0000001000;
    poke64(IDT + 16 * EXC_PF, peek(IDT + 16 * EXC_PF, 8) & ~(7ull << 32));
    raise_page_fault(machine.vcpu, gva(0x1234), 0);
    assert_int_equal(exception_deliver(machine.vcpu, 0), 0);
    assert_true(arrived_at(EXC_DF));
}

static void three_faults_shut_down(void **state)
{
    uint64_t rip = cpu()->rip;

    cpu()->idtr.limit = 0;
    assert_int_equal(deliver(EXC_UD, false, 0), -1);
    assert_int_equal(cpu()->run_state, CPU_SHUTDOWN);
    assert_int_equal(cpu()->rip, rip);
    enum vcpu_exit exit;
    assert_int_equal(engine_take_events(machine.vcpu, &exit), 1);
    assert_int_equal(exit, VCPU_EXIT_SHUTDOWN);
}

static void a_failed_delivery_leaves_no_trace(void **state)
{
    cpu()->idtr.limit = 0;
    cpu()->rflags |= FLAG_IF;
    struct cpu_state before = *cpu();
    assert_int_equal(interrupt_deliver(machine.vcpu, 0x30, false), -1);
    before.run_state = CPU_SHUTDOWN;
    assert_memory_equal(cpu(), &before, sizeof(before));
}

// ---- Real mode ----

static void enter_real_mode(void)
{
    cpu_state_reset(cpu(), false, true);
    cpu()->segment[SEG_CS].selector = 0x1000;
    cpu()->segment[SEG_CS].base = 0x10000;
    cpu()->rip = 0x234;
    cpu()->segment[SEG_SS].selector = 0x2000;
    cpu()->segment[SEG_SS].base = 0x20000;
    cpu()->gpr[RSP] = 0xFFFF0100; // the upper half is not touched
    cpu()->idtr = (struct descriptor_table){0x7000, 0x3FF};
    poke64(0x7000 + 4 * EXC_UD, 0x30000456ull);
    engine_state_changed(machine.vcpu);
}

static void real_mode_frame(void **state)
{
    enter_real_mode();
    cpu()->rflags |= FLAG_IF | FLAG_CF;
    assert_int_equal(deliver(EXC_UD, false, 0), 0);
    assert_int_equal(cpu()->segment[SEG_CS].selector, 0x3000);
    assert_int_equal(cpu()->segment[SEG_CS].base, 0x30000);
    assert_int_equal(cpu()->rip, 0x456);
    assert_int_equal(cpu()->gpr[RSP], 0xFFFF00FA);
    assert_int_equal(peek(0x200FA, 2), 0x234);
    assert_int_equal(peek(0x200FC, 2), 0x1000);
    assert_int_equal(peek(0x200FE, 2), FLAG_FIXED1 | FLAG_IF | FLAG_CF);
    assert_int_equal(cpu()->rflags & FLAG_IF, 0);
}

static void real_mode_has_no_error_codes(void **state)
{
    enter_real_mode();
    poke64(0x7000 + 4 * EXC_GP, 0x30000789ull);
    assert_int_equal(deliver(EXC_GP, true, 5), 0);
    assert_int_equal(cpu()->gpr[RSP], 0xFFFF00FA);
    cpu()->idtr.limit = 4 * EXC_UD + 2; // the entry does not fit: #GP, which does not fit either
    assert_int_equal(deliver(EXC_UD, false, 0), -1);
}

// ---- Events ----

static enum vcpu_exit exit_reason;

static int take(void)
{
    return engine_take_events(machine.vcpu, &exit_reason);
}

static void send_interrupt(uint8_t vector)
{
    const struct apic_message message = {.vector = vector, .level_asserted = true};
    lapic_mmio_write(machine.vcpu->lapic, 0xF0, 0x1FF);
    lapic_accept(machine.vcpu->lapic, &message);
}

static void interrupts_wait_for_if(void **state)
{
    send_interrupt(0x30);
    assert_int_equal(take(), 0);
    assert_false(arrived_at(0x30));
    assert_int_equal(machine.vcpu->events & VCPU_EVENT_INTERRUPT,
                     0); // does not keep the run loop busy
    cpu()->rflags |= FLAG_IF;
    engine_flags_changed(machine.vcpu);
    assert_true(machine.vcpu->events & VCPU_EVENT_INTERRUPT);
    cpu()->interrupt_shadow = SHADOW_STI;
    assert_int_equal(take(), 0);
    assert_false(arrived_at(0x30));
    cpu()->interrupt_shadow = SHADOW_NONE;
    assert_int_equal(take(), 0);
    assert_true(arrived_at(0x30));
}

static void halted_cpus_wake(void **state)
{
    cpu()->run_state = CPU_HALTED;
    assert_int_equal(take(), 1);
    assert_int_equal(exit_reason, VCPU_EXIT_HALT);
    send_interrupt(0x30);
    assert_int_equal(take(), 1); // IF is clear
    cpu()->rflags |= FLAG_IF;
    engine_flags_changed(machine.vcpu);
    assert_int_equal(take(), 0);
    assert_int_equal(cpu()->run_state, CPU_RUNNING);
    assert_true(arrived_at(0x30));
}

static void cpus_that_wait_for_a_sipi_are_not_kept_busy(void **state)
{
    cpu()->run_state = CPU_WAIT_FOR_SIPI;
    cpu()->rflags |= FLAG_IF;
    send_interrupt(0x30);
    assert_int_equal(take(), 1);
    assert_int_equal(exit_reason, VCPU_EXIT_HALT);
    assert_int_equal(machine.vcpu->events, 0);
    vcpu_raise(machine.vcpu, VCPU_EVENT_SIPI);
    assert_int_equal(take(), 0);
    assert_int_equal(cpu()->run_state, CPU_RUNNING);
}

static void nmi_is_blocked_until_iret(void **state)
{
    vcpu_raise(machine.vcpu, VCPU_EVENT_NMI);
    assert_int_equal(take(), 0);
    assert_true(arrived_at(EXC_NMI));
    cpu()->rip = TEST_CODE;
    vcpu_raise(machine.vcpu, VCPU_EVENT_NMI);
    assert_int_equal(take(), 0);
    assert_int_equal(cpu()->rip, TEST_CODE);
    assert_true(cpu()->nmi_pending);
    assert_int_equal(interrupt_return(machine.vcpu, 8, 0), 0);
    assert_int_equal(take(), 0);
    assert_true(arrived_at(EXC_NMI));
    assert_false(cpu()->nmi_pending);
}

static void mov_ss_holds_back_everything(void **state)
{
    engine()->debug_hits = DR6_BS;
    vcpu_raise(machine.vcpu, VCPU_EVENT_NMI);
    cpu()->interrupt_shadow = SHADOW_MOV_SS;
    assert_int_equal(take(), 0);
    assert_int_equal(cpu()->rip, TEST_CODE);
    cpu()->interrupt_shadow = SHADOW_NONE;
    assert_int_equal(take(), 0); // the trap first, then the NMI in front of its handler
    assert_true(arrived_at(EXC_NMI));
    assert_int_equal(peek(cpu()->gpr[RSP], 8), TEST_HANDLER + EXC_DB);
    assert_int_equal(cpu()->dr6 & DR6_BS, DR6_BS);
}

static void init_and_pause(void **state)
{
    vcpu_raise(machine.vcpu, VCPU_EVENT_PAUSE);
    assert_int_equal(take(), 1);
    assert_int_equal(exit_reason, VCPU_EXIT_EVENT);
    atomic_fetch_and(&machine.vcpu->events, ~(uint32_t)VCPU_EVENT_PAUSE);
    vcpu_raise(machine.vcpu, VCPU_EVENT_INIT);
    assert_int_equal(take(), 0);
    assert_int_equal(cpu()->rip, 0xFFF0);
    assert_false(engine()->paging);
    assert_int_equal(engine()->code_mode, 16);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(long_mode_frame),
        TEST(software_interrupts_push_the_next_instruction),
        TEST(an_inner_stack_and_the_ist),
        TEST(a_missing_gate_is_np_with_ext),
        TEST(a_software_interrupt_has_no_ext),
        TEST(combinations),
        TEST(a_page_fault_while_delivering),
        TEST(three_faults_shut_down),
        TEST(a_failed_delivery_leaves_no_trace),
        TEST(real_mode_frame),
        TEST(real_mode_has_no_error_codes),
        TEST(interrupts_wait_for_if),
        TEST(halted_cpus_wake),
        TEST(cpus_that_wait_for_a_sipi_are_not_kept_busy),
        TEST(nmi_is_blocked_until_iret),
        TEST(mov_ss_holds_back_everything),
        TEST(init_and_pause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
