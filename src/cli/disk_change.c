// SPDX-License-Identifier: Apache-2.0
//
// `wirt disk resize`, `commit`, `rebase` and `snapshot`: they change an image.
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "base/units.h"
#include "cli/disk.h"
#include "machine/block/block_copy.h"
#include "machine/block/block_driver.h"
#include "os/clock.h"
#include "os/file.h"

// Close both, and let the last error be told.
static int finish(struct block_disk *disk, struct block_chain *chain, int rc, struct err *err)
{
    char name[PATH_MAX];
    snprintf(name, sizeof(name), "%s", chain->length ? chain->image[0].name : "");
    int closed = block_disk_close(disk);
    block_chain_close(chain);
    if (!rc && closed)
        return err_set_errno(err, -closed, "cannot write '%s'", name);
    return rc;
}

static const struct block_image_ops *image_ops(const struct block_chain *chain)
{
    return block_format_find(chain->image[0].format)->image;
}

// ---- resize

int disk_resize(const struct disk_words *w, int *status, struct err *err)
{
    uint64_t size;
    struct block_chain chain;
    struct disk_opening how = {.format = w->format};
    if (disk_parse_size("SIZE", w->operand[1], &size, err))
        return -1;
    size = align_up(size, 512);
    struct block_disk *disk = disk_open(w->operand[0], &how, &chain, err);
    if (!disk)
        return -1;
    uint64_t old = block_disk_size(disk);
    int rc = 0;
    if (size < old && !w->shrink && !w->force)
        rc = err_set(
            err, ERR_USAGE,
            "'%s' would become smaller and lose what lies at its end; use --shrink if you mean it",
            w->operand[0]);
    if (!rc)
        rc = block_disk_resize(disk, size, err);
    char from[UNITS_SIZE_TEXT_BYTES], to[UNITS_SIZE_TEXT_BYTES];
    rc = finish(disk, &chain, rc, err);
    if (!rc && w->json)
        disk_print_json(json_pack("{s:s, s:I, s:I}", "file", w->operand[0], "size",
                                  (json_int_t)size, "was", (json_int_t)old));
    else if (!rc)
        printf("%s: %s, was %s\n", w->operand[0], units_format_size(size, to),
               units_format_size(old, from));
    return rc;
}

// ---- commit: what the image holds goes into its backing file

static int copy_down(struct block_disk *top, struct block_disk *base, struct err *err)
{
    uint64_t size = block_disk_size(top);
    if (block_disk_size(base) < size && block_disk_resize(base, size, err))
        return -1;
    struct disk_progress progress;
    struct block_copy copy = {.source = top,
                              .target = base,
                              .top_only = true,
                              .progress = disk_progress_tell,
                              .user = &progress};
    disk_progress_begin(&progress, "committing");
    int rc = block_copy_run(&copy);
    if (!rc)
        rc = block_flush(base); // before the image above forgets it
    disk_progress_end(&progress);
    return rc ? err_set_errno(err, -rc, "cannot commit") : 0;
}

int disk_commit(const struct disk_words *w, int *status, struct err *err)
{
    disk_heed_signals();
    struct block_chain chain, base_chain = {.length = 0};
    struct block_disk *base = NULL;
    // Find the backing file, let go of it, and open it again for writing.
    struct disk_opening look = {.format = w->format, .read_only = true};
    struct block_disk *disk = disk_open(w->operand[0], &look, &chain, err);
    if (!disk)
        return -1;
    char path[PATH_MAX] = "";
    const char *format = NULL;
    if (chain.length > 1) {
        snprintf(path, sizeof(path), "%s", chain.image[1].name);
        format = chain.image[1].format;
    }
    block_disk_close(disk);
    block_chain_close(&chain);
    if (!format)
        return err_set(err, ERR_USAGE, "'%s' has no backing file to commit to", w->operand[0]);
    struct disk_opening alone = {.format = w->format, .alone = true};
    struct disk_opening below = {.format = format};
    disk = disk_open(w->operand[0], &alone, &chain, err);
    if (!disk)
        return -1;
    base = disk_open(path, &below, &base_chain, err);
    const struct block_image_ops *ops = image_ops(&chain);
    int rc = -1;
    if (!ops || !ops->empty)
        err_set(err, ERR_UNSUPPORTED, "an image of format '%s' cannot be committed",
                chain.image[0].format);
    else if (base && !copy_down(disk, base, err))
        rc = ops->empty(block_disk_node(disk), err);
    if (base)
        rc = finish(base, &base_chain, rc, err);
    rc = finish(disk, &chain, rc, err);
    if (!rc && w->json)
        disk_print_json(json_pack("{s:s, s:s}", "file", w->operand[0], "committed to", path));
    else if (!rc)
        printf("%s: committed to %s\n", w->operand[0], path);
    return rc;
}

