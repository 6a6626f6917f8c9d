// SPDX-License-Identifier: Apache-2.0
//
// The 32-bit half of legacy.c.
#include "protected.inc"

        .set PAGED, 0x40000000          // by tables
        .set LARGE, 0x40400000          // 4 MiB with two levels
        .set LARGE_PAE, 0x40200000      // 2 MiB with PAE
        .set FRAME, 0x600000            // SCRATCH
        .set LOW, 0x8000

        // At CPL 3 from here on.
        .macro ENTER_USER label, stack
        push $0x2B
        push $\stack
        push $2
        push $0x23
        push $\label
        iret
        .endm

        .text
        .code32
        .globl protected_main
protected_main:
        mov %cr4, %eax
        mov %eax, saved_cr4
        call task_tests
        call trap_tests
        call gate_tests
        call conforming_tests
        call two_level_tests
        call pae_tests
        mov saved_cr4, %eax
        mov %eax, %cr4
        ret

// ---- A task with a 16-bit TSS ----
task_tests:
        mov $0x12345678, %ecx
        lcall $0x60, $0
        LOG "after the 16-bit task: eax"
        mov %ecx, %eax
        LOG "  ecx"
        movzbl gdt32 + 0x60 + 5, %eax
        LOG "  its type"
        str %ax
        movzwl %ax, %eax
        LOG "  task register"
        mov %cr0, %eax
        and $8, %eax
        LOG "  TS"
        clts
        movzwl task16_tss + 14, %eax
        sub $(task16_again - low_part), %eax
        LOG "  its saved ip"
        movzwl task16_tss + 16, %eax
        and $0x4000, %eax
        LOG "  its saved NT"
        movzwl task16_tss + 18, %eax
        LOG "  its saved ax"
        movzwl task16_tss + 26, %eax
        LOG "  its saved sp"
        CATCH 1f
        ljmp $0x78, $0                  // too small
1:      // By JMP, and back by JMP: both are free afterwards, and go on where they were.
        movb $0x81, gdt32 + 0x60 + 5
        ljmp $0x60, $0
        movzbl gdt32 + 0x60 + 5, %eax
        LOG "after JMP to and fro: its type"
        movzbl gdt32 + 0x58 + 5, %eax
        LOG "  own type"
        clts
        ret

// ---- The trap bit ----
trap_tests:
        movl $0, debug_traps
        movl $trap_task - 1, debug_eip
        lcall $0x70, $0
        clts
        mov debug_traps, %eax
        LOG "trap bit: traps"
        mov debug_eip, %eax
        sub $trap_task, %eax
        LOG "  at"
        mov debug_dr6, %eax
        and $0xE00F, %eax
        LOG "  dr6"
        ret

trap_task:
        nop
        iret
        jmp trap_task

        .globl debug_trap32
debug_trap32:
        push %eax
        incl debug_traps
        mov 4(%esp), %eax
        mov %eax, debug_eip
        mov %dr6, %eax
        mov %eax, debug_dr6
        xor %eax, %eax
        mov %eax, %dr6
        // The task's IRET is to go back through its link.
        pop %eax
        iret

// ---- A 16-bit call gate from CPL 3, with two parameters ----
gate_tests:
        CATCH 1f
        ENTER_USER (LOW + low_user_calls - low_part), (LOW - 0x100)
1:      mov low_seen + LOW - low_part, %eax
        LOG "16-bit gate: parameters"
        movzwl low_seen + 4 + LOW - low_part, %eax
        LOG "  ip pushed"
        movzwl low_seen + 6 + LOW - low_part, %eax
        LOG "  cs pushed"
        mov low_seen + 8 + LOW - low_part, %eax
        LOG "  ss:sp pushed"
        movzwl low_seen + 12 + LOW - low_part, %eax
        LOG "  cs"
        mov low_seen + 16 + LOW - low_part, %eax
        sub $inner32_stack_top, %eax
        LOG "  esp"
        movzwl low_seen + 20 + LOW - low_part, %eax
        LOG "  sp afterwards"
        movzwl low_seen + 22 + LOW - low_part, %eax
        LOG "  cs afterwards"
        // The stack comes from a 16-bit TSS.
        movb $0x81, gdt32 + 0x60 + 5
        mov $0x60, %eax
        ltr %ax
        CATCH 1f
        ENTER_USER (LOW + low_user_calls - low_part), (LOW - 0x100)
1:      mov $0x10, %eax
        mov %eax, %ss
        movzwl low_seen + 16 + LOW - low_part, %eax
        LOG "stack of a 16-bit TSS: sp"
        movzwl low_seen + 14 + LOW - low_part, %eax
        LOG "  ss"
        movb $0x89, gdt32 + 0x58 + 5
        mov $0x58, %eax
        ltr %ax
        ret

