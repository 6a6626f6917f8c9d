// SPDX-License-Identifier: Apache-2.0
//
// User-mode networking: frames go to a wirt-net process, which finishes checksums and takes large segments as they are.
#include <errno.h>
#include <stdlib.h>

#include "machine/net/frame_port.h"
#include "os/file.h"
#include "os/frame.h"

#define SOCKET_ROOM (1u << 20)

static void destroy(struct net_end *end)
{
    frame_port_fini((struct frame_port *)end);
    free(end);
}

static const struct net_end_ops ops = {
    .send = frame_port_send, .resume = frame_port_resume, .destroy = destroy};

struct net_end *net_user_create(struct os_loop *loop, int fd, struct err *err)
{
    struct frame_port *port = calloc(1, sizeof(*port));
    if (!port) {
        os_file_close(&fd);
        err_set_errno(err, ENOMEM, "user-mode network");
        return NULL;
    }
    port->end = (struct net_end){.ops = &ops};
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
