// SPDX-License-Identifier: Apache-2.0
//
// Bytes as a backup that somebody uploaded: refused with a reason, or every record lies within the disk that its header tells of. The first byte
// says whether the rest is the file itself, or what is inside its zstd frame, which the fuzzer would seldom guess.
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include "node/storage/archive.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void demand(bool true_of_it)
{
    if (!true_of_it)
        abort();
}

static void put(int fd, const void *bytes, size_t length)
{
    demand(!ftruncate(fd, 0) && pwrite(fd, bytes, length, 0) == (ssize_t)length);
}

static void put_packed(int fd, const uint8_t *bytes, size_t length)
{
    size_t room = ZSTD_compressBound(length);
    void *packed = malloc(room);
    ZSTD_CCtx *context = ZSTD_createCCtx();
    demand(packed && context);
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
    size_t n = ZSTD_compress2(context, packed, room, bytes, length);
    demand(!ZSTD_isError(n));
    put(fd, packed, n);
    ZSTD_freeCCtx(context);
    free(packed);
}

static void read_records(struct archive_reader *reader)
{
    struct err err = {0};
    struct archive_record record;
    const json_t *disks = json_object_get(archive_header(reader), "disks");
    int more;
    while ((more = archive_next(reader, &record, &err)) > 0) {
        const json_t *disk = json_array_get(disks, record.disk);
        uint64_t size = (uint64_t)json_integer_value(json_object_get(disk, "size"));
        demand(disk && record.length && record.length <= ARCHIVE_RECORD_MAX);
        demand(record.offset < size && record.length <= size - record.offset);
        const volatile uint8_t *last = (const uint8_t *)record.bytes + record.length - 1;
        (void)*last;
    }
    demand(!more || err.text[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static int fd = -1;
    if (length < 1)
        return 0;
    if (fd < 0)
        fd = memfd_create("archive", MFD_CLOEXEC);
    if (bytes[0] & 1)
        put_packed(fd, bytes + 1, length - 1);
    else
        put(fd, bytes + 1, length - 1);
    struct err err = {0};
    struct archive_reader *reader = archive_open(fd, &err);
    if (!reader) {
        demand(err.text[0] != 0);
        return 0;
    }
    read_records(reader);
    archive_reader_destroy(reader);
    return 0;
}
