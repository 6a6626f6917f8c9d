// SPDX-License-Identifier: Apache-2.0
//
// The real wirt-net, talked to by a guest made of raw frames: DHCP, ARP, and a TCP connection through a forwarded port.
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "machine/net/checksum.h"
#include "machine/net/net_end.h"
#include "os/loop.h"

static const uint8_t mac[6] = {0x52, 0x54, 0, 1, 2, 3};
#define GUEST 0x0A00020Fu
#define HOST  0x0A000202u

struct guest {
    struct os_loop *loop;
    struct net_end *end;
    pid_t pid;
    uint8_t frame[NET_FRAME_BYTES_MAX];
    size_t length; // 0: none
};

static const char *program; // wirt-net

static bool receive(void *context, const struct net_header *header, const uint8_t *frame,
                    size_t length)
{
    struct guest *g = context;
    if (g->length)
        return false;
    assert_int_equal(header->flags, NET_CHECKSUM_VALID);
    memcpy(g->frame, frame, length);
    g->length = length;
    return true;
}

// Child: wirt-net with one end; we have the other. `argument` may be NULL.
static int spawn(struct guest *g, const char *argument)
{
    int pair[2];
    char number[16];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    snprintf(number, sizeof(number), "%d", pair[1]);
    g->pid = fork();
    if (!g->pid) {
        close(pair[0]);
        execl(program, program, "--fd", number, argument, (char *)NULL);
        _exit(127);
    }
    close(pair[1]);
    return pair[0];
}

static void start(struct guest *g, const char *argument)
{
    struct err err;
    memset(g, 0, sizeof(*g));
    int fd = spawn(g, argument);
    char ready;
    assert_int_equal(recv(fd, &ready, 1, 0), 1);
    g->loop = os_loop_create(&err);
    assert_non_null(g->loop);
    g->end = net_user_create(g->loop, fd, &err);
    assert_non_null(g->end);
    g->end->receiver = (struct net_receiver){.receive = receive, .context = g};
}

static void stop(struct guest *g)
{
    int status;
    net_end_destroy(g->end);
    os_loop_destroy(g->loop);
    assert_int_equal(waitpid(g->pid, &status, 0), g->pid);
    assert_int_equal(status, 0);
}

static void transmit(struct guest *g, const struct net_header *header, uint8_t *frame,
                     size_t length)
{
    struct iovec iov[2] = {{frame, 10}, {frame + 10, length - 10}};
    assert_int_equal(net_end_send(g->end, header, iov, 2), 0);
}

static const uint8_t *next_frame(struct guest *g)
{
    g->length = 0;
    net_end_resume(g->end);
    while (!g->length)
        os_loop_turn(g->loop, UINT64_MAX);
    return g->frame;
}

static void put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value & 0xFFFF);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

// Ethernet and IPv4 headers before `payload` bytes; returns the frame's length. The L4 checksum field at
// `checksum_offset` is left to the card.
static size_t finish_ip(uint8_t *frame, uint8_t protocol, uint32_t from, uint32_t to,
                        size_t payload, unsigned checksum_offset, struct net_header *header)
{
    memset(frame, 0xFF, 6);
    memcpy(frame + 6, mac, 6);
    put16(frame + 12, 0x0800);
    uint8_t *ip = frame + 14;
    memset(ip, 0, 20);
    ip[0] = 0x45;
    put16(ip + 2, (unsigned)(20 + payload));
    ip[8] = 64;
    ip[9] = protocol;
    put32(ip + 12, from);
    put32(ip + 16, to);
    store_le16(ip + 10, (uint16_t)~net_sum(ip, 20));
    uint8_t pseudo[12] = {0};
    memcpy(pseudo, ip + 12, 8);
    pseudo[9] = protocol;
    put16(pseudo + 10, (unsigned)payload);
    store_le16(ip + 20 + checksum_offset, net_sum(pseudo, 12));
    *header = (struct net_header){.flags = NET_NEEDS_CHECKSUM,
                                  .checksum_start = 34,
                                  .checksum_offset = (uint16_t)checksum_offset};
    return 34 + payload;
}

