// SPDX-License-Identifier: Apache-2.0
//
// Internal snapshots: a copy of the L1 table, with everything it reaches counted once more.
//
// Each step below is durable before the next, in an order in which a kill leaves leaks at the most:
//     create   clear COPIED flags; raise counts; write the L1 copy and a new snapshot table; switch the header
//     delete   write a snapshot table without it; switch the header; lower counts; set COPIED flags
//     apply    raise the snapshot's counts; write a copy of its L1; switch the header; lower the old counts
// Meanwhile a range lock on the whole disk keeps requests away.
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/big_endian.h"
#include "base/err.h"
#include "machine/block/bitmap.h"
#include "machine/block/qcow2.h"

#define SNAPSHOTS_MAX   65536
#define TABLE_BYTES_MAX (16 * MIB)
#define L1_BYTES_MAX    (32 * MIB)
#define FIXED_BYTES     40
#define EXTRA_BYTES     24 // VM state size, disk size, instruction count

// ---- The table

static int decode(const uint8_t *at, uint64_t left, struct qcow2_snapshot *s, uint64_t current_size)
{
    if (left < FIXED_BYTES)
        return -EINVAL;
    uint32_t id = load_be16(at + 12), name = load_be16(at + 14), extra = load_be32(at + 36);
    uint64_t length = FIXED_BYTES + (uint64_t)extra + id + name;
    if (extra > 1024 || length > left || id >= sizeof(s->id) || name >= sizeof(s->name))
        return -EINVAL;
    *s = (struct qcow2_snapshot){
        .l1_offset = load_be64(at),
        .l1_entries = load_be32(at + 8),
        .date_s = load_be32(at + 16),
        .date_ns = load_be32(at + 20),
        .clock_ns = load_be64(at + 24),
        .vm_bytes = extra >= 8 ? load_be64(at + 40) : load_be32(at + 32),
        .disk_bytes = extra >= 16 ? load_be64(at + 48) : current_size,
        .instructions = extra >= 24 ? load_be64(at + 56) : UINT64_MAX,
        .table_bytes = align_up(length, 8),
    };
    memcpy(s->id, at + FIXED_BYTES + extra, id);
    memcpy(s->name, at + FIXED_BYTES + extra + id, name);
    return 0;
}

static uint64_t encoded_bytes(const struct qcow2_snapshot *s)
{
    return align_up(FIXED_BYTES + EXTRA_BYTES + strlen(s->id) + strlen(s->name), 8);
}

static void encode(uint8_t *at, const struct qcow2_snapshot *s)
{
    store_be64(at, s->l1_offset);
    store_be32(at + 8, s->l1_entries);
    store_be16(at + 12, (uint16_t)strlen(s->id));
    store_be16(at + 14, (uint16_t)strlen(s->name));
    store_be32(at + 16, s->date_s);
    store_be32(at + 20, s->date_ns);
    store_be64(at + 24, s->clock_ns);
    store_be32(at + 32, s->vm_bytes > UINT32_MAX ? 0 : (uint32_t)s->vm_bytes);
    store_be32(at + 36, EXTRA_BYTES);
    store_be64(at + 40, s->vm_bytes);
    store_be64(at + 48, s->disk_bytes);
    store_be64(at + 56, s->instructions);
    memcpy(at + FIXED_BYTES + EXTRA_BYTES, s->id, strlen(s->id));
    memcpy(at + FIXED_BYTES + EXTRA_BYTES + strlen(s->id), s->name, strlen(s->name));
}

int qcow2_snapshots_read(struct qcow2 *q, struct qcow2_snapshot **list, uint64_t *table_bytes)
{
    uint32_t count = q->header.snapshot_count;
    *list = NULL;
    *table_bytes = 0;
    if (!count)
        return 0;
    uint64_t file = q->node.next->size, start = q->header.snapshot_offset;
    uint64_t room = start < file ? file - start : 0;
    if (room > TABLE_BYTES_MAX)
        room = TABLE_BYTES_MAX;
    if (count > SNAPSHOTS_MAX || count * (uint64_t)FIXED_BYTES > room)
        return -EINVAL;
    if (room > count * 2048ull) // more than its entries can take
        room = count * 2048ull;
    uint8_t *raw = malloc(room + 1);
    *list = calloc(count, sizeof(**list));
    int rc = raw && *list ? block_node_read_buffer(q->node.next, start, raw, room) : -ENOMEM;
    for (uint32_t i = 0; i < count && !rc; i++) {
        uint64_t at = *table_bytes;
        rc = decode(raw + at, at < room ? room - at : 0, &(*list)[i], q->header.size);
        *table_bytes += (*list)[i].table_bytes;
        if (*table_bytes > room && i + 1 < count)
            rc = -EINVAL;
    }
    free(raw);
    if (rc) {
        free(*list);
        *list = NULL;
    }
    return rc;
}

