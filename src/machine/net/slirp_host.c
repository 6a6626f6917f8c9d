// SPDX-License-Identifier: Apache-2.0
//
// One poll() over libslirp's sockets and the guest's. Frames that the guest does not take wait in a short queue; while
// there are any, libslirp's sockets are left alone, so that the host's TCP sees a slow reader instead of losses.
#include "machine/net/slirp_host.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "machine/net/checksum.h"
#include "machine/net/merge.h"
#include "os/clock.h"
#include "os/frame.h"
#include "os/poll_set.h"

#define LOG_MODULE "wirt-net"
#include "base/log.h"

#define NETWORK    "10.0.2.0"
#define NETMASK    "255.255.255.0"
#define HOST       "10.0.2.2"
#define GUEST      "10.0.2.15"
#define NAMESERVER "10.0.2.3"

#define FRAME_BYTES  2048u // libslirp's own are at most 1514
#define QUEUE_FRAMES 256u
#define POLL_MAX     2048u
#define ROUND        64
#define SOCKET_ROOM  (1u << 20)

struct timer {
    struct timer *next;
    SlirpTimerId id;
    void *opaque;
    int64_t expires_ms; // -1: not armed
};

struct slirp_host {
    Slirp *slirp;
    int socket;
    struct timer *timers;
    struct pollfd polls[POLL_MAX]; // [0] is the guest's socket
    unsigned poll_count;
    bool gone;
    bool joins; // the guest takes TCP segments joined
    struct net_merge merge;
    bool stuck; // what is merged is finished, and the guest did not take it yet
    struct net_header merged_header;
    // Frames that the guest did not take yet.
    unsigned queue_first, queue_count;
    uint16_t queue_length[QUEUE_FRAMES];
    uint8_t queue[QUEUE_FRAMES][FRAME_BYTES];
    uint8_t input[NET_HEADER_BYTES + NET_FRAME_BYTES_MAX];
};

// ---- To the guest

static int send_now(struct slirp_host *host, const void *frame, size_t length)
{
    struct net_header header = {.flags = NET_CHECKSUM_VALID, .buffers = 1};
    const struct iovec iov[2] = {{&header, sizeof(header)}, {(void *)(uintptr_t)frame, length}};
    return os_frame_send(host->socket, iov, 2);
}

// What is joined goes before everything behind it.
static void flush_merge(struct slirp_host *host)
{
    struct net_merge *merge = &host->merge;
    if (!merge->length)
        return;
    if (!host->stuck)
        net_merge_finish(merge, &host->merged_header);
    const struct iovec iov[2] = {{&host->merged_header, sizeof(host->merged_header)},
                                 {merge->frame, merge->length}};
    host->stuck = os_frame_send(host->socket, iov, 2) == -EAGAIN;
    if (!host->stuck)
        merge->length = 0;
}

static void flush_queue(struct slirp_host *host)
{
    if (host->stuck)
        flush_merge(host);
    if (host->stuck)
        return;
    while (host->queue_count) {
        unsigned first = host->queue_first;
        if (send_now(host, host->queue[first], host->queue_length[first]) == -EAGAIN)
            return;
        host->queue_first = (first + 1) % QUEUE_FRAMES;
        host->queue_count--;
    }
}

static ssize_t send_packet(const void *frame, size_t length, void *opaque)
{
    struct slirp_host *host = opaque;
    if (length > FRAME_BYTES)
        return -1;
    bool waiting = host->queue_count || host->stuck;
    if (host->joins && !waiting) {
        if (net_merge_add(&host->merge, frame, length))
            return (ssize_t)length;
        flush_merge(host);
        if (!host->stuck && net_merge_add(&host->merge, frame, length))
            return (ssize_t)length;
        waiting = host->stuck;
    }
    if (!waiting && send_now(host, frame, length) != -EAGAIN)
        return (ssize_t)length;
    if (host->queue_count == QUEUE_FRAMES)
        return -1; // only what answers the guest's own frames comes here: lost, as on a wire
    unsigned at = (host->queue_first + host->queue_count++) % QUEUE_FRAMES;
    memcpy(host->queue[at], frame, length);
    host->queue_length[at] = (uint16_t)length;
    return (ssize_t)length;
}

