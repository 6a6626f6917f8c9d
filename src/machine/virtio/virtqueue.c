// SPDX-License-Identifier: Apache-2.0
//
// Ring layouts: descriptors are 16 bytes {address, length, flags, next}; the available area is flags, index,
// `size` heads, and the used index at which the driver wants an interrupt; the used area is flags, index, `size`
// {head, length} pairs, and the available index at which we want a notification.
//
// Indices are read with acquire and written with release order; where each side writes one word and then reads
// the other's (suppressing interrupts and notifications) stands a full fence.
#include "machine/virtio/virtqueue.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/bits.h"
#include "machine/memory/guest_memory.h"

#define LOG_MODULE "virtio"
#include "base/log.h"

#define DESCRIPTOR_BYTES 16u
#define USED_BYTES       8u
#define RING             4u // offset of the entries in both rings

enum descriptor_flag { FLAG_NEXT = 1, FLAG_WRITE = 2, FLAG_INDIRECT = 4 };

#define AVAILABLE_NO_INTERRUPT 1u
#define USED_NO_NOTIFY         1u

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
};

// Guest-shared 16-bit words, always naturally aligned.
static uint16_t load16(const uint8_t *at)
{
    return __atomic_load_n((const uint16_t *)(const void *)at, __ATOMIC_ACQUIRE);
}

static void store16(uint8_t *at, uint16_t value)
{
    __atomic_store_n((uint16_t *)(void *)at, value, __ATOMIC_RELEASE);
}

static int broken(struct virtqueue *queue, const char *why)
{
    if (!queue->broken)
        log_guest("%s: the driver broke the queue: %s", queue->name, why);
    queue->broken = true;
    return -EINVAL;
}

// ---- Life

static const struct field fields[] = {
    FIELD_U16_MAX(struct virtqueue, size, VIRTQ_SIZE_MAX),
    FIELD_U16(struct virtqueue, vector),
    FIELD_BOOL(struct virtqueue, enabled),
    FIELD_U64(struct virtqueue, descriptors),
    FIELD_U64(struct virtqueue, available),
    FIELD_U64(struct virtqueue, used),
    FIELD_U16(struct virtqueue, next_available),
    FIELD_U16(struct virtqueue, next_used),
    FIELD_U16(struct virtqueue, published),
    FIELD_U16(struct virtqueue, signalled),
    FIELD_BOOL(struct virtqueue, started),
    FIELD_BOOL(struct virtqueue, broken),
    FIELD_BOOL(struct virtqueue, indirect),
    FIELD_BOOL(struct virtqueue, event_index),
};

static int check(const void *self, struct err *err)
{
    const struct virtqueue *queue = self;
    if (!is_power_of_two(queue->size) || queue->size > queue->size_max)
        return err_set(err, ERR_INPUT, "%s cannot have %u entries", queue->name, queue->size);
    return 0;
}

static void loaded(void *self)
{
    struct virtqueue *queue = self;
    if (queue->started)
        virtqueue_start(queue, queue->indirect, queue->event_index);
}

static const struct device_ops device_ops = {
    .kind = "virtqueue",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
    .check = check,
    .loaded = loaded,
};

void virtqueue_init(struct virtqueue *queue, struct guest_memory *memory, const char *name,
                    uint16_t size_max)
{
    assert(is_power_of_two(size_max) && size_max <= VIRTQ_SIZE_MAX);
    *queue = (struct virtqueue){.memory = memory, .name = name, .size_max = size_max};
    queue->device = (struct device){.ops = &device_ops, .name = name, .self = queue};
    virtqueue_reset(queue);
}

void virtqueue_reset(struct virtqueue *queue)
{
    queue->size = queue->size_max;
    queue->vector = 0xFFFF;
    queue->enabled = false;
    queue->descriptors = queue->available = queue->used = 0;
    queue->next_available = queue->next_used = queue->published = queue->signalled = 0;
    queue->started = queue->broken = false;
    queue->indirect = queue->event_index = false;
    queue->descriptor_area = queue->available_area = queue->used_area = NULL;
}

static uint8_t *map_area(struct virtqueue *queue, uint64_t at, uint32_t length, uint32_t alignment)
{
    return at % alignment ? NULL : guest_memory_map(queue->memory, gpa(at), length, true);
}

static uint32_t used_area_bytes(const struct virtqueue *queue)
{
    return RING + USED_BYTES * queue->size + 2;
}

