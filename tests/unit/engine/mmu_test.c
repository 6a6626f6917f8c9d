// SPDX-License-Identifier: Apache-2.0
//
// The page walker against tables built by hand, one property a row; and what the soft TLB keeps, drops and must not answer.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "engine_machine.h"
#include "machine/cpu/lapic.h"
#include "machine/engine/exception.h"
#include "machine/engine/mmu_access.h"
#include "page_entry.h"

#define G        0x100ull
#define NX       (1ull << 63)
#define ALL      (P | RW | US)
#define ROOT     0x400000ull // tables: one page each, top first
#define FRAME    0x500000ull // the page that they lead to
#define LINEAR   0x00007F1234567000ull
#define LINEAR32 0xC1234000ull

#define PF_P     1u
#define PF_W     2u
#define PF_U     4u
#define PF_RSVD  8u
#define PF_I     16u
#define NO_FAULT UINT32_MAX

static struct engine_machine machine;

static void poke64(uint64_t at, uint64_t value)
{
    assert_int_equal(guest_memory_write(machine.system.memory, gpa(at), &value, 8), 0);
}

static uint64_t peek64(uint64_t at)
{
    uint64_t value = 0;
    assert_int_equal(guest_memory_read(machine.system.memory, gpa(at), &value, 8), 0);
    return value;
}

static void poke32(uint64_t at, uint32_t value)
{
    assert_int_equal(guest_memory_write(machine.system.memory, gpa(at), &value, 4), 0);
}

static int set_up(void **state)
{
    engine_machine_create(&machine, &interpreter_backend);
    engine_machine_load(&machine, "\xF4", 1);
    return 0;
}

static int tear_down(void **state)
{
    engine_machine_destroy(&machine);
    return 0;
}

static struct cpu_state *cpu(void)
{
    return &machine.vcpu->state;
}

static void set_cpl(unsigned cpl)
{
    cpu()->segment[SEG_SS].attributes =
        (cpu()->segment[SEG_SS].attributes & ~(uint32_t)SEG_DPL_MASK) | cpl << SEG_DPL_SHIFT;
    engine_mode_changed(machine.vcpu);
}

static uint64_t entry_at(unsigned level, unsigned levels, uint64_t linear)
{
    return ROOT + (levels - 1 - level) * 0x1000 + (linear >> (12 + 9 * level) & 511) * 8;
}

// Tables of `levels` for one linear address: every entry above `leaf_level` is `upper`, the leaf is `leaf`.
static void build(unsigned levels, unsigned leaf_level, uint64_t linear, uint64_t upper,
                  uint64_t leaf)
{
    for (unsigned level = levels - 1; level > leaf_level; level--)
        poke64(entry_at(level, levels, linear), (ROOT + (levels - level) * 0x1000) | upper);
    poke64(entry_at(leaf_level, levels, linear), leaf);
    cpu()->cr3 = ROOT;
    engine_state_changed(machine.vcpu);
}

// The error code of the page fault of an access, or NO_FAULT.
static uint32_t access_at(uint64_t linear, enum mmu_access access, enum mmu_privilege privilege)
{
    struct engine_exception *exception = &engine_cpu_of(machine.vcpu)->exception;
    uint8_t bytes[15];
    int result;

    exception->vector = EXC_NONE;
    if (access == MMU_EXECUTE)
        result = mmu_fetch(machine.vcpu, gva(linear), bytes) < 0 ? -1 : 0;
    else
        result = mmu_probe(machine.vcpu, gva(linear), 1, access, privilege);
    if (result == 0)
        return NO_FAULT;
    assert_int_equal(exception->vector, EXC_PF);
    assert_int_equal(exception->cr2, linear);
    return exception->error;
}

// ---- Four levels ----

struct row {
    const char *property;
    uint64_t upper, leaf; // beside the address
    unsigned cpl;
    enum mmu_access access;
    enum mmu_privilege privilege;
    uint32_t clear_cr0, set_cr4;
    uint32_t clear_efer;
    uint64_t flags;
    uint32_t expected;
};

