// SPDX-License-Identifier: Apache-2.0
//
// Volumes into a backup and out of it. What reads as zeros is not written, so a sparse disk makes a small backup and becomes sparse again.
#include <stdlib.h>
#include <string.h>

#include "machine/block/block_image.h"
#include "node/storage/archive.h"
#include "node/storage/storage_internal.h"

#define EXTENT_MAX (UINT64_C(1) << 30)

// ---- Into.

struct saving {
    struct block_disk *disk;
    struct archive_writer *writer;
    uint32_t number;
    uint8_t *bytes;
};

static bool all_zero(const uint8_t *bytes, size_t length)
{
    return !bytes[0] && !memcmp(bytes, bytes + 1, length - 1);
}

// One stretch that is not known to be zeros.
static int save_stretch(struct saving *saving, uint64_t offset, uint64_t length, struct err *err)
{
    while (length) {
        size_t n = length < ARCHIVE_RECORD_MAX ? (size_t)length : ARCHIVE_RECORD_MAX;
        int failed = block_read(saving->disk, offset, saving->bytes, n);
        if (failed)
            return err_set_errno(err, -failed, "the disk cannot be read");
        if (!all_zero(saving->bytes, n) &&
            archive_write(saving->writer, saving->number, offset, saving->bytes, n, err))
            return -1;
        offset += n;
        length -= n;
    }
    return 0;
}

static int save_all(struct saving *saving, struct task *task, uint64_t done, uint64_t total,
                    struct err *err)
{
    uint64_t size = block_disk_size(saving->disk);
    for (uint64_t offset = 0; offset < size;) {
        struct block_extent extent;
        uint64_t most = size - offset < EXTENT_MAX ? size - offset : EXTENT_MAX;
        int failed = block_disk_extent(saving->disk, offset, most, &extent);
        if (failed)
            return err_set_errno(err, -failed, "the disk cannot be read");
        // Pieces of a few records, so that somebody who wants it to end is heard.
        uint64_t piece = 16u * ARCHIVE_RECORD_MAX;
        if (!extent.zero && extent.length > piece)
            extent.length = piece;
        if (!extent.zero && save_stretch(saving, offset, extent.length, err))
            return -1;
        offset += extent.length;
        if (!task_progress(task, done + offset, total))
            return task_cancelled(err);
    }
    return 0;
}

int volume_save(struct storage *storage, const char *source, struct archive_writer *writer,
                uint32_t disk, struct task *task, uint64_t done, uint64_t total, struct err *err)
{
    struct block_chain *chain = calloc(1, sizeof(*chain));
    struct saving saving = {.writer = writer, .number = disk, .bytes = malloc(ARCHIVE_RECORD_MAX)};
    if (!chain || !saving.bytes)
        abort();
    saving.disk = volume_open_source(storage, source, chain, err);
    int result = saving.disk ? save_all(&saving, task, done, total, err) : -1;
    if (saving.disk)
        result = volume_close(saving.disk, chain, source, result, err);
    free(saving.bytes);
    free(chain);
    return result;
}

// ---- Out of.

static int load_records(struct archive_reader *reader, struct block_disk *const *disks,
                        struct task *task, uint64_t archive_size, struct err *err)
{
    struct archive_record record;
    int more;
    while ((more = archive_next(reader, &record, err)) > 0) {
        int failed = block_write(disks[record.disk], record.offset, record.bytes, record.length);
        if (failed)
            return err_set_errno(err, -failed, "the disk cannot be written");
        if (!task_progress(task, archive_read_bytes(reader), archive_size))
            return task_cancelled(err);
    }
    return more;
}

int volumes_load(struct storage *storage, struct archive_reader *reader,
                 const char (*volids)[VOLUME_ID_BYTES], size_t count, struct task *task,
                 uint64_t archive_size, struct err *err)
{
    struct block_chain *chains = calloc(count + 1, sizeof(*chains));
    struct block_disk *disks[ARCHIVE_DISKS_MAX] = {0};
    if (!chains)
        abort();
    int result = 0;
    for (size_t i = 0; i < count && !result; i++) {
        disks[i] = volume_open(storage, volids[i], false, &chains[i], err);
        result = disks[i] ? 0 : -1;
    }
    if (!result)
        result = load_records(reader, disks, task, archive_size, err);
    for (size_t i = 0; i < count; i++)
        if (disks[i])
            result = volume_close(disks[i], &chains[i], volids[i], result, err);
    free(chains);
    return result;
}
