// SPDX-License-Identifier: Apache-2.0
//
// virtio 1.2, 5.2. A request's life: popped with its chain (all checks of memory are behind us then), parsed, submitted
// to the disk, completed on the loop, status written, pushed. Each queue has as many request slots as entries; a
// driver that makes more at once waits for one to come free.
//
// A discard or write zeroes request has up to DISCARD_SEGMENTS parts, which go to the disk one after the other.
//
// Durability: when the driver is told that a flush is done, block_submit(BLOCK_FLUSH) has completed. A driver that did
// not accept flushes, or switched the write cache off, gets BLOCK_FUA on every write instead.
#include "machine/virtio/virtio_blk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define LOG_MODULE "virtio-blk"
#include "base/log.h"

#define CLASS_STORAGE    0x018000u // mass storage, other
#define QUEUE_SIZE       256u
#define DATA_SEGMENTS    (VIRTQ_SEGMENTS - 2)
#define SECTOR_SHIFT     9
#define SECTOR_BYTES     512u
#define HEADER_BYTES     16u
#define DISCARD_SEGMENTS 16u
#define DISCARD_SECTORS  0x3FFFFFu // just below 2 GiB

enum feature {
    FEATURE_SEG_MAX = 2,
    FEATURE_READ_ONLY = 5,
    FEATURE_BLOCK_SIZE = 6,
    FEATURE_FLUSH = 9,
    FEATURE_TOPOLOGY = 10,
    FEATURE_CONFIG_WCE = 11,
    FEATURE_QUEUES = 12,
    FEATURE_DISCARD = 13,
    FEATURE_WRITE_ZEROES = 14,
};

enum request_type {
    TYPE_IN = 0,
    TYPE_OUT = 1,
    TYPE_FLUSH = 4,
    TYPE_GET_ID = 8,
    TYPE_DISCARD = 11,
    TYPE_WRITE_ZEROES = 13
};
enum request_status { STATUS_OK = 0, STATUS_ERROR = 1, STATUS_UNSUPPORTED = 2 };
#define WRITE_ZEROES_UNMAP 1u

struct config {
    uint64_t capacity; // in sectors
    uint32_t size_max;
    uint32_t seg_max;
    uint16_t cylinders;
    uint8_t heads, sectors;
    uint32_t block_size;
    uint8_t physical_block_exponent, alignment_offset;
    uint16_t min_io_size;
    uint32_t optimal_io_size;
    uint8_t write_back;
    uint8_t unused;
    uint16_t queue_count;
    uint32_t max_discard_sectors, max_discard_segments, discard_sector_alignment;
    uint32_t max_write_zeroes_sectors, max_write_zeroes_segments;
    uint8_t write_zeroes_may_unmap;
    uint8_t unused1[3];
};
static_assert(sizeof(struct config) == 64 && offsetof(struct config, write_zeroes_may_unmap) == 56,
              "virtio 1.2, 5.2.4");
#define CONFIG_BYTES 60u

struct range_segment {
    uint64_t sector;
    uint32_t sectors;
    uint32_t flags;
};

struct request {
    struct block_request block;
    struct blk_queue *queue;
    struct request *next_free;
    unsigned segments_done, segments; // of discard and write zeroes
    struct virtq_chain chain;
    struct iovec iov[VIRTQ_SEGMENTS];
};

struct blk_queue {
    struct virtio_blk *blk;
    struct virtio_queue *queue;
    struct request *requests; // owned array
    struct request *free;     // those that were used and are not in flight
    unsigned fresh;           // from here on requests were never used, and take no memory
    bool starved;             // the driver has more than we have slots for
    bool completed;           // something was pushed in this round
};

struct virtio_blk {
    struct virtio_device device;
    struct block_disk *disk;
    char serial[VIRTIO_BLK_SERIAL_BYTES];
    struct config config;
    unsigned queue_count;
    struct blk_queue queues[VIRTIO_BLK_QUEUES_MAX];
    struct block_queue *completions;
    bool own_completions;
    struct block_queue_after after; // announce what was completed
    unsigned done;                  // requests completed and not announced
    struct os_loop_watch watch;     // of completions of our own
};