static size_t dhcp(uint8_t *frame, uint8_t type, struct net_header *header)
{
    uint8_t *udp = frame + 34, *bootp = udp + 8;
    size_t length = 8 + 300;
    memset(udp, 0, length);
    put16(udp, 68);
    put16(udp + 2, 67);
    put16(udp + 4, (unsigned)length);
    bootp[0] = 1;
    bootp[1] = 1;
    bootp[2] = 6;
    put32(bootp + 4, 0x12345678);
    memcpy(bootp + 28, mac, 6);
    const uint8_t options[] = {0x63, 0x82, 0x53, 0x63, 53, 1, type, 50, 4, 10, 0, 2, 15, 255};
    memcpy(bootp + 236, options, sizeof(options));
    return finish_ip(frame, 17, 0, 0xFFFFFFFF, length, 6, header);
}

// The next frame that is DHCP; its message type.
static uint8_t dhcp_answer(struct guest *g)
{
    const uint8_t *frame;
    do
        frame = next_frame(g);
    while (frame[12] != 8 || frame[13] != 0 || frame[23] != 17 || frame[37] != 68);
    const uint8_t *bootp = frame + 42;
    assert_int_equal(get32(bootp + 16), GUEST);
    assert_memory_equal(bootp + 240, "\x35\x01", 2);
    return bootp[242];
}

static void dhcp_gives_the_documented_address(void **state)
{
    static struct guest g;
    static uint8_t frame[2048];
    struct net_header header;
    start(&g, NULL);
    size_t length = dhcp(frame, 1, &header);
    transmit(&g, &header, frame, length);
    assert_int_equal(dhcp_answer(&g), 2);
    length = dhcp(frame, 3, &header);
    transmit(&g, &header, frame, length);
    assert_int_equal(dhcp_answer(&g), 5);
    stop(&g);
}

static void arp_reply(struct guest *g, const uint8_t *request)
{
    uint8_t frame[42];
    memcpy(frame, request + 6, 6);
    memcpy(frame + 6, mac, 6);
    memcpy(frame + 12, request + 12, 8);
    put16(frame + 20, 2);
    memcpy(frame + 22, mac, 6);
    put32(frame + 28, GUEST);
    memcpy(frame + 32, request + 22, 10);
    struct net_header header = {0};
    transmit(g, &header, frame, sizeof(frame));
}

// The next TCP frame; ARP is answered on the way.
static const uint8_t *next_tcp(struct guest *g)
{
    for (;;) {
        const uint8_t *frame = next_frame(g);
        if (frame[12] == 8 && frame[13] == 6 && get32(frame + 38) == GUEST)
            arp_reply(g, frame);
        if (frame[12] == 8 && frame[13] == 0 && frame[23] == 6)
            return frame + 34;
    }
}

static size_t tcp_payload(const struct guest *g)
{
    const uint8_t *ip = g->frame + 14;
    size_t total = (size_t)ip[2] << 8 | ip[3];
    return total - 20 - (size_t)(g->frame[46] >> 4) * 4;
}

struct flow {
    unsigned to_port, from_port;
    uint32_t sequence, acknowledged;
};

static void tcp_send(struct guest *g, struct flow *flow, uint8_t flags, const void *bytes,
                     size_t length)
{
    static uint8_t frame[NET_FRAME_BYTES_MAX];
    uint8_t *tcp = frame + 34;
    memset(tcp, 0, 20);
    put16(tcp, flow->from_port);
    put16(tcp + 2, flow->to_port);
    put32(tcp + 4, flow->sequence);
    put32(tcp + 8, flow->acknowledged);
    tcp[12] = 0x50;
    tcp[13] = flags;
    put16(tcp + 14, 0xFFFF);
    if (length)
        memcpy(tcp + 20, bytes, length);
    struct net_header header;
    size_t whole = finish_ip(frame, 6, GUEST, HOST, 20 + length, 16, &header);
    transmit(g, &header, frame, whole);
    flow->sequence += (uint32_t)length + (flags & 2 ? 1 : 0);
}

