// SPDX-License-Identifier: Apache-2.0
//
// Layout (all big-endian): fixed fields of 72 bytes in version 2, 104 or more in version 3; then
// extensions, each a type, a length and data padded to 8, until type 0; then the backing file's
// name, wherever its offset says, inside the first cluster. Checks here are those that need nothing
// but the header; whoever opens the image checks offsets against the file.
#include "machine/block/qcow2_header.h"

#include <string.h>

#include "base/big_endian.h"
#include "base/err.h"

#define EXTENSION_END            0u
#define EXTENSION_BACKING_FORMAT 0xe2792acau
#define EXTENSION_FEATURES       0x6803f857u
#define EXTENSION_BITMAPS        0x23852875u

#define V2_BYTES 72
#define V3_BYTES 104
#define KNOWN_INCOMPATIBLE                                                                         \
    (QCOW2_DIRTY | QCOW2_CORRUPT | QCOW2_COMPRESSION_TYPE | QCOW2_EXTENDED_L2)
#define SIZE_MAX_BYTES (1ull << 62)

static int bad(struct err *err, const char *what)
{
    return err_set(err, ERR_INPUT, "malformed qcow2 header: %s", what);
}

// Refuse what we cannot do, by name.
static int check_features(const struct qcow2_header *h, uint32_t crypt, struct err *err)
{
    if (crypt)
        return err_set(err, ERR_UNSUPPORTED,
                       "the image is encrypted, which is not supported; "
                       "decrypt it with qemu-img convert first");
    if (h->incompatible & QCOW2_EXTERNAL_DATA)
        return err_set(err, ERR_UNSUPPORTED,
                       "the image keeps its data in an external file, which is not supported");
    if (h->incompatible & ~(uint64_t)KNOWN_INCOMPATIBLE)
        return err_set(err, ERR_UNSUPPORTED,
                       "the image uses qcow2 features (0x%llx) that are not known here",
                       (unsigned long long)(h->incompatible & ~(uint64_t)KNOWN_INCOMPATIBLE));
    if (h->compression > QCOW2_ZSTD)
        return err_set(err, ERR_UNSUPPORTED,
                       "the image uses compression type %u, which is not known here",
                       h->compression);
    return 0;
}

// Each L1 entry covers one L2 table's clusters.
bool qcow2_l1_covers(const struct qcow2_header *h, uint64_t entries, uint64_t size)
{
    unsigned entry_bits = (h->incompatible & QCOW2_EXTENDED_L2) ? 4 : 3;
    unsigned covered_bits = 2 * h->cluster_bits - entry_bits;
    return size <= SIZE_MAX_BYTES &&
           (covered_bits >= 63 || (size + bits_mask(covered_bits)) >> covered_bits <= entries);
}

static int check_fields(const struct qcow2_header *h, struct err *err)
{
    if (h->cluster_bits < 9 || h->cluster_bits > 21)
        return bad(err, "its cluster size is not between 512 bytes and 2 MiB");
    if ((h->incompatible & QCOW2_EXTENDED_L2) && h->cluster_bits < 14)
        return bad(err, "extended L2 entries need clusters of at least 16 KiB");
    if (h->refcount_order > 6)
        return bad(err, "refcounts of more than 64 bits");
    if (h->size > SIZE_MAX_BYTES)
        return bad(err, "the disk is impossibly large");
    uint64_t mask = qcow2_cluster_size(h) - 1;
    if ((h->l1_offset & mask) || (h->l1_entries && !h->l1_offset))
        return bad(err, "the L1 table is not at a cluster");
    if ((h->snapshot_offset & mask) || (h->snapshot_count && !h->snapshot_offset))
        return bad(err, "the snapshot table is not at a cluster");
    if (h->bitmap_count && (!h->bitmap_directory_offset || (h->bitmap_directory_offset & mask)))
        return bad(err, "the bitmap directory is not at a cluster");
    if (!qcow2_l1_covers(h, h->l1_entries, h->size))
        return bad(err, "the L1 table is too small for the disk");
    return 0;
}

