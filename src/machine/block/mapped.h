// SPDX-License-Identifier: Apache-2.0
//
// Images that are read through a map of equal blocks (VDI, VHDX): the format says where a block lies, the rest is
// the same for all. Reading only; any thread.
#ifndef WIRT_MACHINE_BLOCK_MAPPED_H
#define WIRT_MACHINE_BLOCK_MAPPED_H

#include "machine/block/block_driver.h"

enum mapped_kind { MAPPED_BELOW, MAPPED_ZEROS, MAPPED_DATA };

struct mapped {
    struct block_node node;
    uint64_t block_bytes; // constant
    // Where does block `index` lie? For data, *host is its offset in the file. 0 or -errno.
    int (*lookup)(struct mapped *mapped, uint64_t index, enum mapped_kind *kind, uint64_t *host);
};

int mapped_read(struct block_node *node, uint64_t offset, struct block_vec vec);
int mapped_extent(struct block_node *node, uint64_t offset, uint64_t length,
                  struct block_extent *extent);
// For formats whose tables are one array: read it whole, within the node's memory limit; the caller's to free.
void *mapped_read_table(struct block_node *file, uint64_t offset, uint64_t bytes, uint64_t limit,
                        struct err *err);

#endif
