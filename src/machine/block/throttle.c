// SPDX-License-Identifier: Apache-2.0
#include "machine/block/throttle.h"

#define SECOND_NS 1000000000ull

// How long `amount` lasts; saturates.
static uint64_t share_ns(uint64_t amount, uint64_t rate)
{
    unsigned __int128 ns = (unsigned __int128)amount * SECOND_NS / rate;
    return ns > INT64_MAX ? INT64_MAX : (uint64_t)ns;
}

static void set(struct throttle_bucket *bucket, uint64_t rate, uint64_t burst)
{
    *bucket = (struct throttle_bucket){.rate = rate};
    if (rate)
        bucket->burst_ns = burst ? share_ns(burst, rate) : SECOND_NS / 10;
}

void throttle_set(struct throttle *throttle, const struct block_rate *rate)
{
    set(&throttle->bytes, rate->bytes_per_s, rate->burst_bytes);
    set(&throttle->requests, rate->requests_per_s, rate->burst_requests);
}

static uint64_t take(struct throttle_bucket *bucket, uint64_t now, uint64_t amount)
{
    if (!bucket->rate || !amount)
        return now;
    uint64_t due =
        bucket->used_ns > now + bucket->burst_ns ? bucket->used_ns - bucket->burst_ns : now;
    uint64_t from = bucket->used_ns > now ? bucket->used_ns : now;
    if (__builtin_add_overflow(from, share_ns(amount, bucket->rate), &bucket->used_ns))
        bucket->used_ns = UINT64_MAX;
    return due;
}

uint64_t throttle_take(struct throttle *throttle, uint64_t now_ns, uint64_t bytes)
{
    uint64_t by_bytes = take(&throttle->bytes, now_ns, bytes);
    uint64_t by_requests = take(&throttle->requests, now_ns, 1);
    return by_bytes > by_requests ? by_bytes : by_requests;
}
