// SPDX-License-Identifier: Apache-2.0
//
// Tier 0: short byte sequences in a small machine. What every instruction computes is the differential tests' business;
// here are the modes, the faults, and what user mode cannot show.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "small_machine.h"

#define RUNS_IN(bits)                                                                              \
    struct small_machine *machine = small_machine_create(bits);                                    \
    struct cpu_state *cpu = &machine->vcpu->state;                                                 \
    (void)cpu

static void addition_sets_carry_and_zero(void **state)
{
    RUNS_IN(64);
    cpu->gpr[RAX] = UINT32_MAX;
    assert_int_equal(EXECUTE(machine, 0x83, 0xc0, 0x01), STOPPED); // add eax, 1
    assert_int_equal(cpu->gpr[RAX], 0);
    assert_int_equal(cpu->rflags & FLAGS_STATUS, FLAG_CF | FLAG_ZF | FLAG_PF | FLAG_AF);
    small_machine_destroy(machine);
}

static void byte_registers_leave_the_rest(void **state)
{
    RUNS_IN(64);
    cpu->gpr[RAX] = 0x1122334455667788;
    cpu->gpr[RBX] = 0xff;
    assert_int_equal(EXECUTE(machine, 0x00, 0xdc), STOPPED); // add ah, bl
    assert_int_equal(cpu->gpr[RAX], 0x1122334455667688);
    small_machine_destroy(machine);
}

static void memory_is_read_changed_and_written(void **state)
{
    RUNS_IN(64);
    store_le64(machine->ram + DATA_AT, 40);
    cpu->gpr[RDI] = DATA_AT;
    cpu->gpr[RAX] = 2;
    assert_int_equal(EXECUTE(machine, 0xf0, 0x48, 0x01, 0x07), STOPPED); // lock add [rdi], rax
    assert_int_equal(load_le64(machine->ram + DATA_AT), 42);
    small_machine_destroy(machine);
}

static void a_loop_runs_to_its_end(void **state)
{
    RUNS_IN(64);
    cpu->gpr[RCX] = 1000;
    cpu->gpr[RAX] = 0;
    assert_int_equal(EXECUTE(machine, 0x48, 0xff, 0xc0, 0xe2, 0xfb), STOPPED); // inc rax; loop
    assert_int_equal(cpu->gpr[RAX], 1000);
    small_machine_destroy(machine);
}

static void calls_return(void **state)
{
    RUNS_IN(64);
    // call +1; hlt; mov eax, 7; ret
    assert_int_equal(EXECUTE(machine, 0xe8, 1, 0, 0, 0, 0xf4, 0xb8, 7, 0, 0, 0, 0xc3), STOPPED);
    assert_int_equal(cpu->gpr[RAX], 7);
    assert_int_equal(cpu->gpr[RSP], STACK_AT);
    small_machine_destroy(machine);
}

static void division_by_zero_faults_before_anything_changes(void **state)
{
    RUNS_IN(64);
    cpu->gpr[RAX] = 5;
    cpu->gpr[RBX] = 0;
    assert_int_equal(EXECUTE(machine, 0xf7, 0xf3), EXC_DE); // div ebx
    assert_int_equal(cpu->gpr[RAX], 5);
    assert_int_equal(load_le64(machine->ram + cpu->gpr[RSP]),
                     CODE_AT); // the faulting instruction's address
    small_machine_destroy(machine);
}

static void idiv_of_the_smallest_number_by_minus_one_faults(void **state)
{
    RUNS_IN(64);
    cpu->gpr[RAX] = 1ull << 63;
    cpu->gpr[RDX] = UINT64_MAX;
    cpu->gpr[RBX] = UINT64_MAX;
    assert_int_equal(EXECUTE(machine, 0x48, 0xf7, 0xfb), EXC_DE); // idiv rbx
    small_machine_destroy(machine);
}

static void an_unmapped_address_faults_with_cr2(void **state)
{
    RUNS_IN(64);
    cpu->gpr[RDI] = 0x7f0000000008;
    assert_int_equal(EXECUTE(machine, 0x48, 0x89, 0x07), EXC_PF); // mov [rdi], rax
    assert_int_equal(cpu->cr2, 0x7f0000000008);
    assert_int_equal(load_le64(machine->ram + cpu->gpr[RSP]), 2); // write, not present
    small_machine_destroy(machine);
}

