// SPDX-License-Identifier: Apache-2.0
//
// One reservation of address space holds it all: RAM first (the memfd, in the order of its
// offsets), then room for ROMs. A table of a few regions says which guest addresses lie where in
// it, and one array holds the flags of each of its pages. Look-ups walk the table: low RAM comes
// first and answers nearly all.
//
// Writers of guest bytes first write, then look at the page's flags; the engine first sets
// PAGE_CODE, then reads the bytes to translate. With a full barrier on both sides, at least one of
// them sees the other, so no translation of old bytes survives.
#include "machine/memory/guest_memory.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "os/file.h"
#include "os/file_load.h"
#include "os/memory.h"

#define REGION_LIMIT    8
#define ROM_LIMIT_BYTES (16 * MIB)  // of all ROMs together
#define RAM_LIMIT_BYTES (256 * GIB) // 64-bit BARs start above

struct region {
    uint64_t start, length; // guest physical
    uint64_t offset;        // in the reservation
    bool rom;
};

struct guest_memory {
    // Constant after the machine is built.
    uint8_t *base;  // the reservation, owned
    uint8_t *flags; // of its pages, owned, accessed atomically
    uint64_t ram_bytes, low_bytes, reserved_bytes, flag_bytes;
    uint64_t rom_bytes; // used of the room for ROMs
    int fd;             // owned
    uint8_t *window;    // two pages, owned: guest_memory_join()
    unsigned region_count;
    struct region regions[REGION_LIMIT];
    guest_code_watcher *watcher;
    void *watcher_context;
    const struct guest_dirty_ops *dirty_ops; // NULL: no other source
    void *dirty_context;
    // Any thread.
    _Atomic bool tracks_dirty;
    // Of whoever may join.
    uint64_t joined[2]; // offsets of the pages in the window
};

static void add_region(struct guest_memory *memory, uint64_t start, uint64_t length,
                       uint64_t offset, bool rom)
{
    assert(memory->region_count < REGION_LIMIT);
    memory->regions[memory->region_count++] = (struct region){start, length, offset, rom};
}

static int map_ram(struct guest_memory *memory, struct err *err)
{
    uint64_t file_bytes = 0;
    if (memory->fd < 0)
        memory->fd = os_memfd_create(GUEST_MEMORY_NAME, memory->ram_bytes, err);
    else if (os_file_size(memory->fd, &file_bytes) != 0 || file_bytes < memory->ram_bytes)
        return err_set(err, ERR_INPUT, "the file given as guest memory is smaller than %llu bytes",
                       (unsigned long long)memory->ram_bytes);
    if (memory->fd < 0)
        return -1;
    memory->base = os_memory_reserve(memory->reserved_bytes, err);
    memory->flags = os_memory_reserve(memory->flag_bytes, err);
    memory->window = os_memory_reserve(2ull * PAGE_BYTES, err);
    memory->joined[0] = memory->joined[1] = UINT64_MAX;
    if (!memory->base || !memory->flags || !memory->window)
        return -1;
    if (os_memory_place_zeroed(memory->flags, memory->flag_bytes, OS_MEMORY_READ | OS_MEMORY_WRITE,
                               err) != 0)
        return -1;
    os_memory_name(memory->flags, memory->flag_bytes, "wirt-page-flags");
    return os_memory_place_file(memory->base, memory->ram_bytes, OS_MEMORY_READ | OS_MEMORY_WRITE,
                                memory->fd, 0, err);
}

