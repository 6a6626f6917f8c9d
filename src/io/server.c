// SPDX-License-Identifier: Apache-2.0
//
// The NBD server: negotiation, then request by request. The client is a wirt-vm whose guest may have taken it over: whatever it sends is
// checked, and what makes no sense ends the process.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/big_endian.h"
#include "io/io.h"
#include "io/journal.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/unix_socket.h"
#include "wire/nbd.h"

#define LOG_MODULE "wirt-io"
#include "base/log.h"

#define OPTIONS_MAX     16
#define RECONNECT_NS    200000000ull // after the first failure; twice as long each time
#define RECONNECT_MAX_S 5

struct server {
    int fd, status_fd;
    const char *url;
    bool read_only;
    struct remote remote;
    uint64_t size; // as it was at first
    struct journal journal;
    uint8_t *bytes;  // owned: of one request, widened to whole blocks
    bool lost_write; // something could not be written again: the next flush must say so
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

static int plainly(struct server *s, uint16_t command, uint16_t flags, uint64_t offset,
                   uint32_t length, void *bytes)
{
    switch (command) {
    case NBD_CMD_READ:
        return remote_ops.read(&s->remote, bytes, length, offset);
    case NBD_CMD_WRITE:
        return remote_ops.write(&s->remote, bytes, length, offset);
    case NBD_CMD_FLUSH:
        return remote_ops.flush(&s->remote);
    case NBD_CMD_TRIM:
        return remote_ops.trim(&s->remote, length, offset);
    default:
        return remote_ops.zero(&s->remote, length, offset, !(flags & NBD_FLAG_NO_HOLE));
    }
}

// One operation in pieces that the storage takes.
static int in_pieces(struct server *s, uint16_t command, uint16_t flags, uint64_t offset,
                     uint32_t length, uint8_t *bytes)
{
    uint32_t most = s->remote.length_max;
    int rc = 0;
    if (command == NBD_CMD_FLUSH)
        return plainly(s, command, flags, 0, 0, NULL);
    while (length && !rc) {
        uint32_t n = length < most ? length : most;
        rc = plainly(s, command, flags, offset, n, bytes);
        offset += n;
        length -= n;
        bytes = bytes ? bytes + n : NULL;
    }
    return rc;
}

// What the storage may have lost is written again. An error of its own is told by the next flush.
static int write_again(struct server *s)
{
    for (struct journal_entry *e = s->journal.first; e; e = e->next) {
        int rc = in_pieces(s, e->command, e->flags, e->offset, e->length,
                           e->command == NBD_CMD_WRITE ? e->bytes : NULL);
        if (rc == -ENOTCONN)
            return rc;
        s->lost_write |= rc != 0;
    }
    return 0;
}

static int open_again(struct server *s, struct err *err)
{
    if (remote_ops.open(s->url, s->read_only, &s->remote, err))
        return -1;
    if (s->remote.size == s->size && !write_again(s))
        return 0;
    if (s->remote.size != s->size)
        err_set(err, ERR_IO, "its size has changed");
    remote_ops.close(&s->remote);
    return -1;
}

// Is the client still there? Nobody waits for a storage on behalf of nobody.
static bool client_left(struct server *s)
{
    return os_unix_hung_up(s->fd);
}

static int reconnect(struct server *s)
{
    struct err err = {.text = "the connection ended"};
    uint64_t pause = RECONNECT_NS;
    tell(s, "lost", err.text);
    remote_ops.close(&s->remote);
    while (open_again(s, &err)) {
        if (client_left(s))
            return -ESHUTDOWN;
        log_warn("%s: %s; trying again", s->url, err.text);
        os_clock_sleep_until_ns(os_clock_monotonic_ns() + pause);
        if (pause < RECONNECT_MAX_S * 1000000000ull)
            pause *= 2;
    }
    tell(s, "connected", NULL);
    return 0;
}

// Until it is done, or the storage answered that it cannot be.
static int surely(struct server *s, uint16_t command, uint16_t flags, uint64_t offset,
                  uint32_t length, uint8_t *bytes)
{
    int rc;
    while ((rc = in_pieces(s, command, flags, offset, length, bytes)) == -ENOTCONN) {
        if (reconnect(s))
            return -ESHUTDOWN;
    }
    return rc;
}

static int flush(struct server *s)
{
    int rc = surely(s, NBD_CMD_FLUSH, 0, 0, 0, NULL);
    if (!rc) {
        journal_clear(&s->journal);
        rc = s->lost_write ? -EIO : 0;
        s->lost_write = false;
    }
    return rc;
}

static int change(struct server *s, uint16_t command, uint16_t flags, uint64_t offset,
                  uint32_t length, uint8_t *bytes)
{
    int rc = surely(s, command, flags, offset, length, bytes);
    if (rc)
        return rc;
    bool kept = journal_add(&s->journal, command, flags, offset, length,
                            command == NBD_CMD_WRITE ? bytes : NULL);
    return kept && !journal_is_full(&s->journal) ? 0 : flush(s);
}

// A write of part of a block, with what stands around it.
static int write_widened(struct server *s, const struct nbd_request *r, uint8_t *data)
{
    uint32_t block = s->remote.block;
    uint64_t start = align_down(r->offset, block), end = align_up(r->offset + r->length, block);
    uint8_t *wide = data - (r->offset - start); // there is a block's room before and after
    uint8_t *mine = malloc(r->length);
    int rc = mine ? 0 : -ENOMEM;
    if (!rc) {
        memcpy(mine, data, r->length);
        rc = surely(s, NBD_CMD_READ, 0, start, block, wide);
        if (!rc && end - start > block)
            rc = surely(s, NBD_CMD_READ, 0, end - block, block, wide + (end - start - block));
        memcpy(data, mine, r->length);
    }
    free(mine);
    return rc ? rc : change(s, NBD_CMD_WRITE, r->flags, start, (uint32_t)(end - start), wide);
}

// ---- Requests

static int perform(struct server *s, const struct nbd_request *r, uint8_t *data)
{
    uint32_t mask = s->remote.block - 1;
    bool whole = !((r->offset | r->length) & mask);
    uint64_t start = r->offset & ~(uint64_t)mask;
    switch (r->command) {
    case NBD_CMD_READ:
        return surely(s, NBD_CMD_READ, 0, start,
                      (uint32_t)(align_up(r->offset + r->length, mask + 1) - start),
                      data - (r->offset - start));
    case NBD_CMD_WRITE:
        return whole ? change(s, r->command, r->flags, r->offset, r->length, data)
                     : write_widened(s, r, data);
    case NBD_CMD_FLUSH:
        return flush(s);
    case NBD_CMD_TRIM: // a hint: what is not whole is left
        return whole && s->remote.can_trim
                   ? change(s, r->command, r->flags, r->offset, r->length, NULL)
                   : 0;
    case NBD_CMD_WRITE_ZEROES:
        return whole && s->remote.can_zero
                   ? change(s, r->command, r->flags, r->offset, r->length, NULL)
                   : -EOPNOTSUPP;
    default:
        return -EINVAL;
    }
}

static int check(const struct server *s, const struct nbd_request *r)
{
    bool reads = r->command == NBD_CMD_READ || r->command == NBD_CMD_FLUSH;
    if (!reads && s->read_only)
        return -EPERM;
    if (r->command != NBD_CMD_FLUSH && !range_within(r->offset, r->length, s->size))
        return -EINVAL;
    return 0;
}

// False: the client ends, or does not make sense.
static bool serve_one(struct server *s)
{
    uint8_t raw[NBD_REQUEST_BYTES], head[NBD_REPLY_BYTES], *data = s->bytes + 65536;
    struct nbd_request r;
    if (os_unix_receive_all(s->fd, raw, sizeof(raw)) || !nbd_request_decode(raw, &r) ||
        r.command == NBD_CMD_DISC)
        return false;
    bool moves = r.command == NBD_CMD_READ || r.command == NBD_CMD_WRITE;
    if (moves && r.length > NBD_TRANSFER_MAX)
        return false;
    if (r.command == NBD_CMD_WRITE && os_unix_receive_all(s->fd, data, r.length))
        return false;
    struct nbd_reply reply = {.cookie = r.cookie, .error = check(s, &r)};
    if (!reply.error)
        reply.error = perform(s, &r, data);
    if (!reply.error && (r.flags & NBD_FLAG_FUA) && r.command != NBD_CMD_READ)
        reply.error = flush(s);
    nbd_reply_encode(&reply, head);
    if (os_unix_send_all(s->fd, head, sizeof(head)))
        return false;
    return r.command != NBD_CMD_READ || reply.error || !os_unix_send_all(s->fd, data, r.length);
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
    if (s->remote.can_trim)
        flags |= NBD_SEND_TRIM;
    if (s->remote.can_zero)
        flags |= NBD_SEND_WRITE_ZEROES;
    const struct nbd_export offer = {.size = s->size,
                                     .flags = flags,
                                     .block_min = 1, // parts of blocks are seen to here
                                     .block_good = s->remote.block > 4096 ? s->remote.block : 4096,
                                     .block_max = NBD_TRANSFER_MAX};
    uint8_t info[12], sizes[14];
    return answer(s, option, NBD_REP_INFO, info, nbd_info_export_encode(&offer, info)) ||
                   answer(s, option, NBD_REP_INFO, sizes,
                          nbd_info_block_size_encode(&offer, sizes)) ||
                   answer(s, option, NBD_REP_ACK, "", 0)
               ? -1
               : 0;
}

static int negotiate(struct server *s)
{
    uint8_t greeting[NBD_GREETING_BYTES], raw[NBD_OPTION_HEADER_BYTES], data[NBD_OPTION_DATA_MAX];
    uint32_t option, length;
    nbd_greeting_encode(greeting);
    if (os_unix_send_all(s->fd, greeting, sizeof(greeting)) || os_unix_receive_all(s->fd, data, 4))
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

int io_serve(int fd, int status_fd, const char *url, bool read_only, struct err *err)
{
    struct server s = {.fd = fd, .status_fd = status_fd, .url = url, .read_only = read_only};
    journal_init(&s.journal);
    if (remote_ops.open(url, read_only, &s.remote, err)) {
        tell(&s, "failed", err->text);
        return -1;
    }
    s.size = s.remote.size;
    s.bytes = os_aligned_alloc(65536 + NBD_TRANSFER_MAX + 65536);
    if (!s.bytes) {
        err_set(err, ERR_LIMIT, "no memory");
        tell(&s, "failed", err->text);
        remote_ops.close(&s.remote);
        return -1;
    }
    tell(&s, "connected", NULL);
    if (!negotiate(&s)) {
        while (serve_one(&s))
            ;
    }
    // The client is gone; what it wrote is the storage's to keep.
    if (s.journal.first)
        (void)in_pieces(&s, NBD_CMD_FLUSH, 0, 0, 0, NULL);
    remote_ops.close(&s.remote);
    journal_clear(&s.journal);
    os_aligned_free(s.bytes);
    return 0;
}
