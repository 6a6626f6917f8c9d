// SPDX-License-Identifier: Apache-2.0
#include "io/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

static bool is_change(const struct request *r)
{
    return r->nbd.command != NBD_CMD_READ && r->nbd.command != NBD_CMD_FLUSH;
}

static bool is_whole(const struct request *r)
{
    return r->start == r->nbd.offset && r->length == r->nbd.length;
}

static uint8_t *blocks_of(struct request *r)
{
    return r->data - (r->nbd.offset - r->start);
}

// ---- Making and ending

void requests_init(struct requests *all, struct storage *storage, struct journal_room *room,
                   void (*answer)(void *user, struct request *request), void *user)
{
    *all =
        (struct requests){.storage = storage, .answer = answer, .user = user, .last = &all->first};
    journal_init(&all->journal, room);
}

void requests_fini(struct requests *all)
{
    while (all->first) {
        struct request *r = all->first;
        all->first = r->next;
        free(r);
    }
    journal_forget(&all->journal, UINT64_MAX);
}

bool requests_have_room(const struct requests *all)
{
    return all->count < REQUESTS_MAX && all->bytes < REQUESTS_BYTES_MAX;
}

struct request *request_create(struct requests *all, const struct nbd_request *nbd)
{
    uint32_t block = all->storage->remote.block;
    bool moves = nbd->command == NBD_CMD_READ || nbd->command == NBD_CMD_WRITE;
    uint64_t start = align_down(nbd->offset, block);
    uint64_t length = (nbd->offset - start) + nbd->length;
    if (moves)
        length = align_up(length, block);
    size_t size = sizeof(struct request) +
                  (moves ? NBD_REPLY_BYTES + (size_t)length + 2u * block : NBD_REPLY_BYTES);
    struct request *r = malloc(size);
    if (!r)
        return NULL;
    *r = (struct request){.all = all, .nbd = *nbd, .start = start, .length = (uint32_t)length};
    r->size = size;
    r->data = r->bytes + NBD_REPLY_BYTES + (moves ? nbd->offset - start : 0);
    return r;
}

static void end(struct request *r, int result)
{
    struct requests *all = r->all;
    r->result = result;
    r->is_over = true;
    all->changed = true;
    all->answer(all->user, r);
}

// Those that are over leave the list; nothing refers to them any more.
static void sweep(struct requests *all)
{
    for (struct request **link = &all->first; *link;) {
        struct request *r = *link;
        if (!r->is_over) {
            link = &r->next;
            continue;
        }
        *link = r->next;
        all->count--;
        all->bytes -= r->size;
        free(r);
    }
    all->last = &all->first;
    while (*all->last)
        all->last = &(*all->last)->next;
}

// ---- Step by step

static void start(struct request *r, unsigned which, const struct work *work,
                  void (*done)(struct work *work, int result))
{
    r->work[which] = *work;
    r->work[which].done = done;
    r->work[which].user = r;
    r->under_way++;
    storage_start(r->all->storage, &r->work[which]);
}

static void flushed(struct work *work, int result)
{
    struct request *r = work->user;
    struct requests *all = r->all;
    r->under_way--;
    if (r->empties)
        all->emptying = false;
    bool says_lost = !result && r->says_lost;
    if (!result)
        journal_forget(&all->journal, r->covered);
    end(r, says_lost ? -EIO : result);
    // Not before it is told: whoever is killed in between tells it twice.
    if (says_lost)
        all->journal.room->lost = false;
}

static void begin_flush(struct request *r)
{
    r->step = REQUEST_FLUSH;
    r->covered = r->all->journal.number;
    r->says_lost = r->all->journal.room->lost;
    start(r, 0, &(struct work){.command = NBD_CMD_FLUSH}, flushed);
}

static void remember(struct request *r)
{
    struct requests *all = r->all;
    bool kept = journal_add(&all->journal, r->nbd.command, r->nbd.flags, r->start, r->length,
                            r->nbd.command == NBD_CMD_WRITE ? blocks_of(r) : NULL);
    r->empties = !kept || (journal_is_full(&all->journal) && !all->emptying);
    all->emptying |= r->empties;
}

static void main_done(struct work *work, int result)
{
    struct request *r = work->user;
    r->under_way--;
    if (!result && is_change(r))
        remember(r);
    bool sure = is_change(r) && (r->nbd.flags & NBD_FLAG_FUA);
    if (!result && (sure || r->empties))
        begin_flush(r);
    else
        end(r, result);
}

static void begin_main(struct request *r)
{
    r->step = REQUEST_MAIN;
    start(r, 0,
          &(struct work){.command = r->nbd.command,
                         .flags = r->nbd.flags,
                         .offset = r->start,
                         .length = r->length,
                         .bytes = blocks_of(r)},
          main_done);
}

