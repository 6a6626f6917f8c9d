// SPDX-License-Identifier: Apache-2.0
//
// Sending: the header is copied and checked, the frame's bytes go to the end as they lie in guest memory.
//
// Receiving: a frame is written into as many buffers as it needs (one without mergeable buffers); they are pushed
// as they are filled, and published together when the frame is whole. When the driver has too few, all are
// taken back and the end waits until the driver notifies the queue.
#include "machine/virtio/virtio_net.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define LOG_MODULE "virtio-net"
#include "base/log.h"

#define CLASS_ETHERNET 0x020000u
#define QUEUE_SIZE     256u
#define CONTROL_SIZE   64u
#define QUEUE_RECEIVE  0u
#define QUEUE_SEND     1u
#define QUEUE_CONTROL  2u
#define STATUS_LINK_UP 1u

enum feature {
    FEATURE_CHECKSUM = 0,
    FEATURE_GUEST_CHECKSUM = 1,
    FEATURE_CONTROL_OFFLOADS = 2,
    FEATURE_MAC = 5,
    FEATURE_GUEST_TSO4 = 7,
    FEATURE_GUEST_TSO6 = 8,
    FEATURE_HOST_TSO4 = 11,
    FEATURE_HOST_TSO6 = 12,
    FEATURE_MERGE_BUFFERS = 15,
    FEATURE_STATUS = 16,
    FEATURE_CONTROL_QUEUE = 17,
    FEATURE_CONTROL_RECEIVE = 18,
    FEATURE_CONTROL_MAC = 23,
};

enum control_class { CONTROL_RECEIVE = 0, CONTROL_MAC = 1, CONTROL_OFFLOADS = 5 };
enum control_mac { CONTROL_MAC_TABLE = 0, CONTROL_MAC_ADDRESS = 1 };
enum control_ack { CONTROL_OK = 0, CONTROL_ERROR = 1 };

struct config {
    uint8_t mac[6];
    uint16_t status;
};
static_assert(sizeof(struct config) == 8, "virtio 1.2, 5.1.4");

struct virtio_net {
    struct virtio_device device;
    struct net_end *end; // owned
    uint8_t initial_mac[6];
    struct config config;    // saved
    uint64_t guest_offloads; // saved: what the driver accepts now, as feature bits
    bool starved;            // the end waits for receive buffers
    struct os_loop_post offload_changed;
    struct virtio_net_stats stats;
    struct virtq_chain chain, first; // the loop's scratch
    struct iovec iov[VIRTQ_SEGMENTS];
};

static struct virtio_queue *queue(struct virtio_net *net, unsigned index)
{
    return &net->device.queues[index];
}

// ---- Sending; device lock held

// Offsets in the header must lie in the frame, or those who finish the checksum would write outside.
static bool header_is_sane(const struct virtio_net *net, const struct net_header *header,
                           size_t length)
{
    unsigned kind = header->segmentation & ~(unsigned)NET_SEGMENT_ECN;
    if (kind == NET_SEGMENT_NONE ? header->segmentation != 0
                                 : !(header->flags & NET_NEEDS_CHECKSUM) || !header->segment_size ||
                                       header->header_length > length)
        return false;
    if ((kind == NET_SEGMENT_TCP4 && !virtio_has(&net->device, BIT(FEATURE_HOST_TSO4))) ||
        (kind == NET_SEGMENT_TCP6 && !virtio_has(&net->device, BIT(FEATURE_HOST_TSO6))) ||
        (kind != NET_SEGMENT_NONE && kind != NET_SEGMENT_TCP4 && kind != NET_SEGMENT_TCP6))
        return false;
    if (header->flags & NET_NEEDS_CHECKSUM)
        return virtio_has(&net->device, BIT(FEATURE_CHECKSUM)) &&
               (size_t)header->checksum_start + header->checksum_offset + 2 <= length;
    return true;
}

// 0, or -EAGAIN when the end takes no frame now.
static int send_chain(struct virtio_net *net, const struct virtq_chain *chain)
{
    struct net_header header;
    size_t length = chain->out_bytes - NET_HEADER_BYTES;
    if (chain->out_bytes < NET_HEADER_BYTES + NET_FRAME_BYTES_MIN || length > NET_FRAME_BYTES_MAX ||
        virtq_chain_read(chain, 0, &header, sizeof(header)) != sizeof(header) ||
        !header_is_sane(net, &header, length)) {
        net->stats.dropped_frames++;
        return 0;
    }
    header.buffers = 0;
    if (!(net->config.status & STATUS_LINK_UP))
        return 0;
    unsigned count = virtq_slice(chain->iov, chain->out_count, NET_HEADER_BYTES, length, net->iov);
    int result = net_end_send(net->end, &header, net->iov, count);
    if (result == 0) {
        net->stats.sent_frames++;
        net->stats.sent_bytes += length;
    }
    return result;
}

