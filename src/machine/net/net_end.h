// SPDX-License-Identifier: Apache-2.0
//
// An end of a virtual cable: where a network device's frames go to and come from. A TAP interface, the process that does
// user-mode networking, nothing at all, or (in tests) another end.
//
// Frames carry a virtio-net header, so that checksums and segmentation can be left to whoever does them best.
//
// Flow control, both ways. net_end_send() may answer -EAGAIN: the frame was not taken, `writable` will be called.
// `receive` may answer false: the frame was not taken, and the end offers it again, and no other, after
// net_end_resume(). So neither side keeps a queue.
//
// Threads: an end belongs to one event loop; all functions are for the loop's thread, and the receiver is called on it,
// without locks. Ends are made and destroyed on it too, or while nobody runs it (os_loop_call()).
#ifndef WIRT_MACHINE_NET_NET_END_H
#define WIRT_MACHINE_NET_NET_END_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"

struct os_loop;

#define NET_FRAME_BYTES_MAX  65550u // an Ethernet header, a VLAN tag and 64 KiB
#define NET_FRAME_BYTES_MIN  14u
#define NET_HEADER_BYTES     12u
#define NET_FRAME_PIECES_MAX 130u // iovecs of one frame

// virtio 1.2, 5.1.6; little-endian.
struct net_header {
    uint8_t flags;
    uint8_t segmentation;
    uint16_t header_length;
    uint16_t segment_size;
    uint16_t checksum_start, checksum_offset;
    uint16_t buffers;
};
enum net_header_flag { NET_NEEDS_CHECKSUM = 1, NET_CHECKSUM_VALID = 2 };
enum net_segmentation {
    NET_SEGMENT_NONE = 0,
    NET_SEGMENT_TCP4 = 1,
    NET_SEGMENT_TCP6 = 4,
    NET_SEGMENT_ECN = 0x80
};

enum net_offload { NET_OFFLOAD_CHECKSUM = 1, NET_OFFLOAD_TSO4 = 2, NET_OFFLOAD_TSO6 = 4 };

struct net_receiver {
    bool (*receive)(void *context, const struct net_header *header, const uint8_t *frame,
                    size_t length);
    void (*writable)(void *context);
    void *context;
};

struct net_end;

// Provider's side: an end embeds struct net_end as its first member.
struct net_end_ops {
    int (*send)(struct net_end *end, const struct net_header *header, const struct iovec *iov,
                unsigned count);
    void (*resume)(struct net_end *end);                       // NULL: never stops
    void (*set_offload)(struct net_end *end, unsigned accept); // NULL: never sends such frames
    void (*destroy)(struct net_end *end);
};

struct net_end {
    const struct net_end_ops *ops;
    struct net_receiver receiver; // receive NULL: frames are dropped
    unsigned offload;             // enum net_offload: what it takes from us
    bool accepts_offload;         // whether it can make use of what the receiver accepts
};

// 0: taken (or lost, as on a wire). -EAGAIN: not now. The frame without its header is `iov`, of at most
// NET_FRAME_PIECES_MAX pieces and NET_FRAME_BYTES_MAX bytes. The header was made by a guest.
static inline int net_end_send(struct net_end *end, const struct net_header *header,
                               const struct iovec *iov, unsigned count)
{
    return end->ops->send(end, header, iov, count);
}

static inline void net_end_resume(struct net_end *end)
{
    if (end->ops->resume)
        end->ops->resume(end);
}

static inline void net_end_set_offload(struct net_end *end, unsigned accept)
{
    if (end->ops->set_offload)
        end->ops->set_offload(end, accept);
}

static inline void net_end_destroy(struct net_end *end)
{
    if (end)
        end->ops->destroy(end);
}

// ---- The kinds. `fd` is taken over.

// A TAP interface with virtio-net headers (os/tap.h).
struct net_end *net_tap_create(struct os_loop *loop, int fd, struct err *err);
// A packet socket to a wirt-net process (slirp_host.h): each packet is a net_header and a frame.
struct net_end *net_user_create(struct os_loop *loop, int fd, struct err *err);
// A cable that is plugged in nowhere.
struct net_end *net_none_create(struct err *err);
// Two ends of one cable, on one loop: what is sent into one is received by the other at once.
int net_loopback_create(struct net_end *ends[2], struct err *err);

#endif
