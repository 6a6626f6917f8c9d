// SPDX-License-Identifier: Apache-2.0
//
// An instruction that CPUID does not offer is #UD in the kernel, too; so is one whose bit in CR4 or XCR0 is clear. Whatever the CPU model is, the
// text is the same: each line says whether CPUID and the instruction agree.
#include "tiny.h"

enum word { EAX, EBX, ECX, EDX };

static bool offers(uint32_t leaf, uint32_t subleaf, enum word word, unsigned bit)
{
    if (cpuid(leaf & 0x80000000, 0).eax < leaf)
        return false;
    struct cpuid r = cpuid(leaf, subleaf);
    uint32_t words[] = {r.eax, r.ebx, r.ecx, r.edx};
    return words[word] >> bit & 1;
}

static uint8_t operand[4096] __attribute__((aligned(64)));

// RDI leads to memory, RAX, RCX and RDX are 0.
static void execute(void *code)
{
    uint64_t a = 0, c = 0, d = 0, target = (uint64_t)operand;
    __asm__ volatile("call *%4"
                     : "+a"(a), "+c"(c), "+d"(d), "+D"(target)
                     : "r"(code)
                     : "memory", "cc", "rsi");
}

static bool is_undefined(const uint8_t *bytes, unsigned length)
{
    uint8_t *code = (uint8_t *)(SCRATCH + 0x10000);
    memcpy(code, bytes, length);
    code[length] = 0xC3;
    cpuid(0, 0); // code was written
    return catches(execute, code) && last_trap.vector == 6 && last_trap.rip == (uint64_t)code;
}

// ---- By CPUID ----

static const struct {
    const char *name;
    uint32_t leaf;
    uint8_t subleaf, word, bit, length;
    uint8_t bytes[8];
} by_cpuid[] = {
    {"RDTSCP", 0x80000001, 0, EDX, 27, 3, {0x0F, 0x01, 0xF9}},
    {"MONITOR", 1, 0, ECX, 3, 3, {0x0F, 0x01, 0xC8}},
    {"CLAC", 7, 0, EBX, 20, 3, {0x0F, 0x01, 0xCA}},
    {"INVPCID", 7, 0, EBX, 10, 5, {0x66, 0x0F, 0x38, 0x82, 0x07}},
    {"RDPID", 7, 0, ECX, 22, 4, {0xF3, 0x0F, 0xC7, 0xF8}},
    {"RDRAND", 1, 0, ECX, 30, 3, {0x0F, 0xC7, 0xF0}},
    {"RDSEED", 7, 0, EBX, 18, 3, {0x0F, 0xC7, 0xF8}},
    {"MOVBE", 1, 0, ECX, 22, 4, {0x0F, 0x38, 0xF0, 0x07}},
    {"POPCNT", 1, 0, ECX, 23, 4, {0xF3, 0x0F, 0xB8, 0xC0}},
    {"CRC32", 1, 0, ECX, 20, 5, {0xF2, 0x0F, 0x38, 0xF0, 0xC0}},
    {"CMPXCHG16B", 1, 0, ECX, 13, 4, {0x48, 0x0F, 0xC7, 0x0F}},
    {"PSHUFB", 1, 0, ECX, 9, 5, {0x66, 0x0F, 0x38, 0x00, 0xC0}},
    {"AESENC", 1, 0, ECX, 25, 5, {0x66, 0x0F, 0x38, 0xDC, 0xC0}},
    {"PCLMULQDQ", 1, 0, ECX, 1, 6, {0x66, 0x0F, 0x3A, 0x44, 0xC0, 0x00}},
    {"SHA1NEXTE", 7, 0, EBX, 29, 4, {0x0F, 0x38, 0xC8, 0xC0}},
    {"ADCX", 7, 0, EBX, 19, 5, {0x66, 0x0F, 0x38, 0xF6, 0xC0}},
    {"CLFLUSHOPT", 7, 0, EBX, 23, 4, {0x66, 0x0F, 0xAE, 0x3F}},
    {"CLWB", 7, 0, EBX, 24, 4, {0x66, 0x0F, 0xAE, 0x37}},
    {"RDPKRU", 7, 0, ECX, 4, 3, {0x0F, 0x01, 0xEE}}, // whose bit says that CR4.PKE is set
    {"MOVDIRI", 7, 0, ECX, 27, 4, {0x0F, 0x38, 0xF9, 0x07}},
    {"SERIALIZE", 7, 0, EDX, 14, 3, {0x0F, 0x01, 0xE8}},
    {"XBEGIN", 7, 0, EBX, 11, 6, {0xC7, 0xF8, 0x00, 0x00, 0x00, 0x00}},
    {"TPAUSE", 7, 0, ECX, 5, 4, {0x66, 0x0F, 0xAE, 0xF0}},
    {"RDPRU", 0x80000008, 0, EBX, 4, 3, {0x0F, 0x01, 0xFD}},
    {"CLZERO", 0x80000008, 0, EBX, 0, 3, {0x0F, 0x01, 0xFC}},
    {"INVLPGB", 0x80000008, 0, EBX, 3, 3, {0x0F, 0x01, 0xFE}},
    {"VMXON", 1, 0, ECX, 5, 4, {0xF3, 0x0F, 0xC7, 0x37}},
    {"MONITORX", 0x80000001, 0, ECX, 29, 3, {0x0F, 0x01, 0xFA}},
    {"INSERTQ", 0x80000001, 0, ECX, 6, 4, {0xF2, 0x0F, 0x79, 0xC0}},
    {"PREFETCHW", 0x80000001, 0, ECX, 8, 3, {0x0F, 0x0D, 0x0F}},
};