int qcow2_snapshot_l1(struct qcow2 *q, const struct qcow2_snapshot *snapshot, uint64_t **l1)
{
    uint64_t bytes = snapshot->l1_entries * 8ull, mask = q->cluster_size - 1;
    *l1 = NULL;
    if (bytes > L1_BYTES_MAX || bytes > q->node.memory_limit || (snapshot->l1_offset & mask) ||
        !range_within(snapshot->l1_offset, bytes, q->node.next->size))
        return -EINVAL;
    uint64_t *table = malloc(bytes + 8);
    int rc = table ? 0 : -ENOMEM;
    if (!rc && bytes)
        rc = block_node_read_buffer(q->node.next, snapshot->l1_offset, table, bytes);
    for (uint32_t i = 0; i < snapshot->l1_entries && !rc; i++)
        table[i] = load_be64(&table[i]);
    if (rc)
        free(table);
    else
        *l1 = table;
    return rc;
}

// Write a table with these snapshots to new clusters and make the header point to it. The old one's clusters
// are given back.
static int switch_snapshots(struct qcow2 *q, const struct qcow2_snapshot *list, uint32_t count,
                            uint64_t old_bytes)
{
    uint64_t bytes = 0, offset = 0, old_offset = q->header.snapshot_offset;
    for (uint32_t i = 0; i < count; i++)
        bytes += encoded_bytes(&list[i]);
    uint64_t clusters = qcow2_clusters(q, bytes);
    uint8_t *raw = calloc(1, (clusters << q->cluster_bits) + 1);
    int rc = raw ? 0 : -ENOMEM;
    if (!rc && count)
        rc = qcow2_allocate_exactly(q, (uint32_t)clusters, &offset);
    for (uint64_t i = 0, at = 0; i < count && !rc; at += encoded_bytes(&list[i++]))
        encode(raw + at, &list[i]);
    if (!rc && count)
        rc = block_node_write_buffer(q->node.next, offset, raw, clusters << q->cluster_bits);
    free(raw);
    if (!rc)
        rc = qcow2_commit_locked(q); // counts and table
    uint8_t fields[12];              // count and offset lie side by side, in one sector
    store_be32(fields, count);
    store_be64(fields + 4, offset);
    if (!rc)
        rc = qcow2_switch_header(q, QCOW2_AT_SNAPSHOT_COUNT, fields, sizeof(fields));
    if (rc) {
        if (offset && !q->broken)
            qcow2_release_now(q, offset, clusters);
        return rc;
    }
    q->header.snapshot_count = count;
    q->header.snapshot_offset = offset;
    if (old_offset)
        qcow2_release_now(q, old_offset, qcow2_clusters(q, old_bytes));
    return 0;
}

// ---- References of a whole tree

struct walk {
    int delta;
    uint64_t done;  // references changed so far
    uint64_t limit; // stop there
};

#define WALK_STOPPED 1

static int count_host(struct qcow2 *q, uint64_t offset, uint64_t bytes, struct walk *w)
{
    uint64_t first = offset >> q->cluster_bits, last = (offset + bytes - 1) >> q->cluster_bits;
    for (uint64_t cluster = first; cluster <= last; cluster++, w->done++) {
        int rc = meta_cache_crowded(&q->refblocks) ? qcow2_write_refblocks(q) : 0;
        if (w->done == w->limit)
            return WALK_STOPPED;
        if (!rc && w->delta > 0)
            rc = qcow2_refcount_add(q, cluster, 1);
        else if (!rc)
            qcow2_release_freed(q, &(struct qcow2_freed){cluster, 1, true});
        if (rc)
            return rc;
    }
    return 0;
}

static int count_entry(struct qcow2 *q, uint64_t entry, struct walk *w)
{
    uint64_t offset = entry & QCOW2_OFFSET_MASK, bytes = 1;
    if (entry & QCOW2_COMPRESSED)
        qcow2_packed_place(q, entry, &offset, &bytes);
    return offset ? count_host(q, offset, bytes, w) : 0;
}

