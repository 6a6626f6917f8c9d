// SPDX-License-Identifier: Apache-2.0
//
// L1 and L2. The L1 table is in memory; L2 tables are seen through slices in a cache. A lookup
// returns a whole run: as many clusters of equal kind with contiguous host bytes as one slice
// tells.
//
// Every entry comes from the file and is not trusted: an offset must be aligned and inside what a
// file may be, or the image is marked corrupt and the request fails.
#include <errno.h>
#include <string.h>

#include "base/big_endian.h"
#include "machine/block/qcow2.h"

#define LOG_MODULE "qcow2"
#include "base/log.h"

#define SUBCLUSTERS 32

int qcow2_corrupt(struct qcow2 *q, const char *what, uint64_t at)
{
    if (!q->broken)
        log_error("'%s' is corrupt: %s at 0x%llx; no more is written to it", q->node.name, what,
                  (unsigned long long)at);
    if (!q->broken && !q->node.read_only && q->header.version >= 3) {
        q->header.incompatible |= QCOW2_CORRUPT;
        qcow2_write_field64(q, QCOW2_AT_INCOMPATIBLE, q->header.incompatible);
    }
    q->broken = true;
    return -EIO;
}

static uint32_t l1_index(const struct qcow2 *q, uint64_t offset)
{
    return (uint32_t)(offset >> (q->cluster_bits + q->l2_bits));
}

static uint64_t l2_index(const struct qcow2 *q, uint64_t offset)
{
    return (offset >> q->cluster_bits) & bits_mask(q->l2_bits);
}

void qcow2_l1_set(struct qcow2 *q, uint32_t index, uint64_t value)
{
    q->l1[index] = value;
    q->l1_dirty_count += !q->l1_dirty[index / 64];
    q->l1_dirty[index / 64] = 1;
}

// The slice that holds the entry of `offset` in the table at `table`, and the entry's index in it.
static int slice_of(struct qcow2 *q, uint64_t table, uint64_t offset, struct meta_slot **slot,
                    unsigned *index)
{
    uint64_t byte = l2_index(q, offset) * q->entry_bytes;
    *index = (unsigned)((byte & (q->slice_bytes - 1)) / q->entry_bytes);
    return meta_cache_get(&q->l2, table + align_down(byte, q->slice_bytes), slot);
}

static bool slice_in_memory(struct qcow2 *q, uint64_t table, uint64_t offset)
{
    uint64_t byte = l2_index(q, offset) * q->entry_bytes;
    return meta_cache_peek(&q->l2, table + align_down(byte, q->slice_bytes));
}

static bool offset_is_sane(const struct qcow2 *q, uint64_t offset)
{
    return offset && !(offset & (q->cluster_size - 1));
}

static unsigned slice_entries(const struct qcow2 *q)
{
    return (unsigned)(q->slice_bytes / q->entry_bytes);
}

// ---- Lookup

// What one piece (a cluster, or a subcluster of an extended entry) is.
static enum qcow2_kind piece_kind(const struct qcow2 *q, uint64_t entry, uint64_t bitmap,
                                  unsigned sub, uint64_t *host)
{
    *host = entry & QCOW2_OFFSET_MASK;
    if (entry & QCOW2_COMPRESSED)
        return QCOW2_PACKED;
    if (q->extended) {
        if (bitmap & BIT(32 + sub))
            return QCOW2_ZEROS;
        return (bitmap & BIT(sub)) ? QCOW2_DATA : QCOW2_UNALLOCATED;
    }
    if (q->header.version >= 3 && (entry & QCOW2_ZERO))
        return QCOW2_ZEROS;
    return *host ? QCOW2_DATA : QCOW2_UNALLOCATED;
}

static int check_entry(struct qcow2 *q, uint64_t entry, enum qcow2_kind kind, uint64_t at)
{
    uint64_t host = entry & QCOW2_OFFSET_MASK;
    if (kind == QCOW2_DATA && !offset_is_sane(q, host))
        return qcow2_corrupt(q, "an L2 entry points to no cluster, guest offset", at);
    if (kind == QCOW2_ZEROS && host && !offset_is_sane(q, host))
        return qcow2_corrupt(q, "an L2 entry points to no cluster, guest offset", at);
    return 0;
}

// Walk pieces from `offset` on while they continue the run.
static int walk(struct qcow2 *q, const uint8_t *slice, unsigned index, uint64_t offset,
                uint64_t length, struct qcow2_run *run)
{
    unsigned piece_bits = q->extended ? q->cluster_bits - 5 : q->cluster_bits;
    uint64_t piece_bytes = 1ull << piece_bits, at = offset, end = offset + length;
    bool first = true;
    while (at < end && index < slice_entries(q)) {
        const uint8_t *raw = slice + (size_t)index * q->entry_bytes;
        uint64_t entry = load_be64(raw), bitmap = q->extended ? load_be64(raw + 8) : 0, host;
        unsigned sub = q->extended ? (unsigned)((at & (q->cluster_size - 1)) >> piece_bits) : 0;
        enum qcow2_kind kind = piece_kind(q, entry, bitmap, sub, &host);
        int rc = check_entry(q, entry, kind, at);
        if (rc)
            return rc;
        uint64_t here = host ? host + (at & (q->cluster_size - 1)) : 0;
        bool in_place = kind == QCOW2_DATA && (entry & QCOW2_COPIED);
        if (first)
            *run = (struct qcow2_run){.kind = kind,
                                      .host = kind == QCOW2_PACKED ? 0 : here,
                                      .entry = entry,
                                      .in_place = in_place};
        else if (kind != run->kind || kind == QCOW2_PACKED || in_place != run->in_place ||
                 (run->host ? here != run->host + (at - offset) : here != 0))
            break;
        first = false;
        uint64_t step = align_down(at, piece_bytes) + piece_bytes - at;
        // A compressed cluster is one piece, whatever its size.
        if (kind == QCOW2_PACKED)
            step = align_down(at, q->cluster_size) + q->cluster_size - at;
        at += step;
        index += !(at & (q->cluster_size - 1));
    }
    run->length = (at < end ? at : end) - offset;
    return 0;
}

