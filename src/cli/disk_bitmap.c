// SPDX-License-Identifier: Apache-2.0
//
// `wirt disk bitmap`: the dirty bitmaps that an image keeps. They are in memory while it is open; closing it saves them.
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/units.h"
#include "cli/disk.h"
#include "machine/block/bitmap.h"
#include "machine/block/block_driver.h"

json_t *disk_bitmaps_json(const struct block_node *node)
{
    json_t *list = json_array();
    for (const struct block_bitmap *b = node->bitmaps; b; b = b->next)
        json_array_append_new(list,
                              json_pack("{s:s, s:I, s:I, s:b, s:b}", "name", b->name, "granularity",
                                        (json_int_t)BIT(b->granularity_bits), "dirty",
                                        (json_int_t)block_bitmap_dirty_bytes(b), "recording",
                                        b->recording, "inconsistent", b->inconsistent));
    return list;
}

const char *disk_bitmap_state(const struct block_bitmap *bitmap)
{
    return bitmap->inconsistent ? "not saved" : bitmap->recording ? "recording" : "disabled";
}

static void print_list(const struct block_node *node)
{
    printf("%-24s %12s %12s  %s\n", "NAME", "GRANULARITY", "DIRTY", "STATE");
    for (const struct block_bitmap *b = node->bitmaps; b; b = b->next) {
        char granularity[UNITS_SIZE_TEXT_BYTES], dirty[UNITS_SIZE_TEXT_BYTES];
        printf("%-24s %12s %12s  %s\n", b->name,
               units_format_size(BIT(b->granularity_bits), granularity),
               units_format_size(block_bitmap_dirty_bytes(b), dirty), disk_bitmap_state(b));
    }
}

static int create(struct block_node *node, const struct disk_words *w, struct err *err)
{
    const char *name = w->operand[2];
    uint64_t granularity = BIT(BLOCK_BITMAP_GRANULARITY_BITS);
    if (w->granularity && disk_parse_size("--granularity", w->granularity, &granularity, err))
        return -1;
    if (!is_power_of_two(granularity) || granularity < BIT(BLOCK_BITMAP_GRANULARITY_MIN) ||
        granularity > BIT(BLOCK_BITMAP_GRANULARITY_MAX))
        return err_set(err, ERR_USAGE, "--granularity must be a power of two from 512 to 2G");
    if (!name[0] || strlen(name) > BLOCK_BITMAP_NAME_MAX)
        return err_set(err, ERR_USAGE, "a bitmap's name has 1 to %d bytes", BLOCK_BITMAP_NAME_MAX);
    if (block_bitmap_find(node->bitmaps, name))
        return err_set(err, ERR_EXISTS, "there is a bitmap '%s' already", name);
    unsigned bits = (unsigned)__builtin_ctzll(granularity);
    if (block_bitmap_bytes(node->size, bits) > node->memory_limit)
        return err_set(err, ERR_LIMIT,
                       "the bitmap would be too large; choose a larger granularity");
    struct block_bitmap *bitmap = block_bitmap_create(name, node->size, bits);
    if (!bitmap)
        return err_set(err, ERR_LIMIT, "no memory");
    bitmap->persistent = true;
    block_bitmap_add(&node->bitmaps, bitmap);
    return 0;
}

static int change(struct block_node *node, const char *verb, const char *name, struct err *err)
{
    struct block_bitmap *bitmap = block_bitmap_find(node->bitmaps, name);
    if (!bitmap)
        return err_set(err, ERR_NOT_FOUND, "there is no bitmap '%s'", name);
    if (!strcmp(verb, "remove")) {
        block_bitmap_remove(&node->bitmaps, bitmap);
        block_bitmap_destroy(bitmap);
        return 0;
    }
    if (bitmap->inconsistent)
        return err_set(err, ERR_INPUT, "bitmap '%s' was not saved; it can only be removed", name);
    if (!strcmp(verb, "clear"))
        block_bitmap_clear(bitmap, 0, bitmap->size);
    else
        bitmap->recording = !strcmp(verb, "enable");
    return 0;
}

// What the one has marked the other has then, too.
static int merge(struct block_node *node, const struct disk_words *w, struct err *err)
{
    struct block_bitmap *to = block_bitmap_find(node->bitmaps, w->operand[2]),
                        *from = block_bitmap_find(node->bitmaps, w->operand[3]);
    if (!to || !from)
        return err_set(err, ERR_NOT_FOUND, "there is no bitmap '%s'", w->operand[to ? 3 : 2]);
    if (to->inconsistent || from->inconsistent)
        return err_set(err, ERR_INPUT, "bitmap '%s' was not saved; it can only be removed",
                       to->inconsistent ? to->name : from->name);
    if (to != from)
        block_bitmap_merge(to, from);
    return 0;
}

int disk_bitmap(const struct disk_words *w, int *status, struct err *err)
{
    static const char *const verbs[] = {"list",   "create",  "remove", "clear",
                                        "enable", "disable", "merge"};
    static const char *const done[] = {"",        "created",  "removed", "cleared",
                                       "enabled", "disabled", "merged"};
    enum { LIST, CREATE, MERGE = 6 };
    const char *name = w->operand[2];
    size_t verb = 0;
    while (verb < ARRAY_LENGTH(verbs) && strcmp(verbs[verb], w->operand[0]) != 0)
        verb++;
    if (verb == ARRAY_LENGTH(verbs))
        return err_set(err, ERR_USAGE,
                       "'%s': it must be list, create, remove, clear, enable, disable or merge",
                       w->operand[0]);
    if (w->operands != (verb == LIST ? 2 : verb == MERGE ? 4 : 3))
        return err_set(err, ERR_USAGE,
                       verb == LIST    ? "list takes a file and no name"
                       : verb == MERGE ? "give the names of two bitmaps: merge FILE INTO FROM"
                                       : "give the bitmap's name after the file");
    struct block_chain chain;
    struct disk_opening how = {
        .format = w->format, .read_only = verb == LIST, .alone = true, .no_lock = w->no_lock};
    struct block_disk *disk = disk_open(w->operand[1], &how, &chain, err);
    if (!disk)
        return -1;
    struct block_node *node = block_disk_node(disk);
    int rc = 0;
    if (!node->ops->keeps_bitmaps || !node->ops->keeps_bitmaps(node))
        rc =
            err_set(err, ERR_UNSUPPORTED, "this image keeps no bitmaps; only qcow2 version 3 does");
    else if (verb == LIST && w->json)
        disk_print_json(disk_bitmaps_json(node));
    else if (verb == LIST)
        print_list(node);
    else
        rc = verb == CREATE  ? create(node, w, err)
             : verb == MERGE ? merge(node, w, err)
                             : change(node, verbs[verb], name, err);
    int closed = block_disk_close(disk);
    block_chain_close(&chain);
    if (!rc && closed)
        return err_set_errno(err, -closed, "cannot write '%s'", w->operand[1]);
    if (!rc && verb && w->json)
        disk_print_json(json_pack("{s:s, s:s}", "file", w->operand[1], done[verb], name));
    else if (!rc && verb)
        printf("%s: bitmap '%s' %s\n", w->operand[1], name, done[verb]);
    return rc;
}
