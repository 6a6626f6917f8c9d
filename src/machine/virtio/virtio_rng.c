// SPDX-License-Identifier: Apache-2.0
#include "machine/virtio/virtio_rng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "os/random.h"

#define CLASS_OTHER   0xFF0000u
#define QUEUE_SIZE    64u
#define REQUEST_BYTES 4096u // at most so many random bytes for one request

struct virtio_rng {
    struct virtio_device device;
    uint64_t state; // of the deterministic generator; 0: the host's is used
};

// xorshift64*: enough for tests that want the same bytes each time.
static void generate(struct virtio_rng *rng, uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        rng->state ^= rng->state >> 12;
        rng->state ^= rng->state << 25;
        rng->state ^= rng->state >> 27;
        bytes[i] = (uint8_t)((rng->state * 0x2545F4914F6CDD1Dull) >> 56);
    }
}

static size_t fill(struct virtio_rng *rng, const struct virtq_chain *chain)
{
    uint8_t bytes[REQUEST_BYTES];
    size_t length = chain->in_bytes < sizeof(bytes) ? chain->in_bytes : sizeof(bytes);
    if (rng->state)
        generate(rng, bytes, length);
    else
        os_random_bytes(bytes, length);
    return virtq_chain_write(chain, 0, bytes, length);
}

static bool process(void *self, unsigned index)
{
    struct virtio_rng *rng = self;
    struct virtio_queue *queue = &rng->device.queues[index];
    struct virtq_chain chain;
    unsigned budget = QUEUE_SIZE;
    while (virtqueue_next(&queue->ring, &chain, &budget) > 0)
        virtqueue_push(&queue->ring, &chain, fill(rng, &chain));
    virtio_queue_interrupt(queue);
    return !budget;
}

static const struct virtio_ops ops = {.process = process};

static const struct field fields[] = {
    FIELD_U64(struct virtio_rng, state),
};

static const struct device_ops device_ops = {
    .kind = "virtio-rng",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
};

struct virtio_rng *virtio_rng_create(const struct virtio_environment *environment,
                                     const struct virtio_rng_params *params, struct err *err)
{
    struct virtio_rng *rng = calloc(1, sizeof(*rng));
    if (!rng) {
        err_set_errno(err, ENOMEM, "%s", params->name);
        return NULL;
    }
    rng->state = params->seed;
    static const uint16_t sizes[] = {QUEUE_SIZE};
    struct virtio_setup setup = {
        .name = params->name,
        .kind = VIRTIO_RNG,
        .class_code = CLASS_OTHER,
        .ops = &ops,
        .self = rng,
        .queue_count = 1,
        .queue_sizes = sizes,
        .device_ops = &device_ops,
    };
    if (virtio_device_init(&rng->device, environment, &setup, err) < 0) {
        free(rng);
        return NULL;
    }
    return rng;
}

void virtio_rng_destroy(struct virtio_rng *rng)
{
    if (!rng)
        return;
    virtio_device_quiesce(&rng->device);
    virtio_device_fini(&rng->device);
    free(rng);
}

struct virtio_device *virtio_rng_device(struct virtio_rng *rng)
{
    return &rng->device;
}
