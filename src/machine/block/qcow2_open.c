// SPDX-License-Identifier: Apache-2.0
//
// Opening and closing qcow2 images. Everything that an image makes us allocate is bounded by the
// node's memory limit: the two top-level tables are read whole, the rest is cached.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/big_endian.h"
#include "base/err.h"
#include "machine/block/qcow2.h"

#define BUFFER_BYTES    (4 * MIB)
#define SLICE_BYTES     4096
#define L1_BYTES_MAX    (32 * MIB)
#define TABLE_BYTES_MAX (8 * MIB)

static int qcow2_flush(struct block_node *node)
{
    return qcow2_commit(qcow2_of(node));
}

static int qcow2_finish(struct block_node *node)
{
    struct qcow2 *q = qcow2_of(node);
    if (node->read_only || !q->l1)
        return 0;
    qcow2_bitmaps_save(q);
    int rc = qcow2_commit(q);
    // The commit gave clusters back; their counts are written now, and may be lost at no harm.
    if (!rc)
        rc = qcow2_commit(q);
    return rc ? rc : qcow2_settle(q);
}

static void qcow2_release(struct block_node *node)
{
    struct qcow2 *q = qcow2_of(node);
    meta_cache_fini(&q->l2);
    meta_cache_fini(&q->refblocks);
    block_buffers_fini(&q->cow);
    block_buffers_fini(&q->packed);
    range_locks_fini(&q->ranges);
    pthread_cond_destroy(&q->commit_end);
    pthread_mutex_destroy(&q->lock);
    free(q->l1);
    free(q->l1_dirty);
    free(q->reftable);
    free(q->freed);
    free(q->copies);
    free(q->copy_bytes);
}

static const struct block_ops qcow2_ops = {
    .name = "qcow2",
    .read = qcow2_read,
    .write = qcow2_write,
    .flush = qcow2_flush,
    .discard = qcow2_discard,
    .zero = qcow2_zero,
    .write_compressed = qcow2_write_compressed,
    .populate = qcow2_populate,
    .extent = qcow2_extent,
    .resize = qcow2_resize,
    .keeps_bitmaps = qcow2_keeps_bitmaps,
    .route = qcow2_route,
    .unroute = qcow2_unroute,
    .finish = qcow2_finish,
    .release = qcow2_release,
};

static void set_geometry(struct qcow2 *q)
{
    const struct qcow2_header *h = &q->header;
    q->cluster_bits = h->cluster_bits;
    q->cluster_size = qcow2_cluster_size(h);
    q->extended = h->incompatible & QCOW2_EXTENDED_L2;
    q->entry_bytes = q->extended ? 16 : 8;
    q->l2_bits = q->cluster_bits - (q->extended ? 4 : 3);
    q->refcount_bits = 1u << h->refcount_order;
    q->refcount_max = bits_mask(q->refcount_bits);
    q->refblock_bits = q->cluster_bits + 3 - h->refcount_order;
    q->slice_bytes = q->cluster_size < SLICE_BYTES ? q->cluster_size : SLICE_BYTES;
}

static int read_header(struct block_node *file, struct qcow2_header *header, struct err *err)
{
    uint8_t bytes[QCOW2_HEADER_BYTES_MAX];
    int rc = block_node_read_buffer(file, 0, bytes, sizeof(bytes));
    if (rc)
        return err_set_errno(err, -rc, "cannot read");
    return qcow2_header_decode(bytes, sizeof(bytes), header, err);
}

// May the image be opened so?
static int check_mode(const struct qcow2_header *h, bool read_only, bool repair, struct err *err)
{
    if (read_only)
        return 0;
    if ((h->incompatible & QCOW2_CORRUPT) && !repair)
        return err_set(err, ERR_INPUT,
                       "the image is marked corrupt; open it read-only, or repair it with "
                       "'wirt disk check --repair'");
    if (h->incompatible & QCOW2_EXTENDED_L2)
        return err_set(err, ERR_UNSUPPORTED,
                       "images with extended L2 entries can only be read; convert it first");
    return 0;
}

// A table of big-endian words from the file.
static uint64_t *read_table(struct block_node *file, uint64_t offset, uint64_t entries,
                            struct err *err)
{
    uint64_t *table = calloc(entries + !entries, 8);
    int rc = table ? 0 : -ENOMEM;
    if (!rc && entries)
        rc = block_node_read_buffer(file, offset, table, entries * 8);
    if (rc) {
        err_set_errno(err, -rc, "cannot read its tables");
        free(table);
        return NULL;
    }
    for (uint64_t i = 0; i < entries; i++)
        table[i] = load_be64(&table[i]);
    return table;
}

static int check_reftable(const struct qcow2 *q, uint64_t bytes, uint64_t end, struct err *err)
{
    uint64_t offset = q->header.refcount_table_offset;
    if (!offset || (offset & (q->cluster_size - 1)))
        return err_set(err, ERR_INPUT, "its refcount table is not at a cluster");
    if (bytes > TABLE_BYTES_MAX || bytes > q->node.memory_limit)
        return err_set(err, ERR_LIMIT,
                       "its refcount table is larger than the memory allowed for it");
    if (!range_within(offset, bytes, end))
        return err_set(err, ERR_INPUT, "its refcount table lies beyond the end of the file");
    return 0;
}

