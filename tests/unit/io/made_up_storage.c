// SPDX-License-Identifier: Apache-2.0
#include "made_up_storage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/storage.h"
#include "wire/nbd.h"

struct made_up made_up;

// Nobody waits here before the storage is tried again.
void __wrap_os_clock_sleep_until_ns(uint64_t ns);
void __wrap_os_clock_sleep_until_ns(uint64_t ns)
{
    (void)ns;
}

// A change since the last loss, in the order in which they were made.
struct change {
    struct change *next;
    uint64_t offset;
    uint32_t length;
    unsigned answered_at; // by the clock; 0: not yet
    bool safe;
    uint8_t bytes[];
};

static struct {
    uint8_t *before; // what it held at the last loss
    struct change *first, **last;
    struct {
        struct remote_op *op;
        struct change *change; // made, not answered yet
        bool done;
        unsigned asked_at;
    } ops[STORAGE_DEPTH];
    unsigned count, clock, left; // operations until the loss
    unsigned life;               // operations until the kill; 0: none
    int ends[2];                 // always readable
} own;

uint32_t made_up_below(uint32_t *random, uint32_t n)
{
    *random = *random * 1664525u + 1013904223u;
    return (*random >> 8) % n;
}

static uint32_t below(uint32_t n)
{
    return made_up_below(&made_up.random, n);
}

// What is safe stays, and of the rest so many in a hundred.
static void lose(unsigned percent)
{
    memcpy(made_up.bytes, own.before, made_up.size);
    while (own.first) {
        struct change *c = own.first;
        own.first = c->next;
        if (c->safe || below(100) < percent)
            memcpy(made_up.bytes + c->offset, c->bytes, c->length);
        free(c);
    }
    own.last = &own.first;
    memcpy(own.before, made_up.bytes, made_up.size);
}

void made_up_forget(void)
{
    lose(0);
    free(own.before);
    own.before = NULL;
}

static int open_it(const char *url, bool read_only, struct remote *remote, struct err *err)
{
    (void)url;
    if (++made_up.openings == made_up.fail_opening)
        return err_set(err, ERR_IO, "nobody there");
    if (!own.before) {
        own.before = malloc(made_up.size);
        memcpy(own.before, made_up.bytes, made_up.size);
        own.last = &own.first;
    }
    if (!own.ends[1] && (pipe(own.ends) || write(own.ends[1], "x", 1) != 1))
        return err_set(err, ERR_IO, "no pipe");
    own.count = 0;
    if (!own.life && made_up.kills)
        own.life = 1 + below(made_up.kill_after);
    own.left = made_up.loss_after ? 1 + below(made_up.loss_after) : UINT32_MAX;
    *remote = (struct remote){.handle = &made_up,
                              .size = made_up.size,
                              .block = made_up.block,
                              .length_max = made_up.length_max,
                              .read_only = read_only,
                              .can_flush = true,
                              .can_zero = true};
    return 0;
}

static void close_it(struct remote *remote)
{
    own.count = 0;
    remote->handle = NULL;
}

static void submit(struct remote_op *op)
{
    if (below(own.count ? 50 : 5000) == 0) { // alone it is tried again only after a while
        remote_op_end(op, -EAGAIN);
        return;
    }
    own.ops[own.count].op = op;
    own.ops[own.count].change = NULL;
    own.ops[own.count].done = false;
    own.ops[own.count].asked_at = ++own.clock;
    own.count++;
}

static struct pollfd wait_for(struct remote *remote)
{
    (void)remote;
    return (struct pollfd){.fd = own.ends[0], .events = own.count ? POLLIN : 0};
}

static struct change *make_change(const struct remote_op *op)
{
    struct change *c = calloc(1, sizeof(*c) + op->length);
    c->offset = op->offset;
    c->length = op->length;
    if (op->command == NBD_CMD_WRITE)
        memcpy(c->bytes, op->bytes, op->length);
    memcpy(made_up.bytes + c->offset, c->bytes, c->length);
    *own.last = c;
    own.last = &c->next;
    return c;
}

static void make_safe(unsigned asked_at)
{
    made_up.flushes++;
    for (struct change *c = own.first; c; c = c->next)
        c->safe |= c->answered_at && c->answered_at < asked_at;
}

static bool is_bad(const struct remote_op *op)
{
    uint64_t number = 0;
    if (op->command == NBD_CMD_WRITE)
        memcpy(&number, op->bytes, sizeof(number));
    return number && number == made_up.bad;
}

static void do_it(unsigned i)
{
    struct remote_op *op = own.ops[i].op;
    own.ops[i].done = true;
    if (op->command == NBD_CMD_READ)
        memcpy(op->bytes, made_up.bytes + op->offset, op->length);
    else if (op->command != NBD_CMD_FLUSH && !is_bad(op))
        own.ops[i].change = make_change(op);
}

static void answer(unsigned i)
{
    struct remote_op *op = own.ops[i].op;
    if (own.ops[i].change)
        own.ops[i].change->answered_at = ++own.clock;
    if (op->command == NBD_CMD_FLUSH)
        make_safe(own.ops[i].asked_at);
    own.ops[i] = own.ops[--own.count];
    remote_op_end(op, is_bad(op) ? -EIO : 0);
}

// Of what the server had asked for the storage does any part, and may lose what is not safe. The thread stays, so that its memory does.
static _Noreturn void kill_server(void)
{
    made_up.kills--;
    for (unsigned i = 0; i < own.count; i++) {
        if (!own.ops[i].done && below(2))
            do_it(i);
    }
    own.count = 0;
    if (below(2))
        lose(below(100));
    shutdown(made_up.server_fd, SHUT_RDWR);
    while (true)
        pause();
}

static int serve(struct remote *remote, short events)
{
    (void)remote;
    if (!own.count || !(events & POLLIN))
        return 0;
    if (made_up.kills && own.life && !--own.life)
        kill_server();
    if (made_up.lose_all || !--own.left) {
        lose(made_up.lose_all ? 0 : below(100));
        made_up.lose_all = false;
        return -ENOTCONN;
    }
    unsigned i = below(own.count);
    if (own.ops[i].done)
        answer(i);
    else
        do_it(i);
    return 0;
}

const struct remote_ops remote_ops = {
    .scheme = "made-up",
    .open = open_it,
    .close = close_it,
    .submit = submit,
    .wait_for = wait_for,
    .serve = serve,
};
