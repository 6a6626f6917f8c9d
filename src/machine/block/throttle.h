// SPDX-License-Identifier: Apache-2.0
//
// Limits on a disk's rate, as arithmetic: time comes as an argument, nothing waits here.
//
// Each of the two limits (bytes, requests) is kept by one number: the time up to which what was let through has used up its share. A
// request moves it on by its own share; as long as it is no further ahead than the burst, the request may go at once.
#ifndef WIRT_MACHINE_BLOCK_THROTTLE_H
#define WIRT_MACHINE_BLOCK_THROTTLE_H

#include "machine/block/block.h"

struct throttle {
    struct throttle_bucket {
        uint64_t rate;     // a second; 0: no limit
        uint64_t burst_ns; // how far ahead of now is free
        uint64_t used_ns;  // share used up to then
    } bytes, requests;
};

// What was used before counts for nothing.
void throttle_set(struct throttle *throttle, const struct block_rate *rate);
// When may a request that comes now go? At `now_ns` or later; its share is taken.
uint64_t throttle_take(struct throttle *throttle, uint64_t now_ns, uint64_t bytes);

#endif
