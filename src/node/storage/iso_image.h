// SPDX-License-Identifier: Apache-2.0
//
// A small ISO 9660 image of a few files in one folder: what a guest reads its first configuration from.
//
// Written twice over the same data, as ECMA-119 with lower-case names made upper-case, and with Joliet's names, which are the files' own. Pure.
#ifndef WIRT_NODE_STORAGE_ISO_IMAGE_H
#define WIRT_NODE_STORAGE_ISO_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#define ISO_FILES_MAX  16
#define ISO_NAME_BYTES 31 // letters, digits, '-', '_' and '.'
#define ISO_BYTES_MAX  (4u * 1024 * 1024)

struct iso_file {
    const char *name;
    const void *bytes;
    size_t length;
};
// The image, to be freed; NULL when there are too many files, or names or sizes do not fit. `label` has at most 16 characters.
uint8_t *iso_image_make(const char *label, const struct iso_file *files, size_t count,
                        uint64_t time_s, size_t *length);

#endif
