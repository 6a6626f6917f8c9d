// SPDX-License-Identifier: Apache-2.0
//
// The lowest node of a remote disk: an NBD client on a socket to a wirt-io process, which speaks to the storage.
//
// Requests of several threads are in flight together on the one socket. A thread sends its request under `send_lock`, then waits for its
// reply; of those who wait one is the reader, which takes replies off the socket, whosever they are, until its own has come, and then leaves the
// role to the next that waits. Each is woken by itself. So there is no thread besides those of the requests, and a reply in flight always has a reader.
//
// The other end may be killed and followed by another process (io/process.c). Then the socket ends; one of the threads that have a request waits for the
// next socket, whose receiver came with the first greeting, and every thread sends its own request again there. A change is the same when it is made
// twice, and what was answered is the other end's to keep.
//
// The other end is not trusted: it talks to the network. What it says is checked, and when it makes no sense, or there is no next socket, the node is
// dead: every request fails with -EIO.
#include "machine/block/nbd_node.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/big_endian.h"
#include "base/err.h"
#include "os/file.h"
#include "os/unix_socket.h"
#include "wire/nbd.h"

#define LOG_MODULE "nbd"
#include "base/log.h"

#define PIECE_BYTES (2 * MIB) // of one request
#define ANSWERS_MAX 16        // to one option

struct call {
    uint64_t cookie;
    struct block_vec vec; // of a read
    bool read;
    // Under lock.
    bool done;
    bool cut; // not answered, as the socket has ended
    bool waits;
    int result;
    struct call *next;
    pthread_cond_t wake; // it is done, or is to be the reader
};

struct nbd_node {
    struct block_node node;
    int next_fd; // owned: brings the next socket; -1: there is none
    struct nbd_export offer;
    pthread_mutex_t send_lock; // a request is on the socket whole; taken before the other
    pthread_mutex_t lock;
    pthread_cond_t changed; // nobody reads any more, or the socket is another
    int fd;                 // owned; changed under both locks, when nobody reads
    // Under lock.
    struct call *calls;
    uint64_t cookie;
    bool reading; // somebody is the reader
    bool cut;     // the socket has ended
    bool joining; // somebody sees to the next one
    bool dead;
};

static struct nbd_node *nbd_of(struct block_node *node)
{
    return CONTAINER_OF(node, struct nbd_node, node);
}

// ---- Negotiation

static int io_failed(struct err *err)
{
    return err_set(err, ERR_IO, "the process behind the disk does not answer");
}

static int ask_to_go(int fd, struct err *err)
{
    // Client flags, the option, and its data: an empty name, one wish (block sizes).
    uint8_t bytes[4 + NBD_OPTION_HEADER_BYTES + 8] = {0};
    store_be32(bytes, 3);
    nbd_option_encode(bytes + 4, NBD_OPT_GO, 8);
    store_be16(bytes + 4 + NBD_OPTION_HEADER_BYTES + 4, 1);
    store_be16(bytes + 4 + NBD_OPTION_HEADER_BYTES + 6, NBD_INFO_BLOCK_SIZE);
    return os_unix_send_all(fd, bytes, sizeof(bytes)) ? io_failed(err) : 0;
}

static int read_answers(int fd, struct nbd_export *offer, struct err *err)
{
    uint8_t header[NBD_OPTION_REPLY_BYTES], data[NBD_OPTION_DATA_MAX];
    for (int i = 0; i < ANSWERS_MAX; i++) {
        uint32_t type, length;
        if (os_unix_receive_all(fd, header, sizeof(header)))
            return io_failed(err);
        if (!nbd_option_reply_decode(header, NBD_OPT_GO, &type, &length))
            return err_set(err, ERR_INPUT, "the NBD server's answer is malformed");
        if (os_unix_receive_all(fd, data, length))
            return io_failed(err);
        if (type == NBD_REP_ACK)
            return nbd_export_check(offer, err);
        if (type & NBD_REP_ERROR)
            return err_set(err, ERR_IO, "the NBD server refused: %.*s", (int)length, data);
        if (type == NBD_REP_INFO && nbd_info_decode(data, length, offer, err))
            return -1;
    }
    return err_set(err, ERR_INPUT, "the NBD server does not come to an end");
}

