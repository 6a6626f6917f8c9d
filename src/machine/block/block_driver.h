// SPDX-License-Identifier: Apache-2.0
//
// Disks, as formats and filters provide them.
//
// A disk is a stack of nodes. The lowest is a file node (file.c: raw bytes on a descriptor); a
// format node stands on a file node and gives the guest's view of it; a filter node stands on any
// node and looks like it (log, fault, delay, throttle). Each node may also have a backing node,
// which decides what it does not hold itself. A node owns the nodes below it.
//
// Operations are synchronous, and run on pool threads: any number at once, in any order, so a node
// does its own locking. They are given checked ranges (inside the node's size, no overflow) and
// return 0 or -errno. An operation left NULL has the meaning that stands beside it; "next" means
// the same operation of `node->next`. Use the block_node_*() functions to call a node; they fill in
// these meanings.
//
// A format's code never allocates by what an image says without asking block_node_memory() first:
// no image makes us use more memory than the caller of block_disk_open() allowed.
#ifndef WIRT_MACHINE_BLOCK_BLOCK_DRIVER_H
#define WIRT_MACHINE_BLOCK_BLOCK_DRIVER_H

#include "machine/block/block.h"
#include "machine/block/range_lock.h"
#include "machine/block/vec.h"

struct block_bitmap;
struct block_ring;
struct block_node;
struct os_file_facts;

#define BLOCK_ROUTE_DEPTH 8

// The way of one read or write through the images to one place in one file (ring.h).
struct block_route {
    struct block_ring *ring; // whose it is to be
    bool busy;               // others are under way there
    // Filled by the file's node.
    bool cached; // a copy into the page cache is all there is to do
    struct block_node *file;
    unsigned place; // among the ring's files
    uint64_t offset;
    // What the nodes passed hold until it is over.
    unsigned held_count;
    struct {
        struct block_node *node;
        struct range_lock lock;
    } held[BLOCK_ROUTE_DEPTH];
};

// A flag of `zero` beside those of requests: the image itself says zeros, even where nothing would show through. For an image that is to
// get another backing file.
#define BLOCK_ZERO_RECORDED 4u

struct block_ops {
    const char *name; // of the format or filter, as users write it
    bool filter;      // looks like the node it stands on

    int (*read)(struct block_node *node, uint64_t offset, struct block_vec vec); // next
    int (*write)(struct block_node *node, uint64_t offset, struct block_vec vec,
                 uint32_t flags);          // next
    int (*flush)(struct block_node *node); // next
    // Contents become undefined for raw, zeros or the old ones in general. May do nothing.
    int (*discard)(struct block_node *node, uint64_t offset, uint64_t length); // next
    // -EOPNOTSUPP makes the caller write zeros instead.
    int (*zero)(struct block_node *node, uint64_t offset, uint64_t length, uint32_t flags); // next
    // One whole cluster, or what is left of the disk, stored compressed. NULL: the format has none.
    int (*write_compressed)(struct block_node *node, uint64_t offset, struct block_vec vec);
    // Make a range of whole clusters (but for the disk's end) this image's own: what a backing image holds of it is read into `vec` and
    // written, beside other requests as if it were none. With `keep_holes`, what reads as zeros stays as it is. NULL: the format has
    // no backing images.
    int (*populate)(struct block_node *node, uint64_t offset, struct block_vec vec,
                    bool keep_holes);
    // One stretch from `offset` on. `depth` counts from this node.
    int (*extent)(struct block_node *node, uint64_t offset, uint64_t length,
                  struct block_extent *extent);                             // next
    int (*resize)(struct block_node *node, uint64_t size, struct err *err); // next
    // Does the image keep its persistent bitmaps (bitmap.h)? NULL: it cannot.
    bool (*keeps_bitmaps)(struct block_node *node);
    // Where do the bytes of a read or write lie? Only when they are one piece, and moving them is all there is to do; found
    // without waiting for anything. 0, or -EAGAIN: use read or write. A node that keeps something for the time of the transfer adds
    // itself to `held`, and is told by `unroute`. NULL: -EAGAIN.
    int (*route)(struct block_node *node, enum block_op op, uint64_t offset, struct block_vec vec,
                 struct block_route *route);
    void (*unroute)(struct block_node *node, struct range_lock *lock);
    // Last chance to write what is cached. Then `release` frees the node's own memory, not the node
    // itself.
    int (*finish)(struct block_node *node);   // nothing
    void (*release)(struct block_node *node); // nothing
};

