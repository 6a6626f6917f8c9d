// SPDX-License-Identifier: Apache-2.0
//
// Random operations on qcow2 images of random shape, replayed on plain memory. After each sequence
// the contents must be equal, and qemu-img (where it is installed) must find the image clean and of
// the same content.
//
//     WIRT=PROGRAM qcow2_model_test [SEQUENCES [SEED]]        PROGRAM commits and rebases
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/block_driver.h"
#include "machine/block/block_image.h"
#include "os/file.h"
#include "sequence.h"

#define DISK_MAX   (6 * MIB)
#define OPERATIONS 120

static char directory[] = "/dev/shm/wirt-qcow2-model-XXXXXX";
static bool have_qemu;
static const char *wirt; // the program, or NULL

struct model {
    char path[128], base[128];
    struct block_disk *disk;
    uint8_t *bytes; // what the disk must hold
    uint64_t size;
    uint8_t *scratch;
    bool on_base;     // it has a backing file, `base`
    unsigned rebases; // backing files have numbers
    struct {
        uint8_t *bytes; // NULL: no such snapshot
        uint64_t size;
    } snapshot[3];
};

static int new_file(const char *path)
{
    struct err err;
    unlink(path);
    int fd = os_file_open(path, OS_FILE_WRITE | OS_FILE_CREATE | OS_FILE_EXCLUSIVE, &err);
    CHECK(fd >= 0, "%s", err.text);
    return fd;
}

static void fill(uint8_t *bytes, size_t length)
{
    uint64_t kind = below(4);
    for (size_t i = 0; i < length; i++)
        bytes[i] = kind == 0 ? 0 : kind == 1 ? (uint8_t)(i >> 9) + 1 : (uint8_t)random_u64();
}

static void open_disk(struct model *m)
{
    struct err err = {0};
    struct block_chain chain;
    struct block_chain_rules rules = {.format = "qcow2"};
    CHECK(block_chain_open(&chain, m->path, &rules, &err) == 0, "%s", err.text);
    // A small cache, so that it is evicted and crowded.
    struct block_options options = {.metadata_bytes = 2 * MIB};
    m->disk = block_chain_disk(&chain, &options, &err);
    CHECK(m->disk, "%s", err.text);
    block_chain_close(&chain);
    CHECK(block_disk_size(m->disk) == m->size, "size %" PRIu64, block_disk_size(m->disk));
}

// A raw image of random content; returns the bytes, of which there are DISK_MAX.
static uint8_t *make_raw(const char *path, uint64_t *size)
{
    struct err err = {0};
    *size = 512 * (1 + below(DISK_MAX / 512));
    int fd = new_file(path);
    uint8_t *bytes = calloc(1, DISK_MAX);
    for (int i = 0; i < 8; i++) {
        uint64_t at = below(*size), n = 1 + below(*size - at < 300000 ? *size - at : 300000);
        fill(bytes + at, n);
    }
    struct block_create create = {.format = "raw", .size = *size};
    CHECK(block_image_create(fd, path, &create, &err) == 0, "%s", err.text);
    CHECK(os_pwrite(fd, bytes, *size, 0) == 0, "write");
    os_file_close(&fd);
    return bytes;
}

static void make_base(struct model *m)
{
    uint64_t size;
    uint8_t *bytes = make_raw(m->base, &size);
    memcpy(m->bytes, bytes, m->size < size ? m->size : size);
    free(bytes);
    m->on_base = true;
}

static void make_image(struct model *m)
{
    static const uint32_t clusters[] = {512, 1024, 4096, 65536, 65536, 262144, 2097152};
    struct err err = {0};
    m->size = below(2) ? 512 * (1 + below(DISK_MAX / 512)) : 1 + below(DISK_MAX);
    bool v2 = below(4) == 0;
    struct block_create create = {
        .format = "qcow2",
        .size = m->size,
        .cluster_size = clusters[below(ARRAY_LENGTH(clusters))],
        .version = v2 ? 2 : 3,
        .refcount_bits = v2 ? 16 : 1u << below(7),
        .compression = !v2 && below(2) ? "zstd" : "zlib",
        .lazy_refcounts = !v2 && below(2),
        .preallocate = below(6) ? BLOCK_PREALLOCATE_OFF : (enum block_preallocate)below(4),
    };
    if (create.preallocate == BLOCK_PREALLOCATE_OFF && below(2)) {
        make_base(m);
        create.backing = strrchr(m->base, '/') + 1;
        create.backing_format = "raw";
    }
    int fd = new_file(m->path);
    CHECK(block_image_create(fd, m->path, &create, &err) == 0, "%s", err.text);
    os_file_close(&fd);
}

