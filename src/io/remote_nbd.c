// SPDX-License-Identifier: Apache-2.0
//
// nbd://HOST[:PORT]/[EXPORT] by libnbd.
#include <errno.h>
#include <libnbd.h>
#include <string.h>

#include "base/bits.h"
#include "io/io.h"

// What failed: the connection, or the operation on a connection that stands?
static int failure(struct remote *remote)
{
    struct nbd_handle *nbd = remote->handle;
    int error = nbd_get_errno();
    if (!nbd || !nbd_aio_is_ready(nbd))
        return -ENOTCONN;
    return error ? -error : -EIO;
}

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

static int remote_read(struct remote *remote, void *bytes, uint32_t length, uint64_t offset)
{
    return nbd_pread(remote->handle, bytes, length, offset, 0) ? failure(remote) : 0;
}

static int remote_write(struct remote *remote, const void *bytes, uint32_t length, uint64_t offset)
{
    return nbd_pwrite(remote->handle, bytes, length, offset, 0) ? failure(remote) : 0;
}

static int remote_flush(struct remote *remote)
{
    if (nbd_can_flush(remote->handle) <= 0)
        return nbd_aio_is_ready(remote->handle) ? 0 : -ENOTCONN;
    return nbd_flush(remote->handle, 0) ? failure(remote) : 0;
}

static int remote_trim(struct remote *remote, uint32_t length, uint64_t offset)
{
    return nbd_trim(remote->handle, length, offset, 0) ? failure(remote) : 0;
}

static int remote_zero(struct remote *remote, uint32_t length, uint64_t offset, bool may_unmap)
{
    uint32_t flags = may_unmap ? 0 : LIBNBD_CMD_FLAG_NO_HOLE;
    return nbd_zero(remote->handle, length, offset, flags) ? failure(remote) : 0;
}

const struct remote_ops remote_ops = {
    .scheme = "nbd",
    .open = remote_open,
    .close = remote_close,
    .read = remote_read,
    .write = remote_write,
    .flush = remote_flush,
    .trim = remote_trim,
    .zero = remote_zero,
};
