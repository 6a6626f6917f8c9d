// SPDX-License-Identifier: Apache-2.0
//
// VMDK, VHDX and VDI images from anywhere. The input is a list of patches to an empty file of 8 MiB (offset 32 bits,
// length 16 bits, bytes), because these formats spread little over much. The checksums of VHDX are made right, so
// that what they guard is reached. The image is opened as what it looks like, mapped and read, and written to
// where the format can be.
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/block_driver.h"
#include "machine/block/crc32c.h"
#include "os/file.h"
#define LOG_MODULE "fuzz"
#include "base/log.h"

#define FILE_BYTES (8 * MIB)
#define MEMORY     (1 * MIB)
#define READ_MAX   (256 * KIB)
#define STEPS_MAX  100

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quiet(enum log_level level, const char *line)
{
}

static void patch(int fd, const uint8_t *data, size_t size)
{
    while (size >= 6) {
        uint32_t offset = load_le32(data) % (uint32_t)FILE_BYTES, length = load_le16(data + 4);
        data += 6;
        size -= 6;
        if (length > size)
            length = (uint32_t)size;
        (void)os_pwrite(fd, data, length, offset);
        data += length;
        size -= length;
    }
}

static void sum(int fd, uint64_t offset, size_t length)
{
    static uint8_t bytes[64 * KIB];
    if (os_pread(fd, bytes, length, offset))
        return;
    store_le32(bytes + 4, 0);
    store_le32(bytes + 4, crc32c(bytes, length));
    (void)os_pwrite(fd, bytes, 8, offset);
}

static void exercise(struct block_node *node, bool write)
{
    static uint8_t buffer[READ_MAX];
    uint64_t at = 0;
    for (int step = 0; step < STEPS_MAX && at < node->size; step++) {
        struct block_extent extent;
        if (block_node_extent(node, at, node->size - at, &extent) || !extent.length)
            break;
        uint64_t n = extent.length < READ_MAX ? extent.length : READ_MAX;
        (void)block_node_read_buffer(node, at, buffer, extent.zero ? 1 : n);
        if (write && step < 10)
            (void)block_node_write_buffer(node, at, buffer, n < 1000 ? n : 1000);
        at += extent.length;
    }
    if (write)
        (void)block_node_flush(node);
}

static void open_and_exercise(int fd, const struct block_format *format, bool read_only)
{
    struct block_backing backing;
    struct err err;
    struct block_node *file = block_file_open(dup(fd), "fuzz", read_only, MEMORY, &err);
    if (!file)
        return;
    if (format->backing)
        (void)format->backing(file, &backing, &err);
    struct block_node *node = format->open(file, read_only, &err);
    if (node)
        exercise(node, !read_only);
    (void)block_node_close(node);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    log_set_sink(quiet);
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    uint8_t header[4096];
    if (fd < 0 || ftruncate(fd, FILE_BYTES))
        return 0;
    patch(fd, data, size);
    if (os_pread(fd, header, sizeof(header), 0) == 0) {
        const struct block_format *format = block_format_probe(header, sizeof(header), "fuzz");
        if (header[0] == 'v') {
            sum(fd, 64 * KIB, 4 * KIB);
            sum(fd, 192 * KIB, 64 * KIB);
        }
        open_and_exercise(fd, format, true);
        if (format->can_write)
            open_and_exercise(fd, format, false);
    }
    close(fd);
    return 0;
}
