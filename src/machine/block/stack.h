// SPDX-License-Identifier: Apache-2.0
//
// The stack of a disk in use, and how it changes while a guest uses it.
//
// Under the filters stands the active layer, the image that is written; below it, by `backing`, those that it stands on. Each layer is one
// image: a format's node on a file's node, or for raw the file's node alone. All but the active layer are sealed: flushed, closed in their
// own bookkeeping (bitmaps saved, no dirty mark), read-only, and locked as a reader locks, so that others may stand on them too.
//
// Whoever changes the stack has claimed the disk (block_disk_claim()), and pauses it for the change itself: functions that say so expect that
// no request is in flight. A stack only ever changes to one that reads the same.
#ifndef WIRT_MACHINE_BLOCK_STACK_H
#define WIRT_MACHINE_BLOCK_STACK_H

#include "machine/block/block_driver.h"

// Jobs that share a disk (block_disk_share()) change its stack between begin_change and end_change, which pause the disk too; on their own threads
// they read it between hold and let_go, which need not be long: who wants to change it waits.
void block_stack_begin_change(struct block_disk *disk);
void block_stack_end_change(struct block_disk *disk);
void block_stack_hold(struct block_disk *disk);
void block_stack_let_go(struct block_disk *disk);

// Where the active layer hangs, below the filters.
struct block_node **block_stack_active(struct block_disk *disk);
// Where layer `depth` hangs (0: the active one); NULL: there is none.
struct block_node **block_stack_layer(struct block_disk *disk, unsigned depth);
// By its file's name, or the name's last part: its depth, or -1 and *err.
int block_stack_find(struct block_disk *disk, const char *name, struct err *err);
// The name of a layer's format.
const char *block_layer_format(const struct block_node *layer);

// A filter's node (whose `next` is not set yet) above the active layer, and away again. Paused.
void block_stack_insert(struct block_disk *disk, struct block_node *filter);
void block_stack_take_out(struct block_disk *disk, struct block_node *filter);

// Nothing is written to the layer any more. Paused, or not the active one. 0 or -1.
int block_layer_seal(struct block_node *layer, struct err *err);
// The opposite: the image is opened anew for writing, by `fd` (owned from here on) or, when that is -1, by the descriptor it was opened with
// if that permits it. Refused when anybody else uses the image. The node changes, its place does not. Paused.
int block_layer_unseal(struct block_node **link, int fd, struct err *err);

// Move the user's bitmaps to the layer that takes the place of theirs: merged into those of the same name. Paused.
int block_layer_move_bitmaps(struct block_node *from, struct block_node *to);

// How the image `layer` has to be named in an image called `above`: what a backing file's name is told by.
void block_layer_name_for(const struct block_node *layer, const char *above,
                          struct block_backing *backing);

#endif
