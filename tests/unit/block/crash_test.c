// SPDX-License-Identifier: Apache-2.0
//
// Kills an image format at any instant, on paper. A sequence of random operations runs on an image whose file is behind the
// log filter. Then, for many points of the log, the file is rebuilt as a crash there could leave it: everything up to
// the last sync is there, and of what was written since, any sectors may be missing. In each such file
//     - the check finds no corruption (leaks are allowed),
//     - every sector of the disk holds what it held at the last flush that had completed, or what an operation
//       since then made of it.
// Errors of the file (the fault filter) are tried too: after them the image must be sound and lose nothing flushed.
//
//     crash_test qcow2|vmdk [SEQUENCES [SEED]]
//
// And a file system that is full, at each write of one sequence, for qcow2 of two cluster sizes and for VMDK: that write alone fails, and that one with
// all that follow. With STEP, every so manieth write.
//
//     crash_test full [STEP [FIRST]]
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/block_driver.h"
#include "machine/block/block_image.h"
#include "machine/block/filter.h"
#include "os/file.h"
#include "sequence.h"

#define DISK_BYTES (768 * KIB)
#define SECTOR     512
#define OPERATIONS 60
#define CRASHES    40
#define STATES_MAX (2 * OPERATIONS + 2)

// A format under test: its images vary, and some have snapshots.
static const struct subject {
    const char *format;
    void (*vary)(struct block_create *create);
} * subject;

// What the disk held after each operation, and where the log stood then.
struct state {
    uint8_t *bytes;
    uint64_t log_end; // records up to here may have been made by operations up to this one
    bool flushed;     // the operation was a flush, and complete
};

struct run {
    int file, log, first; // the image, the log of its writes, a copy of the image before the first
    struct block_disk *disk;
    uint8_t *now; // what the disk holds
    uint8_t *snapshot;
    struct state states[STATES_MAX];
    size_t state_count;
    uint32_t cluster;
    bool lazy; // refcounts: an image that was not closed has them wrong, and says so
};

static struct block_disk *open_disk(int fd, int log, const struct block_fault *fault,
                                    bool read_only)
{
    struct err err = {0};
    struct block_node *node =
        block_file_open(os_file_duplicate(fd), "image", read_only, 2 * MIB, &err);
    if (node && fault)
        node = block_filter_fault(node, fault);
    if (node && log >= 0)
        node = block_filter_log(node, log);
    if (node)
        node = block_format_find(subject->format)->open(node, read_only, &err);
    struct block_disk *disk = node ? block_disk_on(node, &(struct block_options){0}, &err) : NULL;
    CHECK(disk, "%s", err.text);
    return disk;
}

static void make_image(struct run *r)
{
    struct err err = {0};
    struct block_create create = {.format = subject->format, .size = DISK_BYTES};
    subject->vary(&create);
    r->cluster = create.cluster_size;
    r->lazy = create.lazy_refcounts;
    CHECK(block_image_create(r->file, "image", &create, &err) == 0, "%s", err.text);
    copy_file(r->file, r->first);
}

static uint64_t log_position(const struct run *r)
{
    uint64_t size;
    CHECK(os_file_size(r->log, &size) == 0, "size");
    return size;
}

static void remember(struct run *r, bool flushed)
{
    struct state *s = &r->states[r->state_count++];
    s->bytes = malloc(DISK_BYTES);
    memcpy(s->bytes, r->now, DISK_BYTES);
    s->log_end = log_position(r);
    s->flushed = flushed;
}

// ---- Operations, all of whole sectors. An error is allowed when faults are injected; the state is then unknown for the
// sectors it touched, so it is read back.

static void pick(uint64_t *offset, uint64_t *length)
{
    *offset = SECTOR * below(DISK_BYTES / SECTOR);
    *length = SECTOR * (1 + below(below(3) ? 16 : 200));
    if (*length > DISK_BYTES - *offset)
        *length = DISK_BYTES - *offset;
}

