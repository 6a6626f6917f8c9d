// SPDX-License-Identifier: Apache-2.0
//
// Look-up, fill and flush of the soft TLB, and accesses that it does not answer.
//
// Every access ends in locate(): it finds the page of one linear address, enters it into the TLB where
// that is allowed, and says in a `struct spot` how its bytes are reached. What keeps a page of RAM out of the write half:
// translations on it (PAGE_CODE: the writer must tell guest_memory), a clean dirty flag in the guest's tables, dirty tracking before
// the first write, and a data breakpoint, which keeps it out of both.
#include "machine/engine/mmu.h"

#include <assert.h>

#include "base/bits.h"
#include "machine/cpu/lapic.h"
#include "machine/device/bus.h"
#include "machine/engine/exception.h"
#include "machine/engine/mmu_access.h"
#include "machine/engine/mmu_walk.h"
#include "machine/engine/system.h"
#include "machine/engine/trace.h"
#include "machine/memory/guest_memory.h"

#define PAGE_OFFSET_MASK ((uint64_t)PAGE_BYTES - 1)

struct spot {
    enum page_kind kind;
    bool lapic;          // the vCPU's own APIC page
    char *host;          // of the address, RAM and ROM
    uint8_t *flags;      // of the page, RAM
    struct gpa physical; // of the address
};

// ---- Filling and flushing ----

static void book_fill(struct tlb_book *book, uint32_t index, const struct mmu_page *page)
{
    if (!(book->kind[index] & TLB_FILLED))
        book->filled[book->count++] = (uint16_t)index;
    book->kind[index] = (uint8_t)(TLB_FILLED | (page->global ? TLB_GLOBAL : 0) | page->shift);
}

static void note_large(struct engine_cpu *engine, uint64_t linear, unsigned shift)
{
    unsigned half = (unsigned)(linear >> 63);
    uint64_t start = align_down(linear, BIT(shift));
    uint64_t last = start + bits_mask(shift);

    if (start < engine->large_start[half])
        engine->large_start[half] = start;
    if (last > engine->large_last[half])
        engine->large_last[half] = last;
}

static void empty_victim(struct tlb_victims *victims, uint32_t index)
{
    victims->read_tag[index] = victims->write_tag[index] = tlb_empty_tag(index);
}

static void empty_victims(struct tlb_victims *victims)
{
    for (uint32_t i = 0; i < victims->count; i++) {
        empty_victim(victims, victims->list[i]);
        victims->listed[victims->list[i]] = false;
    }
    victims->count = 0;
}

// Another page is about to take the entry.
static void displace(struct tlb *tlb, uint32_t index, uint64_t start)
{
    struct tlb_victims *victims = &tlb->victims;
    uint32_t place = index % TLB_VICTIMS;

    if (tlb->read_tag[index] == -start || tlb->read_tag[index] == tlb_empty_tag(index))
        return;
    if (!victims->listed[place])
        victims->list[victims->count++] = (uint8_t)place;
    victims->listed[place] = true;
    victims->read_tag[place] = tlb->read_tag[index];
    victims->write_tag[place] = tlb->write_tag[index];
    victims->addend[place] = tlb->addend[index];
}

static void fill_data(struct engine_cpu *engine, enum tlb_mode mode, uint64_t linear,
                      const struct mmu_page *page, const struct spot *spot, bool writable)
{
    struct tlb *tlb = &engine->tlb[mode];
    uint32_t index = tlb_index(linear);
    uint64_t start = linear & ~PAGE_OFFSET_MASK;

    if (tlb->victims.read_tag[index % TLB_VICTIMS] == -start) // what is known now counts
        empty_victim(&tlb->victims, index % TLB_VICTIMS);
    displace(tlb, index, start);
    book_fill(&tlb->book, index, page);
    tlb->read_tag[index] = -start;
    tlb->write_tag[index] = writable ? -start : tlb_empty_tag(index);
    tlb->addend[index] = (uint64_t)(uintptr_t)spot->host - linear;
    if (page->shift > PAGE_SHIFT)
        note_large(engine, linear, page->shift);
}

