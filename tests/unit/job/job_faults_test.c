// SPDX-License-Identifier: Apache-2.0
//
// Each job meets an error in its midst: its target (or what it writes into) has no room for one more byte, at several places, or what it reads fails.
// The job fails and says which file it was; the guest's requests do not: the disk holds what it held, before and after it is opened again. Nothing of
// the job stays behind: a user's bitmap marks what it marked, and the same job succeeds once the cause is gone.
//
// Room ends where files may not grow (RLIMIT_FSIZE), so that no file system of its own is needed.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/err.h"
#include "chain_disk.h"
#include "machine/block/bitmap.h"
#include "machine/block/block_driver.h"
#include "machine/block/block_image.h"
#include "machine/block/filter.h"
#include "machine/block/stack.h"
#include "machine/job/job.h"
#include "os/file.h"

#define BLOCK_BYTES (64 * KIB)
#define BLOCKS      128 // 8 MiB
#define DISK_BYTES  ((uint64_t)BLOCK_BYTES * BLOCKS)
#define BITMAP      "since"

static const char *now = "";

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s: %s; ", __FILE__, __LINE__, now, #condition);               \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static struct test {
    char folder[64];
    struct block_disk *disk;
    uint8_t value[BLOCKS];
} t;

static const char *path_of(const char *name)
{
    static char path[4][128];
    static unsigned turn;
    char *to = path[turn++ % ARRAY_LENGTH(path)];
    snprintf(to, sizeof(path[0]), "%s/%s", t.folder, name);
    return to;
}

static void limit_files(uint64_t bytes)
{
    struct rlimit limit = {.rlim_cur = bytes, .rlim_max = RLIM_INFINITY};
    CHECK(!setrlimit(RLIMIT_FSIZE, &limit), "setrlimit: %s", strerror(errno));
}

// ---- Images

static int make_image(const char *name, const char *format, const char *backing)
{
    struct err err = {0};
    const char *path = path_of(name);
    int fd = os_file_open(path, OS_FILE_WRITE | OS_FILE_CREATE | OS_FILE_TRUNCATE, &err);
    CHECK(fd >= 0 && !block_lock_take(fd, true, path, &err), "%s", err.text);
    struct block_create create = {.format = format,
                                  .size = DISK_BYTES,
                                  .backing = backing,
                                  .backing_format = backing ? "raw" : NULL};
    CHECK(!block_image_create(fd, path, &create, &err), "%s", err.text);
    return fd;
}

static struct block_disk *open_chain(const char *name, bool read_only)
{
    struct err err = {0};
    struct block_disk *disk = open_chain_disk(path_of(name), read_only, false, &err);
    CHECK(disk, "%s", err.text);
    return disk;
}

static void write_block(struct block_disk *disk, unsigned block, uint8_t value)
{
    uint8_t bytes[BLOCK_BYTES];
    memset(bytes, value, sizeof(bytes));
    int rc = block_write(disk, (uint64_t)block * BLOCK_BYTES, bytes, sizeof(bytes));
    CHECK(!rc, "block %u: %s", block, strerror(-rc));
    t.value[block] = value;
}

static void compare(struct block_disk *disk)
{
    static uint8_t bytes[BLOCK_BYTES], want[BLOCK_BYTES];
    for (unsigned block = 0; block < BLOCKS; block++) {
        int rc = block_read(disk, (uint64_t)block * BLOCK_BYTES, bytes, sizeof(bytes));
        memset(want, t.value[block], sizeof(want));
        CHECK(!rc && !memcmp(bytes, want, sizeof(bytes)), "block %u: %s", block, strerror(-rc));
    }
}

static void check_image(const char *name)
{
    struct err err = {0};
    struct block_disk *disk = open_chain(name, true);
    struct block_node *node = block_disk_node(disk);
    const struct block_format *format = block_format_find(block_layer_format(node));
    struct block_check result = {0};
    if (format->image) {
        CHECK(!format->image->check(node, false, &result, &err), "%s", err.text);
        CHECK(!result.corruptions, "%s: %llu errors", name, (unsigned long long)result.corruptions);
    }
    block_disk_close(disk);
}

