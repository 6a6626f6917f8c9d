// SPDX-License-Identifier: Apache-2.0
//
// Hyper-V's VHDX, for reading. Two headers, of which the one with the higher sequence number and a right checksum
// counts; a region table that says where the metadata and the block allocation table (BAT) lie; the metadata with the
// disk's size. After every `ratio` entries of the BAT stands one for a sector bitmap, which only differencing
// images use. An image whose log is not empty was not closed: it is read as if the log had been applied (vhdx_log.h).
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/crc32c.h"
#include "machine/block/mapped.h"
#include "machine/block/vhdx_log.h"

#define HEADER_BYTES   (4 * KIB)
#define REGION_BYTES   (64 * KIB)
#define METADATA_BYTES (64 * KIB)
#define REGIONS_MAX    2047
#define LOG_UNIT       MIB
#define ITEMS_MAX      2047
#define BAT_PLACE      0xfffffffffff00000ull // bits 20 and up: the offset

enum bat_state {
    BAT_NOT_PRESENT,
    BAT_UNDEFINED,
    BAT_ZERO,
    BAT_UNMAPPED,
    BAT_PRESENT = 6,
    BAT_PARTIAL = 7
};

// GUIDs as they stand in the file.
static const uint8_t guid_bat[16] = {0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42,
                                     0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08};
static const uint8_t guid_metadata[16] = {0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
                                          0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e};
static const uint8_t guid_parameters[16] = {0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d,
                                            0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b};
static const uint8_t guid_size[16] = {0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48,
                                      0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8};
static const uint8_t guid_sector[16] = {0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47,
                                        0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f};

struct vhdx {
    struct mapped mapped;
    uint64_t ratio;   // constant: BAT entries before each bitmap's
    uint64_t entries; // constant
    uint8_t *bat;     // owned: 64-bit entries as in the file
};

static int vhdx_lookup(struct mapped *mapped, uint64_t index, enum mapped_kind *kind,
                       uint64_t *host)
{
    struct vhdx *vhdx = CONTAINER_OF(mapped, struct vhdx, mapped);
    uint64_t at = index + index / vhdx->ratio;
    *kind = MAPPED_ZEROS;
    *host = 0;
    if (at >= vhdx->entries)
        return 0;
    uint64_t entry = load_le64(vhdx->bat + at * 8);
    if ((entry & 7) == BAT_PRESENT) {
        *kind = MAPPED_DATA;
        *host = entry & BAT_PLACE;
    }
    return 0;
}

static void vhdx_release(struct block_node *node)
{
    free(CONTAINER_OF(node, struct vhdx, mapped.node)->bat);
}

static const struct block_ops vhdx_ops = {
    .name = "vhdx",
    .read = mapped_read,
    .extent = mapped_extent,
    .release = vhdx_release,
};

// Read a structure and check signature and checksum (at byte 4, counted as zeros).
static bool read_checked(struct block_node *file, uint64_t offset, uint8_t *bytes, size_t length,
                         const char *signature)
{
    if (block_node_read_buffer(file, offset, bytes, length) || memcmp(bytes, signature, 4) != 0)
        return false;
    uint32_t sum = load_le32(bytes + 4);
    store_le32(bytes + 4, 0);
    bool right = crc32c(bytes, length) == sum;
    store_le32(bytes + 4, sum);
    return right;
}

// The header that counts; `log` of no length: it is empty.
static int check_header(struct block_node *file, struct vhdx_log *log, struct err *err)
{
    static const uint8_t no_log[16];
    *log = (struct vhdx_log){.length = 0};
    uint8_t one[HEADER_BYTES], two[HEADER_BYTES];
    bool have_one = read_checked(file, 64 * KIB, one, sizeof(one), "head");
    bool have_two = read_checked(file, 128 * KIB, two, sizeof(two), "head");
    if (!have_one && !have_two)
        return err_set(err, ERR_INPUT, "malformed VHDX image: neither of its headers is whole");
    const uint8_t *header =
        have_one && (!have_two || load_le64(one + 8) > load_le64(two + 8)) ? one : two;
    if (load_le16(header + 66) != 1)
        return err_set(err, ERR_UNSUPPORTED, "VHDX version %u is not known here",
                       load_le16(header + 66));
    if (memcmp(header + 48, no_log, sizeof(no_log)) == 0)
        return 0;
    memcpy(log->guid, header + 48, sizeof(log->guid));
    log->length = load_le32(header + 68);
    log->offset = load_le64(header + 72);
    if (!log->length || log->length % LOG_UNIT || log->offset % LOG_UNIT ||
        !range_within(log->offset, log->length, file->size))
        return err_set(err, ERR_INPUT, "malformed VHDX image: the place of its log");
    return log->length <= file->memory_limit / 4
               ? 0
               : err_set(err, ERR_LIMIT, "its log is larger than the memory allowed for it");
}

