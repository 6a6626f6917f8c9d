// SPDX-License-Identifier: Apache-2.0
//
// io_model_test COUNT [SEED]: random requests, many at once, to the server of a remote disk before a storage that loses what it may
// (made_up_storage.h). What a client can know is kept here: where nothing is being changed, a cell holds what was written there last, through
// every loss. At the end the storage forgets all that no flush made safe, and everything is there.
//
// In every fifth sequence the server is ended at some moments, as by a kill, and another one goes on with what it left; the client sends again what
// was not answered.
//
// Every fourth sequence moves so much that the server has to flush by itself. Another one damages a write while it is made again: the
// next flush says so, and the one after it does not.
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/big_endian.h"
#include "base/bits.h"
#define LOG_MODULE "test"
#include "base/log.h"
#include "io/io.h"
#include "made_up_storage.h"
#include "os/file.h"
#include "os/unix_socket.h"
#include "wire/nbd.h"

#define CELLS_MAX 64
#define DEPTH     24

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "seed %" PRIu32 ", %s:%d: %s; ", seed, __FILE__, __LINE__,             \
                    #condition);                                                                   \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\n");                                                                 \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static uint32_t seed;

struct cell {
    uint64_t number;   // what was written last; 0: zeros
    unsigned changing; // writes under way
    unsigned version;  // of what is known about it
};

struct slot {
    bool used, quiet; // a read: nothing was changing when it was sent
    struct nbd_request nbd;
    uint64_t number, order; // what it writes; of its sending
    unsigned versions[CELLS_MAX];
};

struct test {
    int fd, server_fd, status[2];
    pthread_t server;
    uint32_t random, cell_bytes, cells, most; // cells of one request
    struct cell cell[CELLS_MAX];
    struct slot slots[DEPTH];
    unsigned in_flight;
    uint64_t number, order;
    bool may_be_killed;
    struct io_kept *kept;
    uint8_t *bytes; // of one request
};

static uint32_t below(struct test *t, uint32_t n)
{
    return made_up_below(&t->random, n);
}

// ---- The client

static void send_bytes(struct test *t, const void *bytes, size_t length)
{
    CHECK(!os_unix_send_all(t->fd, bytes, length), "the server is gone");
}

static void receive(struct test *t, void *bytes, size_t length)
{
    CHECK(!os_unix_receive_all(t->fd, bytes, length), "the server is gone");
}

// False: the server was killed before it answered.
static bool negotiate(struct test *t)
{
    uint8_t greeting[NBD_GREETING_BYTES], go[4 + NBD_OPTION_HEADER_BYTES + 6] = {0};
    uint8_t head[NBD_OPTION_REPLY_BYTES], data[NBD_OPTION_DATA_MAX];
    uint32_t type, length;
    if (os_unix_receive_all(t->fd, greeting, sizeof(greeting)))
        return false;
    store_be32(go, 3);
    nbd_option_encode(go + 4, NBD_OPT_GO, 6);
    send_bytes(t, go, sizeof(go));
    do {
        receive(t, head, sizeof(head));
        CHECK(nbd_option_reply_decode(head, NBD_OPT_GO, &type, &length), "no reply");
        receive(t, data, length);
    } while (type != NBD_REP_ACK);
    return true;
}

static uint32_t first_of(const struct test *t, const struct slot *s)
{
    return (uint32_t)(s->nbd.offset / t->cell_bytes);
}

static uint32_t count_of(const struct test *t, const struct slot *s)
{
    return s->nbd.length / t->cell_bytes;
}

static bool changes(const struct slot *s)
{
    return s->nbd.command == NBD_CMD_WRITE || s->nbd.command == NBD_CMD_WRITE_ZEROES;
}

static void fill(struct test *t, const struct slot *s, uint64_t number)
{
    for (size_t at = 0; at < s->nbd.length; at += sizeof(number))
        memcpy(t->bytes + at, &number, sizeof(number));
}

static void note_sent(struct test *t, struct slot *s)
{
    uint64_t number = s->nbd.command == NBD_CMD_WRITE ? ++t->number : 0;
    s->quiet = true;
    for (uint32_t i = first_of(t, s); i < first_of(t, s) + count_of(t, s); i++) {
        struct cell *c = &t->cell[i];
        if (changes(s)) {
            c->number = number; // the server does them in the order of their arrival
            c->changing++;
            c->version++;
        }
        s->quiet &= !c->changing;
        s->versions[i] = c->version;
    }
    s->number = number;
}