static int operation(struct run *r, bool *flushed)
{
    uint64_t offset, length, kind = below(100);
    struct err err;
    struct block_node *node = block_disk_node(r->disk);
    const struct block_image_ops *image = block_format_find(subject->format)->image;
    *flushed = false;
    pick(&offset, &length);
    if (kind < 60) {
        uint8_t value = (uint8_t)random_u64();
        for (uint64_t i = 0; i < length; i++)
            r->now[offset + i] = (uint8_t)(value + i / SECTOR);
        return block_write(r->disk, offset, r->now + offset, length);
    }
    if (kind < 70) {
        memset(r->now + offset, 0, length);
        return block_write_zeroes(r->disk, offset, length, below(2) ? BLOCK_UNMAP : 0);
    }
    if (kind < 80) {
        int rc = block_discard(r->disk, offset, length);
        int read = block_read(r->disk, offset, r->now + offset, length);
        return rc ? rc : read;
    }
    if (kind < 93) {
        *flushed = true;
        return block_flush(r->disk);
    }
    if (!image->snapshot_create) {
        *flushed = true;
        return block_flush(r->disk);
    }
    if (r->snapshot && kind < 96) {
        int rc = image->snapshot_apply(node, "s", &err);
        if (!rc)
            memcpy(r->now, r->snapshot, DISK_BYTES);
        return rc;
    }
    if (r->snapshot) {
        free(r->snapshot);
        r->snapshot = NULL;
        return image->snapshot_delete(node, "s", &err);
    }
    int rc = image->snapshot_create(node, "s", 0, &err);
    if (!rc) {
        r->snapshot = malloc(DISK_BYTES);
        memcpy(r->snapshot, r->now, DISK_BYTES);
    }
    return rc;
}

// ---- Crashes

static void apply_write(int fd, const struct block_log_record *record, const uint8_t *bytes,
                        bool certain)
{
    uint64_t way = certain ? 1 : below(4);
    if (way == 0)
        return;
    if (way != 2) {
        CHECK(os_pwrite(fd, bytes, record->length, record->offset) == 0, "write");
        return;
    }
    // Torn: each sector of the file may have arrived or not.
    for (uint64_t at = 0, n; at < record->length; at += n) {
        n = SECTOR - (record->offset + at) % SECTOR;
        n = n < record->length - at ? n : record->length - at;
        if (below(2))
            CHECK(os_pwrite(fd, bytes + at, n, record->offset + at) == 0, "write");
    }
}

static void apply(int fd, const uint8_t *log, uint64_t at, bool certain)
{
    struct block_log_record record;
    struct os_file_facts facts;
    memcpy(&record, log + at, sizeof(record));
    CHECK(os_file_facts(fd, &facts) == 0, "facts");
    if (record.op == BLOCK_WRITE)
        apply_write(fd, &record, log + at + sizeof(record), certain);
    else if (record.op == BLOCK_DISCARD && (certain || below(2)))
        CHECK(os_file_punch_hole(fd, &facts, record.offset, record.length) == 0, "punch");
}

static uint64_t record_end(const uint8_t *log, uint64_t at)
{
    struct block_log_record record;
    memcpy(&record, log + at, sizeof(record));
    CHECK(record.magic == BLOCK_LOG_MAGIC, "log");
    return at + sizeof(record) + (record.op == BLOCK_WRITE ? record.length : 0);
}

static bool is_flush(const uint8_t *log, uint64_t at)
{
    struct block_log_record record;
    memcpy(&record, log + at, sizeof(record));
    return record.op == BLOCK_FLUSH;
}

// The file as a crash after `end` bytes of the log could leave it.
static int crashed_file(const struct run *r, const uint8_t *log, uint64_t end)
{
    int fd = memory_file();
    copy_file(r->first, fd);
    uint64_t synced = 0;
    for (uint64_t at = 0; at < end; at = record_end(log, at)) {
        if (is_flush(log, at))
            synced = at;
    }
    for (uint64_t at = 0; at < end; at = record_end(log, at))
        apply(fd, log, at, at < synced);
    return fd;
}

static void print_finding(void *user, const char *text)
{
    if (strncmp(text, "leak", 4) != 0)
        fprintf(stderr, "  %s\n", text);
}

