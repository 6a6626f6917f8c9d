// SPDX-License-Identifier: Apache-2.0
//
// A new qcow2 image: header, refcount table, refcount blocks and L1 table, one after another from
// the file's start, each counted in the blocks. The header is written last, so that an unfinished
// file is not an image.
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/big_endian.h"
#include "base/err.h"
#include "machine/block/block_image.h"
#include "machine/block/image_formats.h"
#include "machine/block/qcow2.h"
#include "os/file.h"

#define CLUSTER_USUAL (64 * KIB)
#define L1_BYTES_MAX  (32 * MIB)
#define SPARSE_BYTES  4096

static int fill_header(struct qcow2_header *h, const struct block_create *c, struct err *err)
{
    uint32_t cluster = c->cluster_size ? c->cluster_size : CLUSTER_USUAL;
    unsigned bits = c->refcount_bits ? c->refcount_bits : 16;
    bool zstd = c->compression && strcmp(c->compression, "zstd") == 0;
    if (!is_power_of_two(cluster) || cluster < 512 || cluster > 2 * MIB)
        return err_set(err, ERR_USAGE,
                       "a cluster of %u bytes: it must be a power of two from 512 to 2M", cluster);
    if (!is_power_of_two(bits) || bits > 64)
        return err_set(err, ERR_USAGE, "refcounts of %u bits: it must be a power of two up to 64",
                       bits);
    if (c->compression && !zstd && strcmp(c->compression, "zlib") != 0)
        return err_set(err, ERR_USAGE, "there is no compression '%s': it must be zlib or zstd",
                       c->compression);
    *h = (struct qcow2_header){.version = c->version ? c->version : 3, .size = c->size};
    if (h->version != 2 && h->version != 3)
        return err_set(err, ERR_USAGE, "there is no qcow2 version %u: it must be 2 or 3",
                       h->version);
    if (h->version == 2 && (bits != 16 || zstd || c->lazy_refcounts))
        return err_set(err, ERR_USAGE,
                       "qcow2 version 2 has only 16-bit refcounts that are not lazy, and zlib");
    h->cluster_bits = (uint32_t)__builtin_ctz(cluster);
    h->refcount_order = (uint32_t)__builtin_ctz(bits);
    h->compression = zstd ? QCOW2_ZSTD : QCOW2_ZLIB;
    h->incompatible = zstd ? QCOW2_COMPRESSION_TYPE : 0;
    h->compatible = c->lazy_refcounts ? QCOW2_LAZY_REFCOUNTS : 0;
    if (c->backing) {
        if (strlen(c->backing) > QCOW2_BACKING_NAME_MAX ||
            strlen(c->backing_format) >= sizeof(h->backing_format))
            return err_set(err, ERR_USAGE, "the backing file's name is too long");
        memcpy(h->backing_name, c->backing, strlen(c->backing) + 1);
        memcpy(h->backing_format, c->backing_format, strlen(c->backing_format) + 1);
    }
    return 0;
}

// Clusters: 0 header, then the refcount table, the blocks, the L1 table.
struct layout {
    uint64_t table, blocks, l1;
};

static int lay_out(struct qcow2_header *h, struct layout *layout, struct err *err)
{
    unsigned bits = h->cluster_bits;
    assert(bits >= 9);
    uint64_t per_l1 = 1ull << (2 * bits - 3), entries = (h->size + per_l1 - 1) / per_l1;
    if (entries * 8 > L1_BYTES_MAX)
        return err_set(
            err, ERR_USAGE,
            "a disk of %llu bytes is too large for clusters of %llu; use larger clusters",
            (unsigned long long)h->size, (unsigned long long)qcow2_cluster_size(h));
    uint64_t per_block = 1ull << (bits + 3 - h->refcount_order);
    uint64_t l1 = (entries * 8 + bits_mask(bits)) >> bits;
    *layout = (struct layout){1, 1, l1};
    while (layout->blocks * per_block < 1 + layout->table + layout->blocks + layout->l1) {
        layout->blocks++;
        layout->table = (layout->blocks * 8 + bits_mask(bits)) >> bits;
    }
    h->l1_entries = (uint32_t)entries;
    h->refcount_table_offset = 1ull << bits;
    h->refcount_table_clusters = (uint32_t)layout->table;
    h->l1_offset = l1 ? (1 + layout->table + layout->blocks) << bits : 0;
    return 0;
}

// A new file is zeros all over: what is zero need not be written, and takes no space.
static int write_sparsely(struct block_node *file, uint64_t offset, const uint8_t *bytes,
                          uint64_t length)
{
    int rc = 0;
    for (uint64_t at = 0, n; at < length && !rc; at += n) {
        n = length - at < SPARSE_BYTES ? length - at : SPARSE_BYTES;
        if (!file->grows || !block_memory_is_zero(bytes + at, n))
            rc = block_node_write_buffer(file, offset + at, bytes + at, n);
    }
    return rc;
}

