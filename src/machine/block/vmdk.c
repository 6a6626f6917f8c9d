// SPDX-License-Identifier: Apache-2.0
//
// VMware's VMDK: one sparse file (monolithicSparse), the same with compressed grains (streamOptimized), and, for
// reading, a description whose one extent is a flat file.
//
// A directory points to grain tables, they to grains. New grains go to the end of the file. A flush first syncs the
// grains, then writes the changed tables (and their second copies), then syncs again, so that a kill loses at most
// space. A grain of a compressed image is never changed in place: a new one is appended.
//
// A flat extent is a file of its own: the launcher opens it as the "backing" image in raw format, and this node
// has nothing of its own above it.
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/block_driver.h"
#include "machine/block/vmdk.h"

#define LOG_MODULE "vmdk"
#include "base/log.h"

// ---- Tables. Lock held.

static int write_table(struct vmdk *v, struct meta_slot *slot)
{
    int rc = block_node_write_buffer(v->node.next, slot->offset, slot->data, VMDK_TABLE_BYTES);
    for (uint64_t i = 0; v->second && i < v->directory_entries && !rc; i++) {
        uint64_t copy = (uint64_t)load_le32(v->second + i * 4) * VMDK_SECTOR;
        if ((uint64_t)load_le32(v->directory + i * 4) * VMDK_SECTOR == slot->offset && copy)
            rc = block_node_write_buffer(v->node.next, copy, slot->data, VMDK_TABLE_BYTES);
    }
    return rc;
}

static int flush_tables(struct vmdk *v)
{
    int rc = v->tables.dirty ? block_node_flush(v->node.next) : 0; // grains before tables
    for (uint32_t i = 0; i < v->tables.slot_count && v->tables.dirty && !rc; i++) {
        struct meta_slot *slot = &v->tables.slots[i];
        if (!slot->dirty)
            continue;
        meta_cache_begin_write(&v->tables, slot);
        rc = write_table(v, slot);
        meta_cache_end_write(&v->tables, slot, rc != 0);
    }
    return rc;
}

// The table entry of a grain; *slot is NULL when there is no table.
static int find_entry(struct vmdk *v, uint64_t grain, struct meta_slot **slot, uint8_t **entry)
{
    uint64_t table =
        (uint64_t)load_le32(v->directory + grain / VMDK_TABLE_ENTRIES * 4) * VMDK_SECTOR;
    *slot = NULL;
    *entry = NULL;
    if (!table)
        return 0;
    int rc = meta_cache_get(&v->tables, table, slot);
    if (!rc)
        *entry = (*slot)->data + grain % VMDK_TABLE_ENTRIES * 4;
    return rc;
}

static uint64_t take_end(struct vmdk *v, uint64_t bytes)
{
    uint64_t at = v->end;
    v->end = align_up(at + bytes, VMDK_SECTOR);
    return at;
}

// A new, empty table, linked at once: it says nothing yet.
static int add_table(struct vmdk *v, uint64_t index)
{
    uint8_t raw[4];
    uint64_t at = take_end(v, VMDK_TABLE_BYTES);
    if (at / VMDK_SECTOR > UINT32_MAX)
        return -EFBIG;
    int rc = block_node_write_zeros(v->node.next, at, VMDK_TABLE_BYTES);
    if (!rc)
        rc = block_node_flush(v->node.next);
    store_le32(raw, (uint32_t)(at / VMDK_SECTOR));
    if (!rc)
        rc = block_node_write_buffer(v->node.next, v->header.directory * VMDK_SECTOR + index * 4,
                                     raw, 4);
    if (!rc)
        memcpy(v->directory + index * 4, raw, 4);
    return rc;
}

static int set_entry(struct vmdk *v, uint64_t grain, uint32_t value)
{
    struct meta_slot *slot;
    uint8_t *entry;
    int rc = meta_cache_crowded(&v->tables) ? flush_tables(v) : 0;
    if (!rc)
        rc = find_entry(v, grain, &slot, &entry);
    if (!rc && !slot) {
        rc = add_table(v, grain / VMDK_TABLE_ENTRIES);
        if (!rc)
            rc = find_entry(v, grain, &slot, &entry);
    }
    if (rc)
        return rc;
    store_le32(entry, value);
    meta_cache_mark_dirty(&v->tables, slot);
    return 0;
}

enum grain_kind { GRAIN_BELOW, GRAIN_ZEROS, GRAIN_DATA };