struct guest_memory *guest_memory_create(uint64_t ram_bytes, int memfd, struct err *err)
{
    struct guest_memory *memory = calloc(1, sizeof(*memory));
    if (!memory) {
        os_file_close(&memfd);
        err_set(err, ERR_LIMIT, "no memory");
        return NULL;
    }
    memory->fd = memfd;
    if (ram_bytes % PAGE_BYTES || ram_bytes < MIB || ram_bytes > RAM_LIMIT_BYTES) {
        err_set(err, ERR_USAGE,
                "guest memory must be whole pages from 1 MiB to 256 GiB, not %llu bytes",
                (unsigned long long)ram_bytes);
        goto fail;
    }
    memory->ram_bytes = ram_bytes;
    memory->low_bytes = ram_bytes < GUEST_LOW_RAM_LIMIT ? ram_bytes : GUEST_LOW_RAM_LIMIT;
    memory->reserved_bytes = ram_bytes + ROM_LIMIT_BYTES;
    memory->flag_bytes = align_up(memory->reserved_bytes >> PAGE_SHIFT, PAGE_BYTES);
    if (map_ram(memory, err) != 0)
        goto fail;
    add_region(memory, 0, memory->low_bytes, 0, false);
    if (ram_bytes > memory->low_bytes)
        add_region(memory, GUEST_HIGH_RAM_START, ram_bytes - memory->low_bytes, memory->low_bytes,
                   false);
    return memory;
fail:
    guest_memory_destroy(memory);
    return NULL;
}

void guest_memory_destroy(struct guest_memory *memory)
{
    if (!memory)
        return;
    os_memory_release(memory->base, memory->reserved_bytes);
    os_memory_release(memory->flags, memory->flag_bytes);
    os_memory_release(memory->window, 2ull * PAGE_BYTES);
    os_file_close(&memory->fd);
    free(memory);
}

int guest_memory_add_rom(struct guest_memory *memory, struct gpa start, const void *bytes,
                         uint64_t length, struct err *err)
{
    unsigned long long at = start.at, size = length;
    if (!length || start.at % PAGE_BYTES || length % PAGE_BYTES ||
        !range_within(start.at, length, UINT64_MAX))
        return err_set(err, ERR_INPUT, "a ROM of %llu bytes at 0x%llx is not whole pages", size,
                       at);
    if (memory->region_count == REGION_LIMIT || length > ROM_LIMIT_BYTES - memory->rom_bytes)
        return err_set(err, ERR_LIMIT, "no room for a ROM of %llu bytes", size);
    for (unsigned i = 0; i < memory->region_count; i++) {
        const struct region *r = &memory->regions[i];
        if (start.at < r->start + r->length && r->start < start.at + length)
            return err_set(err, ERR_EXISTS, "a ROM of %llu bytes at 0x%llx overlaps other memory",
                           size, at);
    }
    uint64_t offset = memory->ram_bytes + memory->rom_bytes;
    uint8_t *host = memory->base + offset;
    if (os_memory_place_zeroed(host, length, OS_MEMORY_READ | OS_MEMORY_WRITE, err) != 0)
        return -1;
    memcpy(host, bytes, length);
    if (os_memory_protect(host, length, OS_MEMORY_READ, err) != 0)
        return -1;
    memory->rom_bytes += length;
    add_region(memory, start.at, length, offset, true);
    return 0;
}

uint64_t guest_memory_ram_bytes(const struct guest_memory *memory)
{
    return memory->ram_bytes;
}

uint64_t guest_memory_low_bytes(const struct guest_memory *memory)
{
    return memory->low_bytes;
}

uint64_t guest_memory_high_bytes(const struct guest_memory *memory)
{
    return memory->ram_bytes - memory->low_bytes;
}

int guest_memory_fd(const struct guest_memory *memory)
{
    return memory->fd;
}

bool guest_memory_region(const struct guest_memory *memory, unsigned index,
                         struct guest_region *region)
{
    if (index >= memory->region_count)
        return false;
    const struct region *r = &memory->regions[index];
    *region = (struct guest_region){gpa(r->start), r->length, memory->base + r->offset, r->offset,
                                    r->rom};
    return true;
}

static const struct region *find_region(const struct guest_memory *memory, uint64_t address)
{
    for (unsigned i = 0; i < memory->region_count; i++)
        if (address - memory->regions[i].start < memory->regions[i].length)
            return &memory->regions[i];
    return NULL;
}