static const struct row rows[] = {
    {"not present", ALL, 0, .expected = 0},
    {"not present, user write", ALL, 0, 3, MMU_WRITE, .expected = PF_W | PF_U},
    {"not present, fetch", ALL, 0, 0, MMU_EXECUTE, .expected = PF_I},
    {"fetch is not told without NXE and SMEP", ALL, 0, 0, MMU_EXECUTE, .clear_efer = EFER_NXE,
     .expected = 0},
    {"SMEP alone tells fetches", ALL, 0, 0, MMU_EXECUTE, .clear_efer = EFER_NXE,
     .set_cr4 = CR4_SMEP, .expected = PF_I},
    {"not present above", RW | US, P | RW | US, .expected = 0},
    {"supervisor reads", ALL, P, .expected = NO_FAULT},
    {"read only, supervisor write with WP", ALL, P, 0, MMU_WRITE, .expected = PF_P | PF_W},
    {"read only, supervisor write without WP", ALL, P, 0, MMU_WRITE, .clear_cr0 = CR0_WP,
     .expected = NO_FAULT},
    {"read only, user write", ALL, P | US, 3, MMU_WRITE, .clear_cr0 = CR0_WP,
     .expected = PF_P | PF_W | PF_U},
    {"read only above", P | US, ALL, 3, MMU_WRITE, .expected = PF_P | PF_W | PF_U},
    {"read and write needs write", ALL, P, 0, MMU_READ_WRITE, .expected = PF_P | PF_W},
    {"supervisor page, user read", ALL, P | RW, 3, MMU_READ, .expected = PF_P | PF_U},
    {"supervisor above, user read", P | RW, ALL, 3, MMU_READ, .expected = PF_P | PF_U},
    {"supervisor page, implicit access of user mode", ALL, P | RW, 3, MMU_READ, MMU_IMPLICIT,
     .expected = NO_FAULT},
    {"not executable", ALL, ALL | NX, 0, MMU_EXECUTE, .expected = PF_P | PF_I},
    {"not executable above", ALL | NX, ALL, 3, MMU_EXECUTE, .expected = PF_P | PF_U | PF_I},
    {"NX forbids nothing else", ALL, ALL | NX, 3, MMU_WRITE, .expected = NO_FAULT},
    {"NX is reserved without NXE", ALL, ALL | NX, 0, MMU_READ, .clear_efer = EFER_NXE,
     .expected = PF_P | PF_RSVD},
    {"address beyond MAXPHYADDR", ALL, ALL | 1ull << 40, .expected = PF_P | PF_RSVD},
    {"address beyond MAXPHYADDR above", ALL | 1ull << 51, ALL, 3, MMU_WRITE,
     .expected = PF_P | PF_RSVD | PF_W | PF_U},
    {"bits 52 to 62 are ignored", ALL, ALL | 0x7FFull << 52, .expected = NO_FAULT},
    {"SMEP: user page", ALL, ALL, 0, MMU_EXECUTE, .set_cr4 = CR4_SMEP, .expected = PF_P | PF_I},
    {"SMEP: supervisor page", ALL, P, 0, MMU_EXECUTE, .set_cr4 = CR4_SMEP, .expected = NO_FAULT},
    {"SMEP: user mode", ALL, ALL, 3, MMU_EXECUTE, .set_cr4 = CR4_SMEP, .expected = NO_FAULT},
    {"SMAP: read of a user page", ALL, ALL, 0, MMU_READ, .set_cr4 = CR4_SMAP, .expected = PF_P},
    {"SMAP: write of a user page", ALL, ALL, 0, MMU_WRITE, .set_cr4 = CR4_SMAP,
     .expected = PF_P | PF_W},
    {"SMAP: AC permits", ALL, ALL, 0, MMU_WRITE, .set_cr4 = CR4_SMAP, .flags = FLAG_AC,
     .expected = NO_FAULT},
    {"SMAP: AC is not for implicit accesses", ALL, ALL, 0, MMU_READ, MMU_IMPLICIT,
     .set_cr4 = CR4_SMAP, .flags = FLAG_AC, .expected = PF_P},
    {"SMAP: user mode", ALL, ALL, 3, MMU_READ, .set_cr4 = CR4_SMAP, .expected = NO_FAULT},
    {"SMAP does not stop fetches", ALL, ALL, 0, MMU_EXECUTE, .set_cr4 = CR4_SMAP,
     .expected = NO_FAULT},
};

