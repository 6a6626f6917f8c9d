// SPDX-License-Identifier: Apache-2.0
//
// Dirty bitmaps that a qcow2 image keeps. A directory (found through a header extension) lists them; each has a table of clusters, which hold the
// bits; a table's entry without a cluster says that all its bits are zeros, or with bit 0 ones.
//
// They are in memory while the image is open (bitmap.h). Opened for writing, all are marked "in use" in the directory before anything else is
// written, and saved to new clusters when the image is closed: clusters and directory first, durably, then the header, then the old
// ones are given back. So what a kill leaves is marked in use, and whoever opens it later knows that it does not tell everything.
//
// The autoclear bit tells that the extension can be believed: a program that does not know bitmaps clears it when it writes.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/big_endian.h"
#include "base/err.h"
#include "machine/block/bitmap.h"
#include "machine/block/qcow2.h"

#define LOG_MODULE "qcow2"
#include "base/log.h"

#define ENTRY_BYTES         24 // and extra data, and the name, padded to 8
#define DIRECTORY_BYTES_MAX MIB
#define FLAG_IN_USE         1u
#define FLAG_AUTO           2u // records
#define TYPE_DIRTY          1
#define TABLE_ONES          1ull

struct entry {
    uint64_t table;
    uint32_t table_entries, flags;
    uint8_t type, granularity_bits;
    char name[BLOCK_BITMAP_NAME_MAX + 1];
};

static int damaged(const struct qcow2 *q, struct err *err)
{
    return err_set(err, ERR_INPUT, "its bitmaps are damaged; convert the image to drop them");
}

// ---- The directory

static int read_directory(struct qcow2 *q, uint8_t **bytes, struct err *err)
{
    const struct qcow2_header *h = &q->header;
    uint64_t length = h->bitmap_directory_bytes;
    if (length > DIRECTORY_BYTES_MAX ||
        !range_within(h->bitmap_directory_offset, length, q->node.next->size))
        return damaged(q, err);
    *bytes = malloc(length + 1);
    int rc = *bytes
                 ? block_node_read_buffer(q->node.next, h->bitmap_directory_offset, *bytes, length)
                 : -ENOMEM;
    if (rc) {
        free(*bytes);
        *bytes = NULL;
        return err_set_errno(err, -rc, "cannot read its bitmaps");
    }
    return 0;
}

// The entry at *at, which moves to the next. False: it is not one that we understand.
static bool decode(const uint8_t *directory, uint64_t length, uint64_t *at, struct entry *e)
{
    const uint8_t *raw = directory + *at;
    if (!range_within(*at, ENTRY_BYTES, length))
        return false;
    e->table = load_be64(raw);
    e->table_entries = load_be32(raw + 8);
    e->flags = load_be32(raw + 12);
    e->type = raw[16];
    e->granularity_bits = raw[17];
    uint32_t name = load_be16(raw + 18), extra = load_be32(raw + 20);
    if (e->type != TYPE_DIRTY || (e->flags & ~(FLAG_IN_USE | FLAG_AUTO)) || extra || !name ||
        name > BLOCK_BITMAP_NAME_MAX || e->granularity_bits < BLOCK_BITMAP_GRANULARITY_MIN ||
        e->granularity_bits > BLOCK_BITMAP_GRANULARITY_MAX ||
        !range_within(*at + ENTRY_BYTES, name, length) || memchr(raw + ENTRY_BYTES, 0, name))
        return false;
    memcpy(e->name, raw + ENTRY_BYTES, name);
    e->name[name] = 0;
    *at += align_up(ENTRY_BYTES + name, 8);
    return true;
}

// ---- Loading

static uint64_t table_entries_for(const struct qcow2 *q, const struct block_bitmap *bitmap)
{
    return qcow2_clusters(q, (bitmap->bits + 7) / 8);
}

static void set_cluster(struct qcow2 *q, struct block_bitmap *bitmap, uint64_t index,
                        const uint8_t *bytes)
{
    uint64_t first = index * (q->cluster_size / 8), words = (bitmap->bits + 63) / 64;
    for (uint64_t i = 0; i < q->cluster_size / 8 && first + i < words; i++) {
        uint64_t word = load_le64(bytes + i * 8), left = bitmap->bits - (first + i) * 64;
        word &= bits_mask(left < 64 ? (unsigned)left : 64);
        bitmap->words[first + i] = word;
        bitmap->dirty_bits += (unsigned)__builtin_popcountll(word);
    }
}

