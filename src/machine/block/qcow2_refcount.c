// SPDX-License-Identifier: Apache-2.0
//
// Reference counts and allocation. Counts live in refcount blocks, found through the refcount
// table. Space is handed out first fit from `free_hint` up, which below the end of the file costs a
// scan of the counts once.
//
// A part of the file that has no refcount block yet is wholly free: the block that describes it is
// put at its first cluster. A block is written and synced before the table points to it, and a
// grown table before the header points to it, so these rare steps are safe by themselves;
// everything else is ordered by commits.
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/big_endian.h"
#include "machine/block/qcow2.h"

#define HOST_BYTES_MAX (1ull << 55) // offsets have 56 bits

// ---- Counts in a slice

void qcow2_count_read(const struct qcow2 *q, const uint8_t *slice, uint64_t index, uint64_t *count)
{
    switch (q->refcount_bits) {
    case 8:
        *count = slice[index];
        break;
    case 16:
        *count = load_be16(slice + index * 2);
        break;
    case 32:
        *count = load_be32(slice + index * 4);
        break;
    case 64:
        *count = load_be64(slice + index * 8);
        break;
    default: { // 1, 2, 4: the lowest bits are the first entry
        uint64_t bit = index * q->refcount_bits;
        *count = (slice[bit / 8] >> (bit % 8)) & bits_mask(q->refcount_bits);
    }
    }
}

void qcow2_count_write(const struct qcow2 *q, uint8_t *slice, uint64_t index, uint64_t count)
{
    switch (q->refcount_bits) {
    case 8:
        slice[index] = (uint8_t)count;
        break;
    case 16:
        store_be16(slice + index * 2, (uint16_t)count);
        break;
    case 32:
        store_be32(slice + index * 4, (uint32_t)count);
        break;
    case 64:
        store_be64(slice + index * 8, count);
        break;
    default: {
        uint64_t bit = index * q->refcount_bits;
        uint8_t mask = (uint8_t)(bits_mask(q->refcount_bits) << (bit % 8));
        slice[bit / 8] = (uint8_t)((slice[bit / 8] & ~mask) | (count << (bit % 8)));
    }
    }
}

static uint64_t slice_counts(const struct qcow2 *q)
{
    return q->slice_bytes * 8 / q->refcount_bits;
}

// The slice with the cluster's count. *slot is NULL when no refcount block covers it.
static int count_slot(struct qcow2 *q, uint64_t cluster, struct meta_slot **slot, uint64_t *index)
{
    uint64_t region = cluster >> q->refblock_bits;
    *slot = NULL;
    *index = 0;
    if (region >= q->reftable_entries || !q->reftable[region])
        return 0;
    uint64_t block = q->reftable[region];
    if (block & (q->cluster_size - 1))
        return qcow2_corrupt(q, "a refcount block is not at a cluster, index", region);
    uint64_t within = cluster & bits_mask(q->refblock_bits);
    *index = within % slice_counts(q);
    return meta_cache_get(&q->refblocks, block + within / slice_counts(q) * q->slice_bytes, slot);
}

int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *count)
{
    struct meta_slot *slot;
    uint64_t index;
    *count = 0;
    int rc = count_slot(q, cluster, &slot, &index);
    if (!rc && slot)
        qcow2_count_read(q, slot->data, index, count);
    return rc;
}

int qcow2_refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
    struct meta_slot *slot;
    uint64_t index;
    int rc = count_slot(q, cluster, &slot, &index);
    if (rc || !slot)
        return rc;
    qcow2_count_write(q, slot->data, index, count);
    meta_cache_mark_dirty(&q->refblocks, slot);
    return 0;
}

int qcow2_refcount_add(struct qcow2 *q, uint64_t cluster, int delta)
{
    struct meta_slot *slot;
    uint64_t index, count;
    int rc = count_slot(q, cluster, &slot, &index);
    if (rc)
        return rc;
    if (!slot)
        return qcow2_corrupt(q, "a used cluster has no refcount, offset",
                             cluster << q->cluster_bits);
    qcow2_count_read(q, slot->data, index, &count);
    if (delta < 0 && count < (uint64_t)-delta)
        return qcow2_corrupt(q, "a refcount would fall below zero, offset",
                             cluster << q->cluster_bits);
    if (delta > 0 && q->refcount_max - count < (uint64_t)delta)
        return -EMLINK;
    count += (uint64_t)(int64_t)delta;
    qcow2_count_write(q, slot->data, index, count);
    meta_cache_mark_dirty(&q->refblocks, slot);
    if (!count && cluster < q->free_hint)
        q->free_hint = cluster;
    return 0;
}

// ---- New refcount blocks

// A block for `region` at its first cluster, counting itself and `more` clusters after it.
static int write_block(struct qcow2 *q, uint64_t offset, uint64_t from, uint64_t ones)
{
    uint8_t *block = block_buffers_get(&q->cow);
    if (!block)
        return -ENOMEM;
    memset(block, 0, q->cluster_size);
    for (uint64_t i = from; i < from + ones; i++)
        qcow2_count_write(q, block, i, 1);
    int rc = block_node_write_buffer(q->node.next, offset, block, q->cluster_size);
    block_buffers_put(&q->cow, block);
    meta_cache_forget(&q->refblocks, offset, q->cluster_size);
    return rc;
}