void virtqueue_start(struct virtqueue *queue, bool indirect, bool event_index)
{
    queue->started = true;
    queue->indirect = indirect;
    queue->event_index = event_index;
    queue->descriptor_area =
        map_area(queue, queue->descriptors, DESCRIPTOR_BYTES * queue->size, 16);
    queue->available_area = map_area(queue, queue->available, RING + 2u * queue->size + 2, 2);
    queue->used_area = map_area(queue, queue->used, used_area_bytes(queue), 4);
    if (!queue->descriptor_area || !queue->available_area || !queue->used_area) {
        queue->descriptor_area = queue->available_area = queue->used_area = NULL;
        broken(queue, "a ring is not in memory");
    }
}

// ---- Popping

unsigned virtqueue_waiting(struct virtqueue *queue)
{
    if (queue->broken || !queue->available_area)
        return 0;
    uint16_t waiting = (uint16_t)(load16(queue->available_area + 2) - queue->next_available);
    if (waiting > queue->size) {
        broken(queue, "the available index ran ahead");
        return 0;
    }
    return waiting;
}

struct walk {
    struct virtqueue *queue;
    struct virtq_chain *chain;
    unsigned segments; // descriptors so far
    bool writing;
};

static int add_segment(struct walk *walk, const struct descriptor *descriptor)
{
    struct virtq_chain *chain = walk->chain;
    bool write = descriptor->flags & FLAG_WRITE;
    if (++walk->segments > VIRTQ_SEGMENTS)
        return broken(walk->queue, "a chain has too many descriptors, or a loop");
    if (walk->writing && !write)
        return broken(walk->queue, "a readable descriptor follows a writable one");
    if (!descriptor->length)
        return broken(walk->queue, "a descriptor has length 0");
    void *host =
        guest_memory_map(walk->queue->memory, gpa(descriptor->address), descriptor->length, write);
    if (!host)
        return broken(walk->queue, "a descriptor points outside memory");
    unsigned count = (unsigned)chain->out_count + chain->in_count;
    struct iovec *last = count && write == walk->writing ? &chain->iov[count - 1] : NULL;
    bool joins = last && (uint8_t *)last->iov_base + last->iov_len == host &&
                 chain->at[count - 1].at + last->iov_len == descriptor->address;
    if (joins) {
        last->iov_len += descriptor->length;
    } else {
        chain->iov[count] = (struct iovec){host, descriptor->length};
        chain->at[count] = gpa(descriptor->address);
        (*(write ? &chain->in_count : &chain->out_count))++;
    }
    *(write ? &chain->in_bytes : &chain->out_bytes) += descriptor->length;
    walk->writing = write;
    return 0;
}

// One table, the queue's own or an indirect one, from entry `next` on.
static int walk_table(struct walk *walk, const uint8_t *table, uint32_t entries, uint16_t next,
                      bool is_indirect)
{
    struct virtqueue *queue = walk->queue;
    for (uint32_t steps = 0; steps < entries; steps++) {
        if (next >= entries)
            return broken(queue, "a descriptor index is outside the table");
        struct descriptor descriptor;
        memcpy(&descriptor, table + DESCRIPTOR_BYTES * next, sizeof(descriptor));
        atomic_signal_fence(memory_order_seq_cst); // the compiler, too, reads it once
        if (descriptor.flags & FLAG_INDIRECT) {
            if (is_indirect || !queue->indirect || descriptor.flags & FLAG_NEXT)
                return broken(queue, "an indirect descriptor where none may stand");
            uint32_t inner = descriptor.length / DESCRIPTOR_BYTES;
            const uint8_t *inner_table =
                guest_memory_map(queue->memory, gpa(descriptor.address), descriptor.length, false);
            if (!inner || descriptor.length % DESCRIPTOR_BYTES || !inner_table)
                return broken(queue, "an indirect table has a bad length or lies outside memory");
            return walk_table(walk, inner_table, inner, 0, true);
        }
        if (add_segment(walk, &descriptor) < 0)
            return -EINVAL;
        if (!(descriptor.flags & FLAG_NEXT))
            return 0;
        next = descriptor.next;
    }
    return broken(queue, "a chain does not end");
}

int virtqueue_pop(struct virtqueue *queue, struct virtq_chain *chain)
{
    if (!virtqueue_waiting(queue))
        return queue->broken ? -EINVAL : 0;
    unsigned slot = queue->next_available & (queue->size - 1u);
    chain->head = load16(queue->available_area + RING + 2 * slot);
    chain->out_count = chain->in_count = 0;
    chain->out_bytes = chain->in_bytes = 0;
    struct walk walk = {.queue = queue, .chain = chain};
    if (walk_table(&walk, queue->descriptor_area, queue->size, chain->head, false) < 0)
        return -EINVAL;
    queue->next_available++;
    return 1;
}

