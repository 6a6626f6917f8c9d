// SPDX-License-Identifier: Apache-2.0
//
// Copying from disk to disk, with several workers, keeping what is sparse sparse: conversions, commits, mirrors.
#ifndef WIRT_MACHINE_BLOCK_BLOCK_COPY_H
#define WIRT_MACHINE_BLOCK_BLOCK_COPY_H

#include "machine/block/block.h"

struct block_copy {
    struct block_disk *source, *target; // borrowed; the target is at least as large
    unsigned workers;                   // 0: 4
    bool target_is_zero;                // a new image: what is zeros need not be written
    bool top_only;                      // only what the source's first image holds itself
    bool compress;                      // whole clusters, compressed
    bool no_sharing; // the target has blocks of its own, or the source changes meanwhile
    // Told from time to time by one of the workers, at most ten times a second; false: stop.
    bool (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
    // Result: bytes written as data.
    _Atomic uint64_t data_bytes;
    _Atomic uint64_t shared_bytes; // that both have in common now, and nobody wrote
};

// 0, or the first error of a worker; -ECANCELED when progress said stop. Does not flush.
int block_copy_run(struct block_copy *copy);

// Where do two disks differ first? Beyond a disk's end there are zeros. 0 and *equal, or an error.
int block_compare(struct block_disk *a, struct block_disk *b,
                  bool (*progress)(void *user, uint64_t done, uint64_t total), void *user,
                  bool *equal, uint64_t *offset);

#endif