static int decode_extension(struct qcow2_header *h, uint32_t type, const uint8_t *data,
                            uint32_t length, struct err *err)
{
    switch (type) {
    case EXTENSION_BACKING_FORMAT:
        if (length >= sizeof(h->backing_format))
            return bad(err, "the backing format's name is too long");
        memcpy(h->backing_format, data, length);
        return 0;
    case EXTENSION_FEATURES: // names of bits: written anew
        return 0;
    case EXTENSION_BITMAPS:
        if (length < 24)
            return bad(err, "the bitmaps extension is too short");
        h->bitmap_count = load_be32(data);
        h->bitmap_directory_bytes = load_be64(data + 8);
        h->bitmap_directory_offset = load_be64(data + 16);
        return 0;
    default: {
        uint32_t whole = 8 + (uint32_t)align_up(length, 8);
        if (h->other_bytes + whole > sizeof(h->other))
            return bad(err, "its extensions are too long");
        store_be32(h->other + h->other_bytes, type);
        store_be32(h->other + h->other_bytes + 4, length);
        memcpy(h->other + h->other_bytes + 8, data, length);
        h->other_bytes += whole;
        return 0;
    }
    }
}

static int decode_extensions(const uint8_t *bytes, size_t at, size_t end, struct qcow2_header *h,
                             struct err *err)
{
    while (at + 8 <= end) {
        uint32_t type = load_be32(bytes + at), length = load_be32(bytes + at + 4);
        if (type == EXTENSION_END)
            return 0;
        if (length > end - at - 8)
            return bad(err, "an extension goes beyond the header");
        if (decode_extension(h, type, bytes + at + 8, length, err))
            return -1;
        at += 8 + align_up(length, 8);
    }
    return 0;
}

int qcow2_header_decode(const uint8_t *bytes, size_t length, struct qcow2_header *h,
                        struct err *err)
{
    *h = (struct qcow2_header){0};
    if (length < V3_BYTES || load_be32(bytes) != QCOW2_MAGIC)
        return err_set(err, ERR_INPUT, "not a qcow2 image");
    h->version = load_be32(bytes + 4);
    uint64_t backing_offset = load_be64(bytes + 8);
    uint32_t backing_length = load_be32(bytes + 16);
    h->cluster_bits = load_be32(bytes + 20);
    h->size = load_be64(bytes + QCOW2_AT_SIZE);
    uint32_t crypt = load_be32(bytes + 32);
    h->l1_entries = load_be32(bytes + QCOW2_AT_L1_ENTRIES);
    h->l1_offset = load_be64(bytes + QCOW2_AT_L1_OFFSET);
    h->refcount_table_offset = load_be64(bytes + QCOW2_AT_REFCOUNT_TABLE_OFFSET);
    h->refcount_table_clusters = load_be32(bytes + QCOW2_AT_REFCOUNT_TABLE_CLUSTERS);
    h->snapshot_count = load_be32(bytes + QCOW2_AT_SNAPSHOT_COUNT);
    h->snapshot_offset = load_be64(bytes + QCOW2_AT_SNAPSHOT_OFFSET);
    h->refcount_order = 4;
    size_t fixed = V2_BYTES;
    if (h->version == 3) {
        h->incompatible = load_be64(bytes + QCOW2_AT_INCOMPATIBLE);
        h->compatible = load_be64(bytes + QCOW2_AT_COMPATIBLE);
        h->autoclear = load_be64(bytes + QCOW2_AT_AUTOCLEAR);
        h->refcount_order = load_be32(bytes + 96);
        fixed = load_be32(bytes + 100);
        if (fixed < V3_BYTES || fixed % 8 || fixed > length)
            return bad(err, "its length field");
        h->compression = fixed > V3_BYTES ? bytes[104] : 0;
    } else if (h->version != 2) {
        return err_set(err, ERR_UNSUPPORTED, "qcow2 version %u is not known here", h->version);
    }
    if (check_features(h, crypt, err) || check_fields(h, err))
        return -1;
    size_t room = length < qcow2_cluster_size(h) ? length : qcow2_cluster_size(h);
    if (backing_offset) {
        if (backing_length > QCOW2_BACKING_NAME_MAX ||
            !range_within(backing_offset, backing_length, room) ||
            memchr(bytes + backing_offset, 0, backing_length))
            return bad(err, "the backing file's name");
        memcpy(h->backing_name, bytes + backing_offset, backing_length);
        room = backing_offset > fixed ? backing_offset : fixed;
    }
    return decode_extensions(bytes, fixed, room, h, err);
}

