// SPDX-License-Identifier: Apache-2.0
//
// The four paging modes (SDM vol. 3, 4.3 to 4.5) differ in the number of levels, in the size of an entry and in which of
// its bits are reserved; `struct geometry` says so and one loop walks them all.
//
// The loop remembers the entries it used. When every check has passed their accessed flags, and for a write the leaf's
// dirty flag, are set by compare-exchange; an entry that another CPU changed meanwhile starts the walk anew. PAE's
// page-directory-pointer entries are read on demand, as AMD's processors do, and have no accessed flag.
#include "machine/engine/mmu_walk.h"

#include "base/bits.h"
#include "machine/memory/guest_memory.h"

#define PTE_P  BIT(0)
#define PTE_RW BIT(1)
#define PTE_US BIT(2)
#define PTE_A  BIT(5)
#define PTE_D  BIT(6)
#define PTE_PS BIT(7)
#define PTE_G  BIT(8)
#define PTE_NX BIT(63)

#define LEVELS_MAX    5
#define RESTART_LIMIT 1000 // another CPU that keeps changing an entry cannot hold us longer

struct geometry {
    unsigned levels;
    unsigned entry_bytes;
    unsigned index_bits;
    uint64_t root;
};

struct level_entry {
    void *host; // NULL: not in RAM, accessed and dirty flags cannot be set
    struct gpa at;
    uint64_t value;
};

struct walk {
    const struct geometry *geometry;
    struct level_entry used[LEVELS_MAX]; // leaf last
    unsigned used_count;
    unsigned shift;     // of the leaf
    uint64_t permitted; // PTE_RW and PTE_US of all levels ANDed
    bool no_execute;
};

static struct geometry geometry_of(const struct cpu_state *cpu, uint64_t physical_mask)
{
    if (!(cpu->cr4 & CR4_PAE))
        return (struct geometry){2, 4, 10, cpu->cr3 & 0xFFFFF000u};
    if (!(cpu->efer & EFER_LMA))
        return (struct geometry){3, 8, 9, cpu->cr3 & 0xFFFFFFE0u};
    return (struct geometry){cpu->cr4 & CR4_LA57 ? 5 : 4, 8, 9,
                             cpu->cr3 & physical_mask & ~0xFFFull};
}

// Tables outside of RAM and ROM read as all ones, as an empty bus does.
static void read_entry(struct vcpu *vcpu, struct gpa at, unsigned bytes, struct level_entry *entry)
{
    void *page;
    uint8_t *flags;
    enum page_kind kind =
        guest_memory_page(vcpu->system->memory, gpa(align_down(at.at, PAGE_BYTES)), &page, &flags);

    *entry = (struct level_entry){.at = at, .value = bits_mask(bytes * 8)};
    if (kind == PAGE_ABSENT)
        return;
    void *host = (char *)page + (at.at & (PAGE_BYTES - 1));
    entry->value = bytes == 8 ? __atomic_load_n((uint64_t *)host, __ATOMIC_ACQUIRE)
                              : __atomic_load_n((uint32_t *)host, __ATOMIC_ACQUIRE);
    if (kind == PAGE_RAM)
        entry->host = host;
}

// May an entry at `shift` be a leaf by its PS bit?
static bool may_be_large(struct vcpu *vcpu, const struct geometry *geometry, unsigned shift)
{
    if (geometry->entry_bytes == 4)
        return shift == 22 && (vcpu->state.cr4 & CR4_PSE);
    return shift == 21 ||
           (shift == 30 && geometry->levels >= 4 && engine_cpu_of(vcpu)->gigabyte_pages);
}

static uint64_t reserved_bits(struct vcpu *vcpu, const struct geometry *geometry, unsigned shift,
                              bool large)
{
    const struct cpu_state *cpu = &vcpu->state;
    unsigned physical_bits = engine_cpu_of(vcpu)->physical_bits;

    if (geometry->entry_bytes == 4) {
        // PSE-36: bits 13 to 20 are bits 32 to 39 of the page's address (figure 4-4).
        return large ? BIT(21) | (bits_mask(21) &
                                  ~bits_mask(13 + (physical_bits > 40 ? 40 : physical_bits) - 32))
                     : 0;
    }
    uint64_t reserved = bits_mask(52) & ~bits_mask(physical_bits);
    if (!(cpu->efer & EFER_NXE))
        reserved |= PTE_NX;
    if (geometry->levels == 3) {
        reserved |= bits_mask(63) & ~bits_mask(52);
        if (shift == 30)
            return reserved | PTE_NX | 0x1E6; // bits 1, 2 and 5 to 8 of a PDPTE
    }
    if (large)
        return reserved | (bits_mask(shift) & ~bits_mask(13));
    return shift >= 30 ? reserved | PTE_PS : reserved; // PS where it has no meaning
}

static uint64_t leaf_address(const struct walk *walk, uint64_t entry, uint64_t physical_mask)
{
    if (walk->geometry->entry_bytes == 4 && walk->shift == 22)
        return (entry & 0xFFC00000u) | ((entry >> 13 & 0xFF) << 32);
    return entry & physical_mask & ~bits_mask(walk->shift);
}

// Down to the leaf. 0, or -1 with *error: 0 for a missing entry, PF_PRESENT | PF_RESERVED for a bad one.
static int descend(struct vcpu *vcpu, const struct mmu_query *query, uint64_t physical_mask,
                   struct walk *walk, uint32_t *error)
{
    const struct geometry *geometry = walk->geometry;
    uint64_t table = geometry->root;