static void a_non_canonical_address_faults(void **state)
{
    RUNS_IN(64);
    cpu->gpr[RDI] = 1ull << 62;
    assert_int_equal(EXECUTE(machine, 0x48, 0x8b, 0x07), EXC_GP);
    small_machine_destroy(machine);
}

static void rep_movs_copies_across_pages(void **state)
{
    RUNS_IN(64);
    for (unsigned i = 0; i < 9000; i++)
        machine->ram[DATA_AT + 100 + i] = (uint8_t)(i * 7);
    cpu->gpr[RSI] = DATA_AT + 100;
    cpu->gpr[RDI] = DATA_AT + 0x8003;
    cpu->gpr[RCX] = 9000;
    assert_int_equal(EXECUTE(machine, 0xf3, 0xa4), STOPPED); // rep movsb
    assert_memory_equal(machine->ram + DATA_AT + 100, machine->ram + DATA_AT + 0x8003, 9000);
    assert_int_equal(cpu->gpr[RCX], 0);
    assert_int_equal(cpu->gpr[RDI], DATA_AT + 0x8003 + 9000);
    small_machine_destroy(machine);
}

static void overlapping_movs_repeats_the_pattern(void **state)
{
    RUNS_IN(64);
    memcpy(machine->ram + DATA_AT, "abc", 3);
    cpu->gpr[RSI] = DATA_AT;
    cpu->gpr[RDI] = DATA_AT + 3;
    cpu->gpr[RCX] = 9;
    assert_int_equal(EXECUTE(machine, 0xf3, 0xa4), STOPPED);
    assert_memory_equal(machine->ram + DATA_AT, "abcabcabcabc", 12);
    small_machine_destroy(machine);
}

static void rep_stos_that_faults_can_begin_again(void **state)
{
    RUNS_IN(64);
    cpu->gpr[RDI] = 0x40000000 - 16; // the last 16 bytes that page tables map
    cpu->gpr[RCX] = 3;
    store_le64(machine->ram + TABLES_AT + 0x2000 + 8 * 511, 0x200087); // there is RAM behind them
    cpu->gpr[RAX] = 0x1234;
    assert_int_equal(EXECUTE(machine, 0xf3, 0x48, 0xab), EXC_PF); // rep stosq
    assert_int_equal(cpu->gpr[RCX], 1);
    assert_int_equal(cpu->gpr[RDI], 0x40000000);
    assert_int_equal(load_le64(machine->ram + 0x3ffff8), 0x1234);
    small_machine_destroy(machine);
}

static void changed_code_is_executed_as_it_is_now(void **state)
{
    RUNS_IN(64);
    cpu->gpr[RBX] = 2;
    cpu->gpr[RAX] = 0;
    // again: inc eax (ff c0); mov byte [rip-7], 0xc8 -> the first ModRM byte becomes c8 (dec eax); dec ebx; jnz again
    assert_int_equal(EXECUTE(machine, 0xff, 0xc0, 0xc6, 0x05, 0xf8, 0xff, 0xff, 0xff, 0xc8, 0xff,
                             0xcb, 0x75, 0xf3),
                     STOPPED);
    assert_int_equal(cpu->gpr[RAX], 0);
    small_machine_destroy(machine);
}

static void an_instruction_across_pages_is_fetched_whole(void **state)
{
    RUNS_IN(64);
    static const uint8_t code[] = {0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 0xf4}; // mov rax, imm64; hlt
    memcpy(machine->ram + CODE_AT + 0xffb, code, sizeof(code));
    assert_int_equal(EXECUTE(machine, 0xe9, 0xf6, 0x0f, 0, 0), STOPPED); // jmp there
    assert_int_equal(cpu->gpr[RAX], 0x0807060504030201);
    small_machine_destroy(machine);
}