// ---- rebase: another backing file, the same content

#define REBASE_PIECE (2 * MIB)

static int read_padded(struct block_disk *disk, uint64_t offset, uint8_t *bytes, size_t length)
{
    uint64_t size = disk ? block_disk_size(disk) : 0;
    size_t inside = offset >= size ? 0 : length < size - offset ? length : size - offset;
    memset(bytes + inside, 0, length - inside);
    return inside ? block_read(disk, offset, bytes, inside) : 0;
}

// Write into the image what the new backing file shows differently, a cluster at a time.
static int take_over(struct block_disk *disk, struct block_disk *base, uint64_t offset,
                     size_t length, uint8_t *bytes)
{
    size_t cluster = block_disk_limits(disk)->optimal_io_size;
    int rc = block_read(disk, offset, bytes, length);
    if (!rc)
        rc = read_padded(base, offset, bytes + REBASE_PIECE, length);
    for (size_t at = 0, n; at < length && !rc; at += n) {
        n = cluster - ((offset + at) & (cluster - 1));
        if (n > length - at)
            n = length - at;
        if (memcmp(bytes + at, bytes + REBASE_PIECE + at, n) == 0)
            continue;
        rc = block_memory_is_zero(bytes + at, n)
                 ? block_node_zero(block_disk_node(disk), offset + at, n, BLOCK_ZERO_RECORDED)
                 : block_write(disk, offset + at, bytes + at, n);
    }
    return rc;
}

static int keep_content(struct block_disk *disk, struct block_disk *base, struct err *err)
{
    uint64_t size = block_disk_size(disk);
    struct disk_progress progress;
    uint8_t *bytes = os_aligned_alloc(2 * REBASE_PIECE);
    int rc = bytes ? 0 : -1;
    disk_progress_begin(&progress, "rebasing");
    for (uint64_t at = 0; at < size && !rc;) {
        struct block_extent extent;
        rc = block_disk_extent(disk, at, size - at, &extent);
        bool own = extent.allocated && extent.depth == 0;
        uint64_t n = !own && extent.length > REBASE_PIECE ? REBASE_PIECE : extent.length;
        if (!rc && !own)
            rc = take_over(disk, base, at, n, bytes);
        at += n;
        if (!rc && !disk_progress_tell(&progress, at, size))
            rc = -ECANCELED; // what was taken over reads the same on the old backing file
    }
    if (!rc)
        rc = block_flush(disk);
    disk_progress_end(&progress);
    os_aligned_free(bytes);
    return rc ? err_set_errno(err, -rc, "cannot take over the old backing file's content") : 0;
}

static struct block_disk *open_new_base(const struct disk_words *w, struct block_chain *chain,
                                        struct err *err)
{
    char path[PATH_MAX];
    const char *slash = strrchr(w->operand[0], '/');
    bool relative = w->backing[0] != '/' && slash;
    snprintf(path, sizeof(path), "%.*s%s", relative ? (int)(slash + 1 - w->operand[0]) : 0,
             w->operand[0], w->backing);
    struct disk_opening how = {.format = w->backing_format, .read_only = true};
    return disk_open(path, &how, chain, err);
}

int disk_rebase(const struct disk_words *w, int *status, struct err *err)
{
    disk_heed_signals();
    struct block_chain chain, base_chain = {.length = 0};
    struct block_disk *base = NULL;
    if (!w->backing)
        return err_set(err, ERR_USAGE,
                       "say which backing file: --backing FILE, or --backing \"\" for none");
    struct disk_opening how = {.format = w->format, .alone = w->unsafe};
    struct block_disk *disk = disk_open(w->operand[0], &how, &chain, err);
    if (!disk)
        return -1;
    const struct block_image_ops *ops = image_ops(&chain);
    int rc = ops && ops->set_backing
                 ? 0
                 : err_set(err, ERR_UNSUPPORTED, "an image of format '%s' has no backing file",
                           chain.image[0].format);
    if (!rc && w->backing[0] && !(base = open_new_base(w, &base_chain, err)))
        rc = -1;
    if (!rc && !w->unsafe)
        rc = keep_content(disk, base, err);
    struct block_backing backing = {.name = ""};
    if (base) {
        snprintf(backing.name, sizeof(backing.name), "%s", w->backing);
        snprintf(backing.format, sizeof(backing.format), "%s", base_chain.image[0].format);
    }
    if (!rc && ops && ops->set_backing)
        rc = ops->set_backing(block_disk_node(disk), &backing, err);
    block_disk_close(base);
    block_chain_close(&base_chain);
    rc = finish(disk, &chain, rc, err);
    if (!rc && w->json)
        disk_print_json(json_pack("{s:s, s:s}", "file", w->operand[0], "backing", w->backing));
    else if (!rc)
        printf("%s: %s%s\n", w->operand[0], w->backing[0] ? "now on " : "stands alone", w->backing);
    return rc;
}

