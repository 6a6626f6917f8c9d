// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "driver.h"
#include "machine/virtio/virtio_net.h"

#define RECEIVE       0u
#define SEND          1u
#define CONTROL       2u
#define MERGE_BUFFERS BIT(15)
#define ALL           (~0ull)

struct fixture {
    struct test_machine machine;
    struct test_driver driver;
    struct virtio_net *net;
    struct net_end *far; // the other end of the cable
    // What arrived there.
    struct net_header header;
    uint8_t frame[NET_FRAME_BYTES_MAX];
    size_t length;
    unsigned frames, writable;
    bool refuse;
};

static bool far_receive(void *context, const struct net_header *header, const uint8_t *frame,
                        size_t length)
{
    struct fixture *f = context;
    if (f->refuse)
        return false;
    f->header = *header;
    memcpy(f->frame, frame, length);
    f->length = length;
    f->frames++;
    return true;
}

static void far_writable(void *context)
{
    struct fixture *f = context;
    f->writable++;
}

static void init(struct fixture *f, uint64_t features, unsigned size)
{
    struct err err;
    struct net_end *ends[2];
    memset(f, 0, sizeof(*f));
    test_machine_init(&f->machine, false);
    assert_int_equal(net_loopback_create(ends, &err), 0);
    struct virtio_net_params params = {.name = "net0", .mac = {2, 0, 0, 1, 2, 3}, .end = ends[0]};
    f->far = ends[1];
    f->far->receiver = (struct net_receiver){far_receive, far_writable, f};
    f->net = virtio_net_create(&f->machine.environment, &params, &err);
    assert_non_null(f->net);
    test_driver_attach(&f->driver, &f->machine, virtio_net_device(f->net));
    test_driver_start(&f->driver, features, size);
}

static void fini(struct fixture *f)
{
    pci_host_unplug(&virtio_net_device(f->net)->pci);
    virtio_net_destroy(f->net);
    net_end_destroy(f->far);
    test_machine_fini(&f->machine);
}

static void fill_frame(uint8_t *frame, size_t length)
{
    for (size_t i = 0; i < length; i++)
        frame[i] = (uint8_t)(i * 13 + i / 256);
}

static void send_frame(struct fixture *f, const struct net_header *header, const uint8_t *frame,
                       size_t length)
{
    uint64_t at = test_alloc(&f->driver, NET_HEADER_BYTES + length, 2);
    test_store(&f->driver, at, header, NET_HEADER_BYTES);
    test_store(&f->driver, at + NET_HEADER_BYTES, frame, length);
    struct test_buffer buffers[2] = {{at, NET_HEADER_BYTES, false},
                                     {at + NET_HEADER_BYTES, (uint32_t)length, false}};
    test_add(&f->driver, SEND, 0, buffers, 2);
    test_notify(&f->driver, SEND);
}

static int offer(struct fixture *f, const uint8_t *frame, size_t length)
{
    struct net_header header = {.flags = NET_CHECKSUM_VALID};
    struct iovec iov = {(void *)(uintptr_t)frame, length};
    return net_end_send(f->far, &header, &iov, 1);
}

static void a_frame_goes_out_with_its_offload_header(void **state)
{
    static struct fixture f;
    init(&f, ALL, 16);
    static uint8_t frame[40000];
    fill_frame(frame, sizeof(frame));
    struct net_header header = {.flags = NET_NEEDS_CHECKSUM,
                                .segmentation = NET_SEGMENT_TCP4,
                                .header_length = 54,
                                .segment_size = 1460,
                                .checksum_start = 34,
                                .checksum_offset = 16};
    send_frame(&f, &header, frame, sizeof(frame));
    test_wait_used(&f.driver, SEND, NULL);
    assert_int_equal(f.frames, 1);
    assert_int_equal(f.length, sizeof(frame));
    assert_memory_equal(f.frame, frame, sizeof(frame));
    assert_memory_equal(&f.header, &header, sizeof(header));
    fini(&f);
}

