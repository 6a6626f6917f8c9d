// SPDX-License-Identifier: Apache-2.0
//
// What ends on a descriptor have in common: waiting for it in both directions, one frame's buffer, stopping and resuming.
// net_end.h's users never see this.
#ifndef WIRT_MACHINE_NET_FRAME_PORT_H
#define WIRT_MACHINE_NET_FRAME_PORT_H

#include <sys/types.h>

#include "machine/net/net_end.h"
#include "os/loop.h"

struct frame_port {
    struct net_end end; // first
    struct os_loop *loop;
    int fd;
    ssize_t (*read)(int fd, void *buffer, size_t length);
    int (*write)(int fd, const struct iovec *iov, int count);
    const char *what; // for messages
    // The loop's own.
    struct os_loop_watch watch;
    bool stopped; // the receiver did not take `held`
    bool blocked; // the descriptor did not take a frame
    size_t held;  // bytes in buffer that wait for the receiver, header included
    bool gone;    // the other side is gone for good
    uint8_t buffer[NET_HEADER_BYTES + NET_FRAME_BYTES_MAX];
};

int frame_port_init(struct frame_port *port, struct os_loop *loop, int fd, struct err *err);
void frame_port_fini(struct frame_port *port);

// As net_end_ops want them.
int frame_port_send(struct net_end *end, const struct net_header *header, const struct iovec *iov,
                    unsigned count);
void frame_port_resume(struct net_end *end);

#endif