// *next_fd: what came with it, or -1.
static int receive_greeting(int fd, uint8_t greeting[NBD_GREETING_BYTES], int *next_fd)
{
    size_t count;
    ssize_t n;
    *next_fd = -1;
    do
        n = os_unix_receive(fd, greeting, NBD_GREETING_BYTES, next_fd, 1, &count);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return -1;
    return os_unix_receive_all(fd, greeting + n, NBD_GREETING_BYTES - (size_t)n);
}

static int negotiate(int fd, struct nbd_export *offer, int *next_fd, struct err *err)
{
    uint8_t greeting[NBD_GREETING_BYTES];
    *offer = (struct nbd_export){.block_min = 1, .block_good = 4096, .block_max = NBD_TRANSFER_MAX};
    if (receive_greeting(fd, greeting, next_fd))
        return io_failed(err);
    if (nbd_greeting_check(greeting, err) || ask_to_go(fd, err))
        return -1;
    return read_answers(fd, offer, err);
}

// ---- Replies

// Lock held: nobody's request is answered on this socket any more.
static void cut(struct nbd_node *nbd)
{
    nbd->cut = true;
    for (struct call *call = nbd->calls; call; call = call->next) {
        call->done = true;
        call->cut = true;
        call->result = -EIO;
        pthread_cond_signal(&call->wake);
    }
    nbd->calls = NULL;
}

// Lock held: everybody's request has failed.
static void die(struct nbd_node *nbd)
{
    if (!nbd->dead)
        log_error("'%s': the process behind the disk is gone", nbd->node.name);
    nbd->dead = true;
    cut(nbd);
}

static struct call *take_call(struct nbd_node *nbd, uint64_t cookie)
{
    for (struct call **link = &nbd->calls; *link; link = &(*link)->next) {
        struct call *call = *link;
        if (call->cookie == cookie) {
            *link = call->next;
            return call;
        }
    }
    return NULL;
}

static int receive_vec(int fd, struct block_vec vec)
{
    while (vec.length) {
        size_t n;
        void *front = block_vec_front(vec, &n);
        if (os_unix_receive_all(fd, front, n))
            return -EIO;
        vec = block_vec_slice(vec, n, vec.length - n);
    }
    return 0;
}

// One reply off the socket. Lock held, released meanwhile; `reading` is ours.
static void read_reply(struct nbd_node *nbd)
{
    uint8_t bytes[NBD_REPLY_BYTES];
    struct nbd_reply reply;
    pthread_mutex_unlock(&nbd->lock);
    int rc = os_unix_receive_all(nbd->fd, bytes, sizeof(bytes));
    bool sane = !rc && nbd_reply_decode(bytes, &reply);
    pthread_mutex_lock(&nbd->lock);
    if (rc || nbd->cut) { // what else came belongs to nobody any more
        cut(nbd);
        return;
    }
    struct call *call = sane ? take_call(nbd, reply.cookie) : NULL;
    if (call && call->read && !reply.error) {
        pthread_mutex_unlock(&nbd->lock);
        rc = receive_vec(nbd->fd, call->vec);
        pthread_mutex_lock(&nbd->lock);
    }
    if (!call) {
        die(nbd);
        return;
    }
    call->done = true;
    call->cut = rc;
    call->result = rc ? rc : reply.error;
    pthread_cond_signal(&call->wake);
    if (rc)
        cut(nbd);
}

// Lock held. One that still sends finds by itself that nobody reads.
static void wake_a_reader(struct nbd_node *nbd)
{
    struct call *call = nbd->calls;
    while (call && !call->waits)
        call = call->next;
    if (call)
        pthread_cond_signal(&call->wake);
}