int virtqueue_next(struct virtqueue *queue, struct virtq_chain *chain, unsigned *budget)
{
    if (budget && !*budget)
        return 0;
    int result;
    do
        result = virtqueue_pop(queue, chain);
    while (result == 0 && virtqueue_listen(queue));
    if (budget && result > 0)
        --*budget;
    return result;
}

void virtqueue_unpop(struct virtqueue *queue)
{
    queue->next_available--;
}

void virtqueue_unpush(struct virtqueue *queue, unsigned count)
{
    assert((uint16_t)(queue->next_used - queue->published) >= count);
    queue->next_available = (uint16_t)(queue->next_available - count);
    queue->next_used = (uint16_t)(queue->next_used - count);
}

// ---- Pushing

static void report_written(struct virtqueue *queue, const struct virtq_chain *chain, size_t written)
{
    for (unsigned i = chain->out_count; written && i < (unsigned)chain->out_count + chain->in_count;
         i++) {
        size_t part = chain->iov[i].iov_len < written ? chain->iov[i].iov_len : written;
        guest_memory_wrote(queue->memory, chain->at[i], part);
        written -= part;
    }
}

void virtqueue_push(struct virtqueue *queue, const struct virtq_chain *chain, size_t written)
{
    assert(written <= chain->in_bytes);
    report_written(queue, chain, written);
    if (!queue->used_area)
        return; // broken meanwhile
    uint8_t *entry = queue->used_area + RING + USED_BYTES * (queue->next_used & (queue->size - 1u));
    store_le32(entry, chain->head);
    store_le32(entry + 4, (uint32_t)written);
    queue->next_used++;
}

static bool wants_interrupt(struct virtqueue *queue)
{
    uint16_t before = queue->signalled, now = queue->published;
    queue->signalled = now;
    if (!queue->event_index)
        return !(load16(queue->available_area) & AVAILABLE_NO_INTERRUPT);
    uint16_t event = load16(queue->available_area + RING + 2u * queue->size);
    return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

bool virtqueue_publish(struct virtqueue *queue)
{
    if (queue->broken || queue->published == queue->next_used)
        return false;
    queue->published = queue->next_used;
    store16(queue->used_area + 2, queue->published);
    guest_memory_wrote(queue->memory, gpa(queue->used), used_area_bytes(queue));
    atomic_thread_fence(memory_order_seq_cst);
    return wants_interrupt(queue);
}

// ---- Notifications

void virtqueue_silence(struct virtqueue *queue)
{
    if (!queue->event_index && queue->used_area)
        store16(queue->used_area, USED_NO_NOTIFY);
}

bool virtqueue_listen(struct virtqueue *queue)
{
    if (queue->broken || !queue->used_area)
        return false;
    if (queue->event_index)
        store16(queue->used_area + RING + USED_BYTES * queue->size, queue->next_available);
    else
        store16(queue->used_area, 0);
    atomic_thread_fence(memory_order_seq_cst);
    return virtqueue_waiting(queue) > 0;
}

// ---- Bytes

unsigned virtq_slice(const struct iovec *iov, unsigned count, size_t offset, size_t length,
                     struct iovec *slice)
{
    unsigned n = 0;
    for (unsigned i = 0; i < count && length; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t part = iov[i].iov_len - offset < length ? iov[i].iov_len - offset : length;
        slice[n++] = (struct iovec){(uint8_t *)iov[i].iov_base + offset, part};
        length -= part;
        offset = 0;
    }
    assert(!length);
    return n;
}

// Copies between `buffer` and the scattered bytes; returns how many.
static size_t copy(const struct iovec *iov, unsigned count, size_t offset, uint8_t *buffer,
                   size_t length, bool to_iov)
{
    size_t done = 0;
    for (unsigned i = 0; i < count && done < length; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t part =
            iov[i].iov_len - offset < length - done ? iov[i].iov_len - offset : length - done;
        uint8_t *there = (uint8_t *)iov[i].iov_base + offset;
        memcpy(to_iov ? there : buffer + done, to_iov ? buffer + done : there, part);
        done += part;
        offset = 0;
    }
    return done;
}

size_t virtq_chain_read(const struct virtq_chain *chain, size_t offset, void *buffer, size_t length)
{
    return copy(chain->iov, chain->out_count, offset, buffer, length, false);
}

size_t virtq_chain_write(const struct virtq_chain *chain, size_t offset, const void *buffer,
                         size_t length)
{
    return copy(virtq_chain_in(chain), chain->in_count, offset, (uint8_t *)(uintptr_t)buffer,
                length, true);
}
