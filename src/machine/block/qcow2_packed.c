// SPDX-License-Identifier: Apache-2.0
//
// Compressed clusters: raw deflate with a 4 KiB window, or one zstd frame, laid end to end at any
// byte of the file. Several share a host cluster, whose refcount is their number. They are written
// once, by conversions; a later write to such a cluster makes a normal one.
#include <errno.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/bits.h"
#include "machine/block/qcow2.h"

#define DEFLATE_WINDOW (-12) // raw, 4 KiB: what the format says

// ---- Decompress: exactly `size` bytes, whatever the input

static int inflate_cluster(const uint8_t *from, size_t length, uint8_t *to, size_t size)
{
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)from,
                       .avail_in = (uInt)length,
                       .next_out = to,
                       .avail_out = (uInt)size};
    if (inflateInit2(&stream, DEFLATE_WINDOW) != Z_OK)
        return -ENOMEM;
    int rc = inflate(&stream, Z_FINISH);
    size_t out = stream.total_out;
    inflateEnd(&stream);
    // The input may be padded to a sector, the output must be whole.
    return (rc == Z_STREAM_END || rc == Z_BUF_ERROR) && out == size ? 0 : -EIO;
}

static int unzstd_cluster(const uint8_t *from, size_t length, uint8_t *to, size_t size)
{
    ZSTD_DCtx *context = ZSTD_createDCtx();
    if (!context)
        return -ENOMEM;
    ZSTD_inBuffer in = {from, length, 0};
    ZSTD_outBuffer out = {to, size, 0};
    size_t rc = 1;
    while (out.pos < size && rc != 0) {
        size_t before = in.pos + out.pos;
        rc = ZSTD_decompressStream(context, &out, &in);
        if (ZSTD_isError(rc) || in.pos + out.pos == before)
            break;
    }
    ZSTD_freeDCtx(context);
    return out.pos == size ? 0 : -EIO;
}

int qcow2_packed_read(struct qcow2 *q, uint64_t entry, uint64_t skip, struct block_vec vec)
{
    uint64_t offset, bytes;
    qcow2_packed_place(q, entry, &offset, &bytes);
    uint8_t *buffer = block_buffers_get(&q->packed);
    if (!buffer)
        return -ENOMEM;
    uint8_t *plain = buffer + 2 * q->cluster_size;
    int rc = block_node_read_buffer(q->node.next, offset, buffer, bytes);
    if (!rc)
        rc = q->header.compression == QCOW2_ZSTD
                 ? unzstd_cluster(buffer, bytes, plain, q->cluster_size)
                 : inflate_cluster(buffer, bytes, plain, q->cluster_size);
    if (!rc)
        block_vec_fill(vec, plain + skip);
    block_buffers_put(&q->packed, buffer);
    return rc;
}

// ---- Compress: returns the length, or 0 when it does not become shorter

static size_t deflate_cluster(const uint8_t *from, uint8_t *to, size_t size)
{
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)from,
                       .avail_in = (uInt)size,
                       .next_out = to,
                       .avail_out = (uInt)size - 1};
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, DEFLATE_WINDOW, 9,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return 0;
    int rc = deflate(&stream, Z_FINISH);
    size_t out = stream.total_out;
    deflateEnd(&stream);
    return rc == Z_STREAM_END ? out : 0;
}

static size_t zstd_cluster(const uint8_t *from, uint8_t *to, size_t size)
{
    size_t out = ZSTD_compress(to, size - 1, from, size, ZSTD_CLEVEL_DEFAULT);
    return ZSTD_isError(out) ? 0 : out;
}

// Room for `bytes` right behind the last compressed cluster, or in a new cluster. Lock held.
static int place(struct qcow2 *q, size_t bytes, uint64_t *offset)
{
    uint64_t used = q->compressed_at & (q->cluster_size - 1), host = 0;
    uint64_t room = used ? q->cluster_size - used : 0;
    *offset = q->compressed_at;
    if (bytes > room) {
        uint32_t got;
        bool zeros;
        int rc = qcow2_allocate(q, 1, &host, &got, &zeros);
        if (rc)
            return rc;
        if (!used || host != q->compressed_at + room) // not adjacent: begin in the new one
            *offset = host;
    }
    int rc = 0;
    if (*offset != host) { // one more in the cluster where it begins
        rc = qcow2_refcount_add(q, *offset >> q->cluster_bits, 1);
        if (rc == -EMLINK && !host) {
            q->compressed_at = 0;
            return place(q, bytes, offset);
        }
        if (rc == -EMLINK) {
            *offset = host;
            rc = 0;
        }
        if (rc && host)
            qcow2_release_now(q, host, 1);
    }
    if (!rc)
        q->compressed_at = *offset + bytes;
    return rc;
}

static uint64_t packed_entry(const struct qcow2 *q, uint64_t offset, size_t bytes)
{
    unsigned offset_bits = 62 - (q->cluster_bits - 8);
    uint64_t sectors = ((offset & 511) + bytes - 1) / 512;
    return QCOW2_COMPRESSED | (sectors << offset_bits) | offset;
}

// Lock held, released for the write. The range lock keeps others away from the guest cluster; the
// host bytes are ours by their reference.
static int write_packed(struct qcow2 *q, uint64_t offset, const uint8_t *bytes, size_t length)
{
    uint64_t host;
    int rc = place(q, length, &host);
    if (rc)
        return rc;
    uint64_t entry = packed_entry(q, host, length);
    pthread_mutex_unlock(&q->lock);
    rc = block_node_write_buffer(q->node.next, host, bytes, length);
    pthread_mutex_lock(&q->lock);
    q->allocated = true;
    if (!rc)
        rc = qcow2_set_entries(q, offset, 1, entry);
    if (rc)
        qcow2_release_entry(q, entry);
    return rc;
}

int qcow2_write_compressed(struct block_node *node, uint64_t offset, struct block_vec vec)
{
    struct qcow2 *q = qcow2_of(node);
    bool whole = vec.length == q->cluster_size || offset + vec.length == node->size;
    if ((offset & (q->cluster_size - 1)) || vec.length > q->cluster_size || !whole)
        return -EINVAL;
    uint8_t *buffer = block_buffers_get(&q->packed);
    if (!buffer)
        return -ENOMEM;
    uint8_t *plain = buffer + 2 * q->cluster_size;
    block_vec_gather(vec, plain);
    memset(plain + vec.length, 0, q->cluster_size - vec.length);
    size_t length = q->header.compression == QCOW2_ZSTD
                        ? zstd_cluster(plain, buffer, q->cluster_size)
                        : deflate_cluster(plain, buffer, q->cluster_size);
    int rc;
    if (!length) {
        rc = block_node_write(node, offset, vec, 0);
    } else {
        struct range_lock range;
        pthread_mutex_lock(&q->lock);
        range_lock_take(&q->ranges, &q->lock, &range, offset, offset + q->cluster_size, true);
        pthread_mutex_unlock(&q->lock);
        rc = qcow2_lock_room(q);
        if (!rc)
            rc = write_packed(q, offset, buffer, length);
        else
            pthread_mutex_lock(&q->lock);
        range_lock_release(&q->ranges, &range);
        pthread_mutex_unlock(&q->lock);
    }
    block_buffers_put(&q->packed, buffer);
    return rc;
}
