// SPDX-License-Identifier: Apache-2.0
//
// The COPIED flag says "this cluster's count is one", so that a write need not look at the count. When a
// snapshot is made, every flag of the active tables goes first; when one is deleted, flags come back last.
// In between a cluster without flag is copied needlessly, which costs space and loses nothing.
#include "base/big_endian.h"
#include "machine/block/qcow2.h"

static int flag_for(struct qcow2 *q, bool set, uint64_t host, bool *flag)
{
    uint64_t count = 0;
    *flag = false;
    int rc = set ? qcow2_refcount_get(q, host >> q->cluster_bits, &count) : 0;
    *flag = set && count == 1;
    return rc;
}

static int change_slice(struct qcow2 *q, uint64_t offset, bool set, uint64_t *changed)
{
    struct meta_slot *slot;
    int rc = meta_cache_get(&q->l2, offset, &slot);
    for (size_t at = 0; at < q->slice_bytes && !rc; at += q->entry_bytes) {
        uint64_t entry = load_be64(slot->data + at);
        if ((entry & QCOW2_COMPRESSED) || !(entry & QCOW2_OFFSET_MASK))
            continue;
        bool flag;
        rc = flag_for(q, set, entry & QCOW2_OFFSET_MASK, &flag);
        if (rc || flag == ((entry & QCOW2_COPIED) != 0))
            continue;
        store_be64(slot->data + at, entry ^ QCOW2_COPIED);
        meta_cache_mark_dirty(&q->l2, slot);
        (*changed)++;
    }
    return rc;
}

static int change(struct qcow2 *q, bool set, uint64_t *changed)
{
    int rc = 0;
    for (uint32_t i = 0; i < q->header.l1_entries && !rc; i++) {
        uint64_t table = q->l1[i] & QCOW2_OFFSET_MASK;
        if (!table)
            continue;
        bool flag;
        rc = flag_for(q, set, table, &flag);
        // A table that others share too is not ours to write; its flags were cleared when it became shared.
        if (!rc && set && !flag)
            continue;
        for (uint64_t at = 0; at < q->cluster_size && !rc; at += q->slice_bytes) {
            if (meta_cache_crowded(&q->l2))
                rc = qcow2_commit_locked(q);
            if (!rc)
                rc = change_slice(q, table + at, set, changed);
        }
        if (!rc && flag != ((q->l1[i] & QCOW2_COPIED) != 0)) {
            qcow2_l1_set(q, i, q->l1[i] ^ QCOW2_COPIED);
            (*changed)++;
        }
    }
    return rc ? rc : qcow2_commit_locked(q);
}

int qcow2_flags_clear(struct qcow2 *q)
{
    uint64_t changed = 0;
    return change(q, false, &changed);
}

int qcow2_flags_set(struct qcow2 *q, uint64_t *changed)
{
    uint64_t ignored = 0;
    return change(q, true, changed ? changed : &ignored);
}