struct cursor {
    uint8_t *bytes;
    size_t at, room;
};

// NULL when it does not fit.
static uint8_t *append(struct cursor *c, size_t length)
{
    if (length > c->room - c->at)
        return NULL;
    uint8_t *at = c->bytes + c->at;
    c->at += length;
    return at;
}

static bool append_extension(struct cursor *c, uint32_t type, const void *data, uint32_t length)
{
    uint8_t *at = append(c, 8 + align_up(length, 8));
    if (!at)
        return false;
    store_be32(at, type);
    store_be32(at + 4, length);
    memcpy(at + 8, data, length);
    return true;
}

static bool append_extensions(struct cursor *c, const struct qcow2_header *h)
{
    if (h->backing_format[0] && !append_extension(c, EXTENSION_BACKING_FORMAT, h->backing_format,
                                                  (uint32_t)strlen(h->backing_format)))
        return false;
    if (h->bitmap_count) {
        uint8_t data[24] = {0};
        store_be32(data, h->bitmap_count);
        store_be64(data + 8, h->bitmap_directory_bytes);
        store_be64(data + 16, h->bitmap_directory_offset);
        if (!append_extension(c, EXTENSION_BITMAPS, data, sizeof(data)))
            return false;
    }
    uint8_t *other = append(c, h->other_bytes);
    if (!other)
        return false;
    memcpy(other, h->other, h->other_bytes);
    return append(c, 8) != NULL; // the end mark
}

static void encode_fixed(const struct qcow2_header *h, uint8_t *bytes)
{
    store_be32(bytes, QCOW2_MAGIC);
    store_be32(bytes + 4, h->version);
    store_be32(bytes + 20, h->cluster_bits);
    store_be64(bytes + QCOW2_AT_SIZE, h->size);
    store_be32(bytes + QCOW2_AT_L1_ENTRIES, h->l1_entries);
    store_be64(bytes + QCOW2_AT_L1_OFFSET, h->l1_offset);
    store_be64(bytes + QCOW2_AT_REFCOUNT_TABLE_OFFSET, h->refcount_table_offset);
    store_be32(bytes + QCOW2_AT_REFCOUNT_TABLE_CLUSTERS, h->refcount_table_clusters);
    store_be32(bytes + QCOW2_AT_SNAPSHOT_COUNT, h->snapshot_count);
    store_be64(bytes + QCOW2_AT_SNAPSHOT_OFFSET, h->snapshot_offset);
    if (h->version < 3)
        return;
    store_be64(bytes + QCOW2_AT_INCOMPATIBLE, h->incompatible);
    store_be64(bytes + QCOW2_AT_COMPATIBLE, h->compatible);
    store_be64(bytes + QCOW2_AT_AUTOCLEAR, h->autoclear);
    store_be32(bytes + 96, h->refcount_order);
    store_be32(bytes + 100, V3_BYTES + 8);
    bytes[104] = h->compression;
}

size_t qcow2_header_encode(const struct qcow2_header *h, uint8_t *bytes, size_t room)
{
    struct cursor c = {bytes, h->version == 3 ? V3_BYTES + 8 : V2_BYTES, room};
    memset(bytes, 0, room);
    encode_fixed(h, bytes);
    if (!append_extensions(&c, h))
        return 0;
    size_t length = strlen(h->backing_name);
    if (length) {
        store_be64(bytes + 8, c.at);
        store_be32(bytes + 16, (uint32_t)length);
        uint8_t *name = append(&c, length);
        if (!name)
            return 0;
        memcpy(name, h->backing_name, length);
    }
    return c.at;
}
