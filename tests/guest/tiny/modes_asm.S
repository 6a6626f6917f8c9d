// SPDX-License-Identifier: Apache-2.0
//
// The 32- and 16-bit half of modes.c.
#include "protected.inc"

        .text
        .code32
        .globl protected_main
protected_main:
        call protected_tests
        call task_tests
        call virtual_8086_tests
        call gate_tests
        call sysenter_tests
        call real_tests
        ret

// ---- Segments and flags in protected mode ----
protected_tests:
        mov %cs, %eax
        LOG "protected: cs"
        mov %cr0, %eax
        LOG "protected: cr0"
        CATCH 1f
        ljmp $0x10, $0
1:      CATCH 1f
        ljmp $0, $0
1:      CATCH 1f
        ljmp $0x88, $0x10000            // beyond its limit
1:      mov $0x1234, %eax
        LOG "end of protected"
        ret

// ---- Tasks ----
task_tests:
        mov %cr3, %eax
        mov %eax, task1_tss + 28
        mov %eax, task2_tss + 28
        // CALL to task 1, which returns by IRET.
        mov $0x11111111, %ecx
        mov $0x22222222, %eax
        lcall $0x70, $0
        LOG "after the call: eax"       // ours again
        mov %ecx, %eax
        LOG "after the call: ecx"
        str %ax
        movzwl %ax, %eax
        LOG "task register"
        mov %cr0, %eax
        and $8, %eax
        LOG "TS"
        clts
        movzbl gdt32 + 0x70 + 5, %eax
        LOG "type of task 1"
        movzbl gdt32 + 0x58 + 5, %eax
        LOG "own type"
        // By interrupt through a task gate.
        int $0x31
        mov %cr0, %eax
        and $8, %eax
        LOG "TS after the gate"
        clts
        // Errors.
        CATCH 1f
        ljmp $0x58, $0                  // busy
1:      CATCH 1f
        ljmp $0x78, $0                  // too small
1:      CATCH 1f
        lcall $0x7C, $0                 // in the LDT
1:      pushf
        orl $0x4000, (%esp)
        popf
        movw $0x70, main_tss            // not busy
        CATCH 1f
        iret
1:      pushf
        andl $~0x4000, (%esp)
        popf
        clts
        ret

        .globl task1_entry
task1_entry:
        mov %esp, %eax
        sub $task1_stack_top, %eax
        LOG "task 1: esp"
        pushf
        pop %eax
        and $0x4000, %eax
        LOG "task 1: NT"
        movzwl task1_tss, %eax
        LOG "task 1: link"
        mov main_tss + 40 + 4, %eax
        LOG "task 1: saved ecx"
        movzbl gdt32 + 0x58 + 5, %eax
        LOG "task 1: type of the caller"
        mov %edi, %eax
        LOG "task 1: edi"
        mov %cr0, %eax
        and $8, %eax
        LOG "task 1: TS"
        iret
        jmp task1_entry

task2_entry:
        movzwl task2_tss, %eax
        LOG "task 2: link"
        mov main_tss + 36, %eax
        and $0x4000, %eax
        LOG "task 2: NT of the interrupted"
        iret
        jmp task2_entry

// ---- Virtual-8086 mode: code at 8000, segment 0800 ----
        .macro ENTER_VM86 label, flags
        push $0x1111                    // GS
        push $0x2222                    // FS
        push $0x0800                    // DS
        push $0x4444                    // ES
        push $0x0900                    // SS
        push $0x0800                    // SP
        push $(0x20002 | \flags)
        push $0x0800
        push $(\label - real_code)
        iret
        .endm

virtual_8086_tests:
        CATCH 1f
        ENTER_VM86 vm86_int, 0x3000
1:      CATCH 1f
        ENTER_VM86 vm86_int, 0          // IOPL 0: #GP
1:      CATCH 1f
        ENTER_VM86 vm86_cli, 0
1:      CATCH 1f
        ENTER_VM86 vm86_cli, 0x3000
1:      movzwl 0x8000 + vm86_result - real_code, %eax
        LOG "vm86: value"
        CATCH 1f
        ENTER_VM86 vm86_limit, 0
1:      CATCH 1f
        ENTER_VM86 vm86_lar, 0
1:      CATCH 1f
        ENTER_VM86 vm86_privileged, 0x3000
