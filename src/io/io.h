// SPDX-License-Identifier: Apache-2.0
//
// wirt-io: a remote disk, in a process of its own. Towards the machine it is an NBD server on a Unix socket with one client (server.c: negotiation
// and the loop; request.c: what becomes of a request); towards the storage it uses one library: libnbd, libiscsi or libnfs (remote_*.c), each in a
// program of its own, left out where the library is missing. storage.c cuts requests into the operations that the library takes.
//
// Two processes: the first (process.c) only starts the second, which does all this, and starts another one when a signal has ended it: a crash, a
// filter of system calls, memory that ran out. The client gets a new socket from the first, sends again what was not answered, and so sees a pause.
// The first one reads nothing from anybody, and both have renounced what the second does not need but for system calls, which it renounces, too.
//
// One thread, one loop. Many requests are under way at once, and are answered in the order in which the storage has done them. Two that change
// the same bytes are done one after the other, as they came. A flush covers every change that was answered before the flush came.
//
// When the connection to the storage is lost, requests are held back until it is there again; the status socket tells "lost REASON" and
// "connected". What was done since the last flush is remembered (journal.c) and written again after a reconnect, because a storage that was
// started anew may have lost it; then what was under way begins again. When that becomes much, wirt-io flushes by itself. The memory of it is shared
// with the first process, so that a second one that follows another has it.
//
// What a lost connection had brought to the storage, unanswered, is the storage's to end or to drop before long: one that did it after what the next
// connection brings would put old bytes over newer ones. Nothing here can keep it from that; the pause before another process is made with it in mind.
//
// Nobody who ends waits for a lost storage for ever: when the client has sent "ending" on the status socket, a storage that does not come back soon is
// given up, and with it what was not flushed.
//
// It gives up all rights but Internet sockets (os_sandbox_enter_storage()) before it reads a byte from anybody, and ends when its client does.
#ifndef WIRT_IO_IO_H
#define WIRT_IO_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "io/journal.h"
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

// What a process leaves to the next one, in memory that both share.
struct io_kept {
    bool greeted;  // the client has the socket on which it gets the next one
    uint64_t size; // of the disk
    struct journal_room journal;
};
struct io_kept *io_kept_create(struct err *err);
void io_kept_destroy(struct io_kept *kept);

struct io_service {
    int fd, status_fd;
    int next_fd; // goes to the client with the first greeting, and is closed; -1: none
    const char *url;
    bool read_only;
    struct io_kept *kept;
};

// Serve until the client ends. 0, or -1 and *err when it could not begin.
int io_serve(const struct io_service *service, struct err *err);
// The whole program: the same in a second process, as often as it takes. Its exit status, or -1 and *err.
int io_run(int fd, int status_fd, const char *url, bool read_only, struct err *err);

#endif