static void sse_adds_from_memory(void **state)
{
    RUNS_IN(64);
    double *pair = (double *)(void *)(machine->ram + DATA_AT);
    pair[0] = 1.5;
    pair[1] = 2.25;
    cpu->gpr[RDI] = DATA_AT;
    // movsd xmm9, [rdi]; addsd xmm9, [rdi+8]; movsd [rdi+16], xmm9
    assert_int_equal(EXECUTE(machine, 0xf2, 0x44, 0x0f, 0x10, 0x0f, 0xf2, 0x44, 0x0f, 0x58, 0x4f,
                             0x08, 0xf2, 0x44, 0x0f, 0x11, 0x4f, 0x10),
                     STOPPED);
    assert_true(pair[2] == 3.75);
    small_machine_destroy(machine);
}

static void general_registers_come_out_of_vector_instructions(void **state)
{
    RUNS_IN(64);
    memset(machine->ram + DATA_AT, 0x80, 16);
    cpu->gpr[RDI] = DATA_AT;
    cpu->gpr[RSP] = STACK_AT;
    // movdqu xmm1, [rdi]; pmovmskb r13d, xmm1
    assert_int_equal(EXECUTE(machine, 0xf3, 0x0f, 0x6f, 0x0f, 0x66, 0x44, 0x0f, 0xd7, 0xe9),
                     STOPPED);
    assert_int_equal(cpu->gpr[R13], 0xffff);
    small_machine_destroy(machine);
}

static void comisd_sets_flags(void **state)
{
    RUNS_IN(64);
    // xorps xmm0, xmm0; comisd xmm0, xmm0
    assert_int_equal(EXECUTE(machine, 0x0f, 0x57, 0xc0, 0x66, 0x0f, 0x2f, 0xc0), STOPPED);
    assert_int_equal(cpu->rflags & FLAGS_STATUS, FLAG_ZF);
    small_machine_destroy(machine);
}

static void a_vector_operand_may_cross_pages(void **state)
{
    RUNS_IN(64);
    for (unsigned i = 0; i < 32; i++)
        machine->ram[DATA_AT + 0xff0 + i] = (uint8_t)i;
    cpu->gpr[RDI] = DATA_AT + 0xff5;
    cpu->gpr[RSI] = DATA_AT + 0x1ffb;
    // vmovdqu ymm3, [rdi] would pass the end; movdqu xmm3, [rdi]; movdqu [rsi], xmm3
    assert_int_equal(EXECUTE(machine, 0xf3, 0x0f, 0x6f, 0x1f, 0xf3, 0x0f, 0x7f, 0x1e), STOPPED);
    assert_memory_equal(machine->ram + DATA_AT + 0x1ffb, machine->ram + DATA_AT + 0xff5, 16);
    small_machine_destroy(machine);
}

static void a_misaligned_movaps_faults(void **state)
{
    RUNS_IN(64);
    cpu->gpr[RDI] = DATA_AT + 8;
    assert_int_equal(EXECUTE(machine, 0x0f, 0x28, 0x07), EXC_GP);
    small_machine_destroy(machine);
}

static void an_unmasked_simd_exception_reaches_the_guest(void **state)
{
    RUNS_IN(64);
    store_le32(machine->ram + DATA_AT, 0x1d80); // divide-by-zero unmasked
    cpu->gpr[RDI] = DATA_AT;
    // ldmxcsr [rdi]; xorps xmm1, xmm1; mov eax, 0x3f800000; movd xmm0, eax; divss xmm0, xmm1
    assert_int_equal(EXECUTE(machine, 0x0f, 0xae, 0x17, 0x0f, 0x57, 0xc9, 0xb8, 0, 0, 0x80, 0x3f,
                             0x66, 0x0f, 0x6e, 0xc0, 0xf3, 0x0f, 0x5e, 0xc1),
                     EXC_XM);
    assert_int_equal(load_le32(cpu->xsave + 24), 0x1d84);
    assert_int_equal(load_le32(cpu->xsave + 160), 0x3f800000); // the destination is as before
    small_machine_destroy(machine);
}

