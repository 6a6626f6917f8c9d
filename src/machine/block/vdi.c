// SPDX-License-Identifier: Apache-2.0
//
// VirtualBox's VDI, for reading: a header of 512 bytes, an array with the place of each block, the blocks.
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/mapped.h"

#define VDI_SIGNATURE   0xbeda107fu
#define VDI_UNALLOCATED 0xffffffffu
#define VDI_ZEROS       0xfffffffeu
#define HEADER_BYTES    512

enum { VDI_DYNAMIC = 1, VDI_FIXED = 2 };

struct vdi {
    struct mapped mapped;
    uint64_t data_offset; // constant
    uint64_t step;        // constant: from block to block in the file
    uint32_t blocks;      // constant
    uint8_t *map;         // owned: 32-bit entries as in the file
};

static int vdi_lookup(struct mapped *mapped, uint64_t index, enum mapped_kind *kind, uint64_t *host)
{
    struct vdi *vdi = CONTAINER_OF(mapped, struct vdi, mapped);
    *kind = MAPPED_ZEROS;
    *host = 0;
    if (index >= vdi->blocks)
        return 0;
    uint32_t entry = load_le32(vdi->map + index * 4);
    if (entry == VDI_UNALLOCATED || entry == VDI_ZEROS)
        return 0;
    *kind = MAPPED_DATA;
    *host = vdi->data_offset + entry * vdi->step; // beyond the file's end there are zeros
    return 0;
}

static void vdi_release(struct block_node *node)
{
    free(CONTAINER_OF(node, struct vdi, mapped.node)->map);
}

static const struct block_ops vdi_ops = {
    .name = "vdi",
    .read = mapped_read,
    .extent = mapped_extent,
    .release = vdi_release,
};

static int parse(struct vdi *vdi, const uint8_t *h, struct err *err)
{
    struct block_node *node = &vdi->mapped.node;
    uint32_t type = load_le32(h + 0x4c), map_offset = load_le32(h + 0x154),
             block = load_le32(h + 0x178);
    if (load_le32(h + 0x40) != VDI_SIGNATURE)
        return err_set(err, ERR_INPUT, "not a VDI image");
    if (load_le32(h + 0x44) >> 16 != 1)
        return err_set(err, ERR_UNSUPPORTED, "VDI version %u is not known here",
                       load_le32(h + 0x44) >> 16);
    if (type != VDI_DYNAMIC && type != VDI_FIXED)
        return err_set(err, ERR_UNSUPPORTED,
                       "VDI images of type %u (differencing) are not supported", type);
    if (block < 4 * KIB || block > 256 * MIB || block % 512)
        return err_set(err, ERR_INPUT, "malformed VDI header: blocks of %u bytes", block);
    vdi->mapped.block_bytes = block;
    vdi->step = (uint64_t)block + load_le32(h + 0x17c);
    vdi->data_offset = load_le32(h + 0x158) + (uint64_t)load_le32(h + 0x17c);
    vdi->blocks = load_le32(h + 0x180);
    node->size = load_le64(h + 0x170);
    if (node->size > (uint64_t)vdi->blocks * block)
        return err_set(err, ERR_INPUT, "malformed VDI header: fewer blocks than the disk needs");
    vdi->map =
        mapped_read_table(node->next, map_offset, vdi->blocks * 4ull, node->memory_limit, err);
    return vdi->map ? 0 : -1;
}

static struct block_node *vdi_open(struct block_node *file, bool read_only, struct err *err)
{
    uint8_t header[HEADER_BYTES];
    struct vdi *vdi = (void *)block_node_create(sizeof(*vdi), &vdi_ops, file);
    if (!vdi) {
        err_set(err, ERR_LIMIT, "no memory for a disk");
        return NULL;
    }
    struct block_node *node = &vdi->mapped.node;
    vdi->mapped.lookup = vdi_lookup;
    int rc = block_node_read_buffer(file, 0, header, sizeof(header));
    if (rc)
        err_set_errno(err, -rc, "cannot read");
    else if (!read_only)
        rc = err_set(err, ERR_UNSUPPORTED, "VDI images can only be read; convert it first");
    if (rc || parse(vdi, header, err)) {
        err_wrap(err, "'%s'", node->name);
        block_node_close(node);
        return NULL;
    }
    node->limits.optimal_io_size = 0;
    return node;
}

static bool vdi_probe(const uint8_t *header, size_t length, const char *name)
{
    return length >= HEADER_BYTES && load_le32(header + 0x40) == VDI_SIGNATURE;
}

const struct block_format vdi_format = {
    .name = "vdi",
    .suffixes = "vdi",
    .about = "VirtualBox, for reading",
    .probe = vdi_probe,
    .open = vdi_open,
};