// ---- Operations

static void pick(const struct model *m, uint64_t *offset, uint64_t *length)
{
    uint64_t largest = below(3) ? 100000 : 1500000;
    *offset = below(m->size);
    *length = 1 + below(largest);
    if (below(2)) {
        *offset = align_down(*offset, 512);
        *length = align_up(*length, 512);
    }
    if (*length > m->size - *offset)
        *length = m->size - *offset;
}

static void check_range(struct model *m, uint64_t offset, uint64_t length)
{
    int rc = block_read(m->disk, offset, m->scratch, length);
    CHECK(rc == 0, "read at %" PRIu64 ": %s", offset, strerror(-rc));
    for (uint64_t i = 0; i < length; i++)
        CHECK(m->scratch[i] == m->bytes[offset + i], "byte %" PRIu64 " is %u, not %u", offset + i,
              m->scratch[i], m->bytes[offset + i]);
}

static void operation_write(struct model *m)
{
    uint64_t offset, length;
    pick(m, &offset, &length);
    fill(m->bytes + offset, length);
    int rc = block_write(m->disk, offset, m->bytes + offset, length);
    CHECK(rc == 0, "%s", strerror(-rc));
}

static void operation_read(struct model *m)
{
    uint64_t offset, length;
    pick(m, &offset, &length);
    check_range(m, offset, length);
}

static void operation_zero(struct model *m)
{
    uint64_t offset, length;
    pick(m, &offset, &length);
    memset(m->bytes + offset, 0, length);
    int rc = block_write_zeroes(m->disk, offset, length, below(2) ? BLOCK_UNMAP : 0);
    CHECK(rc == 0, "%s", strerror(-rc));
}

// A discard may leave the content or make it zeros: take what it is.
static void operation_discard(struct model *m)
{
    uint64_t offset, length;
    pick(m, &offset, &length);
    int rc = block_discard(m->disk, offset, length);
    CHECK(rc == 0, "%s", strerror(-rc));
    rc = block_read(m->disk, offset, m->scratch, length);
    CHECK(rc == 0, "%s", strerror(-rc));
    for (uint64_t i = 0; i < length; i++) {
        uint8_t is = m->scratch[i];
        CHECK(is == 0 || is == m->bytes[offset + i], "byte %" PRIu64 " is %u after a discard",
              offset + i, is);
        m->bytes[offset + i] = is;
    }
}

static void operation_compressed(struct model *m)
{
    struct block_node *node = block_disk_node(m->disk);
    uint64_t cluster = node->limits.optimal_io_size, offset = align_down(below(m->size), cluster);
    uint64_t length = m->size - offset < cluster ? m->size - offset : cluster;
    fill(m->bytes + offset, length);
    struct iovec iov = {m->bytes + offset, length};
    int rc = node->ops->write_compressed(node, offset, block_vec(&iov, length));
    CHECK(rc == 0, "%s", strerror(-rc));
}

static void operation_flush(struct model *m)
{
    int rc = block_flush(m->disk);
    CHECK(rc == 0, "%s", strerror(-rc));
}

static void operation_reopen(struct model *m)
{
    int rc = block_disk_close(m->disk);
    CHECK(rc == 0, "%s", strerror(-rc));
    open_disk(m);
}

static void operation_resize(struct model *m)
{
    struct err err = {0};
    uint64_t size = 1 + below(DISK_MAX);
    CHECK(block_disk_resize(m->disk, size, &err) == 0, "%s", err.text);
    if (size > m->size)
        memset(m->bytes + m->size, 0, size - m->size);
    m->size = size;
}

static const struct block_image_ops *image_ops(void)
{
    return block_format_find("qcow2")->image;
}