static void an_unmasked_x87_exception_waits_for_the_next_instruction(void **state)
{
    RUNS_IN(64);
    store_le16(machine->ram + DATA_AT, 0x37b); // divide-by-zero unmasked
    cpu->gpr[RDI] = DATA_AT;
    // fninit; fldcw [rdi]; fld1; fldz; fdivp; mov eax, 1; fld1
    assert_int_equal(EXECUTE(machine, 0xdb, 0xe3, 0xd9, 0x2f, 0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9,
                             0xb8, 1, 0, 0, 0, 0xd9, 0xe8),
                     EXC_MF);
    assert_int_equal(cpu->gpr[RAX], 1);
    small_machine_destroy(machine);
}

static void task_switched_makes_the_device_unavailable(void **state)
{
    RUNS_IN(64);
    cpu->cr0 |= CR0_TS;
    assert_int_equal(EXECUTE(machine, 0x0f, 0x57, 0xc0), EXC_NM);
    cpu->cr0 &= ~(uint64_t)CR0_TS;
    cpu->cr0 |= CR0_EM;
    assert_int_equal(EXECUTE(machine, 0x0f, 0x57, 0xc0), EXC_UD);
    small_machine_destroy(machine);
}

static void the_x87_environment_shows_guest_addresses(void **state)
{
    RUNS_IN(64);
    cpu->gpr[RDI] = DATA_AT;
    cpu->gpr[RSI] = DATA_AT + 0x100;
    // fninit; fld qword [rdi]; fnstenv [rsi]
    assert_int_equal(EXECUTE(machine, 0xdb, 0xe3, 0xdd, 0x07, 0xd9, 0x36), STOPPED);
    assert_int_equal(load_le32(machine->ram + DATA_AT + 0x100 + 12), CODE_AT + 2);
    assert_int_equal(load_le32(machine->ram + DATA_AT + 0x100 + 20), DATA_AT);
    assert_int_equal(load_le16(machine->ram + DATA_AT + 0x100 + 8),
                     0x7fff); // one register, a zero, is not empty
    small_machine_destroy(machine);
}

static void xsave_and_xrstor_keep_the_upper_halves(void **state)
{
    RUNS_IN(64);
    for (unsigned i = 0; i < 32; i++)
        machine->ram[DATA_AT + i] = (uint8_t)(i + 1);
    cpu->gpr[RDI] = DATA_AT;
    cpu->gpr[RSI] = DATA_AT + 0x400;
    cpu->gpr[RBX] = DATA_AT + 0x100;
    // vmovdqu ymm2, [rdi]; mov eax, 7; xor edx, edx; xsave [rsi]; vpxor ymm2, ymm2, ymm2; xrstor [rsi]; vmovdqu [rbx], ymm2
    assert_int_equal(EXECUTE(machine, 0xc5, 0xfe, 0x6f, 0x17, 0xb8, 7, 0, 0, 0, 0x31, 0xd2, 0x0f,
                             0xae, 0x26, 0xc5, 0xed, 0xef, 0xd2, 0x0f, 0xae, 0x2e, 0xc5, 0xfe, 0x7f,
                             0x13),
                     STOPPED);
    assert_memory_equal(machine->ram + DATA_AT, machine->ram + DATA_AT + 0x100, 32);
    assert_int_equal(load_le64(machine->ram + DATA_AT + 0x400 + 512),
                     6); // x87 is in its initial state
    small_machine_destroy(machine);
}

static void real_mode_addresses_wrap_at_64_kib(void **state)
{
    RUNS_IN(16);
    cpu->gpr[RBX] = 0xffff;
    cpu->gpr[RSI] = 3;
    machine->ram[2] = 0x5a;
    assert_int_equal(EXECUTE(machine, 0x8a, 0x00), STOPPED); // mov al, [bx+si]
    assert_int_equal(cpu->gpr[RAX] & 0xff, 0x5a);
    small_machine_destroy(machine);
}

static void pusha_and_popa_are_inverse(void **state)
{
    RUNS_IN(32);
    for (unsigned i = 0; i < 8; i++)
        cpu->gpr[i] = i == RSP ? STACK_AT : 0x1000 + i;
    // pusha; mov eax, 0; mov edi, 0; popa
    assert_int_equal(EXECUTE(machine, 0x60, 0xb8, 0, 0, 0, 0, 0xbf, 0, 0, 0, 0, 0x61), STOPPED);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(cpu->gpr[i], i == RSP ? STACK_AT : 0x1000 + i);
    small_machine_destroy(machine);
}