static void wait_for(struct nbd_node *nbd, struct call *call)
{
    pthread_mutex_lock(&nbd->lock);
    while (!call->done) {
        if (nbd->reading) {
            call->waits = true;
            pthread_cond_wait(&call->wake, &nbd->lock);
            call->waits = false;
            continue;
        }
        nbd->reading = true;
        while (!call->done)
            read_reply(nbd);
        nbd->reading = false;
        wake_a_reader(nbd);
        if (nbd->cut)
            pthread_cond_broadcast(&nbd->changed);
    }
    pthread_mutex_unlock(&nbd->lock);
    pthread_cond_destroy(&call->wake);
}

// ---- The next socket

// The next process's, ready for requests; -1: there is none, or its disk is another.
static int next_socket(struct nbd_node *nbd)
{
    struct nbd_export offer;
    struct err err = {0};
    while (true) {
        char byte;
        size_t count = 0;
        int fd = -1, none = -1;
        ssize_t n = nbd->next_fd < 0 ? 0 : os_unix_receive(nbd->next_fd, &byte, 1, &fd, 1, &count);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || !count)
            return -1;
        // One that was killed before it came so far is followed by another.
        int rc = negotiate(fd, &offer, &none, &err);
        if (none >= 0)
            os_file_close(&none);
        if (!rc && offer.size == nbd->offer.size && offer.flags == nbd->offer.flags)
            return fd;
        os_file_close(&fd);
        if (!rc)
            return -1;
    }
}

// The socket was cut: 0 when there is another, which whoever comes first sees to.
static int join_next(struct nbd_node *nbd)
{
    pthread_mutex_lock(&nbd->lock);
    while (nbd->joining || (nbd->cut && nbd->reading))
        pthread_cond_wait(&nbd->changed, &nbd->lock);
    nbd->joining = nbd->cut && !nbd->dead;
    int rc = nbd->dead ? -1 : 0;
    bool mine = nbd->joining;
    pthread_mutex_unlock(&nbd->lock);
    if (!mine)
        return rc;
    // Those who still sent on the old one have failed there.
    pthread_mutex_lock(&nbd->send_lock);
    log_warn("'%s': the process behind the disk is gone; waiting for another", nbd->node.name);
    int fd = next_socket(nbd);
    pthread_mutex_lock(&nbd->lock);
    nbd->joining = false;
    if (fd < 0) {
        die(nbd);
    } else {
        os_file_close(&nbd->fd);
        nbd->fd = fd;
        nbd->cut = false;
    }
    pthread_cond_broadcast(&nbd->changed);
    pthread_mutex_unlock(&nbd->lock);
    pthread_mutex_unlock(&nbd->send_lock);
    return fd < 0 ? -1 : 0;
}

// ---- Requests

static bool add_call(struct nbd_node *nbd, struct call *call)
{
    pthread_mutex_lock(&nbd->lock);
    bool whole = !nbd->cut;
    if (whole) {
        call->cookie = nbd->cookie++;
        call->next = nbd->calls;
        nbd->calls = call;
    }
    pthread_mutex_unlock(&nbd->lock);
    return whole;
}

// Nothing of it must come to the next socket.
static bool is_cut(struct nbd_node *nbd, const struct call *call)
{
    pthread_mutex_lock(&nbd->lock);
    bool result = call->cut;
    pthread_mutex_unlock(&nbd->lock);
    return result;
}

