// SPDX-License-Identifier: Apache-2.0
//
// From 64-bit code to 32-bit protected mode without paging and back: run_protected() calls the guest's protected_main() there, with descriptor tables of its
// own, where exceptions are written to the log (protected.inc, protected.c).
#include "protected.inc"

        .text
        .code64
        .globl run_protected
run_protected:
        push %rbx
        push %rbp
        push %r12
        push %r13
        push %r14
        push %r15
        mov %rsp, saved_rsp
        mov %cr3, %rax
        mov %rax, saved_cr3
        lea 1f(%rip), %rax
        push $0x18
        push %rax
        lretq
        .code32
1:      // Compatibility mode. Paging off leaves long mode.
        mov $0x10, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov $stack32_top, %esp
        mov %cr0, %eax
        and $0x7FFFFFFF, %eax
        mov %eax, %cr0
        mov $0xC0000080, %ecx
        rdmsr
        LOG "efer without paging"
        and $~0x100, %eax
        wrmsr
        lgdt gdt32_pointer
        lidt idt32_pointer
        ljmp $0x18, $2f
2:      mov $0x58, %eax
        ltr %ax
        call protected_main
        // Back to long mode.
        mov saved_cr3, %eax
        mov %eax, %cr3
        mov $0xC0000080, %ecx
        rdmsr
        or $0x100, %eax
        wrmsr
        mov %cr0, %eax
        or $0x80000000, %eax
        mov %eax, %cr0
        ljmp $0x08, $3f
        .code64
3:      lgdt gdt_pointer
        lidt idt_pointer
        andb $~2, gdt + 0x3D
        mov $0x38, %eax
        ltr %ax
        mov saved_rsp, %rsp
        pop %r15
        pop %r14
        pop %r13
        pop %r12
        pop %rbp
        pop %rbx
        ret

        .code32
// ---- Exceptions in 32-bit code: log and continue at resume_eip ----
        .balign 16
        .globl stubs32
stubs32:
        .set vector, 0
        .rept 256
        .balign 16
        .if vector > 31
        push $0
        .elseif !((0x27D00 >> vector) & 1)
        push $0
        .endif
        push $vector
        jmp trapped32
        .set vector, vector + 1
        .endr

trapped32:
        push %eax
        mov $0x10, %eax
        mov %eax, %ds
        mov %eax, %es
        mov 4(%esp), %eax
        LOG "  vector"
        mov 8(%esp), %eax
        LOG "  error"
        mov 16(%esp), %eax
        LOG "  cs"
        mov 20(%esp), %eax
        and $0x27300, %eax
        LOG "  flags"
        testl $0x20000, 20(%esp)
        jz 1f
        mov 24(%esp), %eax
        LOG "  vm86 esp"
        mov 28(%esp), %eax
        LOG "  vm86 ss"
        mov 32(%esp), %eax
        LOG "  vm86 es"
        mov 44(%esp), %eax
        LOG "  vm86 gs"
        mov 12(%esp), %eax
        LOG "  vm86 eip"
1:      mov resume_esp, %esp
        jmp *resume_eip

        .data
        .balign 16
        .globl gdt32
gdt32:  .quad 0
        .quad 0x00AF9B000000FFFF        // 08 code, 64-bit
        .quad 0x00CF93000000FFFF        // 10 data
        .quad 0x00CF9B000000FFFF        // 18 code
        .quad 0x00CFFB000000FFFF        // 20 user code
        .quad 0x00CFF3000000FFFF        // 28 user data
        .quad 0, 0, 0
        .quad 0x00009B000000FFFF        // 48 code, 16-bit
        .quad 0x000093000000FFFF        // 50 data, 16-bit
        .globl gdt32_free
gdt32_free:
        .fill 16, 8, 0                  // 58 and on
gdt32_end:
gdt32_pointer:
        .word gdt32_end - gdt32 - 1
        .long gdt32
idt32_pointer:
        .word 2047
        .long idt32
        .balign 16
        .globl main_tss, inner32_stack_top
main_tss:
        .long 0, inner32_stack_top, 0x10
        .fill 23, 4, 0
        .bss
        .balign 16
        .globl idt32, idt32_pointer, resume_eip, resume_esp, stack32_top, user_stack32_top
idt32:  .skip 2048
saved_rsp: .skip 8
saved_cr3: .skip 8
resume_eip: .skip 4
resume_esp: .skip 4
        .balign 16
        .skip 4096
stack32_top:
        .skip 4096
inner32_stack_top:
        .skip 4096
user_stack32_top:
        .skip 16
        .section .note.GNU-stack, "", @progbits
