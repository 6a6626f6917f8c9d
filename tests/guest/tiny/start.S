// SPDX-License-Identifier: Apache-2.0
//
// Entry by PVH (32-bit protected mode), the way to 64-bit mode, descriptor tables, and the catching of exceptions.

        .section .note.PVH, "a", @note
        .long 4, 4, 18                  // name size, value size, XEN_ELFNOTE_PHYS32_ENTRY
        .asciz "Xen"
        .long start32

        .text
        .code32
        .globl start32
start32:
        cld
        lgdt gdt_pointer
        ljmp $0x18, $1f
1:      mov $0x10, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        xor %eax, %eax
        mov %eax, %fs
        mov %eax, %gs
        mov $stack_top, %esp
        // 1 GiB by 2 MiB pages, and the user pages behind it.
        movl $page_directories + 3, page_map
        orl $4, page_map                // user pages below need it
        movl $page_directory + 7, page_directories
        movl $page_directory2 + 7, page_directories + 8
        mov $page_directory, %edi
        mov $0x83, %eax
        mov $512, %ecx
2:      mov %eax, (%edi)
        movl $0, 4(%edi)
        add $0x200000, %eax
        add $8, %edi
        loop 2b
        movl $user_table + 7, page_directory2
        // 16 user pages at first.
        mov $user_table, %edi
        mov $user_memory + 7, %eax
        mov $16, %ecx
3:      mov %eax, (%edi)
        add $0x1000, %eax
        add $8, %edi
        loop 3b
        movl $page_map, %eax
        mov %eax, %cr3
        mov $0x620, %eax                // PAE, OSFXSR, OSXMMEXCPT
        mov %eax, %cr4
        mov $0xC0000080, %ecx
        rdmsr
        or $0x901, %eax                 // SCE, LME, NXE
        wrmsr
        mov $0x80010033, %eax           // PG, WP, NE, ET, MP, PE
        mov %eax, %cr0
        ljmp $0x08, $start64

        .code64
start64:
        mov $stack_top, %rsp
        call fill_tables
        lidt idt_pointer(%rip)
        mov $0x38, %eax
        ltr %ax
        xor %eax, %eax
        lldt %ax
        call guest
        mov $0, %edi
        call finish

// The IDT points to 256 stubs of 16 bytes; the TSS gets its stack.
fill_tables:
        lea stubs(%rip), %rax
        lea idt(%rip), %rdi
        mov $256, %ecx
1:      mov %ax, (%rdi)
        movw $0x08, 2(%rdi)
        movw $0x8E00, 4(%rdi)
        mov %rax, %rdx
        shr $16, %rdx
        mov %dx, 6(%rdi)
        movq $0, 8(%rdi)
        add $16, %rax
        add $16, %rdi
        loop 1b
        movb $0xEE, idt + 0x80 * 16 + 5 // INT 0x80 from user mode
        movb $1, idt + 8 * 16 + 4       // #DF and #SS have a stack of their own
        movb $1, idt + 12 * 16 + 4
        lea tss(%rip), %rax
        lea interrupt_stack_top(%rip), %rdx
        mov %rdx, 4(%rax)
        movw $104, 102(%rax)
        lea ist_stack_top(%rip), %rdx
        mov %rdx, 36(%rax)
        lea gdt(%rip), %rdi
        mov %ax, 0x3A(%rdi)
        shr $16, %rax
        mov %al, 0x3C(%rdi)
        mov %ah, 0x3F(%rdi)
        ret

// Vectors with an error code: 8, 10 to 14, 17.
        .balign 16
stubs:
        .set vector, 0
        .rept 256
        .balign 16
        .if vector > 31
        push $0
        .elseif !((0x27D00 >> vector) & 1)
        push $0
        .endif
        push $vector
        jmp trapped
        .set vector, vector + 1
        .endr

