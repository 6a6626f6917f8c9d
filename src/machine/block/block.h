// SPDX-License-Identifier: Apache-2.0
//
// Disks, as their users see them: virtual devices, block jobs, `wirt disk`.
//
// A disk is opened from descriptors, never from a path: the process that runs a guest has no
// business in the file system. Whoever starts it opens the image and its backing chain
// (block_chain.h) and hands the descriptors over. The formats and the filters below are
// block_driver.h's business; users never see them.
//
// Requests. The submitter owns a `struct block_request` (typically embedded in its own request),
// fills the first group of members, and calls block_submit(). Nothing is allocated, copied or
// queued elsewhere. The request and its memory belong to the disk until `done` is called, exactly
// once, with 0 or a negative errno. block_submit() never calls `done` itself and does not wait for
// I/O, but it may copy a write into the page cache (ring.h). Where `done` runs:
//   - with `queue` NULL, on one of the pool's threads: it must be short and must not wait for the
//   disk;
//   - else on the thread that calls block_queue_run() on that queue, after its descriptor became
//   readable.
// Requests may complete in any order, and overlapping requests in flight together have no defined
// order, as with hardware. A flush covers every write whose `done` was called before the flush was
// submitted.
//
// Threads. Every function may be called from any thread, except as noted; the disk must not be
// closed while others use it. Guest-supplied offsets and lengths are checked here once, so a device
// only has to multiply sectors without overflow; a range outside the disk completes with -EINVAL, a
// write to a read-only disk with -EROFS, a full file system with -ENOSPC.
#ifndef WIRT_MACHINE_BLOCK_BLOCK_H
#define WIRT_MACHINE_BLOCK_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct err;
struct block_disk;
struct block_pool;
struct block_queue;

enum block_op {
    BLOCK_READ,
    BLOCK_WRITE,
    BLOCK_FLUSH,
    BLOCK_DISCARD,
    BLOCK_WRITE_ZEROES,
    BLOCK_OP_COUNT
};
const char *block_op_name(enum block_op op);

enum block_request_flags {
    BLOCK_FUA = 1,  // write, write zeroes: durable before it completes
    BLOCK_UNMAP = 2 // write zeroes: the space may be given back
};

struct block_request {
    // Filled by the submitter, untouched by the disk.
    enum block_op op;
    uint32_t flags;          // enum block_request_flags
    uint64_t offset;         // in bytes, any alignment; ignored by a flush
    uint64_t length;         // in bytes; for read and write it must equal the sum of iov
    const struct iovec *iov; // borrowed until done; read and write only
    int iov_count;
    struct block_queue *queue; // NULL: done runs on a pool thread
    void (*done)(struct block_request *request, int result);
    void *user; // for the submitter

    // The disk's own while in flight.
    struct block_request *next;
    struct block_disk *disk;
    uint64_t start_ns;
    uint64_t due_ns;
    int result;
};

// ---- Completion queues: bring completions to the submitter's own thread.
struct block_queue *block_queue_create(struct err *err);
// The same, with a ring of its own where the kernel has io_uring: most reads and writes then need no thread of the pool. Make it before
// the sandbox closes; it must outlive the disks whose requests come to it.
struct block_queue *block_queue_create_with_ring(struct err *err);
void block_queue_destroy(struct block_queue *queue); // NULL is fine; nothing may be in flight to it
// Readable when completions wait. Borrowed: poll it, do not read it.
int block_queue_fd(const struct block_queue *queue);
// Call `done` for everything that waits; returns how many. One thread at a time.
unsigned block_queue_run(struct block_queue *queue);
// Wait until at least one completion is there, then run. For loops that have nothing else to wait
// for.
unsigned block_queue_wait(struct block_queue *queue);
// For `done`: have a function called once, when everything that waits in this round has been delivered. It belongs to its
// owner again, and may be freed, as soon as the function is called.
struct block_queue_after {
    void (*function)(void *context);
    void *context;
    struct block_queue_after *next; // the queue's own
    bool waits;
};
void block_queue_after(struct block_queue *queue, struct block_queue_after *after);
// Requests submitted between the two may reach the kernel several at once, the last at the end. Nests; block_queue_run() does it around `done`.
void block_queue_begin(struct block_queue *queue);
void block_queue_end(struct block_queue *queue);

// ---- The pool of I/O threads. One serves any number of disks; make it before the sandbox closes.
struct block_pool *block_pool_create(unsigned threads, struct err *err);
// The same; `begin` runs first on each thread (its sandbox).
struct block_pool *block_pool_create_with(unsigned threads, void (*begin)(void), struct err *err);
// At least so many threads from now on: 0, or the error that kept it from that. One caller at a time.
int block_pool_grow(struct block_pool *pool, unsigned threads);
// A remote disk has as many requests under way as there are threads.
#define BLOCK_REMOTE_THREADS 32
void block_pool_destroy(struct block_pool *pool); // NULL is fine; every disk on it must be closed

// ---- Opening.
struct block_image {
    int fd;             // owned by the disk once block_disk_open() was called, whatever it returns
    const char *format; // "raw", "qcow2", ...: always stated, never probed
    const char *name;   // for messages only; copied
};

enum block_durability {
    BLOCK_WRITE_BACK,    // durable after a flush (the default; a guest knows)
    BLOCK_WRITE_THROUGH, // every write is durable when it completes
    BLOCK_UNSAFE // flushes do nothing: for scratch disks and conversions that sync at the end
};

