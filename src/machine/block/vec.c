// SPDX-License-Identifier: Apache-2.0
//
// Every function walks the array from its front; the callers' arrays are short (a guest's
// descriptor chain), so an index into them would cost more than it saves.
#include "machine/block/vec.h"

#include <stdint.h>
#include <string.h>

struct block_vec block_vec(const struct iovec *iov, size_t length)
{
    return block_vec_slice((struct block_vec){iov, 0, length}, 0, length);
}

struct block_vec block_vec_slice(struct block_vec vec, size_t offset, size_t length)
{
    offset += vec.skip;
    if (length) {
        while (offset >= vec.iov->iov_len) {
            offset -= vec.iov->iov_len;
            vec.iov++;
        }
    }
    return (struct block_vec){vec.iov, offset, length};
}

int block_vec_window(struct block_vec vec, struct iovec *out, int max, size_t *bytes)
{
    int count = 0;
    *bytes = 0;
    while (count < max && *bytes < vec.length) {
        size_t n;
        out[count].iov_base =
            block_vec_front(block_vec_slice(vec, *bytes, vec.length - *bytes), &n);
        out[count++].iov_len = n;
        *bytes += n;
    }
    return count;
}

void *block_vec_front(struct block_vec vec, size_t *bytes)
{
    size_t room = vec.iov->iov_len - vec.skip;
    *bytes = room < vec.length ? room : vec.length;
    return (char *)vec.iov->iov_base + vec.skip;
}

void block_vec_fill(struct block_vec vec, const void *from)
{
    while (vec.length) {
        size_t n;
        void *to = block_vec_front(vec, &n);
        memcpy(to, from, n);
        from = (const char *)from + n;
        vec = block_vec_slice(vec, n, vec.length - n);
    }
}

void block_vec_gather(struct block_vec vec, void *to)
{
    while (vec.length) {
        size_t n;
        const void *from = block_vec_front(vec, &n);
        memcpy(to, from, n);
        to = (char *)to + n;
        vec = block_vec_slice(vec, n, vec.length - n);
    }
}

void block_vec_zero(struct block_vec vec)
{
    while (vec.length) {
        size_t n;
        void *to = block_vec_front(vec, &n);
        memset(to, 0, n);
        vec = block_vec_slice(vec, n, vec.length - n);
    }
}

bool block_vec_is_zero(struct block_vec vec)
{
    while (vec.length) {
        size_t n;
        const void *from = block_vec_front(vec, &n);
        if (!block_memory_is_zero(from, n))
            return false;
        vec = block_vec_slice(vec, n, vec.length - n);
    }
    return true;
}

bool block_vec_aligned(struct block_vec vec, size_t alignment)
{
    while (vec.length) {
        size_t n;
        const void *at = block_vec_front(vec, &n);
        if (((uintptr_t)at | n) & (alignment - 1))
            return false;
        vec = block_vec_slice(vec, n, vec.length - n);
    }
    return true;
}

bool block_memory_is_zero(const void *memory, size_t length)
{
    // Compare the block with itself shifted by 16 bytes, once the first 16 are known to be zero:
    // memcmp is the fastest scan that the C library has.
    static const char zeros[16];
    if (length <= sizeof(zeros))
        return memcmp(memory, zeros, length) == 0;
    return memcmp(memory, zeros, sizeof(zeros)) == 0 &&
           memcmp(memory, (const char *)memory + sizeof(zeros), length - sizeof(zeros)) == 0;
}
