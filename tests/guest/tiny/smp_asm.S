// SPDX-License-Identifier: Apache-2.0
//
// Where a started CPU begins: copied to 8000, real mode, CS 0800. On to 64-bit mode with the tables of the first CPU, and the next of the stacks.

        .section .rodata
        .balign 16
        .code16
        .globl ap_start, ap_start_end
ap_start:
        cli
        mov %cs, %ax
        mov %ax, %ds
        lgdtl ap_gdt_pointer - ap_start
        mov %cr0, %eax
        or $1, %eax
        mov %eax, %cr0
        ljmpl $0x18, $(0x8000 + 1f - ap_start)
        .code32
1:      mov $0x10, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov $page_map, %eax
        mov %eax, %cr3
        mov $0x620, %eax
        mov %eax, %cr4
        mov $0xC0000080, %ecx
        rdmsr
        or $0x901, %eax
        wrmsr
        mov $0x80010033, %eax
        mov %eax, %cr0
        ljmp $0x08, $ap_start64
ap_gdt_pointer:
        .word 87
        .long gdt
ap_start_end:

        .text
        .code64
ap_start64:
        mov $8192, %eax
        lock xadd %eax, ap_stacks_used(%rip)
        lea ap_stacks + 8192(%rax), %rsp
        lidt idt_pointer(%rip)
        lgdt gdt_pointer(%rip)
        call ap_main
        hlt

        .bss
        .balign 16
ap_stacks_used:
        .skip 16
ap_stacks:
        .skip 8192 * 8
        .section .note.GNU-stack, "", @progbits