// The frame becomes a struct trap below the general registers.
trapped:
        push %rax
        mov %cr2, %rax
        xchg %rax, (%rsp)               // CR2 on the stack, RAX back
        push %rax
        push %rcx
        push %rdx
        push %rbx
        push %rbp
        push %rsi
        push %rdi
        push %r8
        push %r9
        push %r10
        push %r11
        push %r12
        push %r13
        push %r14
        push %r15
        cld
        lea 120(%rsp), %rdi
        mov 8(%rdi), %eax               // vector
        lea handlers(%rip), %rcx
        mov (%rcx,%rax,8), %rcx
        test %rcx, %rcx
        jz 1f
        mov %rsp, %rbp
        and $-16, %rsp
        call *%rcx
        mov %rbp, %rsp
        pop %r15
        pop %r14
        pop %r13
        pop %r12
        pop %r11
        pop %r10
        pop %r9
        pop %r8
        pop %rdi
        pop %rsi
        pop %rbp
        pop %rbx
        pop %rdx
        pop %rcx
        pop %rax
        add $24, %rsp
        iretq
1:      // To the innermost catcher.
        mov %rdi, %rsi
        lea last_trap(%rip), %rdi
        mov $8, %ecx
        rep movsq
        mov 112(%rsp), %rax
        mov %rax, user_result(%rip)
        mov catcher(%rip), %rsp
        test %rsp, %rsp
        jz uncaught
        mov $1, %eax
        jmp leave_catcher

uncaught:
        mov $stack_top, %rsp
        call report_uncaught

        .globl catches
catches:
        push %rbx
        push %rbp
        push %r12
        push %r13
        push %r14
        push %r15
        pushf
        push catcher(%rip)
        mov %rsp, catcher(%rip)
        mov %rdi, %rax
        mov %rsi, %rdi
        call *%rax
        xor %eax, %eax
        mov catcher(%rip), %rsp
leave_catcher:
        mov $0x10, %ecx
        mov %ecx, %ss
        pop catcher(%rip)
        popf
        pop %r15
        pop %r14
        pop %r13
        pop %r12
        pop %rbp
        pop %rbx
        ret

// To user mode: RDI is the argument, RSI the RIP, RDX the selector of the code, RCX the flags. Leaves by an exception only.
        .globl enter_user
enter_user:
        push $0x2B
        mov $0x40010000, %eax           // behind the sixteen user pages' end
        push %rax
        push %rcx
        push %rdx
        push %rsi
        xor %eax, %eax
        iretq

        .data
        .balign 16
        .globl gdt
gdt:    .quad 0
        .quad 0x00AF9B000000FFFF        // 08 code, 64-bit
        .quad 0x00CF93000000FFFF        // 10 data
        .quad 0x00CF9B000000FFFF        // 18 code, 32-bit
        .quad 0x00CFFB000000FFFF        // 20 user code, 32-bit
        .quad 0x00CFF3000000FFFF        // 28 user data
        .quad 0x00AFFB000000FFFF        // 30 user code, 64-bit
        .quad 0x0000890000000067        // 38 TSS
        .quad 0
        .quad 0x00009B000000FFFF        // 48 code, 16-bit
        .quad 0x000093000000FFFF        // 50 data, 16-bit
        .fill 32, 8, 0                  // 58 and on: the guest's
gdt_end:
        .globl gdt_pointer
gdt_pointer:
        .word gdt_end - gdt - 1
        .quad gdt
        .globl idt_pointer
idt_pointer:
        .word 4095
        .quad idt
catcher: .quad 0

        .bss
        .balign 4096
        .globl page_map, page_directories, page_directory, page_directory2, user_table
page_map: .skip 4096
page_directories: .skip 4096
page_directory: .skip 4096
page_directory2: .skip 4096
user_table: .skip 4096
        .globl user_memory
user_memory: .skip 65536
        .globl idt, tss, handlers, last_trap, user_result
idt:    .skip 4096
handlers: .skip 2048
tss:    .skip 128
last_trap: .skip 64
user_result: .skip 8
        .balign 16
        .skip 16384
stack_top:
        .skip 16384
interrupt_stack_top:
        .skip 8192
ist_stack_top:
        .skip 16
        .section .note.GNU-stack, "", @progbits
