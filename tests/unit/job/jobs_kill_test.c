// SPDX-License-Identifier: Apache-2.0
//
// A process with a live job is killed at a random instant while it writes to the disk: afterwards the disk, opened by the name that a careful
// owner has recorded, holds everything that was flushed, and no image is corrupt.
//
//     jobs_kill_test KILLS [SEED]
//
// Which name: a snapshot's new image (it stands on the old one before the job begins), for all others the one that was active at the
// beginning: also after a commit whose base has taken its place.
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/err.h"
#include "chain_disk.h"
#include "machine/block/block_driver.h"
#include "machine/block/block_image.h"
#include "machine/block/stack.h"
#include "machine/job/job.h"
#include "os/clock.h"
#include "os/file.h"

#define PIECE_BYTES 3072
#define PIECES      900
#define DISK_BYTES  ((uint64_t)PIECE_BYTES * PIECES)
#define BATCH       12 // writes between flushes
#define LAYERS      4

static uint64_t seed;
static uint32_t random_state;

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s; ", __FILE__, __LINE__, #condition);                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\nrepeat with: jobs_kill_test 1 %" PRIu64 "\n", seed);                \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static uint32_t below(uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

// Shared with the process that is killed.
struct model {
    uint8_t flushed[PIECES]; // the disk holds this
    uint8_t written[PIECES]; // or this, if it got so far
    uint64_t flushes;
};

static char folder[64];

static const char *path_of(const char *name)
{
    static char paths[8][96];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static int make_image(const char *name, const char *format, const char *backing,
                      const char *backing_format)
{
    struct err err = {0};
    const char *path = path_of(name);
    int fd = os_file_open(path, OS_FILE_WRITE | OS_FILE_CREATE | OS_FILE_EXCLUSIVE, &err);
    CHECK(fd >= 0 && !block_lock_take(fd, true, path, &err), "%s", err.text);
    struct block_create create = {.format = format,
                                  .size = DISK_BYTES,
                                  .backing = backing,
                                  .backing_format = backing_format,
                                  .lazy_refcounts = !strcmp(format, "qcow2") && below(3) == 0,
                                  .cluster_size = strcmp(format, "qcow2") ? 0 : 512u << below(8)};
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

// ---- In the process that is killed

static void write_batch(struct block_disk *disk, struct model *m)
{
    uint8_t bytes[PIECE_BYTES];
    uint32_t pieces[BATCH];
    for (int i = 0; i < BATCH; i++) {
        uint32_t piece = pieces[i] = below(PIECES);
        if (m->written[piece] != m->flushed[piece])
            continue; // once between two flushes
        m->written[piece] = (uint8_t)(1 + below(255));
        memset(bytes, m->written[piece], sizeof(bytes));
        if (block_write(disk, (uint64_t)piece * PIECE_BYTES, bytes, sizeof(bytes)))
            _exit(1);
    }
    if (block_flush(disk))
        _exit(1);
    memcpy(m->flushed, m->written, sizeof(m->flushed));
    m->flushes++;
}

// The chain l3 on l2 on l1 on l0, each with something of its own.
static void make_chain(struct model *m)
{
    char name[4], below_it[4];
    os_file_close(&(int){make_image("l0", below(2) ? "raw" : "qcow2", NULL, NULL)});
    struct block_disk *disk = open_chain("l0", false);
    const char *format = block_layer_format(block_disk_node(disk));
    for (int layer = 0; layer < LAYERS; layer++) {
        if (layer) {
            snprintf(name, sizeof(name), "l%d", layer);
            snprintf(below_it, sizeof(below_it), "l%d", layer - 1);
            os_file_close(
                &(int){make_image(name, "qcow2", below_it, layer == 1 ? format : "qcow2")});
            disk = open_chain(name, false);
        }
        for (int i = 0; i < 10; i++)
            write_batch(disk, m);
        CHECK(!block_disk_close(disk), "close");
    }
}

static struct job_options choose_job(struct block_disk *disk, const char **name)
{
    struct job_options o = {.id = "job",
                            .disk = disk,
                            .kind = below(JOB_KIND_COUNT),
                            .target = {.fd = -1, .format = "qcow2"},
                            .target_is_new = true,
                            .base_fd = -1,
                            .above_fd = -1,
                            .bytes_per_s = below(2) ? 0 : 16 * MIB};
    struct err err = {0};
    *name = "l3";
    if (o.kind == JOB_SNAPSHOT || o.kind == JOB_MIRROR || o.kind == JOB_BACKUP) {
        bool snapshot = o.kind == JOB_SNAPSHOT;
        o.target.name = path_of("new");
        o.target.fd = make_image("new", "qcow2", snapshot ? "l3" : NULL, snapshot ? "qcow2" : NULL);
        *name = snapshot ? "new" : "l3";
    } else if (o.kind == JOB_COMMIT) {
        bool inner = below(2);
        o.top = inner ? "l2" : NULL;
        o.base = below(2) ? "l0" : "l1";
        o.base_fd = os_file_open(path_of(o.base), OS_FILE_WRITE, &err);
    } else if (below(2)) {
        o.base = "l0";
    }
    return o;
}

// A backup beside a mirror or another backup.
static void start_beside(const struct job_options *beside)
{
    struct err err = {0};
    if ((beside->kind != JOB_MIRROR && beside->kind != JOB_BACKUP) || below(2))
        return;
    struct job_options options = *beside;
    options.id = "beside";
    options.kind = JOB_BACKUP;
    options.target.name = path_of("more");
    options.target.fd = make_image("more", "qcow2", NULL, NULL);
    CHECK(job_start(&options, &err), "%s", err.text);
}

static _Noreturn void work(struct model *m, int told)
{
    struct err err = {0};
    const char *name;
    char word[4];
    make_chain(m);
    struct block_disk *disk = open_chain("l3", false);
    struct job_options options = choose_job(disk, &name);
    snprintf(word, sizeof(word), "%s", name);
    if (write(told, word, sizeof(word)) != sizeof(word)) // from here on the kill may come
        _exit(1);
    struct job *job = job_start(&options, &err);
    CHECK(job, "%s", err.text);
    start_beside(&options);
    bool mirror = options.kind == JOB_MIRROR;
    for (;;) {
        write_batch(disk, m);
        struct job_status status;
        job_status(job, &status);
        CHECK(status.state != JOB_FAILED, "%s", status.err.text);
        // A mirror's copy would be the disk after this, under another name.
        if (status.state == JOB_READY && !mirror)
            (void)job_complete(job, true, &err);
    }
}

// ---- The one who kills

static void print_finding(void *user, const char *text)
{
    if (strncmp(text, "leak", 4) != 0)
        fprintf(stderr, "  %s\n", text);
}

static void check_image(const char *name)
{
    struct err err = {0};
    if (access(path_of(name), F_OK))
        return;
    // For writing: lazy refcounts are made anew by whoever does.
    struct block_disk *disk = open_chain(name, false);
    struct block_node *node = block_disk_node(disk);
    const struct block_format *format = block_format_find(block_layer_format(node));
    struct block_check result = {.report = print_finding};
    if (format->image) {
        CHECK(!format->image->check(node, false, &result, &err), "%s", err.text);
        CHECK(!result.corruptions, "%s: %" PRIu64 " errors", name, result.corruptions);
    }
    CHECK(!block_disk_close(disk), "close");
}

static void check_content(const char *name, const struct model *m)
{
    struct block_disk *disk = open_chain(name, true);
    uint8_t bytes[PIECE_BYTES];
    for (uint32_t piece = 0; piece < PIECES; piece++) {
        int rc = block_read(disk, (uint64_t)piece * PIECE_BYTES, bytes, sizeof(bytes));
        CHECK(!rc, "read: %s", strerror(-rc));
        for (int i = 0; i < PIECE_BYTES; i++)
            CHECK(bytes[i] == m->flushed[piece] || bytes[i] == m->written[piece],
                  "%s: byte %d of piece %u is %u, not %u or %u, after %" PRIu64 " flushes", name, i,
                  piece, bytes[i], m->flushed[piece], m->written[piece], m->flushes);
    }
    block_disk_close(disk);
}

static void kill_once(struct model *m)
{
    char name[5] = "";
    int told[2], status;
    memset(m, 0, sizeof(*m));
    random_state = (uint32_t)seed * 2654435761u + 1;
    snprintf(folder, sizeof(folder), "/tmp/jobs_kill_test.XXXXXX");
    CHECK(mkdtemp(folder) && !pipe(told), "cannot begin");
    pid_t pid = fork();
    if (pid == 0)
        work(m, told[1]);
    close(told[1]);
    CHECK(read(told[0], name, 4) == 4, "the process did not begin");
    random_state = (uint32_t)seed * 40503u + 7;
    os_clock_sleep_until_ns(os_clock_monotonic_ns() + 1000000ull * below(below(2) ? 20 : 250));
    kill(pid, SIGKILL);
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status), "it ended by itself");
    close(told[0]);
    static const char *const names[] = {"l0", "l1", "l2", "l3", "more", "new"};
    check_content(name, m);
    for (size_t i = ARRAY_LENGTH(names); i--;) {
        check_image(names[i]);
        if (i + 1 == ARRAY_LENGTH(names))
            check_content(name, m);
    }
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
        unlink(path_of(names[i]));
    rmdir(folder);
}

int main(int argc, char **argv)
{
    uint64_t kills = argc > 1 ? strtoull(argv[1], NULL, 10) : 20;
    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    struct model *m =
        mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(m != MAP_FAILED, "mmap");
    for (uint64_t i = 0; i < kills; i++, seed++)
        kill_once(m);
    printf("%" PRIu64 " kills, the last with seed %" PRIu64 "\n", kills, seed - 1);
    return 0;
}