static int look_up(struct vmdk *v, uint64_t grain, enum grain_kind *kind, uint64_t *host)
{
    struct meta_slot *slot;
    uint8_t *entry;
    *kind = GRAIN_BELOW;
    *host = 0;
    if (v->flat || grain / VMDK_TABLE_ENTRIES >= v->directory_entries)
        return 0;
    int rc = find_entry(v, grain, &slot, &entry);
    if (rc || !slot)
        return rc;
    uint32_t value = load_le32(entry);
    if (value == VMDK_ENTRY_ZEROS && (v->header.flags & VMDK_ZERO_GRAINS))
        *kind = GRAIN_ZEROS;
    else if (value)
        *kind = GRAIN_DATA;
    *host = (uint64_t)value * VMDK_SECTOR;
    return 0;
}

// ---- Compressed grains

// The whole grain into `plain`; `packed` is scratch.
static int unpack(struct vmdk *v, uint64_t host, uint8_t *packed, uint8_t *plain)
{
    int rc = block_node_read_buffer(v->node.next, host, packed, v->packed_max);
    uint64_t header = (v->header.flags & VMDK_MARKERS) ? VMDK_MARKER_BYTES : 4;
    uint64_t length = rc ? 0 : load_le32(packed + header - 4);
    if (rc)
        return rc;
    if (length > v->packed_max - header)
        return -EIO;
    uLongf out = v->grain_bytes;
    if (uncompress(plain, &out, packed + header, length) != Z_OK)
        return -EIO;
    memset(plain + out, 0, v->grain_bytes - out); // the last grain of a disk may be short
    return 0;
}

static int append_packed(struct vmdk *v, uint64_t grain, const uint8_t *plain, uint8_t *packed,
                         uint64_t *host)
{
    uLongf length = v->packed_max - VMDK_MARKER_BYTES;
    if (compress(packed + VMDK_MARKER_BYTES, &length, plain, v->grain_bytes) != Z_OK)
        return -EIO;
    store_le64(packed, grain * v->header.grain);
    store_le32(packed + 8, (uint32_t)length);
    uint64_t whole = align_up(VMDK_MARKER_BYTES + length, VMDK_SECTOR);
    memset(packed + VMDK_MARKER_BYTES + length, 0, whole - VMDK_MARKER_BYTES - length);
    pthread_mutex_lock(&v->lock);
    *host = take_end(v, whole);
    pthread_mutex_unlock(&v->lock);
    return block_node_write_buffer(v->node.next, *host, packed, whole);
}

// ---- Requests, grain by grain

static void lock_range(struct vmdk *v, struct range_lock *range, uint64_t offset, uint64_t length,
                       bool exclusive)
{
    range_lock_take(&v->ranges, &v->lock, range, align_down(offset, v->grain_bytes),
                    align_up(offset + length, v->grain_bytes), exclusive);
}

static int read_below(struct vmdk *v, uint64_t offset, struct block_vec vec)
{
    if (v->node.backing)
        return block_node_read_padded(v->node.backing, offset, vec);
    block_vec_zero(vec);
    return 0;
}

static int read_packed(struct vmdk *v, uint64_t host, uint64_t skip, struct block_vec vec)
{
    uint8_t *buffer = block_buffers_get(&v->buffers);
    if (!buffer)
        return -ENOMEM;
    int rc = unpack(v, host, buffer, buffer + v->packed_max);
    if (!rc)
        block_vec_fill(vec, buffer + v->packed_max + skip);
    block_buffers_put(&v->buffers, buffer);
    return rc;
}

static int read_grain(struct vmdk *v, uint64_t offset, struct block_vec vec)
{
    enum grain_kind kind;
    uint64_t host, skip = offset & (v->grain_bytes - 1);
    pthread_mutex_lock(&v->lock);
    int rc = look_up(v, offset / v->grain_bytes, &kind, &host);
    pthread_mutex_unlock(&v->lock);
    if (rc)
        return rc;
    if (kind == GRAIN_BELOW)
        return read_below(v, offset, vec);
    if (kind == GRAIN_DATA)
        return v->compressed ? read_packed(v, host, skip, vec)
                             : block_node_read(v->node.next, host + skip, vec);
    block_vec_zero(vec);
    return 0;
}

// What the grain holds now, as far as the disk goes, into `plain`.
static int old_content(struct vmdk *v, uint64_t grain, uint8_t *plain)
{
    uint64_t offset = grain * v->grain_bytes, size = v->node.size;
    size_t inside = size - offset < v->grain_bytes ? size - offset : v->grain_bytes;
    struct iovec iov = {plain, inside};
    memset(plain + inside, 0, v->grain_bytes - inside);
    return read_below(v, offset, block_vec(&iov, inside));
}