static int count_table(struct qcow2 *q, uint64_t table, struct walk *w)
{
    int rc = 0;
    for (uint64_t at = 0; at < q->cluster_size && !rc; at += q->slice_bytes) {
        struct meta_slot *slot;
        uint8_t slice[4096];
        rc = meta_cache_get(&q->l2, table + at, &slot);
        if (!rc)
            memcpy(slice, slot->data, q->slice_bytes);
        for (size_t i = 0; i < q->slice_bytes && !rc; i += q->entry_bytes)
            rc = count_entry(q, load_be64(slice + i), w);
    }
    return rc;
}

static int walk_tree(struct qcow2 *q, const uint64_t *l1, uint32_t entries, struct walk *w)
{
    int rc = 0;
    for (uint32_t i = 0; i < entries && !rc; i++) {
        uint64_t table = l1[i] & QCOW2_OFFSET_MASK;
        if (!table)
            continue;
        if (table & (q->cluster_size - 1))
            return qcow2_corrupt(q, "an L1 entry points to no cluster, index", i);
        rc = count_table(q, table, w);
        if (!rc)
            rc = count_host(q, table, 1, w);
    }
    return rc;
}

// Everything that an L1 table reaches, one reference more or less. What could be raised only in part (a count is
// at its maximum) is lowered again.
static int count_tree(struct qcow2 *q, const uint64_t *l1, uint32_t entries, int delta)
{
    struct walk w = {.delta = delta, .limit = UINT64_MAX};
    int rc = walk_tree(q, l1, entries, &w);
    if (rc && delta > 0) {
        struct walk back = {.delta = -1, .limit = w.done};
        (void)walk_tree(q, l1, entries, &back);
        (void)qcow2_flags_set(q, NULL);
    }
    if (!rc)
        rc = qcow2_write_refblocks(q);
    return rc ? rc : block_node_flush(q->node.next);
}

static int write_l1(struct qcow2 *q, const uint64_t *l1, uint32_t entries, uint64_t *offset)
{
    uint64_t clusters = qcow2_clusters(q, entries * 8ull);
    if (!clusters) { // a disk of no bytes
        *offset = 0;
        return 0;
    }
    uint8_t *raw = calloc(clusters, q->cluster_size);
    int rc = raw ? qcow2_allocate_exactly(q, (uint32_t)clusters, offset) : -ENOMEM;
    for (uint32_t i = 0; i < entries && !rc; i++)
        store_be64(raw + i * 8ull, l1[i] & ~QCOW2_COPIED);
    if (!rc)
        rc = block_node_write_buffer(q->node.next, *offset, raw, clusters << q->cluster_bits);
    free(raw);
    return rc;
}

// ---- Create, delete, apply

static struct qcow2_snapshot *find(struct qcow2_snapshot *list, uint32_t count, const char *name)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(list[i].name, name) == 0)
            return &list[i];
    }
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(list[i].id, name) == 0)
            return &list[i];
    }
    return NULL;
}

static void new_id(const struct qcow2_snapshot *list, uint32_t count, char *id, size_t size)
{
    unsigned long highest = 0;
    for (uint32_t i = 0; i < count; i++) {
        unsigned long n = strtoul(list[i].id, NULL, 10);
        highest = n > highest ? n : highest;
    }
    snprintf(id, size, "%lu", highest + 1);
}

static int create(struct qcow2 *q, struct qcow2_snapshot *list, uint64_t table_bytes,
                  const char *name, uint64_t date_s)
{
    uint32_t count = q->header.snapshot_count;
    struct qcow2_snapshot *longer = calloc(count + 1ull, sizeof(*longer));
    if (!longer)
        return -ENOMEM;
    if (count)
        memcpy(longer, list, count * sizeof(*longer));
    struct qcow2_snapshot *s = &longer[count];
    *s = (struct qcow2_snapshot){.l1_entries = q->header.l1_entries,
                                 .date_s = (uint32_t)date_s,
                                 .disk_bytes = q->header.size,
                                 .instructions = UINT64_MAX};
    new_id(list, count, s->id, sizeof(s->id));
    snprintf(s->name, sizeof(s->name), "%s", name);
    int rc = qcow2_flags_clear(q);
    if (!rc)
        rc = count_tree(q, q->l1, q->header.l1_entries, 1);
    if (!rc)
        rc = write_l1(q, q->l1, q->header.l1_entries, &s->l1_offset);
    if (!rc)
        rc = switch_snapshots(q, longer, count + 1, table_bytes);
    free(longer);
    return rc;
}