// ---- Completion; device lock held

static void finish(struct request *request, uint8_t status)
{
    struct blk_queue *queue = request->queue;
    virtq_chain_write(&request->chain, request->chain.in_bytes - 1, &status, 1);
    virtqueue_push(&queue->queue->ring, &request->chain, request->chain.in_bytes);
    queue->completed = true;
    request->next_free = queue->free;
    queue->free = request;
}

static uint8_t status_of(int result)
{
    return result == 0 ? STATUS_OK : result == -EOPNOTSUPP ? STATUS_UNSUPPORTED : STATUS_ERROR;
}

static bool next_segment(struct request *request, uint8_t *status);

// The device may be gone when the lock is: nothing holds it any more.
static void announce(void *context)
{
    struct virtio_blk *blk = context;
    bool loop = blk->device.environment.loop;
    if (loop)
        virtio_lock(&blk->device);
    for (unsigned i = 0; i < blk->queue_count; i++) {
        struct blk_queue *queue = &blk->queues[i];
        if (queue->completed)
            virtio_queue_interrupt(queue->queue);
        queue->completed = false;
        if (queue->starved && loop)
            virtio_device_poke(&blk->device, i);
        queue->starved = false;
    }
    for (; blk->done; blk->done--)
        virtio_device_done(&blk->device);
    if (loop)
        virtio_unlock(&blk->device);
}

// On the loop; without one, on the vCPU that notified, which holds the lock.
static void done(struct block_request *block, int result)
{
    struct request *request = block->user;
    struct virtio_blk *blk = request->queue->blk;
    uint8_t status = status_of(result);
    bool loop = blk->device.environment.loop;
    if (loop)
        virtio_lock(&blk->device);
    if (result != 0 || request->segments_done == request->segments ||
        !next_segment(request, &status)) {
        finish(request, status);
        blk->done++;
        block_queue_after(blk->completions, &blk->after);
    }
    if (loop)
        virtio_unlock(&blk->device);
}

static void completions_ready(void *context, unsigned events)
{
    struct virtio_blk *blk = context;
    block_queue_run(blk->completions);
}

// ---- Requests. These return true when the disk has the request, or false and *status.

static void submit(struct request *request, enum block_op op, uint32_t flags, uint64_t sector,
                   uint64_t length)
{
    request->block.op = op;
    request->block.flags = flags;
    request->block.offset = sector << SECTOR_SHIFT;
    request->block.length = length;
    request->block.queue = request->queue->blk->completions;
    request->block.done = done;
    request->block.user = request;
    block_submit(request->queue->blk->disk, &request->block);
}

// The disk checks the range against its size; here it only must not overflow.
static bool sector_fits(uint64_t sector)
{
    return sector <= UINT64_MAX >> SECTOR_SHIFT;
}

static bool write_through(const struct virtio_blk *blk)
{
    if (!virtio_has(&blk->device, BIT(FEATURE_FLUSH)))
        return true;
    return virtio_has(&blk->device, BIT(FEATURE_CONFIG_WCE)) && !blk->config.write_back;
}

static bool transfer(struct request *request, bool write, uint64_t sector, uint8_t *status)
{
    struct virtio_blk *blk = request->queue->blk;
    const struct virtq_chain *chain = &request->chain;
    size_t length = write ? chain->out_bytes - HEADER_BYTES : chain->in_bytes - 1;
    *status = STATUS_ERROR;
    if (!length || length % SECTOR_BYTES || !sector_fits(sector))
        return false;
    unsigned count =
        write ? virtq_slice(chain->iov, chain->out_count, HEADER_BYTES, length, request->iov)
              : virtq_slice(virtq_chain_in(chain), chain->in_count, 0, length, request->iov);
    request->block.iov = request->iov;
    request->block.iov_count = (int)count;
    submit(request, write ? BLOCK_WRITE : BLOCK_READ, write && write_through(blk) ? BLOCK_FUA : 0,
           sector, length);
    return true;
}