// A grain that is new, or compressed: the old content with the new bytes in it, at the end of the file.
static int write_appended(struct vmdk *v, uint64_t offset, struct block_vec vec,
                          enum grain_kind kind, uint64_t old)
{
    uint64_t grain = offset / v->grain_bytes, host = 0;
    uint8_t *buffer = block_buffers_get(&v->buffers);
    if (!buffer)
        return -ENOMEM;
    uint8_t *plain = buffer + v->packed_max;
    int rc = 0;
    if (kind == GRAIN_DATA)
        rc = unpack(v, old, buffer, plain);
    else if (kind == GRAIN_BELOW)
        rc = old_content(v, grain, plain);
    else
        memset(plain, 0, v->grain_bytes);
    block_vec_gather(vec, plain + (offset & (v->grain_bytes - 1)));
    if (!rc && v->compressed) {
        rc = append_packed(v, grain, plain, buffer, &host);
    } else if (!rc) {
        pthread_mutex_lock(&v->lock);
        host = take_end(v, v->grain_bytes);
        pthread_mutex_unlock(&v->lock);
        rc = block_node_write_buffer(v->node.next, host, plain, v->grain_bytes);
    }
    block_buffers_put(&v->buffers, buffer);
    if (rc || host / VMDK_SECTOR > UINT32_MAX)
        return rc ? rc : -EFBIG;
    pthread_mutex_lock(&v->lock);
    rc = set_entry(v, grain, (uint32_t)(host / VMDK_SECTOR));
    pthread_mutex_unlock(&v->lock);
    return rc;
}

static int write_grain(struct vmdk *v, uint64_t offset, struct block_vec vec)
{
    enum grain_kind kind;
    uint64_t host;
    pthread_mutex_lock(&v->lock);
    int rc = look_up(v, offset / v->grain_bytes, &kind, &host);
    pthread_mutex_unlock(&v->lock);
    if (rc)
        return rc;
    if (kind == GRAIN_DATA && !v->compressed)
        return block_node_write(v->node.next, host + (offset & (v->grain_bytes - 1)), vec, 0);
    return write_appended(v, offset, vec, kind, host);
}

static int each_grain(struct vmdk *v, uint64_t offset, struct block_vec vec, bool write)
{
    struct range_lock range;
    int rc = 0;
    pthread_mutex_lock(&v->lock);
    lock_range(v, &range, offset, vec.length, write);
    pthread_mutex_unlock(&v->lock);
    while (vec.length && !rc) {
        uint64_t left = v->grain_bytes - (offset & (v->grain_bytes - 1));
        size_t n = vec.length < left ? vec.length : left;
        struct block_vec piece = block_vec_slice(vec, 0, n);
        rc = write ? write_grain(v, offset, piece) : read_grain(v, offset, piece);
        offset += n;
        vec = block_vec_slice(vec, n, vec.length - n);
    }
    pthread_mutex_lock(&v->lock);
    range_lock_release(&v->ranges, &range);
    pthread_mutex_unlock(&v->lock);
    return rc;
}

static int vmdk_read(struct block_node *node, uint64_t offset, struct block_vec vec)
{
    return each_grain(vmdk_of(node), offset, vec, false);
}

static int vmdk_write(struct block_node *node, uint64_t offset, struct block_vec vec,
                      uint32_t flags)
{
    return each_grain(vmdk_of(node), offset, vec, true);
}

static int vmdk_write_compressed(struct block_node *node, uint64_t offset, struct block_vec vec)
{
    return vmdk_of(node)->compressed ? vmdk_write(node, offset, vec, 0) : -EOPNOTSUPP;
}

static int vmdk_flush(struct block_node *node)
{
    struct vmdk *v = vmdk_of(node);
    pthread_mutex_lock(&v->lock);
    int rc = flush_tables(v);
    pthread_mutex_unlock(&v->lock);
    return rc ? rc : block_node_flush(node->next);
}

// Blocks cannot be given back; what is there stays.
static int vmdk_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    return 0;
}

static int vmdk_zero(struct block_node *node, uint64_t offset, uint64_t length, uint32_t flags)
{
    return -EOPNOTSUPP;
}

