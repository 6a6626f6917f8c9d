// SPDX-License-Identifier: Apache-2.0
//
// A qcow2 image from anywhere: the input is the file, padded with zeros to where the tables may point. It is opened,
// mapped, read, checked, written, repaired; its snapshots are listed, read and applied, all with a small bound on memory. Whatever
// the image says: no crash, no hang, no allocation beyond the bound.
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/block_driver.h"
#define LOG_MODULE "fuzz"
#include "base/log.h"

#define FILE_MAX      (256 * KIB)
#define MEMORY        (1 * MIB)
#define READ_MAX      (1 * MIB)
#define STEPS_MAX     200
#define SNAPSHOTS_MAX 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quiet(enum log_level level, const char *line)
{
}

static struct block_node *open_image(int fd, bool read_only, bool repair)
{
    struct err err;
    struct block_node *file = block_file_open(dup(fd), "fuzz", read_only, MEMORY, &err);
    if (!file)
        return NULL;
    file->repair = repair;
    return block_format_find("qcow2")->open(file, read_only, &err);
}

static void map_and_read(struct block_node *node)
{
    static uint8_t buffer[READ_MAX];
    uint64_t at = 0;
    for (int step = 0; step < STEPS_MAX && at < node->size; step++) {
        struct block_extent extent;
        if (block_node_extent(node, at, node->size - at, &extent) || !extent.length)
            break;
        uint64_t n = extent.length < READ_MAX ? extent.length : READ_MAX;
        (void)block_node_read_buffer(node, at, buffer, extent.zero ? 1 : n);
        at += extent.length;
    }
}

static void change(struct block_node *node)
{
    static const uint8_t bytes[70000] = {1, 2, 3};
    uint64_t size = node->size < MIB ? node->size : MIB;
    for (uint64_t at = 0; at + 512 <= size; at += size / 4 + 512) {
        size_t n = size - at < sizeof(bytes) ? size - at : sizeof(bytes);
        (void)block_node_write_buffer(node, at, bytes, n);
        (void)block_node_discard(node, at, n);
        (void)block_node_zero(node, at, n, BLOCK_UNMAP);
    }
    (void)block_node_flush(node);
}

// The image's own snapshots, whatever they say of themselves.
static void go_back(struct block_node *node)
{
    const struct block_image_ops *ops = block_format_find("qcow2")->image;
    struct block_snapshot list[SNAPSHOTS_MAX];
    struct err err;
    int count = ops->snapshot_list(node, list, SNAPSHOTS_MAX, &err);
    for (int i = 0; i < count && i < SNAPSHOTS_MAX; i++) {
        int rc =
            (node->read_only ? ops->snapshot_view : ops->snapshot_apply)(node, list[i].name, &err);
        if (!rc)
            map_and_read(node);
    }
}

static void upkeep(struct block_node *node, bool fix)
{
    const struct block_image_ops *ops = block_format_find("qcow2")->image;
    struct block_check result = {0};
    struct err err;
    (void)ops->check(node, fix, &result, &err);
    go_back(node);
    if (!fix)
        return;
    (void)ops->snapshot_create(node, "f", 0, &err);
    (void)ops->snapshot_apply(node, "f", &err);
    (void)ops->snapshot_delete(node, "f", &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    log_set_sink(quiet);
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    size = size < FILE_MAX ? size : FILE_MAX;
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        return 0;
    struct block_node *node = open_image(fd, true, false);
    if (node) {
        map_and_read(node);
        upkeep(node, false);
    }
    (void)block_node_close(node);
    node = open_image(fd, false, false);
    if (node) {
        change(node);
        map_and_read(node);
    }
    (void)block_node_close(node);
    node = open_image(fd, false, true);
    if (node)
        upkeep(node, true);
    (void)block_node_close(node);
    close(fd);
    return 0;
}
