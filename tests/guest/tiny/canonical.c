// SPDX-License-Identifier: Apache-2.0
//
// Addresses that are not canonical: #GP, through RSP #SS; and RIP never becomes one.
#include "tiny.h"

#define LOWEST  0x0000800000000000ull // not canonical
#define HIGHEST 0xFFFF7FFFFFFFFFFFull

static void load(void *at)
{
    __asm__ volatile("mov (%0), %%rax" : : "r"(at) : "rax", "memory");
}

static void load_by_rbp(void *at)
{
    __asm__ volatile("push %%rbp; mov %0, %%rbp; mov (%%rbp), %%rax; pop %%rbp"
                     :
                     : "r"(at)
                     : "rax", "memory");
}

static void load_by_fs(void *base)
{
    wrmsr(0xC0000100, (uint64_t)base);
    __asm__ volatile("mov %%fs:0x1000, %%rax" : : : "rax", "memory");
}

static void pop(void *at)
{
    __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; pop %%rax; mov %%rbx, %%rsp"
                     :
                     : "r"(at)
                     : "rax", "rbx", "memory");
}

static void call(void *at)
{
    __asm__ volatile("call *%0" : : "r"(at) : "memory");
}

static void jump(void *at)
{
    __asm__ volatile("jmp *%0" : : "r"(at) : "memory");
}

static void ret(void *at)
{
    __asm__ volatile("push %0; ret" : : "r"(at) : "memory");
}

static void far_ret(void *at)
{
    __asm__ volatile("push $8; push %0; lretq" : : "r"(at) : "memory");
}

static void iret(void *at)
{
    __asm__ volatile("push $0x10; push %%rsp; push $2; push $8; push %0; iretq"
                     :
                     : "r"(at)
                     : "memory");
}

static void try(const char *what, void (*fn)(void *))
{
    print(what);
    TELL_CATCH(" lowest", fn, (void *)LOWEST);
    tell("  rip is canonical", (uint64_t)((int64_t)(last_trap.rip << 16) >> 16) == last_trap.rip);
    print(what);
    TELL_CATCH(" highest", fn, (void *)(HIGHEST & ~7ull));
}

void guest(void)
{
    try("load", load);
    try("load by rbp", load_by_rbp);
    TELL_CATCH("fs base", load_by_fs, (void *)LOWEST);
    TELL_CATCH("fs base and offset", load_by_fs, (void *)(LOWEST - 0x800));
    try("pop", pop);
    try("call", call);
    try("jump", jump);
    try("ret", ret);
    try("far ret", far_ret);
    try("iret", iret);
}