static void a_limit_stops_the_count_exactly(void **state)
{
    RUNS_IN(64);
    small_machine_code(machine, (const uint8_t[]){0xff, 0xc0, 0xeb, 0xfc}, 4); // inc eax; jmp back
    cpu->gpr[RAX] = 0;
    machine->system.backend->state_changed(machine->vcpu);
    machine->vcpu->instruction_limit = 10001;
    assert_int_equal(machine->system.backend->run(machine->vcpu), VCPU_EXIT_LIMIT);
    assert_int_equal(machine->vcpu->instructions, 10001);
    assert_int_equal(cpu->gpr[RAX], 5001);
    small_machine_destroy(machine);
}

static void a_single_step_is_one_instruction(void **state)
{
    RUNS_IN(64);
    small_machine_code(machine, (const uint8_t[]){0xff, 0xc0, 0xff, 0xc0}, 4);
    machine->system.backend->state_changed(machine->vcpu);
    machine->vcpu->single_step = true;
    assert_int_equal(machine->system.backend->run(machine->vcpu), VCPU_EXIT_BREAKPOINT);
    assert_int_equal(cpu->rip, CODE_AT + 2);
    small_machine_destroy(machine);
}

static void a_breakpoint_stops_before_its_instruction_and_lets_go(void **state)
{
    RUNS_IN(64);
    static const uint64_t breakpoint = CODE_AT + 2;
    small_machine_code(machine, (const uint8_t[]){0xff, 0xc0, 0xff, 0xc0}, 4);
    machine->system.backend->state_changed(machine->vcpu);
    machine->vcpu->breakpoints = &breakpoint;
    machine->vcpu->breakpoint_count = 1;
    assert_int_equal(machine->system.backend->run(machine->vcpu), VCPU_EXIT_BREAKPOINT);
    assert_int_equal(cpu->rip, breakpoint);
    assert_int_equal(machine->system.backend->run(machine->vcpu), VCPU_EXIT_HALT);
    small_machine_destroy(machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addition_sets_carry_and_zero),
        cmocka_unit_test(byte_registers_leave_the_rest),
        cmocka_unit_test(memory_is_read_changed_and_written),
        cmocka_unit_test(a_loop_runs_to_its_end),
        cmocka_unit_test(calls_return),
        cmocka_unit_test(division_by_zero_faults_before_anything_changes),
        cmocka_unit_test(idiv_of_the_smallest_number_by_minus_one_faults),
        cmocka_unit_test(an_unmapped_address_faults_with_cr2),
        cmocka_unit_test(a_non_canonical_address_faults),
        cmocka_unit_test(rep_movs_copies_across_pages),
        cmocka_unit_test(overlapping_movs_repeats_the_pattern),
        cmocka_unit_test(rep_stos_that_faults_can_begin_again),
        cmocka_unit_test(changed_code_is_executed_as_it_is_now),
        cmocka_unit_test(an_instruction_across_pages_is_fetched_whole),
        cmocka_unit_test(sse_adds_from_memory),
        cmocka_unit_test(general_registers_come_out_of_vector_instructions),
        cmocka_unit_test(comisd_sets_flags),
        cmocka_unit_test(a_vector_operand_may_cross_pages),
        cmocka_unit_test(a_misaligned_movaps_faults),
        cmocka_unit_test(an_unmasked_simd_exception_reaches_the_guest),
        cmocka_unit_test(an_unmasked_x87_exception_waits_for_the_next_instruction),
        cmocka_unit_test(task_switched_makes_the_device_unavailable),
        cmocka_unit_test(the_x87_environment_shows_guest_addresses),
        cmocka_unit_test(xsave_and_xrstor_keep_the_upper_halves),
        cmocka_unit_test(real_mode_addresses_wrap_at_64_kib),
        cmocka_unit_test(pusha_and_popa_are_inverse),
        cmocka_unit_test(a_limit_stops_the_count_exactly),
        cmocka_unit_test(a_single_step_is_one_instruction),
        cmocka_unit_test(a_breakpoint_stops_before_its_instruction_and_lets_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
