// SPDX-License-Identifier: Apache-2.0
//
// qcow2 from the inside: what the qcow2_*.c files share.
//
// An image maps guest clusters to host clusters through two levels of tables (L1, L2) and counts
// the references to each host cluster (refcount table, refcount blocks). A kill at any instant must
// leave tables that never point to a cluster whose count is too small. So changes to tables stay in
// memory until a *commit*:
//
//     A  write the changed refcount blocks                              (data is already written)
//     B  sync: data, copied clusters and refcounts are durable
//     C  write the changed L2 slices and L1 sectors, as they were at A
//     D  sync: the mapping is durable
//     E  clusters that the mapping no longer uses are given back, and may be allocated again
//
// A guest's flush is a commit; so is a crowded cache. Between commits the file on disk describes
// the state of the last commit, plus leaked clusters. Changes made during a commit belong to the
// next one.
//
// Locks. `lock` guards everything below "Under lock"; it is not held during data transfers, nor in
// B to D. A request holds a range lock (range_lock.h) on the guest clusters it works on: shared
// when the mapping stays, exclusive when it allocates or discards. Hence a cluster found under a
// range lock stays what it was found to be until the lock is released, and a cluster given back in
// E has no transfer in flight.
#ifndef WIRT_MACHINE_BLOCK_QCOW2_H
#define WIRT_MACHINE_BLOCK_QCOW2_H

#include <pthread.h>

#include "machine/block/block_driver.h"
#include "machine/block/buffers.h"
#include "machine/block/meta_cache.h"
#include "machine/block/qcow2_header.h"
#include "machine/block/range_lock.h"

#define QCOW2_COPIED      (1ull << 63) // refcount is exactly one: may be written in place
#define QCOW2_COMPRESSED  (1ull << 62)
#define QCOW2_ZERO        1ull // version 3: reads as zeros, whatever the cluster holds
#define QCOW2_OFFSET_MASK 0x00fffffffffffe00ull

#define QCOW2_FREED_MAX   4096 // runs of clusters that wait for a commit
#define QCOW2_RUN_ENTRIES 512  // entries of an L2 slice: a run never goes beyond one

struct qcow2_freed {
    uint64_t cluster;
    uint32_t count;
    bool punch; // give the space back to the file system too
};

struct qcow2 {
    struct block_node node;

    // Constant after opening.
    uint64_t cluster_size;
    uint64_t refcount_max;
    size_t slice_bytes;
    unsigned cluster_bits;
    unsigned l2_bits;     // an L2 table has 1 << l2_bits entries
    unsigned entry_bytes; // 8, or 16 when extended
    unsigned refcount_bits;
    unsigned refblock_bits; // a refcount block has 1 << refblock_bits entries
    bool extended;          // extended L2 entries: 32 subclusters each

    pthread_mutex_t lock;
    // Under lock.
    struct qcow2_header header;
    struct range_locks ranges;
    uint64_t *l1;       // owned, host byte order
    uint8_t *l1_dirty;  // owned: a byte for each sector of 64 entries
    uint64_t *reftable; // owned, host byte order
    uint32_t l1_dirty_count;
    uint32_t reftable_entries;
    struct meta_cache l2, refblocks;
    uint64_t free_hint;        // no free cluster below this one
    uint64_t zeros_from;       // the file reads as zeros from this offset on
    uint64_t compressed_at;    // where the next compressed cluster may go; 0: nowhere
    struct qcow2_freed *freed; // owned: given back by the next commit
    unsigned freed_count;
    unsigned freeing_count; // how many of them the running commit gives back
    uint64_t commits_begun, commits_done;
    pthread_cond_t commit_end;
    struct qcow2_copy *copies; // owned: used by the running commit
    uint8_t *copy_bytes;       // owned
    size_t copy_room;
    int commit_result; // of the last one done
    bool commit_running;
    bool punch;     // what is released now, is released to the file system too
    bool allocated; // something was allocated since the last commit
    bool broken;    // the tables are corrupt, or their place unknown: no more writes

    struct block_buffers cow;    // two clusters each; has its own lock
    struct block_buffers packed; // compressed data; has its own lock
};

struct qcow2_copy {
    struct meta_slot *slot; // NULL: part of the L1 table
    uint64_t offset;
};

