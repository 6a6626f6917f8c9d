// SPDX-License-Identifier: Apache-2.0
#include "tiny.h"

#define SERIAL     0x3F8
#define DEBUG_EXIT 0xF4

void report_uncaught(void);
void enter_user(uint64_t argument, uint64_t rip, uint64_t cs, uint64_t flags);

extern handler *handlers[256];
extern uint8_t user_memory[65536];

// GCC calls these for structures.
void *memcpy(void *to, const void *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        ((uint8_t *)to)[i] = (uint8_t)value;
    return to;
}

void print(const char *text)
{
    for (; *text; text++) {
        while (!(inb(SERIAL + 5) & 0x20))
            ;
        outb(SERIAL, (uint8_t)*text);
    }
}

void print_hex(uint64_t value)
{
    char text[17];
    unsigned at = 16;

    text[16] = 0;
    do {
        text[--at] = "0123456789abcdef"[value & 15];
        value >>= 4;
    } while (value);
    print(text + at);
}

void tell(const char *name, uint64_t value)
{
    print(name);
    print(": ");
    print_hex(value);
    print("\n");
}

void tell_trap(const char *name, bool trapped, const struct trap *trap)
{
    print(name);
    if (!trapped) {
        print(": ok\n");
        return;
    }
    print(": #");
    print_hex(trap->vector);
    print("(");
    print_hex(trap->error);
    print(")");
    if (trap->vector == 14) {
        print(" at ");
        print_hex(trap->cr2);
    }
    print("\n");
}

void finish(uint8_t code)
{
    outb(DEBUG_EXIT, code);
    for (;;)
        __asm__ volatile("cli; hlt");
}

void report_uncaught(void)
{
    tell_trap("uncaught", true, &last_trap);
    tell("rip", last_trap.rip);
    finish(2);
}

void set_handler(uint8_t vector, handler *fn)
{
    handlers[vector] = fn;
}

struct user_call {
    uint64_t argument;
};

static void call_user(void *argument)
{
    const struct user_call *call = argument;
    enter_user(call->argument, USER_PAGES, SEL_USER_CODE64 | 3, 0x2);
}

bool user_catches(const void *code, size_t bytes, uint64_t argument)
{
    struct user_call call = {argument};

    memcpy(user_memory, code, bytes);
    bool trapped = catches(call_user, &call);
    return trapped && last_trap.vector != 0x80;
}
