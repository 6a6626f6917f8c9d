// SPDX-License-Identifier: Apache-2.0
//
// The log is a ring of sectors of 4 KiB. An entry is a header with descriptors and, for those that bring data, a sector each, all under one checksum;
// it carries a sequence number and says where the oldest entry stands that still counts (its tail). The entries from the tail of the newest to itself
// are applied in order: a data descriptor replaces a sector of the file, a zero descriptor clears a range. A sector of data lacks its first eight and
// last four bytes, in whose place it is numbered; they stand in the descriptor.
//
// What is applied are patches in memory, in a node above the file: the image is only read, and stays as it is.
#include "machine/block/vhdx_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/crc32c.h"

#define SECTOR            (4 * KIB)
#define ENTRY_HEADER      64
#define DESCRIPTOR        32
#define SECTOR_BYTES      4084 // of data in a sector of it
#define DESCRIPTORS_FIRST 126  // in an entry's first sector; 128 in those after it
#define FILE_BYTES_MAX    BIT(62)

struct patch {
    uint64_t offset, length;
    uint8_t *bytes; // owned; NULL: zeros
};

struct replay {
    struct block_node node;
    // Constant once opened.
    struct patch *patches; // owned: later ones lie over earlier ones
    size_t count, room;
    uint64_t bytes; // of memory for them
};

// One whole entry, as found in the ring.
struct entry {
    uint64_t sequence, place, length, tail;
    uint64_t file_bytes; // the file was at least so long
    uint32_t descriptors;
};

// All of them. Checksums are made once for each place; entries that count do not overlap, so that all of them together are no more than the ring.
struct ring {
    const struct vhdx_log *log;
    uint8_t *bytes, *scratch; // owned, each as long as the log
    struct entry *at;         // owned: by sector; sequence 0: none begins there
    uint64_t budget;          // bytes that may still be summed up
};

static struct replay *replay_of(struct block_node *node)
{
    return CONTAINER_OF(node, struct replay, node);
}

// ---- Reading over the patches

static int replay_read(struct block_node *node, uint64_t offset, struct block_vec vec)
{
    const struct replay *replay = replay_of(node);
    int rc = block_node_read_padded(node->next, offset, vec);
    for (size_t i = 0; i < replay->count && !rc; i++) {
        const struct patch *patch = &replay->patches[i];
        uint64_t start = patch->offset > offset ? patch->offset : offset;
        uint64_t end = patch->offset + patch->length < offset + vec.length
                           ? patch->offset + patch->length
                           : offset + vec.length;
        if (start >= end)
            continue;
        struct block_vec part = block_vec_slice(vec, start - offset, end - start);
        if (patch->bytes)
            block_vec_fill(part, patch->bytes + (start - patch->offset));
        else
            block_vec_zero(part);
    }
    return rc;
}

static void replay_release(struct block_node *node)
{
    struct replay *replay = replay_of(node);
    for (size_t i = 0; i < replay->count; i++)
        free(replay->patches[i].bytes);
    free(replay->patches);
}

static const struct block_ops replay_ops = {
    .name = "vhdx-log",
    .filter = true,
    .read = replay_read,
    .release = replay_release,
};

// ---- Entries

static void copy_out(const struct ring *ring, uint64_t place, uint64_t length)
{
    uint64_t first = ring->log->length - place < length ? ring->log->length - place : length;
    memcpy(ring->scratch, ring->bytes + place, first);
    memcpy(ring->scratch + first, ring->bytes, length - first);
}

static uint64_t descriptor_sectors(uint32_t descriptors)
{
    return descriptors <= DESCRIPTORS_FIRST ? 1 : 1 + (descriptors - DESCRIPTORS_FIRST + 127) / 128;
}

// A whole entry at this place, of this log?
static bool read_entry(struct ring *ring, uint64_t place, struct entry *entry)
{
    const uint8_t *head = ring->bytes + place;
    uint64_t room = ring->log->length;
    uint64_t length = load_le32(head + 8), tail = load_le32(head + 12);
    uint32_t descriptors = load_le32(head + 24);
    if (memcmp(head, "loge", 4) != 0 || memcmp(head + 32, ring->log->guid, 16) != 0 || !length ||
        length % SECTOR || length > room || tail % SECTOR || tail >= room ||
        descriptors > length / DESCRIPTOR || descriptor_sectors(descriptors) * SECTOR > length ||
        length > ring->budget)
        return false;
    ring->budget -= length;
    copy_out(ring, place, length);
    store_le32(ring->scratch + 4, 0);
    if (crc32c(ring->scratch, length) != load_le32(head + 4))
        return false;
    *entry = (struct entry){.sequence = load_le64(head + 16),
                            .place = place,
                            .length = length,
                            .tail = tail,
                            .file_bytes = load_le64(head + 56),
                            .descriptors = descriptors};
    return true;
}

static const struct entry *entry_at(const struct ring *ring, uint64_t place)
{
    return &ring->at[place % ring->log->length / SECTOR];
}

// Are all entries from this one's tail up to it there, numbered without a gap?
static bool is_complete(const struct ring *ring, const struct entry *entry)
{
    const struct entry *at = entry_at(ring, entry->tail);
    uint64_t left = ring->log->length;
    while (at->sequence && at != entry && at->length < left) {
        const struct entry *next = entry_at(ring, at->place + at->length);
        if (next->sequence != at->sequence + 1)
            return false;
        left -= at->length;
        at = next;
    }
    return at->sequence && at == entry;
}