1:      ret

// ---- A call gate from CPL 3 with three parameters ----
gate_tests:
        CATCH gate_done
        push $0x2B
        push $user_stack32_top
        push $2
        push $0x23
        push $user_calls
        iret
gate_done:
        ret

user_calls:
        mov $0x2B, %eax
        mov %eax, %ds
        push $0x33333333
        push $0x22222222
        push $0x11111111
        lcall $0x6B, $0x12345678
        mov %ds, %ecx                   // null now
        mov $0x2B, %eax
        mov %eax, %ds
        mov %esp, %eax
        sub $user_stack32_top, %eax
        LOG "gate: user esp afterwards"
        mov %ecx, %eax
        LOG "gate: user ds afterwards"
        int $0x30

        .globl gate_target
gate_target:
        mov $0x10, %eax
        mov %eax, %ds
        mov 8(%esp), %eax
        LOG "gate: first parameter"
        mov 16(%esp), %eax
        LOG "gate: third parameter"
        mov 4(%esp), %eax
        LOG "gate: cs"
        mov 24(%esp), %eax
        LOG "gate: ss"
        mov %cs, %eax
        LOG "gate: own cs"
        mov %ss, %eax
        LOG "gate: own ss"
        lret $12
        .globl gate_target16
gate_target16:
        ud2

// ---- SYSENTER ----
sysenter_tests:
        mov $0x174, %ecx
        xor %edx, %edx
        mov $0x18, %eax                 // CS 18, SS 20: the order of our GDT does not fit, flat it is anyway
        wrmsr
        mov $0x175, %ecx
        mov $stack32_top - 1024, %eax
        wrmsr
        mov $0x176, %ecx
        mov $sysenter_entry, %eax
        wrmsr
        CATCH 1f
        push $0x2B
        push $user_stack32_top
        push $0x3002
        push $0x23
        push $2f
        iret
2:      mov $0x2B, %eax
        mov %eax, %ds
        sysenter
sysenter_entry:
        mov %cs, %eax
        LOG "sysenter: cs"
        mov %ss, %eax
        LOG "sysenter: ss"
        mov %esp, %eax
        sub $stack32_top, %eax
        LOG "sysenter: esp"
        mov $3f, %edx
        mov $user_stack32_top - 8, %ecx
        sysexit
3:      mov %cs, %eax
        LOG "sysexit: cs"
        mov %ss, %eax
        LOG "sysexit: ss"
        mov %esp, %eax
        sub $user_stack32_top, %eax
        LOG "sysexit: esp"
        int $0x30
1:      xor %eax, %eax
        mov $0x174, %ecx
        xor %edx, %edx
        wrmsr
        CATCH 1f
        sysenter                        // CS 0
1:      mov $0x10, %eax
        mov %eax, %ss
        ret

// ---- Real mode, and unreal mode in it ----
real_tests:
        mov %esp, saved_esp
        sidt saved_idt
        mov $0x10, %eax
        mov %eax, %fs                   // 4 GiB limit: stays
        mov $0x90, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov %eax, %gs
        ljmp $0x88, $(real_entry - real_code)
back_from_real:
        mov $0x10, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov saved_esp, %esp
        lidt idt32_pointer
        movzwl 0x8000 + real_log - real_code, %eax
        LOG "real: cs"
        movzwl 0x8000 + real_log - real_code + 2, %eax
        LOG "real: int 21 pushed ip"
        movzwl 0x8000 + real_log - real_code + 4, %eax
        LOG "real: int 21 pushed cs"
        movzwl 0x8000 + real_log - real_code + 6, %eax
        LOG "real: flags in the handler"
        movzwl 0x8000 + real_log - real_code + 8, %eax
        LOG "real: sp used"
        mov 0x8000 + real_log - real_code + 12, %eax
        LOG "real: unreal read"
        movzwl 0x8000 + real_log - real_code + 10, %eax
        LOG "real: #GP at"
        movzwl 0x8000 + real_log - real_code + 16, %eax
        LOG "real: divide error at"
        movzwl 0x8000 + real_log - real_code + 18, %eax
        LOG "real: far call"
        movzwl 0x8000 + real_log - real_code + 20, %eax
        LOG "real: popf of IOPL and NT"
        ret

