// SPDX-License-Identifier: Apache-2.0
//
// Segments go in, joined ones come out: cut at their segment size they read as what went in.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "machine/net/checksum.h"
#include "machine/net/merge.h"

enum {
    IP = 14,
    TCP = 34,
    OPTIONS = 12,
    HEADERS = TCP + 20 + OPTIONS,
    SIZE = 1448,
    ACK = 0x10,
    PUSH = 0x08,
    FIN = 0x01
};

struct flow {
    uint8_t port; // tells connections apart
    uint32_t sequence;
};

static uint8_t frame[HEADERS + SIZE];
static struct net_merge merge;
static struct net_header header;

static uint8_t content(uint32_t sequence)
{
    return (uint8_t)(sequence * 7 + sequence / 251);
}

static void put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static unsigned get16(const uint8_t *at)
{
    return (unsigned)(at[0] << 8 | at[1]);
}

// A segment of the flow, which moves on. Returns the frame's length.
static size_t make(struct flow *flow, size_t payload, uint8_t flags)
{
    memset(frame, 0, sizeof(frame));
    put16(frame + 12, 0x0800);
    frame[IP] = 0x45;
    put16(frame + IP + 2, (unsigned)(HEADERS - IP + payload));
    frame[IP + 8] = 64;
    frame[IP + 9] = 6;
    memcpy(frame + IP + 12, (uint8_t[]){10, 0, 2, 2, 10, 0, 2, 15}, 8);
    frame[TCP + 1] = flow->port;
    put16(frame + TCP + 4, flow->sequence >> 16);
    put16(frame + TCP + 6, flow->sequence & 0xFFFF);
    frame[TCP + 12] = (20 + OPTIONS) / 4 << 4;
    frame[TCP + 13] = flags;
    for (size_t i = 0; i < payload; i++)
        frame[HEADERS + i] = content(flow->sequence + (uint32_t)i);
    flow->sequence += (uint32_t)payload;
    return HEADERS + payload;
}

static bool add(struct flow *flow, size_t payload, uint8_t flags)
{
    size_t length = make(flow, payload, flags);
    return net_merge_add(&merge, frame, length);
}

// What is held is a whole frame with right lengths and checksums that continues the flow. Returns its payload.
static size_t finish(struct flow *flow)
{
    net_merge_finish(&merge, &header);
    size_t payload = merge.length - HEADERS;
    assert_int_equal(get16(merge.frame + IP + 2), merge.length - IP);
    assert_int_equal(get16(merge.frame + TCP + 4) << 16 | get16(merge.frame + TCP + 6),
                     flow->sequence);
    for (size_t i = 0; i < payload; i++)
        assert_int_equal(merge.frame[HEADERS + i], content(flow->sequence + (uint32_t)i));
    if (merge.count > 1) {
        assert_int_equal(header.segmentation, NET_SEGMENT_TCP4);
        assert_int_equal(header.header_length, HEADERS);
        assert_int_equal(net_sum(merge.frame + IP, 20), 0xFFFF);
        assert_true(net_finish_checksum(&header, merge.frame, merge.length));
        uint8_t pseudo[12] = {[9] = 6};
        memcpy(pseudo, merge.frame + IP + 12, 8);
        put16(pseudo + 10, (unsigned)(merge.length - TCP));
        uint32_t sum =
            (uint32_t)net_sum(pseudo, 12) + net_sum(merge.frame + TCP, merge.length - TCP);
        assert_int_equal((sum & 0xFFFF) + (sum >> 16), 0xFFFF);
    } else {
        assert_int_equal(header.segmentation, NET_SEGMENT_NONE);
        assert_int_equal(header.flags, NET_CHECKSUM_VALID);
    }
    flow->sequence += (uint32_t)payload;
    merge.length = 0;
    return payload;
}

