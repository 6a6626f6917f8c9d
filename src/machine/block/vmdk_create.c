// SPDX-License-Identifier: Apache-2.0
//
// A new VMDK image in one file: header, description, second directory with its tables, directory with its
// tables, all tables empty. The header is written last.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/block_driver.h"
#include "machine/block/block_image.h"
#include "machine/block/image_formats.h"
#include "machine/block/vmdk.h"
#include "os/random.h"

#define GRAIN_SECTORS 128 // 64 KiB
#define TEXT_SECTORS  20
#define TABLE_SECTORS 4

static int write_text(struct block_node *file, const struct block_create *c, uint64_t sectors)
{
    char text[TEXT_SECTORS * VMDK_SECTOR] = {0};
    uint32_t id;
    const char *slash = strrchr(file->name, '/');
    os_random_bytes(&id, sizeof(id));
    uint64_t cylinders = sectors / (63 * 16);
    snprintf(text, sizeof(text),
             "# Disk DescriptorFile\n"
             "version=1\n"
             "CID=%08x\n"
             "parentCID=ffffffff\n"
             "createType=\"%s\"\n"
             "\n"
             "# Extent description\n"
             "RW %llu SPARSE \"%.1000s\"\n"
             "\n"
             "# The Disk Data Base\n"
             "#DDB\n"
             "\n"
             "ddb.virtualHWVersion = \"4\"\n"
             "ddb.geometry.cylinders = \"%llu\"\n"
             "ddb.geometry.heads = \"16\"\n"
             "ddb.geometry.sectors = \"63\"\n"
             "ddb.adapterType = \"ide\"\n",
             id & 0xfffffffeu, c->compressed ? "streamOptimized" : "monolithicSparse",
             (unsigned long long)sectors, slash ? slash + 1 : file->name,
             (unsigned long long)(cylinders > 16383 ? 16383 : cylinders));
    return block_node_write_buffer(file, VMDK_SECTOR, text, sizeof(text));
}

// A directory at `sector` with its tables behind it.
static int write_directory(struct block_node *file, uint64_t sector, uint64_t entries,
                           uint64_t directory_sectors)
{
    uint64_t bytes = directory_sectors * VMDK_SECTOR;
    uint8_t *directory = calloc(1, bytes + 1);
    if (!directory)
        return -ENOMEM;
    for (uint64_t i = 0; i < entries; i++)
        store_le32(directory + i * 4, (uint32_t)(sector + directory_sectors + i * TABLE_SECTORS));
    int rc = block_node_write_buffer(file, sector * VMDK_SECTOR, directory, bytes);
    free(directory);
    uint64_t tables = (sector + directory_sectors) * VMDK_SECTOR;
    return rc ? rc : block_node_write_zeros(file, tables, entries * TABLE_SECTORS * VMDK_SECTOR);
}

static int write_image(struct block_node *file, const struct block_create *c)
{
    uint64_t sectors = c->size / VMDK_SECTOR,
             entries = vmdk_directory_entries(sectors, GRAIN_SECTORS);
    uint64_t directory_sectors = (entries * 4 + VMDK_SECTOR - 1) / VMDK_SECTOR;
    uint64_t each = directory_sectors + entries * TABLE_SECTORS;
    struct vmdk_header h = {
        .version = c->compressed ? 3 : 1,
        .flags = VMDK_NEWLINE_TEST | VMDK_SECOND_DIRECTORY |
                 (c->compressed ? VMDK_COMPRESSED | VMDK_MARKERS : 0),
        .capacity = sectors,
        .grain = GRAIN_SECTORS,
        .text_offset = 1,
        .text_sectors = TEXT_SECTORS,
        .second_directory = 1 + TEXT_SECTORS,
        .directory = 1 + TEXT_SECTORS + each,
        .overhead = align_up(1 + TEXT_SECTORS + 2 * each, GRAIN_SECTORS),
        .compression = c->compressed,
    };
    uint8_t bytes[VMDK_HEADER_BYTES];
    vmdk_header_encode(&h, bytes);
    int rc = write_text(file, c, sectors);
    if (!rc)
        rc = write_directory(file, h.second_directory, entries, directory_sectors);
    if (!rc)
        rc = write_directory(file, h.directory, entries, directory_sectors);
    // The first grain begins where the header says.
    if (!rc)
        rc = block_node_write_zeros(file, h.overhead * VMDK_SECTOR - VMDK_SECTOR, VMDK_SECTOR);
    if (!rc)
        rc = block_node_flush(file);
    if (!rc)
        rc = block_node_write_buffer(file, 0, bytes, sizeof(bytes));
    return rc ? rc : block_node_flush(file);
}

int vmdk_check_new(const struct block_create *c, struct err *err)
{
    if (c->backing)
        return err_set(err, ERR_UNSUPPORTED,
                       "VMDK images on a backing file cannot be made; use qcow2");
    if (c->preallocate != BLOCK_PREALLOCATE_OFF)
        return err_set(err, ERR_UNSUPPORTED, "VMDK images cannot be preallocated");
    if (c->size > 2ull * 1024 * GIB - GIB) // places are 32-bit sector numbers
        return err_set(err, ERR_USAGE, "a VMDK image in one file holds less than 2T");
    return 0;
}

int vmdk_create(struct block_node *file, const struct block_create *c, struct err *err)
{
    int rc = write_image(file, c);
    block_node_close(file);
    return rc ? err_set_errno(err, -rc, "cannot write") : 0;
}
