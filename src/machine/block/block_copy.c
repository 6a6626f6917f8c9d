// SPDX-License-Identifier: Apache-2.0
//
// Workers take the next piece of the source from one cursor, under a lock; the cursor steps over stretches
// that need nothing, so a sparse disk costs no more than its data. A piece is one or more whole
// clusters of the target, read at once; runs of zeros in it are not written to a target that is zeros already.
//
// Where the target is a plain file, and the source says where in its own file a piece lies, the file system is asked to let both have the same
// blocks (reflink): no byte is moved then. Whoever refuses it once is not asked again. Nobody may change the source meanwhile.
#include "machine/block/block_copy.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/bits.h"
#include "machine/block/block_driver.h"
#include "os/clock.h"
#include "os/file.h"

#define PIECE_BYTES (2 * MIB)
#define WORKERS     4
#define WORKERS_MAX 16
#define PROGRESS_NS 100000000ull
#define EXTENT_MAX  (1 * GIB)

struct run {
    struct block_copy *copy;
    uint64_t total;
    size_t piece, granule; // constant: of reading, of looking for zeros
    int target_fd;         // constant: of a target that is a plain file, else -1
    atomic_bool no_sharing;
    pthread_mutex_t lock;
    uint64_t cursor;                // under lock
    struct block_extent extent;     // under lock: what lies from `extent_at` on
    uint64_t extent_at, extent_end; // under lock
    uint64_t told_ns;               // under lock
    int result;                     // under lock: the first error
};

struct piece {
    uint64_t offset;
    size_t length;
    bool zero; // known to be zeros, which must be written
    int fd;    // of the file in which it lies in one piece, at `place`, or -1
    uint64_t place;
};

// ---- The cursor

static int look_at(struct run *r)
{
    struct block_copy *c = r->copy;
    uint64_t left = r->total - r->cursor;
    int rc =
        block_disk_extent(c->source, r->cursor, left < EXTENT_MAX ? left : EXTENT_MAX, &r->extent);
    r->extent_at = r->cursor;
    r->extent_end = r->cursor + r->extent.length;
    return rc;
}

static bool nothing_to_do(const struct run *r)
{
    const struct block_copy *c = r->copy;
    if (c->top_only && (!r->extent.allocated || r->extent.depth > 0))
        return true;
    return r->extent.zero && c->target_is_zero;
}

static void tell(struct run *r)
{
    struct block_copy *c = r->copy;
    uint64_t now = os_clock_monotonic_ns();
    if (!c->progress || (now - r->told_ns < PROGRESS_NS && r->cursor < r->total))
        return;
    r->told_ns = now;
    if (!c->progress(c->user, r->cursor, r->total))
        r->result = -ECANCELED;
}

// Where the bytes at `at` lie, as far as the extent goes. Filters between an image and its file would be passed by: then nowhere.
static void locate(const struct run *r, uint64_t at, struct piece *piece)
{
    struct block_node *node = block_disk_node(r->copy->source);
    piece->fd = -1;
    if (!r->extent.host_valid || r->target_fd < 0)
        return;
    for (unsigned depth = r->extent.depth; depth && node; depth--)
        node = node->backing;
    if (node && node->next && !node->ops->filter)
        node = node->next;
    if (node)
        piece->fd = block_file_fd(node);
    piece->place = r->extent.host_offset + (at - r->extent_at);
}

// Move the cursor on; true when what it passed is to be copied. When compressing, a piece is always one whole
// cluster, because it is written once.
static bool step(struct run *r, struct piece *piece)
{
    uint64_t at = r->cursor, limit = align_down(at, r->piece) + r->piece, end = r->extent_end;
    bool whole = r->copy->compress;
    if (limit > r->total)
        limit = r->total;
    bool covered = limit <= r->extent_end;
    if (nothing_to_do(r) && (covered || !whole)) {
        if (whole && end < r->total)
            end = align_down(end, r->piece);
        r->cursor = end;
        return false;
    }
    bool zero = r->extent.zero && (covered || !whole);
    if (!zero || whole)
        end = whole || limit < end ? limit : end;
    *piece = (struct piece){at, end - at, zero, -1, 0};
    if (!zero && end <= r->extent_end)
        locate(r, at, piece);
    r->cursor = end;
    return true;
}