static void a_senseless_header_costs_the_frame(void **state)
{
    static struct fixture f;
    init(&f, ALL, 16);
    uint8_t frame[100] = {0};
    static const struct net_header headers[] = {
        {.flags = NET_NEEDS_CHECKSUM, .checksum_start = 98, .checksum_offset = 1},
        {.flags = NET_NEEDS_CHECKSUM, .checksum_start = 0xFFFF, .checksum_offset = 0xFFFF},
        {.segmentation = NET_SEGMENT_TCP4, .segment_size = 10},
        {.flags = NET_NEEDS_CHECKSUM, .segmentation = NET_SEGMENT_TCP4, .segment_size = 0},
        {.flags = NET_NEEDS_CHECKSUM,
         .segmentation = NET_SEGMENT_TCP4,
         .segment_size = 10,
         .header_length = 101},
        {.flags = NET_NEEDS_CHECKSUM, .segmentation = 3, .segment_size = 10},
        {.segmentation = NET_SEGMENT_ECN},
    };
    for (unsigned i = 0; i < ARRAY_LENGTH(headers); i++) {
        send_frame(&f, &headers[i], frame, sizeof(frame));
        test_wait_used(&f.driver, SEND, NULL);
    }
    struct net_header plain = {0};
    send_frame(&f, &plain, frame, 13);
    test_wait_used(&f.driver, SEND, NULL);
    assert_int_equal(f.frames, 0);
    send_frame(&f, &plain, frame, sizeof(frame));
    assert_int_equal(f.frames, 1);
    struct virtio_net_stats stats;
    virtio_net_stats(f.net, &stats);
    assert_int_equal(stats.dropped_frames, ARRAY_LENGTH(headers) + 1);
    fini(&f);
}

static void a_frame_that_the_end_refuses_goes_out_later(void **state)
{
    static struct fixture f;
    init(&f, ALL, 16);
    uint8_t frame[64];
    fill_frame(frame, sizeof(frame));
    struct net_header header = {0};
    f.refuse = true;
    send_frame(&f, &header, frame, sizeof(frame));
    assert_false(test_has_used(&f.driver, SEND));
    f.refuse = false;
    net_end_resume(f.far);
    assert_true(test_has_used(&f.driver, SEND));
    assert_int_equal(f.frames, 1);
    fini(&f);
}

static void add_receive(struct fixture *f, unsigned head, uint64_t at, uint32_t length)
{
    struct test_buffer buffer = {at, length, true};
    test_add(&f->driver, RECEIVE, head, &buffer, 1);
    test_notify(&f->driver, RECEIVE);
}

static void a_frame_spreads_over_merged_buffers(void **state)
{
    enum { BUFFERS = 5, BYTES = 300, LENGTH = BUFFERS * BYTES - 12 - 40 };
    static struct fixture f;
    init(&f, ALL, 16);
    uint8_t frame[LENGTH], got[BUFFERS * BYTES];
    uint64_t at = test_alloc(&f.driver, BUFFERS * BYTES, 2);
    fill_frame(frame, sizeof(frame));
    for (unsigned i = 0; i < BUFFERS - 1; i++)
        add_receive(&f, i, at + i * BYTES, BYTES);
    assert_int_equal(offer(&f, frame, LENGTH), -EAGAIN); // not enough of them yet
    assert_false(test_has_used(&f.driver, RECEIVE));
    add_receive(&f, BUFFERS - 1, at + (BUFFERS - 1) * BYTES, BYTES);
    assert_int_equal(f.writable, 1);
    assert_int_equal(offer(&f, frame, LENGTH), 0);
    for (unsigned i = 0; i < BUFFERS; i++) {
        uint32_t length;
        assert_int_equal(test_wait_used(&f.driver, RECEIVE, &length), i);
        assert_int_equal(length, i < BUFFERS - 1 ? BYTES : BYTES - 40);
    }
    assert_false(test_has_used(&f.driver, RECEIVE));
    test_load(&f.driver, at, got, sizeof(got));
    assert_int_equal(got[0], NET_CHECKSUM_VALID);
    assert_int_equal(load_le16(got + 10), BUFFERS);
    assert_memory_equal(got + 12, frame, LENGTH);
    fini(&f);
}