static void operation_snapshot(struct model *m)
{
    struct err err = {0};
    size_t n = below(ARRAY_LENGTH(m->snapshot));
    char name[] = {'s', (char)('0' + n), 0};
    struct block_node *node = block_disk_node(m->disk);
    if (!m->snapshot[n].bytes) {
        if (image_ops()->snapshot_create(node, name, 1700000000, &err)) {
            CHECK(err.code == ERR_UNSUPPORTED || err.code == ERR_LIMIT, "%s",
                  err.text); // narrow refcounts
            return;
        }
        m->snapshot[n].bytes = malloc(DISK_MAX);
        m->snapshot[n].size = m->size;
        memcpy(m->snapshot[n].bytes, m->bytes, m->size);
    } else if (below(2)) {
        if (image_ops()->snapshot_apply(node, name, &err)) {
            CHECK(err.code == ERR_LIMIT, "%s", err.text);
            return;
        }
        m->size = m->snapshot[n].size;
        memcpy(m->bytes, m->snapshot[n].bytes, m->size);
    } else {
        CHECK(image_ops()->snapshot_delete(node, name, &err) == 0, "%s", err.text);
        free(m->snapshot[n].bytes);
        m->snapshot[n].bytes = NULL;
    }
}

// By the command itself, as everybody does it. Snapshots inside the image do not keep what they show of a backing file that changes: they go first.
static void run_wirt(struct model *m, const char *words, const char *rest)
{
    char command[512];
    for (size_t n = 0; n < ARRAY_LENGTH(m->snapshot); n++) {
        struct err err = {0};
        char name[] = {'s', (char)('0' + n), 0};
        if (m->snapshot[n].bytes)
            CHECK(image_ops()->snapshot_delete(block_disk_node(m->disk), name, &err) == 0, "%s",
                  err.text);
        free(m->snapshot[n].bytes);
        m->snapshot[n].bytes = NULL;
    }
    int rc = block_disk_close(m->disk);
    CHECK(rc == 0, "%s", strerror(-rc));
    snprintf(command, sizeof(command), "%s disk %s %s %s >/dev/null", wirt, words, m->path, rest);
    CHECK(system(command) == 0, "%s", command);
}

static void check_base(struct model *m)
{
    struct err err = {0};
    int fd = os_file_open(m->base, 0, &err);
    CHECK(fd >= 0, "%s", err.text);
    CHECK(os_pread(fd, m->scratch, m->size, 0) == 0, "the backing file has not the disk's size");
    CHECK(memcmp(m->scratch, m->bytes, m->size) == 0,
          "the backing file has not what was committed");
    os_file_close(&fd);
}

static void operation_commit(struct model *m)
{
    if (!m->on_base || !wirt)
        return;
    run_wirt(m, "commit", "");
    check_base(m);
    open_disk(m);
    check_range(m, 0, m->size);
}

static void operation_rebase(struct model *m)
{
    char rest[256], path[128];
    if (!wirt)
        return;
    bool alone = below(4) == 0;
    snprintf(path, sizeof(path), "%s/base%u.raw", directory, ++m->rebases % 2);
    if (!alone) {
        uint64_t size;
        free(make_raw(path, &size));
    }
    snprintf(rest, sizeof(rest), alone ? "--backing \"\"" : "--backing %s --backing-format raw",
             strrchr(path, '/') + 1);
    run_wirt(m, "rebase", rest);
    m->on_base = !alone;
    if (!alone)
        memcpy(m->base, path, sizeof(path));
    open_disk(m);
    check_range(m, 0, m->size);
}

static void operation_check(struct model *m)
{
    struct err err = {0};
    CHECK(block_flush(m->disk) == 0, "flush");
    CHECK(block_flush(m->disk) == 0, "flush"); // the first gave clusters back
    struct block_check result = {0};
    CHECK(image_ops()->check(block_disk_node(m->disk), false, &result, &err) == 0, "%s", err.text);
    CHECK(!result.corruptions && !result.leaks && !result.needless_copies,
          "%" PRIu64 " corruptions, %" PRIu64 " leaks, %" PRIu64 " needless copies",
          result.corruptions, result.leaks, result.needless_copies);
}

static const struct {
    unsigned weight;
    void (*run)(struct model *m);
} operations[] = {
    {40, operation_write},   {15, operation_read},    {10, operation_zero},
    {10, operation_discard}, {3, operation_flush},    {10, operation_compressed},
    {3, operation_reopen},   {6, operation_snapshot}, {3, operation_check},
    {3, operation_resize},   {1, operation_commit},   {1, operation_rebase},
};