// The next piece; false at the end or after an error.
static bool next_piece(struct run *r, struct piece *piece)
{
    bool found = false;
    *piece = (struct piece){0};
    pthread_mutex_lock(&r->lock);
    while (!found && !r->result && r->cursor < r->total) {
        if (r->cursor >= r->extent_end)
            r->result = look_at(r);
        if (!r->result)
            found = step(r, piece);
        if (!r->result)
            tell(r);
    }
    found = found && !r->result;
    pthread_mutex_unlock(&r->lock);
    return found;
}

static void failed(struct run *r, int rc)
{
    pthread_mutex_lock(&r->lock);
    if (!r->result)
        r->result = rc;
    pthread_mutex_unlock(&r->lock);
}

// ---- A worker

static int put(struct run *r, uint64_t offset, const uint8_t *bytes, size_t length, bool zero)
{
    struct block_copy *c = r->copy;
    if (zero)
        return c->target_is_zero ? 0 : block_write_zeroes(c->target, offset, length, BLOCK_UNMAP);
    atomic_fetch_add(&c->data_bytes, length);
    if (!c->compress)
        return block_write(c->target, offset, bytes, length);
    struct block_node *node = block_disk_node(c->target);
    struct iovec iov = {(void *)(uintptr_t)bytes, length};
    return node->ops->write_compressed(node, offset, block_vec(&iov, length));
}

// Write a piece as alternating runs of zeros and data.
static int put_piece(struct run *r, const struct piece *piece, const uint8_t *bytes)
{
    size_t at = 0;
    int rc = 0;
    while (at < piece->length && !rc) {
        size_t end = at;
        bool zero = false;
        while (end < piece->length) {
            // Granules are those of the target, also where the piece begins inside one.
            size_t n = r->granule - ((piece->offset + end) & (r->granule - 1));
            if (n > piece->length - end)
                n = piece->length - end;
            bool is_zero = block_memory_is_zero(bytes + end, n);
            if (end > at && (is_zero != zero || r->copy->compress))
                break;
            zero = is_zero;
            end += n;
        }
        rc = put(r, piece->offset + at, bytes + at, end - at, zero);
        at = end;
    }
    return rc;
}

// Did the file system let the target have the source's blocks?
static bool share(struct run *r, const struct piece *piece)
{
    if (piece->fd < 0 || atomic_load_explicit(&r->no_sharing, memory_order_relaxed))
        return false;
    int rc =
        os_file_share_range(piece->fd, piece->place, r->target_fd, piece->offset, piece->length);
    if (rc)
        atomic_store(&r->no_sharing, true);
    else
        atomic_fetch_add(&r->copy->shared_bytes, piece->length);
    return !rc;
}

static int copy_piece(struct run *r, const struct piece *piece, uint8_t *bytes)
{
    if (piece->zero)
        return block_write_zeroes(r->copy->target, piece->offset, piece->length, BLOCK_UNMAP);
    if (share(r, piece))
        return 0;
    int rc = block_read(r->copy->source, piece->offset, bytes, piece->length);
    return rc ? rc : put_piece(r, piece, bytes);
}

static void *work(void *argument)
{
    struct run *r = argument;
    uint8_t *bytes = os_aligned_alloc(r->piece);
    struct piece piece;
    int rc = bytes ? 0 : -ENOMEM;
    while (!rc && next_piece(r, &piece))
        rc = copy_piece(r, &piece, bytes);
    if (rc)
        failed(r, rc);
    os_aligned_free(bytes);
    return NULL;
}

