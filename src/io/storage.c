// SPDX-License-Identifier: Apache-2.0
#include "io/storage.h"

#include <errno.h>

#include "base/bits.h"
#include "os/unix_socket.h"
#include "wire/nbd.h"

#define TICK_MS  1000 // the libraries' own limits of time are looked at so often
#define AGAIN_MS 100  // a storage that has too much to do is asked again so soon

// ---- Operations

static struct storage *storage_of(struct remote *remote)
{
    return CONTAINER_OF(remote, struct storage, remote);
}

void remote_op_end(struct remote_op *op, int result)
{
    struct storage *s = storage_of(op->remote);
    if (!op->under_way) // a library tells it twice, or while it is closed
        return;
    op->under_way = false;
    op->result = result;
    op->next = NULL;
    *s->ended_last = op;
    s->ended_last = &op->next;
}

static void submit(struct remote_op *op)
{
    op->under_way = true;
    op->moved = 0;
    op->task = NULL;
    remote_ops.submit(op);
}

static void submit_refused(struct storage *s)
{
    while (s->refused && !s->lost) {
        struct remote_op *op = s->refused;
        s->refused = op->next;
        submit(op);
    }
}

// ---- Work

static bool has_more(const struct work *work)
{
    if (work->result)
        return false;
    return work->command == NBD_CMD_FLUSH ? !work->begun : work->given < work->length;
}

static void give(struct storage *s, struct work *work)
{
    struct remote_op *op = s->free;
    uint32_t left = work->length - work->given, most = s->remote.length_max;
    s->free = op->next;
    *op = (struct remote_op){.remote = &s->remote,
                             .command = work->command,
                             .flags = work->flags,
                             .offset = work->offset + work->given,
                             .length = left < most ? left : most,
                             .bytes = work->bytes ? work->bytes + work->given : NULL,
                             .work = work};
    work->begun = true;
    work->given += op->length;
    work->under_way++;
    s->under_way++;
    submit(op);
}

static void finish_if_over(struct work *work)
{
    if (work->under_way || has_more(work))
        return;
    work->over = true;
    if (work->done)
        work->done(work, work->result);
}

static void hand_over(struct storage *s)
{
    while (s->first && !s->lost) {
        struct work *work = s->first;
        while (has_more(work) && s->free && !s->lost)
            give(s, work);
        if (has_more(work))
            return;
        if (!(s->first = work->next))
            s->last = &s->first;
        finish_if_over(work);
    }
}

// Is it still among those of which not all is given? Then its end is found there.
static bool is_queued(const struct storage *s, const struct work *work)
{
    const struct work *at = s->first;
    while (at && at != work)
        at = at->next;
    return at;
}

static void take_ended(struct storage *s)
{
    struct remote_op *op = s->ended;
    struct work *work = op->work;
    if (!(s->ended = op->next))
        s->ended_last = &s->ended;
    if (op->result == -EAGAIN) {
        op->next = s->refused;
        s->refused = op;
        return;
    }
    // Its work is not over; the server begins it again.
    s->lost |= op->result == -ENOTCONN;
    if (op->result == -ENOTCONN)
        return;
    op->next = s->free;
    s->free = op;
    s->under_way--;
    work->under_way--;
    if (op->result && !work->result)
        work->result = op->result;
    submit_refused(s);
    if (!is_queued(s, work))
        finish_if_over(work);
}

void storage_start(struct storage *s, struct work *work)
{
    work->given = 0;
    work->begun = false;
    work->over = false;
    work->under_way = 0;
    work->result = 0;
    work->next = NULL;
    *s->last = work;
    s->last = &work->next;
}

void storage_turn(struct storage *s)
{
    hand_over(s);
    while (s->ended) {
        take_ended(s);
        hand_over(s);
    }
}

// ---- The connection

int storage_open(struct storage *s, const char *url, bool read_only, struct err *err)
{
    *s = (struct storage){.ended_last = &s->ended, .last = &s->first};
    for (unsigned i = 0; i < STORAGE_DEPTH; i++) {
        s->ops[i].next = s->free;
        s->free = &s->ops[i];
    }
    s->remote.read_only = read_only;
    return remote_ops.open(url, read_only, &s->remote, err);
}

void storage_close(struct storage *s)
{
    for (unsigned i = 0; i < STORAGE_DEPTH; i++)
        s->ops[i].under_way = false;
    s->lost = true;
    if (s->remote.handle)
        remote_ops.close(&s->remote);
}

void storage_wait_for(struct storage *s, struct pollfd *wait, int *timeout_ms)
{
    *wait = remote_ops.wait_for(&s->remote);
    *timeout_ms = s->refused ? AGAIN_MS : s->under_way ? TICK_MS : -1;
}

void storage_serve(struct storage *s, short events)
{
    // Where nothing is under way nothing can fail either: a library need not tell us that the other end is gone.
    bool gone = (events & (POLLERR | POLLHUP | POLLNVAL)) && !(events & POLLIN);
    if (!s->under_way && events)
        gone |= os_unix_hung_up(remote_ops.wait_for(&s->remote).fd);
    s->lost |= gone || remote_ops.serve(&s->remote, events);
    if (!events)
        submit_refused(s);
}

int storage_do(struct storage *s, struct work *work)
{
    storage_start(s, work);
    for (storage_turn(s); !work->over && !s->lost; storage_turn(s)) {
        struct pollfd wait;
        int timeout_ms;
        storage_wait_for(s, &wait, &timeout_ms);
        int n = os_poll(&wait, 1, timeout_ms);
        if (n >= 0)
            storage_serve(s, n ? wait.revents : 0);
    }
    return work->over ? work->result : -ENOTCONN;
}