// ---- Conforming code ----
conforming_tests:
        movl $1f, after_conforming
        CATCH 2f
        ENTER_USER user_conforms, user_stack32_top
1:      // Back from the target by a jump of CPL 3.
        mov $0x2B, %eax
        mov %eax, %ds
        mov %esp, %eax
        sub $user_stack32_top, %eax
        LOG "  esp afterwards"
        lcall $0x88, $conforming_near   // directly
        mov $0x2B, %eax
        mov %eax, %ds
        LOG "conforming, by CALL: returned"
        ljmp $0x88, $conforming_jumped
conforming_jumped:
        mov %cs, %eax
        LOG "conforming, by JMP: cs"
        ljmp $0xAB, $0                  // a gate to code of DPL 0
2:      CATCH 1f
        ENTER_USER user_low_gate, user_stack32_top
1:      CATCH 1f
        ENTER_USER user_bad_gate, user_stack32_top
1:      mov $0x10, %eax
        mov %eax, %ss
        CATCH 1f
        lcall $0xA0, $0                 // conforming code of DPL 3, from CPL 0
1:      CATCH 1f
        lcall $0x90, $conforming_near
1:      lcall $0x98, $0                 // without a change of privilege no parameters move
        ret

user_conforms:
        mov $0x2B, %eax
        mov %eax, %ds
        push $0x5A5A
        lcall $0x9B, $0
        jmp *after_conforming
user_low_gate:
        lcall $0xB3, $0                 // a gate of DPL 0
user_bad_gate:
        lcall $0xBB, $0                 // to what is no code

        .globl conforming_target
conforming_target:
        mov %cs, %eax
        LOG "conforming, by gate: cs"
        mov %ss, %eax
        LOG "  ss"
        movzwl 4(%esp), %eax
        LOG "  cs pushed"
        lret
conforming_near:
        mov %cs, %eax
        LOG "conforming, by CALL: cs"
        mov $0x77, %eax
        lret
        .globl plain_target
plain_target:
        ud2

// ---- Two levels ----
        .macro TELL_CR2
        mov %cr2, %eax
        LOG "  cr2"
        .endm

two_level_tests:
        mov %cr4, %eax
        and $~0x20, %eax                // no PAE
        or $0x10, %eax                  // PSE
        mov %eax, %cr4
        mov $directory32, %eax
        mov %eax, %cr3
        movl $FRAME + 0x1003, table32   // writable, present
        mov %cr0, %eax
        or $0x80000000, %eax
        mov %eax, %cr0
        LOG "two levels: cr0"
        mov PAGED, %eax
        LOG "  load"
        mov table32, %eax
        and $0xFFF, %eax
        LOG "  its entry"
        mov directory32 + 256 * 4, %eax
        and $0xFFF, %eax
        LOG "  its directory's"
        movl $0x55, PAGED + 4
        mov FRAME + 0x1004, %eax
        LOG "  stored"
        mov table32, %eax
        and $0xFFF, %eax
        LOG "  its entry"
        mov LARGE + 0x200000, %eax      // FRAME lies in the middle of 4 MiB
        LOG "4 MiB: load"
        mov directory32 + 257 * 4, %eax
        and $0xFFF, %eax
        LOG "  its entry"
        movl $0x66, LARGE + 0x200008
        mov directory32 + 257 * 4, %eax
        and $0xFFF, %eax
        LOG "  after a store"
        CATCH 1f
        mov PAGED + 0x1000, %eax        // not present
1:      TELL_CR2
        movl $FRAME + 0x1001, table32   // read only
        invlpg PAGED
        CATCH 1f
        movl $1, PAGED
1:      TELL_CR2
        CATCH 1f
        ENTER_USER user_loads, user_stack32_top
1:      TELL_CR2
        orl $0x200000, directory32 + 257 * 4 // reserved
        mov %cr3, %eax
        mov %eax, %cr3
        CATCH 1f
        mov LARGE, %eax
1:      TELL_CR2
        andl $~0x200000, directory32 + 257 * 4
        call paging_off
        ret

user_loads:
        mov $0x2B, %eax
        mov %eax, %ds
        mov PAGED, %eax
        int $0x30

paging_off:
        mov %cr0, %eax
        and $0x7FFFFFFF, %eax
        mov %eax, %cr0
        ret

// ---- PAE ----
pae_tests:
        mov %cr4, %eax
        or $0x20, %eax
        mov %eax, %cr4
        mov $pointers_pae, %eax
        mov %eax, %cr3
        movl $FRAME + 0x1007, table_pae
        movl $0, table_pae + 4
        mov %cr0, %eax
        or $0x80000000, %eax
        mov %eax, %cr0
        mov PAGED, %eax
        LOG "PAE: load"
        mov table_pae, %eax
        and $0xFFF, %eax
        LOG "  its entry"
        mov directories_pae + 4096, %eax
        and $0xFFF, %eax
        LOG "  its directory's"
        mov pointers_pae + 8, %eax
        and $0xFFF, %eax
        LOG "  its pointer's"
        movl $0x77, LARGE_PAE + 8
        mov FRAME + 8, %eax
        LOG "2 MiB: stored"
        mov directories_pae + 4096 + 8, %eax
        and $0xFFF, %eax
        LOG "  its entry"
        CATCH 1f
        ENTER_USER user_loads, user_stack32_top
