// SPDX-License-Identifier: Apache-2.0
//
// wirt-io: a remote disk, in a process of its own. Towards the machine it is an NBD server on a Unix socket with one client (server.c: negotiation
// and the loop; request.c: what becomes of a request); towards the storage it uses one library: libnbd, libiscsi or libnfs (remote_*.c), each in a
// program of its own, left out where the library is missing. storage.c cuts requests into the operations that the library takes.
//
// One thread, one loop. Many requests are under way at once, and are answered in the order in which the storage has done them. Two that change
// the same bytes are done one after the other, as they came. A flush covers every change that was answered before the flush came.
//
// When the connection to the storage is lost, requests are held back until it is there again; the status socket tells "lost REASON" and
// "connected". What was done since the last flush is remembered (journal.c) and written again after a reconnect, because a storage that was
// started anew may have lost it; then what was under way begins again. When that becomes much, wirt-io flushes by itself.
//
// It gives up all rights but Internet sockets (os_sandbox_enter_storage()) before it reads a byte from anybody, and ends when its client does.
#ifndef WIRT_IO_IO_H
#define WIRT_IO_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "os/poll_set.h"

struct remote {
    void *handle; // the library's
    uint64_t size;
    uint32_t block;      // power of two: of all offsets and lengths
    uint32_t length_max; // of one operation
    bool read_only, can_flush, can_trim, can_zero;
};

// One operation on its way to the storage and back.
struct remote_op {
    // For the library's file; offset and length are whole blocks.
    struct remote *remote;
    uint16_t command; // enum nbd_command: read, write, flush, trim, write zeroes
    uint16_t flags;
    uint64_t offset;
    uint32_t length;
    uint8_t *bytes; // of a read or write
    // Its own.
    uint32_t moved;
    void *task;
    // storage.c's.
    struct work *work;
    struct remote_op *next;
    bool under_way;
    int result;
};

// What a library's file provides.
struct remote_ops {
    const char *scheme;
    // These two wait for the storage.
    int (*open)(const char *url, bool read_only, struct remote *remote, struct err *err);
    void (*close)(struct remote *remote); // what is under way may end meanwhile, or never
    // remote_op_end() tells the end, before it returns or from `serve`.
    void (*submit)(struct remote_op *op);
    // What to wait for, and what to do when it has come: 0, or -ENOTCONN when the connection is lost. No events: some time has passed.
    struct pollfd (*wait_for)(struct remote *remote);
    int (*serve)(struct remote *remote, short events);
};

// 0, a negative errno that the storage answered, -EAGAIN when it has too much to do at the moment, or -ENOTCONN: the connection is lost.
void remote_op_end(struct remote_op *op, int result);

// remote_nbd.c and so on: the one of this program.
extern const struct remote_ops remote_ops;

// Serve until the client ends. 0, or -1 and *err when it could not begin.
int io_serve(int fd, int status_fd, const char *url, bool read_only, struct err *err);

#endif
