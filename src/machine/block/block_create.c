// SPDX-License-Identifier: Apache-2.0
//
// New images: the checks that all formats share, and raw.
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/block_driver.h"
#include "machine/block/block_image.h"
#include "machine/block/image_formats.h"
#include "os/file.h"

int raw_create(struct block_node *file, const struct block_create *create, struct err *err)
{
    int fd = block_file_fd(file), rc = 0;
    if (create->backing) {
        block_node_close(file);
        return err_set(err, ERR_USAGE, "a raw image cannot have a backing file; use qcow2");
    }
    if (block_node_resize(file, create->size, err)) {
        block_node_close(file);
        return -1;
    }
    if (create->preallocate == BLOCK_PREALLOCATE_FALLOC && create->size)
        rc = os_file_allocate(fd, 0, create->size);
    if (create->preallocate == BLOCK_PREALLOCATE_FULL)
        rc = block_node_write_zeros(file, 0, create->size);
    if (!rc)
        rc = block_node_flush(file);
    block_node_close(file);
    return rc ? err_set_errno(err, -rc, "cannot preallocate") : 0;
}

static const struct {
    const char *format;
    int (*create)(struct block_node *file, const struct block_create *create, struct err *err);
} makers[] = {
    {"raw", raw_create},
    {"qcow2", qcow2_create},
    {"vmdk", vmdk_create},
};

int block_image_create(int fd, const char *name, const struct block_create *create, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LENGTH(makers); i++) {
        if (strcmp(makers[i].format, create->format) != 0)
            continue;
        int copy = os_file_duplicate(fd);
        struct block_node *file = block_file_open(copy, name, false, 32 * MIB, err);
        if (!file)
            return -1;
        return makers[i].create(file, create, err) ? err_wrap(err, "cannot create '%s'", name) : 0;
    }
    return err_set(err, ERR_UNSUPPORTED, "cannot create '%s': images of format '%s' cannot be made",
                   name, create->format);
}
