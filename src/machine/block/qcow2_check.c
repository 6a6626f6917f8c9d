// SPDX-License-Identifier: Apache-2.0
//
// Checking an image: count every reference that its tables make, compare with the refcounts that it keeps.
//
// A count that is too small is a corruption (the cluster could be given to somebody else), one that is too large
// a leak. Repair writes the true counts: leaks alone are lowered where they stand; otherwise a whole new refcount
// table and blocks are written behind everything in use and the header is switched to them, which
// works however damaged the old ones were. Then the COPIED flags are made to agree.
//
// The counting needs four bytes for each cluster of the file, within the memory limit.
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/big_endian.h"
#include "base/err.h"
#include "machine/block/qcow2.h"

#define FINDINGS_MAX 100

struct check {
    struct qcow2 *q;
    struct block_check *result;
    uint32_t *counts; // owned: true references of each host cluster
    uint64_t clusters;
    uint8_t *table; // owned: one cluster
    unsigned findings;
};

__attribute__((format(printf, 2, 3))) static void finding(struct check *c, const char *format, ...)
{
    if (!c->result->report || c->findings++ >= FINDINGS_MAX)
        return;
    char text[160];
    va_list arguments;
    va_start(arguments, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is right above
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    c->result->report(c->result->user, text);
}

// One reference to each cluster of [offset, offset + bytes) of the file.
static void refer(struct check *c, uint64_t offset, uint64_t bytes, const char *what)
{
    uint64_t first = offset >> c->q->cluster_bits,
             last = (offset + bytes - 1) >> c->q->cluster_bits;
    if (!bytes)
        return;
    if (last >= c->clusters || last < first) {
        c->result->corruptions++;
        finding(c, "%s lies outside the file, at 0x%llx", what, (unsigned long long)offset);
        return;
    }
    for (uint64_t i = first; i <= last; i++)
        c->counts[i]++;
}

static bool aligned(struct check *c, uint64_t offset, const char *what)
{
    if (!(offset & (c->q->cluster_size - 1)))
        return true;
    c->result->corruptions++;
    finding(c, "%s is not at a cluster: 0x%llx", what, (unsigned long long)offset);
    return false;
}

// ---- References of the tables

static void check_l2_entry(struct check *c, uint64_t entry, bool active)
{
    uint64_t offset = entry & QCOW2_OFFSET_MASK, bytes;
    if (entry & QCOW2_COMPRESSED) {
        qcow2_packed_place(c->q, entry, &offset, &bytes);
        // The last sector may be beyond the end of the file: it is padding.
        uint64_t end = c->clusters << c->q->cluster_bits;
        if (offset < end && bytes > end - offset)
            bytes = end - offset;
        refer(c, offset, bytes, "a compressed cluster");
        c->result->compressed += active;
        c->result->allocated += active;
        if (entry & QCOW2_COPIED) {
            c->result->corruptions++;
            finding(c, "a compressed cluster at 0x%llx is flagged as its own",
                    (unsigned long long)offset);
        }
    } else if (offset && aligned(c, offset, "a data cluster")) {
        refer(c, offset, c->q->cluster_size, "a data cluster");
        c->result->allocated += active;
    }
}

static int check_tree(struct check *c, const uint64_t *l1, uint32_t entries, bool active)
{
    struct qcow2 *q = c->q;
    for (uint32_t i = 0; i < entries; i++) {
        uint64_t table = l1[i] & QCOW2_OFFSET_MASK;
        if (!table || !aligned(c, table, "an L2 table"))
            continue;
        uint64_t before = c->result->corruptions;
        refer(c, table, q->cluster_size, "an L2 table");
        if (c->result->corruptions != before)
            continue;
        int rc = block_node_read_buffer(q->node.next, table, c->table, q->cluster_size);
        if (rc)
            return rc;
        for (uint64_t at = 0; at < q->cluster_size; at += q->entry_bytes)
            check_l2_entry(c, load_be64(c->table + at), active);
    }
    return 0;
}

static int check_snapshots(struct check *c)
{
    struct qcow2 *q = c->q;
    struct qcow2_snapshot *list;
    uint64_t bytes;
    int rc = qcow2_snapshots_read(q, &list, &bytes);
    if (rc == -EINVAL) {
        c->result->corruptions++;
        finding(c, "the snapshot table is damaged");
        return 0;
    }
    if (!rc && bytes)
        refer(c, q->header.snapshot_offset, bytes, "the snapshot table");
    for (uint32_t i = 0; i < q->header.snapshot_count && !rc; i++) {
        uint64_t *l1;
        if (!qcow2_l1_covers(&q->header, list[i].l1_entries, list[i].disk_bytes)) {
            c->result->corruptions++;
            finding(c, "the L1 table of snapshot %s is too small for its disk", list[i].id);
        }
        rc = qcow2_snapshot_l1(q, &list[i], &l1);
        if (rc == -EINVAL) {
            c->result->corruptions++;
            finding(c, "the L1 table of snapshot %s is damaged", list[i].id);
            rc = 0;
            continue;
        }
        uint64_t l1_bytes = list[i].l1_entries * 8ull;
        refer(c, list[i].l1_offset, l1_bytes, "a snapshot's L1 table");
        if (!rc)
            rc = check_tree(c, l1, list[i].l1_entries, false);
        free(l1);
    }
    free(list);
    return rc;
}

// Bitmaps are known by their references only: directory, tables, data.
static int check_bitmaps(struct check *c)
{
    struct qcow2 *q = c->q;
    const struct qcow2_header *h = &q->header;
    if (!h->bitmap_count || !(h->autoclear & QCOW2_BITMAPS_VALID))
        return 0;
    uint64_t bytes = h->bitmap_directory_bytes;
    if (bytes > MIB || !range_within(h->bitmap_directory_offset, bytes, q->node.next->size)) {
        c->result->corruptions++;
        finding(c, "the bitmap directory is damaged");
        return 0;
    }
    refer(c, h->bitmap_directory_offset, bytes, "the bitmap directory");
    uint8_t *directory = malloc(bytes + 1);
    int rc = directory ? block_node_read_buffer(q->node.next, h->bitmap_directory_offset, directory,
                                                bytes)
                       : -ENOMEM;
    for (uint64_t at = 0; at + 24 <= bytes && !rc;) {
        uint64_t table = load_be64(directory + at), entries = load_be32(directory + at + 8);
        uint64_t length =
            24 + load_be16(directory + at + 18) + (uint64_t)load_be32(directory + at + 20);
        refer(c, table, entries * 8, "a bitmap's table");
        for (uint64_t i = 0; i < entries && !rc; i++) {
            uint8_t raw[8];
            if (!range_within(table, (i + 1) * 8, q->node.next->size))
                break;
            rc = block_node_read_buffer(q->node.next, table + i * 8, raw, 8);
            uint64_t data = load_be64(raw) & QCOW2_OFFSET_MASK;
            if (data && aligned(c, data, "a bitmap's data"))
                refer(c, data, q->cluster_size, "a bitmap's data");
        }
        at += align_up(length, 8);
    }
    free(directory);
    return rc;
}

static int count_references(struct check *c)
{
    struct qcow2 *q = c->q;
    const struct qcow2_header *h = &q->header;
    refer(c, 0, q->cluster_size, "the header");
    refer(c, h->l1_offset, h->l1_entries * 8ull, "the L1 table");
    refer(c, h->refcount_table_offset, (uint64_t)h->refcount_table_clusters << q->cluster_bits,
          "the refcount table");
    int rc = check_tree(c, q->l1, h->l1_entries, true);
    if (!rc)
        rc = check_snapshots(c);
    return rc ? rc : check_bitmaps(c);
}

// ---- Comparison

// The refcount blocks themselves; *sound: they can be used to write counts where they stand.
static void count_blocks(struct check *c, bool *sound)
{
    struct qcow2 *q = c->q;
    for (uint32_t i = 0; i < q->reftable_entries; i++) {
        uint64_t before = c->result->corruptions;
        if (q->reftable[i] && aligned(c, q->reftable[i], "a refcount block"))
            refer(c, q->reftable[i], q->cluster_size, "a refcount block");
        if (q->reftable[i] && c->result->corruptions == before &&
            c->counts[q->reftable[i] >> q->cluster_bits] != 1) {
            c->result->corruptions++;
            finding(c, "the refcount block at 0x%llx is used for something else too",
                    (unsigned long long)q->reftable[i]);
        }
        *sound &= c->result->corruptions == before;
    }
}

// Where the block of a cluster is unusable, its count is taken as zero.
static uint64_t kept_count(struct qcow2 *q, uint64_t cluster, const uint8_t *block)
{
    uint64_t count = 0;
    if (block)
        qcow2_count_read(q, block, cluster & bits_mask(q->refblock_bits), &count);
    return count;
}

static int compare_region(struct check *c, uint64_t region, bool *sound)
{
    struct qcow2 *q = c->q;
    uint64_t block = region < q->reftable_entries ? q->reftable[region] : 0;
    bool usable =
        block && !(block & (q->cluster_size - 1)) && block >> q->cluster_bits < c->clusters;
    int rc = usable ? block_node_read_buffer(q->node.next, block, c->table, q->cluster_size) : 0;
    uint64_t first = region << q->refblock_bits, end = first + (1ull << q->refblock_bits);
    for (uint64_t i = first; i < end && !rc; i++) {
        uint64_t kept = kept_count(q, i, usable ? c->table : NULL),
                 is = i < c->clusters ? c->counts[i] : 0;
        if (kept == is)
            continue;
        if (kept < is) {
            c->result->corruptions++;
            *sound = false;
        } else {
            c->result->leaks++;
        }
        finding(c, "%s: cluster at 0x%llx is used %llu times, counted %llu",
                kept < is ? "error" : "leak", (unsigned long long)i << q->cluster_bits,
                (unsigned long long)is, (unsigned long long)kept);
    }
    return rc;
}

static int compare_counts(struct check *c, bool *sound)
{
    struct qcow2 *q = c->q;
    uint64_t regions = ((c->clusters - 1) >> q->refblock_bits) + 1;
    int rc = 0;
    if (regions < q->reftable_entries)
        regions = q->reftable_entries;
    for (uint64_t region = 0; region < regions && !rc; region++) {
        bool any = region < q->reftable_entries && q->reftable[region];
        if (any || (region << q->refblock_bits) < c->clusters)
            rc = compare_region(c, region, sound);
    }
    return rc;
}

static void check_flag(struct check *c, uint64_t entry, const char *what)
{
    uint64_t offset = entry & QCOW2_OFFSET_MASK, cluster = offset >> c->q->cluster_bits;
    if (!offset || (entry & QCOW2_COMPRESSED) || cluster >= c->clusters)
        return;
    bool own = c->counts[cluster] == 1, flagged = entry & QCOW2_COPIED;
    if (own && !flagged) {
        c->result->needless_copies++;
    } else if (flagged && !own) {
        c->result->corruptions++;
        finding(c, "%s at 0x%llx is flagged as its own, but used %u times", what,
                (unsigned long long)offset, c->counts[cluster]);
    }
}

static int check_flags(struct check *c)
{
    struct qcow2 *q = c->q;
    for (uint32_t i = 0; i < q->header.l1_entries; i++) {
        uint64_t table = q->l1[i] & QCOW2_OFFSET_MASK;
        check_flag(c, q->l1[i], "an L2 table");
        if (!table || table >> q->cluster_bits >= c->clusters || (table & (q->cluster_size - 1)))
            continue;
        int rc = block_node_read_buffer(q->node.next, table, c->table, q->cluster_size);
        if (rc)
            return rc;
        for (uint64_t at = 0; at < q->cluster_size; at += q->entry_bytes)
            check_flag(c, load_be64(c->table + at), "a data cluster");
    }
    return 0;
}

// ---- Repair

static int lower_leaks(struct check *c)
{
    struct qcow2 *q = c->q;
    int rc = 0;
    for (uint64_t i = 0; i < (uint64_t)q->reftable_entries << q->refblock_bits && !rc; i++) {
        if (!q->reftable[i >> q->refblock_bits]) {
            i |= bits_mask(q->refblock_bits);
            continue;
        }
        uint64_t kept, is = i < c->clusters ? c->counts[i] : 0;
        if (meta_cache_crowded(&q->refblocks))
            rc = qcow2_write_refblocks(q);
        if (!rc)
            rc = qcow2_refcount_get(q, i, &kept);
        if (!rc && kept > is)
            rc = qcow2_refcount_set(q, i, is);
    }
    if (!rc)
        rc = qcow2_write_refblocks(q);
    return rc;
}

static int write_rebuilt_blocks(struct check *c, uint64_t first, uint64_t blocks, uint64_t used)
{
    struct qcow2 *q = c->q;
    int rc = 0;
    for (uint64_t b = 0; b < blocks && !rc; b++) {
        memset(c->table, 0, q->cluster_size);
        for (uint64_t i = 0; i < 1ull << q->refblock_bits; i++) {
            uint64_t cluster = (b << q->refblock_bits) + i;
            uint64_t count = cluster < c->clusters ? c->counts[cluster] : 0;
            if (cluster >= first && cluster < first + used)
                count = 1;
            if (count > q->refcount_max)
                return -EMLINK;
            qcow2_count_write(q, c->table, i, count);
        }
        rc = block_node_write_buffer(q->node.next, (first + b) << q->cluster_bits, c->table,
                                     q->cluster_size);
    }
    return rc;
}

// Where nothing lies from there on: a file's end, but a block device has no other end than the last cluster in use.
static uint64_t first_behind(const struct check *c)
{
    uint64_t first = c->clusters;
    while (!c->q->node.next->grows && first && !c->counts[first - 1])
        first--;
    return first;
}

// New blocks and table from cluster `first` on, behind all that is in use; then the header.
static int rebuild(struct check *c)
{
    struct qcow2 *q = c->q;
    uint64_t first = first_behind(c), blocks = 1, table = 1;
    while (blocks << q->refblock_bits < first + blocks + table) {
        blocks = ((first + blocks + table - 1) >> q->refblock_bits) + 1;
        table = qcow2_clusters(q, blocks * 8);
    }
    uint64_t entries = table * q->cluster_size / 8, offset = (first + blocks) << q->cluster_bits;
    uint64_t *reftable = calloc(entries, 8);
    uint8_t *raw = calloc(entries, 8);
    int rc = reftable && raw ? write_rebuilt_blocks(c, first, blocks, blocks + table) : -ENOMEM;
    for (uint64_t b = 0; b < blocks && !rc; b++) {
        reftable[b] = (first + b) << q->cluster_bits;
        store_be64(raw + b * 8, reftable[b]);
    }
    if (!rc)
        rc = block_node_write_buffer(q->node.next, offset, raw, entries * 8);
    if (!rc)
        rc = block_node_flush(q->node.next);
    uint8_t fields[12];
    store_be64(fields, offset);
    store_be32(fields + 8, (uint32_t)table);
    if (!rc)
        rc = qcow2_switch_header(q, QCOW2_AT_REFCOUNT_TABLE_OFFSET, fields, sizeof(fields));
    free(raw);
    if (rc) {
        free(reftable);
        return rc;
    }
    for (uint32_t i = 0; i < q->reftable_entries; i++)
        meta_cache_forget(&q->refblocks, q->reftable[i], q->cluster_size);
    free(q->reftable);
    q->reftable = reftable;
    q->reftable_entries = (uint32_t)entries;
    q->header.refcount_table_offset = offset;
    q->header.refcount_table_clusters = (uint32_t)table;
    if (q->zeros_from < q->node.next->size)
        q->zeros_from = q->node.next->size;
    return 0;
}

static int repair(struct check *c, bool sound)
{
    struct qcow2 *q = c->q;
    q->broken = false;
    int rc = sound ? (c->result->leaks ? lower_leaks(c) : 0) : rebuild(c);
    q->free_hint = 0;
    q->compressed_at = 0;
    return rc ? rc : qcow2_flags_set(q, NULL);
}

// The marks go when the image deserves it.
static int clear_marks(struct qcow2 *q)
{
    uint64_t cleared = q->header.incompatible & ~(uint64_t)(QCOW2_DIRTY | QCOW2_CORRUPT);
    if (q->header.version < 3 || cleared == q->header.incompatible)
        return 0;
    q->header.incompatible = cleared;
    int rc = qcow2_write_field64(q, QCOW2_AT_INCOMPATIBLE, cleared);
    return rc ? rc : block_node_flush(q->node.next);
}

static int examine(struct check *c, bool *sound)
{
    memset(c->counts, 0, c->clusters * sizeof(*c->counts));
    *sound = true;
    int rc = count_references(c);
    if (!rc)
        count_blocks(c, sound);
    if (!rc)
        rc = compare_counts(c, sound);
    return rc ? rc : check_flags(c);
}

static int check_locked(struct check *c, bool fix)
{
    struct qcow2 *q = c->q;
    struct block_check *r = c->result;
    bool sound;
    int rc = fix ? qcow2_commit_locked(q) : 0;
    if (!rc && !q->node.read_only)
        rc = qcow2_write_refblocks(q); // lazy ones are in memory only
    if (!rc)
        rc = examine(c, &sound);
    uint64_t found = r->corruptions + r->leaks + r->needless_copies;
    if (rc || !fix)
        return rc;
    if (found)
        rc = repair(c, sound);
    if (rc)
        return rc;
    // Once more, over what the repair added: what is left could not be repaired.
    free(c->counts);
    c->clusters = qcow2_clusters(q, q->node.next->size);
    c->counts = calloc(c->clusters, sizeof(*c->counts));
    r->corruptions = r->leaks = r->needless_copies = r->allocated = r->compressed = 0;
    r->report = NULL;
    rc = c->counts ? examine(c, &sound) : -ENOMEM;
    if (!rc && !sound) { // a rebuild whose old blocks were in the way
        rc = repair(c, sound);
    }
    if (!rc && r->leaks)
        rc = repair(c, true);
    if (!rc && r->leaks + r->corruptions) {
        r->corruptions = r->leaks = r->needless_copies = r->allocated = r->compressed = 0;
        rc = examine(c, &sound);
    }
    uint64_t left = r->corruptions + r->leaks + r->needless_copies;
    r->fixed = found > left ? found - left : 0;
    return rc || r->corruptions ? rc : clear_marks(q);
}

int qcow2_check(struct block_node *node, bool fix, struct block_check *result, struct err *err)
{
    struct qcow2 *q = qcow2_of(node);
    struct check c = {.q = q, .result = result, .clusters = qcow2_clusters(q, node->next->size)};
    uint64_t limit = result->memory_limit ? result->memory_limit : node->memory_limit;
    result->clusters = qcow2_clusters(q, node->size);
    if (fix && node->read_only)
        return err_set(err, ERR_DENIED, "'%s' is open for reading only", node->name);
    if (c.clusters * sizeof(*c.counts) > limit)
        return err_set(err, ERR_LIMIT, "checking '%s' needs more memory than is allowed",
                       node->name);
    c.counts = calloc(c.clusters + 1, sizeof(*c.counts));
    c.table = malloc(q->cluster_size);
    struct range_lock range;
    pthread_mutex_lock(&q->lock);
    range_lock_take(&q->ranges, &q->lock, &range, 0, UINT64_MAX, true);
    int rc = c.counts && c.table ? check_locked(&c, fix) : -ENOMEM;
    range_lock_release(&q->ranges, &range);
    pthread_mutex_unlock(&q->lock);
    free(c.counts);
    free(c.table);
    return rc ? err_set_errno(err, -rc, "cannot check '%s'", node->name) : 0;
}