static int read_tables(struct qcow2 *q, struct err *err)
{
    const struct qcow2_header *h = &q->header;
    uint64_t limit = q->node.memory_limit, l1_bytes = h->l1_entries * 8ull;
    uint64_t table_bytes = (uint64_t)h->refcount_table_clusters << q->cluster_bits;
    uint64_t end = align_up(q->node.next->size, q->cluster_size);
    if (l1_bytes > L1_BYTES_MAX || l1_bytes > limit)
        return err_set(err, ERR_LIMIT, "its L1 table is larger than the memory allowed for it");
    if (!range_within(h->l1_offset, l1_bytes, end))
        return err_set(err, ERR_INPUT, "its L1 table lies beyond the end of the file");
    // Reading needs no counts, and repairing makes them anew: both go on without.
    bool needed = !q->node.read_only && !q->node.next->repair;
    struct err unusable;
    if (check_reftable(q, table_bytes, end, needed ? err : &unusable)) {
        if (needed)
            return err_wrap(err, "repair it with 'wirt disk check --repair'");
        table_bytes = 0;
    }
    q->l1 = read_table(q->node.next, h->l1_offset, h->l1_entries, err);
    q->reftable_entries = (uint32_t)(table_bytes / 8);
    q->reftable =
        q->l1 ? read_table(q->node.next, h->refcount_table_offset, q->reftable_entries, err) : NULL;
    q->l1_dirty = calloc(h->l1_entries / 64 + 1, 1);
    q->freed = calloc(QCOW2_FREED_MAX, sizeof(*q->freed));
    if (!q->reftable)
        return -1;
    if (!q->l1_dirty || !q->freed ||
        meta_cache_init(&q->l2, q->node.next, q->slice_bytes, limit / 4 * 3) ||
        meta_cache_init(&q->refblocks, q->node.next, q->slice_bytes, limit / 8))
        return err_set(err, ERR_LIMIT, "no memory for its tables");
    return 0;
}

// What must be done to the file before the first write: refcounts that were left inexact are counted anew; what
// others keep in step with the content, and we do not, is declared void.
static int prepare_writing(struct qcow2 *q, struct err *err)
{
    int rc = 0;
    uint64_t kept = q->header.autoclear & QCOW2_BITMAPS_VALID;
    if (q->header.version >= 3 && q->header.autoclear != kept) {
        q->header.autoclear = kept;
        rc = qcow2_write_field64(q, QCOW2_AT_AUTOCLEAR, kept);
    }
    if (rc)
        return err_set_errno(err, -rc, "cannot write");
    if (!(q->header.incompatible & QCOW2_DIRTY) || q->node.repair)
        return 0;
    struct block_check result = {0};
    if (qcow2_check(&q->node, true, &result, err))
        return -1;
    if (result.corruptions)
        return err_set(err, ERR_INPUT,
                       "it was not closed and cannot be repaired; open it read-only");
    return 0;
}

// As many buffers as fit into a few MiB, so that large clusters do not take much more.
static unsigned buffer_count(uint64_t bytes)
{
    uint64_t count = BUFFER_BYTES / bytes;
    return count < 2 ? 2 : count > BLOCK_BUFFERS_MAX ? BLOCK_BUFFERS_MAX : (unsigned)count;
}

static void init(struct qcow2 *q)
{
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->commit_end, NULL);
    range_locks_init(&q->ranges);
    block_buffers_init(&q->cow, buffer_count(2 * q->cluster_size), 2 * q->cluster_size);
    block_buffers_init(&q->packed, buffer_count(3 * q->cluster_size), 3 * q->cluster_size);
}

static int set_up(struct qcow2 *q, struct err *err)
{
    struct block_node *node = &q->node;
    node->size = q->header.size;
    q->zeros_from = node->next->size;
    node->limits.optimal_io_size = (uint32_t)q->cluster_size;
    node->limits.discard_granularity = node->read_only ? 0 : (uint32_t)q->cluster_size;
    node->limits.can_discard = node->limits.can_zero = !node->read_only;
    node->limits.read_only = node->read_only;
    return read_tables(q, err) || (!node->read_only && prepare_writing(q, err)) ||
                   qcow2_bitmaps_load(q, err)
               ? -1
               : 0;
}

struct block_node *qcow2_open(struct block_node *file, bool read_only, struct err *err)
{
    struct qcow2_header *header = calloc(1, sizeof(*header));
    if (!header || read_header(file, header, err) ||
        check_mode(header, read_only, file->repair, err)) {
        err_wrap(err, "'%s'", file->name);
        block_node_close(file);
        free(header);
        return NULL;
    }
    struct qcow2 *q = (void *)block_node_create(sizeof(*q), &qcow2_ops, file);
    if (!q) {
        free(header);
        err_set(err, ERR_LIMIT, "no memory for a disk");
        return NULL;
    }
    q->header = *header;
    q->node.read_only = read_only;
    free(header);
    set_geometry(q);
    init(q);
    if (set_up(q, err)) {
        err_wrap(err, "'%s'", q->node.name);
        q->node.read_only = true; // nothing to write at the end
        block_node_close(&q->node);
        return NULL;
    }
    return &q->node;
}

static bool qcow2_probe(const uint8_t *header, size_t length, const char *name)
{
    return length >= 8 && load_be32(header) == QCOW2_MAGIC && load_be32(header + 4) >= 2;
}

static int qcow2_backing(struct block_node *file, struct block_backing *backing, struct err *err)
{
    struct qcow2_header *header = calloc(1, sizeof(*header));
    if (!header)
        return err_set(err, ERR_LIMIT, "no memory");
    int rc = read_header(file, header, err);
    if (!rc) {
        memcpy(backing->name, header->backing_name, sizeof(backing->name));
        memcpy(backing->format, header->backing_format, sizeof(backing->format));
    }
    free(header);
    return rc;
}

const struct block_format qcow2_format = {
    .name = "qcow2",
    .suffixes = "qcow2 qcow",
    .about = "clusters on demand, snapshots, backing images, compression",
    .can_write = true,
    .probe = qcow2_probe,
    .backing = qcow2_backing,
    .open = qcow2_open,
    .image = &qcow2_image_ops,
};
