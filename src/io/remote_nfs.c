// SPDX-License-Identifier: Apache-2.0
//
// nfs://HOST/EXPORT/PATH/FILE[?version=4&nfsport=PORT&uid=N…] by libnfs. The file keeps its size.
#include <errno.h>
#include <nfsc/libnfs.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "io/io.h"
#include "wire/nbd.h"

#define LOG_MODULE "wirt-io"
#include "base/log.h"

// Before version 5 libnfs encodes NFSv4 requests in 4 KiB, whatever they write (its pull request 319).
#ifndef V4_WRITE_MAX
#define V4_WRITE_MAX MIB
#endif
#define TIMEOUT_MS 10000

// O_RDONLY and O_RDWR, S_IFMT and S_IFREG, as libnfs has them: the headers that name them are those of our own system calls.
enum { OPEN_READ = 0, OPEN_WRITE = 2, MODE_KIND = 0170000, MODE_REGULAR = 0100000 };

struct mount {
    struct nfs_context *nfs;
    struct nfsfh *file;
    uint32_t write_max;
    bool lost; // the connection: nobody answers to a close
};

static struct mount *mount_of(struct remote *remote)
{
    return remote->handle;
}

// libnfs answers with errno values; those of its own transport mean that the connection is lost.
static int result(struct remote *remote, int64_t rc)
{
    if (rc >= 0)
        return 0;
    if (!mount_of(remote)->lost) // all that are under way tell the same
        log_warn("%s", nfs_get_error(mount_of(remote)->nfs));
    switch (-rc) {
    case EIO:
    case EFAULT:
    case EINTR:
    case EAGAIN:
    case ETIMEDOUT:
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
    case ENOTCONN:
    case ESTALE:
    case EBADF:
        mount_of(remote)->lost = true;
        return -ENOTCONN;
    default:
        return (int)rc;
    }
}

static void remote_close(struct remote *remote)
{
    struct mount *m = mount_of(remote);
    if (m && m->file && !m->lost)
        (void)nfs_close(m->nfs, m->file);
    if (m && m->nfs)
        nfs_destroy_context(m->nfs);
    free(m);
    remote->handle = NULL;
}

static int open_file(struct mount *m, const char *text, bool read_only, struct remote *remote,
                     struct err *err)
{
    struct nfs_url *url = nfs_parse_url_full(m->nfs, text);
    struct nfs_stat_64 st;
    if (!url)
        return err_set(err, ERR_USAGE, "%s", nfs_get_error(m->nfs));
    nfs_set_autoreconnect(m->nfs, 0);
    nfs_set_timeout(m->nfs, TIMEOUT_MS);
    bool bad = nfs_mount(m->nfs, url->server, url->path) ||
               nfs_open(m->nfs, url->file, read_only ? OPEN_READ : OPEN_WRITE, &m->file) ||
               nfs_fstat64(m->nfs, m->file, &st);
    nfs_destroy_url(url);
    if (bad)
        return err_set(err, ERR_IO, "%s", nfs_get_error(m->nfs));
    if ((st.nfs_mode & MODE_KIND) != MODE_REGULAR || st.nfs_size > INT64_MAX)
        return err_set(err, ERR_INPUT, "it is not a regular file");
    remote->size = st.nfs_size;
    remote->block = 1;
    uint64_t read = nfs_get_readmax(m->nfs), write = nfs_get_writemax(m->nfs);
    uint64_t most = read < write ? read : write;
    m->write_max = strstr(text, "version=4") ? V4_WRITE_MAX : MIB;
    remote->length_max = most >= 4096 && most <= MIB ? (uint32_t)most : 65536;
    return 0;
}

static int remote_open(const char *url, bool read_only, struct remote *remote, struct err *err)
{
    struct mount *m = calloc(1, sizeof(*m));
    remote->handle = m;
    if (m)
        m->nfs = nfs_init_context();
    if (!m || !m->nfs)
        err_set(err, ERR_LIMIT, "no memory");
    if (!m || !m->nfs || open_file(m, url, read_only, remote, err)) {
        remote_close(remote);
        return -1;
    }
    return 0;
}

static void move(struct remote_op *op);

static void moved(int rc, struct nfs_context *nfs, void *data, void *user)
{
    struct remote_op *op = user;
    uint32_t left = op->length - op->moved;
    if (!op->under_way) // the storage is being closed
        return;
    if (rc <= 0 || (uint32_t)rc > left) {
        remote_op_end(op, rc < 0 ? result(op->remote, rc) : -EIO);
        return;
    }
    if (op->command == NBD_CMD_READ)
        memcpy(op->bytes + op->moved, data, (uint32_t)rc);
    op->moved += (uint32_t)rc;
    if (op->moved == op->length)
        remote_op_end(op, 0);
    else
        move(op);
}

static void flushed(int rc, struct nfs_context *nfs, void *data, void *user)
{
    struct remote_op *op = user;
    if (op->under_way)
        remote_op_end(op, result(op->remote, rc));
}

// What is left of it, as far as one request of the protocol takes it.
static void move(struct remote_op *op)
{
    struct mount *m = mount_of(op->remote);
    uint64_t offset = op->offset + op->moved, left = op->length - op->moved;
    int rc;
    if (op->command == NBD_CMD_READ)
        rc = nfs_pread_async(m->nfs, m->file, offset, left, moved, op);
    else
        rc = nfs_pwrite_async(m->nfs, m->file, offset, left < m->write_max ? left : m->write_max,
                              op->bytes + op->moved, moved, op);
    if (rc)
        remote_op_end(op, -ENOTCONN);
}

static void remote_submit(struct remote_op *op)
{
    struct mount *m = mount_of(op->remote);
    if (op->command != NBD_CMD_FLUSH)
        move(op);
    else if (nfs_fsync_async(m->nfs, m->file, flushed, op))
        remote_op_end(op, -ENOTCONN);
}

static struct pollfd remote_wait_for(struct remote *remote)
{
    struct nfs_context *nfs = mount_of(remote)->nfs;
    return (struct pollfd){.fd = nfs_get_fd(nfs), .events = (short)nfs_which_events(nfs)};
}

static int remote_serve(struct remote *remote, short events)
{
    struct mount *m = mount_of(remote);
    m->lost |= nfs_service(m->nfs, events) < 0;
    return m->lost ? -ENOTCONN : 0;
}

const struct remote_ops remote_ops = {
    .scheme = "nfs",
    .open = remote_open,
    .close = remote_close,
    .submit = remote_submit,
    .wait_for = remote_wait_for,
    .serve = remote_serve,
};
