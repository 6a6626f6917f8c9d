// SPDX-License-Identifier: Apache-2.0
//
// The NBD server: negotiation, then the loop. The client is a wirt-vm whose guest may have taken it over: whatever it sends is
// checked, and what makes no sense ends the process.
#include <stdio.h>
#include <stdlib.h>

#include "io/request.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/poll_set.h"
#include "os/unix_socket.h"

#define LOG_MODULE "wirt-io"
#include "base/log.h"

#define OPTIONS_MAX     16
#define RECONNECT_NS    200000000ull // after the first failure; twice as long each time
#define RECONNECT_MAX_S 5
#define ENDING_NS       5000000000ull // who ends waits so long for a storage that is lost

struct server {
    int fd, status_fd;
    struct io_kept *kept;
    const char *url;
    bool read_only;
    bool leaving;  // the client ends, or does not make sense
    bool ending;   // it has said that it is about to
    uint64_t size; // as it was at first
    struct storage storage;
    struct requests requests;
};

// Nobody need listen any more.
static void tell(struct server *s, const char *word, const char *reason)
{
    char text[ERR_TEXT_BYTES];
    int n = snprintf(text, sizeof(text), "%s%s%s", word, reason ? " " : "", reason ? reason : "");
    if (n > 0 && (size_t)n < sizeof(text))
        (void)os_unix_send_ready(s->status_fd, text, (size_t)n);
}

// ---- The storage

static int open_again(struct server *s, struct err *err)
{
    if (storage_open(&s->storage, s->url, s->read_only, err))
        return -1;
    if (s->storage.remote.size != s->size)
        err_set(err, ERR_IO, "its size has changed");
    else if (!requests_again(&s->requests))
        return 0;
    storage_close(&s->storage);
    return -1;
}

// Nobody waits for a storage on behalf of nobody.
static bool client_left(const struct server *s)
{
    struct pollfd wait = {.fd = s->fd};
    return os_poll(&wait, 1, 0) > 0 && (wait.revents & POLLHUP);
}

// The one thing that comes by the status socket: "ending".
static bool client_ends(struct server *s)
{
    struct pollfd wait = {.fd = s->status_fd, .events = POLLIN};
    s->ending |=
        os_poll(&wait, 1, 0) > 0 && (wait.revents & POLLIN) && !os_unix_hung_up(s->status_fd);
    return s->ending;
}

static int connect_again(struct server *s)
{
    struct err err;
    uint64_t pause = RECONNECT_NS, ends_ns = UINT64_MAX;
    while (open_again(s, &err)) {
        if (ends_ns == UINT64_MAX && client_ends(s))
            ends_ns = os_clock_monotonic_ns() + ENDING_NS;
        if (client_left(s) || os_clock_monotonic_ns() > ends_ns)
            return -1;
        log_warn("%s: %s; trying again", s->url, err.text);
        os_clock_sleep_until_ns(os_clock_monotonic_ns() + pause);
        if (pause < RECONNECT_MAX_S * 1000000000ull)
            pause *= 2;
    }
    tell(s, "connected", NULL);
    return 0;
}

static int reconnect(struct server *s)
{
    tell(s, "lost", "the connection ended");
    storage_close(&s->storage);
    return connect_again(s);
}

// ---- Requests

// The head is put before the data, where what was read of its first block is not needed any more.
static void send_answer(void *user, struct request *r)
{
    struct server *s = user;
    const struct nbd_reply reply = {.cookie = r->nbd.cookie, .error = r->result};
    size_t length = r->nbd.command == NBD_CMD_READ && !r->result ? r->nbd.length : 0;
    uint8_t *head = r->data - NBD_REPLY_BYTES;
    nbd_reply_encode(&reply, head);
    if (!s->leaving && os_unix_send_all(s->fd, head, NBD_REPLY_BYTES + length))
        s->leaving = true;
}

// -1: the client ends, or does not make sense.
static int take_request(struct server *s)
{
    uint8_t raw[NBD_REQUEST_BYTES];
    struct nbd_request nbd;
    if (os_unix_receive_all(s->fd, raw, sizeof(raw)) || !nbd_request_decode(raw, &nbd) ||
        nbd.command == NBD_CMD_DISC)
        return -1;
    bool moves = nbd.command == NBD_CMD_READ || nbd.command == NBD_CMD_WRITE;
    if (moves && nbd.length > NBD_TRANSFER_MAX)
        return -1;
    struct request *r = request_create(&s->requests, &nbd);
    if (!r) {
        log_error("%s: no memory for a request of %u bytes", s->url, nbd.length);
        return -1;
    }
    if (nbd.command == NBD_CMD_WRITE && os_unix_receive_all(s->fd, r->data, nbd.length)) {
        free(r);
        return -1;
    }
    request_add(&s->requests, r);
    return 0;
}

// All that can be done without waiting.
static void work(struct server *s)
{
    do {
        requests_begin(&s->requests);
        storage_turn(&s->storage);
    } while (s->requests.changed && !s->storage.lost);
}