static void fill_fetch(struct engine_cpu *engine, enum fetch_mode mode, uint64_t linear,
                       const struct mmu_page *page, const struct spot *spot)
{
    struct fetch_tlb *fetch = &engine->fetch[mode];
    uint32_t index = tlb_index(linear);

    book_fill(&fetch->book, index, page);
    fetch->tag[index] = -(linear & ~PAGE_OFFSET_MASK);
    fetch->addend[index] = (uint64_t)(uintptr_t)spot->host - linear;
    fetch->physical[index] = spot->physical.at & ~PAGE_OFFSET_MASK;
    if (page->shift > PAGE_SHIFT)
        note_large(engine, linear, page->shift);
}

// The tables differ in their arrays, not in how they are flushed: a view of either.
struct tlb_view {
    struct tlb_book *book;
    uint64_t *tag, *write_tag; // write_tag NULL: none
};

static unsigned views_of(struct engine_cpu *engine,
                         struct tlb_view views[TLB_MODE_COUNT + FETCH_MODE_COUNT])
{
    unsigned count = 0;
    for (unsigned i = 0; i < TLB_MODE_COUNT; i++) {
        struct tlb *tlb = &engine->tlb[i];
        views[count++] = (struct tlb_view){&tlb->book, tlb->read_tag, tlb->write_tag};
    }
    for (unsigned i = 0; i < FETCH_MODE_COUNT; i++)
        views[count++] = (struct tlb_view){&engine->fetch[i].book, engine->fetch[i].tag, NULL};
    return count;
}

static void empty_entry(const struct tlb_view *view, uint32_t index)
{
    view->tag[index] = tlb_empty_tag(index);
    if (view->write_tag)
        view->write_tag[index] = tlb_empty_tag(index);
}

// Drop the filled entries that are not global, or all; the book keeps those that stay.
static void flush_view(const struct tlb_view *view, bool keep_global)
{
    struct tlb_book *book = view->book;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < book->count; i++) {
        uint16_t index = book->filled[i];
        if (keep_global && (book->kind[index] & TLB_GLOBAL)) {
            book->filled[kept++] = index;
            continue;
        }
        book->kind[index] = 0;
        empty_entry(view, index);
    }
    book->count = kept;
}

static void flush_views(struct vcpu *vcpu, bool keep_global)
{
    struct tlb_view views[TLB_MODE_COUNT + FETCH_MODE_COUNT];
    unsigned count = views_of(engine_cpu_of(vcpu), views);

    for (unsigned i = 0; i < count; i++)
        flush_view(&views[i], keep_global);
    for (unsigned mode = 0; mode < TLB_MODE_COUNT; mode++)
        empty_victims(&engine_cpu_of(vcpu)->tlb[mode].victims);
}

void mmu_flush_all(struct vcpu *vcpu)
{
    struct engine_cpu *engine = engine_cpu_of(vcpu);

    flush_views(vcpu, false);
    for (unsigned half = 0; half < 2; half++) {
        engine->large_start[half] = UINT64_MAX;
        engine->large_last[half] = 0;
    }
    translate_all_unmapped(vcpu);
}

void mmu_flush_non_global(struct vcpu *vcpu)
{
    flush_views(vcpu, true);
    translate_local_unmapped(vcpu);
}

static void flush_large_page(const struct tlb_view *view, uint64_t linear)
{
    for (uint32_t i = 0; i < view->book->count; i++) {
        uint16_t index = view->book->filled[i];
        unsigned shift = view->book->kind[index] & TLB_SHIFT_MASK;
        if (shift > PAGE_SHIFT && (-view->tag[index]) >> shift == linear >> shift)
            empty_entry(view, index);
    }
}

// Emptied entries stay in the book: they are filled again or flushed with the rest.
void mmu_flush_page(struct vcpu *vcpu, struct gva address)
{
    struct engine_cpu *engine = engine_cpu_of(vcpu);
    struct tlb_view views[TLB_MODE_COUNT + FETCH_MODE_COUNT];
    unsigned count = views_of(engine, views), half = (unsigned)(address.at >> 63);
    bool maybe_large =
        address.at >= engine->large_start[half] && address.at <= engine->large_last[half];

    for (unsigned i = 0; i < count; i++) {
        empty_entry(&views[i], tlb_index(address.at));
        if (maybe_large)
            flush_large_page(&views[i], address.at);
    }
    for (unsigned mode = 0; mode < TLB_MODE_COUNT; mode++) {
        if (maybe_large)
            empty_victims(&engine->tlb[mode].victims);
        else
            empty_victim(&engine->tlb[mode].victims, tlb_index(address.at) % TLB_VICTIMS);
    }
    translate_page_unmapped(vcpu, address.at, maybe_large);
}

