// SPDX-License-Identifier: Apache-2.0
#include "machine/net/frame_port.h"

#include <errno.h>
#include <string.h>

#include "os/file.h"

#define LOG_MODULE "net"
#include "base/log.h"

#define ROUND 64 // frames at once, so that others on the loop get their turn

static void update_watch(struct frame_port *port)
{
    if (port->gone) {
        os_loop_unwatch(port->loop, &port->watch);
        return;
    }
    unsigned events = (port->stopped ? 0 : (unsigned)OS_LOOP_READ) |
                      (port->blocked ? (unsigned)OS_LOOP_WRITE : 0);
    os_loop_watch_change(port->loop, &port->watch, events);
}

static void lost(struct frame_port *port, int error)
{
    if (!port->gone)
        log_warn("%s: the other side is gone%s%s", port->what, error ? ": " : "",
                 error ? strerror(error) : "");
    port->gone = true;
}

// True when the receiver has it, or it is none.
static bool deliver(struct frame_port *port)
{
    const struct net_receiver *receiver = &port->end.receiver;
    struct net_header header;
    if (port->held < NET_HEADER_BYTES + NET_FRAME_BYTES_MIN || !receiver->receive) {
        port->held = 0;
        return true;
    }
    memcpy(&header, port->buffer, sizeof(header));
    if (!receiver->receive(receiver->context, &header, port->buffer + NET_HEADER_BYTES,
                           port->held - NET_HEADER_BYTES))
        return false;
    port->held = 0;
    return true;
}

static void receive(struct frame_port *port)
{
    for (unsigned n = 0; n < ROUND; n++) {
        ssize_t length = port->read(port->fd, port->buffer, sizeof(port->buffer));
        if (length == -EAGAIN)
            return;
        if (length <= 0) {
            lost(port, (int)-length);
            return;
        }
        port->held = (size_t)length;
        port->stopped = !deliver(port);
        if (port->stopped)
            return;
    }
}

static void ready(void *context, unsigned events)
{
    struct frame_port *port = context;
    if (events & OS_LOOP_READ && !port->stopped)
        receive(port);
    else if (events & OS_LOOP_HANGUP)
        lost(port, 0);
    if (events & OS_LOOP_WRITE && port->blocked) {
        port->blocked = false;
        if (port->end.receiver.writable)
            port->end.receiver.writable(port->end.receiver.context);
    }
    update_watch(port);
}

int frame_port_send(struct net_end *end, const struct net_header *header, const struct iovec *iov,
                    unsigned count)
{
    struct frame_port *port = (struct frame_port *)end;
    struct iovec whole[NET_FRAME_PIECES_MAX + 1];
    if (port->gone || count > NET_FRAME_PIECES_MAX)
        return 0;
    whole[0] = (struct iovec){(void *)(uintptr_t)header, NET_HEADER_BYTES};
    memcpy(whole + 1, iov, count * sizeof(*iov));
    int result = port->write(port->fd, whole, (int)count + 1);
    if (result != -EAGAIN)
        return 0; // a frame that the kernel finds senseless (-EINVAL) is lost
    port->blocked = true;
    update_watch(port);
    return -EAGAIN;
}

void frame_port_resume(struct net_end *end)
{
    struct frame_port *port = (struct frame_port *)end;
    if (!port->stopped)
        return;
    port->stopped = !deliver(port);
    update_watch(port);
}

int frame_port_init(struct frame_port *port, struct os_loop *loop, int fd, struct err *err)
{
    port->loop = loop;
    port->fd = fd;
    port->watch = (struct os_loop_watch){.ready = ready, .context = port};
    return os_loop_watch(loop, &port->watch, fd, OS_LOOP_READ, err);
}

void frame_port_fini(struct frame_port *port)
{
    os_loop_unwatch(port->loop, &port->watch);
    os_file_close(&port->fd);
}
