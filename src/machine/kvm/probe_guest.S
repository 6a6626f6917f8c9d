// SPDX-License-Identifier: Apache-2.0
//
// The guest of kvm_probe.c: what a kernel does in its first milliseconds. It starts in 32-bit protected mode without paging at PROBE_CODE, copied there;
// all its addresses are relative to the copy. Each step ends with its number written to PROBE_PORT; a step that finds something wrong writes 0x80 more.
#include "machine/kvm/probe_guest.h"

#define AT(label) (label - kvm_probe_guest + PROBE_CODE)

    .section .rodata
    .global kvm_probe_guest, kvm_probe_guest_bytes
    .hidden kvm_probe_guest, kvm_probe_guest_bytes
    .balign 16
    .code32
kvm_probe_guest:
    // Paging and long mode.
    movl $PROBE_PML4, %eax
    movl %eax, %cr3
    movl $0x40620, %eax             // PAE, OSFXSR, OSXMMEXCPT, OSXSAVE
    movl %eax, %cr4
    movl $0xC0000080, %ecx          // EFER
    rdmsr
    orl $0x100, %eax                // LME
    wrmsr
    movl $0x80000033, %eax          // PG, NE, ET, MP, PE
    movl %eax, %cr0
    ljmpl $0x08, $AT(long_mode)

    .code64
long_mode:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $PROBE_STACK, %esp
    lidt AT(idt_pointer)
    movb $PROBE_LONG_MODE, %al
    outb %al, $PROBE_PORT

    // A page that is not there faults, and the handler learns which.
    movabsq $PROBE_ABSENT, %rax
    movq $0, PROBE_DATA
    movq (%rax), %rbx
after_fault:
    cmpq %rax, PROBE_DATA
    movb $PROBE_PAGING, %bl
    jne wrong
    movb %bl, %al
    outb %al, $PROBE_PORT

    // CPUID: three questions that every kernel asks.
    xorl %eax, %eax
    cpuid
    movb $PROBE_CPUID, %r8b
    testl %eax, %eax
    jz wrong8
    movl $1, %eax
    cpuid
    testl $0x20, %edx               // MSR
    jz wrong8
    movl %ecx, %r15d                // the features
    movl $0x80000001, %eax
    cpuid
    testl $0x20000000, %edx         // long mode
    jz wrong8
    movb %r8b, %al
    outb %al, $PROBE_PORT

    // CMPXCHG16B, locked, once failing and once succeeding.
    movb $PROBE_CMPXCHG16B, %r8b
    testl $0x2000, %r15d
    jz 1f
    movq $1, PROBE_DATA + 16
    movq $2, PROBE_DATA + 24
    movl $7, %eax
    movl $8, %edx
    movl $3, %ebx
    movl $4, %ecx
    lock cmpxchg16b PROBE_DATA + 16
    jz wrong8
    cmpq $1, %rax
    jne wrong8
    cmpq $2, %rdx
    jne wrong8
    lock cmpxchg16b PROBE_DATA + 16
    jnz wrong8
    cmpq $4, PROBE_DATA + 24
    jne wrong8
1:  movb %r8b, %al
    outb %al, $PROBE_PORT

    // XSAVE and XRSTOR carry a register through memory.
    movb $PROBE_XSAVE, %r8b
    xorl %ecx, %ecx
    xorl %edx, %edx
    movl $PROBE_XCR0, %eax
    xsetbv
    movabsq $0x123456789ABCDEF0, %rbx
    movq %rbx, %xmm7
    movl $3, %eax
    xorl %edx, %edx
    xsave PROBE_XSAVE_AREA
    pxor %xmm7, %xmm7
    movl $3, %eax
    xrstor PROBE_XSAVE_AREA
    movq %xmm7, %rcx
    cmpq %rbx, %rcx
    jne wrong8
    movb %r8b, %al
    outb %al, $PROBE_PORT

    // The local APIC's timer interrupts a halted CPU.
    movl $PROBE_APIC, %ebx
    movl $0x1FF, 0xF0(%rbx)         // on
    movl $0xB, 0x3E0(%rbx)          // divide by 1
    movl $PROBE_TIMER_VECTOR, 0x320(%rbx)
    movl $100000, 0x380(%rbx)       // 100 us
    movq $0, PROBE_DATA
2:  sti
    hlt
    cli
    cmpq $PROBE_TIMER_VECTOR, PROBE_DATA
    jne 2b
    movb $PROBE_TIMER, %al
    outb %al, $PROBE_PORT

    // What kernels do all the time, and what hardware does without leaving the guest; again as long as it is asked for.
5:  movl $PROBE_LOOPS, %esi
3:  movq %cr3, %rax
    movq %rax, %cr3
    invlpg PROBE_DATA
    movq PROBE_DATA, %rcx
    sti
    cli
    swapgs
    swapgs
    movl %ds, %eax
    movl %eax, %ds
    lidt AT(idt_pointer)
    pushq $0x10
    leaq 8(%rsp), %rax
    pushq %rax
    pushfq
    pushq $0x08
    pushq $AT(4f)
    iretq
4:  decl %esi
    jnz 3b
    movb $PROBE_PRIVILEGED, %al
    outb %al, $PROBE_PORT
    jmp 5b

wrong8:
    movb %r8b, %bl
wrong:
    movb %bl, %al
    orb $0x80, %al
    outb %al, $PROBE_PORT
    hlt

    .balign 16
page_fault:
    movq %cr2, %rcx
    movq %rcx, PROBE_DATA
    movq $AT(after_fault), 8(%rsp)
    addq $8, %rsp
    iretq

timer:
    movq $PROBE_TIMER_VECTOR, PROBE_DATA
    movl $PROBE_APIC, %ecx
    movl $0, 0xB0(%rcx)             // end of interrupt
    iretq

    .balign 8
idt_pointer:
    .word 16 * 256 - 1
    .quad PROBE_IDT
    .balign 8
    .global kvm_probe_page_fault, kvm_probe_timer
    .hidden kvm_probe_page_fault, kvm_probe_timer
kvm_probe_page_fault:
    .quad AT(page_fault)
kvm_probe_timer:
    .quad AT(timer)
kvm_probe_guest_bytes:
    .quad guest_end - kvm_probe_guest
guest_end:
    .section .note.GNU-stack, "", @progbits