static int drop(struct qcow2 *q, struct qcow2_snapshot *list, uint64_t table_bytes,
                struct qcow2_snapshot *s)
{
    uint32_t count = q->header.snapshot_count;
    struct qcow2_snapshot gone = *s;
    uint64_t *l1;
    int rc = qcow2_snapshot_l1(q, s, &l1);
    if (rc)
        return rc;
    memmove(s, s + 1, (size_t)(list + count - (s + 1)) * sizeof(*s));
    rc = switch_snapshots(q, list, count - 1, table_bytes);
    if (!rc)
        rc = count_tree(q, l1, gone.l1_entries, -1);
    uint64_t clusters = qcow2_clusters(q, gone.l1_entries * 8ull);
    if (!rc)
        qcow2_release_now(q, gone.l1_offset, clusters);
    free(l1);
    return rc ? rc : qcow2_flags_set(q, NULL);
}

// The header's size, L1 entries and L1 offset lie in one sector and change together.
static int switch_l1(struct qcow2 *q, uint64_t size, uint32_t entries, uint64_t offset)
{
    uint8_t fields[24] = {0};
    store_be64(fields, size);
    store_be32(fields + (QCOW2_AT_L1_ENTRIES - QCOW2_AT_SIZE), entries);
    store_be64(fields + (QCOW2_AT_L1_OFFSET - QCOW2_AT_SIZE), offset);
    return qcow2_switch_header(q, QCOW2_AT_SIZE, fields, sizeof(fields));
}

static int apply(struct qcow2 *q, const struct qcow2_snapshot *s)
{
    uint64_t *l1, offset = 0;
    if (!qcow2_l1_covers(&q->header, s->l1_entries, s->disk_bytes))
        return -EINVAL;
    int rc = qcow2_snapshot_l1(q, s, &l1);
    if (rc)
        return rc;
    uint8_t *dirty = calloc(s->l1_entries / 64 + 1, 1);
    rc = dirty ? count_tree(q, l1, s->l1_entries, 1) : -ENOMEM;
    if (!rc)
        rc = write_l1(q, l1, s->l1_entries, &offset);
    if (!rc)
        rc = qcow2_commit_locked(q);
    if (!rc)
        rc = switch_l1(q, s->disk_bytes, s->l1_entries, offset);
    if (rc) {
        free(l1);
        free(dirty);
        return rc;
    }
    uint64_t *old = q->l1, old_offset = q->header.l1_offset;
    uint32_t old_entries = q->header.l1_entries;
    for (uint32_t i = 0; i < s->l1_entries; i++)
        l1[i] &= ~QCOW2_COPIED;
    free(q->l1_dirty);
    q->l1 = l1;
    q->l1_dirty = dirty;
    q->header.l1_entries = s->l1_entries;
    q->header.l1_offset = offset;
    q->header.size = s->disk_bytes;
    q->node.size = s->disk_bytes;
    rc = count_tree(q, old, old_entries, -1);
    uint64_t clusters = qcow2_clusters(q, old_entries * 8ull);
    if (!rc && old_offset)
        qcow2_release_now(q, old_offset, clusters);
    free(old);
    return rc ? rc : qcow2_flags_set(q, NULL);
}

// ---- The operations

struct whole_disk {
    struct range_lock range;
    struct qcow2_snapshot *list;
    uint64_t table_bytes;
};

static int begin(struct qcow2 *q, struct whole_disk *w)
{
    pthread_mutex_lock(&q->lock);
    range_lock_take(&q->ranges, &q->lock, &w->range, 0, UINT64_MAX, true);
    w->list = NULL;
    int rc = q->broken ? -EIO : qcow2_commit_locked(q);
    return rc ? rc : qcow2_snapshots_read(q, &w->list, &w->table_bytes);
}

static void end(struct qcow2 *q, struct whole_disk *w)
{
    range_lock_release(&q->ranges, &w->range);
    pthread_mutex_unlock(&q->lock);
    free(w->list);
}

static int check_writable(struct qcow2 *q, struct err *err)
{
    if (q->node.read_only)
        return err_set(err, ERR_DENIED, "'%s' is open for reading only", q->node.name);
    return 0;
}

static int failed(struct qcow2 *q, const char *what, const char *name, int rc, struct err *err)
{
    if (rc == -ENOENT)
        return err_set(err, ERR_NOT_FOUND, "'%s' has no snapshot '%s'", q->node.name, name);
    if (rc == -EMLINK)
        return err_set(err, ERR_LIMIT,
                       "cannot %s snapshot '%s' of '%s': its refcounts of %u bits allow no more",
                       what, name, q->node.name, q->refcount_bits);
    return rc ? err_set_errno(err, -rc, "cannot %s snapshot '%s' of '%s'", what, name, q->node.name)
              : 0;
}

