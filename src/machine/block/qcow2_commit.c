// SPDX-License-Identifier: Apache-2.0
//
// The commit that qcow2.h describes. Only one runs at a time; those who ask for one meanwhile share
// the next. The tables are copied before the lock is released, because others go on changing them,
// and their changes may refer to clusters whose counts are not durable yet. Refcount blocks need no
// copy: a count that is written too early is a leak at worst.
//
// With lazy refcounts the counts stay in memory, so A is left out: before the first change of a table the header is marked dirty, durably, and
// when the image is closed the counts are written and the mark taken away. Whoever opens an image that is marked counts anew.
//
// When a step fails, everything stays dirty and the freed clusters stay in use, so the next commit
// tries again.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/big_endian.h"
#include "machine/block/qcow2.h"

#define LOG_MODULE "qcow2"
#include "base/log.h"

#define L1_SECTOR_ENTRIES 64
#define L1_SECTOR_BYTES   512

int qcow2_write_refblocks(struct qcow2 *q)
{
    int result = 0;
    for (uint32_t i = 0; i < q->refblocks.slot_count && q->refblocks.dirty; i++) {
        struct meta_slot *slot = &q->refblocks.slots[i];
        if (!slot->dirty)
            continue;
        meta_cache_begin_write(&q->refblocks, slot);
        int rc = block_node_write_buffer(q->node.next, slot->offset, slot->data, q->slice_bytes);
        meta_cache_end_write(&q->refblocks, slot, rc != 0);
        if (rc) {
            result = rc;
            break;
        }
    }
    return result;
}

// ---- Copies of what step C writes

static int make_room(struct qcow2 *q, size_t count)
{
    if (count <= q->copy_room)
        return 0;
    struct qcow2_copy *copies = realloc(q->copies, count * sizeof(*copies));
    if (copies)
        q->copies = copies;
    uint8_t *bytes = realloc(q->copy_bytes, count * q->slice_bytes);
    if (bytes)
        q->copy_bytes = bytes;
    if (!copies || !bytes)
        return -ENOMEM;
    q->copy_room = count;
    return 0;
}

static void copy_l1_sector(struct qcow2 *q, uint32_t sector, size_t n)
{
    uint8_t *bytes = q->copy_bytes + n * q->slice_bytes;
    memset(bytes, 0, L1_SECTOR_BYTES);
    for (uint32_t i = 0; i < L1_SECTOR_ENTRIES; i++) {
        uint32_t index = sector * L1_SECTOR_ENTRIES + i;
        if (index < q->header.l1_entries)
            store_be64(bytes + (size_t)i * 8, q->l1[index]);
    }
    q->copies[n] =
        (struct qcow2_copy){NULL, q->header.l1_offset + (uint64_t)sector * L1_SECTOR_BYTES};
    q->l1_dirty[sector] = 0;
    q->l1_dirty_count--;
}

static int copy_tables(struct qcow2 *q, size_t *count)
{
    *count = 0;
    int rc = make_room(q, q->l2.dirty + q->l1_dirty_count);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < q->l2.slot_count && q->l2.dirty; i++) {
        struct meta_slot *slot = &q->l2.slots[i];
        if (!slot->dirty)
            continue;
        memcpy(q->copy_bytes + *count * q->slice_bytes, slot->data, q->slice_bytes);
        q->copies[(*count)++] = (struct qcow2_copy){slot, slot->offset};
        meta_cache_begin_write(&q->l2, slot);
    }
    for (uint32_t sector = 0; q->l1_dirty_count; sector++) {
        if (q->l1_dirty[sector])
            copy_l1_sector(q, sector, (*count)++);
    }
    return 0;
}

static int write_copies(struct qcow2 *q, size_t count)
{
    int rc = 0;
    for (size_t i = 0; i < count && !rc; i++)
        rc = block_node_write_buffer(q->node.next, q->copies[i].offset,
                                     q->copy_bytes + i * q->slice_bytes,
                                     q->copies[i].slot ? q->slice_bytes : L1_SECTOR_BYTES);
    return rc;
}

static void end_copies(struct qcow2 *q, size_t count, bool failed)
{
    for (size_t i = 0; i < count; i++) {
        if (q->copies[i].slot) {
            meta_cache_end_write(&q->l2, q->copies[i].slot, failed);
        } else if (failed) {
            uint64_t sector = (q->copies[i].offset - q->header.l1_offset) / L1_SECTOR_BYTES;
            q->l1_dirty_count += !q->l1_dirty[sector];
            q->l1_dirty[sector] = 1;
        }
    }
}

// ---- The commit

// Step E. A crowd of dirty refcount blocks may be written at any time.
static void give_back(struct qcow2 *q)
{
    for (unsigned i = 0; i < q->freeing_count; i++) {
        if (meta_cache_crowded(&q->refblocks) && qcow2_write_refblocks(q))
            break; // what is left leaks, and check finds it
        qcow2_release_freed(q, &q->freed[i]);
    }
    q->freed_count -= q->freeing_count;
    memmove(q->freed, q->freed + q->freeing_count, q->freed_count * sizeof(*q->freed));
}

