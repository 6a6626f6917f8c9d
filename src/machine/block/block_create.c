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

#define HEAD_BYTES (64 * KIB)

int raw_check_new(const struct block_create *create, struct err *err)
{
    if (create->backing)
        return err_set(err, ERR_USAGE, "a raw image cannot have a backing file; use qcow2");
    return 0;
}

// A block device has all of its space already.
int raw_create(struct block_node *file, const struct block_create *create, struct err *err)
{
    int fd = block_file_fd(file), rc = 0;
    if (!file->grows && create->size > file->size)
        rc = err_set(err, ERR_LIMIT, "the block device holds %llu bytes only",
                     (unsigned long long)file->size);
    if (rc || (file->grows && block_node_resize(file, create->size, err))) {
        block_node_close(file);
        return -1;
    }
    if (create->preallocate == BLOCK_PREALLOCATE_FALLOC && create->size && file->grows)
        rc = os_file_allocate(fd, 0, create->size);
    if (create->preallocate == BLOCK_PREALLOCATE_FULL)
        rc = block_node_write_zeros(file, 0, create->size);
    else if (!file->grows) // what says that another format stood there
        rc = block_node_write_zeros(file, 0, create->size < HEAD_BYTES ? create->size : HEAD_BYTES);
    if (!rc)
        rc = block_node_flush(file);
    block_node_close(file);
    return rc ? err_set_errno(err, -rc, "cannot preallocate") : 0;
}

static const struct maker {
    const char *format;
    int (*check)(const struct block_create *create, struct err *err);
    int (*create)(struct block_node *file, const struct block_create *create, struct err *err);
} makers[] = {
    {"raw", raw_check_new, raw_create},
    {"qcow2", qcow2_check_new, qcow2_create},
    {"vmdk", vmdk_check_new, vmdk_create},
};

static const struct maker *find_maker(const char *format, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LENGTH(makers); i++) {
        if (strcmp(makers[i].format, format) == 0)
            return &makers[i];
    }
    err_set(err, ERR_UNSUPPORTED, "images of format '%s' cannot be made", format);
    return NULL;
}

static int check_new(const struct maker *maker, const struct block_create *create, struct err *err)
{
    bool of_qcow2 = create->cluster_size || create->version || create->refcount_bits ||
                    create->compression || create->lazy_refcounts;
    if (of_qcow2 && maker->create != qcow2_create)
        return err_set(err, ERR_USAGE,
                       "cluster size, version, refcounts and compression type are chosen for qcow2 "
                       "images, not for %s",
                       create->format);
    if (create->compressed && create->preallocate != BLOCK_PREALLOCATE_OFF)
        return err_set(err, ERR_USAGE, "a compressed image cannot be preallocated");
    return maker->check(create, err);
}

int block_image_check(const struct block_create *create, struct err *err)
{
    const struct maker *maker = find_maker(create->format, err);
    return maker ? check_new(maker, create, err) : -1;
}

int block_image_create(int fd, const char *name, const struct block_create *create, struct err *err)
{
    const struct maker *maker = find_maker(create->format, err);
    if (!maker || check_new(maker, create, err))
        return err_wrap(err, "cannot create '%s'", name);
    struct block_node *file = block_file_open(os_file_duplicate(fd), name, false, 32 * MIB, err);
    if (!file)
        return -1;
    return maker->create(file, create, err) ? err_wrap(err, "cannot create '%s'", name) : 0;
}
