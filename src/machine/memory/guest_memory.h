// SPDX-License-Identifier: Apache-2.0
//
// Guest RAM and ROM: the only door from a guest physical address to a host pointer.
//
// The guest-physical address space has RAM from 0 to at most 3 GiB, a hole for devices, and the
// rest of the RAM from 4 GiB up. RAM is one memfd, mapped once, shared and never executable;
// firmware is a read-only region above it in the same mapping. Everything that is not RAM or ROM
// belongs to the bus (device/bus.h): functions here fail with -EFAULT for it, so a device's DMA
// into another device's registers is an error of the guest.
//
// Pages. Each 4 KiB page has a byte of flags, read and written atomically:
//   PAGE_CODE  the engine holds translations of bytes in this page. Whoever writes to the page must have
//              them dropped: guest_memory_write() and guest_memory_wrote() do so through the code watcher;
//              the engine's own stores find such a page missing in the write half of their soft TLB.
//   PAGE_DIRTY written since the flag was last collected (dirty tracking; only while it is on).
//
// Threads: all functions may be called from any thread once the machine is built. Regions are added
// before the first vCPU runs and never removed.
#ifndef WIRT_MACHINE_MEMORY_GUEST_MEMORY_H
#define WIRT_MACHINE_MEMORY_GUEST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"

#define PAGE_BYTES 4096u
#define PAGE_SHIFT 12u

// End of the low RAM at most; devices live between here and 4 GiB.
#define GUEST_LOW_RAM_LIMIT  0xC0000000ull
#define GUEST_HIGH_RAM_START 0x100000000ull

enum page_flag {
    PAGE_CODE = 1 << 0,
    PAGE_DIRTY = 1 << 1,
};

// What the memfd of RAM is called in /proc.
#define GUEST_MEMORY_NAME "wirt-guest-ram"

struct guest_memory;

// Told after bytes of pages with PAGE_CODE changed behind the vCPUs' back (DMA, loaders, the
// debugger). `gpa` and `length` stay within one page. May be called on any thread; must not write
// guest memory.
typedef void guest_code_watcher(void *context, struct gpa gpa, uint32_t length);

// RAM of `ram_bytes` (a multiple of a page, at least 1 MiB). `memfd` is a descriptor of at least
// that size, taken over by the object, or -1 to make one. NULL and *err on failure.
struct guest_memory *guest_memory_create(uint64_t ram_bytes, int memfd, struct err *err);
void guest_memory_destroy(struct guest_memory *memory);

// A copy of `length` bytes of firmware appears read-only at `start` (both page aligned). -1 and
// *err where it overlaps other memory.
int guest_memory_add_rom(struct guest_memory *memory, struct gpa start, const void *bytes,
                         uint64_t length, struct err *err);

uint64_t guest_memory_ram_bytes(const struct guest_memory *memory);
uint64_t guest_memory_low_bytes(const struct guest_memory *memory);  // RAM below 4 GiB
uint64_t guest_memory_high_bytes(const struct guest_memory *memory); // RAM from 4 GiB up
int guest_memory_fd(const struct guest_memory *memory);              // borrowed

// The regions one after another, for a backend that gives them to the host's kernel: index from 0; false behind the last.
struct guest_region {
    struct gpa start;
    uint64_t length;
    void *host;
    uint64_t ram_offset; // in the order of the dirty bitmap; not for ROM
    bool rom;
};
bool guest_memory_region(const struct guest_memory *memory, unsigned index,
                         struct guest_region *region);

// Copy. 0, or -EFAULT when any byte lies outside RAM (reads: and ROM); then nothing is guaranteed
// about the bytes before it. Writes set PAGE_DIRTY and tell the code watcher.
int guest_memory_read(const struct guest_memory *memory, struct gpa from, void *buffer,
                      size_t length);
int guest_memory_write(struct guest_memory *memory, struct gpa to, const void *buffer,
                       size_t length);

// Copy from a file into RAM, as a write. 0, -EFAULT when any byte lies outside RAM, -ENODATA when the file ends earlier, or another
// negative errno. One thread at a time.
int guest_memory_load(struct guest_memory *memory, struct gpa to, int fd, uint64_t offset,
                      uint64_t length);

// A host pointer to `length` bytes at `start`, or NULL when they are not all in one region of RAM
// (for `writable` false: or ROM). Valid as long as the object. After writing through it, call
// guest_memory_wrote() for the bytes written, before the guest is told that they are there.
void *guest_memory_map(struct guest_memory *memory, struct gpa start, size_t length, bool writable);
void guest_memory_wrote(struct guest_memory *memory, struct gpa start, size_t length);

// Two pages of RAM side by side, wherever they lie: for an access across both that is one access to everybody. NULL: not both are RAM. Valid until the
// next call; one thread at a time. As with guest_memory_map(), writes are to be told.
void *guest_memory_join(struct guest_memory *memory, struct gpa first, struct gpa second);

// For the engine's page walks and TLB fills: the page's host address and kind.
enum page_kind { PAGE_ABSENT, PAGE_RAM, PAGE_ROM };
enum page_kind guest_memory_page(struct guest_memory *memory, struct gpa page, void **host,
                                 uint8_t **flags);

// The engine's: one watcher, set before the first vCPU runs.
void guest_memory_set_code_watcher(struct guest_memory *memory, guest_code_watcher *watcher,
                                   void *context);

// Dirty tracking. While it is on every write path sets PAGE_DIRTY; collect moves the flags of all
// RAM into `bitmap` (a bit a page, RAM offset order, ORed), clears them and says how many (-errno where another source fails). The
// engine's TLBs must be flushed of writable entries by the caller
// (vcpu_request_all(VCPU_EVENT_TLB_FLUSH)) around both.
// -errno: the other source (below) refused.
int guest_memory_track_dirty(struct guest_memory *memory, bool on);
bool guest_memory_tracks_dirty(const struct guest_memory *memory);
int64_t guest_memory_collect_dirty(struct guest_memory *memory, uint64_t *bitmap);

// Another that sees writes: a backend whose guest writes past our flags. While it is set, turning tracking on and off and collecting ask it too; it
// ORs what it has seen into the bitmap. Both return 0 or -errno. Set on the main thread while no vCPU runs; NULL: none.
struct guest_dirty_ops {
    int (*track)(void *context, bool on);
    int (*collect)(void *context, uint64_t *bitmap);
};
void guest_memory_set_dirty_source(struct guest_memory *memory, const struct guest_dirty_ops *ops,
                                   void *context);

// Give pages back to the host (balloon, free page reporting); they read as zeroes afterwards.
int guest_memory_discard(struct guest_memory *memory, struct gpa start, uint64_t length);

#endif
