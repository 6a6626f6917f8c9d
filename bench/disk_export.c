// SPDX-License-Identifier: Apache-2.0
//
// An image behind an NBD socket, by wirt's block layer: what `qemu-storage-daemon` does with its NBD export, so that bench/disk can put
// the same client before both.
//
//     disk-export SOCKET IMAGE FORMAT direct|cached       until its one client leaves
//
// One thread: it takes what requests the socket has, gives them to the disk together, and sends what replies a round of completions made by
// one call. Only what a measurement needs: reads, writes and flushes of a trusted client. Memory is touched before the client comes: the kernel clears
// 64 MiB of huge pages for 20 ms and more, as long as thousands of small requests take.
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/err.h"
#include "base/units.h"
#include "machine/block/block_image.h"
#include "os/file.h"
#include "os/unix_socket.h"
#include "wire/nbd.h"

#define SLOTS         64
#define REQUEST_BYTES MIB // of one read or write at most
#define INPUT_BYTES   (64 * KIB)

struct export;

struct slot {
    struct block_request request;
    struct export *export;
    struct slot *next; // free, or its reply waits
    uint64_t cookie;
    struct iovec iov;
    uint8_t head[NBD_REPLY_BYTES];
};

struct export
{
    int fd;
    struct block_disk *disk;
    struct block_queue *queue;
    struct slot slots[SLOTS];
    struct slot *free, *replies;
    uint8_t input[INPUT_BYTES]; // received and not yet looked at: from `start` to `end`
    size_t start, end;
};

static void fail(const char *what)
{
    fprintf(stderr, "disk-export: %s\n", what);
    exit(1);
}

// ---- Replies

static void on_done(struct block_request *request, int result)
{
    struct slot *slot = request->user;
    nbd_reply_encode(&(struct nbd_reply){.cookie = slot->cookie, .error = result}, slot->head);
    slot->next = slot->export->replies;
    slot->export->replies = slot;
}

static void send_whole(int fd, struct iovec *iov, size_t count)
{
    while (count) {
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
        ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (n < 0)
            fail("the client is gone");
        for (; count && (size_t)n >= iov->iov_len; iov++, count--)
            n -= (ssize_t)iov->iov_len;
        if (count) {
            iov->iov_base = (uint8_t *)iov->iov_base + n;
            iov->iov_len -= (size_t)n;
        }
    }
}

static void send_replies(struct export *e)
{
    struct iovec iov[2 * SLOTS];
    struct slot *sent = e->replies, *last = NULL;
    size_t count = 0;
    for (struct slot *slot = sent; slot; last = slot, slot = slot->next) {
        iov[count++] = (struct iovec){slot->head, sizeof(slot->head)};
        if (slot->request.op == BLOCK_READ)
            iov[count++] = slot->iov;
    }
    if (!last)
        return;
    send_whole(e->fd, iov, count);
    last->next = e->free;
    e->free = sent;
    e->replies = NULL;
}

// ---- Requests

static void take_data(struct export *e, uint8_t *to, size_t length)
{
    size_t here = e->end - e->start < length ? e->end - e->start : length;
    memcpy(to, e->input + e->start, here);
    e->start += here;
    if (os_unix_receive_all(e->fd, to + here, length - here))
        fail("the client broke off");
}

static void start(struct export *e, const struct nbd_request *r)
{
    static const enum block_op ops[] = {
        [NBD_CMD_READ] = BLOCK_READ, [NBD_CMD_WRITE] = BLOCK_WRITE, [NBD_CMD_FLUSH] = BLOCK_FLUSH};
    struct slot *slot = e->free;
    if (r->length > REQUEST_BYTES || (r->command > NBD_CMD_WRITE && r->command != NBD_CMD_FLUSH))
        fail("a request of a kind that no measurement makes");
    e->free = slot->next;
    slot->cookie = r->cookie;
    slot->iov.iov_len = r->length;
    if (r->command == NBD_CMD_WRITE)
        take_data(e, slot->iov.iov_base, r->length);
    slot->request = (struct block_request){.op = ops[r->command],
                                           .offset = r->offset,
                                           .length = r->length,
                                           .iov = &slot->iov,
                                           .iov_count = 1,
                                           .queue = e->queue,
                                           .done = on_done,
                                           .user = slot};
    block_submit(e->disk, &slot->request);
}