static bool process_send(struct virtio_net *net)
{
    struct virtio_queue *sending = queue(net, QUEUE_SEND);
    unsigned budget = QUEUE_SIZE;
    virtqueue_silence(&sending->ring);
    while (virtqueue_next(&sending->ring, &net->chain, &budget) > 0) {
        if (send_chain(net, &net->chain) == -EAGAIN) {
            virtqueue_unpop(&sending->ring); // until `writable`
            budget = QUEUE_SIZE;
            break;
        }
        virtqueue_push(&sending->ring, &net->chain, 0);
    }
    virtio_queue_interrupt(sending);
    return !budget;
}

// ---- Offloads on receiving

// On the loop, which is the end's thread; without locks.
static void tell_end(void *context)
{
    struct virtio_net *net = context;
    virtio_lock(&net->device);
    uint64_t accept = net->guest_offloads;
    virtio_unlock(&net->device);
    unsigned offload = 0;
    if (accept & BIT(FEATURE_GUEST_CHECKSUM)) {
        offload |= NET_OFFLOAD_CHECKSUM;
        offload |= accept & BIT(FEATURE_GUEST_TSO4) ? (unsigned)NET_OFFLOAD_TSO4 : 0;
        offload |= accept & BIT(FEATURE_GUEST_TSO6) ? (unsigned)NET_OFFLOAD_TSO6 : 0;
    }
    net_end_set_offload(net->end, offload);
}

// An inline machine's ends have no use for offloads.
static void apply_offloads(struct virtio_net *net)
{
    if (net->device.environment.loop)
        os_loop_post(net->device.environment.loop, &net->offload_changed);
}

// The end may not have heard yet what the driver accepts.
static bool driver_accepts(const struct virtio_net *net, const struct net_header *header)
{
    switch (header->segmentation & ~(unsigned)NET_SEGMENT_ECN) {
    case NET_SEGMENT_NONE:
        return !(header->flags & NET_NEEDS_CHECKSUM) ||
               net->guest_offloads & BIT(FEATURE_GUEST_CHECKSUM);
    case NET_SEGMENT_TCP4:
        return net->guest_offloads & BIT(FEATURE_GUEST_TSO4);
    case NET_SEGMENT_TCP6:
        return net->guest_offloads & BIT(FEATURE_GUEST_TSO6);
    default:
        return false;
    }
}

// ---- Receiving; device lock held

enum outcome { TAKEN, DROPPED, NO_BUFFERS };

// Fills buffers; *used of them were pushed, the first is net->first.
static enum outcome scatter(struct virtio_net *net, const struct net_header *header,
                            const uint8_t *frame, size_t length, unsigned *used)
{
    struct virtqueue *ring = &queue(net, QUEUE_RECEIVE)->ring;
    bool merge = virtio_has(&net->device, BIT(FEATURE_MERGE_BUFFERS));
    size_t done = 0;
    for (*used = 0; done < length || !*used; ++*used) {
        struct virtq_chain *chain = *used ? &net->chain : &net->first;
        if (virtqueue_next(ring, chain, NULL) <= 0)
            return NO_BUFFERS;
        size_t head = *used ? 0 : NET_HEADER_BYTES;
        if (chain->in_bytes <= head || (!merge && chain->in_bytes < head + length)) {
            virtqueue_unpop(ring);
            return DROPPED;
        }
        if (head)
            virtq_chain_write(chain, 0, header, head);
        size_t n = virtq_chain_write(chain, head, frame + done, length - done);
        virtqueue_push(ring, chain, head + n);
        done += n;
    }
    return TAKEN;
}

