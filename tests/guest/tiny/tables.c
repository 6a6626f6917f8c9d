// SPDX-License-Identifier: Apache-2.0
//
// Page tables above the last level: pages of 1 GiB, accessed flags of every level; implicit accesses under SMAP; PCIDs, INVPCID, and what is seen of two
// address spaces with different ones.
#include "page_bits.h"

#define CR4_PCIDE (1ull << 17)
#define NO_FLUSH  (1ull << 63)

#define ECX_PCID    (1u << 17)
#define EBX_INVPCID (1u << 10)
#define EDX_1GIB    (1u << 26)
#define PCID_LINES  20

#define GIB (1ull << 30)

extern uint64_t page_directories[512], page_directory2[512];

static void load(void *at)
{
    (void)*(volatile uint64_t *)at;
}

static uint64_t read(uint64_t at)
{
    return *(volatile uint64_t *)at;
}

static void flush(void)
{
    write_cr3(read_cr3());
}

// ---- 1 GiB ----

static void gigabyte_pages(void)
{
    *(volatile uint64_t *)(FRAME + 0x5000) = 0x1234;
    tell("1 GiB pages are offered", (cpuid(0x80000001, 0).edx & EDX_1GIB) != 0);
    page_directories[2] = P | RW | PS;
    tell("1 GiB: load", read(2 * GIB + FRAME + 0x5000));
    tell("  flags", page_directories[2] & (A | D));
    *(volatile uint64_t *)(2 * GIB + FRAME + 0x5008) = 0x5678;
    tell("  stored", read(FRAME + 0x5008));
    tell("  flags", page_directories[2] & (A | D));
    page_directories[2] = P | PS;
    invlpg(2 * GIB + 0x12345000); // any address within takes it all away
    write_cr0(read_cr0());
    TELL_CATCH("  another part", load, (void *)(2 * GIB + 0x3000000));
    tell("  flags", page_directories[2] & (A | D));
    page_directories[2] = 0x2000 | P | RW | PS;
    invlpg(2 * GIB);
    TELL_CATCH("  reserved bit 13", load, (void *)(2 * GIB));
    page_directories[2] = 1ull << 29 | P | RW | PS;
    invlpg(2 * GIB);
    TELL_CATCH("  reserved bit 29", load, (void *)(2 * GIB));
    page_directories[2] = 0;
    invlpg(2 * GIB);
    TELL_CATCH("  gone", load, (void *)(2 * GIB));
    page_map[1] = (uint64_t)page_directories | P | RW | PS;
    flush();
    TELL_CATCH("PS in the PML4", load, (void *)(512 * GIB));
    page_map[1] = 0;
    flush();
}

// ---- Accessed flags ----

static void clear_flags(void)
{
    page_map[0] &= ~(A | D);
    page_directories[1] &= ~(A | D);
    page_directory2[0] &= ~(A | D);
    ENTRY &= ~(A | D);
    flush();
}

static void tell_flags(const char *what)
{
    print(what);
    tell(": PML4", page_map[0] & (A | D));
    tell("  directories", page_directories[1] & (A | D));
    tell("  directory", page_directory2[0] & (A | D));
    tell("  table", ENTRY & (A | D));
}

static void accessed_flags(void)
{
    ENTRY = FRAME | P | RW;
    clear_flags();
    // What executes this uses the PML4's entry, too: only those of this page are clean.
    tell("untouched: directories", page_directories[1] & (A | D));
    load((void *)PAGE);
    tell_flags("load");
    clear_flags();
    *(volatile uint64_t *)PAGE = 1;
    tell_flags("store");
    clear_flags();
    *(volatile uint8_t *)FRAME = 0xC3;
    ((void (*)(void))PAGE)();
    tell_flags("fetch");
    // The directory alone is clean: another walk sets it again.
    page_directory2[0] &= ~A;
    flush();
    load((void *)PAGE);
    tell("one level: directory", page_directory2[0] & (A | D));
}

// ---- SMAP: the LDT on a page of user mode's ----

static void load_from_ldt(void *selector)
{
    __asm__ volatile("mov %w0, %%fs" : : "r"((uint32_t)(uintptr_t)selector));
}

static void load_from_ldt_with_ac(void *selector)
{
    __asm__ volatile("pushf; orl %1, (%%rsp); popf; mov %w0, %%fs; pushf; andl %2, (%%rsp); popf"
                     :
                     : "r"((uint32_t)(uintptr_t)selector), "i"(FLAG_AC), "i"(~(int)FLAG_AC)
                     : "memory", "cc");
}

// mov %edi, %fs; int $0x80
static const uint8_t user_loads[] = {0x8E, 0xE7, 0xCD, 0x80};

static void implicit_accesses(void)
{
    ENTRY = FRAME | P | RW | US;
    invlpg(PAGE);
    *(volatile uint64_t *)FRAME = 0x00CFF3000000FFFF; // data of DPL 3, accessed
    gdt[11] = 0xFFFull | (PAGE & 0xFFFFFF) << 16 | 0x82ull << 40 | (PAGE >> 24 & 0xFF) << 56;
    gdt[12] = 0;
    __asm__ volatile("lldt %w0" : : "r"(SEL_FREE));
    if (cpuid(7, 0).ebx & EBX_SMAP)
        write_cr4(read_cr4() | CR4_SMAP);
    TELL_CATCH("LDT: from the kernel", load_from_ldt, (void *)7);
    TELL_CATCH("LDT: from the kernel with AC", load_from_ldt_with_ac, (void *)7);
    tell_trap("LDT: from user mode", user_catches(user_loads, sizeof(user_loads), 7), &last_trap);
    write_cr4(read_cr4() & ~CR4_SMAP);
    TELL_CATCH("LDT: without SMAP", load_from_ldt, (void *)7);
    ENTRY = FRAME | P | RW;
    invlpg(PAGE);
    // The descriptor is read with the kernel's rights, whoever wants it.
    tell_trap("LDT: the kernel's page, from user mode",
              user_catches(user_loads, sizeof(user_loads), 7), &last_trap);
    load_from_ldt(NULL);
    __asm__ volatile("lldt %w0" : : "r"(0));
}

