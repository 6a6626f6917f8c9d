// SPDX-License-Identifier: Apache-2.0
//
// The registry of formats, and raw, which is the file itself.
#include <string.h>
#include <strings.h>

#include "base/bits.h"
#include "machine/block/block_driver.h"

static struct block_node *raw_open(struct block_node *file, bool read_only, struct err *err)
{
    return file;
}

static const struct block_format raw_format = {
    .name = "raw",
    .suffixes = "raw img iso",
    .about = "the disk's bytes, nothing else",
    .can_write = true,
    .open = raw_open,
};

extern const struct block_format qcow2_format, vdi_format, vhdx_format, vmdk_format;

// Probed in this order; raw is what is left.
const struct block_format *const block_formats[] = {
    &raw_format, &qcow2_format, &vmdk_format, &vhdx_format, &vdi_format, NULL,
};

const struct block_format *block_format_find(const char *name)
{
    for (const struct block_format *const *format = block_formats; *format; format++) {
        if (strcmp((*format)->name, name) == 0)
            return *format;
    }
    return NULL;
}

static bool lists(const char *words, const char *word)
{
    size_t length = strlen(word);
    while (*words) {
        size_t n = strcspn(words, " ");
        if (n == length && strncasecmp(words, word, n) == 0)
            return true;
        words += n + (words[n] == ' ');
    }
    return false;
}

const struct block_format *block_format_by_suffix(const char *path)
{
    const char *dot = strrchr(path, '.');
    if (!dot || strchr(dot, '/'))
        return NULL;
    for (const struct block_format *const *format = block_formats; *format; format++) {
        if (lists((*format)->suffixes, dot + 1))
            return *format;
    }
    return NULL;
}

const struct block_format *block_format_probe(const uint8_t *header, size_t length,
                                              const char *name)
{
    for (const struct block_format *const *format = block_formats; *format; format++) {
        if ((*format)->probe && (*format)->probe(header, length, name))
            return *format;
    }
    return &raw_format;
}

const char *block_format_foreign(const uint8_t *header, size_t length)
{
    static const struct {
        const char *begin;
        size_t length;
        const char *what;
    } known[] = {
        {"LUKS\xba\xbe", 6, "an encrypted image (LUKS)"},
        {"QED", 4, "a QED image"},
        {"QFI\xfb\0\0\0\1", 8, "a qcow image of version 1"},
        {"conectix", 8, "a VHD image"},
        {"WithoutFreeSpace", 16, "a Parallels image"},
        {"WithouFreSpacExt", 16, "a Parallels image"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(known); i++) {
        if (length >= known[i].length && memcmp(header, known[i].begin, known[i].length) == 0)
            return known[i].what;
    }
    return NULL;
}
