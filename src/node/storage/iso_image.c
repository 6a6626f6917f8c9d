// SPDX-License-Identifier: Apache-2.0
//
// The image by sectors of 2048 bytes:
//
//     0 … 15   nothing
//     16, 17   descriptors of the volume and of its Joliet counterpart;  18: their end
//     19, 20   path table, in little and in big endian;                  21, 22: Joliet's
//     23       the folder;                                               24: Joliet's
//     25 …     the files
#include "node/storage/iso_image.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECTOR       2048u
#define DESCRIPTORS  16u
#define PATH_TABLES  19u
#define FOLDERS      23u
#define FIRST_FILE   25u
#define RECORD_BYTES 33u // of a directory record without its name
#define PATH_BYTES   10u // of the only path table record
#define LABEL_BYTES  16u

struct writer {
    uint8_t *image;
    struct tm time;
    uint32_t sectors;
};

// ---- Numbers. Most stand twice: little endian, then big.

static void put_le16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static void put_be16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put_le32(uint8_t *at, uint32_t value)
{
    put_le16(at, value & 0xFFFF);
    put_le16(at + 2, value >> 16);
}

static void put_be32(uint8_t *at, uint32_t value)
{
    put_be16(at, value >> 16);
    put_be16(at + 2, value & 0xFFFF);
}

static void put_both16(uint8_t *at, uint32_t value)
{
    put_le16(at, value);
    put_be16(at + 2, value);
}

static void put_both32(uint8_t *at, uint32_t value)
{
    put_le32(at, value);
    put_be32(at + 4, value);
}

// ---- Records.

// A name in the volume's own way, or in UCS-2 for Joliet; its length.
static size_t put_name(uint8_t *at, const char *name, bool joliet)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < length; i++) {
        if (joliet)
            put_be16(at + 2 * i, (unsigned char)name[i]);
        else
            at[i] = (uint8_t)toupper((unsigned char)name[i]);
    }
    return joliet ? 2 * length : length;
}

// A directory record, of a file or (with a name of one byte, 0 or 1) of the folder and its parent, which is the same. Its length.
static size_t put_record(const struct writer *writer, uint8_t *at, uint32_t sector, uint32_t length,
                         const char *name, uint8_t self, bool joliet)
{
    size_t name_length = 1;
    if (name)
        name_length = put_name(at + RECORD_BYTES, name, joliet);
    else
        at[RECORD_BYTES] = self;
    size_t total = (RECORD_BYTES + name_length + 1) & ~(size_t)1;
    at[0] = (uint8_t)total;
    put_both32(at + 2, sector);
    put_both32(at + 10, length);
    at[18] = (uint8_t)writer->time.tm_year;
    at[19] = (uint8_t)(writer->time.tm_mon + 1);
    at[20] = (uint8_t)writer->time.tm_mday;
    at[21] = (uint8_t)writer->time.tm_hour;
    at[22] = (uint8_t)writer->time.tm_min;
    at[23] = (uint8_t)writer->time.tm_sec;
    at[25] = name ? 0 : 2; // a folder
    put_both16(at + 28, 1);
    at[32] = (uint8_t)name_length;
    return total;
}

static void put_folder(const struct writer *writer, const struct iso_file *files, size_t count,
                       bool joliet)
{
    uint32_t own = FOLDERS + joliet, sector = FIRST_FILE;
    uint8_t *at = writer->image + own * SECTOR;
    at += put_record(writer, at, own, SECTOR, NULL, 0, joliet);
    at += put_record(writer, at, own, SECTOR, NULL, 1, joliet);
    for (size_t i = 0; i < count; i++) {
        at += put_record(writer, at, sector, (uint32_t)files[i].length, files[i].name, 0, joliet);
        sector += (uint32_t)((files[i].length + SECTOR - 1) / SECTOR);
    }
}

static void put_path_tables(const struct writer *writer, bool joliet)
{
    uint8_t *little = writer->image + (PATH_TABLES + 2u * joliet) * SECTOR;
    uint8_t *big = little + SECTOR;
    little[0] = big[0] = 1; // the root's name: one zero byte
    put_le32(little + 2, FOLDERS + joliet);
    put_be32(big + 2, FOLDERS + joliet);
    put_le16(little + 6, 1);
    put_be16(big + 6, 1);
}