static enum outcome receive_locked(struct virtio_net *net, const struct net_header *from_end,
                                   const uint8_t *frame, size_t length)
{
    struct virtio_queue *receiving = queue(net, QUEUE_RECEIVE);
    if (!virtio_running(&net->device) || !receiving->ring.enabled ||
        !(net->config.status & STATUS_LINK_UP))
        return net->device.paused ? NO_BUFFERS : DROPPED;
    if (!driver_accepts(net, from_end))
        return DROPPED;
    struct net_header header = *from_end;
    header.buffers = 1;
    if (!virtio_has(&net->device, BIT(FEATURE_GUEST_CHECKSUM)))
        header.flags = 0;
    unsigned used;
    enum outcome outcome = scatter(net, &header, frame, length, &used);
    if (outcome != TAKEN) {
        virtqueue_unpush(&receiving->ring, used);
    } else if (used > 1) {
        uint16_t buffers = (uint16_t)used;
        virtq_chain_write(&net->first, offsetof(struct net_header, buffers), &buffers,
                          sizeof(buffers));
    }
    virtio_queue_interrupt(receiving);
    return outcome;
}

static bool receive(void *context, const struct net_header *header, const uint8_t *frame,
                    size_t length)
{
    struct virtio_net *net = context;
    virtio_lock(&net->device);
    enum outcome outcome = receive_locked(net, header, frame, length);
    if (outcome == TAKEN) {
        net->stats.received_frames++;
        net->stats.received_bytes += length;
    } else if (outcome == DROPPED) {
        net->stats.dropped_frames++;
    }
    net->starved = outcome == NO_BUFFERS;
    virtio_unlock(&net->device);
    return outcome != NO_BUFFERS;
}

static void writable(void *context)
{
    struct virtio_net *net = context;
    virtio_device_poke(&net->device, QUEUE_SEND);
}

// ---- Control; device lock held

#define GUEST_OFFLOADS                                                                             \
    (BIT(FEATURE_GUEST_CHECKSUM) | BIT(FEATURE_GUEST_TSO4) | BIT(FEATURE_GUEST_TSO6))

static enum control_ack handle_control(struct virtio_net *net, const struct virtq_chain *chain)
{
    uint8_t command[2];
    if (virtq_chain_read(chain, 0, command, sizeof(command)) != sizeof(command))
        return CONTROL_ERROR;
    if (command[0] == CONTROL_RECEIVE)
        return CONTROL_OK; // we pass everything: filtering is the guest's business
    if (command[0] == CONTROL_MAC && command[1] == CONTROL_MAC_TABLE)
        return CONTROL_OK;
    if (command[0] == CONTROL_MAC && command[1] == CONTROL_MAC_ADDRESS)
        return virtq_chain_read(chain, 2, net->config.mac, sizeof(net->config.mac)) ==
                       sizeof(net->config.mac)
                   ? CONTROL_OK
                   : CONTROL_ERROR;
    uint64_t offloads;
    if (command[0] == CONTROL_OFFLOADS && command[1] == 0 &&
        virtq_chain_read(chain, 2, &offloads, sizeof(offloads)) == sizeof(offloads) &&
        !(offloads & ~(net->device.driver_features & GUEST_OFFLOADS))) {
        net->guest_offloads = offloads;
        apply_offloads(net);
        return CONTROL_OK;
    }
    return CONTROL_ERROR;
}

static bool process_control(struct virtio_net *net)
{
    struct virtio_queue *control = queue(net, QUEUE_CONTROL);
    unsigned budget = CONTROL_SIZE;
    while (virtqueue_next(&control->ring, &net->chain, &budget) > 0) {
        uint8_t ack = (uint8_t)handle_control(net, &net->chain);
        virtqueue_push(&control->ring, &net->chain, virtq_chain_write(&net->chain, 0, &ack, 1));
    }
    virtio_queue_interrupt(control);
    return !budget;
}

// ---- The device

static bool process(void *self, unsigned index)
{
    struct virtio_net *net = self;
    if (index == QUEUE_SEND)
        return process_send(net);
    return index == QUEUE_CONTROL ? process_control(net) : false;
}

static void processed(void *self, unsigned index)
{
    struct virtio_net *net = self;
    if (index == QUEUE_RECEIVE && net->starved)
        net_end_resume(net->end);
}

static void started(void *self)
{
    struct virtio_net *net = self;
    net->guest_offloads = net->device.driver_features & GUEST_OFFLOADS;
    apply_offloads(net);
}

static void stop(void *self)
{
    struct virtio_net *net = self;
    memcpy(net->config.mac, net->initial_mac, sizeof(net->config.mac));
    net->guest_offloads = 0;
    apply_offloads(net);
}

static const struct virtio_ops ops = {
    .process = process, .processed = processed, .started = started, .stop = stop};