static void four_levels(void **state)
{
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        const struct row *row = &rows[i];
        engine_machine_load(&machine, "\xF4", 1);
        cpu()->cr0 &= ~(uint64_t)row->clear_cr0;
        cpu()->cr4 |= row->set_cr4;
        cpu()->efer &= ~(uint64_t)row->clear_efer;
        cpu()->rflags |= row->flags;
        build(4, 0, LINEAR, row->upper, FRAME | row->leaf);
        set_cpl(row->cpl);
        uint32_t got = access_at(LINEAR, row->access, row->privilege);
        if (got != row->expected)
            fail_msg("%s: error code %#x instead of %#x", row->property, got, row->expected);
        // The soft TLB must give the same answer as the walk that filled it.
        got = access_at(LINEAR, row->access, row->privilege);
        if (got != row->expected)
            fail_msg("%s, again: error code %#x instead of %#x", row->property, got, row->expected);
    }
}

static void accessed_and_dirty(void **state)
{
    uint64_t leaf = entry_at(0, 4, LINEAR), top = entry_at(3, 4, LINEAR);

    build(4, 0, LINEAR, ALL, FRAME | ALL);
    assert_int_equal(access_at(LINEAR, MMU_READ, MMU_NORMAL), NO_FAULT);
    assert_int_equal(peek64(leaf), FRAME | ALL | A);
    assert_true(peek64(top) & A);
    assert_int_equal(access_at(LINEAR, MMU_WRITE, MMU_NORMAL), NO_FAULT);
    assert_int_equal(peek64(leaf), FRAME | ALL | A | D);
    assert_false(peek64(top) & D);
}

static void faults_leave_flags_alone(void **state)
{
    build(4, 0, LINEAR, ALL, FRAME | P);
    access_at(LINEAR, MMU_WRITE, MMU_NORMAL);
    assert_int_equal(peek64(entry_at(0, 4, LINEAR)), FRAME | P);
}

static void a_hit_writes_nothing_that_a_walk_would_not(void **state)
{
    uint64_t value;

    build(4, 0, LINEAR, ALL, FRAME | ALL);
    assert_int_equal(mmu_read64(machine.vcpu, gva(LINEAR), &value), 0);
    assert_null(mmu_hit(machine.vcpu, LINEAR, 8, true)); // D is clear: the write half stays empty
    assert_non_null(mmu_hit(machine.vcpu, LINEAR, 8, false));
    assert_int_equal(mmu_write64(machine.vcpu, gva(LINEAR), 1), 0);
    assert_non_null(mmu_hit(machine.vcpu, LINEAR, 8, true));
    assert_null(mmu_hit(machine.vcpu, LINEAR + 4089, 8, false)); // crosses the page
    assert_non_null(mmu_hit(machine.vcpu, LINEAR + 4088, 8, false));
}

static void expect_physical(uint64_t linear, uint64_t physical)
{
    struct gpa at;
    assert_true(mmu_debug_translate(machine.vcpu, gva(linear), &at));
    assert_int_equal(at.at, physical);
}