static int vmdk_extent(struct block_node *node, uint64_t offset, uint64_t length,
                       struct block_extent *extent)
{
    struct vmdk *v = vmdk_of(node);
    enum grain_kind kind;
    uint64_t host, left = v->grain_bytes - (offset & (v->grain_bytes - 1));
    length = !v->flat && length > left ? left : length;
    pthread_mutex_lock(&v->lock);
    int rc = look_up(v, offset / v->grain_bytes, &kind, &host);
    pthread_mutex_unlock(&v->lock);
    *extent = (struct block_extent){.length = length,
                                    .zero = kind != GRAIN_DATA,
                                    .allocated = kind != GRAIN_BELOW,
                                    .compressed = kind == GRAIN_DATA && v->compressed,
                                    .host_valid = kind == GRAIN_DATA && !v->compressed,
                                    .host_offset = host + (offset & (v->grain_bytes - 1))};
    if (rc || kind != GRAIN_BELOW || !node->backing || offset >= node->backing->size)
        return rc;
    if (length > node->backing->size - offset)
        length = node->backing->size - offset;
    rc = block_node_extent(node->backing, offset, length, extent);
    extent->depth++;
    return rc;
}

static int vmdk_resize(struct block_node *node, uint64_t size, struct err *err)
{
    return err_set(err, ERR_UNSUPPORTED, "'%s': VMDK images cannot be resized; convert it to qcow2",
                   node->name);
}

static int vmdk_finish(struct block_node *node)
{
    return node->read_only || !vmdk_of(node)->directory ? 0 : vmdk_flush(node);
}

static void vmdk_release(struct block_node *node)
{
    struct vmdk *v = vmdk_of(node);
    meta_cache_fini(&v->tables);
    block_buffers_fini(&v->buffers);
    range_locks_fini(&v->ranges);
    pthread_mutex_destroy(&v->lock);
    free(v->directory);
    free(v->second);
}

static const struct block_ops vmdk_ops = {
    .name = "vmdk",
    .read = vmdk_read,
    .write = vmdk_write,
    .flush = vmdk_flush,
    .discard = vmdk_discard,
    .zero = vmdk_zero,
    .write_compressed = vmdk_write_compressed,
    .extent = vmdk_extent,
    .resize = vmdk_resize,
    .finish = vmdk_finish,
    .release = vmdk_release,
};

// ---- Opening

static bool is_sparse(struct block_node *file)
{
    uint8_t magic[4];
    return block_node_read_buffer(file, 0, magic, 4) == 0 && load_le32(magic) == VMDK_MAGIC;
}

static int read_header(struct block_node *file, struct vmdk_header *header, struct err *err)
{
    uint8_t bytes[VMDK_HEADER_BYTES];
    int rc = block_node_read_buffer(file, 0, bytes, sizeof(bytes));
    if (rc)
        return err_set_errno(err, -rc, "cannot read");
    if (vmdk_header_decode(bytes, header, err))
        return -1;
    if (header->directory != VMDK_AT_END)
        return 0;
    // Written as a stream: the header with the directory's place is the last but one sector.
    if (file->size < 3 * VMDK_SECTOR)
        return err_set(err, ERR_INPUT, "malformed VMDK image: it has no footer");
    rc = block_node_read_buffer(file, align_down(file->size, VMDK_SECTOR) - 2 * VMDK_SECTOR, bytes,
                                sizeof(bytes));
    if (rc)
        return err_set_errno(err, -rc, "cannot read");
    return vmdk_header_decode(bytes, header, err) ? err_wrap(err, "footer") : 0;
}

// The description: a part of the file, or all of it. The caller frees.
static char *read_text(struct block_node *file, struct err *err)
{
    struct vmdk_header header = {.version = 0};
    uint64_t offset = 0, length = file->size;
    if (is_sparse(file)) {
        if (read_header(file, &header, err))
            return NULL;
        offset = header.text_offset * VMDK_SECTOR;
        length = header.text_sectors * VMDK_SECTOR;
    }
    if (length > VMDK_TEXT_BYTES)
        length = VMDK_TEXT_BYTES;
    char *text = calloc(1, length + 1);
    int rc = text ? block_node_read_buffer(file, offset, text, length) : -ENOMEM;
    if (!rc)
        return text;
    err_set_errno(err, -rc, "cannot read");
    free(text);
    return NULL;
}

static uint8_t *read_directory(struct vmdk *v, uint64_t sector, struct err *err)
{
    uint64_t bytes = v->directory_entries * 4;
    if (bytes > v->node.memory_limit / 4) {
        err_set(err, ERR_LIMIT, "its directory is larger than the memory allowed for it");
        return NULL;
    }
    if (sector > UINT32_MAX || !range_within(sector * VMDK_SECTOR, bytes, v->node.next->size)) {
        err_set(err, ERR_INPUT,
                "malformed VMDK image: its directory lies beyond the end of the file");
        return NULL;
    }
    uint8_t *directory = malloc(bytes + 1);
    int rc = directory
                 ? block_node_read_buffer(v->node.next, sector * VMDK_SECTOR, directory, bytes)
                 : -ENOMEM;
    if (!rc)
        return directory;
    err_set_errno(err, -rc, "cannot read its directory");
    free(directory);
    return NULL;
}

