// SPDX-License-Identifier: Apache-2.0
//
// Two ends of one cable. A frame that the other side does not take is refused (-EAGAIN) until it resumes.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine/net/net_end.h"

struct loopback {
    struct net_end end;     // first
    struct loopback *other; // NULL: unplugged there
    bool refused;           // a frame of ours
    uint8_t frame[NET_FRAME_BYTES_MAX];
};

static int send(struct net_end *end, const struct net_header *header, const struct iovec *iov,
                unsigned count)
{
    struct loopback *self = (struct loopback *)end;
    size_t length = 0;
    if (!self->other || !self->other->end.receiver.receive)
        return 0;
    for (unsigned i = 0; i < count; i++) {
        if (iov[i].iov_len > sizeof(self->frame) - length)
            return 0;
        memcpy(self->frame + length, iov[i].iov_base, iov[i].iov_len);
        length += iov[i].iov_len;
    }
    const struct net_receiver *receiver = &self->other->end.receiver;
    self->refused = !receiver->receive(receiver->context, header, self->frame, length);
    return self->refused ? -EAGAIN : 0;
}

static void resume(struct net_end *end)
{
    struct loopback *other = ((struct loopback *)end)->other;
    if (!other || !other->refused)
        return;
    other->refused = false;
    if (other->end.receiver.writable)
        other->end.receiver.writable(other->end.receiver.context);
}

static void destroy(struct net_end *end)
{
    struct loopback *self = (struct loopback *)end;
    if (self->other)
        self->other->other = NULL;
    free(self);
}

static const struct net_end_ops ops = {.send = send, .resume = resume, .destroy = destroy};

int net_loopback_create(struct net_end *ends[2], struct err *err)
{
    struct loopback *a = calloc(1, sizeof(*a)), *b = calloc(1, sizeof(*b));
    if (!a || !b) {
        free(a);
        free(b);
        return err_set_errno(err, ENOMEM, "network cable");
    }
    a->end.ops = b->end.ops = &ops;
    a->end.offload = b->end.offload = NET_OFFLOAD_CHECKSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6;
    a->other = b;
    b->other = a;
    ends[0] = &a->end;
    ends[1] = &b->end;
    return 0;
}