static void large_pages(void **state)
{
    build(4, 1, LINEAR, ALL, 0x600000 | ALL | PS);
    expect_physical(LINEAR + 5, 0x600000 | ((LINEAR + 5) & 0x1FFFFF));
    assert_int_equal(access_at(LINEAR, MMU_WRITE, MMU_NORMAL), NO_FAULT);
    assert_true(peek64(entry_at(1, 4, LINEAR)) & D);
    build(4, 1, LINEAR, ALL, 0x600000 | ALL | PS | 0x2000);
    assert_int_equal(access_at(LINEAR, MMU_READ, MMU_NORMAL), PF_P | PF_RSVD);
    build(4, 1, LINEAR, ALL, 0x600000 | ALL | PS | 0x1000); // PAT
    assert_int_equal(access_at(LINEAR, MMU_READ, MMU_NORMAL), NO_FAULT);
    build(4, 2, LINEAR, ALL, ALL | PS);
    expect_physical(LINEAR, LINEAR & 0x3FFFFFFF);
    build(4, 3, LINEAR, ALL, ALL | PS);
    assert_int_equal(access_at(LINEAR, MMU_READ, MMU_NORMAL), PF_P | PF_RSVD);
}

static void five_levels(void **state)
{
    uint64_t linear = 0x00F0123456789000ull;

    cpu()->cr4 |= CR4_LA57;
    build(5, 0, linear, ALL, FRAME | ALL);
    expect_physical(linear, FRAME);
    assert_true(address_is_canonical(machine.vcpu, linear));
    assert_int_equal(access_at(linear, MMU_WRITE, MMU_NORMAL), NO_FAULT);
}

// ---- The older modes ----

static void leave_long_mode(uint64_t cr4)
{
    cpu()->efer = EFER_NXE;
    cpu()->cr4 = cr4;
    cpu()->cr3 = ROOT;
    cpu()->segment[SEG_CS].attributes = 0xC09B;
    engine_state_changed(machine.vcpu);
}

static void two_levels(void **state)
{
    uint64_t pde = ROOT + (LINEAR32 >> 22) * 4, pte = ROOT + 0x1000 + (LINEAR32 >> 12 & 1023) * 4;

    leave_long_mode(0);
    poke32(pde, (ROOT + 0x1000) | ALL | PS); // PS means nothing without CR4.PSE
    poke32(pte, FRAME | ALL);
    expect_physical(LINEAR32 + 3, FRAME + 3);
    assert_int_equal(access_at(LINEAR32, MMU_WRITE, MMU_NORMAL), NO_FAULT);
    assert_int_equal(peek64(pte) & 0xFFFFFFFF, FRAME | ALL | A | D);
    leave_long_mode(CR4_PSE);
    poke32(pde, 0x00800000 | ALL | PS);
    expect_physical(LINEAR32, 0x00800000 | (LINEAR32 & 0x3FFFFF));
    poke32(pde, 0x00800000 | ALL | PS | 0x5 << 13); // PSE-36: address bits 32 to 39
    expect_physical(LINEAR32, 0x500800000 | (LINEAR32 & 0x3FFFFF));
    poke32(pde, 0x00A00000 | ALL | PS); // bit 21
    leave_long_mode(CR4_PSE);
    assert_int_equal(access_at(LINEAR32, MMU_READ, MMU_NORMAL), PF_P | PF_RSVD);
}

static void pae(void **state)
{
    uint64_t pdpte = ROOT + (LINEAR32 >> 30) * 8, pde = ROOT + 0x1000 + (LINEAR32 >> 21 & 511) * 8;
    uint64_t pte = ROOT + 0x2000 + (LINEAR32 >> 12 & 511) * 8;

    poke64(pdpte, (ROOT + 0x1000) | P);
    poke64(pde, (ROOT + 0x2000) | ALL);
    poke64(pte, FRAME | ALL | NX);
    leave_long_mode(CR4_PAE);
    assert_int_equal(access_at(LINEAR32, MMU_WRITE, MMU_NORMAL),
                     NO_FAULT); // a PDPTE has no permissions
    assert_int_equal(access_at(LINEAR32, MMU_EXECUTE, MMU_NORMAL), PF_P | PF_I);
    assert_int_equal(peek64(pdpte), (ROOT + 0x1000) | P); // and no accessed flag
    poke64(pdpte, (ROOT + 0x1000) | P | RW);
    mmu_flush_all(machine.vcpu);
    assert_int_equal(access_at(LINEAR32, MMU_READ, MMU_NORMAL), PF_P | PF_RSVD);
    poke64(pdpte, (ROOT + 0x1000) | P);
    poke64(pde, 0x600000 | ALL | PS);
    mmu_flush_all(machine.vcpu);
    expect_physical(LINEAR32, 0x600000 | (LINEAR32 & 0x1FFFFF));
    poke64(pde, 0x600000 | ALL | PS | 1ull << 53); // reserved here, ignored in long mode
    assert_int_equal(access_at(LINEAR32, MMU_READ, MMU_NORMAL), PF_P | PF_RSVD);
}