// ---- snapshot

#define SNAPSHOTS_SHOWN 65536

static void print_snapshots(const struct block_snapshot *list, int count, bool json)
{
    json_t *rows = json ? json_array() : NULL;
    if (!json)
        printf("%-6s %-24s %10s  %s\n", "ID", "NAME", "SIZE", "TAKEN");
    for (int i = 0; i < count; i++) {
        char size[UNITS_SIZE_TEXT_BYTES], date[32] = "";
        time_t when = (time_t)list[i].date_s;
        struct tm tm;
        if (gmtime_r(&when, &tm))
            strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
        if (json)
            json_array_append_new(rows,
                                  json_pack("{s:s, s:s, s:I, s:I}", "id", list[i].id, "name",
                                            list[i].name, "size", (json_int_t)list[i].disk_bytes,
                                            "taken", (json_int_t)list[i].date_s));
        else
            printf("%-6s %-24s %10s  %s\n", list[i].id, list[i].name,
                   units_format_size(list[i].disk_bytes, size), date);
    }
    if (json)
        disk_print_json(rows);
}

static int list_snapshots(struct block_disk *disk, const struct block_image_ops *ops, bool json,
                          struct err *err)
{
    int count = ops->snapshot_list(block_disk_node(disk), NULL, 0, err);
    if (count < 0)
        return -1;
    struct block_snapshot *list = calloc((size_t)count + 1, sizeof(*list));
    if (!list)
        return err_set(err, ERR_LIMIT, "no memory");
    count = ops->snapshot_list(block_disk_node(disk), list, count, err);
    if (count >= 0)
        print_snapshots(list, count, json);
    free(list);
    return count < 0 ? -1 : 0;
}

int disk_snapshot(const struct disk_words *w, int *status, struct err *err)
{
    const char *verb = w->operand[0], *name = w->operand[2];
    bool list = strcmp(verb, "list") == 0, create = strcmp(verb, "create") == 0,
         apply = strcmp(verb, "apply") == 0;
    if (!list && !create && !apply && strcmp(verb, "delete") != 0)
        return err_set(err, ERR_USAGE, "'%s': it must be list, create, apply or delete", verb);
    if (list != (w->operands == 2))
        return err_set(err, ERR_USAGE,
                       list ? "list takes a file and no name"
                            : "give the snapshot's name after the file");
    struct block_chain chain;
    struct disk_opening how = {.format = w->format, .read_only = list, .no_lock = w->no_lock};
    struct block_disk *disk = disk_open(w->operand[1], &how, &chain, err);
    if (!disk)
        return -1;
    const struct block_image_ops *ops = image_ops(&chain);
    struct block_node *node = block_disk_node(disk);
    int rc;
    if (!ops || !ops->snapshot_list)
        rc = err_set(err, ERR_UNSUPPORTED, "an image of format '%s' has no snapshots; use qcow2",
                     chain.image[0].format);
    else if (list)
        rc = list_snapshots(disk, ops, w->json, err);
    else if (create)
        rc = ops->snapshot_create(node, name, os_clock_wall_ns() / 1000000000ull, err);
    else
        rc = apply ? ops->snapshot_apply(node, name, err) : ops->snapshot_delete(node, name, err);
    rc = finish(disk, &chain, rc, err);
    const char *done = create ? "created" : apply ? "applied" : "deleted";
    if (!rc && !list && w->json)
        disk_print_json(json_pack("{s:s, s:s}", "file", w->operand[1], done, name));
    else if (!rc && !list)
        printf("%s: snapshot '%s' %s\n", w->operand[1], name, done);
    return rc;
}