1:      // INT 30: the page is user mode's.
        movb $0xC3, PAGED
        mov $PAGED, %eax
        call *%eax
        movl $0x80000000, table_pae + 4 // NX
        invlpg PAGED
        CATCH 1f
        mov $PAGED, %eax
        call *%eax
1:      TELL_CR2
        movl $0x40000000, table_pae + 4 // reserved
        invlpg PAGED
        CATCH 1f
        mov PAGED, %eax
1:      TELL_CR2
        CATCH 1f
        mov 0x80000000, %eax            // no pointer
1:      TELL_CR2
        call paging_off
        ret

        .section .rodata
        .balign 16
        .globl low_part, low_part_end, low_gate_target
low_part:
// The 16-bit task: a code segment at LOW.
task16_entry:
        movzwl %ax, %eax                // the upper half is not defined
        LOG "16-bit task: ax"
        movzwl task16_tss, %eax
        LOG "  link"
        movzwl %sp, %eax
        LOG "  sp"
        movzwl %di, %eax
        LOG "  di"
        mov %ss, %eax
        LOG "  ss"
        mov %fs, %eax
        LOG "  fs"
        pushf
        pop %eax
        and $0x4000, %eax
        LOG "  NT"
        mov %cr0, %eax
        and $8, %eax
        LOG "  TS"
        mov main_tss + 40 + 4, %eax
        LOG "  the caller's ecx"
        movzbl gdt32 + 0x58 + 5, %eax
        LOG "  the caller's type"
        mov $0x4321, %eax
        iret
task16_again:
        // Entered again where IRET left it: by a jump, and out by another one.
        pushf
        pop %eax
        and $0x4000, %eax
        LOG "16-bit task again: NT"
        ljmp $0x58, $0

low_user_calls:
        pushw $0x2222
        pushw $0x1111
        lcall $0x83, $0
low_after_call:
        mov $0x2B, %eax
        mov %eax, %ds
        mov %sp, low_seen + 20 + LOW - low_part
        mov %cs, %eax
        mov %ax, low_seen + 22 + LOW - low_part
        int $0x30
low_gate_target:
        mov $0x10, %eax
        mov %eax, %ds
        mov %esp, low_seen + 16 + LOW - low_part
        mov %ss, %eax
        mov %ax, low_seen + 14 + LOW - low_part
        mov %cs, %eax
        mov %ax, low_seen + 12 + LOW - low_part
        popw %ax
        sub $(low_after_call - low_part + LOW), %ax
        mov %ax, low_seen + 4 + LOW - low_part
        popw %ax
        mov %ax, low_seen + 6 + LOW - low_part
        popl %eax
        mov %eax, low_seen + LOW - low_part
        popl %eax
        mov %eax, low_seen + 8 + LOW - low_part
        sub $12, %esp
        lretw $4
        .balign 4
low_seen:
        .skip 32
low_part_end:

        .data
        .balign 16
        .globl task16_tss, trap_tss, short_tss
        // Link; SP0, SS0, SP1, SS1, SP2, SS2; IP, FLAGS; AX, CX, DX, BX, SP, BP, SI, DI; ES, CS, SS, DS; LDT
task16_tss:
        .word 0, 0x6F00, 0x50, 0, 0, 0, 0
        .word task16_entry - low_part, 2
        .word 0xAAAA, 0, 0, 0, 0x7000, 0, 0, 0x7777
        .word 0x10, 0x68, 0x50, 0x10, 0
        .balign 16
trap_tss:
        .long 0, 0, 0, 0, 0, 0, 0, 0
        .long trap_task, 2
        .long 0, 0, 0, 0, trap_stack_top, 0, 0, 0
        .long 0x10, 0x18, 0x10, 0x10, 0, 0
        .long 0, 0x680001
short_tss:
        .skip 48
after_conforming:
        .long 0

        .bss
        .balign 4096
        .globl directory32, table32, pointers_pae, directories_pae, table_pae
directory32: .skip 4096
table32: .skip 4096
directories_pae: .skip 8192
table_pae: .skip 4096
pointers_pae: .skip 32
saved_cr4: .skip 4
debug_traps: .skip 4
debug_eip: .skip 4
debug_dr6: .skip 4
        .balign 16
        .skip 4096
trap_stack_top:
        .skip 16
        .section .note.GNU-stack, "", @progbits
