// SPDX-License-Identifier: Apache-2.0
#include "machine/net/merge.h"

#include <assert.h>
#include <string.h>

#include "base/bits.h"
#include "machine/net/checksum.h"

// Places in an Ethernet frame with an IPv4 header without options.
enum {
    TYPE = 12,
    IP = 14,
    TCP = 34,
    TCP_FLAGS = TCP + 13,
    TCP_WINDOW = TCP + 14,
    TCP_SUM = TCP + 16,
    TCP_END = TCP + 20
};
enum {
    IP_LENGTH = IP + 2,
    IP_ID = IP + 4,
    IP_FRAGMENT = IP + 6,
    IP_PROTOCOL = IP + 9,
    IP_SUM = IP + 10,
    IP_ADDRESSES = IP + 12
};
enum {
    PROTOCOL_TCP = 6,
    FLAG_PUSH = 8,
    FLAG_ACK = 16,
    DONT_FRAGMENT = 0x4000,
    IP_BYTES_MAX = 65535
};

static_assert(IP + IP_BYTES_MAX <= NET_FRAME_BYTES_MAX, "the largest datagram has room");

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void put16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

struct segment {
    size_t headers, payload; // bytes
    uint32_t sequence;
    bool pushed;
};

// False for what is no plain TCP segment with data. Padding behind the datagram is left out.
static bool parse(const uint8_t *frame, size_t length, struct segment *segment)
{
    if (length < TCP_END || get16(frame + TYPE) != 0x0800 || frame[IP] != 0x45 ||
        frame[IP_PROTOCOL] != PROTOCOL_TCP || get16(frame + IP_FRAGMENT) & ~DONT_FRAGMENT)
        return false;
    size_t end = IP + (size_t)get16(frame + IP_LENGTH);
    segment->headers = TCP + (size_t)(frame[TCP + 12] >> 4) * 4;
    if (segment->headers < TCP_END || end <= segment->headers || end > length)
        return false;
    segment->payload = end - segment->headers;
    segment->sequence = get32(frame + TCP + 4);
    segment->pushed = frame[TCP_FLAGS] & FLAG_PUSH;
    return (frame[TCP_FLAGS] & ~FLAG_PUSH) == FLAG_ACK && !(frame[TCP + 12] & 0x0F);
}

// All of the headers but lengths, checksums, the datagram's number, the sequence number, PSH and the window.
static bool same_connection(const uint8_t *a, const uint8_t *b, size_t headers)
{
    return !memcmp(a, b, IP_LENGTH) &&
           !memcmp(a + IP_FRAGMENT, b + IP_FRAGMENT, IP_SUM - IP_FRAGMENT) &&
           !memcmp(a + IP_ADDRESSES, b + IP_ADDRESSES, TCP + 4 - IP_ADDRESSES) &&
           !memcmp(a + TCP + 8, b + TCP + 8, 5) &&
           !memcmp(a + TCP_SUM + 2, b + TCP_SUM + 2, headers - TCP_SUM - 2);
}

static void begin(struct net_merge *merge, const uint8_t *frame, const struct segment *segment)
{
    merge->headers = segment->headers;
    merge->segment_size = (uint16_t)segment->payload;
    merge->length = segment->headers + segment->payload;
    merge->count = 1;
    merge->next = segment->sequence + (uint32_t)segment->payload;
    merge->complete = segment->pushed;
    memcpy(merge->frame, frame, merge->length);
}

bool net_merge_add(struct net_merge *merge, const uint8_t *frame, size_t length)
{
    struct segment segment;
    if (!parse(frame, length, &segment))
        return false;
    if (!merge->length) {
        begin(merge, frame, &segment);
        return true;
    }
    if (merge->complete || segment.sequence != merge->next || segment.headers != merge->headers ||
        segment.payload > merge->segment_size ||
        merge->length + segment.payload > IP + IP_BYTES_MAX ||
        !same_connection(merge->frame, frame, segment.headers))
        return false;
    memcpy(merge->frame + merge->length, frame + segment.headers, segment.payload);
    memcpy(merge->frame + TCP_WINDOW, frame + TCP_WINDOW, 2);
    merge->frame[TCP_FLAGS] |= frame[TCP_FLAGS];
    merge->length += segment.payload;
    merge->next += (uint32_t)segment.payload;
    merge->count++;
    merge->complete = segment.pushed || segment.payload < merge->segment_size;
    return true;
}

// The pseudo header's sum stands in the checksum's field, as for every checksum that is left to somebody else.
void net_merge_finish(struct net_merge *merge, struct net_header *header)
{
    uint8_t *frame = merge->frame;
    *header = (struct net_header){.flags = NET_CHECKSUM_VALID, .buffers = 1};
    if (merge->count == 1)
        return;
    uint8_t pseudo[12] = {[9] = PROTOCOL_TCP};
    put16(frame + IP_LENGTH, (uint16_t)(merge->length - IP));
    store_le16(frame + IP_SUM, 0);
    store_le16(frame + IP_SUM, (uint16_t)~net_sum(frame + IP, TCP - IP));
    memcpy(pseudo, frame + IP_ADDRESSES, 8);
    put16(pseudo + 10, (uint16_t)(merge->length - TCP));
    store_le16(frame + TCP_SUM, net_sum(pseudo, sizeof(pseudo)));
    *header = (struct net_header){.flags = NET_NEEDS_CHECKSUM,
                                  .segmentation = NET_SEGMENT_TCP4,
                                  .header_length = (uint16_t)merge->headers,
                                  .segment_size = merge->segment_size,
                                  .checksum_start = TCP,
                                  .checksum_offset = TCP_SUM - TCP,
                                  .buffers = 1};
}
