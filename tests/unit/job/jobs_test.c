// SPDX-License-Identifier: Apache-2.0
//
// Live jobs beneath a writer, as random sequences: a disk on a chain of one to four images is written, zeroed, discarded and flushed all the
// time, many requests at once, while jobs run on it one after another or beside each other, slowed, paused, cancelled and completed. What the disk must
// hold is known at every moment. After each job the disk is read whole; a backup or a mirror is compared with what the disk held at its instant;
// at the end the chain is opened again by what its files say, and every image is checked.
//
//     jobs_test SEQUENCES [SEED]       each sequence prints nothing; a failure prints its seed
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/err.h"
#include "chain_disk.h"
#include "machine/block/bitmap.h"
#include "machine/block/block_driver.h"
#include "machine/block/block_image.h"
#include "machine/block/stack.h"
#include "machine/job/job.h"
#include "os/clock.h"
#include "os/file.h"

#define PIECE_BYTES 3072
#define PIECES      700
#define DISK_BYTES  ((uint64_t)PIECE_BYTES * PIECES)
#define DEPTH       8
#define IMAGES_MAX  40

static uint64_t seed;
static const char *step = "";

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s; ", __FILE__, __LINE__, #condition);                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\nrepeat with: jobs_test 1 %" PRIu64 " (during %s)\n", seed, step);   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

struct test;

struct slot {
    struct test *test;
    struct block_request request;
    struct iovec iov;
    uint8_t bytes[PIECE_BYTES];
    uint32_t piece;
    bool in_use;
};

struct test {
    char folder[64];
    unsigned images; // how many were made: their names are numbers
    struct block_disk *disk;
    struct block_queue *queue;
    uint32_t random, writer_random;

    // The writer's, and the main thread's while it stands still.
    uint8_t value[PIECES];
    bool busy[PIECES];
    unsigned in_flight;
    struct slot slots[DEPTH];

    pthread_t writer;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stop, end, stopped; // under lock
};

static uint32_t next(uint32_t *random, uint32_t n)
{
    *random = *random * 1664525u + 1013904223u;
    return (*random >> 8) % n;
}

static uint32_t below(struct test *t, uint32_t n)
{
    return next(&t->random, n);
}

// ---- The writer

static void on_done(struct block_request *request, int result)
{
    struct slot *s = request->user;
    CHECK(result == 0, "%s: %s", block_op_name(request->op), strerror(-result));
    if (request->op == BLOCK_READ) {
        for (int i = 0; i < PIECE_BYTES; i++)
            CHECK(s->bytes[i] == s->test->value[s->piece], "byte %d of piece %u is %u, not %u", i,
                  s->piece, s->bytes[i], s->test->value[s->piece]);
    }
    s->test->busy[s->piece] = false;
    s->test->in_flight--;
    s->in_use = false;
}

static void submit(struct test *t, struct slot *s)
{
    uint32_t kind = next(&t->writer_random, 100);
    do {
        s->piece = next(&t->writer_random, PIECES);
    } while (t->busy[s->piece]);
    t->busy[s->piece] = s->in_use = true;
    s->test = t;
    s->iov = (struct iovec){s->bytes, PIECE_BYTES};
    s->request = (struct block_request){.op = BLOCK_READ,
                                        .offset = (uint64_t)s->piece * PIECE_BYTES,
                                        .length = PIECE_BYTES,
                                        .iov = &s->iov,
                                        .iov_count = 1,
                                        .queue = t->queue,
                                        .done = on_done,
                                        .user = s};
    if (kind < 60) {
        t->value[s->piece] = (uint8_t)(1 + next(&t->writer_random, 255));
        memset(s->bytes, t->value[s->piece], PIECE_BYTES);
        s->request.op = BLOCK_WRITE;
    } else if (kind < 75) {
        t->value[s->piece] = 0;
        s->request.op = BLOCK_WRITE_ZEROES;
        s->request.flags = next(&t->writer_random, 2) ? BLOCK_UNMAP : 0;
    } else if (kind < 78) {
        s->request.op = BLOCK_FLUSH;
    }
    t->in_flight++;
    block_submit(t->disk, &s->request);
}