// ---- PCID ----

struct invpcid {
    uint64_t pcid, address;
};
struct invpcid_call {
    uint64_t type;
    struct invpcid descriptor;
};

static void invpcid(void *argument)
{
    const struct invpcid_call *call = argument;
    __asm__ volatile("invpcid %0, %1" : : "m"(call->descriptor), "r"(call->type) : "memory");
}

static void try_invpcid(const char *what, uint64_t type, uint64_t pcid, uint64_t address)
{
    struct invpcid_call call = {type, {pcid, address}};
    TELL_CATCH(what, invpcid, &call);
}

static void set_cr3(void *value)
{
    write_cr3((uint64_t)value);
}

static void set_cr4(void *value)
{
    write_cr4((uint64_t)value);
}

// A second address space: the same but for PAGE.
static uint64_t page_map_b[512] __attribute__((aligned(4096)));
static uint64_t directories_b[512] __attribute__((aligned(4096)));
static uint64_t directory_b[512] __attribute__((aligned(4096)));
static uint64_t table_b[512] __attribute__((aligned(4096)));

static void make_second_space(void)
{
    memcpy(page_map_b, page_map, 4096);
    memcpy(directories_b, page_directories, 4096);
    memcpy(directory_b, page_directory2, 4096);
    memcpy(table_b, user_table, 4096);
    page_map_b[0] = (uint64_t)directories_b | P | RW | US;
    directories_b[1] = (uint64_t)directory_b | P | RW | US;
    directory_b[0] = (uint64_t)table_b | P | RW | US;
    table_b[256] = (FRAME + 0x1000) | P | RW;
}

static void try_types(uint64_t space)
{
    static const char *const names[] = {"INVPCID 0: seen", "INVPCID 1: seen", "INVPCID 2: seen",
                                        "INVPCID 3: seen"};
    for (uint64_t type = 0; type < 4; type++) {
        ENTRY = FRAME | P | RW;
        invlpg(PAGE);
        load((void *)PAGE);
        ENTRY = (FRAME + 0x2000) | P | RW;
        struct invpcid_call call = {type, {type < 2 ? space & 0xFFF : 0, type ? 0 : PAGE}};
        invpcid(&call);
        tell(names[type], read(PAGE));
    }
    ENTRY = FRAME | P | RW;
    invlpg(PAGE);
}

static void spaces(void)
{
    uint64_t a = read_cr3() | 1, b = (uint64_t)page_map_b | 2;
    *(volatile uint64_t *)FRAME = 0xA;
    *(volatile uint64_t *)(FRAME + 0x1000) = 0xB;
    *(volatile uint64_t *)(FRAME + 0x2000) = 0xC;
    make_second_space();
    write_cr3(a);
    tell("CR3 reads", (read_cr3() ^ a));
    unsigned wrong = 0;
    for (unsigned i = 0; i < 100; i++) {
        write_cr3(i & 1 ? b | NO_FLUSH : a | NO_FLUSH);
        wrong += read(PAGE) != (i & 1 ? 0xB : 0xA);
    }
    tell("two spaces: of the other", wrong);
    tell("bit 63 reads", read_cr3() >> 63);
    write_cr3(a);
    load((void *)PAGE);
    write_cr3(b);
    ENTRY = (FRAME + 0x2000) | P | RW; // of the space that is not in force
    write_cr3(a);                      // flushes its own
    tell("changed meanwhile", read(PAGE));
    ENTRY = FRAME | P | RW;
    write_cr3(b);
    struct invpcid_call one = {0, {1, PAGE}};
    invpcid(&one);
    write_cr3(a | NO_FLUSH);
    tell("changed, INVPCID of the other space", read(PAGE));
    try_types(a);
    write_cr3(a & ~0xFFFull);
}

static void pcids(void)
{
    if (!(cpuid(1, 0).ecx & ECX_PCID) || !(cpuid(7, 0).ebx & EBX_INVPCID)) {
        for (unsigned i = 0; i < PCID_LINES; i++)
            print("no PCID here\n");
        return;
    }
    uint64_t cr3 = read_cr3(), cr4 = read_cr4();
    try_invpcid("INVPCID without PCIDE, 0", 0, 0, PAGE);
    try_invpcid("INVPCID without PCIDE, 1", 0, 1, PAGE);
    TELL_CATCH("CR3, bit 63 without PCIDE", set_cr3, (void *)(cr3 | NO_FLUSH));
    write_cr3(cr3 | 8); // PWT: not a PCID yet
    TELL_CATCH("PCIDE with bits in CR3", set_cr4, (void *)(cr4 | CR4_PCIDE));
    write_cr3(cr3);
    TELL_CATCH("PCIDE", set_cr4, (void *)(cr4 | CR4_PCIDE));
    try_invpcid("INVPCID of type 4", 4, 0, 0);
    try_invpcid("INVPCID, reserved bits", 1, 0x1000, 0);
    try_invpcid("INVPCID, not canonical", 0, 0, 1ull << 47);
    try_invpcid("INVPCID of all, not canonical", 2, 0, 1ull << 47);
    TELL_CATCH("CR3, reserved bit", set_cr3, (void *)(cr3 | 1ull << 60));
    spaces();
    TELL_CATCH("PCIDE off", set_cr4, (void *)cr4);
}

void guest(void)
{
    gigabyte_pages();
    accessed_flags();
    implicit_accesses();
    pcids();
}