// ---- From the guest

static void receive(struct slirp_host *host)
{
    for (unsigned n = 0; n < ROUND; n++) {
        ssize_t length = os_frame_receive(host->socket, host->input, sizeof(host->input));
        if (length == -EAGAIN)
            return;
        if (length <= 0) {
            host->gone = true;
            return;
        }
        if (length == 1) // what the guest accepts (net/user.c)
            host->joins = host->input[0] & NET_OFFLOAD_TSO4;
        if ((size_t)length < NET_HEADER_BYTES + NET_FRAME_BYTES_MIN)
            continue;
        struct net_header header;
        memcpy(&header, host->input, sizeof(header));
        uint8_t *frame = host->input + NET_HEADER_BYTES;
        size_t bytes = (size_t)length - NET_HEADER_BYTES;
        if (header.flags & NET_NEEDS_CHECKSUM && !net_finish_checksum(&header, frame, bytes))
            continue;
        slirp_input(host->slirp, frame, (int)bytes);
    }
}

// ---- What libslirp asks of us

static void guest_error(const char *text, void *opaque)
{
    log_guest("%s", text);
}

static int64_t clock_get_ns(void *opaque)
{
    return (int64_t)os_clock_monotonic_ns();
}

static void *timer_new_opaque(SlirpTimerId id, void *timer_opaque, void *opaque)
{
    struct slirp_host *host = opaque;
    struct timer *timer = calloc(1, sizeof(*timer));
    assert(timer);
    *timer =
        (struct timer){.next = host->timers, .id = id, .opaque = timer_opaque, .expires_ms = -1};
    host->timers = timer;
    return timer;
}

static void timer_free(void *pointer, void *opaque)
{
    struct slirp_host *host = opaque;
    struct timer **at = &host->timers;
    while (*at && *at != pointer)
        at = &(*at)->next;
    if (*at)
        *at = (*at)->next;
    free(pointer);
}

static void timer_mod(void *pointer, int64_t expires_ms, void *opaque)
{
    struct timer *timer = pointer;
    timer->expires_ms = expires_ms;
}

static void poll_fd(int fd, void *opaque)
{
}

static void notify(void *opaque)
{
}

static const SlirpCb callbacks = {
    .send_packet = send_packet,
    .guest_error = guest_error,
    .clock_get_ns = clock_get_ns,
    .timer_new_opaque = timer_new_opaque,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = poll_fd,
    .unregister_poll_fd = poll_fd,
    .notify = notify,
};

// ---- Waiting

static int64_t now_ms(void)
{
    return (int64_t)(os_clock_monotonic_ns() / 1000000);
}

static void run_timers(struct slirp_host *host)
{
    int64_t now = now_ms();
    for (struct timer *timer = host->timers, *next; timer; timer = next) {
        next = timer->next;
        if (timer->expires_ms < 0 || timer->expires_ms > now)
            continue;
        timer->expires_ms = -1;
        slirp_handle_timer(host->slirp, timer->id, timer->opaque);
    }
}

static uint32_t timers_timeout(const struct slirp_host *host)
{
    int64_t now = now_ms(), timeout = UINT32_MAX;
    for (const struct timer *timer = host->timers; timer; timer = timer->next)
        if (timer->expires_ms >= 0 && timer->expires_ms - now < timeout)
            timeout = timer->expires_ms > now ? timer->expires_ms - now : 0;
    return (uint32_t)timeout;
}