    walk->used_count = 0;
    walk->permitted = PTE_RW | PTE_US;
    walk->no_execute = false;
    for (unsigned level = geometry->levels; level-- > 0;) {
        unsigned shift = 12 + level * geometry->index_bits;
        uint64_t index = (query->linear >> shift) & bits_mask(geometry->index_bits);
        struct level_entry *entry = &walk->used[walk->used_count++];

        read_entry(vcpu, gpa(table + index * geometry->entry_bytes), geometry->entry_bytes, entry);
        uint64_t value = entry->value;
        *error = 0;
        if (!(value & PTE_P))
            return -1;
        bool large = (value & PTE_PS) && may_be_large(vcpu, geometry, shift);
        *error = PF_PRESENT | PF_RESERVED;
        if (value & reserved_bits(vcpu, geometry, shift, large))
            return -1;
        bool pdpte = geometry->levels == 3 && level == 2; // has neither permissions nor flags
        if (!pdpte) {
            walk->permitted &= value;
            walk->no_execute |= geometry->entry_bytes == 8 && (value & PTE_NX);
        }
        if (level == 0 || large) {
            walk->shift = shift;
            return 0;
        }
        table = value & physical_mask & ~0xFFFull;
        if (pdpte)
            walk->used_count--;
    }
    __builtin_unreachable();
}

static bool permits_write(const struct cpu_state *cpu, enum tlb_mode mode, uint64_t permitted)
{
    return (permitted & PTE_RW) || (mode != TLB_USER && !(cpu->cr0 & CR0_WP));
}

static bool permits(const struct cpu_state *cpu, const struct mmu_query *query,
                    const struct walk *walk)
{
    bool user_page = (walk->permitted & PTE_US) != 0;

    if (query->mode == TLB_USER && !user_page)
        return false;
    if (query->access == MMU_EXECUTE)
        return !walk->no_execute &&
               !(query->mode != TLB_USER && user_page && (cpu->cr4 & CR4_SMEP));
    if (query->mode == TLB_SUPERVISOR && user_page && (cpu->cr4 & CR4_SMAP))
        return false;
    return !(query->access & MMU_WRITE) || permits_write(cpu, query->mode, walk->permitted);
}

// False: the entry is no longer what it was.
static bool set_flags(struct vcpu *vcpu, struct level_entry *entry, unsigned bytes, uint64_t flags)
{
    uint64_t wanted = entry->value | flags;
    bool same;

    if (wanted == entry->value || !entry->host)
        return true;
    if (bytes == 8) {
        same = __atomic_compare_exchange_n((uint64_t *)entry->host, &entry->value, wanted, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    } else {
        uint32_t old = (uint32_t)entry->value;
        same = __atomic_compare_exchange_n((uint32_t *)entry->host, &old, (uint32_t)wanted, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    if (same) {
        entry->value = wanted;
        guest_memory_wrote(vcpu->system->memory, entry->at, bytes);
    }
    return same;
}

static bool set_accessed_and_dirty(struct vcpu *vcpu, struct walk *walk, bool write)
{
    for (unsigned i = 0; i < walk->used_count; i++) {
        bool leaf = i + 1 == walk->used_count;
        if (!set_flags(vcpu, &walk->used[i], walk->geometry->entry_bytes,
                       PTE_A | (leaf && write ? PTE_D : 0)))
            return false;
    }
    return true;
}

static uint32_t error_code(const struct cpu_state *cpu, const struct mmu_query *query,
                           uint32_t cause)
{
    bool tells_fetch = (cpu->cr4 & CR4_SMEP) || ((cpu->cr4 & CR4_PAE) && (cpu->efer & EFER_NXE));

    return cause | (query->access & MMU_WRITE ? PF_WRITE : 0) | (query->user_cpl ? PF_USER : 0) |
           (query->access == MMU_EXECUTE && tells_fetch ? PF_FETCH : 0);
}

int mmu_walk(struct vcpu *vcpu, const struct mmu_query *query, struct mmu_page *page,
             uint32_t *error)
{
    const struct cpu_state *cpu = &vcpu->state;
    uint64_t physical_mask = bits_mask(engine_cpu_of(vcpu)->physical_bits);
    struct geometry geometry = geometry_of(cpu, physical_mask);
    struct walk walk = {.geometry = &geometry};
    bool write = (query->access & MMU_WRITE) != 0;
    uint32_t cause = 0;

    for (unsigned attempt = 0;; attempt++) {
        if (descend(vcpu, query, physical_mask, &walk, &cause) != 0)
            goto fault;
        if (query->debug)
            break;
        cause = PF_PRESENT;
        if (!permits(cpu, query, &walk))
            goto fault;
        if (set_accessed_and_dirty(vcpu, &walk, write) || attempt == RESTART_LIMIT)
            break;
    }
    uint64_t leaf = walk.used[walk.used_count - 1].value;
    *page = (struct mmu_page){
        .physical = leaf_address(&walk, leaf, physical_mask) |
                    (query->linear & bits_mask(walk.shift) & ~0xFFFull),
        .shift = (uint8_t)walk.shift,
        .global = (cpu->cr4 & CR4_PGE) && (leaf & PTE_G),
        .writable = (leaf & PTE_D) && permits_write(cpu, query->mode, walk.permitted),
    };
    return 0;
fault:
    *error = error_code(cpu, query, cause);
    return -1;
}
