// SPDX-License-Identifier: Apache-2.0
//
// The storage, as the server uses it: pieces of work, each cut into as many operations as the library wants, STORAGE_DEPTH of them under way at once.
#ifndef WIRT_IO_STORAGE_H
#define WIRT_IO_STORAGE_H

#include "io/io.h"
#include "os/poll_set.h"

#define STORAGE_DEPTH 64

struct work {
    // Filled by who starts it, who keeps it until it is done or the storage is closed.
    uint16_t command; // enum nbd_command
    uint16_t flags;
    uint64_t offset; // whole blocks, as the length
    uint32_t length;
    uint8_t *bytes;                              // of a read or write
    void (*done)(struct work *work, int result); // may be NULL
    void *user;
    // storage.c's.
    uint32_t given; // bytes, to operations
    bool begun, over;
    unsigned under_way; // operations
    int result;
    struct work *next;
};

struct storage {
    struct remote remote;
    bool lost; // the connection: only storage_close() is left
    // storage.c's.
    struct remote_op ops[STORAGE_DEPTH];
    struct remote_op *free, *refused; // the latter by a storage that is busy
    struct remote_op *ended, **ended_last;
    struct work *first, **last; // not all given yet
    unsigned under_way;
};

int storage_open(struct storage *storage, const char *url, bool read_only, struct err *err);
// What was under way is nowhere afterwards: its `done` is not called.
void storage_close(struct storage *storage);

void storage_start(struct storage *storage, struct work *work);
// Hand over what can be, and call `done` of what has ended; these may start more.
void storage_turn(struct storage *storage);

// For the caller's loop: what to wait for and how long, and what came of it (0: the time is over).
void storage_wait_for(struct storage *storage, struct pollfd *wait, int *timeout_ms);
void storage_serve(struct storage *storage, short events);

// This work and nothing else, until it is done: its result, or -ENOTCONN.
int storage_do(struct storage *storage, struct work *work);

#endif