static bool next_segment(struct request *request, uint8_t *status)
{
    struct range_segment segment;
    virtq_chain_read(&request->chain, HEADER_BYTES + request->segments_done * sizeof(segment),
                     &segment, sizeof(segment));
    request->segments_done++;
    bool zeroes = request->block.op == BLOCK_WRITE_ZEROES;
    *status = STATUS_UNSUPPORTED;
    if (segment.flags & ~(zeroes ? WRITE_ZEROES_UNMAP : 0))
        return false;
    *status = STATUS_ERROR;
    if (!sector_fits(segment.sector) || segment.sectors > DISCARD_SECTORS)
        return false;
    uint32_t flags = (segment.flags & WRITE_ZEROES_UNMAP ? (uint32_t)BLOCK_UNMAP : 0) |
                     (write_through(request->queue->blk) ? (uint32_t)BLOCK_FUA : 0);
    submit(request, request->block.op, flags, segment.sector,
           (uint64_t)segment.sectors << SECTOR_SHIFT);
    return true;
}

static bool ranges(struct request *request, enum block_op op, uint8_t *status)
{
    size_t bytes = request->chain.out_bytes - HEADER_BYTES;
    *status = STATUS_ERROR;
    if (!bytes || bytes % sizeof(struct range_segment) ||
        bytes / sizeof(struct range_segment) > DISCARD_SEGMENTS)
        return false;
    request->segments = (unsigned)(bytes / sizeof(struct range_segment));
    request->segments_done = 0;
    request->block.op = op;
    return next_segment(request, status);
}

static uint8_t get_id(struct request *request)
{
    struct virtio_blk *blk = request->queue->blk;
    size_t room = request->chain.in_bytes - 1;
    virtq_chain_write(&request->chain, 0, blk->serial,
                      room < sizeof(blk->serial) ? room : sizeof(blk->serial));
    return STATUS_OK;
}

static bool begin(struct request *request, uint8_t *status)
{
    struct {
        uint32_t type;
        uint32_t reserved;
        uint64_t sector;
    } header;
    static_assert(sizeof(header) == HEADER_BYTES, "virtio 1.2, 5.2.6");
    virtq_chain_read(&request->chain, 0, &header, sizeof(header));
    request->segments = request->segments_done = 0;
    switch (header.type) {
    case TYPE_IN:
        return transfer(request, false, header.sector, status);
    case TYPE_OUT:
        return transfer(request, true, header.sector, status);
    case TYPE_FLUSH:
        submit(request, BLOCK_FLUSH, 0, 0, 0);
        return true;
    case TYPE_GET_ID:
        *status = get_id(request);
        return false;
    case TYPE_DISCARD:
        return ranges(request, BLOCK_DISCARD, status);
    case TYPE_WRITE_ZEROES:
        return ranges(request, BLOCK_WRITE_ZEROES, status);
    default:
        *status = STATUS_UNSUPPORTED;
        return false;
    }
}

// ---- The queue; device lock held

static void handle(struct blk_queue *queue, struct request *request)
{
    struct virtio_blk *blk = queue->blk;
    uint8_t status = STATUS_OK;
    virtio_device_begin(&blk->device);
    if (!begin(request, &status)) {
        finish(request, status);
        virtio_device_done(&blk->device);
    }
    while (!blk->device.environment.loop && blk->device.in_flight)
        block_queue_wait(blk->completions);
}

static struct request *take_free(struct blk_queue *queue)
{
    struct request *request = queue->free;
    if (request) {
        queue->free = request->next_free;
    } else if (queue->fresh < QUEUE_SIZE) {
        request = &queue->requests[queue->fresh++];
        request->queue = queue;
    } else {
        queue->starved = true;
    }
    return request;
}

static void give_back(struct blk_queue *queue, struct request *request)
{
    request->next_free = queue->free;
    queue->free = request;
}

