// SPDX-License-Identifier: Apache-2.0
//
// Finishing what a guest left to its network card. Pure.
#ifndef WIRT_MACHINE_NET_CHECKSUM_H
#define WIRT_MACHINE_NET_CHECKSUM_H

#include "machine/net/net_end.h"

// The Internet checksum's sum of 16-bit words (RFC 1071), not yet inverted; an odd last byte counts as high half in network order.
uint16_t net_sum(const uint8_t *bytes, size_t length);

// Puts in the checksum that the header says is missing. False when it points outside the frame.
bool net_finish_checksum(const struct net_header *header, uint8_t *frame, size_t length);

#endif
