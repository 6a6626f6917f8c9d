// SPDX-License-Identifier: Apache-2.0
//
// Chains of images from anywhere. The input is up to four files, each with its length (32 bits) before it: they are named 0 to 3 in a
// folder of their own, where their headers may name each other or themselves as backing files. The chain is found as a command finds it, opened as a
// disk, mapped, read and written to. It takes no more memory than the caller allows each image.
#include <assert.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/block_image.h"
#include "os/file.h"
#define LOG_MODULE "fuzz"
#include "base/log.h"

#define IMAGES   4
#define FILE_MAX (256 * KIB)
#define MEMORY   (1 * MIB)
#define MEMORY_MAX                                                                                 \
    ((BLOCK_CHAIN_MAX * MEMORY) / 16) // a chain of four, and what each has beside its tables
#define READ_MAX  (64 * KIB)
#define STEPS_MAX 100

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[32];

static void quiet(enum log_level level, const char *line)
{
}

static void remove_folder(void)
{
    for (int i = 0; i < IMAGES; i++) {
        char path[64];
        snprintf(path, sizeof(path), "%s/%d", folder, i);
        unlink(path);
    }
    rmdir(folder);
}

static void make_folder(void)
{
    snprintf(folder, sizeof(folder), "/tmp/chain-fuzz-XXXXXX");
    if (!mkdtemp(folder))
        abort();
    atexit(remove_folder);
}

static void write_files(const uint8_t *data, size_t size)
{
    for (int i = 0; i < IMAGES; i++) {
        char path[64];
        size_t length = size >= 4 ? load_le32(data) : 0;
        data += size >= 4 ? 4 : 0;
        size -= size >= 4 ? 4 : 0;
        length = length < size ? length : size;
        snprintf(path, sizeof(path), "%s/%d", folder, i);
        int fd = os_file_open(path, OS_FILE_WRITE | OS_FILE_CREATE | OS_FILE_TRUNCATE, NULL);
        if (fd >= 0)
            (void)os_pwrite(fd, data, length < FILE_MAX ? length : FILE_MAX, 0);
        os_file_close(&fd);
        data += length;
        size -= length;
    }
}

static void exercise(struct block_disk *disk)
{
    static uint8_t buffer[READ_MAX];
    uint64_t at = 0, size = block_disk_size(disk);
    for (int step = 0; step < STEPS_MAX && at < size; step++) {
        struct block_extent extent;
        if (block_disk_extent(disk, at, size - at, &extent) || !extent.length)
            break;
        assert(extent.length <= size - at && extent.depth <= BLOCK_CHAIN_MAX);
        uint64_t n = extent.length < READ_MAX ? extent.length : READ_MAX;
        (void)block_read(disk, at, buffer, n);
        if (step < 10)
            (void)block_write(disk, at, buffer, n < 1000 ? n : 1000);
        at += extent.length;
    }
    (void)block_flush(disk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct block_pool *pool;
    static struct block_chain chain;
    struct err err;
    log_set_sink(quiet);
    if (!*folder) {
        make_folder();
        pool = block_pool_create(1, &err);
    }
    write_files(data, size);
    char path[64];
    snprintf(path, sizeof(path), "%s/0", folder);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    const struct block_chain_rules rules = {.probe = true};
    if (block_chain_open(&chain, path, &rules, &err) == 0) {
        const struct block_options options = {.pool = pool, .metadata_bytes = MEMORY};
        struct block_disk *disk = block_chain_disk(&chain, &options, &err);
        if (disk)
            exercise(disk);
        assert(mallinfo2().uordblks + mallinfo2().hblkhd <= before + MEMORY_MAX);
        block_disk_close(disk);
    }
    block_chain_close(&chain);
    return 0;
}