static void no_paging(void **state)
{
    cpu()->cr0 &= ~(uint64_t)(CR0_PG | CR0_PE);
    leave_long_mode(0);
    expect_physical(0x1234567, 0x1234567);
    assert_int_equal(access_at(0x1234567, MMU_WRITE, MMU_NORMAL), NO_FAULT);
}

// ---- What the TLB keeps ----

static uint8_t byte_at(uint64_t linear)
{
    uint8_t value;
    assert_int_equal(mmu_read8(machine.vcpu, gva(linear), &value), 0);
    return value;
}

// A page is mapped with `bits`, read, and its entry then changed to another frame.
static void map_and_change(uint64_t bits)
{
    poke64(FRAME, 1);
    poke64(FRAME + 0x1000, 2);
    build(4, 0, LINEAR, ALL, FRAME | ALL | bits);
    assert_int_equal(byte_at(LINEAR), 1);
    poke64(entry_at(0, 4, LINEAR), (FRAME + 0x1000) | ALL | bits);
    assert_int_equal(byte_at(LINEAR), 1); // stale, as on any CPU
}

static void cr3_drops_what_is_not_global(void **state)
{
    map_and_change(0);
    assert_int_equal(system_write_cr(machine.vcpu, 3, ROOT), 0);
    assert_int_equal(byte_at(LINEAR), 2);
    map_and_change(G);
    assert_int_equal(system_write_cr(machine.vcpu, 3, ROOT), 0);
    assert_int_equal(byte_at(LINEAR), 1);
    assert_int_equal(system_write_cr(machine.vcpu, 4, cpu()->cr4 & ~(uint64_t)CR4_PGE), 0);
    assert_int_equal(byte_at(LINEAR), 2);
}

static void g_means_nothing_without_pge(void **state)
{
    cpu()->cr4 &= ~(uint64_t)CR4_PGE;
    map_and_change(G);
    assert_int_equal(system_write_cr(machine.vcpu, 3, ROOT), 0);
    assert_int_equal(byte_at(LINEAR), 2);
}

static void invlpg_drops_one_page_even_if_global(void **state)
{
    map_and_change(G);
    assert_int_equal(system_invlpg(machine.vcpu, gva(LINEAR + 0x1000)), 0);
    assert_int_equal(byte_at(LINEAR), 1);
    assert_int_equal(system_invlpg(machine.vcpu, gva(LINEAR + 0xFFF)), 0);
    assert_int_equal(byte_at(LINEAR), 2);
}

static void invlpg_drops_all_of_a_large_page(void **state)
{
    poke64(0x600000, 1);
    poke64(0x800000, 2);
    uint64_t start = LINEAR & ~0x1FFFFFull;
    build(4, 1, start, ALL, 0x600000 | ALL | PS);
    assert_int_equal(byte_at(start), 1);
    poke64(entry_at(1, 4, start), 0x800000 | ALL | PS);
    assert_int_equal(byte_at(start), 1);
    assert_int_equal(system_invlpg(machine.vcpu, gva(start + 0x150000)), 0);
    assert_int_equal(byte_at(start), 2);
}

