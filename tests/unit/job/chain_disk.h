// SPDX-License-Identifier: Apache-2.0
//
// A chain of images opened as a disk, as the tests of jobs do it: formats are probed, the chain's rules are for reading only as the disk is.
// What the caller opened is its own; NULL and *err when it cannot be.
#ifndef WIRT_TESTS_UNIT_JOB_CHAIN_DISK_H
#define WIRT_TESTS_UNIT_JOB_CHAIN_DISK_H

#include "base/err.h"
#include "machine/block/block_image.h"

static inline struct block_disk *open_chain_disk(const char *path, bool read_only, bool no_lock,
                                                 struct err *err)
{
    struct block_chain chain;
    struct block_chain_rules rules = {.probe = true, .read_only = read_only, .no_lock = no_lock};
    struct block_options options = {.read_only = read_only};
    if (block_chain_open(&chain, path, &rules, err))
        return NULL;
    struct block_disk *disk = block_chain_disk(&chain, &options, err);
    block_chain_close(&chain);
    return disk;
}

#endif