static void *write_all_the_time(void *argument)
{
    struct test *t = argument;
    for (;;) {
        pthread_mutex_lock(&t->lock);
        while (t->stop && !t->end) {
            pthread_mutex_unlock(&t->lock);
            while (t->in_flight)
                block_queue_wait(t->queue);
            pthread_mutex_lock(&t->lock);
            t->stopped = true;
            pthread_cond_broadcast(&t->changed);
            if (t->stop && !t->end)
                pthread_cond_wait(&t->changed, &t->lock);
        }
        t->stopped = false;
        bool end = t->end;
        pthread_mutex_unlock(&t->lock);
        if (end)
            break;
        for (int i = 0; i < DEPTH; i++) {
            if (!t->slots[i].in_use)
                submit(t, &t->slots[i]);
        }
        block_queue_wait(t->queue);
    }
    while (t->in_flight)
        block_queue_wait(t->queue);
    return NULL;
}

static void stop_writer(struct test *t)
{
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->changed);
    while (!t->stopped)
        pthread_cond_wait(&t->changed, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

static void let_writer_go(struct test *t)
{
    pthread_mutex_lock(&t->lock);
    t->stop = false;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

// ---- Images

static void image_path(const struct test *t, unsigned number, char path[128])
{
    snprintf(path, 128, "%s/%u", t->folder, number);
}

// A new image of the disk's size; its descriptor, locked.
static int make_image(struct test *t, const char *format, const char *backing,
                      const char *backing_format, char path[128])
{
    struct err err = {0};
    image_path(t, t->images++, path);
    CHECK(t->images < IMAGES_MAX, "too many images");
    int fd = os_file_open(path, OS_FILE_WRITE | OS_FILE_CREATE | OS_FILE_EXCLUSIVE, &err);
    CHECK(fd >= 0 && !block_lock_take(fd, true, path, &err), "%s", err.text);
    struct block_create create = {.format = format,
                                  .size = DISK_BYTES,
                                  .backing = backing,
                                  .backing_format = backing_format,
                                  .cluster_size =
                                      strcmp(format, "qcow2") ? 0 : 512u << below(t, 9)};
    CHECK(!block_image_create(fd, path, &create, &err), "%s", err.text);
    return fd;
}

static struct block_disk *open_chain(const struct test *t, const char *path, bool read_only)
{
    struct err err = {0};
    struct block_disk *disk = open_chain_disk(path, read_only, false, &err);
    CHECK(disk, "%s", err.text);
    return disk;
}

static void compare(const struct test *t, struct block_disk *disk, const uint8_t *value)
{
    uint8_t bytes[PIECE_BYTES];
    for (uint32_t piece = 0; piece < PIECES; piece++) {
        int rc = block_read(disk, (uint64_t)piece * PIECE_BYTES, bytes, PIECE_BYTES);
        CHECK(!rc, "read: %s", strerror(-rc));
        for (int i = 0; i < PIECE_BYTES; i++)
            CHECK(bytes[i] == value[piece], "byte %d of piece %u is %u, not %u", i, piece, bytes[i],
                  value[piece]);
    }
}

static void compare_file(const struct test *t, const char *path, const uint8_t *value)
{
    struct block_disk *disk = open_chain(t, path, true);
    compare(t, disk, value);
    block_disk_close(disk);
}

static void report(void *user, const char *finding)
{
    fprintf(stderr, "%s: %s\n", (const char *)user, finding);
}

static void check_image(const struct test *t, const char *path)
{
    struct err err = {0};
    struct block_disk *disk = open_chain(t, path, true);
    struct block_node *node = block_disk_node(disk);
    const struct block_format *format = block_format_find(block_layer_format(node));
    struct block_check result = {.report = report, .user = (void *)(uintptr_t)path};
    if (format->image) {
        CHECK(!format->image->check(node, false, &result, &err), "%s", err.text);
        CHECK(!result.corruptions && !result.leaks, "%s: %" PRIu64 " errors, %" PRIu64 " leaks",
              path, result.corruptions, result.leaks);
    }
    block_disk_close(disk);
}

// ---- Jobs

static struct job *start(struct test *t, struct job_options options)
{
    struct err err = {0};
    options.id = "job";
    options.disk = t->disk;
    if (options.kind != JOB_COMMIT)
        options.base_fd = options.above_fd = -1;
    struct job *job = job_start(&options, &err);
    CHECK(job, "%s", err.text);
    return job;
}

static unsigned layers(struct test *t)
{
    unsigned n = 0;
    while (block_stack_layer(t->disk, n))
        n++;
    return n;
}

// Slow, fast, paused, resumed: whatever it is told, it goes on.
static void disturb(struct test *t, struct job *job)
{
    struct err err;
    for (uint32_t n = below(t, 4); n; n--) {
        os_clock_sleep_until_ns(os_clock_monotonic_ns() + 1000000ull * below(t, 5));
        (void)job_set_rate(job, below(t, 2) ? 0 : 4 * MIB + below(t, 64) * MIB, &err);
        if (below(t, 2))
            (void)job_pause(job, &err);
        os_clock_sleep_until_ns(os_clock_monotonic_ns() + 1000000ull * below(t, 3));
        (void)job_resume(job, &err);
    }
    (void)job_set_rate(job, 0, &err);
}

// True when it was let end, false when it was cancelled.
static bool end_job(struct test *t, struct job *job, bool pivot)
{
    struct err err = {0};
    disturb(t, job);
    if (below(t, 5) == 0) {
        (void)job_cancel(job, &err);
        bool done = job_wait(job) == JOB_DONE;
        job_destroy(job);
        return done;
    }
    enum job_state state = job_wait(job);
    if (state == JOB_READY) {
        CHECK(!job_complete(job, pivot, &err), "%s", err.text);
        state = job_wait(job);
    }
    struct job_status status;
    job_status(job, &status);
    CHECK(state == JOB_DONE, "the job is %s: %s", job_state_name(state), status.err.text);
    job_destroy(job);
    return true;
}

static const char *active_name(struct test *t)
{
    return (*block_stack_active(t->disk))->name;
}

static void do_snapshot(struct test *t)
{
    char path[128], backing[128];
    struct block_backing name;
    snprintf(backing, sizeof(backing), "%s/x", t->folder);
    block_layer_name_for(*block_stack_active(t->disk), backing, &name);
    int fd = make_image(t, "qcow2", name.name, name.format, path);
    struct job_options options = {.kind = JOB_SNAPSHOT,
                                  .target = {.fd = fd, .format = "qcow2", .name = path}};
    struct job *job = start(t, options);
    CHECK(job_wait(job) == JOB_DONE, "the snapshot failed");
    job_destroy(job);
    CHECK(!strcmp(active_name(t), path), "the new image is not the active one");
}

static int open_again(struct test *t, unsigned depth)
{
    struct err err = {0};
    int fd = os_file_open((*block_stack_layer(t->disk, depth))->name, OS_FILE_WRITE, &err);
    CHECK(fd >= 0, "%s", err.text);
    return fd;
}

static void do_commit(struct test *t)
{
    unsigned n = layers(t);
    if (n < 2)
        return;
    unsigned top = below(t, n - 1), base = top + 1 + below(t, n - top - 1);
    char old_active[128];
    snprintf(old_active, sizeof(old_active), "%s", active_name(t));
    struct job_options options = {.kind = JOB_COMMIT,
                                  .target = {.fd = -1},
                                  .top = (*block_stack_layer(t->disk, top))->name,
                                  .base = (*block_stack_layer(t->disk, base))->name,
                                  .base_fd = open_again(t, base),
                                  .above_fd = top > 1 ? open_again(t, top - 1) : -1};
    struct job *job = start(t, options);
    bool done = end_job(t, job, true);
    CHECK(!done || layers(t) == n - (base - top), "%u layers of %u are left", layers(t), n);
    if (done && top == 0) { // the old name goes on reading what the disk holds
        stop_writer(t);
        CHECK(!block_flush(t->disk), "flush");
        struct err err = {0};
        struct block_disk *disk = open_chain_disk(old_active, true, true, &err);
        CHECK(disk, "%s", err.text);
        compare(t, disk, t->value);
        block_disk_close(disk);
        let_writer_go(t);
    }
}

static void do_stream(struct test *t)
{
    unsigned n = layers(t);
    if (n < 2)
        return;
    unsigned base = below(t, 2) ? 0 : 1 + below(t, n - 1);
    struct job_options options = {.kind = JOB_STREAM,
                                  .target = {.fd = -1},
                                  .base = base ? (*block_stack_layer(t->disk, base))->name : NULL};
    struct job *job = start(t, options);
    bool done = end_job(t, job, true);
    unsigned left = base ? n - base + 1 : 1;
    CHECK(!done || layers(t) == left, "%u layers are left, not %u", layers(t), left);
}

static void do_mirror(struct test *t)
{
    char path[128];
    bool top = layers(t) > 1 && below(t, 2), raw = !top && below(t, 2);
    struct block_backing name = {.name = ""};
    if (top)
        block_layer_name_for(*block_stack_layer(t->disk, 1), active_name(t), &name);
    int fd = make_image(t, raw ? "raw" : "qcow2", top ? name.name : NULL, top ? name.format : NULL,
                        path);
    struct job_options options = {
        .kind = JOB_MIRROR,
        .target = {.fd = fd, .format = raw ? "raw" : "qcow2", .name = path},
        .target_is_new = below(t, 2),
        .scope = top ? JOB_TOP : JOB_FULL};
    struct job *job = start(t, options);
    bool pivot = below(t, 2);
    if (!pivot) { // let go while nothing is written: the copy is what the disk holds
        struct err err;
        disturb(t, job);
        CHECK(job_wait(job) == JOB_READY, "the mirror did not become ready");
        stop_writer(t);
        CHECK(!job_complete(job, false, &err), "%s", err.text);
        CHECK(job_wait(job) == JOB_DONE, "the mirror did not end");
        job_destroy(job);
        if (!top)
            compare_file(t, path, t->value);
        let_writer_go(t);
        return;
    }
    bool done = end_job(t, job, true);
    CHECK(!done || !strcmp(active_name(t), path), "the copy is not the active image");
}

static void wait_for_instant(struct job *job)
{
    struct job_status status;
    do {
        os_clock_sleep_until_ns(os_clock_monotonic_ns() + 100000);
        job_status(job, &status);
    } while (!status.holds && !job_ended(job));
}

// A full backup, and incremental ones upon it by a bitmap.
static void do_backup(struct test *t)
{
    static const char *const name = "since";
    struct block_bitmap *bitmap = block_bitmap_create(name, DISK_BYTES, 9 + below(t, 10));
    char path[128], above[128] = "";
    uint8_t then[PIECES];
    block_disk_pause(t->disk);
    block_bitmap_add(&(*block_stack_active(t->disk))->bitmaps, bitmap);
    block_disk_resume(t->disk);
    for (uint32_t n = 1 + below(t, 3); n; n--) {
        bool full = !above[0];
        int fd = make_image(t, "qcow2", full ? NULL : strrchr(above, '/') + 1,
                            full ? NULL : "qcow2", path);
        stop_writer(t);
        struct job_options options = {.kind = JOB_BACKUP,
                                      .target = {.fd = fd, .format = "qcow2", .name = path},
                                      .target_is_new = full,
                                      .scope = full ? JOB_FULL : JOB_DIRTY,
                                      .bitmap = name,
                                      .bytes_per_s = 16 * MIB};
        struct job *job = start(t, options);
        wait_for_instant(job);
        memcpy(then, t->value, sizeof(then));
        let_writer_go(t);
        if (end_job(t, job, false)) {
            compare_file(t, path, then);
            snprintf(above, sizeof(above), "%s", path);
        }
    }
    // It may have moved from layer to layer? No: backups leave the stack alone.
    block_disk_pause(t->disk);
    block_bitmap_remove(&(*block_stack_active(t->disk))->bitmaps, bitmap);
    block_disk_resume(t->disk);
    block_bitmap_destroy(bitmap);
}

// What cannot run beside a mirror or a backup is refused.
static void check_refused(struct test *t, struct job_options options)
{
    struct err err = {0};
    options.id = "refused";
    options.disk = t->disk;
    options.target.fd = options.base_fd = options.above_fd = -1;
    CHECK(!job_start(&options, &err) && err.code == ERR_BUSY, "%s was not refused",
          job_kind_name(options.kind));
}

// All of the disk, which is more than a chunk, so slowly that others come and go meanwhile. The writer stands still: it would make the backup copy.
static struct job *start_beside(struct test *t, const char *bitmap, char path[128],
                                uint8_t then[PIECES])
{
    int fd = make_image(t, "qcow2", NULL, NULL, path);
    struct job *job =
        start(t, (struct job_options){.kind = JOB_BACKUP,
                                      .target = {.fd = fd, .format = "qcow2", .name = path},
                                      .bitmap = bitmap,
                                      .bytes_per_s = 64 * KIB});
    wait_for_instant(job);
    memcpy(then, t->value, PIECES);
    return job;
}

// A backup that wants a bitmap which another one works with fails, and takes nothing from it.
static void check_bitmap_taken(struct test *t, const char *bitmap)
{
    char path[128];
    struct job_status status;
    int fd = make_image(t, "qcow2", NULL, NULL, path);
    struct job *job =
        start(t, (struct job_options){.kind = JOB_BACKUP,
                                      .target = {.fd = fd, .format = "qcow2", .name = path},
                                      .target_is_new = true,
                                      .bitmap = bitmap});
    CHECK(job_wait(job) == JOB_FAILED, "two backups have one bitmap");
    job_status(job, &status);
    CHECK(status.err.code == ERR_BUSY, "%s", status.err.text);
    job_destroy(job);
}

// Two backups beside a mirror, which takes the disk's place in their midst.
static void do_beside(struct test *t)
{
    static const char *const name = "beside";
    char mirrored[128], path[2][128];
    uint8_t then[2][PIECES];
    struct err err = {0};
    struct block_bitmap *bitmap = block_bitmap_create(name, DISK_BYTES, 16);
    block_disk_pause(t->disk);
    block_bitmap_add(&(*block_stack_active(t->disk))->bitmaps, bitmap);
    block_disk_resume(t->disk);
    int fd = make_image(t, "qcow2", NULL, NULL, mirrored);
    struct job *mirror =
        start(t, (struct job_options){.kind = JOB_MIRROR,
                                      .target = {.fd = fd, .format = "qcow2", .name = mirrored},
                                      .target_is_new = true});
    stop_writer(t);
    struct job *first = start_beside(t, name, path[0], then[0]);
    check_bitmap_taken(t, name);
    for (enum job_kind kind = JOB_SNAPSHOT; kind < JOB_BACKUP; kind++)
        check_refused(t, (struct job_options){.kind = kind});
    CHECK(!block_disk_claim(t->disk), "the disk can be claimed");
    let_writer_go(t);
    stop_writer(t);
    struct job *second = start_beside(t, NULL, path[1], then[1]);
    let_writer_go(t);
    if (below(t, 2)) {
        if (!end_job(t, second, false))
            path[1][0] = 0;
        second = NULL;
    }
    CHECK(job_wait(mirror) == JOB_READY && !job_complete(mirror, true, &err), "the mirror");
    CHECK(job_wait(mirror) == JOB_DONE, "the mirror did not end");
    job_destroy(mirror);
    CHECK(!strcmp(active_name(t), mirrored), "the copy is not the active image");
    if (end_job(t, first, false))
        compare_file(t, path[0], then[0]);
    if (second ? end_job(t, second, false) : path[1][0] != 0)
        compare_file(t, path[1], then[1]);
    block_disk_pause(t->disk);
    struct block_node *active = *block_stack_active(t->disk);
    bitmap = block_bitmap_find(active->bitmaps, name);
    CHECK(bitmap && !bitmap->taken, "the bitmap has not moved along");
    block_bitmap_remove(&active->bitmaps, bitmap);
    block_disk_resume(t->disk);
    block_bitmap_destroy(bitmap);
}

static const struct {
    const char *name;
    void (*run)(struct test *t);
} kinds[] = {{"snapshot", do_snapshot}, {"commit", do_commit},
             {"stream", do_stream},     {"mirror", do_mirror},
             {"backup", do_backup},     {"backups beside a mirror", do_beside}};

static void remove_all(struct test *t)
{
    char path[128];
    for (unsigned i = 0; i < t->images; i++) {
        image_path(t, i, path);
        unlink(path);
    }
    rmdir(t->folder);
}

static void run_sequence(void)
{
    struct test *t = calloc(1, sizeof(*t));
    struct err err = {0};
    char path[128];
    t->random = (uint32_t)seed * 2654435761u + 1;
    t->writer_random = t->random ^ 0x5bd1e995;
    snprintf(t->folder, sizeof(t->folder), "/tmp/jobs_test.XXXXXX");
    CHECK(mkdtemp(t->folder), "mkdtemp");
    int fd = make_image(t, below(t, 2) ? "raw" : "qcow2", NULL, NULL, path);
    os_file_close(&fd);
    t->disk = open_chain(t, path, false);
    t->queue = block_queue_create(&err);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
    pthread_create(&t->writer, NULL, write_all_the_time, t);
    for (uint32_t n = 2 + below(t, 8); n; n--) {
        uint32_t kind = layers(t) < 2 ? 0 : below(t, ARRAY_LENGTH(kinds));
        step = kinds[kind].name;
        kinds[kind].run(t);
        stop_writer(t);
        compare(t, t->disk, t->value);
        let_writer_go(t);
    }
    step = "the end";
    pthread_mutex_lock(&t->lock);
    t->end = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->writer, NULL);
    snprintf(path, sizeof(path), "%s", active_name(t));
    CHECK(!block_disk_close(t->disk), "close");
    compare_file(t, path, t->value);
    for (unsigned i = 0; i < t->images; i++) {
        image_path(t, i, path);
        check_image(t, path);
    }
    block_queue_destroy(t->queue);
    remove_all(t);
    free(t);
}

int main(int argc, char **argv)
{
    unsigned sequences = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 10;
    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    for (unsigned i = 0; i < sequences; i++, seed++)
        run_sequence();
    printf("%u sequences, the last with seed %" PRIu64 "\n", sequences, seed - 1);
    return 0;
}
