// SPDX-License-Identifier: Apache-2.0
//
// Ranges stand in an array sorted by address, searched by bisection: a machine has some tens of
// them.
//
// An access is cut into naturally aligned pieces that each lie in one range and fit its sizes;
// nearly all accesses are one piece. A piece counts itself into its range under the read lock and
// runs the handler without it. Removal unlinks under the write lock, then waits for the count to
// fall to what the removing thread itself holds: a handler may remove its own range. Which handlers
// a thread is inside of is a list through its stack.
#include "machine/device/bus.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define PORTS 0x10000ull

struct bus {
    enum bus_kind kind;
    bus_trace_hook *trace;
    void *trace_context;
    pthread_rwlock_t lock; // over the array
    struct bus_range **ranges;
    unsigned count, capacity;
    // For removal: whoever leaves a handler signals when somebody waits.
    pthread_mutex_t wait_lock;
    pthread_cond_t left;
    _Atomic unsigned waiting;
    // Set before ranges with doorbells are added.
    bus_doorbell_hook *doorbell_hook;
    void *doorbell_context;
};

struct frame {
    const struct bus_range *range;
    const struct frame *outer;
};

static _Thread_local const struct frame *inside;

static unsigned max_size(const struct bus *bus, const struct bus_ops *ops)
{
    if (ops->max_size)
        return ops->max_size;
    return bus->kind == BUS_PORT ? 4 : 8;
}

static unsigned min_size(const struct bus_ops *ops)
{
    return ops->min_size ? ops->min_size : 1;
}

struct bus *bus_create(enum bus_kind kind)
{
    struct bus *bus = calloc(1, sizeof(*bus));
    if (!bus)
        return NULL;
    bus->kind = kind;
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    // Guests that poll a register on every CPU must not keep a BAR from being moved.
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&bus->lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    pthread_mutex_init(&bus->wait_lock, NULL);
    pthread_cond_init(&bus->left, NULL);
    return bus;
}

void bus_destroy(struct bus *bus)
{
    if (!bus)
        return;
    for (unsigned i = 0; i < bus->count; i++)
        bus->ranges[i]->linked = false;
    free(bus->ranges);
    pthread_rwlock_destroy(&bus->lock);
    pthread_mutex_destroy(&bus->wait_lock);
    pthread_cond_destroy(&bus->left);
    free(bus);
}