static void loaded(void *self)
{
    apply_offloads(self);
}

static const struct field fields[] = {
    FIELD_U8S(struct virtio_net, config.mac),
    FIELD_U16_MAX(struct virtio_net, config.status, STATUS_LINK_UP),
    FIELD_U64(struct virtio_net, guest_offloads),
};

static const struct device_ops device_ops = {
    .kind = "virtio-net",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LENGTH(fields),
    .loaded = loaded,
};

// ---- Making

static uint64_t features(const struct net_end *end)
{
    uint64_t features = BIT(FEATURE_MAC) | BIT(FEATURE_STATUS) | BIT(FEATURE_MERGE_BUFFERS) |
                        BIT(FEATURE_CONTROL_QUEUE) | BIT(FEATURE_CONTROL_RECEIVE) |
                        BIT(FEATURE_CONTROL_MAC) | BIT(FEATURE_GUEST_CHECKSUM);
    if (end->offload & NET_OFFLOAD_CHECKSUM) {
        features |= BIT(FEATURE_CHECKSUM);
        features |= end->offload & NET_OFFLOAD_TSO4 ? BIT(FEATURE_HOST_TSO4) : 0;
        features |= end->offload & NET_OFFLOAD_TSO6 ? BIT(FEATURE_HOST_TSO6) : 0;
    }
    if (end->accepts_offload)
        features |=
            BIT(FEATURE_CONTROL_OFFLOADS) | BIT(FEATURE_GUEST_TSO4) | BIT(FEATURE_GUEST_TSO6);
    return features;
}

static void drop_end(struct os_loop *loop, struct net_end *end);

struct virtio_net *virtio_net_create(const struct virtio_environment *environment,
                                     const struct virtio_net_params *params, struct err *err)
{
    struct virtio_net *net = calloc(1, sizeof(*net));
    if (!net) {
        err_set_errno(err, ENOMEM, "%s", params->name);
        drop_end(environment->loop, params->end);
        return NULL;
    }
    net->end = params->end;
    memcpy(net->initial_mac, params->mac, sizeof(net->initial_mac));
    memcpy(net->config.mac, params->mac, sizeof(net->config.mac));
    if (!params->link_down)
        net->config.status = STATUS_LINK_UP;
    net->offload_changed = (struct os_loop_post){.function = tell_end, .context = net};
    static const uint16_t sizes[] = {QUEUE_SIZE, QUEUE_SIZE, CONTROL_SIZE};
    struct virtio_setup setup = {
        .name = params->name,
        .kind = VIRTIO_NET,
        .class_code = CLASS_ETHERNET,
        .ops = &ops,
        .self = net,
        .features = features(params->end),
        .queue_count = ARRAY_LENGTH(sizes),
        .queue_sizes = sizes,
        .config = &net->config,
        .config_length = sizeof(net->config),
        .device_ops = &device_ops,
    };
    if (virtio_device_init(&net->device, environment, &setup, err) < 0) {
        drop_end(environment->loop, params->end);
        free(net);
        return NULL;
    }
    net->end->receiver = (struct net_receiver){receive, writable, net};
    return net;
}

static void destroy_end(void *context)
{
    net_end_destroy(context);
}

static void drop_end(struct os_loop *loop, struct net_end *end)
{
    if (loop)
        os_loop_call(loop, destroy_end, end);
    else
        net_end_destroy(end);
}

void virtio_net_destroy(struct virtio_net *net)
{
    if (!net)
        return;
    virtio_device_quiesce(&net->device);
    if (net->device.environment.loop)
        os_loop_post_cancel(net->device.environment.loop, &net->offload_changed);
    drop_end(net->device.environment.loop, net->end);
    virtio_device_quiesce(&net->device); // the end may have posted meanwhile
    virtio_device_fini(&net->device);
    free(net);
}

struct virtio_device *virtio_net_device(struct virtio_net *net)
{
    return &net->device;
}

void virtio_net_set_link(struct virtio_net *net, bool up)
{
    virtio_lock(&net->device);
    uint16_t status = up ? STATUS_LINK_UP : 0;
    if (net->config.status != status) {
        net->config.status = status;
        virtio_config_changed(&net->device);
    }
    virtio_unlock(&net->device);
}

void virtio_net_stats(struct virtio_net *net, struct virtio_net_stats *stats)
{
    virtio_lock(&net->device);
    *stats = net->stats;
    virtio_unlock(&net->device);
}