static int load_bits(struct qcow2 *q, struct block_bitmap *bitmap, const struct entry *e,
                     uint8_t *cluster, struct err *err)
{
    uint64_t file_bytes = q->node.next->size;
    if (e->table_entries != table_entries_for(q, bitmap) || (e->table & (q->cluster_size - 1)) ||
        !range_within(e->table, e->table_entries * 8ull, file_bytes))
        return damaged(q, err);
    for (uint32_t i = 0; i < e->table_entries; i++) {
        uint8_t raw[8] = {0};
        int rc = block_node_read_buffer(q->node.next, e->table + i * 8ull, raw, 8);
        uint64_t value = load_be64(raw), data = value & QCOW2_OFFSET_MASK;
        if (!rc && ((data & (q->cluster_size - 1)) || (data && data >= file_bytes)))
            return damaged(q, err);
        if (!rc && data)
            rc = block_node_read_padded(
                q->node.next, data,
                block_vec(&(struct iovec){cluster, q->cluster_size}, q->cluster_size));
        else
            memset(cluster, (value & TABLE_ONES) ? 0xff : 0, q->cluster_size);
        if (rc)
            return err_set_errno(err, -rc, "cannot read its bitmaps");
        set_cluster(q, bitmap, i, cluster);
    }
    return 0;
}

static int load_one(struct qcow2 *q, const struct entry *e, uint8_t *cluster, uint64_t *memory,
                    struct err *err)
{
    bool in_use = e->flags & FLAG_IN_USE;
    uint64_t bytes = in_use ? 0 : block_bitmap_bytes(q->node.size, e->granularity_bits);
    if (block_bitmap_find(q->node.bitmaps, e->name))
        return damaged(q, err);
    if (bytes > *memory)
        return err_set(err, ERR_LIMIT, "its bitmaps are larger than the memory allowed for them");
    *memory -= bytes;
    struct block_bitmap *bitmap =
        block_bitmap_create(e->name, in_use ? 0 : q->node.size, e->granularity_bits);
    if (!bitmap)
        return err_set(err, ERR_LIMIT, "no memory for its bitmaps");
    bitmap->persistent = true;
    bitmap->inconsistent = in_use;
    bitmap->recording = !in_use && (e->flags & FLAG_AUTO);
    block_bitmap_add(&q->node.bitmaps, bitmap);
    return in_use ? 0 : load_bits(q, bitmap, e, cluster, err);
}

static int load_all(struct qcow2 *q, const uint8_t *directory, struct err *err)
{
    uint64_t at = 0, memory = q->node.memory_limit;
    uint8_t *cluster = malloc(q->cluster_size);
    int rc = 0;
    if (!cluster)
        return err_set(err, ERR_LIMIT, "no memory for its bitmaps");
    for (uint32_t i = 0; i < q->header.bitmap_count && !rc; i++) {
        struct entry e;
        rc = decode(directory, q->header.bitmap_directory_bytes, &at, &e)
                 ? load_one(q, &e, cluster, &memory, err)
                 : err_set(err, ERR_UNSUPPORTED, "it has bitmaps that are not understood here");
    }
    free(cluster);
    return rc;
}

// All are in use from now on, durably.
static int mark_in_use(struct qcow2 *q, uint8_t *directory, struct err *err)
{
    uint64_t at = 0, length = q->header.bitmap_directory_bytes;
    for (uint32_t i = 0; i < q->header.bitmap_count; i++) {
        struct entry e;
        uint64_t flags_at = at + 12;
        if (!decode(directory, length, &at, &e))
            return damaged(q, err);
        store_be32(directory + flags_at, e.flags | FLAG_IN_USE);
    }
    int rc =
        block_node_write_buffer(q->node.next, q->header.bitmap_directory_offset, directory, length);
    if (!rc)
        rc = block_node_flush(q->node.next);
    return rc ? err_set_errno(err, -rc, "cannot write its bitmaps") : 0;
}

static void forget(struct qcow2 *q)
{
    q->header.bitmap_count = 0;
    q->header.bitmap_directory_bytes = q->header.bitmap_directory_offset = 0;
}

