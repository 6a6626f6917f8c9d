// SPDX-License-Identifier: Apache-2.0
//
// A stretch of scattered memory, passed by value: slicing it allocates and changes nothing.
#ifndef WIRT_MACHINE_BLOCK_VEC_H
#define WIRT_MACHINE_BLOCK_VEC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

// `length` bytes that begin `skip` bytes into iov[0]; skip is less than iov[0].iov_len unless
// length is 0.
struct block_vec {
    const struct iovec *iov; // borrowed
    size_t skip;
    size_t length;
};

struct block_vec block_vec(const struct iovec *iov, size_t length);
// The part [offset, offset + length), which must lie within.
struct block_vec block_vec_slice(struct block_vec vec, size_t offset, size_t length);
// As an array for a system call, at most `max` entries; returns their number and how many bytes
// they are.
int block_vec_window(struct block_vec vec, struct iovec *out, int max, size_t *bytes);
// One contiguous stretch at the front: its address, and its length in *bytes.
void *block_vec_front(struct block_vec vec, size_t *bytes);

void block_vec_fill(struct block_vec vec, const void *from); // memory := from
void block_vec_gather(struct block_vec vec, void *to);       // to := memory
void block_vec_zero(struct block_vec vec);
bool block_vec_is_zero(struct block_vec vec);
// Are all addresses and lengths multiples of `alignment`?
bool block_vec_aligned(struct block_vec vec, size_t alignment);
// Is the memory all zero? Fast; any length and alignment.
bool block_memory_is_zero(const void *memory, size_t length);

#endif