// ---- Descriptors.

static void put_text(uint8_t *at, size_t size, const char *text, bool joliet)
{
    for (size_t i = 0; i < size; i++)
        at[i] = joliet && !(i & 1) ? 0 : ' ';
    for (size_t i = 0; text[i] && (joliet ? 2 : 1) * (i + 1) <= size; i++)
        at[joliet ? 2 * i + 1 : i] = (uint8_t)text[i];
}

static void put_time(uint8_t *at, const struct tm *time)
{
    char text[17];
    strftime(text, sizeof(text), "%Y%m%d%H%M%S", time);
    memcpy(at, text, 14);
    memcpy(at + 14, "00", 2);
}

static void put_descriptor(const struct writer *writer, const char *label, bool joliet)
{
    static const uint8_t none[17] = "0000000000000000";
    uint8_t *at = writer->image + (DESCRIPTORS + joliet) * SECTOR;
    at[0] = joliet ? 2 : 1;
    memcpy(at + 1, "CD001\1", 6);
    put_text(at + 8, 32, "", joliet);
    put_text(at + 40, 32, label, joliet);
    put_both32(at + 80, writer->sectors);
    if (joliet)
        memcpy(at + 88, "%/E", 3); // UCS-2, level 3
    put_both16(at + 120, 1);
    put_both16(at + 124, 1);
    put_both16(at + 128, SECTOR);
    put_both32(at + 132, PATH_BYTES);
    put_le32(at + 140, PATH_TABLES + 2u * joliet);
    put_be32(at + 148, PATH_TABLES + 2u * joliet + 1);
    put_record(writer, at + 156, FOLDERS + joliet, SECTOR, NULL, 0, joliet);
    put_text(at + 190, 4 * 128, "", joliet);
    put_text(at + 702, 3 * 37, "", joliet);
    put_time(at + 813, &writer->time);
    put_time(at + 830, &writer->time);
    memcpy(at + 847, none, 16);
    put_time(at + 864, &writer->time);
    at[881] = 1;
}

// ---- The whole.

static bool fits(const char *label, const struct iso_file *files, size_t count, uint32_t *sectors)
{
    *sectors = FIRST_FILE;
    if (count > ISO_FILES_MAX || strlen(label) > LABEL_BYTES)
        return false;
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(files[i].name);
        if (!length || length > ISO_NAME_BYTES || files[i].length > ISO_BYTES_MAX)
            return false;
        for (const char *c = files[i].name; *c; c++)
            if (!isalnum((unsigned char)*c) && !strchr("-_.", *c))
                return false;
        *sectors += (uint32_t)((files[i].length + SECTOR - 1) / SECTOR);
    }
    return *sectors <= ISO_BYTES_MAX / SECTOR;
}

uint8_t *iso_image_make(const char *label, const struct iso_file *files, size_t count,
                        uint64_t time_s, size_t *length)
{
    struct writer writer = {0};
    time_t time = (time_t)time_s;
    if (!fits(label, files, count, &writer.sectors) || !gmtime_r(&time, &writer.time))
        return NULL;
    writer.image = calloc(writer.sectors, SECTOR);
    if (!writer.image)
        abort();
    for (int joliet = 0; joliet < 2; joliet++) {
        put_descriptor(&writer, label, joliet);
        put_path_tables(&writer, joliet);
        put_folder(&writer, files, count, joliet);
    }
    uint8_t *end = writer.image + (DESCRIPTORS + 2) * SECTOR;
    end[0] = 255;
    memcpy(end + 1, "CD001\1", 6);
    uint8_t *at = writer.image + FIRST_FILE * SECTOR;
    for (size_t i = 0; i < count; i++) {
        if (files[i].length)
            memcpy(at, files[i].bytes, files[i].length);
        at += (files[i].length + SECTOR - 1) / SECTOR * SECTOR;
    }
    *length = (size_t)writer.sectors * SECTOR;
    return writer.image;
}
