// SPDX-License-Identifier: Apache-2.0
//
// `wirt disk create` and `convert`.
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/units.h"
#include "cli/disk.h"
#include "machine/block/bitmap.h"
#include "machine/block/block_copy.h"
#include "machine/block/block_driver.h"
#include "machine/block/block_remote.h"
#include "os/clock.h"
#include "os/directory.h"
#include "os/file.h"

static int parse_preallocate(const char *text, enum block_preallocate *mode, struct err *err)
{
    static const char *const names[] = {"off", "metadata", "falloc", "full"};
    *mode = BLOCK_PREALLOCATE_OFF;
    for (size_t i = 0; text && i < ARRAY_LENGTH(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *mode = (enum block_preallocate)i;
            return 0;
        }
    }
    return text ? err_set(err, ERR_USAGE,
                          "--preallocate '%s': it must be off, metadata, falloc or full", text)
                : 0;
}

static int parse_number(const char *flag, const char *text, unsigned *number, struct err *err)
{
    uint64_t value;
    if (text && !units_parse_number(text, 1, 1024, &value))
        return err_set(err, ERR_USAGE, "%s '%s': it must be a number from 1 to 1024", flag, text);
    *number = text ? (unsigned)value : 0;
    return 0;
}

// What the flags say about a new image; neither size nor backing.
static int new_image(const struct disk_words *w, const char *path, struct block_create *create,
                     struct err *err)
{
    uint64_t cluster = 0;
    *create = (struct block_create){.compression = w->compression,
                                    .lazy_refcounts = w->lazy_refcounts,
                                    .compressed = w->compress};
    create->format = disk_target_format(path, w->format, err);
    if (!create->format || parse_preallocate(w->preallocate, &create->preallocate, err) ||
        parse_number("--version", w->version, &create->version, err) ||
        parse_number("--refcount-bits", w->refcount_bits, &create->refcount_bits, err) ||
        (w->cluster_size && disk_parse_size("--cluster-size", w->cluster_size, &cluster, err)))
        return -1;
    if (cluster > UINT32_MAX)
        return err_set(err, ERR_USAGE, "--cluster-size '%s' is too large", w->cluster_size);
    create->cluster_size = (uint32_t)cluster;
    return 0;
}

// The backing file's format is recorded, its size taken where none is given.
static int look_at_backing(const struct disk_words *w, const char *path,
                           struct block_create *create, bool need_size, struct err *err)
{
    char beside[PATH_MAX];
    const char *slash = strrchr(path, '/');
    bool relative = w->backing[0] != '/' && slash;
    snprintf(beside, sizeof(beside), "%.*s%s", relative ? (int)(slash + 1 - path) : 0, path,
             w->backing);
    struct block_chain chain;
    struct disk_opening how = {.format = w->backing_format, .read_only = true};
    struct block_disk *disk = disk_open(beside, &how, &chain, err);
    if (!disk)
        return err_wrap(err, "backing file");
    create->backing = w->backing;
    create->backing_format = block_format_find(chain.image[0].format)->name;
    if (need_size)
        create->size = block_disk_size(disk);
    block_disk_close(disk);
    block_chain_close(&chain);
    return 0;
}

// A half-made image looks like a whole one, of zeros where nothing came: so it goes. What cannot go is called so. Returns -1.
static int remove_half_made(const char *path, struct err *err)
{
    struct os_file_facts facts;
    char real[PATH_MAX];
    struct err none;
    int fd = os_file_open(path, OS_FILE_NO_WAIT, &none); // what it is, also behind a symbolic link
    bool removed = fd >= 0 && !os_file_facts(fd, &facts) && facts.regular &&
                   os_file_descriptor_path(fd, real, sizeof(real)) && !os_file_remove(real);
    os_file_close(&fd);
    return err_wrap(err,
                    removed ? "'%s' was not finished and is removed"
                            : "'%s' was not finished and holds only a part",
                    path);
}

static int make(const char *path, const struct block_create *create, bool force, struct err *err)
{
    if (block_image_check(create, err))
        return err_wrap(err, "cannot create '%s'", path);
    int fd = disk_new_file(path, force, err);
    if (fd < 0)
        return -1;
    int rc = block_image_create(fd, path, create, err);
    if (rc)
        remove_half_made(path, err);
    os_file_close(&fd);
    return rc;
}