int qcow2_bitmaps_load(struct qcow2 *q, struct err *err)
{
    uint8_t *directory = NULL;
    if (q->node.repair || q->header.version < 3 || !q->header.bitmap_count)
        return 0;
    if (!(q->header.autoclear & QCOW2_BITMAPS_VALID)) { // somebody wrote who does not know them
        if (q->node.read_only)
            return 0;
        forget(q);
        int rc = qcow2_write_header(q);
        return rc ? err_set_errno(err, -rc, "cannot write") : 0;
    }
    if (read_directory(q, &directory, err) || !directory)
        return q->node.read_only ? 0 : -1;
    int rc = load_all(q, directory, err);
    if (!rc && !q->node.read_only)
        rc = mark_in_use(q, directory, err);
    free(directory);
    // Who only reads can do without them.
    return q->node.read_only ? 0 : rc;
}

// ---- Saving. Lock held, nothing else at work.

// What the directory in the file refers to, and itself, are given back. Its entries were checked when it was loaded.
static int release_old(struct qcow2 *q, const struct qcow2_header *old, const uint8_t *directory)
{
    int rc = 0;
    for (uint64_t at = 0, i = 0; directory && i < old->bitmap_count && !rc; i++) {
        struct entry e;
        if (!decode(directory, old->bitmap_directory_bytes, &at, &e))
            return -EINVAL;
        const struct block_bitmap *kept = block_bitmap_find(q->node.bitmaps, e.name);
        if (kept && kept->inconsistent)
            continue;
        for (uint32_t n = 0; n < e.table_entries && !rc; n++) {
            uint8_t raw[8] = {0};
            rc = block_node_read_buffer(q->node.next, e.table + n * 8ull, raw, 8);
            uint64_t data = load_be64(raw) & QCOW2_OFFSET_MASK;
            if (!rc && data)
                qcow2_release_now(q, data, 1);
        }
        qcow2_release_now(q, e.table, qcow2_clusters(q, e.table_entries * 8ull));
    }
    qcow2_release_now(q, old->bitmap_directory_offset,
                      qcow2_clusters(q, old->bitmap_directory_bytes));
    return rc;
}

// The words of one cluster of a bitmap: as bytes, and whether they are all alike.
static void get_cluster(struct qcow2 *q, const struct block_bitmap *bitmap, uint64_t index,
                        uint8_t *bytes, bool *zeros, bool *ones)
{
    uint64_t first = index * (q->cluster_size / 8), words = (bitmap->bits + 63) / 64;
    memset(bytes, 0, q->cluster_size);
    *zeros = *ones = true;
    for (uint64_t i = 0; i < q->cluster_size / 8 && first + i < words; i++) {
        uint64_t word = bitmap->words[first + i], left = bitmap->bits - (first + i) * 64;
        store_le64(bytes + i * 8, word);
        *zeros &= !word;
        *ones &= word == bits_mask(left < 64 ? (unsigned)left : 64);
    }
}

static int save_bits(struct qcow2 *q, const struct block_bitmap *bitmap, uint8_t *table,
                     uint8_t *cluster, uint64_t entries)
{
    int rc = 0;
    for (uint64_t i = 0; i < entries && !rc; i++) {
        bool zeros, ones;
        uint64_t value = 0;
        get_cluster(q, bitmap, i, cluster, &zeros, &ones);
        if (ones && !zeros) {
            value = TABLE_ONES;
        } else if (!zeros) {
            rc = qcow2_allocate_exactly(q, 1, &value);
            if (!rc)
                rc = block_node_write_buffer(q->node.next, value, cluster, q->cluster_size);
        }
        store_be64(table + i * 8, value);
    }
    return rc;
}

static int save_one(struct qcow2 *q, const struct block_bitmap *bitmap, uint8_t *cluster,
                    struct entry *e)
{
    uint64_t entries = table_entries_for(q, bitmap), bytes = align_up(entries * 8, q->cluster_size);
    uint8_t *table = calloc(1, bytes + 1);
    int rc = table ? save_bits(q, bitmap, table, cluster, entries) : -ENOMEM;
    if (!rc)
        rc = qcow2_allocate_exactly(q, (uint32_t)(bytes >> q->cluster_bits), &e->table);
    if (!rc)
        rc = block_node_write_buffer(q->node.next, e->table, table, bytes);
    free(table);
    e->table_entries = (uint32_t)entries;
    e->flags = bitmap->recording ? FLAG_AUTO : 0;
    return rc;
}

static void encode(const struct entry *e, uint8_t *directory, uint64_t *at)
{
    uint8_t *raw = directory + *at;
    size_t name = strlen(e->name);
    store_be64(raw, e->table);
    store_be32(raw + 8, e->table_entries);
    store_be32(raw + 12, e->flags);
    raw[16] = TYPE_DIRTY;
    raw[17] = e->granularity_bits;
    store_be16(raw + 18, (uint16_t)name);
    store_be32(raw + 20, 0);
    memcpy(raw + ENTRY_BYTES, e->name, name);
    *at += align_up(ENTRY_BYTES + name, 8);
}