// The newest entry that is complete; NULL: nothing waits to be applied.
static const struct entry *find_newest(struct ring *ring)
{
    const struct entry *newest = NULL;
    for (uint64_t place = 0; place < ring->log->length; place += SECTOR)
        if (!read_entry(ring, place, &ring->at[place / SECTOR]))
            ring->at[place / SECTOR].sequence = 0;
    for (uint64_t place = 0; place < ring->log->length; place += SECTOR) {
        const struct entry *entry = entry_at(ring, place);
        if (entry->sequence && (!newest || entry->sequence > newest->sequence) &&
            is_complete(ring, entry))
            newest = entry;
    }
    return newest;
}

// ---- Applying

static struct patch *add_patch(struct replay *replay, uint64_t offset, uint64_t length)
{
    if (replay->count == replay->room) {
        size_t room = replay->room ? 2 * replay->room : 64;
        struct patch *more = realloc(replay->patches, room * sizeof(*more));
        if (!more)
            return NULL;
        replay->patches = more;
        replay->room = room;
    }
    replay->bytes += sizeof(struct patch);
    struct patch *patch = &replay->patches[replay->count++];
    *patch = (struct patch){.offset = offset, .length = length};
    return patch;
}

static int add_sector(struct replay *replay, uint64_t offset, const uint8_t *descriptor,
                      const uint8_t *data, uint64_t sequence)
{
    if (memcmp(data, "data", 4) != 0 || load_le32(data + 4) != (uint32_t)(sequence >> 32) ||
        load_le32(data + SECTOR - 4) != (uint32_t)sequence)
        return -EINVAL;
    struct patch *patch = add_patch(replay, offset, SECTOR);
    uint8_t *bytes = patch ? malloc(SECTOR) : NULL;
    if (!bytes)
        return -ENOMEM;
    memcpy(bytes, descriptor + 8, 8);
    memcpy(bytes + 8, data + 8, SECTOR_BYTES);
    memcpy(bytes + SECTOR - 4, descriptor + 4, 4);
    patch->bytes = bytes;
    replay->bytes += SECTOR;
    return 0;
}

// An entry's descriptors; `bytes` is all of it.
static int apply(struct replay *replay, const struct entry *entry, const uint8_t *bytes)
{
    uint64_t data = descriptor_sectors(entry->descriptors) * SECTOR;
    int rc = 0;
    for (uint32_t i = 0; i < entry->descriptors && !rc; i++) {
        const uint8_t *descriptor = bytes + ENTRY_HEADER + (size_t)i * DESCRIPTOR;
        uint64_t offset = load_le64(descriptor + 16), length = load_le64(descriptor + 8);
        bool zeros = memcmp(descriptor, "zero", 4) == 0;
        if ((!zeros && memcmp(descriptor, "desc", 4) != 0) || offset % SECTOR ||
            load_le64(descriptor + 24) != entry->sequence)
            return -EINVAL;
        if (replay->bytes > replay->node.memory_limit / 2)
            return -EFBIG;
        if (zeros) {
            if (length % SECTOR || !range_within(offset, length, FILE_BYTES_MAX))
                return -EINVAL;
            rc = add_patch(replay, offset, length) ? 0 : -ENOMEM;
        } else {
            if (!range_within(offset, SECTOR, FILE_BYTES_MAX) ||
                !range_within(data, SECTOR, entry->length))
                return -EINVAL;
            rc = add_sector(replay, offset, descriptor, bytes + data, entry->sequence);
            data += SECTOR;
        }
    }
    if (!rc && entry->file_bytes > replay->node.size && entry->file_bytes <= FILE_BYTES_MAX)
        replay->node.size = entry->file_bytes;
    return rc;
}

static int apply_all(struct replay *replay, struct ring *ring)
{
    const struct entry *newest = find_newest(ring);
    const struct entry *entry = newest ? entry_at(ring, newest->tail) : NULL;
    int rc = 0;
    while (entry && !rc) {
        copy_out(ring, entry->place, entry->length);
        rc = apply(replay, entry, ring->scratch);
        entry = entry == newest ? NULL : entry_at(ring, entry->place + entry->length);
    }
    return rc;
}

static int replay_log(struct replay *replay, const struct vhdx_log *log)
{
    struct ring ring = {.log = log,
                        .bytes = malloc(log->length),
                        .scratch = malloc(log->length),
                        .at = calloc(log->length / SECTOR, sizeof(struct entry)),
                        .budget = 4 * log->length};
    int rc = ring.bytes && ring.scratch && ring.at ? 0 : -ENOMEM;
    if (!rc)
        rc = block_node_read_buffer(replay->node.next, log->offset, ring.bytes, log->length);
    if (!rc)
        rc = apply_all(replay, &ring);
    free(ring.bytes);
    free(ring.scratch);
    free(ring.at);
    return rc;
}

struct block_node *vhdx_log_replay(struct block_node *file, const struct vhdx_log *log,
                                   struct err *err)
{
    struct replay *replay = (void *)block_node_create(sizeof(*replay), &replay_ops, file);
    if (!replay) {
        err_set(err, ERR_LIMIT, "no memory for a disk");
        return NULL;
    }
    int rc = replay_log(replay, log);
    if (!rc)
        return &replay->node;
    if (rc == -EINVAL)
        err_set(err, ERR_INPUT, "malformed VHDX image: its log");
    else
        err_set_errno(err, -rc, "cannot apply its log");
    err_wrap(err, "'%s'", replay->node.name);
    block_node_close(&replay->node);
    return NULL;
}