// ---- The jobs

struct what {
    const char *name;
    enum job_kind kind;
    enum job_scope scope;
    const char *target; // the target's format
    const char *bitmap;
    const char *written, *after; // which file is written to; which is opened afterwards
    const char *file;            // the target's; NULL: "target"
};

static const struct what whats[] = {
    {"mirror to raw", JOB_MIRROR, JOB_FULL, "raw", NULL, "target", "target", NULL},
    {"mirror to qcow2", JOB_MIRROR, JOB_FULL, "qcow2", NULL, "target", "target", NULL},
    {"backup to raw", JOB_BACKUP, JOB_FULL, "raw", BITMAP, "target", "top", NULL},
    {"backup to qcow2", JOB_BACKUP, JOB_FULL, "qcow2", BITMAP, "target", "top", NULL},
    {"incremental backup", JOB_BACKUP, JOB_DIRTY, "raw", BITMAP, "target", "top", NULL},
    {"commit", JOB_COMMIT, JOB_FULL, NULL, NULL, "base", "base", NULL},
    {"stream", JOB_STREAM, JOB_FULL, NULL, NULL, "top", "top", NULL},
};

// ---- A disk of two images: `base` holds all, `top` some, one of them far behind.
static void init(void)
{
    int fd = make_image("base", "raw", NULL);
    os_file_close(&fd);
    t.disk = open_chain("base", false);
    for (unsigned block = 0; block < BLOCKS; block++)
        write_block(t.disk, block, (uint8_t)(1 + block));
    block_disk_close(t.disk);
    fd = make_image("top", "qcow2", "base");
    os_file_close(&fd);
    t.disk = open_chain("top", false);
    for (unsigned block = 0; block < 8; block++)
        write_block(t.disk, block * 15, (uint8_t)(200 + block));
    struct block_bitmap *bitmap = block_bitmap_create(BITMAP, DISK_BYTES, 16);
    block_bitmap_add(&(*block_stack_active(t.disk))->bitmaps, bitmap);
    write_block(t.disk, 15, 99);
    write_block(t.disk, 105, 98);
}

static const char *const names[] = {"base", "top", "target"};

static void compare_image(const char *name)
{
    struct block_disk *disk = open_chain(name, true);
    compare(disk);
    block_disk_close(disk);
}

static void fini(const struct what *what)
{
    CHECK(!block_disk_close(t.disk), "the disk cannot be closed");
    compare_image(what->after);
    if (what->target && what->scope == JOB_FULL && !what->file) // nothing was written since
        compare_image("target");
    if (what->target && !what->file)
        check_image("target");
    check_image("top");
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
        (void)unlink(path_of(names[i]));
}

// ---- The jobs at work

static struct job *start(const struct what *what, uint64_t room)
{
    struct err err = {0};
    struct job_options options = {.kind = what->kind,
                                  .id = "job",
                                  .disk = t.disk,
                                  .target = {.fd = -1},
                                  .target_is_new = true,
                                  .scope = what->scope,
                                  .bitmap = what->bitmap,
                                  .base_fd = -1,
                                  .above_fd = -1};
    const char *file = what->file ? what->file : "target";
    if (what->target)
        options.target =
            (struct block_image){make_image(file, what->target, NULL), what->target, path_of(file)};
    if (what->kind == JOB_COMMIT)
        options.base_fd = os_file_open(path_of("base"), OS_FILE_WRITE, &err);
    limit_files(room); // the target has its size already, and is sparse
    struct job *job = job_start(&options, &err);
    CHECK(job, "%s", err.text);
    return job;
}