// Table and blocks as they stand in the file: `used` clusters have count one.
static int write_counts(struct block_node *file, const struct qcow2_header *h,
                        const struct layout *layout)
{
    uint64_t cluster = qcow2_cluster_size(h),
             used = 1 + layout->table + layout->blocks + layout->l1;
    uint64_t bytes = (layout->table + layout->blocks) * cluster;
    assert(bytes);
    uint8_t *tables = calloc(1, bytes);
    if (!tables)
        return -ENOMEM;
    for (uint64_t i = 0; i < layout->blocks; i++)
        store_be64(tables + i * 8, (1 + layout->table + i) * cluster);
    struct qcow2 counts = {.refcount_bits = 1u << h->refcount_order};
    for (uint64_t i = 0; i < used; i++) // blocks follow one another, so that they are one array
        qcow2_count_write(&counts, tables + layout->table * cluster, i, 1);
    int rc = write_sparsely(file, cluster, tables, bytes);
    free(tables);
    return rc;
}

static int write_image(struct block_node *file, const struct qcow2_header *h,
                       const struct layout *layout)
{
    uint64_t cluster = qcow2_cluster_size(h);
    uint8_t *bytes = calloc(1, cluster);
    if (!bytes)
        return -ENOMEM;
    uint64_t end = (1 + layout->table + layout->blocks + layout->l1) * cluster;
    int rc = write_counts(file, h, layout);
    if (!rc && file->grows)
        rc = block_node_resize(file, end, NULL) ? -EIO : 0;
    else if (!rc)
        rc = block_node_write_zeros(file, h->l1_offset, layout->l1 * cluster);
    if (!rc)
        rc = block_node_flush(file);
    if (!rc && !qcow2_header_encode(h, bytes, cluster))
        rc = -ENAMETOOLONG;
    if (!rc)
        rc = write_sparsely(file, 0, bytes, cluster);
    free(bytes);
    return rc ? rc : block_node_flush(file);
}

// ---- Preallocation

// Give every guest cluster a host cluster.
static int allocate_all(struct qcow2 *q)
{
    int rc = 0;
    uint64_t slice = (uint64_t)(q->slice_bytes / q->entry_bytes) << q->cluster_bits;
    for (uint64_t at = 0; at < q->node.size && !rc;) {
        uint64_t left = slice - (at & (slice - 1)), host;
        uint32_t want = (uint32_t)qcow2_clusters(q, left < q->node.size - at ? left
                                                                             : q->node.size - at),
                 got;
        bool zeros;
        rc = qcow2_lock_room(q);
        if (rc)
            break;
        rc = qcow2_allocate(q, want, &host, &got, &zeros);
        if (!rc)
            rc = qcow2_set_entries(q, at, got, host | QCOW2_COPIED);
        pthread_mutex_unlock(&q->lock);
        at += (uint64_t)got << q->cluster_bits;
    }
    return rc;
}

static int preallocate(struct block_node *file, enum block_preallocate mode, struct err *err)
{
    struct block_node *node = qcow2_open(file, false, err);
    if (!node)
        return -1;
    struct qcow2 *q = qcow2_of(node);
    int fd = block_file_fd(node->next);
    uint64_t start = node->next->size;
    int rc = allocate_all(q);
    uint64_t end = q->zeros_from;
    if (!rc && end > start)
        rc = os_file_truncate(fd, end);
    if (!rc && end > start && mode != BLOCK_PREALLOCATE_METADATA)
        rc = os_file_allocate(fd, start, end - start);
    // Zeros through the disk, so that the tables between are not touched. What a block device held before must not be read.
    if (!rc && (mode == BLOCK_PREALLOCATE_FULL || !node->next->grows))
        rc = block_node_write_zeros(node, 0, node->size);
    int closed = block_node_close(node);
    if (!rc)
        rc = closed;
    return rc ? err_set_errno(err, -rc, "cannot preallocate") : 0;
}

int qcow2_check_new(const struct block_create *create, struct err *err)
{
    struct qcow2_header *h = calloc(1, sizeof(*h));
    struct layout layout;
    int rc = 0;
    if (!h)
        return err_set(err, ERR_LIMIT, "no memory");
    if (create->backing && create->preallocate != BLOCK_PREALLOCATE_OFF)
        rc = err_set(err, ERR_USAGE, "an image with a backing file cannot be preallocated");
    if (!rc)
        rc = fill_header(h, create, err);
    if (!rc)
        rc = lay_out(h, &layout, err);
    free(h);
    return rc;
}

int qcow2_create(struct block_node *file, const struct block_create *create, struct err *err)
{
    struct qcow2_header *h = calloc(1, sizeof(*h));
    struct layout layout = {0, 0, 0};
    if (!h) {
        block_node_close(file);
        return err_set(err, ERR_LIMIT, "no memory");
    }
    int rc = fill_header(h, create, err);
    if (!rc)
        rc = lay_out(h, &layout, err);
    int error = rc ? 0 : write_image(file, h, &layout);
    free(h);
    if (error)
        rc = err_set_errno(err, -error, "cannot write");
    if (rc || create->preallocate == BLOCK_PREALLOCATE_OFF) {
        block_node_close(file);
        return rc;
    }
    return preallocate(file, create->preallocate, err);
}