static void compare_with_cpuid(void)
{
    for (unsigned i = 0; i < sizeof(by_cpuid) / sizeof(by_cpuid[0]); i++) {
        bool offered = offers(by_cpuid[i].leaf, by_cpuid[i].subleaf, (enum word)by_cpuid[i].word,
                              by_cpuid[i].bit);
        bool undefined = is_undefined(by_cpuid[i].bytes, by_cpuid[i].length);
        print(by_cpuid[i].name);
        print(offered != undefined ? " as CPUID says\n"
              : offered            ? " is offered, but #UD\n"
                                   : " is not offered, but no #UD\n");
    }
}

// ---- By CR4 and XCR0 ----

static void tell_enabled(const char *name, const uint8_t *bytes, unsigned length, bool offered,
                         uint64_t cr4_bit)
{
    bool off, on;
    print(name);
    if (!offered) {
        print(is_undefined(bytes, length) ? ": by its bit in CR4\n"
                                          : ": not offered, but no #UD\n");
        return;
    }
    write_cr4(read_cr4() & ~cr4_bit);
    off = is_undefined(bytes, length);
    write_cr4(read_cr4() | cr4_bit);
    on = is_undefined(bytes, length);
    write_cr4(read_cr4() & ~cr4_bit);
    print(off && !on ? ": by its bit in CR4\n"
          : on       ? ": #UD in spite of CR4\n"
                     : ": no #UD without its bit in CR4\n");
}

static void by_control_registers(void)
{
    static const uint8_t rdfsbase[] = {0xF3, 0x48, 0x0F, 0xAE, 0xC0};
    static const uint8_t wrgsbase[] = {0xF3, 0x48, 0x0F, 0xAE, 0xD8};
    static const uint8_t xgetbv[] = {0x0F, 0x01, 0xD0};
    static const uint8_t xsave[] = {0x0F, 0xAE, 0x27};
    static const uint8_t xsavec[] = {0x0F, 0xC7, 0x27};
    static const uint8_t xsaveopt[] = {0x0F, 0xAE, 0x37};
    static const uint8_t movaps[] = {0x0F, 0x28, 0xC0};
    bool fsgsbase = offers(7, 0, EBX, 0), has_xsave = offers(1, 0, ECX, 26);

    tell_enabled("RDFSBASE", rdfsbase, sizeof(rdfsbase), fsgsbase, 1 << 16);
    tell_enabled("WRGSBASE", wrgsbase, sizeof(wrgsbase), fsgsbase, 1 << 16);
    tell_enabled("XGETBV", xgetbv, sizeof(xgetbv), has_xsave, 1 << 18);
    tell_enabled("XSAVE", xsave, sizeof(xsave), has_xsave, 1 << 18);
    tell_enabled("XSAVEC", xsavec, sizeof(xsavec), has_xsave && offers(13, 1, EAX, 1), 1 << 18);
    tell_enabled("XSAVEOPT", xsaveopt, sizeof(xsaveopt), has_xsave && offers(13, 1, EAX, 0),
                 1 << 18);
    tell_enabled("MOVAPS", movaps, sizeof(movaps), true, 1 << 9);
    write_cr4(read_cr4() | 1 << 9);
}

// VADDPS wants CPUID.AVX, CR4.OSXSAVE and both bits of XCR0.
static void by_xcr0(void)
{
    static const uint8_t vaddps[] = {0xC5, 0xFC, 0x58, 0xC0};
    bool without = is_undefined(vaddps, sizeof(vaddps)), with_sse = true, with_both = false;

    if (offers(1, 0, ECX, 28)) {
        write_cr4(read_cr4() | 1 << 18);
        __asm__ volatile("xsetbv" : : "a"(3), "c"(0), "d"(0));
        with_sse = is_undefined(vaddps, sizeof(vaddps));
        __asm__ volatile("xsetbv" : : "a"(7), "c"(0), "d"(0));
        with_both = is_undefined(vaddps, sizeof(vaddps));
        __asm__ volatile("xsetbv" : : "a"(3), "c"(0), "d"(0));
        write_cr4(read_cr4() & ~(1ull << 18));
    }
    print(without && with_sse && !with_both ? "VADDPS: by CPUID, CR4 and XCR0\n"
                                            : "VADDPS does not agree with CPUID, CR4 and XCR0\n");
}

// ---- Control register bits of what is not offered ----

static void set_cr4(void *bits)
{
    write_cr4(read_cr4() | (uint64_t)bits);
}

static void reserved_bits(void)
{
    static const struct {
        const char *name;
        uint32_t leaf;
        uint8_t word, bit, cr4;
    } bits[] = {{"UMIP", 7, ECX, 2, 11},  {"FSGSBASE", 7, EBX, 0, 16}, {"OSXSAVE", 1, ECX, 26, 18},
                {"SMEP", 7, EBX, 7, 20},  {"SMAP", 7, EBX, 20, 21},    {"PKE", 7, ECX, 3, 22},
                {"PCIDE", 1, ECX, 17, 17}};
    for (unsigned i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
        uint64_t cr4 = read_cr4();
        bool refused = catches(set_cr4, (void *)(1ull << bits[i].cr4));
        write_cr4(cr4);
        print("CR4.");
        print(bits[i].name);
        print(refused != offers(bits[i].leaf, 0, (enum word)bits[i].word, bits[i].bit)
                  ? " as CPUID says\n"
                  : " not as CPUID says\n");
    }
}

void guest(void)
{
    compare_with_cpuid();
    by_control_registers();
    by_xcr0();
    reserved_bits();
}
