// SPDX-License-Identifier: Apache-2.0
//
// Many requests at once on one qcow2 disk, as a guest with a deep queue makes them. The disk is cut into pieces far
// smaller than a cluster, so that neighbours allocate, copy and discard the same clusters; each piece has one request
// in flight at a time, hence a known content. Flushes run between. Afterwards everything is as it should be and the
// image is sound.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/block_driver.h"
#include "machine/block/block_image.h"
#include "os/file.h"

#define PIECE_BYTES 3072
#define PIECES      1500
#define DEPTH       32
#define REQUESTS    12000

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s; ", __FILE__, __LINE__, #condition);                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\n");                                                                 \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

struct test {
    struct block_disk *disk;
    struct block_queue *queue;
    uint8_t value[PIECES]; // what each piece is filled with
    bool busy[PIECES];
    uint32_t random;
    unsigned submitted, in_flight;
};

struct slot {
    struct test *test;
    struct block_request request;
    struct iovec iov;
    uint8_t bytes[PIECE_BYTES];
    uint32_t piece;
};

static uint32_t below(struct test *t, uint32_t n)
{
    t->random = t->random * 1664525u + 1013904223u;
    return (t->random >> 8) % n;
}

static void on_done(struct block_request *request, int result);

static void submit(struct slot *s)
{
    struct test *t = s->test;
    uint32_t kind = below(t, 100);
    do {
        s->piece = below(t, PIECES);
    } while (t->busy[s->piece]);
    t->busy[s->piece] = true;
    s->iov = (struct iovec){s->bytes, PIECE_BYTES};
    s->request = (struct block_request){.offset = (uint64_t)s->piece * PIECE_BYTES,
                                        .length = PIECE_BYTES,
                                        .iov = &s->iov,
                                        .iov_count = 1,
                                        .queue = t->queue,
                                        .done = on_done,
                                        .user = s};
    if (kind < 55) {
        t->value[s->piece] = (uint8_t)(1 + below(t, 255));
        memset(s->bytes, t->value[s->piece], PIECE_BYTES);
        s->request.op = BLOCK_WRITE;
    } else if (kind < 85) {
        s->request.op = BLOCK_READ;
    } else if (kind < 98) {
        t->value[s->piece] = 0;
        s->request.op = BLOCK_WRITE_ZEROES;
        s->request.flags = below(t, 2) ? BLOCK_UNMAP : 0;
    } else {
        s->request.op = BLOCK_FLUSH;
    }
    t->submitted++;
    t->in_flight++;
    block_submit(t->disk, &s->request);
}

static void check_bytes(const struct test *t, const uint8_t *bytes, uint32_t piece)
{
    for (int i = 0; i < PIECE_BYTES; i++)
        CHECK(bytes[i] == t->value[piece], "byte %d of piece %u is %u, not %u", i, piece, bytes[i],
              t->value[piece]);
}

static void on_done(struct block_request *request, int result)
{
    struct slot *s = request->user;
    struct test *t = s->test;
    CHECK(result == 0, "%s: %s", block_op_name(request->op), strerror(-result));
    if (request->op == BLOCK_READ)
        check_bytes(t, s->bytes, s->piece);
    t->busy[s->piece] = false;
    t->in_flight--;
    if (t->submitted < REQUESTS)
        submit(s);
}

static void run(uint32_t cluster, uint32_t seed, bool ring)
{
    struct err err = {0};
    struct test *t = calloc(1, sizeof(*t));
    struct slot *slots = calloc(DEPTH, sizeof(*slots));
    int fd = memfd_create("image", MFD_CLOEXEC);
    struct block_create create = {
        .format = "qcow2", .size = (uint64_t)PIECES * PIECE_BYTES, .cluster_size = cluster};
    CHECK(block_image_create(fd, "image", &create, &err) == 0, "%s", err.text);
    struct block_image image = {.fd = fd, .format = "qcow2", .name = "image"};
    // The smallest cache, so that it is crowded and evicts.
    struct block_options options = {
        .chain = &image, .chain_length = 1, .metadata_bytes = MIB / 8 + cluster};
    t->disk = block_disk_open(&options, &err);
    CHECK(t->disk, "%s", err.text);
    t->queue = ring ? block_queue_create_with_ring(&err) : block_queue_create(&err);
    t->random = seed;
    for (int i = 0; i < DEPTH; i++) {
        slots[i].test = t;
        submit(&slots[i]);
    }
    while (t->in_flight)
        block_queue_wait(t->queue);
    for (uint32_t piece = 0; piece < PIECES; piece++) {
        CHECK(block_read(t->disk, (uint64_t)piece * PIECE_BYTES, slots[0].bytes, PIECE_BYTES) == 0,
              "read");
        check_bytes(t, slots[0].bytes, piece);
    }
    CHECK(block_flush(t->disk) == 0 && block_flush(t->disk) == 0, "flush");
    struct block_check result = {0};
    CHECK(block_format_find("qcow2")->image->check(block_disk_node(t->disk), false, &result,
                                                   &err) == 0,
          "%s", err.text);
    CHECK(!result.corruptions && !result.leaks && !result.needless_copies,
          "%" PRIu64 " corruptions, %" PRIu64 " leaks", result.corruptions, result.leaks);
    CHECK(block_disk_close(t->disk) == 0, "close");
    block_queue_destroy(t->queue);
    free(slots);
    free(t);
}

int main(void)
{
    static const uint32_t clusters[] = {512, 4096, 65536, 524288};
    for (size_t i = 0; i < ARRAY_LENGTH(clusters); i++)
        for (uint32_t ring = 0; ring < 2; ring++)
            run(clusters[i], (uint32_t)i, ring);
    return 0;
}
