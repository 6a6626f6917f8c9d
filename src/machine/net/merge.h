// SPDX-License-Identifier: Apache-2.0
//
// Joins consecutive TCP segments of one connection to a large one, for a guest that takes such (VIRTIO_NET_F_GUEST_TSO4): each frame costs the guest
// an interrupt's work and an acknowledgement. Pure; IPv4, as libslirp sends it.
//
// A segment is held until one comes that does not continue it, or its sender flushes it. What comes out reads as the segments did, in their order: the
// guest's stack may cut it at `segment_size` and has what went in.
#ifndef WIRT_MACHINE_NET_MERGE_H
#define WIRT_MACHINE_NET_MERGE_H

#include "machine/net/net_end.h"

struct net_merge {
    size_t length;         // of what is held; 0: nothing
    size_t headers;        // of it, up to the payload
    uint16_t segment_size; // payload of its first segment
    unsigned count;        // segments in it
    uint32_t next;         // sequence number of what continues it
    bool complete;         // nothing may be added
    uint8_t frame[NET_FRAME_BYTES_MAX];
};

// Takes the frame in: false, and nothing changes, when it is none to join, or does not continue what is held.
bool net_merge_add(struct net_merge *merge, const uint8_t *frame, size_t length);
// Makes what is held a frame with its header. Afterwards `frame` and `length` are to be sent, and length set to 0.
void net_merge_finish(struct net_merge *merge, struct net_header *header);

#endif