static bool is_lazy(const struct qcow2 *q)
{
    return q->header.version >= 3 && (q->header.compatible & QCOW2_LAZY_REFCOUNTS);
}

// Step A, or what stands for it.
static int account(struct qcow2 *q)
{
    if (!is_lazy(q))
        return qcow2_write_refblocks(q);
    if ((q->header.incompatible & QCOW2_DIRTY) ||
        !(q->refblocks.dirty + q->l2.dirty + q->l1_dirty_count))
        return 0;
    int rc = qcow2_write_field64(q, QCOW2_AT_INCOMPATIBLE, q->header.incompatible | QCOW2_DIRTY);
    if (!rc)
        rc = block_node_flush(q->node.next);
    if (!rc)
        q->header.incompatible |= QCOW2_DIRTY;
    return rc;
}

int qcow2_settle(struct qcow2 *q)
{
    if (!(q->header.incompatible & QCOW2_DIRTY) || q->broken || q->node.repair)
        return 0;
    int rc = qcow2_write_refblocks(q);
    if (!rc)
        rc = block_node_flush(q->node.next);
    if (!rc)
        rc = qcow2_write_field64(q, QCOW2_AT_INCOMPATIBLE,
                                 q->header.incompatible & ~(uint64_t)QCOW2_DIRTY);
    if (!rc)
        rc = block_node_flush(q->node.next);
    if (!rc)
        q->header.incompatible &= ~(uint64_t)QCOW2_DIRTY;
    return rc;
}

// Lock held; released during B to D.
static int run(struct qcow2 *q)
{
    size_t count = 0;
    q->commit_running = true;
    q->commits_begun++;
    int rc = account(q);
    bool allocated = q->allocated;
    q->allocated = false;
    q->freeing_count = q->freed_count;
    if (!rc)
        rc = copy_tables(q, &count);
    pthread_mutex_unlock(&q->lock);

    if (!rc && allocated && count)
        rc = block_node_flush(q->node.next);
    if (!rc)
        rc = write_copies(q, count);
    if (!rc)
        rc = block_node_flush(q->node.next);

    pthread_mutex_lock(&q->lock);
    end_copies(q, count, rc != 0);
    q->allocated |= rc && allocated;
    if (!rc)
        give_back(q);
    q->freeing_count = 0;
    q->commit_running = false;
    q->commits_done++;
    q->commit_result = rc;
    pthread_cond_broadcast(&q->commit_end);
    return rc;
}

int qcow2_commit_locked(struct qcow2 *q)
{
    uint64_t needed = q->commits_begun + 1; // one that begins after now
    while (q->commits_done < needed && !q->broken) {
        if (q->commit_running)
            pthread_cond_wait(&q->commit_end, &q->lock);
        else
            run(q);
    }
    return q->broken ? -EIO : q->commit_result;
}

int qcow2_commit(struct qcow2 *q)
{
    pthread_mutex_lock(&q->lock);
    int rc = qcow2_commit_locked(q);
    pthread_mutex_unlock(&q->lock);
    return rc;
}

int qcow2_lock_room(struct qcow2 *q)
{
    pthread_mutex_lock(&q->lock);
    int rc = q->broken ? -EIO : 0;
    while (!rc && (meta_cache_crowded(&q->l2) || q->freed_count > QCOW2_FREED_MAX / 2))
        rc = qcow2_commit_locked(q);
    if (!rc && meta_cache_crowded(&q->refblocks))
        rc = qcow2_write_refblocks(q);
    if (rc)
        pthread_mutex_unlock(&q->lock);
    return rc;
}

// ---- The header

int qcow2_write_field32(struct qcow2 *q, unsigned at, uint32_t value)
{
    uint8_t raw[4];
    store_be32(raw, value);
    return block_node_write_buffer(q->node.next, at, raw, sizeof(raw));
}

int qcow2_write_field64(struct qcow2 *q, unsigned at, uint64_t value)
{
    uint8_t raw[8];
    store_be64(raw, value);
    return block_node_write_buffer(q->node.next, at, raw, sizeof(raw));
}

int qcow2_switch_header(struct qcow2 *q, unsigned at, const void *fields, size_t length)
{
    int rc = block_node_write_buffer(q->node.next, at, fields, length);
    if (!rc)
        rc = block_node_flush(q->node.next);
    if (rc) {
        log_error("'%s': its header could not be written: %s; no more is written to it",
                  q->node.name, strerror(-rc));
        q->broken = true;
    }
    return rc;
}

int qcow2_write_header(struct qcow2 *q)
{
    uint8_t *bytes = malloc(q->cluster_size);
    if (!bytes)
        return -ENOMEM;
    int rc = qcow2_header_encode(&q->header, bytes, q->cluster_size) ? 0 : -ENOSPC;
    // What lies behind the header in its cluster is not ours to keep.
    size_t length =
        q->cluster_size < QCOW2_HEADER_BYTES_MAX ? q->cluster_size : QCOW2_HEADER_BYTES_MAX;
    if (!rc)
        rc = block_node_write_buffer(q->node.next, 0, bytes, length);
    free(bytes);
    return rc;
}