static int find_regions(struct block_node *file, uint64_t bat[2], uint64_t metadata[2],
                        struct err *err)
{
    uint8_t *table = malloc(REGION_BYTES);
    bool right = table && (read_checked(file, 192 * KIB, table, REGION_BYTES, "regi") ||
                           read_checked(file, 256 * KIB, table, REGION_BYTES, "regi"));
    uint32_t count = right ? load_le32(table + 8) : 0;
    for (uint32_t i = 0; i < count && i < REGIONS_MAX; i++) {
        const uint8_t *entry = table + 16 + (size_t)i * 32;
        uint64_t *found = memcmp(entry, guid_bat, 16) == 0        ? bat
                          : memcmp(entry, guid_metadata, 16) == 0 ? metadata
                                                                  : NULL;
        if (found) {
            found[0] = load_le64(entry + 16);
            found[1] = load_le32(entry + 24);
        }
    }
    free(table);
    if (!right || !bat[1] || metadata[1] < METADATA_BYTES)
        return err_set(err, ERR_INPUT, "malformed VHDX image: its region table");
    return 0;
}

// An item of at least `length` bytes; NULL when it is not there. `place` is where the metadata lie, `table` their head.
static bool read_item(struct block_node *file, const uint64_t place[2], const uint8_t *table,
                      const uint8_t guid[16], void *item, size_t length)
{
    uint32_t count = load_le16(table + 10);
    for (uint32_t i = 0; i < count && i < ITEMS_MAX; i++) {
        const uint8_t *entry = table + 32 + (size_t)i * 32;
        if (memcmp(entry, guid, 16) != 0)
            continue;
        uint32_t offset = load_le32(entry + 16);
        return load_le32(entry + 20) >= length && range_within(offset, length, place[1]) &&
               block_node_read_buffer(file, place[0] + offset, item, length) == 0;
    }
    return false;
}

static int read_metadata(struct vhdx *vhdx, const uint64_t place[2], struct err *err)
{
    struct block_node *node = &vhdx->mapped.node, *file = node->next;
    uint8_t *table = mapped_read_table(file, place[0], METADATA_BYTES, METADATA_BYTES, err);
    uint8_t parameters[8], size[8], sector[4];
    if (!table)
        return -1;
    bool right = memcmp(table, "metadata", 8) == 0 &&
                 read_item(file, place, table, guid_parameters, parameters, 8) &&
                 read_item(file, place, table, guid_size, size, 8) &&
                 read_item(file, place, table, guid_sector, sector, 4);
    free(table);
    if (!right)
        return err_set(err, ERR_INPUT, "malformed VHDX image: its metadata");
    uint32_t block = load_le32(parameters), flags = load_le32(parameters + 4),
             sector_bytes = load_le32(sector);
    if (flags & 2)
        return err_set(err, ERR_UNSUPPORTED, "differencing VHDX images are not supported");
    if (block < MIB || block > 256 * MIB || !is_power_of_two(block) ||
        (sector_bytes != 512 && sector_bytes != 4096))
        return err_set(err, ERR_INPUT, "malformed VHDX image: blocks of %u bytes, sectors of %u",
                       block, sector_bytes);
    vhdx->mapped.block_bytes = block;
    vhdx->ratio = ((uint64_t)sector_bytes << 23) / block;
    node->size = load_le64(size);
    node->limits.logical_block_size = sector_bytes;
    return node->size <= BIT(46)
               ? 0
               : err_set(err, ERR_INPUT, "malformed VHDX image: the disk is impossibly large");
}

static int parse(struct vhdx *vhdx, struct err *err)
{
    struct block_node *node = &vhdx->mapped.node;
    uint64_t bat[2] = {0, 0}, metadata[2] = {0, 0};
    if (find_regions(node->next, bat, metadata, err) || read_metadata(vhdx, metadata, err))
        return -1;
    uint64_t blocks = (node->size + vhdx->mapped.block_bytes - 1) / vhdx->mapped.block_bytes;
    vhdx->entries = blocks + (blocks ? (blocks - 1) / vhdx->ratio : 0);
    if (vhdx->entries * 8 > bat[1])
        return err_set(err, ERR_INPUT,
                       "malformed VHDX image: its block table is too small for the disk");
    vhdx->bat = mapped_read_table(node->next, bat[0], vhdx->entries * 8, node->memory_limit, err);
    return vhdx->bat ? 0 : -1;
}

static struct block_node *vhdx_open(struct block_node *file, bool read_only, struct err *err)
{
    struct vhdx_log log = {0};
    int rc = read_only
                 ? check_header(file, &log, err)
                 : err_set(err, ERR_UNSUPPORTED, "VHDX images can only be read; convert it first");
    if (rc) {
        err_wrap(err, "'%s'", file->name);
        block_node_close(file);
        return NULL;
    }
    if (log.length && !(file = vhdx_log_replay(file, &log, err)))
        return NULL;
    struct vhdx *vhdx = (void *)block_node_create(sizeof(*vhdx), &vhdx_ops, file);
    if (!vhdx) {
        err_set(err, ERR_LIMIT, "no memory for a disk");
        return NULL;
    }
    struct block_node *node = &vhdx->mapped.node;
    vhdx->mapped.lookup = vhdx_lookup;
    if (parse(vhdx, err)) {
        err_wrap(err, "'%s'", node->name);
        block_node_close(node);
        return NULL;
    }
    return node;
}

static bool vhdx_probe(const uint8_t *header, size_t length, const char *name)
{
    return length >= 8 && memcmp(header, "vhdxfile", 8) == 0;
}

const struct block_format vhdx_format = {
    .name = "vhdx",
    .suffixes = "vhdx",
    .about = "Hyper-V, for reading",
    .probe = vhdx_probe,
    .open = vhdx_open,
};
