// SPDX-License-Identifier: Apache-2.0
//
// User-mode networking: frames go to a wirt-net process, which finishes checksums and takes large segments as they are.
#include <errno.h>
#include <stdlib.h>

#include "machine/net/frame_port.h"
#include "os/file.h"
#include "os/frame.h"

#define SOCKET_ROOM (1u << 20)

// wirt-net joins segments for a guest that takes them: it is told by a packet of a byte, enum net_offload. Were it lost the card would drop what it is
// not to get.
static void set_offload(struct net_end *end, unsigned accept)
{
    struct frame_port *port = (struct frame_port *)end;
    uint8_t accepts = (uint8_t)accept;
    const struct iovec iov = {&accepts, 1};
    os_frame_send(port->fd, &iov, 1);
}

static void destroy(struct net_end *end)
{
    frame_port_fini((struct frame_port *)end);
    free(end);
}

static const struct net_end_ops ops = {.send = frame_port_send,
                                       .resume = frame_port_resume,
                                       .set_offload = set_offload,
                                       .destroy = destroy};

struct net_end *net_user_create(struct os_loop *loop, int fd, struct err *err)
{
    struct frame_port *port = calloc(1, sizeof(*port));
    if (!port) {
        os_file_close(&fd);
        err_set_errno(err, ENOMEM, "user-mode network");
        return NULL;
    }
    port->end = (struct net_end){.ops = &ops, .accepts_offload = true};
    port->end.offload = NET_OFFLOAD_CHECKSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6;
    port->read = os_frame_receive;
    port->write = os_frame_send;
    port->what = "user-mode network";
    os_frame_socket_room(fd, SOCKET_ROOM);
    if (frame_port_init(port, loop, fd, err) < 0) {
        err_wrap(err, "user-mode network");
        destroy(&port->end);
        return NULL;
    }
    return &port->end;
}