int qcow2_snapshot_list(struct block_node *node, struct block_snapshot *list, int max,
                        struct err *err)
{
    struct qcow2 *q = qcow2_of(node);
    struct qcow2_snapshot *all;
    uint64_t bytes;
    pthread_mutex_lock(&q->lock);
    int count = (int)q->header.snapshot_count;
    int rc = qcow2_snapshots_read(q, &all, &bytes);
    pthread_mutex_unlock(&q->lock);
    if (rc)
        return err_set_errno(err, -rc, "cannot read the snapshots of '%s'", node->name);
    for (int i = 0; i < count && i < max; i++) {
        list[i] = (struct block_snapshot){
            .date_s = all[i].date_s, .disk_bytes = all[i].disk_bytes, .vm_bytes = all[i].vm_bytes};
        memcpy(list[i].id, all[i].id, sizeof(list[i].id));
        memcpy(list[i].name, all[i].name, sizeof(list[i].name));
    }
    free(all);
    return count;
}

int qcow2_snapshot_create(struct block_node *node, const char *name, uint64_t date_s,
                          struct err *err)
{
    struct qcow2 *q = qcow2_of(node);
    if (check_writable(q, err))
        return -1;
    if (!name[0] || strlen(name) >= sizeof(((struct qcow2_snapshot *)0)->name))
        return err_set(err, ERR_USAGE, "a snapshot's name has 1 to 255 bytes");
    if (q->refcount_max < 2)
        return err_set(err, ERR_UNSUPPORTED,
                       "'%s' has refcounts of one bit, which allow no snapshots", node->name);
    struct whole_disk w;
    int rc = begin(q, &w);
    bool exists = !rc && find(w.list, q->header.snapshot_count, name);
    if (!rc && !exists)
        rc = q->header.snapshot_count < SNAPSHOTS_MAX
                 ? create(q, w.list, w.table_bytes, name, date_s)
                 : -ENOSPC;
    end(q, &w);
    if (exists)
        return err_set(err, ERR_EXISTS, "'%s' has a snapshot '%s' already", node->name, name);
    return failed(q, "create", name, rc, err);
}

int qcow2_snapshot_delete(struct block_node *node, const char *name, struct err *err)
{
    struct qcow2 *q = qcow2_of(node);
    struct whole_disk w;
    if (check_writable(q, err))
        return -1;
    int rc = begin(q, &w);
    struct qcow2_snapshot *s = rc ? NULL : find(w.list, q->header.snapshot_count, name);
    if (!rc)
        rc = s ? drop(q, w.list, w.table_bytes, s) : -ENOENT;
    end(q, &w);
    return failed(q, "delete", name, rc, err);
}

int qcow2_snapshot_apply(struct block_node *node, const char *name, struct err *err)
{
    struct qcow2 *q = qcow2_of(node);
    struct whole_disk w;
    if (check_writable(q, err))
        return -1;
    int rc = begin(q, &w);
    struct qcow2_snapshot *s = rc ? NULL : find(w.list, q->header.snapshot_count, name);
    if (!rc)
        rc = s ? apply(q, s) : -ENOENT;
    end(q, &w);
    for (struct block_bitmap *b = node->bitmaps; b && !rc; b = b->next)
        rc = block_bitmap_resize(b, node->size);
    block_bitmap_mark_all(node->bitmaps, 0, node->size);
    return failed(q, "apply", name, rc, err);
}

int qcow2_snapshot_view(struct block_node *node, const char *name, struct err *err)
{
    struct qcow2 *q = qcow2_of(node);
    struct qcow2_snapshot *list = NULL;
    uint64_t bytes, *l1 = NULL;
    assert(node->read_only);
    pthread_mutex_lock(&q->lock);
    int rc = qcow2_snapshots_read(q, &list, &bytes);
    const struct qcow2_snapshot *s = rc ? NULL : find(list, q->header.snapshot_count, name);
    if (!rc && !s)
        rc = -ENOENT;
    if (!rc && !qcow2_l1_covers(&q->header, s->l1_entries, s->disk_bytes))
        rc = -EINVAL;
    if (!rc)
        rc = qcow2_snapshot_l1(q, s, &l1);
    if (!rc) {
        free(q->l1);
        q->l1 = l1;
        q->header.l1_entries = s->l1_entries;
        q->node.size = s->disk_bytes;
    }
    pthread_mutex_unlock(&q->lock);
    free(list);
    return failed(q, "read", name, rc, err);
}
