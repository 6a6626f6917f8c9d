// SPDX-License-Identifier: Apache-2.0
//
// Random numbers, and from them values that are likely to matter: corners of integers and of the real formats, and
// whole register states.
#include "diff_make.h"

#include "base/bits.h"

uint64_t diff_random(uint64_t *state)
{
    uint64_t x = *state += 0x9E3779B97F4A7C15;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
    return x ^ (x >> 31);
}

unsigned diff_below(uint64_t *random, unsigned limit)
{
    return (unsigned)(diff_random(random) % limit);
}

bool diff_one_in(uint64_t *random, unsigned n)
{
    return diff_below(random, n) == 0;
}

void diff_random_bytes(uint64_t *random, void *to, size_t count)
{
    for (size_t i = 0; i < count; i += 8) {
        uint64_t value = diff_random(random);
        memcpy((uint8_t *)to + i, &value, count - i < 8 ? count - i : 8);
    }
}

// ---- Values ----

uint64_t diff_random_integer(uint64_t *random)
{
    static const uint64_t corners[] = {0,
                                       1,
                                       2,
                                       0x7F,
                                       0x80,
                                       0xFF,
                                       0x7FFF,
                                       0x8000,
                                       0xFFFF,
                                       0x7FFFFFFF,
                                       0x80000000,
                                       0xFFFFFFFF,
                                       0x7FFFFFFFFFFFFFFF,
                                       0x8000000000000000,
                                       0xFFFFFFFFFFFFFFFF,
                                       0xFFFFFFFFFFFFFF80,
                                       0xFFFFFFFF80000000,
                                       0x5555555555555555};
    switch (diff_below(random, 4)) {
    case 0:
        return corners[diff_below(random, ARRAY_LENGTH(corners))];
    case 1:
        return diff_random(random) & 0xFF;
    case 2:
        return diff_random(random) >> diff_below(random, 64);
    default:
        return diff_random(random);
    }
}

static uint32_t random_single(uint64_t *random)
{
    // Zeroes, denormals, limits, infinities, quiet and signaling NaNs.
    static const uint32_t corners[] = {0x00000000, 0x80000000, 0x00000001, 0x807FFFFF, 0x00800000,
                                       0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00001,
                                       0x7F800001, 0xFFBFFFFF, 0x3F800000, 0xBF800000, 0x4B000001,
                                       0x4F000000, 0x5F000000};
    if (diff_one_in(random, 2))
        return corners[diff_below(random, ARRAY_LENGTH(corners))];
    return (uint32_t)diff_random(random);
}

static uint64_t random_double(uint64_t *random)
{
    static const uint64_t corners[] = {0x0000000000000000, 0x8000000000000000, 0x0000000000000001,
                                       0x800FFFFFFFFFFFFF, 0x0010000000000000, 0x7FEFFFFFFFFFFFFF,
                                       0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000000,
                                       0x7FF0000000000001, 0x3FF0000000000000, 0xC000000000000000,
                                       0x41E0000000000000, 0x43E0000000000000, 0x380FFFFFE0000000};
    if (diff_one_in(random, 2))
        return corners[diff_below(random, ARRAY_LENGTH(corners))];
    return diff_random(random);
}

// 80-bit reals, invalid encodings too.
void diff_random_extended(uint64_t *random, uint8_t to[10])
{
    static const uint16_t exponents[] = {0,      1,      0x3FFF, 0x4000, 0x3FFE,
                                         0x403E, 0x4040, 0x7FFE, 0x7FFF};
    uint64_t significand =
        diff_one_in(random, 4) ? diff_random_integer(random) : diff_random(random);
    if (!diff_one_in(random, 6))
        significand |= 1ull << 63;
    uint16_t exponent = diff_one_in(random, 2)
                            ? exponents[diff_below(random, ARRAY_LENGTH(exponents))]
                            : (uint16_t)(0x3FE0 + diff_below(random, 64));
    if (diff_one_in(random, 2))
        exponent |= 0x8000;
    memcpy(to, &significand, 8);
    memcpy(to + 8, &exponent, 2);
}

// `count` bytes (a multiple of 8) of one kind of number.
void diff_random_vector(uint64_t *random, uint8_t *to, unsigned count)
{
    unsigned kind = diff_below(random, 4);
    for (unsigned i = 0; i < count; i += 8) {
        uint64_t value = kind == 0   ? diff_random(random)
                         : kind == 1 ? diff_random_integer(random)
                         : kind == 2 ? random_single(random) | (uint64_t)random_single(random) << 32
                                     : random_double(random);
        memcpy(to + i, &value, 8);
    }
}

// ---- State ----

static void random_fpu(uint64_t *random, uint8_t *xsave)
{
    static const uint64_t xstate_bv = 7;
    memset(xsave, 0, XSAVE_BYTES);
    uint16_t control = 0x037F;
    if (diff_one_in(random, 4))
        control = (uint16_t)(0x0040 | diff_below(random, 64) | diff_below(random, 16) << 8);
    else if (diff_one_in(random, 2))
        control = (uint16_t)(0x007F | diff_below(random, 16) << 8);
    uint16_t status = (uint16_t)(diff_below(random, 8) << 11 | (diff_below(random, 16) & 7) << 8);
    if (diff_one_in(random, 4))
        status |= (uint16_t)diff_below(random, 64);
    if (status & ~control & 0x3F) // an unmasked exception is pending
        status |= 0x8080;
    store_le16(xsave, control);
    store_le16(xsave + 2, status);
    xsave[4] = (uint8_t)diff_random(random);
    uint32_t mxcsr = 0x1F80;
    if (diff_one_in(random, 2))
        mxcsr = (uint32_t)(0x1F80 | diff_below(random, 64) | diff_below(random, 8) << 13 |
                           diff_below(random, 2) << 6);
    if (diff_one_in(random, 6))
        mxcsr &= ~(diff_below(random, 64) << 7);
    store_le32(xsave + 24, mxcsr);
    for (unsigned i = 0; i < 8; i++)
        diff_random_extended(random, xsave + 32 + 16 * i);
    for (unsigned i = 0; i < 16; i++) {
        diff_random_vector(random, xsave + 160 + 16 * i, 16);
        diff_random_vector(random, xsave + 576 + 16 * i, 16);
    }
    memcpy(xsave + 512, &xstate_bv, 8);
}

void diff_random_state(struct diff_case *c, uint64_t *random)
{
    struct diff_state *state = &c->before;
    for (unsigned i = 0; i < GPR_COUNT; i++) {
        state->gpr[i] = diff_random_integer(random);
        if (c->mode != CODE_64)
            state->gpr[i] = i < 8 ? (uint32_t)state->gpr[i] : 0;
    }
    state->rflags = FLAG_FIXED1 | FLAG_IF | (diff_random(random) & FLAGS_STATUS);
    if (diff_one_in(random, 4))
        state->rflags |= FLAG_DF;
    random_fpu(random, state->xsave);
}
