// SPDX-License-Identifier: Apache-2.0
//
// The machine's two address buses: which device answers at a port or at an MMIO address.
//
// A device registers ranges; a vCPU's access to an address without RAM goes to
// bus_read()/bus_write(). Nobody answering reads as all ones and ignores writes, as on a PC. Ranges
// may come and go while vCPUs run (PCI BARs): look-ups take a read lock, changes the write lock; a
// handler runs without the bus lock, under its device's own lock if it has one. After bus_remove()
// returns no other thread is or will be in a handler of that range. So whoever removes holds no
// lock that a handler of the range takes. A handler may remove its own range (nobody waits for
// himself), if the range stays allocated until that handler has returned.
#ifndef WIRT_MACHINE_DEVICE_BUS_H
#define WIRT_MACHINE_DEVICE_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

// Sizes are 1, 2, 4 or 8 bytes (ports: up to 4). `offset` is from the range's start, a multiple of
// `size`, and offset + size never passes its end: the bus cuts unaligned accesses, and those that
// cross a range's end or are larger than max_size, into such pieces, lowest address first. Smaller
// than min_size: a read takes its bytes out of the aligned min_size ones, a write has zeroes beside
// it. `value` has no bits above `size`; those of a read's result are dropped. NULL read: all ones;
// NULL write: ignored.
struct bus_ops {
    uint64_t (*read)(void *device, uint64_t offset, unsigned size);
    void (*write)(void *device, uint64_t offset, uint64_t value, unsigned size);
    uint8_t min_size; // 0: 1
    uint8_t max_size; // 0: 4 for ports, 8 for MMIO
};

enum bus_kind { BUS_PORT, BUS_MMIO };

// A place in a range that is only written to, to wake somebody: where the backend's kernel can, it raises the event counter `fd` instead of having the
// handler called. The handler must do the same.
struct bus_doorbell {
    uint64_t offset;
    int fd; // os/event_counter.h
};

// Owned by the device, which embeds it; the bus links it.
struct bus_range {
    const char *name; // for --trace and messages
    uint64_t start;
    uint64_t length;
    const struct bus_ops *ops;
    void *device;
    // Private to the bus.
    bool linked;
    _Atomic uint32_t running;
};

struct bus;

struct bus *bus_create(enum bus_kind kind);
void bus_destroy(struct bus *bus);

// -1 and *err when it overlaps a range that is there. Later ranges never shadow earlier ones.
int bus_add(struct bus *bus, struct bus_range *range, struct err *err);
void bus_remove(struct bus *bus, struct bus_range *range);

// After a range with doorbells was added, before it is removed. Nothing where the backend has no such thing.
void bus_doorbells_change(struct bus *bus, const struct bus_range *range,
                          const struct bus_doorbell *doorbells, unsigned count, bool on);
// The backend's, set before the first range with doorbells is added: a doorbell appears at, or vanishes from, an address. Any thread.
typedef void bus_doorbell_hook(void *context, uint64_t address, int fd, bool on);
void bus_set_doorbells(struct bus *bus, bus_doorbell_hook *hook, void *context);
bool bus_has_doorbells(const struct bus *bus);

// An access by a vCPU. Returns whether any device answered; *value is all ones (of the size) where
// none did.
bool bus_read(struct bus *bus, uint64_t address, unsigned size, uint64_t *value);
bool bus_write(struct bus *bus, uint64_t address, uint64_t value, unsigned size);

// Each piece of an access is shown to the hook when set (--trace exits); range is NULL where nobody
// answers. Set before vCPUs run.
typedef void bus_trace_hook(void *context, const struct bus_range *range, uint64_t address,
                            unsigned size, bool write, uint64_t value);
void bus_set_trace(struct bus *bus, bus_trace_hook *hook, void *context);

#endif
