// SPDX-License-Identifier: Apache-2.0
//
// The lowest node: a regular file or block device behind a descriptor.
//
// With O_DIRECT, transfers that are not aligned (small metadata, odd memory) go through a bounce
// buffer, of which there is a fixed number; a write to part of a block reads the block first, one
// such write at a time. Without O_DIRECT every transfer goes straight through. What the file system
// turns out not to support (holes, zero ranges) is remembered and not tried again.
//
// Changes are counted when they have been made, and a sync that succeeded covers those counted before it began: while there are no others, a
// flush has nothing to do. The first one always has: we do not know what was done to the file before.
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/block_driver.h"
#include "machine/block/buffers.h"
#include "machine/block/ring.h"
#include "os/file.h"

#define BOUNCE_BUFFERS   4
#define BOUNCE_BYTES     (256 * KIB)
#define LARGE_COPY_BYTES (256 * KIB)
#define VEC_WINDOW       64

struct file_node {
    struct block_node node;
    int fd; // owned
    struct os_file_facts facts;
    atomic_bool no_holes; // learned
    atomic_bool no_zero;
    atomic_bool sync_failed;
    atomic_bool lent;        // others have the descriptor and may change the file
    _Atomic uint64_t synced; // so many of the node's changes are durable

    // The ring that knows this file, and where; set once (ring.h).
    struct block_ring *ring; // borrowed: it outlives us
    int place;

    struct block_buffers bounce;
    pthread_mutex_t partial_lock; // held while part of a block is read, changed and written
};

static struct file_node *file_of(struct block_node *node)
{
    return CONTAINER_OF(node, struct file_node, node);
}

static bool goes_straight(const struct file_node *file, uint64_t offset, struct block_vec vec)
{
    uint32_t alignment = file->facts.direct_alignment;
    return alignment == 1 ||
           (!((offset | vec.length) & (alignment - 1)) && block_vec_aligned(vec, alignment));
}

// One bounce buffer's worth of an unaligned transfer.
static int bounce_piece(struct file_node *file, void *buffer, uint64_t offset, struct block_vec vec,
                        bool write)
{
    uint64_t alignment = file->facts.direct_alignment;
    uint64_t start = align_down(offset, alignment), end = align_up(offset + vec.length, alignment);
    char *inside = (char *)buffer + (offset - start);
    if (!write) {
        int rc = os_pread(file->fd, buffer, end - start, start);
        if (!rc)
            block_vec_fill(vec, inside);
        return rc;
    }
    bool partial = start != offset || end != offset + vec.length;
    int rc = 0;
    if (partial) {
        pthread_mutex_lock(&file->partial_lock);
        rc = os_pread(file->fd, buffer, alignment, start);
        if (!rc && end - start > alignment)
            rc = os_pread(file->fd, (char *)buffer + (end - start - alignment), alignment,
                          end - alignment);
    }
    if (!rc) {
        block_vec_gather(vec, inside);
        rc = os_pwrite(file->fd, buffer, end - start, start);
    }
    if (partial)
        pthread_mutex_unlock(&file->partial_lock);
    return rc;
}

static int transfer_bounced(struct file_node *file, uint64_t offset, struct block_vec vec,
                            bool write)
{
    void *buffer = block_buffers_get(&file->bounce);
    int rc = buffer ? 0 : -ENOMEM;
    while (!rc && vec.length) {
        size_t room = BOUNCE_BYTES - (offset & (file->facts.direct_alignment - 1));
        size_t n = vec.length < room ? vec.length : room;
        rc = bounce_piece(file, buffer, offset, block_vec_slice(vec, 0, n), write);
        offset += n;
        vec = block_vec_slice(vec, n, vec.length - n);
    }
    block_buffers_put(&file->bounce, buffer);
    return rc;
}

static int transfer(struct file_node *file, uint64_t offset, struct block_vec vec, bool write)
{
    if (!goes_straight(file, offset, vec))
        return transfer_bounced(file, offset, vec, write);
    while (vec.length) {
        struct iovec iov[VEC_WINDOW];
        size_t n;
        int count = block_vec_window(vec, iov, VEC_WINDOW, &n);
        int rc = write ? os_pwritev(file->fd, iov, count, offset)
                       : os_preadv(file->fd, iov, count, offset);
        if (rc)
            return rc;
        offset += n;
        vec = block_vec_slice(vec, n, vec.length - n);
    }
    return 0;
}

static int file_read(struct block_node *node, uint64_t offset, struct block_vec vec)
{
    return transfer(file_of(node), offset, vec, false);
}

static int file_write(struct block_node *node, uint64_t offset, struct block_vec vec,
                      uint32_t flags)
{
    int rc = transfer(file_of(node), offset, vec, true);
    if (!rc)
        block_file_written(node, offset + vec.length);
    return rc;
}

void block_file_written(struct block_node *file, uint64_t end)
{
    block_node_grew(file, end);
    atomic_fetch_add(&file->changes, 1);
}

// When a sync fails, the kernel drops what it could not write and calls the pages clean; a later
// sync would succeed and be a lie. So a failure is final.
static int file_flush(struct block_node *node)
{
    struct file_node *file = file_of(node);
    if (file->sync_failed)
        return -EIO;
    uint64_t changes = node->changes, synced = file->synced;
    if (changes == synced && !file->lent)
        return 0;
    int rc = os_fdatasync(file->fd);
    if (rc)
        file->sync_failed = true;
    while (!rc && synced < changes &&
           !atomic_compare_exchange_weak(&file->synced, &synced, changes))
        ;
    return rc;
}

static int file_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    struct file_node *file = file_of(node);
    if (file->no_holes)
        return 0;
    int rc = os_file_punch_hole(file->fd, &file->facts, offset, length);
    if (rc == -EOPNOTSUPP || rc == -ENOSYS) {
        file->no_holes = true;
        rc = 0;
    }
    atomic_fetch_add(&node->changes, 1);
    return rc;
}

