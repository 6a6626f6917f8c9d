// SPDX-License-Identifier: Apache-2.0
//
// A virtio network device (virtio 1.2, 5.1) at an end of a virtual cable: checksum and segmentation offload as far as
// the end has it, mergeable receive buffers, control queue.
//
// Threads: on the device's loop, which is the end's too; a machine without an I/O loop has no network but net_none.
#ifndef WIRT_MACHINE_VIRTIO_VIRTIO_NET_H
#define WIRT_MACHINE_VIRTIO_VIRTIO_NET_H

#include "machine/net/net_end.h"
#include "machine/virtio/virtio_device.h"

struct virtio_net_params {
    const char *name;
    uint8_t mac[6];
    bool link_down;      // at first: virtio_net_set_link()
    struct net_end *end; // owned from here on, also when creating fails
};

struct virtio_net;

struct virtio_net *virtio_net_create(const struct virtio_environment *environment,
                                     const struct virtio_net_params *params, struct err *err);
void virtio_net_destroy(struct virtio_net *net); // unplugged; NULL is fine
struct virtio_device *virtio_net_device(struct virtio_net *net);

// The cable was pulled or plugged in: the guest sees the carrier change.
void virtio_net_set_link(struct virtio_net *net, bool up);

struct virtio_net_stats {
    uint64_t sent_frames, sent_bytes, received_frames, received_bytes, dropped_frames;
};
void virtio_net_stats(struct virtio_net *net, struct virtio_net_stats *stats);

#endif
