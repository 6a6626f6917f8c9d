// SPDX-License-Identifier: Apache-2.0
//
// A real TAP interface, where the test may make one: frames come and go with their virtio-net headers.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "machine/net/net_end.h"
#include "os/loop.h"
#include "os/tap.h"

#define NAME  "wirttest0"
#define PROTO 0x88B5 // for local experiments

struct fixture {
    struct os_loop *loop;
    struct net_end *end;
    int owner, packet; // keeps the interface; the host's side of it
    uint8_t frame[NET_FRAME_BYTES_MAX];
    size_t length;
    struct net_header header;
};

static bool receive(void *context, const struct net_header *header, const uint8_t *frame,
                    size_t length)
{
    struct fixture *f = context;
    if (load_le16(frame + 12) != htons(PROTO))
        return true; // the host's own chatter
    f->header = *header;
    memcpy(f->frame, frame, length);
    f->length = length;
    return true;
}

static bool skipped;

// A network namespace of its own with one persistent TAP interface, or false. An ordinary user has one
// in a user namespace.
static bool make_interface(int *owner)
{
    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        return false;
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, .ifr_name = NAME};
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0)
        return false;
    close(fd);
    int control = socket(AF_INET, SOCK_DGRAM, 0);
    request.ifr_flags = IFF_UP;
    bool up = ioctl(control, SIOCSIFFLAGS, &request) == 0;
    *owner = control;
    return up;
}

static void frames_come_and_go(void **state)
{
    static struct fixture f;
    struct err err;
    if (!make_interface(&f.owner)) {
        print_message("skipped: no right to make a TAP interface: %s\n", strerror(errno));
        skipped = true;
        skip();
    }
    int tap = os_tap_open(NAME, &err);
    if (tap < 0)
        fail_msg("%s", err.text);
    f.loop = os_loop_create(&err);
    f.end = net_tap_create(f.loop, tap, &err);
    assert_non_null(f.end);
    f.end->receiver = (struct net_receiver){.receive = receive, .context = &f};
    net_end_set_offload(f.end, NET_OFFLOAD_CHECKSUM | NET_OFFLOAD_TSO4);
    f.packet = socket(AF_PACKET, SOCK_RAW, htons(PROTO));
    struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                  .sll_protocol = htons(PROTO),
                                  .sll_ifindex = (int)if_nametoindex(NAME)};
    assert_int_equal(bind(f.packet, (struct sockaddr *)&address, sizeof(address)), 0);

    uint8_t frame[100], got[200];
    memset(frame, 0xFF, 6);
    memset(frame + 6, 2, sizeof(frame) - 6);
    store_le16(frame + 12, htons(PROTO));
    struct net_header header = {0};
    struct iovec iov[2] = {{frame, 50}, {frame + 50, 50}};
    assert_int_equal(net_end_send(f.end, &header, iov, 2), 0);
    assert_int_equal(recv(f.packet, got, sizeof(got), 0), sizeof(frame));
    assert_memory_equal(got, frame, sizeof(frame));

    frame[99] = 77;
    assert_int_equal(send(f.packet, frame, sizeof(frame), 0), sizeof(frame));
    while (!f.length)
        os_loop_turn(f.loop, UINT64_MAX);
    assert_int_equal(f.length, sizeof(frame));
    assert_memory_equal(f.frame, frame, sizeof(frame));
    assert_int_equal(f.header.segmentation, NET_SEGMENT_NONE);

    header = (struct net_header){
        .flags = NET_NEEDS_CHECKSUM, .checksum_start = 34, .checksum_offset = 6};
    assert_int_equal(net_end_send(f.end, &header, iov, 2), 0);
    assert_int_equal(recv(f.packet, got, sizeof(got), 0), sizeof(frame));
    header.checksum_start = 0xFFF0; // senseless: the kernel refuses it, and the frame is lost
    assert_int_equal(net_end_send(f.end, &header, iov, 2), 0);
    assert_int_equal(recv(f.packet, got, sizeof(got), MSG_DONTWAIT), -1);
    close(f.packet);
    close(f.owner);
    net_end_destroy(f.end);
    os_loop_destroy(f.loop);
}

static void a_missing_interface_is_not_made(void **state)
{
    struct err err;
    assert_int_equal(os_tap_open("wirtmissing0", &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_interface_is_not_made),
        cmocka_unit_test(frames_come_and_go),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed ? failed : skipped ? 77 : 0;
}
