// SPDX-License-Identifier: Apache-2.0
//
// A cable that is plugged in nowhere.
#include <errno.h>
#include <stdlib.h>

#include "machine/net/net_end.h"

static int send(struct net_end *end, const struct net_header *header, const struct iovec *iov,
                unsigned count)
{
    return 0;
}

static void destroy(struct net_end *end)
{
    free(end);
}

static const struct net_end_ops ops = {.send = send, .destroy = destroy};

struct net_end *net_none_create(struct err *err)
{
    struct net_end *end = calloc(1, sizeof(*end));
    if (!end) {
        err_set_errno(err, ENOMEM, "network end");
        return NULL;
    }
    end->ops = &ops;
    end->offload = NET_OFFLOAD_CHECKSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6;
    return end;
}