static int open_sparse(struct vmdk *v, struct err *err)
{
    struct block_node *node = &v->node;
    if (read_header(node->next, &v->header, err))
        return -1;
    v->compressed = v->header.flags & VMDK_COMPRESSED;
    v->grain_bytes = v->header.grain * VMDK_SECTOR;
    v->packed_max = align_up(compressBound(v->grain_bytes) + VMDK_MARKER_BYTES, VMDK_SECTOR);
    v->directory_entries = vmdk_directory_entries(v->header.capacity, v->header.grain);
    node->size = v->header.capacity * VMDK_SECTOR;
    v->end = align_up(node->next->size, VMDK_SECTOR);
    v->directory = read_directory(v, v->header.directory, err);
    if (!v->directory)
        return -1;
    if (v->header.flags & VMDK_SECOND_DIRECTORY) {
        v->second = read_directory(v, v->header.second_directory, NULL);
        if (!v->second)
            log_warn("'%s': its second directory cannot be read and is not kept", node->name);
    }
    if (meta_cache_init(&v->tables, node->next, VMDK_TABLE_BYTES, node->memory_limit / 2))
        return err_set(err, ERR_LIMIT, "no memory for its tables");
    node->limits.optimal_io_size = (uint32_t)v->grain_bytes;
    return 0;
}

static int open_flat(struct vmdk *v, bool read_only, struct err *err)
{
    struct vmdk_text parsed;
    char *text = read_text(v->node.next, err);
    int rc = text ? vmdk_text_parse(text, &parsed, err) : -1;
    free(text);
    if (!rc && (parsed.extents != 1 || !parsed.flat_name[0] || parsed.flat_offset))
        rc = err_set(err, ERR_UNSUPPORTED,
                     "VMDK disks of type '%s' are not supported; only those in one file",
                     parsed.type);
    if (!rc && !read_only)
        rc = err_set(err, ERR_UNSUPPORTED, "flat VMDK images can only be read; convert it first");
    v->flat = true;
    v->grain_bytes = 64 * KIB;
    v->node.size = rc ? 0 : parsed.flat_sectors * VMDK_SECTOR;
    return rc;
}

static struct block_node *vmdk_open(struct block_node *file, bool read_only, struct err *err)
{
    struct vmdk *v = (void *)block_node_create(sizeof(*v), &vmdk_ops, file);
    if (!v) {
        err_set(err, ERR_LIMIT, "no memory for a disk");
        return NULL;
    }
    v->node.read_only = read_only;
    pthread_mutex_init(&v->lock, NULL);
    range_locks_init(&v->ranges);
    int rc = is_sparse(file) ? open_sparse(v, err) : open_flat(v, read_only, err);
    block_buffers_init(&v->buffers, 4, v->packed_max + v->grain_bytes);
    if (rc) {
        err_wrap(err, "'%s'", v->node.name);
        v->node.read_only = true; // nothing to write at the end
        block_node_close(&v->node);
        return NULL;
    }
    v->node.limits.discard_granularity = 0;
    v->node.limits.can_discard = v->node.limits.can_zero = false;
    return &v->node;
}

static int vmdk_backing(struct block_node *file, struct block_backing *backing, struct err *err)
{
    struct vmdk_text parsed;
    char *text = read_text(file, err);
    if (!text)
        return -1;
    int rc = *text ? vmdk_text_parse(text, &parsed, err) : 0;
    backing->name[0] = 0;
    if (!rc && *text) {
        bool flat = parsed.flat_name[0] && !is_sparse(file);
        memcpy(backing->name, flat ? parsed.flat_name : parsed.parent, sizeof(backing->name));
        snprintf(backing->format, sizeof(backing->format), "%s", flat ? "raw" : "vmdk");
    }
    free(text);
    return rc;
}

static bool vmdk_probe(const uint8_t *header, size_t length, const char *name)
{
    static const char text[] = "# Disk DescriptorFile";
    return length >= sizeof(text) &&
           (load_le32(header) == VMDK_MAGIC || memcmp(header, text, sizeof(text) - 1) == 0);
}

const struct block_format vmdk_format = {
    .name = "vmdk",
    .suffixes = "vmdk",
    .about = "VMware, in one file; flat ones for reading",
    .can_write = true,
    .probe = vmdk_probe,
    .backing = vmdk_backing,
    .open = vmdk_open,
    .image = &vmdk_image_ops,
};