static void used_up_to(struct qcow2 *q, uint64_t offset)
{
    if (offset > q->zeros_from)
        q->zeros_from = offset;
}

static int add_block(struct qcow2 *q, uint64_t region)
{
    uint64_t offset = (region << q->refblock_bits) << q->cluster_bits;
    int rc = write_block(q, offset, 0, 1);
    if (!rc)
        rc = block_node_flush(q->node.next);
    uint8_t raw[8];
    store_be64(raw, offset);
    if (!rc)
        rc = block_node_write_buffer(q->node.next, q->header.refcount_table_offset + region * 8,
                                     raw, 8);
    if (!rc) {
        q->reftable[region] = offset;
        q->allocated = true;
        used_up_to(q, offset + q->cluster_size);
    }
    return rc;
}

// Write a table of `entries` at `offset` and make the header point to it.
static int switch_table(struct qcow2 *q, const uint64_t *table, uint64_t entries, uint64_t offset)
{
    uint64_t clusters = entries * 8 >> q->cluster_bits;
    uint8_t *raw = malloc(entries * 8);
    if (!raw)
        return -ENOMEM;
    for (uint64_t i = 0; i < entries; i++)
        store_be64(raw + i * 8, table[i]);
    int rc = block_node_write_buffer(q->node.next, offset, raw, entries * 8);
    free(raw);
    if (!rc)
        rc = block_node_flush(q->node.next);
    uint8_t fields[12]; // one sector: both change or neither
    store_be64(fields, offset);
    store_be32(fields + 8, (uint32_t)clusters);
    if (!rc)
        rc = qcow2_switch_header(q, QCOW2_AT_REFCOUNT_TABLE_OFFSET, fields, sizeof(fields));
    return rc;
}

// A larger refcount table, with as many blocks as it takes to count itself and them, all from the
// first cluster of `region` on, where the file is free.
static int grow_table(struct qcow2 *q, uint64_t region)
{
    uint64_t first = region << q->refblock_bits, per_block = 1ull << q->refblock_bits;
    uint64_t blocks = 1, clusters, entries;
    for (;;) {
        entries = align_up(region + blocks + region / 2 + 1, q->cluster_size / 8);
        clusters = entries * 8 >> q->cluster_bits;
        if (blocks * per_block >= blocks + clusters)
            break;
        blocks++;
    }
    if (entries * 8 > q->node.memory_limit || clusters > UINT32_MAX)
        return -EFBIG;
    uint64_t *table = calloc(entries, 8);
    if (!table)
        return -ENOMEM;
    memcpy(table, q->reftable, q->reftable_entries * 8ull);
    int rc = 0;
    for (uint64_t i = 0; i < blocks && !rc; i++) {
        uint64_t ones = blocks + clusters - i * per_block;
        table[region + i] = (first + i) << q->cluster_bits;
        rc = write_block(q, table[region + i], 0, ones < per_block ? ones : per_block);
    }
    uint64_t offset = (first + blocks) << q->cluster_bits;
    if (!rc)
        rc = switch_table(q, table, entries, offset);
    if (rc) {
        free(table);
        return rc;
    }
    uint64_t old_offset = q->header.refcount_table_offset;
    uint32_t old_clusters = q->header.refcount_table_clusters;
    free(q->reftable);
    q->reftable = table;
    q->reftable_entries = (uint32_t)entries;
    q->header.refcount_table_offset = offset;
    q->header.refcount_table_clusters = (uint32_t)clusters;
    q->allocated = true;
    used_up_to(q, offset + (clusters << q->cluster_bits));
    qcow2_release_now(q, old_offset, old_clusters); // durable already: nothing points there
    return 0;
}

static int add_region(struct qcow2 *q, uint64_t region)
{
    uint64_t start = (region << q->refblock_bits) << q->cluster_bits;
    if (qcow2_overlaps_tables(q, start, q->cluster_size))
        return qcow2_corrupt(q, "the refcounts call a table free, offset", start);
    return region < q->reftable_entries ? add_block(q, region) : grow_table(q, region);
}

// ---- Allocation

// The length of the free run at `cluster`, at most `want`, in one slice. *next: where to look on.
static int free_run(struct qcow2 *q, uint64_t cluster, uint64_t want, uint64_t *run, uint64_t *next)
{
    struct meta_slot *slot;
    uint64_t index, count;
    int rc = count_slot(q, cluster, &slot, &index);
    if (rc)
        return rc;
    *run = 0;
    *next = cluster;
    if (!slot)
        return add_region(q, cluster >> q->refblock_bits);
    for (; index < slice_counts(q) && *run < want; index++) {
        qcow2_count_read(q, slot->data, index, &count);
        if (count && *run)
            break;
        *run += !count;
        (*next)++;
    }
    if (*run)
        *next -= *run;
    return 0;
}