static void check_sound(struct block_disk *disk)
{
    const struct block_image_ops *image = block_format_find(subject->format)->image;
    struct block_check result = {.report = print_finding};
    struct err err = {0};
    int rc = image->check(block_disk_node(disk), false, &result, &err);
    CHECK(rc == 0, "%s", err.text);
    CHECK(result.corruptions == 0, "%" PRIu64 " corruptions", result.corruptions);
}

// Is each sector as one of the states from `first` to `last` has it?
static void check_content(const struct run *r, struct block_disk *disk, size_t first, size_t last)
{
    uint8_t *bytes = malloc(DISK_BYTES);
    int rc = block_read(disk, 0, bytes, DISK_BYTES);
    CHECK(rc == 0, "read: %s", strerror(-rc));
    for (uint64_t at = 0; at < DISK_BYTES; at += SECTOR) {
        bool found = false;
        for (size_t i = first; i <= last && !found; i++)
            found = memcmp(bytes + at, r->states[i].bytes + at, SECTOR) == 0;
        CHECK(found, "sector at %" PRIu64 " is as no state %zu to %zu has it (cluster %u)", at,
              first, last, r->cluster);
    }
    free(bytes);
}

static void crash(const struct run *r, const uint8_t *log, uint64_t end)
{
    // The last flush that was complete, and the operation that was at work.
    size_t first = 0, last = 0;
    while (last + 1 < r->state_count && r->states[last].log_end < end)
        last++;
    for (size_t i = 0; i <= last; i++) {
        if (r->states[i].flushed && r->states[i].log_end <= end)
            first = i;
    }
    int fd = crashed_file(r, log, end);
    struct block_disk *disk = open_disk(fd, -1, NULL, true);
    if (!r->lazy)
        check_sound(disk);
    check_content(r, disk, first, last);
    block_disk_close(disk);
    if (r->lazy) { // the counts are made anew by whoever opens it to write
        disk = open_disk(fd, -1, NULL, false);
        check_sound(disk);
        check_content(r, disk, first, last);
        block_disk_close(disk);
    }
    os_file_close(&fd);
}

static void crash_everywhere(const struct run *r)
{
    uint64_t size = log_position(r);
    uint8_t *log = malloc(size + 1);
    CHECK(os_pread(r->log, log, size, 0) == 0, "log");
    size_t records = 0;
    for (uint64_t at = 0; at < size; at = record_end(log, at))
        records++;
    for (int i = 0; i < CRASHES; i++) {
        uint64_t end = 0;
        for (size_t n = below(records + 1); n; n--)
            end = record_end(log, end);
        crash(r, log, end);
    }
    free(log);
}

static void fini(struct run *r)
{
    for (size_t i = 0; i < r->state_count; i++)
        free(r->states[i].bytes);
    free(r->now);
    free(r->snapshot);
    os_file_close(&r->file);
    os_file_close(&r->log);
    os_file_close(&r->first);
}

static void init(struct run *r)
{
    *r = (struct run){.file = memory_file(),
                      .log = memory_file(),
                      .first = memory_file(),
                      .now = calloc(1, DISK_BYTES)};
    make_image(r);
}

static void crash_sequence(void)
{
    struct run r;
    init(&r);
    r.disk = open_disk(r.file, r.log, NULL, false);
    remember(&r, true);
    for (int i = 0; i < OPERATIONS; i++) {
        bool flushed;
        int rc = operation(&r, &flushed);
        CHECK(rc == 0 || rc == -1, "%s", strerror(-rc)); // -1: a snapshot of narrow refcounts
        remember(&r, flushed);
    }
    int rc = block_disk_close(r.disk);
    CHECK(rc == 0, "%s", strerror(-rc));
    crash_everywhere(&r);
    fini(&r);
}

// ---- Faults: a write or sync fails some time; the disk is closed and opened again.