// ---- qemu-img's opinion

static void ask_qemu(struct model *m)
{
    char raw[140], command[512];
    snprintf(raw, sizeof(raw), "%s.raw", m->path);
    snprintf(command, sizeof(command), "qemu-img check -q -f qcow2 %s >&2", m->path);
    CHECK(system(command) == 0, "qemu-img check");
    snprintf(command, sizeof(command), "qemu-img convert -f qcow2 -O raw %s %s", m->path, raw);
    CHECK(system(command) == 0, "qemu-img convert");
    struct err err;
    int fd = os_file_open(raw, 0, &err);
    CHECK(fd >= 0, "%s", err.text);
    uint64_t size = 0;
    os_file_size(fd, &size);
    CHECK(os_pread(fd, m->scratch, m->size, 0) == 0, "read");
    CHECK(m->size - size < 512, "qemu takes it for %" PRIu64 " bytes",
          size); // it rounds down to sectors
    for (uint64_t i = 0; i < size; i++)
        CHECK(m->scratch[i] == m->bytes[i],
              "qemu reads byte %" PRIu64 " of %" PRIu64 " (its file: %" PRIu64 ") as %u, not %u", i,
              m->size, size, m->scratch[i], m->bytes[i]);
    os_file_close(&fd);
    unlink(raw);
}

static void ask_qemu_snapshots(struct model *m)
{
    for (size_t n = 0; n < ARRAY_LENGTH(m->snapshot); n++) {
        char command[512], raw[140];
        if (!m->snapshot[n].bytes || !have_qemu)
            continue;
        snprintf(raw, sizeof(raw), "%s.raw", m->path);
        snprintf(command, sizeof(command), "qemu-img convert -l s%zu -f qcow2 -O raw %s %s", n,
                 m->path, raw);
        CHECK(system(command) == 0, "qemu-img convert -l");
        struct err err;
        int fd = os_file_open(raw, 0, &err);
        CHECK(fd >= 0, "%s", err.text);
        uint64_t size = 0;
        os_file_size(fd, &size);
        CHECK(os_pread(fd, m->scratch, size < DISK_MAX ? size : DISK_MAX, 0) == 0, "read");
        // A snapshot of another size is shown by some versions at the disk's present size.
        uint64_t both = size < m->snapshot[n].size ? size : m->snapshot[n].size;
        CHECK(memcmp(m->scratch, m->snapshot[n].bytes, both) == 0,
              "qemu reads another snapshot s%zu", n);
        os_file_close(&fd);
        unlink(raw);
    }
}

static void run_sequence(void)
{
    struct model m = {.bytes = calloc(1, DISK_MAX), .scratch = calloc(1, DISK_MAX)};
    snprintf(m.path, sizeof(m.path), "%s/image.qcow2", directory);
    snprintf(m.base, sizeof(m.base), "%s/base.raw", directory);
    make_image(&m);
    open_disk(&m);
    check_range(&m, 0, m.size);
    unsigned total = 0;
    for (size_t i = 0; i < ARRAY_LENGTH(operations); i++)
        total += operations[i].weight;
    for (int n = 0; n < OPERATIONS; n++) {
        uint64_t chosen = below(total);
        size_t i = 0;
        while (chosen >= operations[i].weight)
            chosen -= operations[i++].weight;
        operations[i].run(&m);
    }
    check_range(&m, 0, m.size);
    int rc = block_disk_close(m.disk);
    CHECK(rc == 0, "%s", strerror(-rc));
    if (have_qemu)
        ask_qemu(&m);
    ask_qemu_snapshots(&m);
    for (size_t n = 0; n < ARRAY_LENGTH(m.snapshot); n++)
        free(m.snapshot[n].bytes);
    free(m.bytes);
    free(m.scratch);
}

int main(int argc, char **argv)
{
    wirt = getenv("WIRT");
    have_qemu = system("qemu-img --version >/dev/null 2>&1") == 0;
    if (!mkdtemp(directory))
        return 1;
    printf("%s qemu-img, %s wirt disk\n", have_qemu ? "with" : "without",
           wirt ? "with" : "without");
    sequences_run("qcow2_model_test", argc - 1, argv + 1, 60, run_sequence);
    char command[64];
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command) != 0;
}