static inline struct qcow2 *qcow2_of(struct block_node *node)
{
    return (struct qcow2 *)(void *)node;
}

static inline uint64_t qcow2_clusters(const struct qcow2 *q, uint64_t bytes)
{
    return (bytes + q->cluster_size - 1) >> q->cluster_bits;
}

// ---- qcow2_map.c: from guest to host. Under lock.
enum qcow2_kind { QCOW2_UNALLOCATED, QCOW2_ZEROS, QCOW2_DATA, QCOW2_PACKED };
struct qcow2_run {
    enum qcow2_kind kind;
    uint64_t length; // bytes of equal kind from the offset asked for, host bytes contiguous
    uint64_t host;   // where they lie: data, or zeros that have a cluster; 0: nowhere
    uint64_t entry;  // the first L2 entry
    bool in_place;   // data that may be overwritten
};
int qcow2_lookup(struct qcow2 *q, uint64_t offset, uint64_t length, struct qcow2_run *run);
// The same without reading from the file: -EAGAIN when the slice is not in memory.
int qcow2_lookup_cached(struct qcow2 *q, uint64_t offset, uint64_t length, struct qcow2_run *run);
// The slot and index of an entry, in a table that may be written (allocated or copied if need be).
int qcow2_entry_for_write(struct qcow2 *q, uint64_t offset, struct meta_slot **slot,
                          unsigned *index);
// Give entries [offset, offset + count clusters), within one slice, a new value; what they held is
// freed. The host cluster advances from entry to entry when `value` has one.
int qcow2_set_entries(struct qcow2 *q, uint64_t offset, unsigned count, uint64_t value);
void qcow2_l1_set(struct qcow2 *q, uint32_t index, uint64_t value);
// Mark the image corrupt; returns -EIO.
int qcow2_corrupt(struct qcow2 *q, const char *what, uint64_t at);
// Does [offset, offset + length) of the file touch the header or one of the top-level tables?
bool qcow2_overlaps_tables(const struct qcow2 *q, uint64_t offset, uint64_t length);

// ---- qcow2_refcount.c: who uses which host cluster. Under lock.
int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *count);
int qcow2_refcount_add(struct qcow2 *q, uint64_t cluster, int delta);
// For repair: a count as it should be, where a block for it exists.
int qcow2_refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t count);
// Up to `want` contiguous clusters, at least one, with count one. *zeros: they read as zeros
// already.
int qcow2_allocate(struct qcow2 *q, uint32_t want, uint64_t *offset, uint32_t *got, bool *zeros);
// Exactly so many.
int qcow2_allocate_exactly(struct qcow2 *q, uint32_t want, uint64_t *offset);
// Never linked: free at once.
void qcow2_release_now(struct qcow2 *q, uint64_t offset, uint64_t count);
// One reference less, after the next commit.
void qcow2_release_later(struct qcow2 *q, uint64_t offset, uint32_t count);
// Step E for one run.
void qcow2_release_freed(struct qcow2 *q, const struct qcow2_freed *freed);
// What an L2 entry refers to, one reference less after the next commit.
void qcow2_release_entry(struct qcow2 *q, uint64_t entry);
// A compressed cluster's bytes: where, and how many at most.
void qcow2_packed_place(const struct qcow2 *q, uint64_t entry, uint64_t *offset, uint64_t *bytes);
void qcow2_count_read(const struct qcow2 *q, const uint8_t *slice, uint64_t index, uint64_t *count);
void qcow2_count_write(const struct qcow2 *q, uint8_t *slice, uint64_t index, uint64_t count);

// ---- qcow2_commit.c
// Take the lock, and see to it that an operation finds room for its changes.
int qcow2_lock_room(struct qcow2 *q);
// Everything done before the call becomes durable. Lock not held.
int qcow2_commit(struct qcow2 *q);
// The same with the lock held, released meanwhile.
int qcow2_commit_locked(struct qcow2 *q);
// Counts may be written at any time: too high is a leak at worst. Under lock.
int qcow2_write_refblocks(struct qcow2 *q);
// Lazy refcounts: write the counts and take the dirty mark away. Nothing else is at work.
int qcow2_settle(struct qcow2 *q);
// Write a field of the header, synchronously. Under lock.
int qcow2_write_field32(struct qcow2 *q, unsigned at, uint32_t value);
int qcow2_write_field64(struct qcow2 *q, unsigned at, uint64_t value);
int qcow2_write_header(struct qcow2 *q);
// Make the header point to other tables, in one sector, durably. When that fails, nobody knows which tables the file
// has now: the image takes no more writes, and what either header points to must stay as it is (`broken`).
int qcow2_switch_header(struct qcow2 *q, unsigned at, const void *fields, size_t length);