static bool process(void *self, unsigned index)
{
    struct virtio_blk *blk = self;
    struct blk_queue *queue = &blk->queues[index];
    struct virtqueue *ring = &queue->queue->ring;
    unsigned budget = QUEUE_SIZE;
    struct request *request;
    virtqueue_silence(ring);
    block_queue_begin(blk->completions);
    while ((request = take_free(queue))) {
        if (virtqueue_next(ring, &request->chain, &budget) <= 0) {
            give_back(queue, request);
            break;
        }
        if (request->chain.out_bytes < HEADER_BYTES || request->chain.in_bytes < 1) {
            give_back(queue, request);
            virtio_device_break(&blk->device, "a request without header or status");
            break;
        }
        handle(queue, request);
    }
    block_queue_end(blk->completions);
    if (queue->completed)
        virtio_queue_interrupt(queue->queue);
    queue->completed = false;
    return !budget;
}

static unsigned held(void *self)
{
    struct block_stats stats;
    block_disk_stats(((struct virtio_blk *)self)->disk, &stats);
    return (unsigned)stats.held;
}

static void config_write(void *self, unsigned offset, const void *bytes, unsigned length)
{
    struct virtio_blk *blk = self;
    if (offset == offsetof(struct config, write_back) && length == 1)
        blk->config.write_back = *(const uint8_t *)bytes & 1;
}

static void stop(void *self)
{
    struct virtio_blk *blk = self;
    blk->config.write_back = 1;
}

static const struct virtio_ops ops = {
    .process = process, .held = held, .config_write = config_write, .stop = stop};

static const struct field fields[] = {
    FIELD_U8_MAX(struct virtio_blk, config.write_back, 1),
};

static const struct device_ops device_ops = {
    .kind = "virtio-blk",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
};

// ---- Making

static void fill_config(struct virtio_blk *blk)
{
    const struct block_limits *limits = block_disk_limits(blk->disk);
    struct config *config = &blk->config;
    config->capacity = block_disk_size(blk->disk) >> SECTOR_SHIFT;
    config->seg_max = DATA_SEGMENTS;
    config->block_size = limits->logical_block_size;
    for (uint32_t n = limits->physical_block_size / limits->logical_block_size; n > 1; n >>= 1)
        config->physical_block_exponent++;
    config->min_io_size = (uint16_t)(limits->physical_block_size / limits->logical_block_size);
    config->optimal_io_size = limits->optimal_io_size / limits->logical_block_size;
    config->write_back = 1;
    config->queue_count = (uint16_t)blk->queue_count;
    config->max_discard_sectors = config->max_write_zeroes_sectors = DISCARD_SECTORS;
    config->max_discard_segments = config->max_write_zeroes_segments = DISCARD_SEGMENTS;
    config->discard_sector_alignment = (uint32_t)(limits->discard_granularity >> SECTOR_SHIFT);
    config->write_zeroes_may_unmap = limits->can_discard;
}

static uint64_t features(const struct virtio_blk *blk)
{
    const struct block_limits *limits = block_disk_limits(blk->disk);
    uint64_t features = BIT(FEATURE_SEG_MAX) | BIT(FEATURE_BLOCK_SIZE) | BIT(FEATURE_FLUSH) |
                        BIT(FEATURE_TOPOLOGY) | BIT(FEATURE_CONFIG_WCE);
    if (blk->queue_count > 1)
        features |= BIT(FEATURE_QUEUES);
    if (limits->read_only)
        return features | BIT(FEATURE_READ_ONLY);
    if (limits->can_discard)
        features |= BIT(FEATURE_DISCARD);
    return features | BIT(FEATURE_WRITE_ZEROES);
}

static int init_queue(struct virtio_blk *blk, unsigned index)
{
    struct blk_queue *queue = &blk->queues[index];
    queue->blk = blk;
    queue->queue = &blk->device.queues[index];
    queue->requests = calloc(QUEUE_SIZE, sizeof(*queue->requests));
    return queue->requests ? 0 : -1;
}

static int init_parts(struct virtio_blk *blk, struct err *err)
{
    for (unsigned i = 0; i < blk->queue_count; i++)
        if (init_queue(blk, i) < 0)
            return err_set_errno(err, ENOMEM, "request slots");
    if (!blk->completions) {
        blk->completions = block_queue_create(err);
        blk->own_completions = true;
    }
    return blk->completions ? 0 : -1;
}