// One that was killed does not take it: that is seen where its answer is waited for.
static void put(struct test *t, const struct slot *s)
{
    uint8_t raw[NBD_REQUEST_BYTES];
    nbd_request_encode(&s->nbd, raw);
    bool moves = s->nbd.command == NBD_CMD_WRITE;
    if (moves)
        fill(t, s, s->number);
    bool sent = !os_unix_send_all(t->fd, raw, sizeof(raw)) &&
                (!moves || !os_unix_send_all(t->fd, t->bytes, s->nbd.length));
    CHECK(sent || t->may_be_killed, "the server is gone");
}

static void send_request(struct test *t, uint16_t command, uint16_t flags, uint32_t cell,
                         uint32_t cells)
{
    uint32_t i = 0;
    while (t->slots[i].used)
        i++;
    struct slot *s = &t->slots[i];
    *s = (struct slot){.used = true,
                       .order = ++t->order,
                       .nbd = {.command = command,
                               .flags = flags,
                               .cookie = i,
                               .offset = (uint64_t)cell * t->cell_bytes,
                               .length = cells * t->cell_bytes}};
    note_sent(t, s);
    put(t, s);
    t->in_flight++;
}

static void check_read(struct test *t, const struct slot *s)
{
    for (uint32_t i = 0; s->quiet && i < count_of(t, s); i++) {
        uint32_t at = first_of(t, s) + i;
        const uint8_t *bytes = t->bytes + (size_t)i * t->cell_bytes;
        if (t->cell[at].version != s->versions[at])
            continue;
        for (size_t k = 0; k < t->cell_bytes; k += 8)
            CHECK(!memcmp(bytes + k, &t->cell[at].number, 8), "cell %u is not what was written",
                  (unsigned)at);
    }
}

static void join_again(struct test *t);

static int take_answer(struct test *t)
{
    uint8_t raw[NBD_REPLY_BYTES];
    struct nbd_reply reply;
    while (os_unix_receive_all(t->fd, raw, sizeof(raw)))
        join_again(t);
    CHECK(nbd_reply_decode(raw, &reply) && reply.cookie < DEPTH && t->slots[reply.cookie].used,
          "an answer to nothing");
    struct slot *s = &t->slots[reply.cookie];
    if (s->nbd.command == NBD_CMD_READ && !reply.error) {
        receive(t, t->bytes, s->nbd.length);
        check_read(t, s);
    }
    for (uint32_t i = first_of(t, s); changes(s) && i < first_of(t, s) + count_of(t, s); i++) {
        t->cell[i].changing--;
        t->cell[i].version++;
    }
    s->used = false;
    t->in_flight--;
    return reply.error;
}

static void take_good(struct test *t)
{
    int rc = take_answer(t);
    CHECK(!rc, "an error of %d", rc);
}

// ---- The server

static void *serve(void *argument)
{
    struct test *t = argument;
    struct err err;
    const struct io_service service = {.fd = t->server_fd,
                                       .status_fd = t->status[1],
                                       .next_fd = -1,
                                       .url = "made-up://",
                                       .kept = t->kept};
    (void)io_serve(&service, &err);
    return NULL;
}

static void start_server(struct test *t)
{
    struct err err;
    int pair[2];
    pthread_attr_t small;
    CHECK(!os_unix_pair(pair, false, &err), "no sockets");
    t->fd = pair[0];
    t->server_fd = pair[1];
    made_up.server_fd = pair[1];
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 256 * KIB);
    CHECK(!pthread_create(&t->server, &small, serve, t), "no thread");
    pthread_attr_destroy(&small);
}

// The server was killed: all that was not answered is sent again, in the same order.
static void join_again(struct test *t)
{
    CHECK(t->may_be_killed, "the server is gone");
    do {
        pthread_detach(t->server);
        os_file_close(&t->fd);
        os_file_close(&t->server_fd);
        start_server(t);
    } while (!negotiate(t));
    for (uint64_t last = 0; last < t->order;) {
        const struct slot *next = NULL;
        for (uint32_t i = 0; i < DEPTH; i++) {
            const struct slot *s = &t->slots[i];
            if (s->used && s->order > last && (!next || s->order < next->order))
                next = s;
        }
        if (!next)
            return;
        put(t, next);
        last = next->order;
    }
}

static void start(struct test *t)
{
    struct err err;
    CHECK(!os_unix_pair(t->status, true, &err), "no sockets");
    t->kept = io_kept_create(&err);
    CHECK(t->kept, "%s", err.text);
    t->bytes = malloc((size_t)t->most * t->cell_bytes);
    made_up.size = (uint64_t)t->cells * t->cell_bytes;
    made_up.bytes = calloc(1, made_up.size);
    start_server(t);
    CHECK(negotiate(t), "the server is gone");
}