// The bytes from `address` that lie in one region, at most `length`: their offset in the
// reservation. 0: none.
static size_t resolve(const struct guest_memory *memory, uint64_t address, size_t length,
                      bool writable, uint64_t *offset)
{
    const struct region *r = find_region(memory, address);
    if (!r || (writable && r->rom))
        return 0;
    uint64_t within = address - r->start, left = r->length - within;
    *offset = r->offset + within;
    return length < left ? length : (size_t)left;
}

int guest_memory_read(const struct guest_memory *memory, struct gpa from, void *buffer,
                      size_t length)
{
    uint8_t *to = buffer;
    while (length) {
        uint64_t offset;
        size_t n = resolve(memory, from.at, length, false, &offset);
        if (!n)
            return -EFAULT;
        memcpy(to, memory->base + offset, n);
        to += n;
        from.at += n; // a region never ends at 2^64, so this does not wrap into one
        length -= n;
    }
    return 0;
}

// Bytes at `offset` of the reservation, guest address `address`, were written: flags and watcher,
// page by page.
static void note_write(struct guest_memory *memory, uint64_t address, uint64_t offset,
                       size_t length)
{
    bool dirty = atomic_load_explicit(&memory->tracks_dirty, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    while (length) {
        size_t n = PAGE_BYTES - (offset & (PAGE_BYTES - 1));
        if (n > length)
            n = length;
        uint8_t *flags = &memory->flags[offset >> PAGE_SHIFT];
        uint8_t seen = __atomic_load_n(flags, __ATOMIC_RELAXED);
        if (dirty && !(seen & PAGE_DIRTY))
            __atomic_fetch_or(flags, PAGE_DIRTY, __ATOMIC_RELEASE);
        if ((seen & PAGE_CODE) && memory->watcher)
            memory->watcher(memory->watcher_context, gpa(address), (uint32_t)n);
        address += n;
        offset += n;
        length -= n;
    }
}

int guest_memory_write(struct guest_memory *memory, struct gpa to, const void *buffer,
                       size_t length)
{
    const uint8_t *from = buffer;
    while (length) {
        uint64_t offset;
        size_t n = resolve(memory, to.at, length, true, &offset);
        if (!n)
            return -EFAULT;
        memcpy(memory->base + offset, from, n);
        note_write(memory, to.at, offset, n);
        from += n;
        to.at += n;
        length -= n;
    }
    return 0;
}

int guest_memory_load(struct guest_memory *memory, struct gpa to, int fd, uint64_t offset,
                      uint64_t length)
{
    while (length) {
        uint64_t at;
        size_t n = resolve(memory, to.at, length, true, &at);
        if (!n)
            return -EFAULT;
        int result = os_file_send(fd, offset, memory->fd, at, n);
        if (result)
            return result;
        note_write(memory, to.at, at, n);
        to.at += n;
        offset += n;
        length -= n;
    }
    return 0;
}

void *guest_memory_map(struct guest_memory *memory, struct gpa start, size_t length, bool writable)
{
    uint64_t offset;
    const struct region *r = find_region(memory, start.at);
    if (!r || resolve(memory, start.at, length, writable, &offset) != length ||
        (writable && r->rom))
        return NULL;
    return memory->base + r->offset + (start.at - r->start);
}

void guest_memory_wrote(struct guest_memory *memory, struct gpa start, size_t length)
{
    uint64_t offset;
    size_t n = resolve(memory, start.at, length, true, &offset);
    assert(n == length); // it was mapped
    if (n)
        note_write(memory, start.at, offset, n);
}

void *guest_memory_join(struct guest_memory *memory, struct gpa first, struct gpa second)
{
    uint64_t offsets[2];
    struct err err;

    if (resolve(memory, first.at, PAGE_BYTES, true, &offsets[0]) != PAGE_BYTES ||
        resolve(memory, second.at, PAGE_BYTES, true, &offsets[1]) != PAGE_BYTES)
        return NULL;
    if (offsets[1] == offsets[0] + PAGE_BYTES)
        return memory->base + offsets[0];
    for (unsigned i = 0; i < 2; i++) {
        if (offsets[i] == memory->joined[i])
            continue;
        memory->joined[i] = UINT64_MAX;
        if (os_memory_place_file(memory->window + (size_t)i * PAGE_BYTES, PAGE_BYTES,
                                 OS_MEMORY_READ | OS_MEMORY_WRITE, memory->fd, offsets[i],
                                 &err) != 0)
            return NULL;
        memory->joined[i] = offsets[i];
    }
    return memory->window;
}

enum page_kind guest_memory_page(struct guest_memory *memory, struct gpa page, void **host,
                                 uint8_t **flags)
{
    const struct region *r = find_region(memory, page.at);
    if (!r) {
        *host = NULL;
        *flags = NULL;
        return PAGE_ABSENT;
    }
    uint64_t offset = align_down(r->offset + (page.at - r->start), PAGE_BYTES);
    *host = memory->base + offset;
    *flags = &memory->flags[offset >> PAGE_SHIFT];
    return r->rom ? PAGE_ROM : PAGE_RAM;
}

void guest_memory_set_code_watcher(struct guest_memory *memory, guest_code_watcher *watcher,
                                   void *context)
{
    memory->watcher = watcher;
    memory->watcher_context = context;
}

void guest_memory_set_dirty_source(struct guest_memory *memory, const struct guest_dirty_ops *ops,
                                   void *context)
{
    memory->dirty_ops = ops;
    memory->dirty_context = context;
}

int guest_memory_track_dirty(struct guest_memory *memory, bool on)
{
    // Flags of an earlier round would be reported as news.
    if (on && !memory->tracks_dirty)
        for (uint64_t page = 0; page < memory->ram_bytes >> PAGE_SHIFT; page++)
            if (memory->flags[page] & PAGE_DIRTY)
                __atomic_fetch_and(&memory->flags[page], (uint8_t)~PAGE_DIRTY, __ATOMIC_RELAXED);
    memory->tracks_dirty = on;
    return memory->dirty_ops ? memory->dirty_ops->track(memory->dirty_context, on) : 0;
}

bool guest_memory_tracks_dirty(const struct guest_memory *memory)
{
    return memory->tracks_dirty;
}

// How many pages the bitmap names after the other source was asked is counted anew: both may name the same.
static int64_t collect_other(struct guest_memory *memory, uint64_t *bitmap)
{
    int64_t found = 0;
    int failed = memory->dirty_ops->collect(memory->dirty_context, bitmap);
    if (failed)
        return failed;
    for (uint64_t word = 0; word < align_up(memory->ram_bytes >> PAGE_SHIFT, 64) / 64; word++)
        found += __builtin_popcountll(bitmap[word]);
    return found;
}

int64_t guest_memory_collect_dirty(struct guest_memory *memory, uint64_t *bitmap)
{
    const uint64_t dirty8 = 0x0101010101010101ull * PAGE_DIRTY;
    uint64_t pages = memory->ram_bytes >> PAGE_SHIFT;
    int64_t found = 0;
    for (uint64_t page = 0; page < pages; page++) {
        // Eight clean pages at once: most are. The array is padded with the flags of the ROM pages.
        if (page % 8 == 0 && !(load_le64(&memory->flags[page]) & dirty8)) {
            page += 7;
            continue;
        }
        if (!(__atomic_load_n(&memory->flags[page], __ATOMIC_RELAXED) & PAGE_DIRTY))
            continue;
        __atomic_fetch_and(&memory->flags[page], (uint8_t)~PAGE_DIRTY, __ATOMIC_ACQ_REL);
        bitmap[page / 64] |= BIT(page % 64);
        found++;
    }
    return memory->dirty_ops ? collect_other(memory, bitmap) : found;
}

int guest_memory_discard(struct guest_memory *memory, struct gpa start, uint64_t length)
{
    uint64_t offset;
    if (start.at % PAGE_BYTES || length % PAGE_BYTES)
        return -EINVAL;
    if (!length)
        return 0;
    if (resolve(memory, start.at, length, true, &offset) != length)
        return -EFAULT;
    int rc = os_memory_discard_shared(memory->base + offset, length);
    if (rc == 0)
        note_write(memory, start.at, offset, length);
    return rc;
}
