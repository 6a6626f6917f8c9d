// SPDX-License-Identifier: Apache-2.0
//
// Requests of the client, from their arrival to their answer:
//
//   held -> edges -> main -> flush -> answered
//
// A request is held while an earlier one changes the same blocks, or while the journal is emptied. A write of part of a block reads the blocks at its
// edges first. A flush follows where the client wants it (FUA), or where the journal has grown too much. A request without a certain step goes past it.
#ifndef WIRT_IO_REQUEST_H
#define WIRT_IO_REQUEST_H

#include "io/journal.h"
#include "io/storage.h"
#include "wire/nbd.h"

#define REQUESTS_MAX       64
#define REQUESTS_BYTES_MAX (64u << 20) // no further one is taken beyond

enum request_step { REQUEST_HELD, REQUEST_EDGES, REQUEST_MAIN, REQUEST_FLUSH };

struct request {
    struct request *next; // in the order of arrival
    struct requests *all;
    struct nbd_request nbd;
    enum request_step step;
    uint64_t start; // its whole blocks
    uint32_t length;
    size_t size;        // of this struct and what follows it
    uint64_t covered;   // its flush: the journal's entries up to this number
    bool says_lost;     // its flush: something could not be written again
    bool empties;       // its flush is to empty the journal
    bool is_over;       // answered
    unsigned under_way; // of the works
    int result;
    struct work work[2]; // the second: another edge
    uint8_t *data;       // within the bytes: as the client sees it
    uint8_t bytes[];     // room for the answer's head, the whole blocks, two blocks of edges
};

struct requests {
    struct storage *storage;                             // borrowed
    void (*answer)(void *user, struct request *request); // its result and data are to be sent
    void *user;
    struct request *first, **last;
    unsigned count;
    size_t bytes;
    struct journal journal;
    bool emptying; // a flush is under way because the journal is full
    bool changed;  // one has ended: another that was held may begin
};

// `room`: of the journal, borrowed, with what is in it.
void requests_init(struct requests *all, struct storage *storage, struct journal_room *room,
                   void (*answer)(void *user, struct request *request), void *user);
void requests_fini(struct requests *all);
bool requests_have_room(const struct requests *all);

// With room for its data, in no list. NULL: no memory.
struct request *request_create(struct requests *all, const struct nbd_request *nbd);
// What the client asked for is checked; all->answer is called when it is done.
void request_add(struct requests *all, struct request *request);

// Begin what need not be held any longer.
void requests_begin(struct requests *all);
// The storage is there again, and knows of nothing: what it may have lost is written again, then all that is not done begins anew.
// -ENOTCONN: it is lost again.
int requests_again(struct requests *all);

#endif
