// SPDX-License-Identifier: Apache-2.0
//
// Following a chain: open an image, lock it, ask its format what it stands on, check that this may
// be opened, and go on there. A backing name is relative to the directory of the image that names
// it.
//
// A backing file must lie in an allowed directory. The check is made on the resolved path of what
// was opened (its symbolic links followed), not on the name, so that neither ".." nor a link leads
// elsewhere.
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/block_driver.h"
#include "machine/block/block_image.h"
#include "machine/block/block_remote.h"
#include "os/file.h"

#define PROBE_BYTES 4096

// The directory part of a path, "." when there is none.
static void directory_of(const char *path, char *directory, size_t size)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        snprintf(directory, size, ".");
    else
        snprintf(directory, size, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

static int join(const char *image, const char *name, char *path, size_t size, struct err *err)
{
    char directory[PATH_MAX];
    directory_of(image, directory, sizeof(directory));
    int n = name[0] == '/' ? snprintf(path, size, "%s", name)
                           : snprintf(path, size, "%s/%s", directory, name);
    return n > 0 && (size_t)n < size
               ? 0
               : err_set(err, ERR_INPUT, "the backing file's name is too long");
}

static bool lies_in(const char *path, const char *directory)
{
    char real[PATH_MAX];
    if (!os_file_real_path(directory, real, sizeof(real)))
        return false;
    size_t n = strlen(real);
    return n == 1 || (strncmp(path, real, n) == 0 && path[n] == '/');
}

static int check_allowed(int fd, const char *image, const struct block_chain_rules *rules,
                         const char *path, struct err *err)
{
    char real[PATH_MAX], own[PATH_MAX];
    if (!os_file_descriptor_path(fd, real, sizeof(real)))
        return err_set(err, ERR_DENIED, "cannot tell where backing file '%s' lies", path);
    directory_of(image, own, sizeof(own));
    bool allowed = !rules->allowed && lies_in(real, own);
    for (size_t i = 0; rules->allowed && rules->allowed[i]; i++)
        allowed |= lies_in(real, rules->allowed[i][0] ? rules->allowed[i] : own);
    if (allowed)
        return 0;
    return err_set(
        err, ERR_DENIED,
        "'%s' names '%s' as its backing file, which lies neither beside it nor in a backing folder",
        image, path);
}

static const struct block_format *choose_format(int fd, const char *name, const char *stated,
                                                bool probe, struct err *err)
{
    const struct block_format *format = stated ? block_format_find(stated) : NULL;
    if (format)
        return format;
    if (stated) {
        err_set(err, ERR_USAGE, "'%s': there is no image format '%s'", name, stated);
        return NULL;
    }
    if (!probe) {
        err_set(err, ERR_INPUT,
                "the format of '%s' is not stated anywhere; record it with 'wirt disk rebase'",
                name);
        return NULL;
    }
    uint8_t *header = os_aligned_alloc(PROBE_BYTES);
    int rc = header ? os_pread(fd, header, PROBE_BYTES, 0) : -ENOMEM;
    if (rc)
        err_set_errno(err, -rc, "cannot read '%s'", name);
    else
        format = block_format_probe(header, PROBE_BYTES, name);
    const char *foreign =
        format && !format->probe ? block_format_foreign(header, PROBE_BYTES) : NULL;
    if (foreign) {
        err_set(err, ERR_UNSUPPORTED,
                "'%s' looks like %s, which is not supported; convert it with qemu-img first, or "
                "state the format raw to take its bytes as they are",
                name, foreign);
        format = NULL;
    }
    os_aligned_free(header);
    return format;
}

// What the image stands on; an empty name: nothing.
static int find_backing(const struct block_image *image, struct block_backing *backing,
                        struct err *err)
{
    const struct block_format *format = block_format_find(image->format);
    backing->name[0] = 0;
    if (!format->backing)
        return 0;
    int copy = os_file_duplicate(image->fd);
    struct block_node *file = block_file_open(copy, image->name, true, 0, err);
    int rc = file ? format->backing(file, backing, err) : -1;
    block_node_close(file);
    return rc ? err_wrap(err, "'%s'", image->name) : 0;
}

// A remote image is alone, and locked by those who serve it.
static int add_remote(struct block_chain *chain, const char *path,
                      const struct block_chain_rules *rules, const char *format, struct err *err)
{
    const struct block_format *chosen =
        format ? block_format_find(format) : block_format_find("raw");
    if (!chosen)
        return err_set(err, ERR_USAGE, "'%s': there is no image format '%s'", path, format);
    int fd = block_remote_start(path, rules->read_only, &chain->status_fd, err);
    char *name = fd < 0 ? NULL : strdup(path);
    if (!name) {
        os_file_close(&fd);
        return -1;
    }
    chain->image[chain->length++] = (struct block_image){fd, chosen->name, name};
    return 0;
}

static int add(struct block_chain *chain, const char *path, const struct block_chain_rules *rules,
               const char *format, struct err *err)
{
    bool first = chain->length == 0, write = first && !rules->read_only;
    // An image may name anything as its backing file, and nobody waits for what is no image.
    int fd = os_file_open(
        path, OS_FILE_NO_WAIT | (write ? OS_FILE_WRITE : 0) | (rules->direct ? OS_FILE_DIRECT : 0),
        err);
    if (fd < 0)
        return -1;
    const char *above = first ? NULL : chain->image[chain->length - 1].name;
    const struct block_format *chosen = NULL;
    if ((first || !check_allowed(fd, above, rules, path, err)) &&
        (rules->no_lock || !block_lock_take(fd, write, path, err)))
        chosen = choose_format(fd, path, format, rules->probe, err);
    char *name = chosen ? strdup(path) : NULL;
    if (!name) {
        os_file_close(&fd);
        return -1;
    }
    chain->image[chain->length++] = (struct block_image){fd, chosen->name, name};
    return 0;
}

int block_chain_open(struct block_chain *chain, const char *path,
                     const struct block_chain_rules *rules, struct err *err)
{
    size_t depth = rules->depth_max ? rules->depth_max : BLOCK_CHAIN_MAX;
    struct block_backing backing = {.name = ""};
    char next[PATH_MAX];
    chain->length = 0;
    chain->status_fd = -1;
    if (block_is_remote(path))
        return add_remote(chain, path, rules, rules->format, err);
    int rc = add(chain, path, rules, rules->format, err);
    while (!rc && (rules->depth_max != 1)) {
        const struct block_image *last = &chain->image[chain->length - 1];
        rc = find_backing(last, &backing, err);
        if (rc || !backing.name[0])
            break;
        if (chain->length >= depth)
            rc = err_set(err, ERR_INPUT,
                         "'%s': the chain of backing files is longer than %zu, or a circle", path,
                         depth);
        if (!rc)
            rc = join(last->name, backing.name, next, sizeof(next), err);
        if (!rc)
            rc = add(chain, next, rules, backing.format[0] ? backing.format : NULL, err);
        if (rc)
            err_wrap(err, "backing file of '%s'", chain->image[chain->length - 1].name);
    }
    if (rc)
        block_chain_close(chain);
    return rc;
}

void block_chain_close(struct block_chain *chain)
{
    for (size_t i = 0; i < chain->length; i++) {
        os_file_close(&chain->image[i].fd);
        free((char *)(uintptr_t)chain->image[i].name);
    }
    if (chain->length)
        os_file_close(&chain->status_fd);
    chain->length = 0;
}

struct block_disk *block_chain_disk(struct block_chain *chain, const struct block_options *options,
                                    struct err *err)
{
    struct block_options with = *options;
    with.chain = chain->image;
    with.chain_length = chain->length;
    struct block_disk *disk = block_disk_open(&with, err);
    for (size_t i = 0; i < chain->length; i++)
        chain->image[i].fd = -1;
    return disk;
}