// Index of the first range that ends above `address`. Lengths are at least 1, and no range reaches
// 2^64.
static unsigned lower_bound(const struct bus *bus, uint64_t address)
{
    unsigned low = 0, high = bus->count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct bus_range *r = bus->ranges[middle];
        if (r->start + r->length <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int insert(struct bus *bus, struct bus_range *range, struct err *err)
{
    unsigned at = lower_bound(bus, range->start);
    if (at < bus->count && bus->ranges[at]->start < range->start + range->length)
        return err_set(err, ERR_EXISTS, "%s at 0x%llx overlaps %s at 0x%llx", range->name,
                       (unsigned long long)range->start, bus->ranges[at]->name,
                       (unsigned long long)bus->ranges[at]->start);
    if (bus->count == bus->capacity) {
        unsigned capacity = bus->capacity ? bus->capacity * 2 : 32;
        struct bus_range **ranges = realloc(bus->ranges, capacity * sizeof(*ranges));
        if (!ranges)
            return err_set(err, ERR_LIMIT, "no memory");
        bus->ranges = ranges;
        bus->capacity = capacity;
    }
    memmove(&bus->ranges[at + 1], &bus->ranges[at], (bus->count - at) * sizeof(*bus->ranges));
    bus->ranges[at] = range;
    bus->count++;
    range->linked = true;
    return 0;
}

void bus_set_doorbells(struct bus *bus, bus_doorbell_hook *hook, void *context)
{
    bus->doorbell_hook = hook;
    bus->doorbell_context = context;
}

bool bus_has_doorbells(const struct bus *bus)
{
    return bus->doorbell_hook != NULL;
}

void bus_doorbells_change(struct bus *bus, const struct bus_range *range,
                          const struct bus_doorbell *doorbells, unsigned count, bool on)
{
    for (unsigned i = 0; i < count && bus->doorbell_hook; i++)
        bus->doorbell_hook(bus->doorbell_context, range->start + doorbells[i].offset,
                           doorbells[i].fd, on);
}

int bus_add(struct bus *bus, struct bus_range *range, struct err *err)
{
    uint64_t limit = bus->kind == BUS_PORT ? PORTS : UINT64_MAX;
    assert(!range->linked);
    assert(is_power_of_two(min_size(range->ops)) && is_power_of_two(max_size(bus, range->ops)));
    if (!range->length || !range_within(range->start, range->length, limit) ||
        range->length % min_size(range->ops))
        return err_set(err, ERR_USAGE, "%s cannot stand at 0x%llx with 0x%llx bytes", range->name,
                       (unsigned long long)range->start, (unsigned long long)range->length);
    pthread_rwlock_wrlock(&bus->lock);
    int rc = insert(bus, range, err);
    pthread_rwlock_unlock(&bus->lock);
    return rc;
}

// How many handlers of `range` this thread is inside of.
static uint32_t own_depth(const struct bus_range *range)
{
    uint32_t depth = 0;
    for (const struct frame *f = inside; f; f = f->outer)
        depth += f->range == range;
    return depth;
}

void bus_remove(struct bus *bus, struct bus_range *range)
{
    pthread_rwlock_wrlock(&bus->lock);
    if (range->linked) {
        unsigned at = lower_bound(bus, range->start);
        assert(at < bus->count && bus->ranges[at] == range);
        bus->count--;
        memmove(&bus->ranges[at], &bus->ranges[at + 1], (bus->count - at) * sizeof(*bus->ranges));
        range->linked = false;
    }
    pthread_rwlock_unlock(&bus->lock);

    uint32_t own = own_depth(range);
    pthread_mutex_lock(&bus->wait_lock);
    bus->waiting++;
    while (range->running != own)
        pthread_cond_wait(&bus->left, &bus->wait_lock);
    bus->waiting--;
    pthread_mutex_unlock(&bus->wait_lock);
}

static struct bus_range *enter(struct bus *bus, uint64_t address)
{
    struct bus_range *range = NULL;
    pthread_rwlock_rdlock(&bus->lock);
    unsigned at = lower_bound(bus, address);
    if (at < bus->count && bus->ranges[at]->start <= address) {
        range = bus->ranges[at];
        range->running++;
    }
    pthread_rwlock_unlock(&bus->lock);
    return range;
}

// The decrement is the last touch of the range, which may be freed as soon as removal sees it.
static void leave(struct bus *bus, struct bus_range *range)
{
    range->running--;
    if (bus->waiting) {
        pthread_mutex_lock(&bus->wait_lock);
        pthread_cond_broadcast(&bus->left);
        pthread_mutex_unlock(&bus->wait_lock);
    }
}

static uint64_t piece_read(const struct bus_range *range, uint64_t offset, unsigned size)
{
    const struct bus_ops *ops = range->ops;
    unsigned min = min_size(ops);
    if (!ops->read)
        return bits_mask(size * 8);
    if (size >= min)
        return ops->read(range->device, offset, size);
    unsigned skip = (unsigned)(offset % min);
    return ops->read(range->device, offset - skip, min) >> (skip * 8);
}

static void piece_write(const struct bus_range *range, uint64_t offset, uint64_t value,
                        unsigned size)
{
    const struct bus_ops *ops = range->ops;
    unsigned min = min_size(ops);
    if (!ops->write)
        return;
    if (size >= min) {
        ops->write(range->device, offset, value, size);
        return;
    }
    unsigned skip = (unsigned)(offset % min);
    ops->write(range->device, offset - skip, value << (skip * 8), min);
}

// The largest naturally aligned piece at the start of `left` bytes at `offset` of the range.
static unsigned piece_size(const struct bus *bus, const struct bus_range *range, uint64_t offset,
                           unsigned left)
{
    unsigned size = max_size(bus, range->ops);
    while (size > 1 && (size > left || offset % size || size > range->length - offset))
        size /= 2;
    return size;
}

// One piece of an access at `address` of at most `left` bytes; returns its size.
static unsigned access_piece(struct bus *bus, uint64_t address, unsigned left, bool write,
                             uint64_t *value, bool *answered)
{
    struct bus_range *range = enter(bus, address);
    unsigned size = 1;
    if (!range) {
        *value = write ? *value : 0xFF;
    } else {
        struct frame frame = {range, inside};
        uint64_t offset = address - range->start;
        size = piece_size(bus, range, offset, left);
        inside = &frame;
        if (write)
            piece_write(range, offset, *value & bits_mask(size * 8), size);
        else
            *value = piece_read(range, offset, size) & bits_mask(size * 8);
        inside = frame.outer;
        *answered = true;
    }
    if (bus->trace)
        bus->trace(bus->trace_context, range, address, size, write, *value & bits_mask(size * 8));
    if (range)
        leave(bus, range);
    return size;
}

bool bus_read(struct bus *bus, uint64_t address, unsigned size, uint64_t *value)
{
    bool answered = false;
    uint64_t all = 0;
    for (unsigned done = 0; done < size;) {
        uint64_t part = 0;
        unsigned n = access_piece(bus, address + done, size - done, false, &part, &answered);
        all |= part << (done * 8);
        done += n;
    }
    *value = all;
    return answered;
}

bool bus_write(struct bus *bus, uint64_t address, uint64_t value, unsigned size)
{
    bool answered = false;
    for (unsigned done = 0; done < size;) {
        uint64_t part = value >> (done * 8);
        done += access_piece(bus, address + done, size - done, true, &part, &answered);
    }
    return answered;
}

void bus_set_trace(struct bus *bus, bus_trace_hook *hook, void *context)
{
    bus->trace = hook;
    bus->trace_context = context;
}
