// SPDX-License-Identifier: Apache-2.0
//
// Images as files with names: finding an image's backing chain, locking it, making new images. For
// the process that may open files (the launcher, `wirt disk`), never for the one that runs a guest.
//
// Locks are those that QEMU takes (bytes 100 and up for what one does, 200 and up for what one does
// not let others do), on the open file description: they travel with the descriptor and last until
// its last copy is closed. A writer keeps out other writers, and readers that need a stable image.
#ifndef WIRT_MACHINE_BLOCK_BLOCK_IMAGE_H
#define WIRT_MACHINE_BLOCK_BLOCK_IMAGE_H

#include "machine/block/block.h"

#define BLOCK_CHAIN_MAX 256

struct block_chain_rules {
    const char *format; // of the first image; NULL: by probing when `probe`, else refused
    bool probe;         // take formats from headers where nothing states them: for commands only
    bool read_only;     // the first image; those below always are
    bool direct;        // O_DIRECT
    bool no_lock;       // look at an image that a VM uses, at the risk of inconsistency
    const char *const *allowed; // backing files must lie in one of these directories, ends with
                                // NULL; "" is that of the image that names them; NULL: only there
    size_t depth_max;           // 0: BLOCK_CHAIN_MAX. 1: the first image alone
};

struct block_chain {
    struct block_image
        image[BLOCK_CHAIN_MAX]; // names and formats owned here; descriptors owned until given away
    size_t length;
    int status_fd; // of a remote image (block_remote.h), owned until given away; else -1
};

// `path` may be a remote disk's URL: its process is started, and stands behind the descriptor.
int block_chain_open(struct block_chain *chain, const char *path,
                     const struct block_chain_rules *rules, struct err *err);
// Closes descriptors that are left, frees names. A chain of zeros is fine.
void block_chain_close(struct block_chain *chain);
// Open a disk on the chain, which gives its descriptors away.
struct block_disk *block_chain_disk(struct block_chain *chain, const struct block_options *options,
                                    struct err *err);

// Lock as QEMU does. `name` is for the message, which names the holder when it can be found.
int block_lock_take(int fd, bool write, const char *name, struct err *err);

// From reader's to writer's locks or back on one descriptor; when that is refused they are what they were.
int block_lock_change(int fd, bool write, const char *name, struct err *err);
void block_lock_give_up(int fd);

enum block_preallocate {
    BLOCK_PREALLOCATE_OFF,
    BLOCK_PREALLOCATE_METADATA,
    BLOCK_PREALLOCATE_FALLOC,
    BLOCK_PREALLOCATE_FULL
};

struct block_create {
    const char *format;
    uint64_t size;
    const char *backing;        // as it is to stand in the image; NULL: none
    const char *backing_format; // NULL with no backing
    enum block_preallocate preallocate;
    uint32_t cluster_size;   // 0: the format's usual
    unsigned version;        // qcow2: 2 or 3; 0: 3
    unsigned refcount_bits;  // qcow2; 0: 16
    const char *compression; // qcow2: "zlib" or "zstd"; NULL: zlib
    bool compressed;         // vmdk: of compressed grains (streamOptimized)
    bool lazy_refcounts;     // qcow2
};
// Can such an image be made at all? To be asked before a file is made, or emptied.
int block_image_check(const struct block_create *create, struct err *err);
// Make an image in an empty file, which stays the caller's.
int block_image_create(int fd, const char *name, const struct block_create *create,
                       struct err *err);

#endif
