// SPDX-License-Identifier: Apache-2.0
//
// A kit for guests that show one property of the CPU each: 64-bit code at 1 MiB, the first 1 GiB mapped to itself by 2 MiB pages
// (supervisor only), a line of text per observation on the serial port, exceptions caught where they happen.
//
// A guest is `void guest(void)`. It prints what it sees; the runner compares the text with the expectation beside the source, with the other
// tiers and with QEMU.
#ifndef WIRT_TESTS_TINY_H
#define WIRT_TESTS_TINY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// In the bed of tests/kvm, whose processor is QEMU's TCG: what that cannot do, a guest leaves out and says so.
#ifndef IN_BED
#define IN_BED 0
#endif

// What an exception handler finds on its stack, and CR2.
struct trap {
    uint64_t cr2, vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};

void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

// ---- Telling (tiny.c) ----
void print(const char *text);
void print_hex(uint64_t value);
// "name: value" in hexadecimal.
void tell(const char *name, uint64_t value);
// "name: #13(0)" and for page faults the address relative to nothing; or "name: ok".
void tell_trap(const char *name, bool trapped, const struct trap *trap);
// Ends the machine: isa-debug-exit, status (code << 1) | 1.
void finish(uint8_t code) __attribute__((noreturn));

// ---- Catching (start.S) ----
extern struct trap last_trap;
// Call fn(argument); true when an exception ended it (see last_trap).
bool catches(void (*fn)(void *argument), void *argument);
// The same at CPL 3, on a stack and with code that user mode can reach: `text` is copied to the user page. RDI is `argument`. Comes back by
// any exception, or by INT 0x80, which is not counted as one; the result is then in user_result (RAX).
bool user_catches(const void *code, size_t bytes, uint64_t argument);
extern uint64_t user_result;

// Run once for the named test: prints the outcome.
#define TELL_CATCH(name, fn, argument) tell_trap(name, catches(fn, argument), &last_trap)

// Handler of a vector (interrupts mostly): called with interrupts off, returns to where it was. NULL: caught, or fatal.
typedef void handler(struct trap *trap);
void set_handler(uint8_t vector, handler *fn);

// ---- Memory ----
#define USER_PAGES                                                                                 \
    0x40000000ull           // 2 MiB of user pages of 4 KiB at 1 GiB: table entries in user_table
#define SCRATCH 0x600000ull // 2 MiB for a guest's own use
extern uint64_t user_table[512]; // entries of USER_PAGES
extern uint64_t page_map[512];   // the PML4
extern uint64_t gdt[];           // see start.S
extern uint64_t idt[512];
extern uint8_t tss[104];

enum {
    SEL_CODE64 = 0x08,
    SEL_DATA = 0x10,
    SEL_CODE32 = 0x18,
    SEL_USER_CODE32 = 0x20,
    SEL_USER_DATA = 0x28,
    SEL_USER_CODE64 = 0x30,
    SEL_TSS = 0x38,
    SEL_CODE16 = 0x48,
    SEL_DATA16 = 0x50,
    SEL_FREE = 0x58
};

// ---- Instructions ----
static inline void outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
static inline uint8_t inb(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}
static inline void wrmsr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr"
                     :
                     : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
}
#define DEFINE_CR(n)                                                                               \
    static inline uint64_t read_cr##n(void)                                                        \
    {                                                                                              \
        uint64_t value;                                                                            \
        __asm__ volatile("mov %%cr" #n ", %0" : "=r"(value) : : "memory");                         \
        return value;                                                                              \
    }                                                                                              \
    static inline void write_cr##n(uint64_t value)                                                 \
    {                                                                                              \
        __asm__ volatile("mov %0, %%cr" #n : : "r"(value) : "memory");                             \
    }
DEFINE_CR(0)
DEFINE_CR(2)
DEFINE_CR(3)
DEFINE_CR(4)
DEFINE_CR(8)
#undef DEFINE_CR
static inline void invlpg(uint64_t address)
{
    __asm__ volatile("invlpg (%0)" : : "r"(address) : "memory");
}
static inline uint64_t read_flags(void)
{
    uint64_t flags;
    __asm__ volatile("pushf; pop %0" : "=r"(flags));
    return flags;
}
// Not before what stands before it, and nothing behind it earlier.
static inline uint64_t rdtsc(void)
{
    uint32_t low, high;
    __asm__ volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}
struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};
static inline struct cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid r;
    __asm__ volatile("cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "a"(leaf), "c"(subleaf));
    return r;
}

#define EFER 0xC0000080u

#endif
