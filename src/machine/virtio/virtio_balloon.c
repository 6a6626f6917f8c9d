// SPDX-License-Identifier: Apache-2.0
//
// Queues: 0 pages that the guest gives up, 1 pages that it takes back, then, as far as negotiated, statistics and free
// page reports. (Drivers number only the queues they use.)
//
// The statistics buffer stays in the ring, unused, until new ones are wanted: handing it back is the request.
#include "machine/virtio/virtio_balloon.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "machine/memory/guest_memory.h"

#define LOG_MODULE "virtio-balloon"
#include "base/log.h"

#define CLASS_OTHER   0xFF0000u
#define QUEUE_SIZE    128u
#define QUEUE_INFLATE 0u
#define QUEUE_DEFLATE 1u
#define QUEUE_COUNT   4u
#define PAGES_MAX     65536u // in one request; more are ignored
#define PAGES_AT_ONCE 256u
#define STAT_BYTES    10u

enum feature { FEATURE_STATS = 1, FEATURE_DEFLATE_ON_OOM = 2, FEATURE_REPORTING = 5 };

const char *const virtio_balloon_stat_names[] = {
    [BALLOON_SWAP_IN] = "swap-in",
    [BALLOON_SWAP_OUT] = "swap-out",
    [BALLOON_MAJOR_FAULTS] = "major-faults",
    [BALLOON_MINOR_FAULTS] = "minor-faults",
    [BALLOON_FREE] = "free",
    [BALLOON_TOTAL] = "total",
    [BALLOON_AVAILABLE] = "available",
    [BALLOON_CACHES] = "caches",
    [BALLOON_HUGE_PAGES] = "huge-pages",
    [BALLOON_HUGE_PAGE_FAILURES] = "huge-page-failures",
};
static_assert(ARRAY_LENGTH(virtio_balloon_stat_names) == BALLOON_STAT_COUNT,
              "a name for each statistic");

struct config {
    uint32_t target_pages;
    uint32_t taken_pages;
};

struct virtio_balloon {
    struct virtio_device device;
    struct config config; // saved
    struct virtio_balloon_stats stats;
    void (*changed)(void *context); // NULL: nobody is interested
    void *context;
};

static void tell_change(const struct virtio_balloon *balloon)
{
    if (balloon->changed)
        balloon->changed(balloon->context);
}

static unsigned stats_queue(const struct virtio_balloon *balloon)
{
    return virtio_has(&balloon->device, BIT(FEATURE_STATS)) ? 2 : QUEUE_COUNT;
}

static unsigned reporting_queue(const struct virtio_balloon *balloon)
{
    if (!virtio_has(&balloon->device, BIT(FEATURE_REPORTING)))
        return QUEUE_COUNT;
    return virtio_has(&balloon->device, BIT(FEATURE_STATS)) ? 3 : 2;
}

// ---- Pages; device lock held

static int discard(struct virtio_balloon *balloon, uint64_t start, uint64_t length)
{
    int result = guest_memory_discard(balloon->device.environment.memory, gpa(start), length);
    if (result < 0)
        log_guest("%s: cannot give back 0x%llx bytes at 0x%llx: %s", balloon->device.name,
                  (unsigned long long)length, (unsigned long long)start, strerror(-result));
    return result;
}

// Runs of neighbours, in either direction, go as one.
static void discard_pages(struct virtio_balloon *balloon, const uint32_t *pages, size_t count)
{
    for (size_t i = 0; i < count;) {
        uint64_t low = pages[i], high = low + 1; // [low, high)
        for (i++; i < count && (pages[i] == high || pages[i] + 1ull == low); i++)
            if (pages[i] == high)
                high++;
            else
                low--;
        discard(balloon, low << PAGE_SHIFT, (high - low) << PAGE_SHIFT);
    }
}

static void inflate(struct virtio_balloon *balloon, const struct virtq_chain *chain)
{
    uint32_t pages[PAGES_AT_ONCE];
    size_t offset = 0, n;
    while (offset < PAGES_MAX * sizeof(*pages) &&
           (n = virtq_chain_read(chain, offset, pages, sizeof(pages))) > 0) {
        discard_pages(balloon, pages, n / sizeof(*pages));
        offset += n;
    }
}

static void report(struct virtio_balloon *balloon, const struct virtq_chain *chain)
{
    for (unsigned i = chain->out_count; i < (unsigned)chain->out_count + chain->in_count; i++) {
        uint64_t start = align_up(chain->at[i].at, PAGE_BYTES);
        uint64_t end = align_down(chain->at[i].at + chain->iov[i].iov_len, PAGE_BYTES);
        if (start < end && discard(balloon, start, end - start) == 0)
            balloon->stats.reported_bytes += end - start;
    }
}

// ---- Statistics

static void read_stats(struct virtio_balloon *balloon, const struct virtq_chain *chain)
{
    uint8_t stat[STAT_BYTES];
    memset(balloon->stats.values, 0xFF, sizeof(balloon->stats.values));
    for (size_t i = 0; i < 4 * BALLOON_STAT_COUNT; i++) {
        if (virtq_chain_read(chain, i * STAT_BYTES, stat, sizeof(stat)) < sizeof(stat))
            break;
        uint16_t tag = load_le16(stat);
        if (tag < BALLOON_STAT_COUNT)
            balloon->stats.values[tag] = load_le64(stat + 2);
    }
    balloon->stats.updates++;
    tell_change(balloon);
}

static bool process_stats(struct virtio_balloon *balloon, struct virtio_queue *queue)
{
    struct virtq_chain chain;
    if (virtqueue_next(&queue->ring, &chain, NULL) > 0) {
        read_stats(balloon, &chain);
        virtqueue_unpop(&queue->ring);
    }
    return false;
}