// Returns how many operations failed, the closing among them.
static unsigned run_with_fault(const struct block_fault *fault)
{
    struct run r;
    init(&r);
    r.disk = open_disk(r.file, -1, fault, false);
    remember(&r, true);
    size_t flushed_at = 0;
    unsigned failed = 0;
    for (int i = 0; i < OPERATIONS; i++) {
        bool flushed;
        int rc = operation(&r, &flushed);
        if (rc && r.snapshot) { // it may have been applied
            memcpy(r.now, r.snapshot, DISK_BYTES);
            remember(&r, false);
        }
        failed += rc < -1; // -1: a snapshot, where it cannot be
        if (rc) {          // any part of the operation may have happened
            rc = block_read(r.disk, 0, r.now, DISK_BYTES);
            CHECK(rc == 0, "%s", strerror(-rc));
            flushed = false;
        }
        remember(&r, flushed);
        if (flushed)
            flushed_at = r.state_count - 1;
    }
    failed += block_disk_close(r.disk) != 0;
    // Lazy refcounts that could not be written are made anew by whoever opens it to write.
    struct block_disk *disk = open_disk(r.file, -1, NULL, !r.lazy);
    check_sound(disk);
    check_content(&r, disk, flushed_at, r.state_count - 1);
    block_disk_close(disk);
    fini(&r);
    return failed;
}

static void fault_sequence(void)
{
    const struct block_fault fault = {.error = below(2) ? ENOSPC : EIO,
                                      .ops = below(3) ? 1u << BLOCK_WRITE : 1u << BLOCK_FLUSH,
                                      .after = below(80),
                                      .count = 1 + below(4)};
    (void)run_with_fault(&fault);
}

// ---- A full file system, at each write of a sequence that is always the same.

#define FULL_SEED 20261122

// Those that the sequence makes where there is room.
static uint64_t count_writes(void)
{
    struct run r;
    uint64_t count = 0;
    init(&r);
    r.disk = open_disk(r.file, r.log, NULL, false);
    for (int i = 0; i < OPERATIONS; i++) {
        bool flushed;
        (void)operation(&r, &flushed);
    }
    CHECK(block_disk_close(r.disk) == 0, "close");
    uint64_t size = log_position(&r);
    uint8_t *log = malloc(size + 1);
    CHECK(os_pread(r.log, log, size, 0) == 0, "log");
    for (uint64_t at = 0; at < size; at = record_end(log, at)) {
        struct block_log_record record;
        memcpy(&record, log + at, sizeof(record));
        count += record.op == BLOCK_WRITE || record.op == BLOCK_WRITE_ZEROES;
    }
    free(log);
    fini(&r);
    return count;
}

static void full_at(uint64_t write, bool stays_full)
{
    char name[64];
    const struct block_fault fault = {.error = ENOSPC,
                                      .ops = 1u << BLOCK_WRITE | 1u << BLOCK_WRITE_ZEROES,
                                      .after = write,
                                      .count = stays_full ? 0 : 1};
    snprintf(name, sizeof(name), "crash_test full 1000000 %" PRIu64, write);
    sequence_begin(name, FULL_SEED);
    unsigned failed = run_with_fault(&fault);
    CHECK(failed || !stays_full, "nobody was told (%s)", subject->format);
}

static void full(uint64_t step, uint64_t first)
{
    sequence_begin("crash_test full", FULL_SEED);
    uint64_t count = count_writes(), tried = 0;
    CHECK(count > 20, "%" PRIu64 " writes only", count);
    for (uint64_t write = first; write < count; write += step, tried++) {
        full_at(write, false);
        full_at(write, true);
    }
    printf("%s: %" PRIu64 " of %" PRIu64 " writes\n", subject->format, tried, count);
}

// ---- Growing on a longer backing image: killed at any instant, the disk has the old size or the new one, and zeros in the new part.

#define LITTER 0xee

static struct block_disk *open_on(int fd, int log, int backing, bool read_only)
{
    struct err err = {0};
    struct block_disk *disk = open_disk(fd, log, NULL, read_only);
    block_disk_node(disk)->backing =
        block_file_open(os_file_duplicate(backing), "backing", true, 2 * MIB, &err);
    CHECK(block_disk_node(disk)->backing, "%s", err.text);
    return disk;
}