static void consecutive_segments_become_one(void **state)
{
    struct flow in = {1, 1000}, out = in;
    merge.length = 0;
    for (unsigned i = 0; i < 10; i++)
        assert_true(add(&in, SIZE, ACK));
    assert_true(add(&in, 100, ACK | PUSH));
    assert_false(add(&in, SIZE, ACK)); // nothing behind the last one
    assert_int_equal(finish(&out), 10 * SIZE + 100);
    assert_int_equal(header.segment_size, SIZE);
    assert_int_equal(merge.frame[TCP + 13], ACK | PUSH);
}

static void what_does_not_continue_is_left_alone(void **state)
{
    struct flow in = {1, 1000}, other = {2, 1000 + SIZE}, gap = {1, 1001 + SIZE}, out = in, again;
    merge.length = 0;
    assert_true(add(&in, SIZE, ACK));
    again = in;
    assert_false(add(&other, SIZE, ACK));
    assert_false(add(&gap, SIZE, ACK));
    assert_false(add(&again, 0, ACK)); // an acknowledgement alone
    assert_false(add(&again, 10, ACK | FIN));
    again = in;
    size_t length = make(&again, SIZE, ACK);
    frame[TCP + 11] = 1; // another acknowledgement
    assert_false(net_merge_add(&merge, frame, length));
    frame[TCP + 11] = 0;
    frame[HEADERS - 1] = 1; // other options
    assert_false(net_merge_add(&merge, frame, length));
    frame[HEADERS - 1] = 0;
    frame[IP + 6] = 0x20; // a fragment
    assert_false(net_merge_add(&merge, frame, length));
    frame[IP + 6] = 0;
    put16(frame + IP + 2, (unsigned)length); // longer than the frame
    assert_false(net_merge_add(&merge, frame, length));
    assert_int_equal(finish(&out), SIZE);
}

static void padding_is_no_data(void **state)
{
    struct flow in = {1, 5}, out = in;
    merge.length = 0;
    size_t length = make(&in, 3, ACK);
    memset(frame + length, 0xEE, 10);
    assert_true(net_merge_add(&merge, frame, length + 10));
    assert_int_equal(finish(&out), 3);
}

static void a_datagram_has_at_most_64_kib(void **state)
{
    struct flow in = {1, UINT32_MAX - 5000}, out = in;
    unsigned count = 0;
    merge.length = 0;
    while (add(&in, SIZE, ACK))
        count++;
    assert_int_equal(count, (65535 - (HEADERS - IP)) / SIZE);
    assert_int_equal(finish(&out), count * SIZE); // over the sequence numbers' end
}

// Two connections, any lengths and flags: every byte of each comes once and in order.
static void random_segments_come_out_whole(void **state)
{
    struct flow in[2] = {{1, 99}, {2, 7777777}}, out[2] = {in[0], in[1]};
    unsigned now = 0, joined = 0;
    srandom(20261121);
    merge.length = 0;
    for (unsigned i = 0; i < 20000; i++) {
        unsigned which = random() % 16 ? now : !now;
        size_t payload = random() % 8 ? SIZE : 1 + (size_t)random() % SIZE;
        uint8_t flags = (uint8_t)(ACK | (random() % 32 ? 0 : PUSH));
        size_t length = make(&in[which], payload, flags);
        if (!net_merge_add(&merge, frame, length)) {
            joined += merge.count > 1;
            finish(&out[now]);
            assert_true(net_merge_add(&merge, frame, length));
        }
        now = which;
    }
    finish(&out[now]);
    assert_int_equal(in[0].sequence, out[0].sequence);
    assert_int_equal(in[1].sequence, out[1].sequence);
    assert_true(joined > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(consecutive_segments_become_one),
        cmocka_unit_test(what_does_not_continue_is_left_alone),
        cmocka_unit_test(padding_is_no_data),
        cmocka_unit_test(a_datagram_has_at_most_64_kib),
        cmocka_unit_test(random_segments_come_out_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
