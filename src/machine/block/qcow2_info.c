// SPDX-License-Identifier: Apache-2.0
//
// What a qcow2 image tells about itself, and the table of its upkeep.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"
#include "machine/block/qcow2.h"

static void qcow2_info(struct block_node *node,
                       void (*fact)(void *user, const char *name, const char *value), void *user)
{
    struct qcow2 *q = qcow2_of(node);
    const struct qcow2_header *h = &q->header;
    char text[UNITS_SIZE_TEXT_BYTES];
    fact(user, "cluster size", units_format_size(q->cluster_size, text));
    snprintf(text, sizeof(text), "%u", h->version);
    fact(user, "version", text);
    fact(user, "compression", h->compression == QCOW2_ZSTD ? "zstd" : "zlib");
    snprintf(text, sizeof(text), "%u", q->refcount_bits);
    fact(user, "refcount bits", text);
    fact(user, "lazy refcounts", (h->compatible & QCOW2_LAZY_REFCOUNTS) ? "yes" : "no");
    fact(user, "extended L2", q->extended ? "yes" : "no");
    fact(user, "dirty", (h->incompatible & QCOW2_DIRTY) ? "yes" : "no");
    fact(user, "corrupt", (h->incompatible & QCOW2_CORRUPT) ? "yes" : "no");
    snprintf(text, sizeof(text), "%u", h->bitmap_count);
    fact(user, "bitmaps", text);
}

static int qcow2_set_backing(struct block_node *node, const struct block_backing *backing,
                             struct err *err)
{
    struct qcow2 *q = qcow2_of(node);
    if (strlen(backing->name) > QCOW2_BACKING_NAME_MAX)
        return err_set(err, ERR_USAGE, "the backing file's name is too long");
    pthread_mutex_lock(&q->lock);
    int rc = qcow2_commit_locked(q);
    snprintf(q->header.backing_name, sizeof(q->header.backing_name), "%s", backing->name);
    snprintf(q->header.backing_format, sizeof(q->header.backing_format), "%s", backing->format);
    if (!rc)
        rc = qcow2_write_header(q);
    if (!rc)
        rc = block_node_flush(q->node.next);
    pthread_mutex_unlock(&q->lock);
    if (rc == -ENOSPC)
        return err_set(err, ERR_LIMIT, "'%s': its header has no room for so long a name",
                       node->name);
    return rc ? err_set_errno(err, -rc, "cannot write the header of '%s'", node->name) : 0;
}

static int qcow2_empty_all(struct block_node *node, struct err *err)
{
    int rc = qcow2_empty(qcow2_of(node), 0, node->size);
    if (!rc)
        rc = qcow2_commit(qcow2_of(node));
    return rc ? err_set_errno(err, -rc, "cannot empty '%s'", node->name) : 0;
}

const struct block_image_ops qcow2_image_ops = {
    .check = qcow2_check,
    .snapshot_list = qcow2_snapshot_list,
    .snapshot_create = qcow2_snapshot_create,
    .snapshot_apply = qcow2_snapshot_apply,
    .snapshot_view = qcow2_snapshot_view,
    .snapshot_delete = qcow2_snapshot_delete,
    .empty = qcow2_empty_all,
    .set_backing = qcow2_set_backing,
    .info = qcow2_info,
};