static void without_merging_a_frame_fits_one_buffer_or_is_dropped(void **state)
{
    static struct fixture f;
    init(&f, 0, 16);
    uint8_t frame[500], got[600];
    fill_frame(frame, sizeof(frame));
    uint64_t at = test_alloc(&f.driver, 600, 2);
    add_receive(&f, 0, at, 600);
    assert_int_equal(offer(&f, frame, 500), 0);
    uint32_t length;
    test_wait_used(&f.driver, RECEIVE, &length);
    assert_int_equal(length, 512);
    test_load(&f.driver, at, got, 512);
    assert_int_equal(got[0], 0); // GUEST_CSUM was not accepted
    assert_memory_equal(got + 12, frame, 500);
    add_receive(&f, 1, at, 511);
    assert_int_equal(offer(&f, frame, 500), 0);
    assert_false(test_has_used(&f.driver, RECEIVE));
    assert_int_equal(offer(&f, frame, 499), 0);
    assert_true(test_has_used(&f.driver, RECEIVE));
    fini(&f);
}

static void the_carrier_follows_the_link(void **state)
{
    static struct fixture f;
    init(&f, ALL, 16);
    assert_int_equal(test_read(&f.driver, f.driver.config + 6, 2), 1);
    virtio_net_set_link(f.net, false);
    assert_int_equal(test_read(&f.driver, f.driver.config + 6, 2), 0);
    uint8_t frame[64] = {0};
    struct net_header header = {0};
    send_frame(&f, &header, frame, sizeof(frame));
    test_wait_used(&f.driver, SEND, NULL);
    assert_int_equal(f.frames, 0);
    fini(&f);
}

static uint8_t command(struct fixture *f, const uint8_t *bytes, uint32_t length)
{
    uint64_t at = test_alloc(&f->driver, length, 1), ack_at = test_alloc(&f->driver, 1, 1);
    test_store(&f->driver, at, bytes, length);
    struct test_buffer buffers[2] = {{at, length, false}, {ack_at, 1, true}};
    test_add(&f->driver, CONTROL, 0, buffers, 2);
    test_notify(&f->driver, CONTROL);
    test_wait_used(&f->driver, CONTROL, NULL);
    uint8_t ack;
    test_load(&f->driver, ack_at, &ack, 1);
    return ack;
}

static void the_control_queue_sets_the_address(void **state)
{
    static struct fixture f;
    init(&f, ALL, 16);
    assert_int_equal(command(&f, (const uint8_t[]){1, 1, 2, 9, 8, 7, 6, 5}, 8), 0);
    assert_int_equal(test_read(&f.driver, f.driver.config, 4), 0x07080902);
    assert_int_equal(command(&f, (const uint8_t[]){1, 1, 2}, 3), 1);
    assert_int_equal(command(&f, (const uint8_t[]){0, 0, 1}, 3), 0);
    assert_int_equal(command(&f, (const uint8_t[]){9, 0, 1}, 3), 1);
    assert_int_equal(command(&f, (const uint8_t[]){0}, 1), 1);
    test_driver_reset(&f.driver);
    assert_int_equal(test_read(&f.driver, f.driver.config, 4), 0x01000002);
    fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_goes_out_with_its_offload_header),
        cmocka_unit_test(a_senseless_header_costs_the_frame),
        cmocka_unit_test(a_frame_that_the_end_refuses_goes_out_later),
        cmocka_unit_test(a_frame_spreads_over_merged_buffers),
        cmocka_unit_test(without_merging_a_frame_fits_one_buffer_or_is_dropped),
        cmocka_unit_test(the_carrier_follows_the_link),
        cmocka_unit_test(the_control_queue_sets_the_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
