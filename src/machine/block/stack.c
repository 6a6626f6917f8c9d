// SPDX-License-Identifier: Apache-2.0
//
// Unsealing opens the image a second time, beside the node that stands there, so that the format's whole preparation for writing is the one
// that every opening does; only when that has succeeded the old node goes. The locks change hands in between: the reader's are given up
// before the writer's are asked for, and taken again when those are refused.
#include "machine/block/stack.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "machine/block/bitmap.h"
#include "machine/block/block_image.h"
#include "os/file.h"

struct block_node **block_stack_active(struct block_disk *disk)
{
    struct block_node **link = block_disk_link(disk);
    while ((*link)->ops->filter)
        link = &(*link)->next;
    return link;
}

struct block_node **block_stack_layer(struct block_disk *disk, unsigned depth)
{
    struct block_node **link = block_stack_active(disk);
    while (*link && depth--)
        link = &(*link)->backing;
    return *link ? link : NULL;
}

static const char *last_part(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

int block_stack_find(struct block_disk *disk, const char *name, struct err *err)
{
    struct block_node **link;
    for (int depth = 0; (link = block_stack_layer(disk, (unsigned)depth)); depth++) {
        if (strcmp((*link)->name, name) == 0)
            return depth;
    }
    for (int depth = 0; (link = block_stack_layer(disk, (unsigned)depth)); depth++) {
        if (strcmp(last_part((*link)->name), name) == 0)
            return depth;
    }
    return err_set(err, ERR_NOT_FOUND, "the disk has no image '%s' in its chain", name);
}

const char *block_layer_format(const struct block_node *layer)
{
    return layer->next ? layer->ops->name : "raw";
}

static struct block_node *file_of(struct block_node *layer)
{
    while (layer->next)
        layer = layer->next;
    return layer;
}

void block_stack_insert(struct block_disk *disk, struct block_node *filter)
{
    struct block_node **link = block_stack_active(disk);
    filter->next = *link;
    *link = filter;
}

void block_stack_take_out(struct block_disk *disk, struct block_node *filter)
{
    struct block_node **link = block_disk_link(disk);
    while (*link != filter) {
        assert((*link)->ops->filter);
        link = &(*link)->next;
    }
    *link = filter->next;
    filter->next = NULL;
}

static void set_read_only(struct block_node *layer)
{
    for (struct block_node *node = layer; node; node = node->next) {
        node->read_only = true;
        node->limits.read_only = true;
        node->limits.can_discard = node->limits.can_zero = false;
    }
}

int block_layer_seal(struct block_node *layer, struct err *err)
{
    int rc = layer->read_only ? 0 : block_node_flush(layer);
    if (!rc && !layer->read_only && layer->ops->finish)
        rc = layer->ops->finish(layer);
    if (rc)
        return err_set_errno(err, -rc, "cannot finish writing '%s'", layer->name);
    set_read_only(layer);
    // A lock that cannot be taken is no reason to fail: ours on the image stays as strong as it was.
    if (block_file_fd(file_of(layer)) >= 0)
        (void)block_lock_change(block_file_fd(file_of(layer)), false, layer->name, NULL);
    return 0;
}

int block_layer_unseal(struct block_node **link, int fd, struct err *err)
{
    struct block_node *old = *link;
    int old_fd = block_file_fd(file_of(old));
    if (old_fd < 0) {
        os_file_close(&fd);
        return err_set(err, ERR_UNSUPPORTED, "'%s' is remote: nothing can be committed into it",
                       old->name);
    }
    bool same = fd < 0;
    struct os_file_facts theirs = {0}, ours = {0};
    if (same)
        fd = os_file_duplicate(old_fd);
    int rc = fd < 0 ? -errno : os_file_facts(fd, &theirs);
    if (!rc)
        rc = os_file_facts(old_fd, &ours);
    if (!rc && (theirs.device != ours.device || theirs.inode != ours.inode)) {
        os_file_close(&fd);
        return err_set(err, ERR_USAGE, "the descriptor that was handed over is not '%s'",
                       old->name);
    }
    if (!rc && !theirs.writable) {
        os_file_close(&fd);
        return err_set(err, ERR_DENIED,
                       "'%s' is open for reading only; hand over a descriptor for writing",
                       old->name);
    }
    if (rc) {
        os_file_close(&fd);
        return err_set_errno(err, -rc, "cannot use '%s'", old->name);
    }
    if (!same)
        block_lock_give_up(old_fd);
    const struct block_image image = {
        .fd = fd, .format = block_layer_format(old), .name = old->name};
    struct block_node *layer = NULL;
    if (block_lock_change(fd, true, old->name, err))
        os_file_close(&fd);
    else
        layer = block_image_open(&image, false, false, old->memory_limit, err);
    if (!layer) {
        (void)block_lock_change(old_fd, false, old->name, NULL);
        return -1;
    }
    layer->backing = old->backing;
    old->backing = NULL;
    *link = layer;
    block_node_close(old);
    return 0;
}

int block_layer_move_bitmaps(struct block_node *from, struct block_node *to)
{
    bool keeps = to->ops->keeps_bitmaps && to->ops->keeps_bitmaps(to);
    struct block_bitmap **link = &from->bitmaps;
    while (*link) {
        struct block_bitmap *bitmap = *link;
        if (!bitmap->name) {
            link = &bitmap->next;
            continue;
        }
        struct block_bitmap *other = block_bitmap_find(to->bitmaps, bitmap->name);
        block_bitmap_remove(&from->bitmaps, bitmap);
        bitmap->persistent &= keeps;
        if (!other) {
            block_bitmap_add(&to->bitmaps, bitmap);
            if (bitmap->size != to->size && block_bitmap_resize(bitmap, to->size))
                return -ENOMEM;
            continue;
        }
        block_bitmap_merge(other, bitmap);
        other->taken |= bitmap->taken;
        other->inconsistent |= bitmap->inconsistent;
        other->recording = !other->inconsistent && (other->recording || bitmap->recording);
        block_bitmap_destroy(bitmap);
    }
    return 0;
}

void block_layer_name_for(const struct block_node *layer, const char *above,
                          struct block_backing *backing)
{
    size_t directory = (size_t)(last_part(layer->name) - layer->name);
    bool beside = directory == (size_t)(last_part(above) - above) &&
                  memcmp(layer->name, above, directory) == 0;
    snprintf(backing->name, sizeof(backing->name), "%s",
             beside ? last_part(layer->name) : layer->name);
    snprintf(backing->format, sizeof(backing->format), "%s", block_layer_format(layer));
}