// One that was not saved stays as it is in the file, in use.
static bool find_old(const struct qcow2_header *old, const uint8_t *directory, const char *name,
                     struct entry *e)
{
    for (uint64_t at = 0, i = 0; directory && i < old->bitmap_count; i++) {
        if (!decode(directory, old->bitmap_directory_bytes, &at, e))
            return false;
        if (!strcmp(e->name, name))
            return true;
    }
    return false;
}

static int save_all(struct qcow2 *q, const struct qcow2_header *old, const uint8_t *old_directory,
                    uint8_t *directory, uint64_t *length, uint32_t *count)
{
    uint8_t *cluster = malloc(q->cluster_size);
    int rc = cluster ? 0 : -ENOMEM;
    *length = *count = 0;
    for (const struct block_bitmap *b = q->node.bitmaps; b && !rc; b = b->next) {
        struct entry e = {.granularity_bits = (uint8_t)b->granularity_bits};
        if (!b->persistent || !b->name)
            continue;
        if (*length + ENTRY_BYTES + BLOCK_BITMAP_NAME_MAX + 8 > DIRECTORY_BYTES_MAX)
            rc = -EFBIG;
        else if (b->inconsistent && !find_old(old, old_directory, b->name, &e))
            continue;
        memcpy(e.name, b->name, strlen(b->name) + 1);
        if (!rc && !b->inconsistent)
            rc = save_one(q, b, cluster, &e);
        if (!rc) {
            encode(&e, directory, length);
            (*count)++;
        }
    }
    free(cluster);
    return rc;
}

// Everything that the new header needs is durable before it is written.
static int switch_directory(struct qcow2 *q, uint8_t *directory, uint64_t length, uint32_t count)
{
    uint64_t offset = 0, bytes = align_up(length, q->cluster_size);
    int rc = 0;
    if (count) {
        rc = qcow2_allocate_exactly(q, (uint32_t)(bytes >> q->cluster_bits), &offset);
        if (!rc)
            rc = block_node_write_buffer(q->node.next, offset, directory, bytes);
    }
    if (!rc)
        rc = qcow2_commit_locked(q);
    if (!rc)
        rc = block_node_flush(q->node.next);
    if (rc)
        return rc;
    q->header.bitmap_count = count;
    q->header.bitmap_directory_bytes = count ? length : 0;
    q->header.bitmap_directory_offset = offset;
    q->header.autoclear = count ? QCOW2_BITMAPS_VALID : 0;
    rc = qcow2_write_header(q);
    return rc ? rc : block_node_flush(q->node.next);
}

static bool anything_to_save(const struct qcow2 *q)
{
    bool any = q->header.bitmap_count;
    for (const struct block_bitmap *b = q->node.bitmaps; b; b = b->next)
        any |= b->persistent;
    return any && q->header.version >= 3 && !q->node.repair && !q->broken;
}

void qcow2_bitmaps_save(struct qcow2 *q)
{
    struct err err;
    uint8_t *old_directory = NULL;
    if (!anything_to_save(q))
        return;
    struct qcow2_header *old = malloc(sizeof(*old));
    uint8_t *directory = calloc(1, DIRECTORY_BYTES_MAX + q->cluster_size);
    uint64_t length;
    uint32_t count;
    pthread_mutex_lock(&q->lock);
    int rc = old && directory ? 0 : -ENOMEM;
    if (!rc)
        *old = q->header;
    if (!rc && old->bitmap_count && read_directory(q, &old_directory, &err))
        rc = -EIO;
    if (!rc)
        rc = save_all(q, old, old_directory, directory, &length, &count);
    if (!rc)
        rc = switch_directory(q, directory, length, count);
    if (!rc && old->bitmap_count)
        rc = release_old(q, old, old_directory);
    pthread_mutex_unlock(&q->lock);
    free(old);
    free(old_directory);
    free(directory);
    // They stay marked as in use: nobody takes them for what they are not.
    if (rc)
        log_error("'%s': its bitmaps could not be saved: %s", q->node.name, strerror(-rc));
}

bool qcow2_keeps_bitmaps(struct block_node *node)
{
    return qcow2_of(node)->header.version >= 3;
}
