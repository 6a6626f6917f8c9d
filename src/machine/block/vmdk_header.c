// SPDX-License-Identifier: Apache-2.0
//
// All numbers are little-endian and most count sectors. The text is lines of name = value, and one line for each
// extent: ACCESS SECTORS KIND "FILE" OFFSET.
#include "machine/block/vmdk_header.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"

#define SECTORS_MAX (1ull << 53)

static int bad(struct err *err, const char *what)
{
    return err_set(err, ERR_INPUT, "malformed VMDK image: %s", what);
}

int vmdk_header_decode(const uint8_t bytes[VMDK_HEADER_BYTES], struct vmdk_header *h,
                       struct err *err)
{
    if (load_le32(bytes) != VMDK_MAGIC)
        return err_set(err, ERR_INPUT, "not a sparse VMDK image");
    *h = (struct vmdk_header){
        .version = load_le32(bytes + 4),
        .flags = load_le32(bytes + 8),
        .capacity = load_le64(bytes + 12),
        .grain = load_le64(bytes + 20),
        .text_offset = load_le64(bytes + 28),
        .text_sectors = load_le64(bytes + 36),
        .second_directory = load_le64(bytes + 48),
        .directory = load_le64(bytes + 56),
        .overhead = load_le64(bytes + 64),
        .unclean = bytes[72],
        .compression = load_le16(bytes + 77),
    };
    if (h->version < 1 || h->version > 3)
        return err_set(err, ERR_UNSUPPORTED, "VMDK version %u is not known here", h->version);
    if (load_le32(bytes + 44) != VMDK_TABLE_ENTRIES)
        return bad(err, "its grain tables do not have 512 entries");
    if (!is_power_of_two(h->grain) || h->grain < 8 || h->grain > 4096)
        return bad(err, "its grain size");
    if (h->capacity > SECTORS_MAX || h->text_offset > SECTORS_MAX || h->text_sectors > SECTORS_MAX)
        return bad(err, "it is impossibly large");
    if ((h->flags & VMDK_NEWLINE_TEST) && memcmp(bytes + 73, "\n \r\n", 4) != 0)
        return bad(err, "it was transferred as text, which changed its line ends");
    if ((h->flags & VMDK_COMPRESSED) && h->compression != 1)
        return err_set(err, ERR_UNSUPPORTED, "VMDK compression %u is not known here",
                       h->compression);
    return 0;
}

void vmdk_header_encode(const struct vmdk_header *h, uint8_t bytes[VMDK_HEADER_BYTES])
{
    memset(bytes, 0, VMDK_HEADER_BYTES);
    store_le32(bytes, VMDK_MAGIC);
    store_le32(bytes + 4, h->version);
    store_le32(bytes + 8, h->flags);
    store_le64(bytes + 12, h->capacity);
    store_le64(bytes + 20, h->grain);
    store_le64(bytes + 28, h->text_offset);
    store_le64(bytes + 36, h->text_sectors);
    store_le32(bytes + 44, VMDK_TABLE_ENTRIES);
    store_le64(bytes + 48, h->second_directory);
    store_le64(bytes + 56, h->directory);
    store_le64(bytes + 64, h->overhead);
    bytes[72] = h->unclean;
    memcpy(bytes + 73, "\n \r\n", 4);
    store_le16(bytes + 77, h->compression);
}

// ---- The text

// The value of `name = value` or `name="value"` at the beginning of a line.
static bool take_value(const char *line, size_t length, const char *name, char *value, size_t size)
{
    size_t n = strlen(name);
    if (length <= n || strncmp(line, name, n) != 0)
        return false;
    const char *at = line + n, *end = line + length;
    while (at < end && *at == ' ')
        at++;
    if (at == end || *at++ != '=')
        return false;
    while (at < end && (*at == ' ' || *at == '"'))
        at++;
    while (end > at && (end[-1] == '"' || end[-1] == ' ' || end[-1] == '\r'))
        end--;
    snprintf(value, size, "%.*s", (int)(end - at), at);
    return true;
}

// `RW 1234 FLAT "name" 0`
static void take_extent(const char *line, size_t length, struct vmdk_text *t)
{
    static const char *const access[] = {"RW ", "RDONLY ", "NOACCESS "};
    for (size_t i = 0; i < ARRAY_LENGTH(access); i++) {
        size_t n = strlen(access[i]);
        if (length < n || strncmp(line, access[i], n) != 0)
            continue;
        char copy[1200], *rest;
        snprintf(copy, sizeof(copy), "%.*s", (int)(length - n), line + n);
        uint64_t sectors = strtoull(copy, &rest, 10);
        if (t->extents++ || (strncmp(rest, " FLAT ", 6) != 0 && strncmp(rest, " VMFS ", 6) != 0))
            return;
        char *open = strchr(rest, '"'), *close = open ? strchr(open + 1, '"') : NULL;
        if (!close)
            return;
        *close = 0;
        snprintf(t->flat_name, sizeof(t->flat_name), "%.1000s", open + 1);
        t->flat_sectors = sectors;
        t->flat_offset = strtoull(close + 1, NULL, 10);
    }
}

int vmdk_text_parse(const char *text, struct vmdk_text *t, struct err *err)
{
    *t = (struct vmdk_text){.extents = 0};
    if (!strstr(text, "# Disk DescriptorFile") && !strstr(text, "createType"))
        return bad(err, "it has no description");
    for (const char *line = text; *line;) {
        size_t length = strcspn(line, "\n");
        if (!take_value(line, length, "createType", t->type, sizeof(t->type)) &&
            !take_value(line, length, "parentFileNameHint", t->parent, sizeof(t->parent)))
            take_extent(line, length, t);
        line += length + (line[length] == '\n');
    }
    if (t->flat_sectors > SECTORS_MAX || t->flat_offset > SECTORS_MAX)
        return bad(err, "it is impossibly large");
    return 0;
}