static void flush_write_victims(struct tlb_victims *victims)
{
    for (uint32_t i = 0; i < victims->count; i++)
        victims->write_tag[victims->list[i]] = tlb_empty_tag(victims->list[i]);
}

void mmu_flush_write(struct vcpu *vcpu)
{
    struct engine_cpu *engine = engine_cpu_of(vcpu);

    for (unsigned mode = 0; mode < TLB_MODE_COUNT; mode++) {
        struct tlb *tlb = &engine->tlb[mode];
        for (uint32_t i = 0; i < tlb->book.count; i++)
            tlb->write_tag[tlb->book.filled[i]] = tlb_empty_tag(tlb->book.filled[i]);
        flush_write_victims(&tlb->victims);
    }
}

void mmu_flush_write_page(struct vcpu *vcpu, const void *host_page)
{
    struct engine_cpu *engine = engine_cpu_of(vcpu);
    uint64_t host = (uint64_t)(uintptr_t)host_page;

    for (unsigned mode = 0; mode < TLB_MODE_COUNT; mode++) {
        struct tlb *tlb = &engine->tlb[mode];
        for (uint32_t i = 0; i < tlb->book.count; i++) {
            uint16_t index = tlb->book.filled[i];
            if (tlb->addend[index] - tlb->write_tag[index] == host)
                tlb->write_tag[index] = tlb_empty_tag(index);
        }
        flush_write_victims(&tlb->victims);
    }
}

void mmu_init(struct vcpu *vcpu)
{
    struct engine_cpu *engine = engine_cpu_of(vcpu);
    struct tlb_view views[TLB_MODE_COUNT + FETCH_MODE_COUNT];
    unsigned count = views_of(engine, views);

    for (unsigned i = 0; i < count; i++) {
        views[i].book->count = 0;
        memset(views[i].book->kind, 0, sizeof(views[i].book->kind));
        for (uint32_t index = 0; index < TLB_ENTRIES; index++)
            empty_entry(&views[i], index);
    }
    for (unsigned mode = 0; mode < TLB_MODE_COUNT; mode++) {
        struct tlb_victims *victims = &engine->tlb[mode].victims;
        victims->count = 0;
        for (uint32_t index = 0; index < TLB_VICTIMS; index++) {
            empty_victim(victims, index);
            victims->listed[index] = false;
        }
    }
    mmu_flush_all(vcpu);
}

// ---- Finding a page ----

static enum tlb_mode mode_of(struct vcpu *vcpu, enum mmu_privilege privilege)
{
    return privilege == MMU_IMPLICIT ? TLB_SUPERVISOR
                                     : (enum tlb_mode)engine_cpu_of(vcpu)->tlb_mode;
}

static int translate(struct vcpu *vcpu, uint64_t linear, enum mmu_access access, enum tlb_mode mode,
                     struct mmu_page *page)
{
    uint32_t error;

    if (!engine_cpu_of(vcpu)->paging) {
        *page = (struct mmu_page){
            .physical = linear & ~PAGE_OFFSET_MASK, .shift = PAGE_SHIFT, .writable = true};
        return 0;
    }
    const struct mmu_query query = {
        .linear = linear, .access = access, .mode = mode, .user_cpl = mode == TLB_USER};
    if (mmu_walk(vcpu, &query, page, &error) != 0)
        return raise_page_fault(vcpu, gva(linear), error);
    return 0;
}

static void look_at_page(struct vcpu *vcpu, uint64_t linear, const struct mmu_page *page,
                         struct spot *spot)
{
    void *host = NULL;

    spot->physical = gpa(page->physical | (linear & PAGE_OFFSET_MASK));
    spot->lapic = lapic_answers_at(vcpu->lapic, page->physical);
    spot->kind = spot->lapic ? PAGE_ABSENT
                             : guest_memory_page(vcpu->system->memory, gpa(page->physical), &host,
                                                 &spot->flags);
    spot->host = spot->kind == PAGE_ABSENT ? NULL : (char *)host + (linear & PAGE_OFFSET_MASK);
}