static void check_grown(const struct run *r, int fd, int backing, uint64_t grown)
{
    struct block_disk *disk = open_on(fd, -1, backing, true);
    uint64_t size = block_disk_size(disk);
    CHECK(size == DISK_BYTES || size == grown, "it holds %" PRIu64 " bytes", size);
    uint8_t *bytes = malloc(size);
    CHECK(block_read(disk, 0, bytes, size) == 0, "read");
    CHECK(memcmp(bytes, r->now, DISK_BYTES) == 0, "the old part has changed");
    CHECK(size == DISK_BYTES || block_memory_is_zero(bytes + DISK_BYTES, size - DISK_BYTES),
          "the backing image shows in the new part (cluster %u)", r->cluster);
    free(bytes);
    if (!r->lazy)
        check_sound(disk);
    block_disk_close(disk);
}

static void grow_sequence(void)
{
    struct run r;
    struct err err = {0};
    int backing = memory_file();
    uint8_t *litter = malloc(2 * DISK_BYTES);
    memset(litter, LITTER, 2 * DISK_BYTES);
    CHECK(os_pwrite(backing, litter, 2 * DISK_BYTES, 0) == 0, "write");
    init(&r);
    r.disk = open_on(r.file, -1, backing, false);
    for (int i = 0; i < 4; i++) {
        uint64_t offset, length;
        pick(&offset, &length);
        CHECK(block_write(r.disk, offset, r.now, length) == 0, "write");
    }
    CHECK(block_read(r.disk, 0, r.now, DISK_BYTES) == 0, "read");
    CHECK(block_disk_close(r.disk) == 0, "close");
    copy_file(r.file, r.first);
    uint64_t grown = DISK_BYTES + SECTOR * (1 + below(256 * KIB / SECTOR));
    r.disk = open_on(r.file, r.log, backing, false);
    CHECK(block_disk_resize(r.disk, grown, &err) == 0, "%s", err.text);
    CHECK(block_disk_close(r.disk) == 0, "close");
    uint64_t size = log_position(&r);
    uint8_t *log = malloc(size + 1);
    CHECK(os_pread(r.log, log, size, 0) == 0, "log");
    for (uint64_t end = 0; end < size; end = record_end(log, end)) {
        int fd = crashed_file(&r, log, end);
        check_grown(&r, fd, backing, grown);
        os_file_close(&fd);
    }
    check_grown(&r, r.file, backing, grown);
    free(log);
    free(litter);
    os_file_close(&backing);
    fini(&r);
}

static void sequence(void)
{
    crash_sequence();
    fault_sequence();
    if (!strcmp(subject->format, "qcow2")) // the only one that grows
        grow_sequence();
}

// ---- Formats

static void vary_qcow2(struct block_create *create)
{
    static const uint32_t clusters[] = {512, 1024, 4096, 16384, 65536};
    create->cluster_size = clusters[below(ARRAY_LENGTH(clusters))];
    create->version = below(4) ? 3 : 2;
    if (create->version == 3) {
        create->refcount_bits = 4u << below(5);
        create->lazy_refcounts = below(3) == 0;
    }
}

static void vary_vmdk(struct block_create *create)
{
    create->compressed = below(2);
}

static void vary_plain(struct block_create *create)
{
    (void)create;
}

static void vary_small(struct block_create *create)
{
    create->cluster_size = 512;
}

static void vary_large(struct block_create *create)
{
    create->cluster_size = 65536;
}

static int full_all(int argc, char **argv)
{
    static const struct subject subjects[] = {
        {"qcow2", vary_small}, {"qcow2", vary_large}, {"vmdk", vary_plain}};
    uint64_t step = argc > 0 ? strtoull(argv[0], NULL, 10) : 1;
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    for (size_t i = 0; i < ARRAY_LENGTH(subjects); i++) {
        subject = &subjects[i];
        full(step, first);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "full"))
        return full_all(argc - 2, argv + 2);
    static const struct subject subjects[] = {{"qcow2", vary_qcow2}, {"vmdk", vary_vmdk}};
    char name[64];
    for (size_t i = 0; i < ARRAY_LENGTH(subjects) && argc > 1; i++) {
        if (strcmp(subjects[i].format, argv[1]) == 0)
            subject = &subjects[i];
    }
    if (!subject)
        return 2;
    snprintf(name, sizeof(name), "crash_test %s", subject->format);
    sequences_run(name, argc - 2, argv + 2, 60, sequence);
    return 0;
}