struct block_node {
    const struct block_ops *ops;
    struct block_node *next;      // owned: what this node stands on; NULL for the lowest
    struct block_node *backing;   // owned: what holds what this image does not; may be NULL
    char *name;                   // owned: for messages
    _Atomic uint64_t size;        // guest-visible bytes
    _Atomic uint64_t changes;     // of a file: how many have been made
    struct block_bitmap *bitmaps; // owned: a list; marked by what changes this node (bitmap.h)
    struct block_limits limits;   // constant after opening
    uint64_t memory_limit;        // bound on what this node may allocate
    bool read_only;
    bool repair; // opened to be repaired: damage is no reason to refuse
    bool grows;  // a file: may be written beyond its end, and reads as zeros there
};

// Allocate a node's struct, of which `struct block_node` is the first member. It takes `next` over
// (also when it fails), and inherits its size, limits, name and memory bound. NULL when out of
// memory.
struct block_node *block_node_create(size_t struct_size, const struct block_ops *ops,
                                     struct block_node *next);
// finish, release, then everything below. NULL is fine. The first error of finish.
int block_node_close(struct block_node *node);

int block_node_read(struct block_node *node, uint64_t offset, struct block_vec vec);
int block_node_write(struct block_node *node, uint64_t offset, struct block_vec vec,
                     uint32_t flags);
// Formats write beyond a file's end: its node, and filters above it, are larger then.
void block_node_grew(struct block_node *node, uint64_t end);
// A file was written up to there, by whomever; before the writer is told.
void block_file_written(struct block_node *file, uint64_t end);
int block_node_flush(struct block_node *node);
int block_node_route(struct block_node *node, enum block_op op, uint64_t offset,
                     struct block_vec vec, struct block_route *route);
void block_route_release(struct block_route *route);
int block_node_discard(struct block_node *node, uint64_t offset, uint64_t length);
// Falls back to writing zeros.
int block_node_zero(struct block_node *node, uint64_t offset, uint64_t length, uint32_t flags);
// Write zeros, whatever the node could do better.
int block_node_write_zeros(struct block_node *node, uint64_t offset, uint64_t length);
int block_node_extent(struct block_node *node, uint64_t offset, uint64_t length,
                      struct block_extent *extent);
int block_node_resize(struct block_node *node, uint64_t size, struct err *err);
int block_node_read_buffer(struct block_node *node, uint64_t offset, void *buffer, size_t length);
int block_node_write_buffer(struct block_node *node, uint64_t offset, const void *buffer,
                            size_t length);
// Read where a part or all may lie beyond the node's end, which reads as zeros (a short backing
// image).
int block_node_read_padded(struct block_node *node, uint64_t offset, struct block_vec vec);

// ---- The lowest node: bytes of a descriptor, which it owns from here on.
struct block_node *block_file_open(int fd, const char *name, bool read_only, uint64_t memory_limit,
                                   struct err *err);
// -1: it is no file. From here on the node does not know what was changed, so each flush of it is a sync.
int block_file_fd(struct block_node *node);

struct block_backing {
    char name[1024];
    char format[32];
};

// ---- Upkeep of images, for commands and jobs. The disk is otherwise idle, or paused.
struct block_check {
    uint64_t corruptions;     // what may lose or mix up data
    uint64_t leaks;           // clusters that nothing uses
    uint64_t needless_copies; // clusters of its own that would be copied when written: harmless
    uint64_t clusters, allocated, compressed;
    uint64_t fixed;        // of all the above, by a repair
    uint64_t memory_limit; // in: bound on the memory for counting; 0: the node's
    // In, may be NULL: told each finding (the first hundred), in a person's words.
    void (*report)(void *user, const char *finding);
    void *user;
};