static void pcid_rules(void **state)
{
    assert_int_equal(system_write_cr(machine.vcpu, 3, ROOT | 1ull << 63),
                     -1); // without PCIDE bit 63 is reserved
    cpu()->cr3 |= 5;
    assert_int_equal(system_write_cr(machine.vcpu, 4, cpu()->cr4 | CR4_PCIDE),
                     -1); // CR3 bits 0 to 11 must be 0
    cpu()->cr3 &= ~0xFFFull;
    assert_int_equal(system_write_cr(machine.vcpu, 4, cpu()->cr4 | CR4_PCIDE), 0);
    map_and_change(0);
    assert_int_equal(system_write_cr(machine.vcpu, 3, ROOT | 1), 0);
    assert_int_equal(byte_at(LINEAR), 2);
    assert_int_equal(system_write_cr(machine.vcpu, 3, ROOT | 1 | 1ull << 63), 0);
    assert_int_equal(cpu()->cr3, ROOT | 1);
    assert_int_equal(system_write_cr(machine.vcpu, 0, cpu()->cr0 & ~(uint64_t)CR0_PG), -1);
}

static void ac_opens_user_pages_and_closes_them(void **state)
{
    cpu()->cr4 |= CR4_SMAP;
    build(4, 0, LINEAR, ALL, FRAME | ALL);
    cpu()->rflags |= FLAG_AC;
    engine_flags_changed(machine.vcpu);
    assert_int_equal(byte_at(LINEAR), byte_at(LINEAR));
    cpu()->rflags &= ~(uint64_t)FLAG_AC;
    engine_flags_changed(machine.vcpu);
    assert_int_equal(access_at(LINEAR, MMU_READ, MMU_NORMAL), PF_P);
    uint8_t byte;
    assert_int_equal(mmu_read8(machine.vcpu, gva(LINEAR), &byte), -1);
}

// ---- Accesses across pages, to code, to devices ----

static void a_write_across_pages_checks_both_first(void **state)
{
    uint64_t before = peek64(FRAME + 4088);

    build(4, 0, LINEAR, ALL, FRAME | ALL);
    poke64(entry_at(0, 4, LINEAR + 0x1000), 0);
    uint64_t value = ~before;
    assert_int_equal(mmu_write(machine.vcpu, gva(LINEAR + 4092), &value, 8, MMU_NORMAL), -1);
    assert_int_equal(engine_cpu_of(machine.vcpu)->exception.cr2, LINEAR + 0x1000);
    assert_int_equal(peek64(FRAME + 4088), before);
    poke64(entry_at(0, 4, LINEAR + 0x1000), (FRAME + 0x3000) | ALL);
    assert_int_equal(mmu_write(machine.vcpu, gva(LINEAR + 4092), &value, 8, MMU_NORMAL), 0);
    assert_int_equal(peek64(FRAME + 4088) >> 32, value & 0xFFFFFFFF);
    assert_int_equal(peek64(FRAME + 0x3000) & 0xFFFFFFFF, value >> 32);
}

static struct {
    uint64_t at;
    uint32_t length;
    unsigned calls;
} watched;

static void watch(void *context, struct gpa at, uint32_t length)
{
    watched.at = at.at;
    watched.length = length;
    watched.calls++;
}

static void writes_to_code_are_told(void **state)
{
    void *host;
    uint8_t *flags;

    guest_memory_set_code_watcher(machine.system.memory, watch, NULL);
    guest_memory_page(machine.system.memory, gpa(FRAME), &host, &flags);
    build(4, 0, LINEAR, ALL, FRAME | ALL);
    *flags |= PAGE_CODE;
    watched.calls = 0;
    assert_int_equal(mmu_write32(machine.vcpu, gva(LINEAR + 16), 5), 0);
    assert_int_equal(watched.calls, 1);
    assert_int_equal(watched.at, FRAME + 16);
    assert_int_equal(watched.length, 4);
    assert_int_equal(mmu_write32(machine.vcpu, gva(LINEAR + 20), 5), 0); // no entry was made
    assert_int_equal(watched.calls, 2);
    assert_non_null(mmu_pointer(machine.vcpu, gva(LINEAR + 32), 8, MMU_READ_WRITE));
    assert_int_equal(watched.length, 4096);
    *flags &= (uint8_t)~PAGE_CODE;
}