struct watch_call {
    struct virtio_blk *blk;
    struct err *err;
    int result;
};

static void begin_watch(void *context)
{
    struct watch_call *call = context;
    struct virtio_blk *blk = call->blk;
    blk->watch = (struct os_loop_watch){.ready = completions_ready, .context = blk};
    call->result = os_loop_watch(blk->device.environment.loop, &blk->watch,
                                 block_queue_fd(blk->completions), OS_LOOP_READ, call->err);
}

static void end_watch(void *context)
{
    struct virtio_blk *blk = context;
    os_loop_unwatch(blk->device.environment.loop, &blk->watch);
}

static int init_device(struct virtio_blk *blk, const struct virtio_environment *environment,
                       const struct virtio_blk_params *params, struct err *err)
{
    uint16_t sizes[VIRTIO_BLK_QUEUES_MAX];
    for (unsigned i = 0; i < VIRTIO_BLK_QUEUES_MAX; i++)
        sizes[i] = QUEUE_SIZE;
    struct virtio_setup setup = {
        .name = params->name,
        .kind = VIRTIO_BLK,
        .class_code = CLASS_STORAGE,
        .ops = &ops,
        .self = blk,
        .features = features(blk),
        .queue_count = blk->queue_count,
        .queue_sizes = sizes,
        .config = &blk->config,
        .config_length = CONFIG_BYTES,
        .device_ops = &device_ops,
    };
    return virtio_device_init(&blk->device, environment, &setup, err);
}

struct virtio_blk *virtio_blk_create(const struct virtio_environment *environment,
                                     const struct virtio_blk_params *params, struct err *err)
{
    if (params->queues > VIRTIO_BLK_QUEUES_MAX ||
        (params->serial && strlen(params->serial) > VIRTIO_BLK_SERIAL_BYTES)) {
        err_set(err, ERR_USAGE, "%s: at most %u queues and a serial number of at most %u bytes",
                params->name, VIRTIO_BLK_QUEUES_MAX, VIRTIO_BLK_SERIAL_BYTES);
        return NULL;
    }
    struct virtio_blk *blk = calloc(1, sizeof(*blk));
    if (!blk) {
        err_set_errno(err, ENOMEM, "%s", params->name);
        return NULL;
    }
    blk->disk = params->disk;
    blk->queue_count = params->queues ? params->queues : 1;
    blk->completions = params->completions;
    blk->after = (struct block_queue_after){.function = announce, .context = blk};
    if (params->serial)
        memcpy(blk->serial, params->serial, strlen(params->serial));
    fill_config(blk);
    if (init_device(blk, environment, params, err) < 0) {
        free(blk);
        return NULL;
    }
    struct watch_call call = {.blk = blk, .err = err};
    if (init_parts(blk, err) == 0 && blk->own_completions && environment->loop)
        os_loop_call(environment->loop, begin_watch, &call);
    if (!blk->completions || call.result < 0) {
        err_wrap(err, "%s", params->name);
        virtio_blk_destroy(blk);
        return NULL;
    }
    return blk;
}

void virtio_blk_destroy(struct virtio_blk *blk)
{
    if (!blk)
        return;
    virtio_device_quiesce(&blk->device);
    if (blk->device.environment.loop)
        os_loop_call(blk->device.environment.loop, end_watch, blk);
    if (blk->own_completions)
        block_queue_destroy(blk->completions);
    for (unsigned i = 0; i < blk->queue_count; i++)
        free(blk->queues[i].requests);
    virtio_device_fini(&blk->device);
    free(blk);
}

struct virtio_device *virtio_blk_device(struct virtio_blk *blk)
{
    return &blk->device;
}

void virtio_blk_stopped(struct virtio_blk *blk)
{
    virtio_lock(&blk->device);
    virtio_device_held(&blk->device);
    virtio_unlock(&blk->device);
}

void virtio_blk_resized(struct virtio_blk *blk)
{
    virtio_lock(&blk->device);
    blk->config.capacity = block_disk_size(blk->disk) >> SECTOR_SHIFT;
    virtio_config_changed(&blk->device);
    virtio_unlock(&blk->device);
}