static bool holds_code(const struct spot *spot)
{
    return (__atomic_load_n(spot->flags, __ATOMIC_ACQUIRE) & PAGE_CODE) != 0;
}

// May later writes go straight to the page? With dirty tracking on, a write that comes now is what marks it.
static bool may_fill_write(struct vcpu *vcpu, const struct mmu_page *page, const struct spot *spot,
                           bool writing)
{
    if (spot->kind != PAGE_RAM || !page->writable || holds_code(spot))
        return false;
    if (!guest_memory_tracks_dirty(vcpu->system->memory))
        return true;
    if (writing)
        __atomic_fetch_or(spot->flags, PAGE_DIRTY, __ATOMIC_SEQ_CST);
    return writing;
}

static int locate(struct vcpu *vcpu, uint64_t linear, enum mmu_access access, enum tlb_mode mode,
                  struct spot *spot)
{
    struct mmu_page page;

    if (translate(vcpu, linear, access, mode, &page) != 0)
        return -1;
    look_at_page(vcpu, linear, &page, spot);
    if (spot->kind == PAGE_ABSENT)
        return 0;
    if (engine_cpu_of(vcpu)->data_breakpoints && debug_page_watched(vcpu, gva(linear)))
        return 0;
    bool writable = may_fill_write(vcpu, &page, spot, (access & MMU_WRITE) != 0);
    fill_data(engine_cpu_of(vcpu), mode, linear, &page, spot, writable);
    return 0;
}

// ---- Data ----

static uint64_t next_page(struct vcpu *vcpu, uint64_t linear)
{
    uint64_t next = (linear | PAGE_OFFSET_MASK) + 1;
    return cpu_in_long_mode(&vcpu->state) ? next : (uint32_t)next;
}

static unsigned bytes_left_in_page(uint64_t linear)
{
    return PAGE_BYTES - (unsigned)(linear & PAGE_OFFSET_MASK);
}

// The largest piece of 8, 4, 2 or 1 bytes.
static unsigned piece_of(unsigned size)
{
    return size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
}

static uint64_t device_read(struct vcpu *vcpu, const struct spot *spot, unsigned at, unsigned size)
{
    uint64_t physical = spot->physical.at + at, value;

    engine_exit(vcpu, ENGINE_EXIT_MMIO);
    engine_sync_clock(vcpu);
    if (spot->lapic) {
        bool proper = size == 4 && physical % 4 == 0;
        return proper ? lapic_mmio_read(vcpu->lapic, (uint32_t)(physical & PAGE_OFFSET_MASK)) : 0;
    }
    bus_read(vcpu->system->mmio, physical, size, &value);
    return value;
}

static void device_write(struct vcpu *vcpu, const struct spot *spot, unsigned at, uint64_t value,
                         unsigned size)
{
    uint64_t physical = spot->physical.at + at;

    engine_exit(vcpu, ENGINE_EXIT_MMIO);
    engine_sync_clock(vcpu);
    if (!spot->lapic)
        bus_write(vcpu->system->mmio, physical, value, size);
    else if (size == 4 && physical % 4 == 0)
        lapic_mmio_write(vcpu->lapic, (uint32_t)(physical & PAGE_OFFSET_MASK), (uint32_t)value);
}

// Guest code relies on aligned accesses of up to 8 bytes being single ones.
static void copy_bytes(void *to, const void *from, unsigned size)
{
    switch (size) {
    case 1:
        memcpy(to, from, 1);
        break;
    case 2:
        memcpy(to, from, 2);
        break;
    case 4:
        memcpy(to, from, 4);
        break;
    case 8:
        memcpy(to, from, 8);
        break;
    default:
        memcpy(to, from, size);
        break;
    }
}

static void read_spot(struct vcpu *vcpu, const struct spot *spot, void *buffer, unsigned size)
{
    if (spot->kind != PAGE_ABSENT) {
        copy_bytes(buffer, spot->host, size);
        return;
    }
    for (unsigned at = 0, piece; at < size; at += piece) {
        piece = piece_of(size - at);
        uint64_t value = device_read(vcpu, spot, at, piece);
        memcpy((char *)buffer + at, &value, piece);
    }
}