static void taking_write_permission_away(void **state)
{
    void *host;
    uint8_t *flags;

    build(4, 0, LINEAR, ALL, FRAME | ALL);
    assert_int_equal(mmu_write8(machine.vcpu, gva(LINEAR), 1), 0);
    guest_memory_page(machine.system.memory, gpa(FRAME + 0x1000), &host, &flags);
    mmu_flush_write_page(machine.vcpu, host);
    assert_non_null(mmu_hit(machine.vcpu, LINEAR, 1, true));
    guest_memory_page(machine.system.memory, gpa(FRAME), &host, &flags);
    mmu_flush_write_page(machine.vcpu, host);
    assert_null(mmu_hit(machine.vcpu, LINEAR, 1, true));
    assert_non_null(mmu_hit(machine.vcpu, LINEAR, 1, false));
}

#define SHARES_ENTRY (LINEAR + ((uint64_t)TLB_ENTRIES << PAGE_SHIFT))

// LINEAR becomes the victim of a page that has its entry.
static void make_victim(void)
{
    mmu_flush_all(machine.vcpu);
    assert_int_equal(mmu_write8(machine.vcpu, gva(LINEAR), 1), 0);
    assert_int_equal(mmu_write8(machine.vcpu, gva(SHARES_ENTRY), 2), 0);
    assert_int_equal(*(uint8_t *)mmu_hit(machine.vcpu, LINEAR, 1, true), 1);
    assert_int_equal(*(uint8_t *)mmu_hit(machine.vcpu, SHARES_ENTRY, 1, true), 2);
    assert_null(mmu_hit(machine.vcpu, LINEAR + PAGE_BYTES - 1, 2, false));
}

static void what_shares_an_entry_stays_until_it_is_dropped(void **state)
{
    void *host;
    uint8_t *flags;

    build(4, 0, LINEAR, ALL, FRAME | ALL | G);
    poke64(entry_at(1, 4, SHARES_ENTRY), (ROOT + 0x6000) | ALL);
    poke64(ROOT + 0x6000 + (SHARES_ENTRY >> 12 & 511) * 8, (FRAME + 0x1000) | ALL | G);
    make_victim();
    assert_int_equal(system_invlpg(machine.vcpu, gva(LINEAR)), 0);
    assert_null(mmu_hit(machine.vcpu, LINEAR, 1, false));
    make_victim();
    assert_int_equal(system_write_cr(machine.vcpu, 3, ROOT), 0);
    assert_null(mmu_hit(machine.vcpu, LINEAR, 1, false));
    make_victim();
    mmu_flush_write(machine.vcpu);
    assert_null(mmu_hit(machine.vcpu, LINEAR, 1, true));
    assert_non_null(mmu_hit(machine.vcpu, LINEAR, 1, false));
    make_victim();
    guest_memory_page(machine.system.memory, gpa(FRAME), &host, &flags);
    mmu_flush_write_page(machine.vcpu, host);
    assert_null(mmu_hit(machine.vcpu, LINEAR, 1, true));
    assert_non_null(mmu_hit(machine.vcpu, SHARES_ENTRY, 1, true));
    make_victim();
    mmu_flush_all(machine.vcpu);
    assert_null(mmu_hit(machine.vcpu, LINEAR, 1, false));
    make_victim();
    poke64(entry_at(0, 4, LINEAR), 0);
    assert_int_equal(system_invlpg(machine.vcpu, gva(LINEAR)), 0);
    assert_int_equal(access_at(LINEAR, MMU_READ, MMU_NORMAL), 0);
}