struct block_snapshot {
    char id[32];
    char name[256];
    uint64_t date_s;     // since 1970
    uint64_t disk_bytes; // the disk's size then
    uint64_t vm_bytes;   // of a machine's state kept with it
};

struct block_image_ops {
    // 0 when the check could be made, whatever it found.
    int (*check)(struct block_node *node, bool repair, struct block_check *result, struct err *err);
    // Returns how many there are, and fills at most `max`; or -1.
    int (*snapshot_list)(struct block_node *node, struct block_snapshot *list, int max,
                         struct err *err);
    int (*snapshot_create)(struct block_node *node, const char *name, uint64_t date_s,
                           struct err *err);
    int (*snapshot_apply)(struct block_node *node, const char *name, struct err *err);
    int (*snapshot_delete)(struct block_node *node, const char *name, struct err *err);
    // From now on an image that is open for reading only reads, and is as large, as it was then. Before it is used.
    int (*snapshot_view)(struct block_node *node, const char *name, struct err *err);
    // Forget all content, so that the backing image shows through everywhere.
    int (*empty)(struct block_node *node, struct err *err);
    // Record another backing file, or none; the content is the caller's affair.
    int (*set_backing)(struct block_node *node, const struct block_backing *backing,
                       struct err *err);
    // Tell what there is to know, fact by fact.
    void (*info)(struct block_node *node,
                 void (*fact)(void *user, const char *name, const char *value), void *user);
};

// ---- Formats. One table, in order.
struct block_format {
    const char *name;
    const char *suffixes; // space-separated, without dots; the first is the usual one
    const char *about;
    bool can_write;
    // Does the beginning of a file look like this format? For commands only. NULL: raw.
    bool (*probe)(const uint8_t *header, size_t length, const char *name);
    // Which image does this one stand on? An empty name: none; an empty format: not recorded. NULL:
    // never.
    int (*backing)(struct block_node *file, struct block_backing *backing, struct err *err);
    // Make a node over a file node, which it takes over whatever happens.
    struct block_node *(*open)(struct block_node *file, bool read_only, struct err *err);
    const struct block_image_ops *image; // NULL: no upkeep
};
extern const struct block_format *const block_formats[]; // ends with NULL
const struct block_format *block_format_find(const char *name);
const struct block_format *block_format_by_suffix(const char *path);
const struct block_format *block_format_probe(const uint8_t *header, size_t length,
                                              const char *name);
// What else it looks like: an image that nothing here reads, and that is nobody's raw disk by accident. NULL: nothing known.
const char *block_format_foreign(const uint8_t *header, size_t length);

// ---- A disk on a stack that the caller built. It takes the node over, whatever happens.
struct block_disk *block_disk_on(struct block_node *node, const struct block_options *options,
                                 struct err *err);
struct block_node *block_disk_node(struct block_disk *disk);
// Where the disk's topmost node hangs: for those who change a live stack (stack.h).
struct block_node **block_disk_link(struct block_disk *disk);
// One job has the stack for itself: false when others are at work. Nobody resizes the disk meanwhile.
bool block_disk_claim(struct block_disk *disk);
void block_disk_unclaim(struct block_disk *disk);
// Or several that only put filters above the active layer; one of them at most follows that layer, and may take its place. False: another has
// the stack for itself, or follows already.
bool block_disk_share(struct block_disk *disk, bool follows);
void block_disk_unshare(struct block_disk *disk, bool follows);
// An image as a node, alone. The descriptor is the node's, or closed.
struct block_node *block_image_open(const struct block_image *image, bool read_only, bool repair,
                                    uint64_t memory_bytes, struct err *err);

#endif