static void fails(const struct what *what, const char *file, uint64_t room)
{
    struct block_bitmap *bitmap = block_bitmap_find((*block_stack_active(t.disk))->bitmaps, BITMAP);
    uint64_t dirty = block_bitmap_dirty_bytes(bitmap);
    struct job *job = start(what, room);
    struct job_status status;
    enum job_state state = job_wait(job);
    job_status(job, &status);
    CHECK(state == JOB_FAILED, "it is %s", job_state_name(state));
    CHECK(strstr(status.err.text, path_of(file)), "'%s' does not name %s", status.err.text, file);
    job_destroy(job);
    CHECK(block_bitmap_dirty_bytes(bitmap) == dirty, "the bitmap was %llu, is %llu",
          (unsigned long long)dirty, (unsigned long long)block_bitmap_dirty_bytes(bitmap));
    write_block(t.disk, 15, (uint8_t)(t.value[15] + 1)); // the guest goes on, where it has room
    CHECK(!block_flush(t.disk), "flush");
    compare(t.disk);
    limit_files(RLIM_INFINITY);
}

static void succeeds(const struct what *what)
{
    struct err err = {0};
    struct job *job = start(what, RLIM_INFINITY);
    enum job_state state = job_wait(job);
    if (state == JOB_READY && !job_complete(job, true, &err))
        state = job_wait(job);
    struct job_status status;
    job_status(job, &status);
    CHECK(state == JOB_DONE, "it is %s: %s", job_state_name(state), status.err.text);
    job_destroy(job);
    compare(t.disk);
}

static void without_room(const struct what *what, uint64_t room)
{
    init();
    fails(what, what->written, room);
    fails(what, what->written, room);
    succeeds(what);
    fini(what);
}

// What lies below the active image cannot be read.
static void without_reading(const struct what *what, uint64_t after)
{
    init();
    struct block_node *active = *block_stack_active(t.disk), *below = active->backing;
    struct block_fault fault = {.error = EIO, .ops = 1u << BLOCK_READ, .after = after, .count = 1};
    active->backing = block_filter_fault(below, &fault);
    fails(what, "top", RLIM_INFINITY);
    succeeds(what);
    fini(what);
}

// A backup that has no room does not disturb the mirror beside it, and its bitmap goes where the mirror goes.
static void beside_a_mirror(const struct what *backup, uint64_t room)
{
    const struct what mirror = {
        .kind = JOB_MIRROR, .scope = JOB_FULL, .target = "raw", .after = "more", .file = "more"};
    struct err err = {0};
    init();
    struct job *job = start(&mirror, RLIM_INFINITY);
    CHECK(job_wait(job) == JOB_READY, "the mirror is not ready");
    fails(backup, "target", room);
    succeeds(backup);
    write_block(t.disk, 30, 77);
    CHECK(!job_complete(job, true, &err) && job_wait(job) == JOB_DONE, "the mirror failed");
    job_destroy(job);
    struct block_bitmap *bitmap = block_bitmap_find((*block_stack_active(t.disk))->bitmaps, BITMAP);
    CHECK(bitmap && block_bitmap_any(bitmap, 30 * BLOCK_BYTES, 1), "the bitmap did not move along");
    compare(t.disk);
    check_image("target");
    fini(&mirror);
    (void)unlink(path_of("more"));
}

int main(void)
{
    static const uint64_t rooms[] = {DISK_BYTES / 4, DISK_BYTES / 2, 100 * BLOCK_BYTES};
    signal(SIGXFSZ, SIG_IGN);
    snprintf(t.folder, sizeof(t.folder), "%s/job_faults_test.XXXXXX",
             access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    CHECK(mkdtemp(t.folder), "mkdtemp");
    for (size_t i = 0; i < ARRAY_LENGTH(whats); i++) {
        now = whats[i].name;
        for (size_t room = 0; room < ARRAY_LENGTH(rooms); room++)
            without_room(&whats[i], rooms[room]);
        for (uint64_t after = 0;
             after < 4 && whats[i].kind != JOB_COMMIT && whats[i].scope == JOB_FULL; after++)
            without_reading(&whats[i], after);
    }
    now = "backup beside a mirror";
    for (size_t room = 0; room < ARRAY_LENGTH(rooms); room++)
        beside_a_mirror(&whats[3], rooms[room]);
    CHECK(!rmdir(t.folder), "rmdir: %s", strerror(errno));
    return 0;
}