static int take_run(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        int rc = qcow2_refcount_add(q, cluster + i, 1);
        if (rc) {
            qcow2_release_now(q, cluster << q->cluster_bits, i);
            return rc;
        }
    }
    return 0;
}

int qcow2_allocate(struct qcow2 *q, uint32_t want, uint64_t *offset, uint32_t *got, bool *zeros)
{
    uint64_t cluster = q->free_hint, run = 0;
    while (!run) {
        if (cluster >= HOST_BYTES_MAX >> q->cluster_bits)
            return -EFBIG;
        int rc = free_run(q, cluster, want, &run, &cluster);
        if (rc)
            return rc;
    }
    int rc = take_run(q, cluster, run);
    if (rc)
        return rc;
    *offset = cluster << q->cluster_bits;
    *got = (uint32_t)run;
    if (qcow2_overlaps_tables(q, *offset, run << q->cluster_bits))
        return qcow2_corrupt(q, "the refcounts call a table free, offset", *offset);
    *zeros = q->node.grows && *offset >= q->zeros_from;
    used_up_to(q, *offset + (run << q->cluster_bits));
    q->free_hint = cluster + run;
    q->allocated = true;
    return 0;
}

int qcow2_allocate_exactly(struct qcow2 *q, uint32_t want, uint64_t *offset)
{
    uint64_t cluster = q->free_hint, start = cluster, have = 0;
    while (have < want) {
        uint64_t run, at = cluster;
        if (cluster >= HOST_BYTES_MAX >> q->cluster_bits)
            return -EFBIG;
        int rc = free_run(q, cluster, want - have, &run, &at);
        if (rc)
            return rc;
        if (at != cluster || !run) { // something used, or a new block, lies between
            have = 0;
            start = at;
        }
        have += run;
        cluster = at + run;
    }
    int rc = take_run(q, start, want);
    if (rc)
        return rc;
    *offset = start << q->cluster_bits;
    if (qcow2_overlaps_tables(q, *offset, (uint64_t)want << q->cluster_bits))
        return qcow2_corrupt(q, "the refcounts call a table free, offset", *offset);
    used_up_to(q, *offset + ((uint64_t)want << q->cluster_bits));
    q->allocated = true;
    return 0;
}

// ---- Giving back

void qcow2_release_now(struct qcow2 *q, uint64_t offset, uint64_t count)
{
    // A count that cannot be lowered is a leak, which check finds; the image stays sound.
    for (uint64_t i = 0; i < count; i++)
        (void)qcow2_refcount_add(q, (offset >> q->cluster_bits) + i, -1);
}

void qcow2_release_later(struct qcow2 *q, uint64_t offset, uint32_t count)
{
    uint64_t cluster = offset >> q->cluster_bits;
    assert(q->freed);
    // The runs that the running commit gives back are not touched.
    struct qcow2_freed *last =
        q->freed_count > q->freeing_count ? &q->freed[q->freed_count - 1] : NULL;
    if (last && last->cluster + last->count == cluster && last->punch == q->punch)
        last->count += count;
    else if (q->freed_count < QCOW2_FREED_MAX)
        q->freed[q->freed_count++] = (struct qcow2_freed){cluster, count, q->punch};
    // else: a leak. qcow2_lock_room() sees to it that this does not happen.
}

void qcow2_release_freed(struct qcow2 *q, const struct qcow2_freed *freed)
{
    for (uint32_t i = 0; i < freed->count; i++) {
        uint64_t cluster = freed->cluster + i, count;
        if (qcow2_refcount_add(q, cluster, -1) || qcow2_refcount_get(q, cluster, &count) || count)
            continue;
        if (q->compressed_at >> q->cluster_bits == cluster)
            q->compressed_at = 0;
        if (freed->punch)
            (void)block_node_discard(q->node.next, cluster << q->cluster_bits, q->cluster_size);
    }
}

void qcow2_packed_place(const struct qcow2 *q, uint64_t entry, uint64_t *offset, uint64_t *bytes)
{
    unsigned offset_bits = 62 - (q->cluster_bits - 8);
    uint64_t sectors = ((entry >> offset_bits) & bits_mask(q->cluster_bits - 8)) + 1;
    *offset = entry & bits_mask(offset_bits);
    *bytes = sectors * 512 - (*offset & 511);
}

void qcow2_release_entry(struct qcow2 *q, uint64_t entry)
{
    if (entry & QCOW2_COMPRESSED) {
        uint64_t offset, bytes;
        qcow2_packed_place(q, entry, &offset, &bytes);
        uint64_t first = offset >> q->cluster_bits, last = (offset + bytes - 1) >> q->cluster_bits;
        for (uint64_t cluster = first; cluster <= last; cluster++)
            qcow2_release_later(q, cluster << q->cluster_bits, 1);
    } else if (entry & QCOW2_OFFSET_MASK) {
        qcow2_release_later(q, entry & QCOW2_OFFSET_MASK, 1);
    }
}