static int file_zero(struct block_node *node, uint64_t offset, uint64_t length, uint32_t flags)
{
    struct file_node *file = file_of(node);
    // A hole reads as zeros in a file; a discarded range of a device may read as anything.
    if ((flags & BLOCK_UNMAP) && file->facts.regular && !file->no_holes &&
        offset + length <= node->size) {
        int rc = os_file_punch_hole(file->fd, &file->facts, offset, length);
        atomic_fetch_add(&node->changes, 1);
        if (rc != -EOPNOTSUPP)
            return rc;
        file->no_holes = true;
    }
    if (file->no_zero)
        return -EOPNOTSUPP;
    int rc = os_file_zero_range(file->fd, &file->facts, offset, length);
    if (rc == -EOPNOTSUPP && file->facts.regular)
        file->no_zero = true;
    if (!rc)
        block_file_written(node, offset + length);
    return rc;
}

static int file_extent(struct block_node *node, uint64_t offset, uint64_t length,
                       struct block_extent *extent)
{
    bool data;
    uint64_t end;
    int rc = os_file_extent(file_of(node)->fd, offset, offset + length, &data, &end);
    if (rc)
        return rc;
    *extent = (struct block_extent){.length = end - offset,
                                    .zero = !data,
                                    .allocated = true,
                                    .host_valid = true,
                                    .host_offset = offset};
    return 0;
}

// Whoever made the device changes its size; here it is only noticed.
static int resize_device(struct file_node *file, uint64_t size, struct err *err)
{
    struct block_node *node = &file->node;
    struct os_file_facts facts;
    int rc = os_file_facts(file->fd, &facts);
    if (rc)
        return err_set_errno(err, -rc, "cannot resize '%s'", node->name);
    if (size != facts.size_bytes)
        return err_set(err, ERR_LIMIT,
                       "'%s' is a block device of %llu bytes; change that first, by what made it",
                       node->name, (unsigned long long)facts.size_bytes);
    node->size = size;
    return 0;
}

static int file_resize(struct block_node *node, uint64_t size, struct err *err)
{
    struct file_node *file = file_of(node);
    if (file->facts.block_device)
        return resize_device(file, size, err);
    int rc = os_file_truncate(file->fd, size);
    if (rc)
        return err_set_errno(err, -rc, "cannot resize '%s'", node->name);
    node->size = size;
    atomic_fetch_add(&node->changes, 1);
    return 0;
}

// Also for buffered writes: when the submitter does not copy them himself the kernel uses threads of its own, which are nearer than ours. Reads from
// the page cache are copies, made when they are handed over: of several large ones at once the others are for the pool, beside it.
static int file_route(struct block_node *node, enum block_op op, uint64_t offset,
                      struct block_vec vec, struct block_route *route)
{
    struct file_node *file = file_of(node);
    bool copies = file->facts.direct_alignment == 1;
    if (!goes_straight(file, offset, vec) ||
        (copies && op == BLOCK_READ && route->busy && vec.length >= LARGE_COPY_BYTES))
        return -EAGAIN;
    if (!file->ring) { // all requests of a disk come by one ring, and one at a time
        file->place = block_ring_add_file(route->ring, file->fd);
        file->ring = route->ring;
    }
    if (file->ring != route->ring || file->place < 0)
        return -EAGAIN;
    route->file = node;
    route->cached = copies;
    route->place = (unsigned)file->place;
    route->offset = offset;
    return 0;
}

static void file_release(struct block_node *node)
{
    struct file_node *file = file_of(node);
    if (file->ring && file->place >= 0)
        block_ring_remove_file(file->ring, file->place);
    block_buffers_fini(&file->bounce);
    pthread_mutex_destroy(&file->partial_lock);
    os_file_close(&file->fd);
}

static const struct block_ops file_ops = {
    .name = "file",
    .read = file_read,
    .write = file_write,
    .flush = file_flush,
    .discard = file_discard,
    .zero = file_zero,
    .extent = file_extent,
    .resize = file_resize,
    .route = file_route,
    .release = file_release,
};

struct block_node *block_file_open(int fd, const char *name, bool read_only, uint64_t memory_limit,
                                   struct err *err)
{
    struct os_file_facts facts;
    int rc = os_file_facts(fd, &facts);
    if (!rc && !read_only && !facts.writable)
        rc = -EACCES;
    struct file_node *file = rc ? NULL : (void *)block_node_create(sizeof(*file), &file_ops, NULL);
    if (!file) {
        err_set_errno(err, rc ? -rc : ENOMEM, "cannot use '%s'", name);
        os_file_close(&fd);
        return NULL;
    }
    file->fd = fd;
    file->facts = facts;
    block_buffers_init(&file->bounce, BOUNCE_BUFFERS, BOUNCE_BYTES);
    pthread_mutex_init(&file->partial_lock, NULL);
    file->node.name = strdup(name);
    file->node.size = facts.size_bytes;
    file->node.changes = 1;
    file->node.memory_limit = memory_limit;
    file->node.read_only = read_only;
    file->node.grows = facts.regular;
    uint32_t block = facts.block_device ? facts.logical_block_size : 512;
    file->node.limits = (struct block_limits){
        .logical_block_size = block,
        .physical_block_size = facts.physical_block_size,
        .discard_granularity = read_only ? 0 : block,
        .read_only = read_only,
        .can_discard = !read_only,
        .can_zero = !read_only,
    };
    return &file->node;
}

int block_file_fd(struct block_node *node)
{
    if (node->ops != &file_ops)
        return -1;
    file_of(node)->lent = true;
    return file_of(node)->fd;
}
