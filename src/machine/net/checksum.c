// SPDX-License-Identifier: Apache-2.0
#include "machine/net/checksum.h"

#include <string.h>

#include "base/bits.h"

// Sums of 32-bit words in host order fold to the same 16 bits as words in network order, bytes swapped (RFC 1071, 2(B)).
uint16_t net_sum(const uint8_t *bytes, size_t length)
{
    uint64_t sum = 0;
    for (; length >= 4; bytes += 4, length -= 4)
        sum += load_le32(bytes);
    if (length >= 2) {
        sum += load_le16(bytes);
        bytes += 2;
        length -= 2;
    }
    if (length)
        sum += *bytes;
    while (sum >> 16)
        sum = (sum & 0xFFFF) + (sum >> 16);
    return (uint16_t)sum;
}

// The field holds the pseudo header's sum already.
bool net_finish_checksum(const struct net_header *header, uint8_t *frame, size_t length)
{
    size_t start = header->checksum_start, field = start + header->checksum_offset;
    if (start >= length || field + 2 > length)
        return false;
    uint16_t sum = (uint16_t)~net_sum(frame + start, length - start);
    store_le16(frame + field, sum ? sum : 0xFFFF); // 0 would mean "none" in UDP
    return true;
}