static void send_request(struct nbd_node *nbd, const struct call *call,
                         const struct nbd_request *request, struct block_vec data)
{
    uint8_t bytes[NBD_REQUEST_BYTES];
    nbd_request_encode(request, bytes);
    pthread_mutex_lock(&nbd->send_lock);
    if (is_cut(nbd, call)) {
        pthread_mutex_unlock(&nbd->send_lock);
        return;
    }
    int rc = os_unix_send_all(nbd->fd, bytes, sizeof(bytes));
    while (!rc && data.length) {
        size_t n;
        const void *front = block_vec_front(data, &n);
        rc = os_unix_send_all(nbd->fd, front, n);
        data = block_vec_slice(data, n, data.length - n);
    }
    if (rc) {
        pthread_mutex_lock(&nbd->lock);
        cut(nbd);
        pthread_mutex_unlock(&nbd->lock);
    }
    pthread_mutex_unlock(&nbd->send_lock);
}

// Once: false when it was cut.
static bool attempt(struct nbd_node *nbd, enum nbd_command command, uint16_t flags, uint64_t offset,
                    uint32_t length, struct block_vec vec, int *result)
{
    struct call call = {
        .vec = vec, .read = command == NBD_CMD_READ, .wake = PTHREAD_COND_INITIALIZER};
    if (!add_call(nbd, &call))
        return false;
    const struct nbd_request request = {.flags = flags,
                                        .command = (uint16_t)command,
                                        .cookie = call.cookie,
                                        .offset = offset,
                                        .length = length};
    send_request(nbd, &call, &request, command == NBD_CMD_WRITE ? vec : block_vec_slice(vec, 0, 0));
    wait_for(nbd, &call);
    *result = call.result;
    return !call.cut;
}

static int perform(struct nbd_node *nbd, enum nbd_command command, uint16_t flags, uint64_t offset,
                   uint32_t length, struct block_vec vec)
{
    int result = -EIO;
    while (!attempt(nbd, command, flags, offset, length, vec, &result)) {
        if (join_next(nbd))
            return -EIO;
    }
    return result;
}

static int transfer(struct block_node *node, enum nbd_command command, uint64_t offset,
                    struct block_vec vec)
{
    int rc = 0;
    // A format writes behind the end of what cannot grow.
    if (!range_within(offset, vec.length, node->size)) {
        if (command == NBD_CMD_WRITE)
            return -ENOSPC;
        return block_node_read_padded(node, offset, vec);
    }
    while (!rc && vec.length) {
        size_t n = vec.length < PIECE_BYTES ? vec.length : PIECE_BYTES;
        rc = perform(nbd_of(node), command, 0, offset, (uint32_t)n, block_vec_slice(vec, 0, n));
        offset += n;
        vec = block_vec_slice(vec, n, vec.length - n);
    }
    return rc;
}

static int nbd_read(struct block_node *node, uint64_t offset, struct block_vec vec)
{
    return transfer(node, NBD_CMD_READ, offset, vec);
}

static int nbd_write(struct block_node *node, uint64_t offset, struct block_vec vec, uint32_t flags)
{
    return transfer(node, NBD_CMD_WRITE, offset, vec);
}

static int nbd_flush(struct block_node *node)
{
    struct nbd_node *nbd = nbd_of(node);
    if (!(nbd->offer.flags & NBD_SEND_FLUSH))
        return 0;
    return perform(nbd, NBD_CMD_FLUSH, 0, 0, 0, (struct block_vec){0});
}

// In pieces: the length has 32 bits.
static int clear(struct block_node *node, enum nbd_command command, uint16_t flags, uint64_t offset,
                 uint64_t length)
{
    int rc = 0;
    if (!range_within(offset, length, node->size))
        return -ENOSPC;
    while (!rc && length) {
        uint32_t n = length < GIB ? (uint32_t)length : (uint32_t)GIB;
        rc = perform(nbd_of(node), command, flags, offset, n, (struct block_vec){0});
        offset += n;
        length -= n;
    }
    return rc;
}

static int nbd_discard(struct block_node *node, uint64_t offset, uint64_t length)
{
    if (!(nbd_of(node)->offer.flags & NBD_SEND_TRIM))
        return 0;
    return clear(node, NBD_CMD_TRIM, 0, offset, length);
}