static void finish(struct test *t)
{
    uint8_t raw[NBD_REQUEST_BYTES];
    send_request(t, NBD_CMD_FLUSH, 0, 0, 0);
    take_good(t);
    made_up.kills = 0;
    nbd_request_encode(&(struct nbd_request){.command = NBD_CMD_DISC}, raw);
    send_bytes(t, raw, sizeof(raw));
    pthread_join(t->server, NULL);
    made_up_forget();
    for (size_t at = 0; at < made_up.size; at += 8)
        CHECK(!memcmp(made_up.bytes + at, &t->cell[at / t->cell_bytes].number, 8),
              "cell %zu was lost", at / t->cell_bytes);
    os_file_close(&t->fd);
    os_file_close(&t->server_fd);
    os_file_close(&t->status[0]);
    os_file_close(&t->status[1]);
    io_kept_destroy(t->kept);
    free(t->bytes);
    free(made_up.bytes);
}

// ---- The sequences

static void send_any(struct test *t)
{
    uint32_t kind = below(t, 100), n = 1 + below(t, t->most), at = below(t, t->cells - n + 1);
    uint32_t whole = made_up.block > t->cell_bytes ? made_up.block / t->cell_bytes : 1;
    uint16_t fua = below(t, 10) ? 0 : NBD_FLAG_FUA;
    if (kind < 45)
        send_request(t, NBD_CMD_WRITE, fua, at, n);
    else if (kind < 55)
        send_request(t, NBD_CMD_WRITE_ZEROES, fua, at / whole * whole, whole);
    else if (kind < 92)
        send_request(t, NBD_CMD_READ, 0, at, n);
    else
        send_request(t, NBD_CMD_FLUSH, 0, 0, 0);
}

static void run_sequence(void)
{
    bool large = seed % 4 == 3;
    struct test t = {.random = seed,
                     .cell_bytes = large ? MIB : 512,
                     .cells = large ? 8 : CELLS_MAX,
                     .most = large ? 1 : 5,
                     .may_be_killed = seed % 5 == 2};
    made_up = (struct made_up){.random = seed * 7919u,
                               .block = seed % 2 ? 512 : 1024,
                               .length_max = large ? MIB : 1024,
                               .loss_after = large ? 200 : 400,
                               .kills = t.may_be_killed ? 2 : 0,
                               .kill_after = large ? 100 : 1500,
                               .fail_opening = 3};
    start(&t);
    for (unsigned left = large ? 150 : 1500; left || t.in_flight;) {
        if (!left || t.in_flight == DEPTH || (t.in_flight && below(&t, 2))) {
            take_good(&t);
            continue;
        }
        left--;
        // Whoever sends much and receives much at once has two threads.
        if (large)
            send_request(&t, NBD_CMD_WRITE, 0, below(&t, t.cells), 1);
        else
            send_any(&t);
    }
    CHECK(!large || made_up.flushes >= 3, "%u flushes of its own", made_up.flushes);
    CHECK(made_up.openings > 1, "the connection was never lost");
    CHECK(!made_up.kills, "the server was not killed");
    finish(&t);
}

// The second write's being made again is what fails.
static void run_damage(void)
{
    struct test t = {.random = seed, .cell_bytes = 512, .cells = 4, .most = 1};
    made_up = (struct made_up){
        .random = seed, .block = 512, .length_max = 512, .fail_opening = 0, .loss_after = 0};
    start(&t);
    for (uint32_t i = 0; i < 3; i++) {
        send_request(&t, NBD_CMD_WRITE, 0, i, 1);
        take_good(&t);
    }
    made_up.bad = 2;
    made_up.lose_all = true;
    send_request(&t, NBD_CMD_READ, 0, 0, 1);
    take_good(&t);
    send_request(&t, NBD_CMD_FLUSH, 0, 0, 0);
    int rc = take_answer(&t);
    CHECK(rc == -EIO, "the flush says %d", rc);
    made_up.bad = 0;
    send_request(&t, NBD_CMD_FLUSH, 0, 0, 0);
    take_good(&t);
    send_request(&t, NBD_CMD_WRITE, NBD_FLAG_FUA, 1, 1);
    take_good(&t);
    finish(&t);
}

static void quiet(enum log_level level, const char *line)
{
    (void)level;
    (void)line;
}

int main(int argc, char *argv[])
{
    unsigned count = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 60;
    uint32_t begin = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 20261122;
    log_set_sink(quiet);
    seed = begin;
    run_damage();
    for (seed = begin; seed < begin + count; seed++)
        run_sequence();
    printf("%u sequences from seed %" PRIu32 "\n", count, begin);
    return 0;
}