int disk_create(const struct disk_words *w, int *status, struct err *err)
{
    const char *path = w->operand[0];
    struct block_create create;
    if (new_image(w, path, &create, err))
        return -1;
    if (w->operands < 2 && !w->backing)
        return err_set(err, ERR_USAGE,
                       "how large is '%s' to be? Give a SIZE, or a backing file with --backing",
                       path);
    if (w->operands >= 2 && disk_parse_size("SIZE", w->operand[1], &create.size, err))
        return -1;
    create.size = align_up(create.size, 512);
    if (w->backing && look_at_backing(w, path, &create, w->operands < 2, err))
        return -1;
    if (make(path, &create, w->force, err))
        return -1;
    char size[UNITS_SIZE_TEXT_BYTES];
    if (w->json)
        disk_print_json(json_pack("{s:s, s:s, s:I}", "file", path, "format", create.format, "size",
                                  (json_int_t)create.size));
    else
        printf("%s: %s image of %s%s%s\n", path, create.format,
               units_format_size(create.size, size), w->backing ? ", on " : "",
               w->backing ? w->backing : "");
    return 0;
}

// ---- convert

static int run_copy(struct block_disk *source, struct block_disk *target,
                    const struct disk_words *w, bool zeroed, struct block_copy *copy,
                    struct err *err)
{
    struct disk_progress progress;
    unsigned workers = 0;
    if (parse_number("--workers", w->workers, &workers, err))
        return -1;
    *copy = (struct block_copy){.source = source,
                                .target = target,
                                .workers = workers,
                                .target_is_zero = zeroed,
                                .compress = w->compress,
                                .no_sharing = w->preallocate,
                                .progress = disk_progress_tell,
                                .user = &progress};
    disk_progress_begin(&progress, "converting");
    int rc = block_copy_run(copy);
    disk_progress_end(&progress);
    return rc ? err_set_errno(err, -rc, "cannot convert '%s' to '%s'", w->operand[0], w->operand[1])
              : 0;
}

static bool can_compress(const char *format)
{
    return strcmp(format, "qcow2") == 0 || strcmp(format, "vmdk") == 0;
}

// Asked before the target is made.
static int check_bitmaps(const struct block_create *create, struct block_disk *source,
                         struct err *err)
{
    if (strcmp(create->format, "qcow2") != 0 || create->version == 2)
        return err_set(err, ERR_USAGE, "--bitmaps: only qcow2 version 3 keeps bitmaps");
    for (const struct block_bitmap *b = block_disk_node(source)->bitmaps; b; b = b->next) {
        if (b->inconsistent)
            return err_set(err, ERR_INPUT, "bitmap '%s' was not saved; remove it first", b->name);
    }
    return 0;
}

// What is marked in the source is marked in the target, which holds the same; they are saved when it is closed.
static int copy_bitmaps(struct block_disk *source, struct block_disk *target, struct err *err)
{
    struct block_node *to = block_disk_node(target);
    for (const struct block_bitmap *b = block_disk_node(source)->bitmaps; b; b = b->next) {
        struct block_bitmap *copy = block_bitmap_create(b->name, to->size, b->granularity_bits);
        if (!copy)
            return err_set(err, ERR_LIMIT, "no memory for bitmap '%s'", b->name);
        block_bitmap_merge(copy, b);
        copy->persistent = true;
        copy->recording = b->recording;
        block_bitmap_add(&to->bitmaps, copy);
    }
    return 0;
}

static bool same_file(const char *a, const char *b)
{
    struct os_file_facts facts[2];
    struct err none;
    int fd[2] = {os_file_open(a, OS_FILE_NO_WAIT, &none), os_file_open(b, OS_FILE_NO_WAIT, &none)};
    bool same = fd[0] >= 0 && fd[1] >= 0 && !os_file_facts(fd[0], &facts[0]) &&
                !os_file_facts(fd[1], &facts[1]) && facts[0].device == facts[1].device &&
                facts[0].inode == facts[1].inode;
    os_file_close(&fd[0]);
    os_file_close(&fd[1]);
    return same;
}

// The locks would refuse it, too, but with --no-lock there are none on the source.
static int check_not_source(const char *target, const struct block_chain *source, struct err *err)
{
    for (size_t i = 0; i < source->length; i++) {
        if (same_file(source->image[i].name, target))
            return err_set(err, ERR_USAGE, "'%s' is what is converted, and cannot be overwritten",
                           target);
    }
    return 0;
}