enum block_on_error {
    BLOCK_ERROR_REPORT, // the submitter gets the errno
    BLOCK_ERROR_STOP    // the request is held, `on_stop` is called, block_disk_retry() tries again
};

// How much a disk may do in a second, and at once after it did less. 0: without limit; no burst given: a tenth of a second's worth.
// Flushes are free, discards and write zeroes count as requests without bytes.
struct block_rate {
    uint64_t bytes_per_s, requests_per_s;
    uint64_t burst_bytes, burst_requests;
};

struct block_options {
    const struct block_image *chain; // [0] is the disk itself, then its backing images downwards
    size_t chain_length;
    struct block_pool *pool; // shared; NULL: the disk makes a pool of its own
    bool read_only;
    bool repair;     // for `wirt disk check`: open even what is marked corrupt
    bool no_discard; // discards do nothing: keeps a preallocated image as it is
    enum block_durability durability;
    enum block_on_error on_error;
    // On the thread that met the error; short. The request can be retried already.
    void (*on_stop)(void *user, enum block_op op, int error);
    void *user;
    struct block_rate rate;  // of requests by block_submit()
    uint64_t metadata_bytes; // bound on the memory for caches of each image; 0: 32 MiB

    // Instruments (block_filter.h), outermost first.
    int log_fd;        // > 0: every write and flush is recorded there, in order; borrowed
    uint64_t delay_ns; // each request takes at least so long
    struct block_fault {
        int error;      // positive errno; 0: no faults
        unsigned ops;   // 1 << enum block_op: what may fail
        uint64_t after; // that many matching requests succeed first
        uint64_t count; // then so many fail; 0: all
    } fault;
};

struct block_disk *block_disk_open(const struct block_options *options, struct err *err);
// Waits for what is in flight, makes everything durable, closes. NULL is fine. Returns the last
// flush's result: 0 or a negative errno.
int block_disk_close(struct block_disk *disk);

// What a disk offers; asked once when it is opened, constant but for the size.
struct block_limits {
    uint32_t logical_block_size; // smallest efficient unit for a guest: 512 or 4096
    uint32_t physical_block_size;
    uint32_t optimal_io_size;     // cluster size of the format, or 0
    uint64_t discard_granularity; // 0: discard is not offered
    bool read_only;
    bool can_discard;
    bool can_zero; // write zeroes is cheaper than writing zeros
};
const struct block_limits *block_disk_limits(const struct block_disk *disk);
uint64_t block_disk_size(const struct block_disk *disk);
// Grow or shrink. Shrinking drops what lies beyond. Safe beside requests in flight, which fail when
// they now lie outside.
int block_disk_resize(struct block_disk *disk, uint64_t size, struct err *err);

void block_submit(struct block_disk *disk, struct block_request *request);
// Returns when nothing is in flight: each request's `done` was called or waits in its queue (so run
// the queue afterwards), or the request is held. Submitting stays allowed.
void block_disk_drain(struct block_disk *disk);
// Between the two nothing runs: pause waits for what is in flight, later requests wait for resume.
// Nests.
void block_disk_pause(struct block_disk *disk);
void block_disk_resume(struct block_disk *disk);
// Start held requests again (BLOCK_ERROR_STOP); returns how many.
unsigned block_disk_retry(struct block_disk *disk);
// Fail held requests with their error.
unsigned block_disk_give_up(struct block_disk *disk);
void block_disk_set_on_error(struct block_disk *disk, enum block_on_error on_error);
// Other limits, for what is submitted from now on.
void block_disk_set_rate(struct block_disk *disk, const struct block_rate *rate);

// ---- The same without a request, on the calling thread: for commands and tests.
int block_read(struct block_disk *disk, uint64_t offset, void *buffer, size_t length);
int block_write(struct block_disk *disk, uint64_t offset, const void *buffer, size_t length);
int block_flush(struct block_disk *disk);
int block_discard(struct block_disk *disk, uint64_t offset, uint64_t length);
int block_write_zeroes(struct block_disk *disk, uint64_t offset, uint64_t length, uint32_t flags);

// What lies at an offset: one stretch of equal kind, for sparse copies and `wirt disk map`.
struct block_extent {
    uint64_t length; // at least 1, at most what was asked
    bool zero;       // reads as zeros, known without reading
    bool allocated;  // this image, not a backing one, decides the content
    bool compressed;
    unsigned depth;  // which image of the chain decides: 0 is the disk itself
    bool host_valid; // host_offset says where the bytes lie in that image's file
    uint64_t host_offset;
};
int block_disk_extent(struct block_disk *disk, uint64_t offset, uint64_t length,
                      struct block_extent *extent);

// ---- Statistics since the disk was opened.
#define BLOCK_LATENCY_BUCKETS                                                                      \
    32 // bucket n counts requests that took less than 2^n µs (and not less than 2^(n-1))
struct block_stats {
    struct block_op_stats {
        uint64_t requests, bytes, errors;
        uint64_t total_ns;
        uint64_t latency[BLOCK_LATENCY_BUCKETS];
    } op[BLOCK_OP_COUNT];
    uint64_t in_flight;
    uint64_t held;
    uint64_t by_ring; // requests that needed no thread of the pool
    uint64_t delayed,
        delayed_ns; // requests that came faster than the limits allow, and by how much
};
void block_disk_stats(struct block_disk *disk, struct block_stats *stats);

#endif
