// SPDX-License-Identifier: Apache-2.0
//
// `wirt disk bench`: requests through the block layer, as a device would make them, at a fixed depth.
//
// The submitter's thread takes completions from a queue and submits the next request at once, so that as many are
// in flight as the depth says. Writes end with a flush, which counts. Each has its own memory, as a guest's requests have; only very deep queues of
// large requests share. With --one-buffer all have the same: copies from and to it are faster, because it stays in the CPU's nearest caches, and
// `qemu-img bench` does the same.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/units.h"
#include "cli/disk.h"
#include "os/clock.h"
#include "os/file.h"

#define DEPTH_MAX        256
#define MEMORY_MAX_BYTES (256 * MIB)

struct bench {
    struct block_disk *disk;
    struct block_queue *queue;
    uint64_t block, blocks; // bytes of one request; how many fit on the disk
    uint64_t next, step;    // where the next request goes, and how far the one after it is away
    uint64_t random;        // the random generator's state
    uint64_t seconds, start_ns, until_ns; // how long at most (0: by number), and when
    uint64_t left;                        // requests to submit, when their number was given
    uint64_t done, in_flight;
    int result;
    bool random_order, write, one_buffer;
};

struct slot {
    struct block_request request;
    struct iovec iov;
    struct bench *bench;
};

static uint64_t pick(struct bench *b)
{
    if (!b->random_order) {
        uint64_t offset = b->next;
        b->next = (b->next + b->step) % (b->blocks * b->block);
        if (b->next + b->block > b->blocks * b->block)
            b->next = 0;
        return offset;
    }
    b->random = b->random * 6364136223846793005ull + 1442695040888963407ull;
    return (b->random >> 20) % b->blocks * b->block;
}

static void submit(struct slot *slot)
{
    struct bench *b = slot->bench;
    slot->request.offset = pick(b);
    b->in_flight++;
    b->left--;
    block_submit(b->disk, &slot->request);
}

static void on_done(struct block_request *request, int result)
{
    struct slot *slot = request->user;
    struct bench *b = slot->bench;
    b->in_flight--;
    b->done++;
    if (result)
        b->result = result;
    if (!b->result && b->left && (!b->until_ns || os_clock_monotonic_ns() < b->until_ns))
        submit(slot);
}

static int run(struct bench *b, uint64_t depth, struct err *err)
{
    struct slot *slots = calloc(depth, sizeof(*slots));
    uint64_t shares = depth * b->block < MEMORY_MAX_BYTES ? depth : MEMORY_MAX_BYTES / b->block;
    if (b->one_buffer)
        shares = 1;
    uint8_t *memory = os_aligned_alloc(shares * b->block);
    if (!slots || !memory) {
        free(slots);
        os_aligned_free(memory);
        return err_set(err, ERR_LIMIT, "no memory for %llu requests", (unsigned long long)depth);
    }
    memset(memory, 0xa5, shares * b->block);
    b->start_ns = os_clock_monotonic_ns();
    b->until_ns = b->seconds ? b->start_ns + b->seconds * 1000000000ull : 0;
    block_queue_begin(b->queue);
    for (uint64_t i = 0; i < depth; i++) {
        slots[i] = (struct slot){.iov = {memory + i % shares * b->block, b->block}, .bench = b};
        slots[i].request = (struct block_request){.op = b->write ? BLOCK_WRITE : BLOCK_READ,
                                                  .length = b->block,
                                                  .iov = &slots[i].iov,
                                                  .iov_count = 1,
                                                  .queue = b->queue,
                                                  .done = on_done,
                                                  .user = &slots[i]};
        if (b->left)
            submit(&slots[i]);
    }
    block_queue_end(b->queue);
    while (b->in_flight)
        block_queue_wait(b->queue);
    block_disk_drain(b->disk);
    if (!b->result && b->write)
        b->result = block_flush(b->disk);
    free(slots);
    os_aligned_free(memory);
    return b->result ? err_set_errno(err, -b->result, "the disk failed") : 0;
}

static void print_result(const struct disk_words *w, const struct bench *b, uint64_t depth,
                         double seconds)
{
    double rate = (double)b->done / seconds;
    char block[UNITS_SIZE_TEXT_BYTES], bytes[UNITS_SIZE_TEXT_BYTES];
    if (w->json)
        disk_print_json(json_pack("{s:s, s:b, s:b, s:I, s:I, s:f, s:f, s:f}", "file", w->operand[0],
                                  "write", b->write, "random", b->random_order, "block",
                                  (json_int_t)b->block, "depth", (json_int_t)depth, "seconds",
                                  seconds, "requests per second", rate, "bytes per second",
                                  rate * (double)b->block));
    else
        printf("%s %s of %s at depth %llu: %.0f requests/s, %s/s\n",
               b->random_order ? "random" : "sequential", b->write ? "writes" : "reads",
               units_format_size(b->block, block), (unsigned long long)depth, rate,
               units_format_size((uint64_t)(rate * (double)b->block), bytes));
}

int disk_bench(const struct disk_words *w, int *status, struct err *err)
{
    uint64_t depth = 1, seconds = 5, block = 4096, count = 0, step = 0;
    if (w->depth && !units_parse_number(w->depth, 1, DEPTH_MAX, &depth))
        return err_set(err, ERR_USAGE, "--depth '%s': it must be a number from 1 to %d", w->depth,
                       DEPTH_MAX);
    if (w->seconds && !units_parse_number(w->seconds, 1, 3600, &seconds))
        return err_set(err, ERR_USAGE, "--seconds '%s': it must be a number from 1 to 3600",
                       w->seconds);
    if (w->count && !units_parse_number(w->count, 1, 1ull << 40, &count))
        return err_set(err, ERR_USAGE, "--count '%s': it must be a number of requests", w->count);
    if ((w->block && disk_parse_size("--block", w->block, &block, err)) ||
        (w->step && disk_parse_size("--step", w->step, &step, err)))
        return -1;
    if (block < 512 || block > 16 * MIB || block % 512)
        return err_set(err, ERR_USAGE, "--block: it must be a multiple of 512 up to 16M");
    if (step % 512 || (w->step && w->random))
        return err_set(err, ERR_USAGE,
                       "--step: it must be a multiple of 512, and not beside --random");
    if (w->write && !w->force)
        return err_set(err, ERR_USAGE,
                       "--write destroys what is on '%s'; add --force if you mean it",
                       w->operand[0]);
    struct block_chain chain;
    struct disk_opening how = {.format = w->format, .read_only = !w->write, .direct = w->direct};
    struct block_disk *disk = disk_open(w->operand[0], &how, &chain, err);
    if (!disk)
        return -1;
    struct bench b = {.disk = disk,
                      .block = block,
                      .blocks = block_disk_size(disk) / block,
                      .step = step ? step : block,
                      .random = 1,
                      .left = count ? count : UINT64_MAX,
                      .seconds = count ? 0 : seconds,
                      .random_order = w->random,
                      .write = w->write,
                      .one_buffer = w->one_buffer};
    int rc =
        b.blocks ? 0 : err_set(err, ERR_USAGE, "'%s' is smaller than one request", w->operand[0]);
    b.queue = rc ? NULL : block_queue_create_with_ring(err);
    if (!rc)
        rc = b.queue ? run(&b, depth, err) : -1;
    if (!rc)
        print_result(w, &b, depth, (double)(os_clock_monotonic_ns() - b.start_ns) / 1e9);
    block_disk_close(disk);
    block_queue_destroy(b.queue);
    block_chain_close(&chain);
    return rc;
}
