// SPDX-License-Identifier: Apache-2.0
//
// Reading goes block by block; an extent is one block, or as many as continue it in kind and place.
#include "machine/block/mapped.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/err.h"

#define EXTENT_BLOCKS 1024

static struct mapped *mapped_of(struct block_node *node)
{
    return CONTAINER_OF(node, struct mapped, node);
}

static int read_piece(struct mapped *m, uint64_t offset, struct block_vec vec)
{
    enum mapped_kind kind;
    uint64_t host;
    int rc = m->lookup(m, offset / m->block_bytes, &kind, &host);
    if (rc)
        return rc;
    if (kind == MAPPED_DATA)
        return block_node_read(m->node.next, host + offset % m->block_bytes, vec);
    if (kind == MAPPED_BELOW && m->node.backing)
        return block_node_read_padded(m->node.backing, offset, vec);
    block_vec_zero(vec);
    return 0;
}

int mapped_read(struct block_node *node, uint64_t offset, struct block_vec vec)
{
    struct mapped *m = mapped_of(node);
    int rc = 0;
    while (vec.length && !rc) {
        uint64_t left = m->block_bytes - offset % m->block_bytes;
        size_t n = vec.length < left ? vec.length : left;
        rc = read_piece(m, offset, block_vec_slice(vec, 0, n));
        offset += n;
        vec = block_vec_slice(vec, n, vec.length - n);
    }
    return rc;
}

int mapped_extent(struct block_node *node, uint64_t offset, uint64_t length,
                  struct block_extent *extent)
{
    struct mapped *m = mapped_of(node);
    enum mapped_kind first = MAPPED_ZEROS, kind;
    uint64_t start = 0, host, at = offset, index = offset / m->block_bytes;
    for (unsigned n = 0; n < EXTENT_BLOCKS && at < offset + length; n++, index++) {
        int rc = m->lookup(m, index, &kind, &host);
        if (rc)
            return rc;
        if (n == 0) {
            first = kind;
            start = kind == MAPPED_DATA ? host + offset % m->block_bytes : 0;
        } else if (kind != first || (kind == MAPPED_DATA && host != start + (at - offset))) {
            break;
        }
        at = (index + 1) * m->block_bytes;
    }
    length = at < offset + length ? at - offset : length;
    *extent = (struct block_extent){.length = length,
                                    .zero = first != MAPPED_DATA,
                                    .allocated = first != MAPPED_BELOW,
                                    .host_valid = first == MAPPED_DATA,
                                    .host_offset = start};
    struct block_node *backing = node->backing;
    if (first != MAPPED_BELOW || !backing || offset >= backing->size)
        return 0;
    if (length > backing->size - offset)
        length = backing->size - offset;
    int rc = block_node_extent(backing, offset, length, extent);
    extent->depth++;
    return rc;
}

void *mapped_read_table(struct block_node *file, uint64_t offset, uint64_t bytes, uint64_t limit,
                        struct err *err)
{
    if (bytes > limit) {
        err_set(err, ERR_LIMIT, "its tables are larger than the memory allowed for them");
        return NULL;
    }
    if (!range_within(offset, bytes, file->size)) {
        err_set(err, ERR_INPUT, "its tables lie beyond the end of the file");
        return NULL;
    }
    void *table = malloc(bytes + 1);
    int rc = table ? block_node_read_buffer(file, offset, table, bytes) : -ENOMEM;
    if (!rc)
        return table;
    err_set_errno(err, -rc, "cannot read its tables");
    free(table);
    return NULL;
}