static void write_spot(struct vcpu *vcpu, const struct spot *spot, const void *buffer,
                       unsigned size)
{
    if (spot->kind == PAGE_RAM) {
        copy_bytes(spot->host, buffer, size);
        guest_memory_wrote(vcpu->system->memory, spot->physical, size);
    } else if (spot->kind == PAGE_ABSENT) {
        for (unsigned at = 0, piece; at < size; at += piece) {
            uint64_t value = 0;
            piece = piece_of(size - at);
            memcpy(&value, (const char *)buffer + at, piece);
            device_write(vcpu, spot, at, value, piece);
        }
    }
}

// The one or two pages of an access, both permitted.
struct span {
    struct spot spot[2];
    unsigned bytes[2];
};

static int locate_span(struct vcpu *vcpu, uint64_t linear, unsigned size, enum mmu_access access,
                       enum mmu_privilege privilege, struct span *span)
{
    enum tlb_mode mode = mode_of(vcpu, privilege);
    unsigned first = bytes_left_in_page(linear);

    assert(size > 0 && size <= PAGE_BYTES);
    span->bytes[0] = size < first ? size : first;
    span->bytes[1] = size - span->bytes[0];
    if (locate(vcpu, linear, access, mode, &span->spot[0]) != 0)
        return -1;
    if (span->bytes[1])
        return locate(vcpu, next_page(vcpu, linear), access, mode, &span->spot[1]);
    return 0;
}

int mmu_read(struct vcpu *vcpu, struct gva address, void *buffer, unsigned size,
             enum mmu_privilege privilege)
{
    struct span span;

    if (locate_span(vcpu, address.at, size, MMU_READ, privilege, &span) != 0)
        return -1;
    read_spot(vcpu, &span.spot[0], buffer, span.bytes[0]);
    if (span.bytes[1])
        read_spot(vcpu, &span.spot[1], (char *)buffer + span.bytes[0], span.bytes[1]);
    if (engine_cpu_of(vcpu)->data_breakpoints)
        debug_check_data(vcpu, address, size, MMU_READ);
    return 0;
}

int mmu_write(struct vcpu *vcpu, struct gva address, const void *buffer, unsigned size,
              enum mmu_privilege privilege)
{
    struct span span;

    if (locate_span(vcpu, address.at, size, MMU_WRITE, privilege, &span) != 0)
        return -1;
    write_spot(vcpu, &span.spot[0], buffer, span.bytes[0]);
    if (span.bytes[1])
        write_spot(vcpu, &span.spot[1], (const char *)buffer + span.bytes[0], span.bytes[1]);
    if (engine_cpu_of(vcpu)->data_breakpoints)
        debug_check_data(vcpu, address, size, MMU_WRITE);
    return 0;
}

int mmu_probe(struct vcpu *vcpu, struct gva address, unsigned size, enum mmu_access access,
              enum mmu_privilege privilege)
{
    struct span span;
    return locate_span(vcpu, address.at, size, access, privilege, &span);
}

void *mmu_pointer(struct vcpu *vcpu, struct gva address, unsigned size, enum mmu_access access)
{
    enum tlb_mode mode = mode_of(vcpu, MMU_NORMAL);
    const struct tlb *tlb = &engine_cpu_of(vcpu)->tlb[mode];
    bool write = (access & MMU_WRITE) != 0;
    uint32_t index = tlb_index(address.at);
    struct spot spot;

    if (size > bytes_left_in_page(address.at))
        return NULL;
    if (address.at + (write ? tlb->write_tag : tlb->read_tag)[index] < PAGE_BYTES)
        return (void *)(uintptr_t)(address.at + tlb->addend[index]);
    void *victim = mmu_victim_hit(tlb, address.at, size, write);
    if (victim)
        return victim;
    if (locate(vcpu, address.at, access, mode, &spot) != 0 || spot.kind == PAGE_ABSENT)
        return NULL;
    if (write) {
        if (spot.kind != PAGE_RAM)
            return NULL;
        // Translations of this page go now: what the caller writes is not announced again. One made from here on waits for this
        // vCPU to finish its instruction before it trusts the bytes.
        guest_memory_wrote(vcpu->system->memory, gpa(spot.physical.at & ~PAGE_OFFSET_MASK),
                           PAGE_BYTES);
    }
    if (engine_cpu_of(vcpu)->data_breakpoints)
        debug_check_data(vcpu, address, size, access);
    return spot.host;
}