// The queue, if the guest has a driver that uses it. Lock held.
static struct virtio_queue *live_stats_queue(struct virtio_balloon *balloon)
{
    unsigned index = stats_queue(balloon);
    bool live = virtio_running(&balloon->device) && index < QUEUE_COUNT &&
                balloon->device.queues[index].ring.enabled;
    return live ? &balloon->device.queues[index] : NULL;
}

bool virtio_balloon_tells(struct virtio_balloon *balloon)
{
    virtio_lock(&balloon->device);
    bool tells = live_stats_queue(balloon);
    virtio_unlock(&balloon->device);
    return tells;
}

bool virtio_balloon_request_stats(struct virtio_balloon *balloon)
{
    struct virtio_device *device = &balloon->device;
    virtio_lock(device);
    struct virtio_queue *queue = live_stats_queue(balloon);
    struct virtq_chain chain;
    if (queue) {
        if (virtqueue_next(&queue->ring, &chain, NULL) > 0)
            virtqueue_push(&queue->ring, &chain, 0);
        virtqueue_listen(&queue->ring);
        virtio_queue_interrupt(queue);
    }
    virtio_unlock(device);
    return queue;
}

void virtio_balloon_stats(struct virtio_balloon *balloon, struct virtio_balloon_stats *stats)
{
    virtio_lock(&balloon->device);
    *stats = balloon->stats;
    virtio_unlock(&balloon->device);
}

// ---- The device

static bool process(void *self, unsigned index)
{
    struct virtio_balloon *balloon = self;
    struct virtio_queue *queue = &balloon->device.queues[index];
    if (index == stats_queue(balloon))
        return process_stats(balloon, queue);
    struct virtq_chain chain;
    unsigned budget = QUEUE_SIZE;
    while (virtqueue_next(&queue->ring, &chain, &budget) > 0) {
        if (index == QUEUE_INFLATE)
            inflate(balloon, &chain);
        else if (index == reporting_queue(balloon))
            report(balloon, &chain);
        virtqueue_push(&queue->ring, &chain,
                       0); // pages taken back come by themselves when they are touched
    }
    virtio_queue_interrupt(queue);
    return !budget;
}

static void config_write(void *self, unsigned offset, const void *bytes, unsigned length)
{
    struct virtio_balloon *balloon = self;
    if (offset == offsetof(struct config, taken_pages) &&
        length == sizeof(balloon->config.taken_pages))
        balloon->config.taken_pages = load_le32(bytes);
    tell_change(balloon);
}

static void stop(void *self)
{
    struct virtio_balloon *balloon = self;
    balloon->config.taken_pages = 0; // a new driver starts with an empty balloon
    memset(balloon->stats.values, 0xFF, sizeof(balloon->stats.values));
    tell_change(balloon);
}

static const struct virtio_ops ops = {
    .process = process, .config_write = config_write, .stop = stop};

static const struct field fields[] = {
    FIELD_U32(struct virtio_balloon, config.target_pages),
    FIELD_U32(struct virtio_balloon, config.taken_pages),
};

static const struct device_ops device_ops = {
    .kind = "virtio-balloon",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
};

struct virtio_balloon *virtio_balloon_create(const struct virtio_environment *environment,
                                             const struct virtio_balloon_params *params,
                                             struct err *err)
{
    struct virtio_balloon *balloon = calloc(1, sizeof(*balloon));
    if (!balloon) {
        err_set_errno(err, ENOMEM, "%s", params->name);
        return NULL;
    }
    memset(balloon->stats.values, 0xFF, sizeof(balloon->stats.values));
    balloon->changed = params->changed;
    balloon->context = params->context;
    static const uint16_t sizes[QUEUE_COUNT] = {QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE};
    struct virtio_setup setup = {
        .name = params->name,
        .kind = VIRTIO_BALLOON,
        .class_code = CLASS_OTHER,
        .ops = &ops,
        .self = balloon,
        .features = BIT(FEATURE_STATS) | BIT(FEATURE_DEFLATE_ON_OOM) | BIT(FEATURE_REPORTING),
        .queue_count = QUEUE_COUNT,
        .queue_sizes = sizes,
        .config = &balloon->config,
        .config_length = sizeof(balloon->config),
        .device_ops = &device_ops,
    };
    if (virtio_device_init(&balloon->device, environment, &setup, err) < 0) {
        free(balloon);
        return NULL;
    }
    return balloon;
}

void virtio_balloon_destroy(struct virtio_balloon *balloon)
{
    if (!balloon)
        return;
    virtio_device_quiesce(&balloon->device);
    virtio_device_fini(&balloon->device);
    free(balloon);
}

struct virtio_device *virtio_balloon_device(struct virtio_balloon *balloon)
{
    return &balloon->device;
}

void virtio_balloon_set_target(struct virtio_balloon *balloon, uint64_t bytes)
{
    uint64_t limit = guest_memory_ram_bytes(balloon->device.environment.memory);
    virtio_lock(&balloon->device);
    balloon->config.target_pages = (uint32_t)((bytes < limit ? bytes : limit) >> PAGE_SHIFT);
    virtio_config_changed(&balloon->device);
    virtio_unlock(&balloon->device);
}

uint64_t virtio_balloon_target(struct virtio_balloon *balloon)
{
    virtio_lock(&balloon->device);
    uint64_t pages = balloon->config.target_pages;
    virtio_unlock(&balloon->device);
    return pages << PAGE_SHIFT;
}

uint64_t virtio_balloon_taken(struct virtio_balloon *balloon)
{
    virtio_lock(&balloon->device);
    uint64_t pages = balloon->config.taken_pages;
    virtio_unlock(&balloon->device);
    return pages << PAGE_SHIFT;
}