static int nbd_zero(struct block_node *node, uint64_t offset, uint64_t length, uint32_t flags)
{
    if (!(nbd_of(node)->offer.flags & NBD_SEND_WRITE_ZEROES))
        return -EOPNOTSUPP;
    return clear(node, NBD_CMD_WRITE_ZEROES, (flags & BLOCK_UNMAP) ? 0 : NBD_FLAG_NO_HOLE, offset,
                 length);
}

static int nbd_extent(struct block_node *node, uint64_t offset, uint64_t length,
                      struct block_extent *extent)
{
    *extent = (struct block_extent){.length = length, .allocated = true};
    return 0;
}

static int nbd_resize(struct block_node *node, uint64_t size, struct err *err)
{
    if (size <= node->size)
        return 0;
    return err_set(err, ERR_UNSUPPORTED, "'%s' is remote and cannot grow from here", node->name);
}

static void nbd_release(struct block_node *node)
{
    struct nbd_node *nbd = nbd_of(node);
    uint8_t bytes[NBD_REQUEST_BYTES];
    nbd_request_encode(&(struct nbd_request){.command = NBD_CMD_DISC}, bytes);
    if (!nbd->dead)
        (void)os_unix_send_all(nbd->fd, bytes, sizeof(bytes));
    os_file_close(&nbd->fd);
    if (nbd->next_fd >= 0)
        os_file_close(&nbd->next_fd);
    pthread_cond_destroy(&nbd->changed);
    pthread_mutex_destroy(&nbd->lock);
    pthread_mutex_destroy(&nbd->send_lock);
}

static const struct block_ops nbd_ops = {
    .name = "nbd",
    .read = nbd_read,
    .write = nbd_write,
    .flush = nbd_flush,
    .discard = nbd_discard,
    .zero = nbd_zero,
    .extent = nbd_extent,
    .resize = nbd_resize,
    .release = nbd_release,
};

bool block_node_is_remote(const struct block_node *node)
{
    while (node->next)
        node = node->next;
    return node->ops == &nbd_ops;
}

// ---- Opening

struct block_node *block_nbd_open(int fd, const char *name, bool read_only, uint64_t memory_limit,
                                  struct err *err)
{
    struct nbd_export offer;
    int next_fd = -1;
    int rc = negotiate(fd, &offer, &next_fd, err);
    if (!rc && !read_only && (offer.flags & NBD_READ_ONLY))
        rc = err_set(err, ERR_DENIED, "it can only be read");
    struct nbd_node *nbd = rc ? NULL : (void *)block_node_create(sizeof(*nbd), &nbd_ops, NULL);
    if (!nbd) {
        if (!rc)
            err_set(err, ERR_LIMIT, "no memory");
        err_wrap(err, "cannot use '%s'", name);
        os_file_close(&fd);
        if (next_fd >= 0)
            os_file_close(&next_fd);
        return NULL;
    }
    nbd->fd = fd;
    nbd->next_fd = next_fd;
    nbd->offer = offer;
    pthread_mutex_init(&nbd->send_lock, NULL);
    pthread_mutex_init(&nbd->lock, NULL);
    pthread_cond_init(&nbd->changed, NULL);
    nbd->node.name = strdup(name);
    nbd->node.size = offer.size;
    nbd->node.memory_limit = memory_limit;
    nbd->node.read_only = read_only;
    uint32_t block = offer.block_min < 512 ? 512 : offer.block_min;
    nbd->node.limits = (struct block_limits){
        .logical_block_size = block,
        .physical_block_size = block,
        .discard_granularity = read_only || !(offer.flags & NBD_SEND_TRIM) ? 0 : block,
        .read_only = read_only,
        .can_discard = !read_only && (offer.flags & NBD_SEND_TRIM),
        .can_zero = !read_only && (offer.flags & NBD_SEND_WRITE_ZEROES),
    };
    return &nbd->node;
}
