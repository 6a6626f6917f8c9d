// SPDX-License-Identifier: Apache-2.0
//
// nfs://HOST/EXPORT/PATH/FILE[?version=4&nfsport=PORT&uid=N…] by libnfs. The file keeps its size.
#include <errno.h>
#include <nfsc/libnfs.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "io/io.h"

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

static int remote_read(struct remote *remote, void *bytes, uint32_t length, uint64_t offset)
{
    struct mount *m = mount_of(remote);
    for (uint32_t at = 0; at < length;) {
        int n = nfs_pread(m->nfs, m->file, offset + at, length - at, (char *)bytes + at);
        if (n <= 0)
            return n ? result(remote, n) : -EIO;
        at += (uint32_t)n;
    }
    return 0;
}

static int remote_write(struct remote *remote, const void *bytes, uint32_t length, uint64_t offset)
{
    struct mount *m = mount_of(remote);
    for (uint32_t at = 0; at < length;) {
        uint32_t left = length - at;
        int n = nfs_pwrite(m->nfs, m->file, offset + at, left < m->write_max ? left : m->write_max,
                           (char *)(uintptr_t)bytes + at);
        if (n <= 0)
            return n ? result(remote, n) : -EIO;
        at += (uint32_t)n;
    }
    return 0;
}

static int remote_flush(struct remote *remote)
{
    struct mount *m = mount_of(remote);
    return result(remote, nfs_fsync(m->nfs, m->file));
}

const struct remote_ops remote_ops = {
    .scheme = "nfs",
    .open = remote_open,
    .close = remote_close,
    .read = remote_read,
    .write = remote_write,
    .flush = remote_flush,
};
