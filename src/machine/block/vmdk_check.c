// SPDX-License-Identifier: Apache-2.0
//
// Checking a VMDK image: each grain that a table names lies whole in the file, behind what describes the image, and belongs to nobody else; a
// compressed one says itself whose it is. Space between grains that nothing names is leaked: it harms nobody, and converting the image is the only
// way to get it back. There is nothing to repair that could be known to be right.
//
// What is in use is marked sector by sector, one bit each, within the memory limit.
#include <stdio.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/vmdk.h"

#define FINDINGS_MAX 100

struct check {
    struct vmdk *v;
    struct block_node *file;
    struct block_check *result;
    uint8_t *used; // owned: a bit for each sector of the file
    uint64_t sectors;
    unsigned findings;
};

static void corruption(struct check *c, const char *what, uint64_t index, const char *problem,
                       uint64_t sector)
{
    char text[160];
    c->result->corruptions++;
    if (!c->result->report || c->findings++ >= FINDINGS_MAX)
        return;
    snprintf(text, sizeof(text), "%s %llu %s, at sector %llu", what, (unsigned long long)index,
             problem, (unsigned long long)sector);
    c->result->report(c->result->user, text);
}

// Sectors that `what` number `index` has for itself. False when that cannot be.
static bool take(struct check *c, uint64_t first, uint64_t count, const char *what, uint64_t index)
{
    if (!range_within(first, count, c->sectors)) {
        corruption(c, what, index, "lies outside the file", first);
        return false;
    }
    bool shared = false;
    for (uint64_t i = first; i < first + count; i++) {
        shared |= c->used[i / 8] >> (i % 8) & 1;
        c->used[i / 8] |= (uint8_t)(1u << (i % 8));
    }
    if (shared)
        corruption(c, what, index, "shares sectors with something else", first);
    return !shared;
}

// The sectors of a compressed grain, by what stands before it; 0: it is not one, or not this one.
static int packed_sectors(struct check *c, uint64_t grain, uint64_t sector, uint64_t *sectors)
{
    const struct vmdk_header *header = &c->v->header;
    uint8_t bytes[VMDK_MARKER_BYTES];
    uint64_t size = (header->flags & VMDK_MARKERS) ? VMDK_MARKER_BYTES : 4;
    *sectors = 0;
    if (sector >= c->sectors)
        return 0;
    int rc = block_node_read_buffer(c->file, sector * VMDK_SECTOR, bytes, size);
    if (rc)
        return rc;
    uint64_t length = load_le32(bytes + size - 4);
    bool mine = !(header->flags & VMDK_MARKERS) || load_le64(bytes) == grain * header->grain;
    if (mine && length && length <= c->v->packed_max)
        *sectors = align_up(size + length, VMDK_SECTOR) / VMDK_SECTOR;
    return 0;
}

static int check_grain(struct check *c, uint64_t grain, uint32_t sector)
{
    uint64_t count = c->v->header.grain;
    bool zeros = sector == VMDK_ENTRY_ZEROS && (c->v->header.flags & VMDK_ZERO_GRAINS);
    if (!sector || zeros)
        return 0;
    c->result->allocated++;
    c->result->compressed += c->v->compressed;
    if (c->v->compressed) {
        int rc = packed_sectors(c, grain, sector, &count);
        if (rc)
            return rc;
        if (!count) {
            corruption(c, "grain", grain, "is not what stands there", sector);
            return 0;
        }
    }
    take(c, sector, count, "grain", grain);
    return 0;
}

static int check_table(struct check *c, uint64_t index, uint64_t sector)
{
    uint8_t table[VMDK_TABLE_BYTES];
    if (!take(c, sector, VMDK_TABLE_BYTES / VMDK_SECTOR, "table", index))
        return 0;
    int rc = block_node_read_buffer(c->file, sector * VMDK_SECTOR, table, sizeof(table));
    uint64_t first = index * VMDK_TABLE_ENTRIES;
    for (uint64_t i = 0; i < VMDK_TABLE_ENTRIES && first + i < c->result->clusters && !rc; i++)
        rc = check_grain(c, first + i, load_le32(table + i * 4));
    return rc;
}

static void take_directory(struct check *c, uint64_t sector, const char *what)
{
    take(c, sector, align_up(c->v->directory_entries * 4, VMDK_SECTOR) / VMDK_SECTOR, what, 0);
}

static int walk(struct check *c)
{
    const struct vmdk *v = c->v;
    int rc = 0;
    take(c, 0, 1, "header", 0);
    if (v->header.text_sectors)
        take(c, v->header.text_offset, v->header.text_sectors, "description", 0);
    take_directory(c, v->header.directory, "directory");
    if (v->second)
        take_directory(c, v->header.second_directory, "second directory");
    // Tables first: they are where they are whatever the grains say.
    for (uint64_t i = 0; v->second && i < v->directory_entries; i++) {
        uint64_t sector = load_le32(v->second + i * 4);
        if (sector)
            take(c, sector, VMDK_TABLE_BYTES / VMDK_SECTOR, "second table", i);
    }
    for (uint64_t i = 0; i < v->directory_entries && !rc; i++) {
        uint64_t sector = load_le32(v->directory + i * 4);
        if (sector)
            rc = check_table(c, i, sector);
    }
    return rc;
}

static void count_leaks(struct check *c)
{
    const struct vmdk_header *header = &c->v->header;
    uint64_t free = 0;
    for (uint64_t i = header->overhead; i < c->sectors; i++)
        free += !(c->used[i / 8] >> (i % 8) & 1);
    if (!c->v->compressed) // a stream has markers between its grains
        c->result->leaks = free / header->grain;
}

static int vmdk_check(struct block_node *node, bool repair, struct block_check *result,
                      struct err *err)
{
    struct vmdk *v = vmdk_of(node);
    struct check c = {.v = v, .file = node->next, .result = result};
    if (v->flat)
        return err_set(err, ERR_UNSUPPORTED, "a flat VMDK image has nothing to check");
    if (repair)
        return err_set(err, ERR_UNSUPPORTED,
                       "VMDK images are not repaired; convert what can be read to qcow2");
    int rc = node->read_only ? 0 : block_node_flush(node);
    if (rc)
        return err_set_errno(err, -rc, "cannot write '%s'", node->name);
    c.sectors = (c.file->size + VMDK_SECTOR - 1) / VMDK_SECTOR;
    uint64_t limit = result->memory_limit ? result->memory_limit : node->memory_limit;
    if (c.sectors / 8 >= limit)
        return err_set(err, ERR_LIMIT, "'%s' is too large to be checked in %llu bytes of memory",
                       node->name, (unsigned long long)limit);
    c.used = calloc(1, c.sectors / 8 + 1);
    if (!c.used)
        return err_set(err, ERR_LIMIT, "no memory to check '%s'", node->name);
    result->clusters = (v->header.capacity + v->header.grain - 1) / v->header.grain;
    rc = walk(&c);
    count_leaks(&c);
    free(c.used);
    return rc ? err_set_errno(err, -rc, "cannot read '%s'", node->name) : 0;
}

const struct block_image_ops vmdk_image_ops = {.check = vmdk_check};