static int add_poll(int fd, int events, void *opaque)
{
    struct slirp_host *host = opaque;
    if (host->poll_count == POLL_MAX)
        return -1;
    short wanted =
        (short)((events & SLIRP_POLL_IN ? POLLIN : 0) | (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
                (events & SLIRP_POLL_PRI ? POLLPRI : 0));
    host->polls[host->poll_count] = (struct pollfd){.fd = fd, .events = wanted};
    return (int)host->poll_count++;
}

static int get_revents(int index, void *opaque)
{
    struct slirp_host *host = opaque;
    if (index < 0)
        return 0;
    short events = host->polls[index].revents;
    return (events & POLLIN ? SLIRP_POLL_IN : 0) | (events & POLLOUT ? SLIRP_POLL_OUT : 0) |
           (events & POLLPRI ? SLIRP_POLL_PRI : 0) | (events & POLLERR ? SLIRP_POLL_ERR : 0) |
           (events & POLLHUP ? SLIRP_POLL_HUP : 0);
}

static int turn(struct slirp_host *host, struct err *err)
{
    uint32_t timeout = timers_timeout(host);
    flush_merge(host); // nothing more comes before the next wait
    bool full = host->queue_count || host->stuck;
    host->polls[0] =
        (struct pollfd){.fd = host->socket, .events = (short)(POLLIN | (full ? POLLOUT : 0))};
    host->poll_count = 1;
    if (!full)
        slirp_pollfds_fill(host->slirp, &timeout, add_poll, host);
    int result = os_poll(host->polls, host->poll_count, timeout > INT32_MAX ? -1 : (int)timeout);
    if (result < 0 && result != -EINTR)
        return err_set_errno(err, -result, "cannot wait for sockets");
    if (!full)
        slirp_pollfds_poll(host->slirp, result < 0, get_revents, host);
    run_timers(host);
    if (result > 0 && host->polls[0].revents & POLLOUT)
        flush_queue(host);
    if (result > 0 && host->polls[0].revents & (POLLIN | POLLHUP | POLLERR))
        receive(host);
    return 0;
}

int slirp_host_run(struct slirp_host *host, struct err *err)
{
    char ready = 1;
    const struct iovec iov = {&ready, 1};
    os_frame_send(host->socket, &iov, 1);
    while (!host->gone)
        if (turn(host, err) < 0)
            return -1;
    return 0;
}

int slirp_host_refuse(int socket, const struct err *why)
{
    char code = (char)why->code;
    const struct iovec iov[] = {{&code, 1}, {(char *)(uintptr_t)why->text, strlen(why->text)}};
    return os_frame_send(socket, iov, 2) < 0 ? -1 : 0;
}

// ---- Making

static struct in_addr ipv4(const char *text)
{
    struct in_addr address;
    inet_pton(AF_INET, text, &address);
    return address;
}

static struct in6_addr ipv6(const char *text)
{
    struct in6_addr address;
    inet_pton(AF_INET6, text, &address);
    return address;
}

struct slirp_host *slirp_host_create(int socket, struct err *err)
{
    struct slirp_host *host = calloc(1, sizeof(*host));
    if (!host) {
        err_set_errno(err, ENOMEM, "user-mode network");
        return NULL;
    }
    host->socket = socket;
    os_frame_socket_room(socket, SOCKET_ROOM);
    SlirpConfig config = {
        .version = 4,
        .in_enabled = true,
        .vnetwork = ipv4(NETWORK),
        .vnetmask = ipv4(NETMASK),
        .vhost = ipv4(HOST),
        .in6_enabled = true,
        .vprefix_addr6 = ipv6("fec0::"),
        .vprefix_len = 64,
        .vhost6 = ipv6("fec0::2"),
        .vdhcp_start = ipv4(GUEST),
        .vnameserver = ipv4(NAMESERVER),
        .vnameserver6 = ipv6("fec0::3"),
    };
    host->slirp = slirp_new(&config, &callbacks, host);
    if (!host->slirp) {
        err_set(err, ERR_HOST, "libslirp %s refuses to start", slirp_version_string());
        free(host);
        return NULL;
    }
    return host;
}

void slirp_host_destroy(struct slirp_host *host)
{
    if (!host)
        return;
    slirp_cleanup(host->slirp);
    for (struct timer *timer = host->timers, *next; timer; timer = next) {
        next = timer->next;
        free(timer);
    }
    free(host);
}

int slirp_host_forward(struct slirp_host *host, bool udp, unsigned host_port, unsigned guest_port,
                       struct err *err)
{
    if (slirp_add_hostfwd(host->slirp, udp, ipv4("127.0.0.1"), (int)host_port, ipv4(GUEST),
                          (int)guest_port) < 0)
        return err_set_errno(err, errno, "cannot listen on 127.0.0.1:%u", host_port);
    return 0;
}
