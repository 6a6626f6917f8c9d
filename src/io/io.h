// SPDX-License-Identifier: Apache-2.0
//
// wirt-io: a remote disk, in a process of its own. Towards the machine it is an NBD server on a Unix socket with one client (server.c); towards
// the storage it uses one library: libnbd, libiscsi or libnfs (remote_*.c), each in a program of its own, left out where the library is missing.
//
// One thread, one request after another. When the connection to the storage is lost, requests are held back until it is there again; the status
// socket tells "lost REASON" and "connected". What was written since the last flush is remembered (journal.c) and written again after a
// reconnect, because a storage that was started anew may have lost it; when that becomes much, wirt-io flushes by itself.
//
// It gives up all rights but Internet sockets (os_sandbox_enter_storage()) before it reads a byte from anybody, and ends when its client does.
#ifndef WIRT_IO_IO_H
#define WIRT_IO_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct remote;

// What a library's file provides. Operations return 0, a negative errno that the storage answered, or -ENOTCONN when the connection is lost: then
// close() and open() are called until the latter succeeds, and the operation again. Offsets and lengths are whole blocks.
struct remote_ops {
    const char *scheme;
    int (*open)(const char *url, bool read_only, struct remote *remote, struct err *err);
    void (*close)(struct remote *remote);
    int (*read)(struct remote *remote, void *bytes, uint32_t length, uint64_t offset);
    int (*write)(struct remote *remote, const void *bytes, uint32_t length, uint64_t offset);
    int (*flush)(struct remote *remote);
    int (*trim)(struct remote *remote, uint32_t length, uint64_t offset); // NULL: cannot
    int (*zero)(struct remote *remote, uint32_t length, uint64_t offset, bool may_unmap);
};

struct remote {
    void *handle; // the library's
    uint64_t size;
    uint32_t block;      // power of two: of all offsets and lengths
    uint32_t length_max; // of one operation
    bool read_only, can_trim, can_zero;
};

// remote_nbd.c and so on: the one of this program.
extern const struct remote_ops remote_ops;

// Serve until the client ends. 0, or -1 and *err when it could not begin.
int io_serve(int fd, int status_fd, const char *url, bool read_only, struct err *err);

#endif