static void edge_done(struct work *work, int result)
{
    struct request *r = work->user;
    uint32_t block = r->all->storage->remote.block;
    uint8_t *edges = blocks_of(r) + r->length;
    uint32_t before = (uint32_t)(r->nbd.offset - r->start),
             after = r->length - before - r->nbd.length;
    if (result && !r->result)
        r->result = result;
    if (--r->under_way)
        return;
    if (r->result) {
        end(r, r->result);
        return;
    }
    memcpy(blocks_of(r), edges, before);
    memcpy(r->data + r->nbd.length, edges + 2 * block - after, after);
    begin_main(r);
}

// Both, even where it is the same block.
static void begin_edges(struct request *r)
{
    uint32_t block = r->all->storage->remote.block;
    uint8_t *edges = blocks_of(r) + r->length;
    r->step = REQUEST_EDGES;
    start(r, 0,
          &(struct work){
              .command = NBD_CMD_READ, .offset = r->start, .length = block, .bytes = edges},
          edge_done);
    start(r, 1,
          &(struct work){.command = NBD_CMD_READ,
                         .offset = r->start + r->length - block,
                         .length = block,
                         .bytes = edges + block},
          edge_done);
}

static void begin(struct request *r)
{
    if (r->nbd.command == NBD_CMD_FLUSH)
        begin_flush(r);
    else if (r->nbd.command == NBD_CMD_WRITE && !is_whole(r))
        begin_edges(r);
    else
        begin_main(r);
}

// ---- All of them

// Does an earlier one that is not done change the same blocks?
static bool must_wait(const struct requests *all, const struct request *r)
{
    if (!is_change(r))
        return false;
    if (all->emptying)
        return true;
    for (const struct request *e = all->first; e != r; e = e->next) {
        if (!e->is_over && is_change(e) && e->start < r->start + r->length &&
            r->start < e->start + e->length)
            return true;
    }
    return false;
}

void requests_begin(struct requests *all)
{
    sweep(all);
    all->changed = false;
    for (struct request *r = all->first; r; r = r->next) {
        if (r->step == REQUEST_HELD && !must_wait(all, r))
            begin(r);
    }
}

// A process that was killed may have left anything.
static bool fits(const struct remote *remote, const struct journal_entry *e)
{
    return range_within(e->offset, e->length, remote->size) &&
           !((e->offset | e->length) & (remote->block - 1));
}

static int write_again(struct requests *all)
{
    struct journal_entry *e = NULL;
    while ((e = journal_next(&all->journal, e))) {
        if (!fits(&all->storage->remote, e)) {
            all->journal.room->lost = true;
            continue;
        }
        struct work work = {.command = e->command,
                            .flags = e->flags,
                            .offset = e->offset,
                            .length = e->length,
                            .bytes = e->bytes};
        int rc = storage_do(all->storage, &work);
        if (rc == -ENOTCONN)
            return rc;
        if (rc)
            all->journal.room->lost = true; // told by the next flush
    }
    return 0;
}

int requests_again(struct requests *all)
{
    int rc = write_again(all);
    if (rc)
        return rc;
    sweep(all);
    for (struct request *r = all->first; r; r = r->next) {
        if (r->step == REQUEST_HELD)
            continue;
        r->under_way = 0;
        r->result = 0;
        if (r->step == REQUEST_FLUSH)
            begin_flush(r);
        else
            begin(r);
    }
    return 0;
}

// 1: it is for the storage; else its result.
static int check(const struct request *r)
{
    const struct remote *remote = &r->all->storage->remote;
    bool whole = is_whole(r) && !(r->nbd.length & (remote->block - 1));
    if (r->nbd.command == NBD_CMD_FLUSH)
        return 1;
    if (remote->read_only && is_change(r))
        return -EPERM;
    if (!range_within(r->nbd.offset, r->nbd.length, remote->size))
        return -EINVAL;
    switch (r->nbd.command) {
    case NBD_CMD_READ:
    case NBD_CMD_WRITE:
        return r->nbd.length ? 1 : 0;
    case NBD_CMD_TRIM: // a hint: what is not whole is left
        return remote->can_trim && whole && r->nbd.length ? 1 : 0;
    case NBD_CMD_WRITE_ZEROES:
        if (!remote->can_zero || !whole)
            return -EOPNOTSUPP;
        return r->nbd.length ? 1 : 0;
    default:
        return -EINVAL;
    }
}

void request_add(struct requests *all, struct request *r)
{
    *all->last = r;
    all->last = &r->next;
    all->count++;
    all->bytes += r->size;
    int rc = check(r);
    if (rc != 1)
        end(r, rc);
    else if (!must_wait(all, r))
        begin(r);
}
