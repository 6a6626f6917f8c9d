// SPDX-License-Identifier: Apache-2.0
//
// Calling a node: what an operation means where a driver leaves it out.
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/bitmap.h"
#include "machine/block/block_driver.h"

struct block_node *block_node_create(size_t struct_size, const struct block_ops *ops,
                                     struct block_node *next)
{
    struct block_node *node = calloc(1, struct_size);
    if (!node) {
        block_node_close(next);
        return NULL;
    }
    node->ops = ops;
    node->next = next;
    if (next) {
        node->name = strdup(next->name);
        node->size = next->size;
        node->limits = next->limits;
        node->memory_limit = next->memory_limit;
        node->read_only = next->read_only;
        node->grows = next->grows;
        node->repair = next->repair;
    }
    return node;
}

int block_node_close(struct block_node *node)
{
    int result = 0;
    while (node) {
        int rc = node->ops->finish ? node->ops->finish(node) : 0;
        if (!result)
            result = rc;
        if (node->ops->release)
            node->ops->release(node);
        rc = block_node_close(node->backing);
        if (!result)
            result = rc;
        struct block_node *next = node->next;
        while (node->bitmaps) {
            struct block_bitmap *bitmap = node->bitmaps;
            node->bitmaps = bitmap->next;
            block_bitmap_destroy(bitmap);
        }
        free(node->name);
        free(node);
        node = next;
    }
    return result;
}

int block_node_read(struct block_node *node, uint64_t offset, struct block_vec vec)
{
    while (!node->ops->read)
        node = node->next;
    return vec.length ? node->ops->read(node, offset, vec) : 0;
}

int block_node_write(struct block_node *node, uint64_t offset, struct block_vec vec, uint32_t flags)
{
    while (!node->ops->write)
        node = node->next;
    int rc = vec.length ? node->ops->write(node, offset, vec, flags) : 0;
    if (node->bitmaps)
        block_bitmap_mark_all(node->bitmaps, offset, vec.length);
    return rc;
}

void block_node_grew(struct block_node *node, uint64_t end)
{
    uint64_t size = node->size;
    while (size < end && !atomic_compare_exchange_weak(&node->size, &size, end))
        ;
}

int block_node_flush(struct block_node *node)
{
    while (!node->ops->flush)
        node = node->next;
    return node->ops->flush(node);
}

// What marks dirty bitmaps is not seen by those who only move bytes.
int block_node_route(struct block_node *node, enum block_op op, uint64_t offset,
                     struct block_vec vec, struct block_route *route)
{
    if (!node->ops->route || (op == BLOCK_WRITE && node->bitmaps))
        return -EAGAIN;
    return node->ops->route(node, op, offset, vec, route);
}

void block_route_release(struct block_route *route)
{
    while (route->held_count) {
        struct block_node *node = route->held[--route->held_count].node;
        node->ops->unroute(node, &route->held[route->held_count].lock);
    }
}

int block_node_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    while (!node->ops->discard)
        node = node->next;
    int rc = length ? node->ops->discard(node, offset, length) : 0;
    if (node->bitmaps)
        block_bitmap_mark_all(node->bitmaps, offset, length);
    return rc;
}

// Write zeros from one small block of them, as many times as one call takes.
int block_node_write_zeros(struct block_node *node, uint64_t offset, uint64_t length)
{
    static const char zeros[64 * KIB] __attribute__((aligned(4096)));
    struct iovec iov[32];
    for (size_t i = 0; i < ARRAY_LENGTH(iov); i++)
        iov[i] = (struct iovec){(void *)(uintptr_t)zeros, sizeof(zeros)};
    while (length) {
        size_t n =
            length < sizeof(zeros) * ARRAY_LENGTH(iov) ? length : sizeof(zeros) * ARRAY_LENGTH(iov);
        int rc = block_node_write(node, offset, block_vec(iov, n), 0);
        if (rc)
            return rc;
        offset += n;
        length -= n;
    }
    return 0;
}

int block_node_zero(struct block_node *node, uint64_t offset, uint64_t length, uint32_t flags)
{
    struct block_node *at = node;
    while (!at->ops->zero)
        at = at->next;
    int rc = length ? at->ops->zero(at, offset, length, flags) : 0;
    if (at->bitmaps)
        block_bitmap_mark_all(at->bitmaps, offset, length);
    return rc == -EOPNOTSUPP ? block_node_write_zeros(node, offset, length) : rc;
}

int block_node_extent(struct block_node *node, uint64_t offset, uint64_t length,
                      struct block_extent *extent)
{
    while (!node->ops->extent)
        node = node->next;
    return node->ops->extent(node, offset, length, extent);
}

static int resize_bitmaps(struct block_node *node, struct err *err)
{
    for (struct block_bitmap *b = node->bitmaps; b; b = b->next) {
        if (block_bitmap_resize(b, node->size))
            return err_set(err, ERR_LIMIT, "no memory for a larger dirty bitmap");
    }
    return 0;
}

int block_node_resize(struct block_node *node, uint64_t size, struct err *err)
{
    if (node->ops->resize)
        return node->ops->resize(node, size, err) ? -1 : resize_bitmaps(node, err);
    if (block_node_resize(node->next, size, err))
        return -1;
    node->size = node->next->size;
    return 0;
}

int block_node_read_buffer(struct block_node *node, uint64_t offset, void *buffer, size_t length)
{
    struct iovec iov = {buffer, length};
    return block_node_read(node, offset, block_vec(&iov, length));
}

int block_node_write_buffer(struct block_node *node, uint64_t offset, const void *buffer,
                            size_t length)
{
    struct iovec iov = {(void *)(uintptr_t)buffer, length};
    return block_node_write(node, offset, block_vec(&iov, length), 0);
}

int block_node_read_padded(struct block_node *node, uint64_t offset, struct block_vec vec)
{
    uint64_t size = node->size;
    size_t inside = offset >= size ? 0 : vec.length;
    if (inside > size - offset && inside)
        inside = size - offset;
    block_vec_zero(block_vec_slice(vec, inside, vec.length - inside));
    return inside ? block_node_read(node, offset, block_vec_slice(vec, 0, inside)) : 0;
}