static int convert(const struct disk_words *w, struct block_disk *source, struct err *err)
{
    const char *path = w->operand[1];
    struct block_create create;
    if (new_image(w, path, &create, err))
        return -1;
    if (w->compress && !can_compress(create.format))
        return err_set(err, ERR_USAGE, "--compress: images of format '%s' cannot be compressed",
                       create.format);
    create.size = align_up(block_disk_size(source), 512);
    if (w->bitmaps && check_bitmaps(&create, source, err))
        return -1;
    if (w->backing && look_at_backing(w, path, &create, false, err))
        return -1;
    // A remote disk is there already, of whatever size.
    bool remote = block_is_remote(path);
    if (remote && !w->force)
        return err_set(err, ERR_EXISTS, "'%s' would be overwritten; use --force to do it", path);
    if (!remote && make(path, &create, w->force, err))
        return -1;
    struct block_chain chain;
    struct disk_opening how = {.format = create.format,
                               .durability = BLOCK_UNSAFE,
                               .alone = !w->backing,
                               .direct = w->direct};
    struct block_disk *target = disk_open(path, &how, &chain, err);
    if (!target) // busy: somebody else found a use for it already
        return remote || err->code == ERR_BUSY ? -1 : remove_half_made(path, err);
    struct block_copy copy;
    uint64_t start = os_clock_monotonic_ns();
    // New images hold zeros, and what was preallocated in them is to stay so. Storage that was there before holds anything.
    bool raw = strcmp(create.format, "raw") == 0;
    bool zeros = !remote && !w->backing && (!raw || block_disk_node(target)->grows);
    int rc = 0;
    if (block_disk_size(target) < block_disk_size(source))
        rc = err_set(err, ERR_LIMIT, "'%s' is smaller than '%s'", path, w->operand[0]);
    if (!rc)
        rc = run_copy(source, target, w, zeros, &copy, err);
    if (!rc && w->bitmaps)
        rc = copy_bitmaps(source, target, err);
    // Durable at the end, once.
    int closed = block_node_flush(block_disk_node(target));
    int last = block_disk_close(target);
    block_chain_close(&chain);
    if (!rc && (closed || last))
        rc = err_set_errno(err, closed ? -closed : -last, "cannot write '%s'", path);
    if (rc)
        return remove_half_made(path, err);
    double seconds = (double)(os_clock_monotonic_ns() - start) / 1e9;
    char size[UNITS_SIZE_TEXT_BYTES], data[UNITS_SIZE_TEXT_BYTES];
    if (w->json)
        disk_print_json(json_pack("{s:s, s:s, s:I, s:I, s:I, s:f}", "file", path, "format",
                                  create.format, "size", (json_int_t)create.size, "data",
                                  (json_int_t)copy.data_bytes, "shared",
                                  (json_int_t)copy.shared_bytes, "seconds", seconds));
    else if (copy.shared_bytes)
        printf("%s: %s image of %s, %s of them shared with the source, in %.1f s\n", path,
               create.format, units_format_size(create.size, size),
               units_format_size(copy.shared_bytes, data), seconds);
    else
        printf("%s: %s image of %s, %s of them data, in %.1f s\n", path, create.format,
               units_format_size(create.size, size), units_format_size(copy.data_bytes, data),
               seconds);
    return 0;
}

// Not the disk as it is, but as it was when a snapshot inside it was taken.
static int view_snapshot(struct block_disk *source, const struct block_chain *chain,
                         const struct disk_words *w, struct err *err)
{
    const struct block_image_ops *ops = block_format_find(chain->image[0].format)->image;
    if (!ops || !ops->snapshot_view)
        return err_set(err, ERR_UNSUPPORTED, "an image of format '%s' has no snapshots",
                       chain->image[0].format);
    if (w->bitmaps)
        return err_set(err, ERR_USAGE,
                       "--bitmaps: bitmaps tell what changed since, not what a snapshot holds");
    return ops->snapshot_view(block_disk_node(source), w->snapshot, err);
}

int disk_convert(const struct disk_words *w, int *status, struct err *err)
{
    disk_heed_signals();
    struct block_chain chain;
    struct disk_opening how = {
        .format = w->source_format, .read_only = true, .direct = w->direct, .no_lock = w->no_lock};
    struct block_disk *source = disk_open(w->operand[0], &how, &chain, err);
    if (!source)
        return -1;
    int rc = check_not_source(w->operand[1], &chain, err);
    if (!rc && w->snapshot)
        rc = view_snapshot(source, &chain, w, err);
    if (!rc)
        rc = convert(w, source, err);
    block_disk_close(source);
    block_chain_close(&chain);
    return rc;
}