static int lookup(struct qcow2 *q, uint64_t offset, uint64_t length, bool cached,
                  struct qcow2_run *run)
{
    uint64_t covered = 1ull << (q->cluster_bits + q->l2_bits);
    uint64_t left = covered - (offset & (covered - 1));
    if (length > left)
        length = left;
    uint64_t table = q->l1[l1_index(q, offset)] & QCOW2_OFFSET_MASK;
    if (!table) {
        *run = (struct qcow2_run){.kind = QCOW2_UNALLOCATED, .length = length};
        return 0;
    }
    if (!offset_is_sane(q, table))
        return qcow2_corrupt(q, "an L1 entry points to no cluster, index", l1_index(q, offset));
    struct meta_slot *slot;
    unsigned index;
    if (cached && !slice_in_memory(q, table, offset))
        return -EAGAIN;
    int rc = slice_of(q, table, offset, &slot, &index);
    return rc ? rc : walk(q, slot->data, index, offset, length, run);
}

int qcow2_lookup(struct qcow2 *q, uint64_t offset, uint64_t length, struct qcow2_run *run)
{
    return lookup(q, offset, length, false, run);
}

int qcow2_lookup_cached(struct qcow2 *q, uint64_t offset, uint64_t length, struct qcow2_run *run)
{
    return lookup(q, offset, length, true, run);
}

// ---- Change

// A new table: all zeros, or a copy of the one that a snapshot still uses.
static int table_for_write(struct qcow2 *q, uint32_t l1, uint64_t *table)
{
    uint64_t old = q->l1[l1] & QCOW2_OFFSET_MASK;
    *table = old;
    if (old && (q->l1[l1] & QCOW2_COPIED))
        return offset_is_sane(q, old)
                   ? 0
                   : qcow2_corrupt(q, "an L1 entry points to no cluster, index", l1);
    uint32_t got;
    bool zeros;
    int rc = qcow2_allocate(q, 1, table, &got, &zeros);
    if (rc)
        return rc;
    meta_cache_forget(&q->l2, *table, q->cluster_size);
    void *copy = block_buffers_get(&q->cow);
    if (!copy)
        rc = -ENOMEM;
    else if (old)
        rc = block_node_read_buffer(q->node.next, old, copy, q->cluster_size);
    else
        memset(copy, 0, q->cluster_size);
    // Written before the sync of the commit that links it.
    if (!rc)
        rc = block_node_write_buffer(q->node.next, *table, copy, q->cluster_size);
    block_buffers_put(&q->cow, copy);
    if (rc) {
        qcow2_release_now(q, *table, 1);
        return rc;
    }
    if (old)
        qcow2_release_later(q, old, 1);
    qcow2_l1_set(q, l1, *table | QCOW2_COPIED);
    return 0;
}

int qcow2_entry_for_write(struct qcow2 *q, uint64_t offset, struct meta_slot **slot,
                          unsigned *index)
{
    uint64_t table;
    int rc = table_for_write(q, l1_index(q, offset), &table);
    return rc ? rc : slice_of(q, table, offset, slot, index);
}

int qcow2_set_entries(struct qcow2 *q, uint64_t offset, unsigned count, uint64_t value)
{
    struct meta_slot *slot;
    unsigned index;
    int rc = qcow2_entry_for_write(q, offset, &slot, &index);
    if (rc)
        return rc;
    bool advances = (value & QCOW2_OFFSET_MASK) && !(value & QCOW2_COMPRESSED);
    for (unsigned i = 0; i < count; i++) {
        uint8_t *raw = slot->data + (size_t)(index + i) * q->entry_bytes;
        uint64_t old = load_be64(raw);
        store_be64(raw, value);
        // The same cluster with other flags keeps its reference.
        bool kept = advances && !(old & QCOW2_COMPRESSED) && !((old ^ value) & QCOW2_OFFSET_MASK);
        if (!kept)
            qcow2_release_entry(q, old);
        if (advances)
            value += q->cluster_size;
    }
    meta_cache_mark_dirty(&q->l2, slot);
    return 0;
}

bool qcow2_overlaps_tables(const struct qcow2 *q, uint64_t offset, uint64_t length)
{
    const struct {
        uint64_t start, length;
    } tables[] = {
        {0, q->cluster_size},
        {q->header.l1_offset, (uint64_t)q->header.l1_entries * 8},
        {q->header.refcount_table_offset,
         (uint64_t)q->header.refcount_table_clusters << q->cluster_bits},
        {q->header.snapshot_offset, q->header.snapshot_count ? q->cluster_size : 0},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(tables); i++) {
        if (offset < tables[i].start + tables[i].length && tables[i].start < offset + length)
            return true;
    }
    return false;
}
