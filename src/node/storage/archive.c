// SPDX-License-Identifier: Apache-2.0
#include "node/storage/archive.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "os/file.h"

#define MAGIC          "WIRTBAK1"
#define MAGIC_BYTES    8u
#define RECORD_BYTES   16u
#define LAST           UINT32_MAX
#define LEVEL          3
#define SIZE_MAX_DISK  (UINT64_C(1) << 46)
#define WINDOW_LOG_MAX 23 // 8 MiB: what a stranger's stream can make us hold

struct archive_writer {
    int fd; // borrowed
    ZSTD_CCtx *context;
    uint8_t *out;
    size_t room;
    uint64_t at, records;
};

struct archive_reader {
    int fd; // borrowed
    ZSTD_DCtx *context;
    uint8_t *in;
    size_t room;
    ZSTD_inBuffer input;
    uint64_t at, size, records;
    bool ended; // of the zstd frame
    json_t *header;
    uint64_t disk_size[ARCHIVE_DISKS_MAX];
    size_t disk_count;
    uint8_t *bytes;
};

static void put(uint8_t *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

// ---- Writing.

static int compress(struct archive_writer *writer, const void *bytes, size_t length,
                    ZSTD_EndDirective how, struct err *err)
{
    ZSTD_inBuffer in = {bytes, length, 0};
    size_t left;
    do {
        ZSTD_outBuffer out = {writer->out, writer->room, 0};
        left = ZSTD_compressStream2(writer->context, &out, &in, how);
        if (ZSTD_isError(left))
            return err_set(err, ERR_HOST, "zstd: %s", ZSTD_getErrorName(left));
        int failed = out.pos ? os_pwrite(writer->fd, out.dst, out.pos, writer->at) : 0;
        if (failed)
            return err_set_errno(err, -failed, "the backup cannot be written");
        writer->at += out.pos;
    } while (in.pos < in.size || (how == ZSTD_e_end && left));
    return 0;
}

static int put_record(struct archive_writer *writer, uint32_t disk, size_t length, uint64_t offset,
                      struct err *err)
{
    uint8_t record[RECORD_BYTES];
    put(record, disk, 4);
    put(record + 4, length, 4);
    put(record + 8, offset, 8);
    return compress(writer, record, sizeof(record), ZSTD_e_continue, err);
}

struct archive_writer *archive_create(int fd, const json_t *header, struct err *err)
{
    struct archive_writer *writer = calloc(1, sizeof(*writer));
    if (!writer)
        abort();
    *writer = (struct archive_writer){
        .fd = fd, .context = ZSTD_createCCtx(), .room = ZSTD_CStreamOutSize()};
    writer->out = malloc(writer->room);
    if (!writer->context || !writer->out)
        abort();
    ZSTD_CCtx_setParameter(writer->context, ZSTD_c_compressionLevel, LEVEL);
    ZSTD_CCtx_setParameter(writer->context, ZSTD_c_checksumFlag, 1);
    char *text = json_dumps(header, JSON_COMPACT);
    uint8_t length[4];
    size_t bytes = text ? strlen(text) : 0;
    put(length, bytes, 4);
    int failed = !text || compress(writer, MAGIC, MAGIC_BYTES, ZSTD_e_continue, err) ||
                 compress(writer, length, 4, ZSTD_e_continue, err) ||
                 compress(writer, text, bytes, ZSTD_e_continue, err);
    free(text);
    if (!failed)
        return writer;
    archive_writer_destroy(writer);
    return NULL;
}

int archive_write(struct archive_writer *writer, uint32_t disk, uint64_t offset, const void *bytes,
                  size_t length, struct err *err)
{
    writer->records++;
    return put_record(writer, disk, length, offset, err) ||
                   compress(writer, bytes, length, ZSTD_e_continue, err)
               ? -1
               : 0;
}

int archive_finish(struct archive_writer *writer, struct err *err)
{
    if (put_record(writer, LAST, 0, writer->records, err) ||
        compress(writer, NULL, 0, ZSTD_e_end, err))
        return -1;
    int failed = os_fdatasync(writer->fd);
    return failed ? err_set_errno(err, -failed, "the backup cannot be written") : 0;
}

uint64_t archive_bytes(const struct archive_writer *writer)
{
    return writer->at;
}

void archive_writer_destroy(struct archive_writer *writer)
{
    if (!writer)
        return;
    ZSTD_freeCCtx(writer->context);
    free(writer->out);
    free(writer);
}

// ---- Reading.

static int broken(struct err *err, const char *what)
{
    return err_set(err, ERR_INPUT, "the backup is broken: %s", what);
}

static int refill(struct archive_reader *reader, struct err *err)
{
    uint64_t left = reader->size - reader->at;
    size_t n = left < reader->room ? (size_t)left : reader->room;
    if (!n)
        return broken(err, "it ends too early");
    int failed = os_pread(reader->fd, reader->in, n, reader->at);
    if (failed)
        return err_set_errno(err, -failed, "the backup cannot be read");
    reader->at += n;
    reader->input = (ZSTD_inBuffer){reader->in, n, 0};
    return 0;
}

static int take(struct archive_reader *reader, void *bytes, size_t length, struct err *err)
{
    ZSTD_outBuffer out = {bytes, length, 0};
    while (out.pos < out.size) {
        if (reader->ended)
            return broken(err, "it ends too early");
        size_t before = out.pos, had = reader->input.pos;
        size_t left = ZSTD_decompressStream(reader->context, &out, &reader->input);
        if (ZSTD_isError(left))
            return broken(err, ZSTD_getErrorName(left));
        reader->ended = !left;
        bool stuck = out.pos == before && reader->input.pos == had;
        if (!reader->ended && stuck && refill(reader, err))
            return -1;
    }
    return 0;
}

static int check_header(struct archive_reader *reader, struct err *err)
{
    const json_t *disks = json_object_get(reader->header, "disks");
    size_t index;
    json_t *disk;
    if (!json_is_object(json_object_get(reader->header, "config")) || !json_is_array(disks) ||
        json_array_size(disks) > ARCHIVE_DISKS_MAX)
        return broken(err, "its header tells no configuration or disks");
    reader->disk_count = json_array_size(disks);
    json_array_foreach(disks, index, disk)
    {
        json_int_t size = json_integer_value(json_object_get(disk, "size"));
        if (!json_is_string(json_object_get(disk, "key")) || size < 0 || size % 512 ||
            (uint64_t)size > SIZE_MAX_DISK)
            return broken(err, "its header tells of a disk that cannot be");
        reader->disk_size[index] = (uint64_t)size;
    }
    return 0;
}

static int read_header(struct archive_reader *reader, struct err *err)
{
    uint8_t start[MAGIC_BYTES + 4] = {0};
    if (take(reader, start, sizeof(start), err))
        return -1;
    size_t length = (size_t)get(start + MAGIC_BYTES, 4);
    if (memcmp(start, MAGIC, MAGIC_BYTES) != 0 || length > ARCHIVE_HEADER_MAX)
        return broken(err, "it is none of wirt's");
    char *text = malloc(length + 1);
    if (!text)
        abort();
    int result = take(reader, text, length, err);
    if (!result) {
        reader->header = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
        result = json_is_object(reader->header) ? check_header(reader, err)
                                                : broken(err, "its header is no JSON");
    }
    free(text);
    return result;
}

struct archive_reader *archive_open(int fd, struct err *err)
{
    struct archive_reader *reader = calloc(1, sizeof(*reader));
    if (!reader)
        abort();
    reader->fd = fd;
    reader->context = ZSTD_createDCtx();
    reader->room = ZSTD_DStreamInSize();
    reader->in = malloc(reader->room);
    reader->bytes = malloc(ARCHIVE_RECORD_MAX);
    if (!reader->context || !reader->in || !reader->bytes)
        abort();
    ZSTD_DCtx_setParameter(reader->context, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
    int failed = os_file_size(fd, &reader->size);
    if (failed)
        err_set_errno(err, -failed, "the backup cannot be read");
    if (!failed && !read_header(reader, err))
        return reader;
    archive_reader_destroy(reader);
    return NULL;
}

const json_t *archive_header(const struct archive_reader *reader)
{
    return reader->header;
}

int archive_next(struct archive_reader *reader, struct archive_record *record, struct err *err)
{
    uint8_t head[RECORD_BYTES] = {0}, more;
    if (take(reader, head, sizeof(head), err))
        return -1;
    record->disk = (uint32_t)get(head, 4);
    record->length = (size_t)get(head + 4, 4);
    record->offset = get(head + 8, 8);
    if (record->disk == LAST) {
        if (record->length || record->offset != reader->records)
            return broken(err, "records are missing");
        // The frame's checksum stands behind its last byte.
        struct err none = {0};
        if (!reader->ended && !take(reader, &more, 1, &none))
            return broken(err, "something stands behind its end");
        return reader->ended ? 0 : broken(err, none.text);
    }
    reader->records++;
    // A record of nothing would make a stream of a few bytes go on for as long as its sender likes.
    if (record->disk >= reader->disk_count || !record->length ||
        record->length > ARCHIVE_RECORD_MAX || record->offset > reader->disk_size[record->disk] ||
        record->length > reader->disk_size[record->disk] - record->offset)
        return broken(err, "a record is empty or lies outside its disk");
    record->bytes = reader->bytes;
    return take(reader, reader->bytes, record->length, err) ? -1 : 1;
}

uint64_t archive_read_bytes(const struct archive_reader *reader)
{
    return reader->at;
}

void archive_reader_destroy(struct archive_reader *reader)
{
    if (!reader)
        return;
    ZSTD_freeDCtx(reader->context);
    json_decref(reader->header);
    free(reader->in);
    free(reader->bytes);
    free(reader);
}