// Copied to 8000. Offsets within it are relative to real_code.
        .section .rodata
        .balign 16
        .code16
        .globl real_code, real_code_end
real_code:
        .set O, real_code
real_entry:
        mov %cr0, %eax
        and $~1, %eax
        mov %eax, %cr0
        ljmp $0x0800, $(1f - O)
1:      mov $0x0800, %ax
        mov %ax, %ds
        mov %ax, %es
        mov $0x0900, %ax
        mov %ax, %ss
        mov $0x0800, %sp
        lidtl real_idt - O
        mov %cs, real_log - O
        // An interrupt table of our own at 0700:0.
        xor %ax, %ax
        mov %ax, %gs
        movw $(int21 - O), %gs:0x7000 + 0x21 * 4
        movw $0x0800, %gs:0x7000 + 0x21 * 4 + 2
        movw $(int13 - O), %gs:0x7000 + 13 * 4
        movw $0x0800, %gs:0x7000 + 13 * 4 + 2
        movw $(int0 - O), %gs:0x7000
        movw $0x0800, %gs:0x7000 + 2
        stc
        int $0x21
after21:
        // FS has base 0 after a load, and still its limit of 4 GiB.
        xor %ax, %ax
        mov %ax, %fs
        mov $0x100000, %ebx
        addr32 mov %fs:(%ebx), %eax
        mov %eax, real_log - O + 12
        // A word at FFFF crosses the limit of DS.
        mov $0xFFFF, %bx
gp_at:  mov (%bx), %ax
        xor %ax, %ax
        mov $0, %dx
        mov $0, %cx
de_at:  div %cx
        lcall $0x0800, $(far_target - O)
        pushf
        pop %ax
        or $0x7000, %ax
        push %ax
        popf
        pushf
        pop %ax
        mov %ax, real_log - O + 20
        xor %ax, %ax
        push %ax
        popf
        mov %cr0, %eax
        or $1, %eax
        mov %eax, %cr0
        ljmpl $0x18, $back_from_real
far_target:
        mov %sp, %ax
        mov %ax, real_log - O + 18
        lret
int21:  pushf
        pop real_log - O + 6
        mov %sp, %bp
        mov (%bp), %ax
        sub $(after21 - O), %ax
        mov %ax, real_log - O + 2
        mov 2(%bp), %ax
        mov %ax, real_log - O + 4
        mov $0x0800, %ax
        sub %sp, %ax
        mov %ax, real_log - O + 8
        iret
int13:  mov %sp, %bp
        mov (%bp), %ax
        sub $(gp_at - O), %ax
        mov %ax, real_log - O + 10
        addw $2, (%bp)
        iret
int0:   mov %sp, %bp
        mov (%bp), %ax
        sub $(de_at - O), %ax
        mov %ax, real_log - O + 16
        addw $2, (%bp)
        iret

vm86_int:
        int $0x30
vm86_cli:
        cli
        mov %cs, %ax
        mov %ax, vm86_result - O
        hlt
vm86_limit:
        mov $0xFFFF, %bx
        mov (%bx), %ax
vm86_lar:
        lar %ax, %ax
vm86_privileged:
        mov %cr0, %eax
        .balign 4
vm86_result: .word 0
        .balign 4
real_log: .skip 32
real_idt: .word 0x3FF
        .long 0x7000
real_code_end:

        .data
        .balign 16
        .globl task1_tss, task2_tss, small_tss
task1_tss:
        .long 0, 0, 0, 0, 0, 0, 0, 0
        .long task1_entry, 2
        .long 0, 0, 0, 0, task1_stack_top, 0, 0, 0x7777
        .long 0x10, 0x18, 0x10, 0x10, 0, 0
        .long 0, 0x680000
task2_tss:
        .long 0, 0, 0, 0, 0, 0, 0, 0
        .long task2_entry, 2
        .long 0, 0, 0, 0, task2_stack_top, 0, 0, 0
        .long 0x10, 0x18, 0x10, 0x10, 0, 0
        .long 0, 0x680000
small_tss:
        .fill 26, 4, 0
        .bss
saved_idt: .skip 8
saved_esp: .skip 4
        .balign 16
        .skip 4096
task1_stack_top:
        .skip 4096
task2_stack_top:
        .skip 16
        .section .note.GNU-stack, "", @progbits