// ---- qcow2_io.c: requests
int qcow2_read(struct block_node *node, uint64_t offset, struct block_vec vec);
int qcow2_write(struct block_node *node, uint64_t offset, struct block_vec vec, uint32_t flags);
int qcow2_discard(struct block_node *node, uint64_t offset, uint64_t length);
// Unmap the whole clusters of a range: a backing image shows through.
int qcow2_empty(struct qcow2 *q, uint64_t offset, uint64_t length);
int qcow2_populate(struct block_node *node, uint64_t offset, struct block_vec vec, bool keep_holes);
int qcow2_zero(struct block_node *node, uint64_t offset, uint64_t length, uint32_t flags);
int qcow2_extent(struct block_node *node, uint64_t offset, uint64_t length,
                 struct block_extent *extent);
// Data that is in place already, or a backing image's, when the tables that say so are in memory.
int qcow2_route(struct block_node *node, enum block_op op, uint64_t offset, struct block_vec vec,
                struct block_route *route);
void qcow2_unroute(struct block_node *node, struct range_lock *lock);

// ---- qcow2_packed.c: compressed clusters
int qcow2_packed_read(struct qcow2 *q, uint64_t entry, uint64_t skip, struct block_vec vec);
int qcow2_write_compressed(struct block_node *node, uint64_t offset, struct block_vec vec);

// ---- qcow2_bitmaps.c: the image's persistent bitmaps, in the node's list while it is open
int qcow2_bitmaps_load(struct qcow2 *q, struct err *err);
void qcow2_bitmaps_save(struct qcow2 *q); // nothing else is at work
bool qcow2_keeps_bitmaps(struct block_node *node);

// ---- qcow2_snapshot.c
struct qcow2_snapshot {
    uint64_t l1_offset;
    uint32_t l1_entries;
    uint32_t date_s, date_ns;
    uint64_t clock_ns;
    uint64_t vm_bytes;
    uint64_t disk_bytes;
    uint64_t instructions;
    uint64_t table_bytes; // of its entry
    char id[32];
    char name[256];
};
// The table, decoded; *list is the caller's to free. Lock held or nothing else at work.
int qcow2_snapshots_read(struct qcow2 *q, struct qcow2_snapshot **list, uint64_t *table_bytes);
// A snapshot's L1 table in host byte order; the caller's to free.
int qcow2_snapshot_l1(struct qcow2 *q, const struct qcow2_snapshot *snapshot, uint64_t **l1);
int qcow2_snapshot_list(struct block_node *node, struct block_snapshot *list, int max,
                        struct err *err);
int qcow2_snapshot_create(struct block_node *node, const char *name, uint64_t date_s,
                          struct err *err);
int qcow2_snapshot_apply(struct block_node *node, const char *name, struct err *err);
int qcow2_snapshot_view(struct block_node *node, const char *name, struct err *err);
int qcow2_snapshot_delete(struct block_node *node, const char *name, struct err *err);

// ---- qcow2_flags.c: the COPIED flags of the active tables. Lock held, nothing else at work.
// Clear them all, or set them where the count is one; durable afterwards. *changed may be NULL.
int qcow2_flags_clear(struct qcow2 *q);
int qcow2_flags_set(struct qcow2 *q, uint64_t *changed);

// ---- qcow2_check.c
int qcow2_check(struct block_node *node, bool repair, struct block_check *result, struct err *err);

// ---- qcow2_info.c
extern const struct block_image_ops qcow2_image_ops;

// ---- qcow2_open.c
struct block_node *qcow2_open(struct block_node *file, bool read_only, struct err *err);

// ---- qcow2_resize.c
int qcow2_resize(struct block_node *node, uint64_t size, struct err *err);
int qcow2_l1_grow(struct qcow2 *q, uint64_t entries);

#endif