static void wait_for_more(struct server *s)
{
    struct pollfd wait[2];
    int timeout_ms;
    storage_wait_for(&s->storage, &wait[0], &timeout_ms);
    wait[1] = (struct pollfd){.fd = s->leaving ? -1 : s->fd,
                              .events = requests_have_room(&s->requests) ? POLLIN : 0};
    int n = os_poll(wait, 2, timeout_ms);
    if (n < 0)
        return;
    if (!n || wait[0].revents)
        storage_serve(&s->storage, wait[0].revents);
    if (wait[1].revents & POLLIN)
        s->leaving = take_request(s);
    else if (wait[1].revents)
        s->leaving = true;
}

// Until the client has left and what it asked for is done, or cannot be.
static void serve(struct server *s)
{
    while (true) {
        work(s);
        if (s->leaving && (s->storage.lost || !s->requests.count))
            return;
        if (!s->storage.lost)
            wait_for_more(s);
        else if (reconnect(s))
            return;
    }
}

// ---- Negotiation

static int answer(struct server *s, uint32_t option, uint32_t type, const void *data, size_t length)
{
    uint8_t head[NBD_OPTION_REPLY_BYTES];
    nbd_option_reply_encode(head, option, type, (uint32_t)length);
    return os_unix_send_all(s->fd, head, sizeof(head)) || os_unix_send_all(s->fd, data, length) ? -1
                                                                                                : 0;
}

static int describe(struct server *s, uint32_t option)
{
    uint16_t flags = NBD_HAS_FLAGS | NBD_SEND_FLUSH | NBD_SEND_FUA;
    if (s->read_only)
        flags |= NBD_READ_ONLY;
    if (s->storage.remote.can_trim)
        flags |= NBD_SEND_TRIM;
    if (s->storage.remote.can_zero)
        flags |= NBD_SEND_WRITE_ZEROES;
    const struct nbd_export offer = {
        .size = s->size,
        .flags = flags,
        .block_min = 1, // parts of blocks are seen to here
        .block_good = s->storage.remote.block > 4096 ? s->storage.remote.block : 4096,
        .block_max = NBD_TRANSFER_MAX};
    uint8_t info[12], sizes[14];
    return answer(s, option, NBD_REP_INFO, info, nbd_info_export_encode(&offer, info)) ||
                   answer(s, option, NBD_REP_INFO, sizes,
                          nbd_info_block_size_encode(&offer, sizes)) ||
                   answer(s, option, NBD_REP_ACK, "", 0)
               ? -1
               : 0;
}

// The first one brings the socket with it on which the client gets its next one, should this process be killed.
static int greet(struct server *s, int *next_fd)
{
    uint8_t greeting[NBD_GREETING_BYTES];
    nbd_greeting_encode(greeting);
    ssize_t n = os_unix_send(s->fd, greeting, sizeof(greeting), next_fd, *next_fd >= 0);
    if (*next_fd >= 0)
        os_file_close(next_fd);
    s->kept->greeted = true;
    return n == sizeof(greeting) ? 0 : -1;
}

static int negotiate(struct server *s)
{
    uint8_t raw[NBD_OPTION_HEADER_BYTES], data[NBD_OPTION_DATA_MAX];
    uint32_t option, length;
    if (os_unix_receive_all(s->fd, data, 4))
        return -1;
    for (int i = 0; i < OPTIONS_MAX; i++) {
        if (os_unix_receive_all(s->fd, raw, sizeof(raw)) ||
            !nbd_option_decode(raw, &option, &length) || os_unix_receive_all(s->fd, data, length))
            return -1;
        if (option == NBD_OPT_GO || option == NBD_OPT_INFO) {
            if (describe(s, option))
                return -1;
            if (option == NBD_OPT_GO)
                return 0;
        } else if (answer(s, option, NBD_REP_ERR_UNSUP, "", 0)) {
            return -1;
        }
    }
    return -1;
}

// The first process must find the storage, or says why it cannot; another one waits for it.
static int begin(struct server *s, struct err *err)
{
    bool first = !s->kept->greeted;
    if (first && storage_open(&s->storage, s->url, s->read_only, err)) {
        tell(s, "failed", err->text);
        return -1;
    }
    if (first)
        s->kept->size = s->storage.remote.size;
    s->size = s->kept->size;
    requests_init(&s->requests, &s->storage, &s->kept->journal, send_answer, s);
    if (first)
        tell(s, "connected", NULL);
    else if (connect_again(s))
        s->leaving = true;
    return 0;
}

int io_serve(const struct io_service *service, struct err *err)
{
    struct server *s = malloc(sizeof(*s));
    if (!s)
        return err_set(err, ERR_LIMIT, "no memory");
    *s = (struct server){.fd = service->fd,
                         .status_fd = service->status_fd,
                         .kept = service->kept,
                         .url = service->url,
                         .read_only = service->read_only};
    int next_fd = service->next_fd;
    if (begin(s, err)) {
        free(s);
        return -1;
    }
    if (!s->leaving && !greet(s, &next_fd) && !negotiate(s))
        serve(s);
    // The client is gone; what it wrote is the storage's to keep.
    if (journal_next(&s->requests.journal, NULL) && !s->storage.lost)
        (void)storage_do(&s->storage, &(struct work){.command = NBD_CMD_FLUSH});
    storage_close(&s->storage);
    requests_fini(&s->requests);
    free(s);
    return 0;
}
