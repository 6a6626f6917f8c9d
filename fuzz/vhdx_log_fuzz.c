// SPDX-License-Identifier: Apache-2.0
//
// Logs of VHDX images from anywhere. The input is a list of patches (offset 16 bits, length 8 bits, bytes) to a log of 64 KiB, behind which stands a
// file of 1 MiB. What looks like an entry gets the log's number and a right checksum, so that what these guard is reached. What the log makes of
// the file is read.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/crc32c.h"
#include "machine/block/vhdx_log.h"
#include "os/file.h"
#define LOG_MODULE "fuzz"
#include "base/log.h"

#define LOG_BYTES  (64 * KIB)
#define FILE_BYTES (1 * MIB)
#define MEMORY     (512 * KIB)
#define SECTOR     (4 * KIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quiet(enum log_level level, const char *line)
{
}

static void patch(uint8_t *log, const uint8_t *data, size_t size)
{
    while (size >= 3) {
        size_t offset = load_le16(data), length = data[2];
        data += 3;
        size -= 3;
        if (length > size)
            length = size;
        if (length > LOG_BYTES - offset)
            length = LOG_BYTES - offset;
        memcpy(log + offset, data, length);
        data += length;
        size -= length;
    }
}

// An entry whose last sectors stand at the beginning of the ring is left as it is.
static void seal(uint8_t *log, const struct vhdx_log *facts)
{
    for (size_t at = 0; at < LOG_BYTES; at += SECTOR) {
        size_t length = load_le32(log + at + 8);
        if (memcmp(log + at, "loge", 4) != 0 || length % SECTOR || length > LOG_BYTES - at)
            continue;
        memcpy(log + at + 32, facts->guid, 16);
        store_le32(log + at + 4, 0);
        store_le32(log + at + 4, crc32c(log + at, length));
    }
}

static void read_all(struct block_node *node)
{
    static uint8_t buffer[SECTOR];
    for (uint64_t at = 0; at < 2 * FILE_BYTES && at < node->size; at += sizeof(buffer)) {
        uint64_t left = node->size - at;
        (void)block_node_read_buffer(node, at, buffer, left < SECTOR ? left : SECTOR);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct vhdx_log facts = {.guid = "the log's guid", .length = LOG_BYTES};
    static uint8_t log[LOG_BYTES];
    struct err err;
    log_set_sink(quiet);
    memset(log, 0, sizeof(log));
    patch(log, data, size);
    seal(log, &facts);
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || os_file_truncate(fd, FILE_BYTES) || os_pwrite(fd, log, LOG_BYTES, 0))
        abort();
    struct block_node *file = block_file_open(fd, "fuzz", true, MEMORY, &err);
    struct block_node *node = file ? vhdx_log_replay(file, &facts, &err) : NULL;
    if (node)
        read_all(node);
    block_node_close(node);
    return 0;
}
