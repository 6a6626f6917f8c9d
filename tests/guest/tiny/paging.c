// SPDX-License-Identifier: Apache-2.0
//
// Permissions, reserved bits, accessed and dirty flags, global pages, INVLPG, large pages.
#include "page_bits.h"

#define G  0x100ull
#define NX (1ull << 63)

#define CR0_WP     (1ull << 16)
#define CR4_PGE    (1ull << 7)
#define CR4_SMEP   (1ull << 20)
#define SMAP_LINES 8

static void load(void *at)
{
    (void)*(volatile uint64_t *)at;
}

static void store(void *at)
{
    *(volatile uint64_t *)at = 0xC3C3C3C3C3C3C3C3; // RET
}

static void call(void *at)
{
    ((void (*)(void))at)();
}

static void map(uint64_t bits)
{
    ENTRY = FRAME | bits;
    invlpg(PAGE);
}

static void try_all(const char *what, uint64_t bits)
{
    print(what);
    print("\n");
    map(bits);
    TELL_CATCH("  load", load, (void *)PAGE);
    TELL_CATCH("  store", store, (void *)PAGE);
    TELL_CATCH("  call", call, (void *)PAGE);
    map(bits);
    uint64_t flags = ENTRY & (A | D);
    catches(load, (void *)PAGE);
    tell("  flags after load", flags << 8 | (ENTRY & (A | D)));
    catches(store, (void *)PAGE);
    tell("  flags after store", ENTRY & (A | D));
}

// A load, a store and a call at CPL 3.
static const uint8_t user_load[] = {0x48, 0x8B, 0x07, 0xCD, 0x80};  // mov (%rdi), %rax; int $0x80
static const uint8_t user_store[] = {0x48, 0x89, 0x3F, 0xCD, 0x80}; // mov %rdi, (%rdi)
static const uint8_t user_call[] = {0xFF, 0xD7, 0xCD, 0x80};        // call *%rdi

static void try_user(const char *what, uint64_t bits)
{
    print(what);
    print("\n");
    map(P | RW | US);
    store((void *)PAGE);
    map(bits);
    tell_trap("  load", user_catches(user_load, sizeof(user_load), PAGE), &last_trap);
    tell_trap("  call", user_catches(user_call, sizeof(user_call), PAGE), &last_trap);
    tell_trap("  store", user_catches(user_store, sizeof(user_store), PAGE), &last_trap);
}

static void set_ac(bool on)
{
    uint64_t flags = read_flags();
    flags = on ? flags | FLAG_AC : flags & ~FLAG_AC;
    __asm__ volatile("push %0; popf" : : "r"(flags) : "memory", "cc");
}

static void load_with_ac(void *at)
{
    set_ac(true);
    load(at);
    set_ac(false);
}

static void global_pages(void)
{
    volatile uint64_t *at = (volatile uint64_t *)PAGE;

    write_cr4(read_cr4() | CR4_PGE);
    *(volatile uint64_t *)FRAME = 1;
    *(volatile uint64_t *)(FRAME + 0x1000) = 2;
    map(P | RW | G);
    tell("global: first", *at);
    ENTRY = (FRAME + 0x1000) | P | RW | G;
    write_cr3(read_cr3());
    tell("global: after CR3", *at);
    invlpg(PAGE + 100);
    tell("global: after INVLPG", *at);
    ENTRY = FRAME | P | RW | G;
    write_cr4(read_cr4() & ~CR4_PGE);
    tell("global: after PGE", *at);
    map(P | RW);
    tell("not global: first", *at);
    ENTRY = (FRAME + 0x1000) | P | RW;
    write_cr3(read_cr3());
    tell("not global: after CR3", *at);
}

static void large_pages(void)
{
    extern uint64_t page_directory2[512];

    *(volatile uint64_t *)(FRAME + 0x5000) = 0x1234;
    page_directory2[1] = FRAME | P | RW | PS; // 2 MiB
    tell("large", *(volatile uint64_t *)(USER_PAGES + 0x205000));
    tell("large flags", page_directory2[1] & (A | D));
    page_directory2[1] = FRAME | P | RW | PS | 0x2000;
    invlpg(USER_PAGES + 0x205000);
    TELL_CATCH("large, reserved bit", load, (void *)(USER_PAGES + 0x205000));
    page_directory2[1] = 0;
    invlpg(USER_PAGES + 0x200000);
    TELL_CATCH("large, gone", load, (void *)(USER_PAGES + 0x205000));
}

static void across_pages(void *unused)
{
    *(volatile uint64_t *)(PAGE + 0xFFC) = 0x1111111122222222;
}

static void supervisor_access_prevention(void)
{
    if (!(cpuid(7, 0).ebx & EBX_SMAP)) {
        for (unsigned i = 0; i < SMAP_LINES; i++)
            print("no SMAP here\n");
        return;
    }
    write_cr4(read_cr4() | CR4_SMAP);
    try_all("SMAP, user page", P | RW | US);
    TELL_CATCH("SMAP with AC", load_with_ac, (void *)PAGE);
    TELL_CATCH("SMAP without AC again", load, (void *)PAGE);
    write_cr4(read_cr4() & ~CR4_SMAP);
}

void guest(void)
{
    try_all("present, writable", P | RW);
    try_all("read only", P);
    try_all("not present", RW);
    try_all("not executable", P | RW | NX);
    try_all("reserved bit", P | RW | 1ull << 51);
    write_cr0(read_cr0() & ~CR0_WP);
    try_all("read only without WP", P);
    write_cr0(read_cr0() | CR0_WP);
    try_user("user page", P | RW | US);
    try_user("user page, read only", P | US);
    try_user("user page, not executable", P | RW | US | NX);
    try_user("supervisor page", P | RW);
    try_user("no page", 0);
    map(P | RW | US);
    store((void *)PAGE);
    write_cr4(read_cr4() | CR4_SMEP);
    try_all("SMEP, user page", P | RW | US);
    write_cr4(read_cr4() & ~CR4_SMEP);
    supervisor_access_prevention();
    global_pages();
    large_pages();
    *(volatile uint64_t *)(FRAME + 0xFF8) = 0;
    map(P | RW);
    user_table[257] = 0;
    TELL_CATCH("store across pages", across_pages, NULL);
    tell("first page is untouched", *(volatile uint64_t *)(FRAME + 0xFF8));
    wrmsr(EFER, rdmsr(EFER) & ~0x800ull);
    try_all("NX without NXE", P | RW | NX);
    TELL_CATCH("fetch without NXE", call, (void *)(PAGE + 0x1000));
}