void *mmu_pointer_across(struct vcpu *vcpu, struct gva address, unsigned size)
{
    struct guest_memory *memory = vcpu->system->memory;
    struct span span;

    if (locate_span(vcpu, address.at, size, MMU_READ_WRITE, MMU_NORMAL, &span) != 0 ||
        !span.bytes[1] || span.spot[0].kind != PAGE_RAM || span.spot[1].kind != PAGE_RAM)
        return NULL;
    struct gpa pages[2];
    for (unsigned i = 0; i < 2; i++)
        pages[i] = gpa(span.spot[i].physical.at & ~PAGE_OFFSET_MASK);
    char *host = guest_memory_join(memory, pages[0], pages[1]);
    if (!host)
        return NULL;
    for (unsigned i = 0; i < 2; i++) // as in mmu_pointer()
        guest_memory_wrote(memory, pages[i], PAGE_BYTES);
    if (engine_cpu_of(vcpu)->data_breakpoints)
        debug_check_data(vcpu, address, size, true);
    return host + (address.at & PAGE_OFFSET_MASK);
}

// ---- Instructions ----

static int locate_fetch(struct vcpu *vcpu, uint64_t linear, struct spot *spot)
{
    struct engine_cpu *engine = engine_cpu_of(vcpu);
    struct mmu_page page;

    // Jumps find out before they are done; SYSRET, as AMD has it, and code that runs on into such addresses do not.
    if (!address_is_canonical(vcpu, linear))
        return raise_gp(vcpu, 0);
    if (translate(vcpu, linear, MMU_EXECUTE,
                  engine->fetch_mode == FETCH_USER ? TLB_USER : TLB_SUPERVISOR, &page) != 0)
        return -1;
    look_at_page(vcpu, linear, &page, spot);
    if (spot->kind != PAGE_ABSENT)
        fill_fetch(engine, (enum fetch_mode)engine->fetch_mode, linear, &page, spot);
    return 0;
}

int mmu_fetch(struct vcpu *vcpu, struct gva address, uint8_t bytes[15])
{
    const struct fetch_tlb *fetch = &engine_cpu_of(vcpu)->fetch[engine_cpu_of(vcpu)->fetch_mode];
    uint32_t index = tlb_index(address.at);
    unsigned left = bytes_left_in_page(address.at), count = left < 15 ? left : 15;
    struct spot spot;

    if (address.at + fetch->tag[index] < PAGE_BYTES) {
        memcpy(bytes, (const void *)(uintptr_t)(address.at + fetch->addend[index]), count);
        return (int)count;
    }
    if (locate_fetch(vcpu, address.at, &spot) != 0)
        return -1;
    read_spot(vcpu, &spot, bytes, count);
    return (int)count;
}

int mmu_fetch_page(struct vcpu *vcpu, struct gva address, uint64_t *physical_page,
                   const uint8_t **host)
{
    const struct fetch_tlb *fetch = &engine_cpu_of(vcpu)->fetch[engine_cpu_of(vcpu)->fetch_mode];
    uint32_t index = tlb_index(address.at);
    uint64_t start = address.at & ~PAGE_OFFSET_MASK;
    struct spot spot;

    *host = NULL;
    if (start + fetch->tag[index] != 0) {
        if (locate_fetch(vcpu, start, &spot) != 0 || spot.kind == PAGE_ABSENT)
            return -1;
    }
    *physical_page = fetch->physical[index];
    *host = (const uint8_t *)(uintptr_t)(start + fetch->addend[index]);
    return 0;
}

bool mmu_debug_translate(struct vcpu *vcpu, struct gva address, struct gpa *physical)
{
    const struct mmu_query query = {.linear = address.at, .mode = TLB_SUPERVISOR, .debug = true};
    struct mmu_page page = {.physical = address.at & ~PAGE_OFFSET_MASK};
    uint32_t error;

    if (engine_cpu_of(vcpu)->paging && mmu_walk(vcpu, &query, &page, &error) != 0)
        return false;
    *physical = gpa(page.physical | (address.at & PAGE_OFFSET_MASK));
    return true;
}