// False: the client has left.
static bool take_requests(struct export *e)
{
    memmove(e->input, e->input + e->start, e->end - e->start);
    e->end -= e->start;
    e->start = 0;
    ssize_t n = recv(e->fd, e->input + e->end, sizeof(e->input) - e->end, MSG_DONTWAIT);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    e->end += (size_t)n;
    block_queue_begin(e->queue);
    bool stays = true;
    while (stays && e->free && e->end - e->start >= NBD_REQUEST_BYTES) {
        struct nbd_request r;
        if (!nbd_request_decode(e->input + e->start, &r))
            fail("a malformed request");
        e->start += NBD_REQUEST_BYTES;
        stays = r.command != NBD_CMD_DISC;
        if (stays)
            start(e, &r);
    }
    block_queue_end(e->queue);
    return stays;
}

static void serve(struct export *e)
{
    struct pollfd wait[2] = {{.fd = block_queue_fd(e->queue), .events = POLLIN},
                             {.fd = e->fd, .events = POLLIN}};
    for (bool stays = true; stays;) {
        if (poll(wait, 2, -1) < 0 && errno != EINTR)
            fail("poll");
        if (wait[0].revents) {
            block_queue_run(e->queue);
            send_replies(e);
        }
        if (wait[1].revents)
            stays = take_requests(e);
    }
}

// ---- Beginning

static void answer(int fd, uint32_t type, const uint8_t *data, size_t length)
{
    uint8_t head[NBD_OPTION_REPLY_BYTES];
    nbd_option_reply_encode(head, NBD_OPT_GO, type, (uint32_t)length);
    if (os_unix_send_all(fd, head, sizeof(head)) || os_unix_send_all(fd, data, length))
        fail("the client is gone");
}

static void negotiate(const struct export *e)
{
    uint8_t bytes[NBD_OPTION_DATA_MAX], info[12];
    uint32_t option = 0, length;
    nbd_greeting_encode(bytes);
    if (os_unix_send_all(e->fd, bytes, NBD_GREETING_BYTES) || os_unix_receive_all(e->fd, bytes, 4))
        fail("the client is gone");
    while (option != NBD_OPT_GO) {
        if (os_unix_receive_all(e->fd, bytes, NBD_OPTION_HEADER_BYTES) ||
            !nbd_option_decode(bytes, &option, &length) ||
            os_unix_receive_all(e->fd, bytes, length))
            fail("the client is gone");
        if (option != NBD_OPT_GO) {
            nbd_option_reply_encode(bytes, option, NBD_REP_ERR_UNSUP, 0);
            if (os_unix_send_all(e->fd, bytes, NBD_OPTION_REPLY_BYTES))
                fail("the client is gone");
        }
    }
    const struct nbd_export offer = {.size = block_disk_size(e->disk),
                                     .flags = NBD_HAS_FLAGS | NBD_SEND_FLUSH};
    answer(e->fd, NBD_REP_INFO, info, nbd_info_export_encode(&offer, info));
    answer(e->fd, NBD_REP_ACK, info, 0);
}

static int accept_one(const char *path)
{
    struct err err;
    int listener = os_unix_listen(path, &err);
    if (listener < 0)
        fail(err.text);
    struct pollfd wait = {.fd = listener, .events = POLLIN};
    int fd = -1;
    while (fd < 0) {
        if (poll(&wait, 1, -1) < 0 && errno != EINTR)
            fail("poll");
        fd = os_unix_accept(listener, true);
    }
    close(listener);
    return fd;
}

int main(int argc, char **argv)
{
    static struct export e;
    struct err err = {.code = ERR_NONE};
    struct block_chain chain;
    if (argc != 5)
        fail("disk-export SOCKET IMAGE FORMAT direct|cached");
    struct block_chain_rules rules = {.format = argv[3], .direct = strcmp(argv[4], "direct") == 0};
    struct block_options options = {.metadata_bytes = 0};
    if (!block_chain_open(&chain, argv[2], &rules, &err))
        e.disk = block_chain_disk(&chain, &options, &err);
    e.queue = e.disk ? block_queue_create_with_ring(&err) : NULL;
    if (!e.queue)
        fail(err.text);
    uint8_t *memory = os_aligned_alloc(SLOTS * REQUEST_BYTES);
    if (!memory)
        fail("no memory");
    memset(memory, 0, SLOTS * REQUEST_BYTES);
    for (size_t i = 0; i < SLOTS; i++) {
        e.slots[i] = (struct slot){.export = &e, .next = e.free};
        e.slots[i].iov.iov_base = memory + i * REQUEST_BYTES;
        e.free = &e.slots[i];
    }
    e.fd = accept_one(argv[1]);
    negotiate(&e);
    serve(&e);
    int rc = block_disk_close(e.disk);
    block_queue_destroy(e.queue);
    block_chain_close(&chain);
    os_aligned_free(memory);
    return rc ? 1 : 0;
}
