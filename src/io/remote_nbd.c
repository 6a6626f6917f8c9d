// SPDX-License-Identifier: Apache-2.0
//
// nbd://HOST[:PORT]/[EXPORT] by libnbd.
#include <errno.h>
#include <libnbd.h>

#include "base/bits.h"
#include "io/io.h"
#include "wire/nbd.h"

static int describe(struct remote *remote, bool read_only, struct err *err)
{
    struct nbd_handle *nbd = remote->handle;
    int64_t size = nbd_get_size(nbd), block = nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM),
            most = nbd_get_block_size(nbd, LIBNBD_SIZE_MAXIMUM);
    if (size < 0)
        return err_set(err, ERR_IO, "%s", nbd_get_error());
    if (!read_only && nbd_is_read_only(nbd))
        return err_set(err, ERR_DENIED, "the server offers it for reading only");
    remote->size = (uint64_t)size;
    remote->block =
        block > 0 && block <= 65536 && is_power_of_two((uint64_t)block) ? (uint32_t)block : 1;
    remote->length_max = most >= (int64_t)MIB && most <= (int64_t)(32 * MIB) ? (uint32_t)most : MIB;
    remote->can_flush = nbd_can_flush(nbd) > 0;
    remote->can_trim = nbd_can_trim(nbd) > 0;
    remote->can_zero = nbd_can_zero(nbd) > 0;
    return 0;
}

static void remote_close(struct remote *remote)
{
    nbd_close(remote->handle);
    remote->handle = NULL;
}

static int remote_open(const char *url, bool read_only, struct remote *remote, struct err *err)
{
    struct nbd_handle *nbd = nbd_create();
    remote->handle = nbd;
    if (!nbd || nbd_set_strict_mode(nbd, 0) ||
        nbd_set_uri_allow_transports(nbd, LIBNBD_ALLOW_TRANSPORT_TCP) ||
        nbd_set_uri_allow_local_file(nbd, false) || nbd_connect_uri(nbd, url)) {
        err_set(err, ERR_IO, "%s", nbd_get_error());
        remote_close(remote);
        return -1;
    }
    if (describe(remote, read_only, err)) {
        remote_close(remote);
        return -1;
    }
    return 0;
}

static bool is_lost(struct nbd_handle *nbd)
{
    return nbd_aio_is_dead(nbd) || nbd_aio_is_closed(nbd);
}

// Within the library, which must not be called from here: that the connection is lost, remote_serve() finds.
static int completed(void *user, int *error)
{
    remote_op_end(user, -*error);
    return 1;
}

static int64_t begin(struct nbd_handle *nbd, struct remote_op *op)
{
    const nbd_completion_callback then = {.callback = completed, .user_data = op};
    switch (op->command) {
    case NBD_CMD_READ:
        return nbd_aio_pread(nbd, op->bytes, op->length, op->offset, then, 0);
    case NBD_CMD_WRITE:
        return nbd_aio_pwrite(nbd, op->bytes, op->length, op->offset, then, 0);
    case NBD_CMD_FLUSH:
        return nbd_aio_flush(nbd, then, 0);
    case NBD_CMD_TRIM:
        return nbd_aio_trim(nbd, op->length, op->offset, then, 0);
    default:
        return nbd_aio_zero(nbd, op->length, op->offset, then,
                            op->flags & NBD_FLAG_NO_HOLE ? LIBNBD_CMD_FLAG_NO_HOLE : 0);
    }
}

static void remote_submit(struct remote_op *op)
{
    struct nbd_handle *nbd = op->remote->handle;
    if (op->command == NBD_CMD_FLUSH && !op->remote->can_flush) {
        remote_op_end(op, is_lost(nbd) ? -ENOTCONN : 0);
    } else if (begin(nbd, op) < 0) {
        int error = nbd_get_errno();
        remote_op_end(op, is_lost(nbd) ? -ENOTCONN : error ? -error : -EIO);
    }
}

static struct pollfd remote_wait_for(struct remote *remote)
{
    unsigned direction = nbd_aio_get_direction(remote->handle);
    int events = (direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                 (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0);
    return (struct pollfd){.fd = nbd_aio_get_fd(remote->handle), .events = (short)events};
}

static int remote_serve(struct remote *remote, short events)
{
    struct nbd_handle *nbd = remote->handle;
    unsigned direction = nbd_aio_get_direction(nbd);
    int rc = 0;
    if ((direction & LIBNBD_AIO_DIRECTION_READ) && (events & (POLLIN | POLLHUP)))
        rc = nbd_aio_notify_read(nbd);
    else if ((direction & LIBNBD_AIO_DIRECTION_WRITE) && (events & (POLLOUT | POLLHUP)))
        rc = nbd_aio_notify_write(nbd);
    return rc || is_lost(nbd) ? -ENOTCONN : 0;
}

const struct remote_ops remote_ops = {
    .scheme = "nbd",
    .open = remote_open,
    .close = remote_close,
    .submit = remote_submit,
    .wait_for = remote_wait_for,
    .serve = remote_serve,
};
