// SPDX-License-Identifier: Apache-2.0
//
// Growing and shrinking. A larger L1 table is written to new clusters and synced before the header
// points to it; the size changes last when growing, and after the clusters beyond it are given back
// when shrinking.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/big_endian.h"
#include "base/err.h"
#include "machine/block/qcow2.h"

#define L1_BYTES_MAX (32 * MIB)

static int write_l1(struct qcow2 *q, uint64_t offset, const uint64_t *l1, uint64_t entries)
{
    uint64_t bytes = align_up(entries * 8, q->cluster_size);
    uint8_t *raw = calloc(1, bytes);
    if (!raw)
        return -ENOMEM;
    for (uint64_t i = 0; i < entries; i++)
        store_be64(raw + i * 8, l1[i]);
    int rc = block_node_write_buffer(q->node.next, offset, raw, bytes);
    free(raw);
    return rc ? rc : block_node_flush(q->node.next);
}

// Lock held, nothing else at work. The table in memory was committed before.
int qcow2_l1_grow(struct qcow2 *q, uint64_t entries)
{
    uint32_t old_entries = q->header.l1_entries;
    uint64_t room = align_up(old_entries * 8ull, q->cluster_size) / 8;
    if (entries <= old_entries)
        return 0;
    if (entries * 8 > L1_BYTES_MAX || entries * 8 > q->node.memory_limit)
        return -EFBIG;
    uint64_t *l1 = calloc(entries, 8);
    uint8_t *dirty = calloc(entries / 64 + 1, 1);
    uint64_t offset = 0;
    uint32_t clusters = (uint32_t)qcow2_clusters(q, entries * 8);
    int rc = l1 && dirty ? qcow2_allocate_exactly(q, clusters, &offset) : -ENOMEM;
    if (!rc) {
        memcpy(l1, q->l1, old_entries * 8ull);
        rc = qcow2_commit_locked(q); // the new clusters' counts
    }
    if (!rc)
        rc = write_l1(q, offset, l1, entries);
    uint8_t fields[12]; // entries and offset lie side by side, in one sector
    store_be32(fields, (uint32_t)entries);
    store_be64(fields + 4, offset);
    if (!rc)
        rc = qcow2_switch_header(q, QCOW2_AT_L1_ENTRIES, fields, sizeof(fields));
    if (rc) {
        if (offset && !q->broken)
            qcow2_release_now(q, offset, clusters);
        free(l1);
        free(dirty);
        return rc;
    }
    qcow2_release_now(q, q->header.l1_offset, room * 8 >> q->cluster_bits);
    free(q->l1);
    free(q->l1_dirty);
    q->l1 = l1;
    q->l1_dirty = dirty;
    q->header.l1_entries = (uint32_t)entries;
    q->header.l1_offset = offset;
    return 0;
}

static int set_size(struct qcow2 *q, uint64_t size)
{
    int rc = qcow2_write_field64(q, QCOW2_AT_SIZE, size);
    if (!rc)
        rc = block_node_flush(q->node.next);
    if (!rc) {
        q->header.size = size;
        q->node.size = size;
    }
    return rc;
}

// Where a backing image is longer, its content must not appear in the new part: zeros are there before the file says the new size, so that a kill
// between the two shows neither. Only we know of the new part meanwhile.
static int hide_backing(struct qcow2 *q, uint64_t old, uint64_t size)
{
    struct block_node *backing = q->node.backing;
    if (!backing || backing->size <= old)
        return 0;
    uint64_t end = backing->size < size ? backing->size : size;
    return block_node_zero(&q->node, old, end - old, 0);
}

static int grow(struct qcow2 *q, uint64_t size)
{
    uint64_t per_entry = 1ull << (q->cluster_bits + q->l2_bits), old = q->node.size;
    pthread_mutex_lock(&q->lock);
    int rc = qcow2_commit_locked(q);
    if (!rc)
        rc = qcow2_l1_grow(q, (size + per_entry - 1) / per_entry);
    if (!rc)
        q->node.size = size;
    pthread_mutex_unlock(&q->lock);
    if (!rc)
        rc = hide_backing(q, old, size);
    pthread_mutex_lock(&q->lock);
    if (!rc)
        rc = qcow2_commit_locked(q);
    if (!rc)
        rc = set_size(q, size);
    if (rc)
        q->node.size = old;
    pthread_mutex_unlock(&q->lock);
    return rc;
}

static int shrink(struct qcow2 *q, uint64_t size)
{
    uint64_t start = align_up(size, q->cluster_size);
    int rc = 0;
    if (start < q->node.size)
        rc = qcow2_empty(q, start, q->node.size - start);
    // What stays of the last cluster must be zeros when the disk grows again.
    if (!rc && size < start && size < q->node.size)
        rc = block_node_write_zeros(&q->node, size,
                                    (start < q->node.size ? start : q->node.size) - size);
    pthread_mutex_lock(&q->lock);
    if (!rc)
        rc = qcow2_commit_locked(q);
    if (!rc)
        rc = set_size(q, size);
    pthread_mutex_unlock(&q->lock);
    return rc;
}

int qcow2_resize(struct block_node *node, uint64_t size, struct err *err)
{
    struct qcow2 *q = qcow2_of(node);
    if (size > BIT(62))
        return err_set(err, ERR_USAGE, "'%s': a disk of %llu bytes is too large", node->name,
                       (unsigned long long)size);
    int rc = size > node->size ? grow(q, size) : size < node->size ? shrink(q, size) : 0;
    if (rc == -EFBIG)
        return err_set(err, ERR_LIMIT,
                       "'%s': the image's cluster size is too small for a disk of %llu bytes",
                       node->name, (unsigned long long)size);
    return rc ? err_set_errno(err, -rc, "cannot resize '%s'", node->name) : 0;
}
