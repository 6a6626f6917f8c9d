// SPDX-License-Identifier: Apache-2.0
//
// A TAP interface: the host's kernel does checksums and segmentation, both ways.
#include "os/tap.h"

#include <errno.h>
#include <stdlib.h>

#include "machine/net/frame_port.h"
#include "os/file.h"
#include "os/frame.h"

static void set_offload(struct net_end *end, unsigned accept)
{
    struct frame_port *port = (struct frame_port *)end;
    os_tap_set_offload(port->fd, accept & NET_OFFLOAD_CHECKSUM, accept & NET_OFFLOAD_TSO4,
                       accept & NET_OFFLOAD_TSO6);
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

struct net_end *net_tap_create(struct os_loop *loop, int fd, struct err *err)
{
    struct frame_port *port = calloc(1, sizeof(*port));
    if (!port) {
        os_file_close(&fd);
        err_set_errno(err, ENOMEM, "TAP interface");
        return NULL;
    }
    port->end = (struct net_end){.ops = &ops, .accepts_offload = true};
    port->end.offload = NET_OFFLOAD_CHECKSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6;
    port->read = os_frame_read;
    port->write = os_frame_write;
    port->what = "TAP interface";
    if (frame_port_init(port, loop, fd, err) < 0) {
        err_wrap(err, "TAP interface");
        destroy(&port->end);
        return NULL;
    }
    set_offload(&port->end, 0);
    return &port->end;
}