int block_copy_run(struct block_copy *copy)
{
    struct run r = {.copy = copy, .total = block_disk_size(copy->source)};
    size_t cluster = block_disk_limits(copy->target)->optimal_io_size;
    r.granule = cluster ? cluster : 4096;
    r.target_fd = copy->no_sharing ? -1 : block_file_fd(block_disk_node(copy->target));
    // Compression takes time: the pieces are single clusters, so that all workers have some.
    r.piece = copy->compress || r.granule > PIECE_BYTES ? r.granule : PIECE_BYTES;
    pthread_t thread[WORKERS_MAX];
    unsigned workers = copy->workers ? copy->workers : WORKERS, started = 0;
    pthread_mutex_init(&r.lock, NULL);
    while (started + 1 < workers && started < WORKERS_MAX &&
           pthread_create(&thread[started], NULL, work, &r) == 0)
        started++;
    work(&r); // the caller is a worker too
    while (started)
        pthread_join(thread[--started], NULL);
    pthread_mutex_destroy(&r.lock);
    return r.result;
}

// ---- Comparing

// How far from `offset` on is the disk known to be zeros? 0: not known.
static int known_zeros(struct block_disk *disk, uint64_t offset, uint64_t length, uint64_t *zeros)
{
    uint64_t size = block_disk_size(disk);
    struct block_extent extent;
    *zeros = length;
    if (offset >= size)
        return 0;
    int rc =
        block_disk_extent(disk, offset, length < size - offset ? length : size - offset, &extent);
    *zeros = extent.zero ? extent.length : 0;
    return rc;
}

static int read_padded(struct block_disk *disk, uint64_t offset, uint8_t *bytes, size_t length)
{
    uint64_t size = block_disk_size(disk);
    size_t inside = offset >= size ? 0 : length < size - offset ? length : size - offset;
    memset(bytes + inside, 0, length - inside);
    return inside ? block_read(disk, offset, bytes, inside) : 0;
}

static int compare_piece(struct block_disk *a, struct block_disk *b, uint64_t offset,
                         uint64_t *length, uint8_t *bytes, bool *equal, uint64_t *at)
{
    uint64_t za, zb;
    int rc = known_zeros(a, offset, *length, &za);
    if (!rc)
        rc = known_zeros(b, offset, *length, &zb);
    if (rc)
        return rc;
    *equal = true;
    if (za && zb) {
        *length = za < zb ? za : zb;
        return 0;
    }
    if (*length > PIECE_BYTES)
        *length = PIECE_BYTES;
    rc = read_padded(a, offset, bytes, *length);
    if (!rc)
        rc = read_padded(b, offset, bytes + PIECE_BYTES, *length);
    if (rc || memcmp(bytes, bytes + PIECE_BYTES, *length) == 0)
        return rc;
    *equal = false;
    for (*at = offset; bytes[*at - offset] == bytes[PIECE_BYTES + *at - offset]; (*at)++)
        ;
    return 0;
}

int block_compare(struct block_disk *a, struct block_disk *b,
                  bool (*progress)(void *user, uint64_t done, uint64_t total), void *user,
                  bool *equal, uint64_t *offset)
{
    uint64_t total =
                 block_disk_size(a) > block_disk_size(b) ? block_disk_size(a) : block_disk_size(b),
             told = 0;
    uint8_t *bytes = os_aligned_alloc(2 * PIECE_BYTES);
    int rc = bytes ? 0 : -ENOMEM;
    *equal = true;
    for (uint64_t at = 0, length; at < total && !rc && *equal; at += length) {
        length = total - at < EXTENT_MAX ? total - at : EXTENT_MAX;
        rc = compare_piece(a, b, at, &length, bytes, equal, offset);
        uint64_t now = os_clock_monotonic_ns();
        if (!rc && progress && now - told >= PROGRESS_NS) {
            told = now;
            rc = progress(user, at + length, total) ? 0 : -ECANCELED;
        }
    }
    os_aligned_free(bytes);
    return rc;
}