static unsigned free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    close(fd);
    return ntohs(address.sin_port);
}

// A large segment in one frame, as a guest with segmentation offload sends it, and an answer.
static void a_forwarded_port_reaches_the_guest_both_ways(void **state)
{
    enum { LARGE = 30000 };
    static struct guest g;
    static uint8_t large[LARGE], got[LARGE];
    char argument[64];
    unsigned port = free_port();
    snprintf(argument, sizeof(argument), "--forward=tcp:%u:22", port);
    start(&g, argument);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int client = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
    const uint8_t *tcp = next_tcp(&g);
    assert_int_equal(tcp[3], 22);
    assert_int_equal(tcp[13] & 0x3F, 2); // SYN
    struct flow flow = {.to_port = (unsigned)tcp[0] << 8 | tcp[1],
                        .from_port = 22,
                        .sequence = 1000,
                        .acknowledged = get32(tcp + 4) + 1};
    tcp_send(&g, &flow, 0x12, NULL, 0);
    tcp = next_tcp(&g);
    assert_int_equal(tcp[13] & 0x17, 0x10); // ACK

    for (unsigned i = 0; i < LARGE; i++)
        large[i] = (uint8_t)(i * 5 + i / 251);
    tcp_send(&g, &flow, 0x18, large, LARGE);
    do
        tcp = next_tcp(&g);
    while (get32(tcp + 8) != flow.sequence);
    assert_int_equal(recv(client, got, LARGE, MSG_WAITALL), LARGE);
    assert_memory_equal(got, large, LARGE);

    assert_int_equal(send(client, "hello guest", 11, 0), 11);
    do
        tcp = next_tcp(&g);
    while (!tcp_payload(&g));
    assert_int_equal(tcp_payload(&g), 11);
    assert_memory_equal(tcp + (tcp[12] >> 4) * 4, "hello guest", 11);
    close(client);
    stop(&g);
}

static void a_port_that_is_taken_is_refused_before_the_guest_runs(void **state)
{
    struct guest g;
    char argument[64], told[256] = {0}, place[32];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    snprintf(argument, sizeof(argument), "--forward=tcp:%u:22", ntohs(address.sin_port));
    snprintf(place, sizeof(place), "127.0.0.1:%u: ", ntohs(address.sin_port));
    int fd = spawn(&g, argument);
    assert_true(recv(fd, told, sizeof(told) - 1, 0) > 1);
    assert_int_equal(told[0], ERR_BUSY);
    assert_non_null(strstr(told + 1, place)); // who started it tells people
    int status;
    assert_int_equal(waitpid(g.pid, &status, 0), g.pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 8);
    close(fd);
    close(listener);
}

static void a_senseless_forward_is_bad_usage(void **state)
{
    static const char *const words[] = {"--forward=tcp:0:22",    "--forward=tcp:22",
                                        "--forward=tcp:1:99999", "--forward=sctp:1:2",
                                        "--forward=tcp:1:2x",    "--bogus"};
    for (unsigned i = 0; i < ARRAY_LENGTH(words); i++) {
        struct guest g;
        int status, fd = spawn(&g, words[i]);
        assert_int_equal(waitpid(g.pid, &status, 0), g.pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 2);
        close(fd);
    }
}

int main(int argc, char *argv[])
{
    program = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dhcp_gives_the_documented_address),
        cmocka_unit_test(a_forwarded_port_reaches_the_guest_both_ways),
        cmocka_unit_test(a_port_that_is_taken_is_refused_before_the_guest_runs),
        cmocka_unit_test(a_senseless_forward_is_bad_usage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