static void dirty_tracking_sees_the_first_write(void **state)
{
    static uint64_t bitmap[TEST_RAM_BYTES / PAGE_BYTES / 64];
    uint8_t byte;

    build(4, 0, LINEAR, ALL, FRAME | ALL | A | D);
    guest_memory_track_dirty(machine.system.memory, true);
    guest_memory_collect_dirty(machine.system.memory, bitmap);
    memset(bitmap, 0, sizeof(bitmap));
    assert_int_equal(mmu_read8(machine.vcpu, gva(LINEAR), &byte), 0);
    assert_null(mmu_hit(machine.vcpu, LINEAR, 1, true));
    assert_int_equal(mmu_write8(machine.vcpu, gva(LINEAR), 1), 0);
    guest_memory_collect_dirty(machine.system.memory, bitmap);
    assert_true(bitmap[FRAME / PAGE_BYTES / 64] >> (FRAME / PAGE_BYTES % 64) & 1);
    guest_memory_track_dirty(machine.system.memory, false);
}

static void the_apic_page_is_the_lapics(void **state)
{
    uint32_t value;

    build(4, 0, LINEAR, ALL, APIC_DEFAULT_BASE | ALL);
    assert_int_equal(mmu_read32(machine.vcpu, gva(LINEAR + 0x30), &value), 0);
    assert_int_equal(value, lapic_mmio_read(machine.vcpu->lapic, 0x30));
    assert_null(mmu_hit(machine.vcpu, LINEAR, 4, false));
}

static void fetch_stops_at_the_page(void **state)
{
    uint8_t bytes[15];

    build(4, 0, LINEAR, ALL, FRAME | ALL);
    assert_int_equal(mmu_fetch(machine.vcpu, gva(LINEAR + 4096 - 3), bytes), 3);
    assert_int_equal(mmu_fetch(machine.vcpu, gva(LINEAR), bytes), 15);
}

static void watched_pages_stay_out(void **state)
{
    uint8_t byte;

    build(4, 0, LINEAR, ALL, FRAME | ALL);
    assert_int_equal(mmu_read8(machine.vcpu, gva(LINEAR), &byte), 0);
    assert_int_equal(system_write_dr(machine.vcpu, 0, LINEAR + 8), 0);
    assert_int_equal(system_write_dr(machine.vcpu, 7, 0x1 | 0xD << 16), 0); // writes of 4 bytes
    assert_int_equal(mmu_write32(machine.vcpu, gva(LINEAR + 12), 0), 0);
    assert_int_equal(mmu_read8(machine.vcpu, gva(LINEAR + 8), &byte), 0);
    assert_int_equal(engine_cpu_of(machine.vcpu)->debug_hits, 0);
    assert_int_equal(mmu_write8(machine.vcpu, gva(LINEAR + 11), 0), 0);
    assert_int_equal(engine_cpu_of(machine.vcpu)->debug_hits, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(four_levels),
        TEST(accessed_and_dirty),
        TEST(faults_leave_flags_alone),
        TEST(a_hit_writes_nothing_that_a_walk_would_not),
        TEST(large_pages),
        TEST(five_levels),
        TEST(two_levels),
        TEST(pae),
        TEST(no_paging),
        TEST(cr3_drops_what_is_not_global),
        TEST(g_means_nothing_without_pge),
        TEST(invlpg_drops_one_page_even_if_global),
        TEST(invlpg_drops_all_of_a_large_page),
        TEST(pcid_rules),
        TEST(ac_opens_user_pages_and_closes_them),
        TEST(a_write_across_pages_checks_both_first),
        TEST(writes_to_code_are_told),
        TEST(taking_write_permission_away),
        TEST(what_shares_an_entry_stays_until_it_is_dropped),
        TEST(dirty_tracking_sees_the_first_write),
        TEST(the_apic_page_is_the_lapics),
        TEST(fetch_stops_at_the_page),
        TEST(watched_pages_stay_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
