// SPDX-License-Identifier: Apache-2.0
//
// Words of 64 bits, the lowest bit first: in a little-endian machine's memory that is the order in which qcow2 keeps them.
#include "machine/block/bitmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

static uint64_t bits_for(uint64_t size, unsigned granularity_bits)
{
    return (size >> granularity_bits) + ((size & bits_mask(granularity_bits)) != 0);
}

static uint64_t words_for(uint64_t bits)
{
    return (bits + 63) / 64;
}

uint64_t block_bitmap_bytes(uint64_t size, unsigned granularity_bits)
{
    return words_for(bits_for(size, granularity_bits)) * 8;
}

struct block_bitmap *block_bitmap_create(const char *name, uint64_t size, unsigned granularity_bits)
{
    struct block_bitmap *bitmap = calloc(1, sizeof(*bitmap));
    if (!bitmap)
        return NULL;
    bitmap->granularity_bits = granularity_bits;
    bitmap->size = size;
    bitmap->bits = bits_for(size, granularity_bits);
    bitmap->words = calloc(words_for(bitmap->bits) + 1, sizeof(*bitmap->words));
    bitmap->name = name ? strdup(name) : NULL;
    bitmap->recording = true;
    if (!bitmap->words || (name && !bitmap->name)) {
        block_bitmap_destroy(bitmap);
        return NULL;
    }
    return bitmap;
}

void block_bitmap_destroy(struct block_bitmap *bitmap)
{
    if (!bitmap)
        return;
    free(bitmap->words);
    free(bitmap->name);
    free(bitmap);
}

// The bits of a range; false when it has none.
static bool bits_of(const struct block_bitmap *bitmap, uint64_t offset, uint64_t length,
                    uint64_t *first, uint64_t *end)
{
    if (offset >= bitmap->size || !length)
        return false;
    if (length > bitmap->size - offset)
        length = bitmap->size - offset;
    *first = offset >> bitmap->granularity_bits;
    *end = ((offset + length - 1) >> bitmap->granularity_bits) + 1;
    return true;
}

// The part of a word that [first, end) covers.
static uint64_t word_mask(uint64_t word, uint64_t first, uint64_t end)
{
    uint64_t mask = UINT64_MAX;
    if (first > word * 64)
        mask &= UINT64_MAX << (first - word * 64);
    if (end < word * 64 + 64)
        mask &= bits_mask((unsigned)(end - word * 64));
    return mask;
}

static unsigned ones(uint64_t value)
{
    return (unsigned)__builtin_popcountll(value);
}

void block_bitmap_mark(struct block_bitmap *bitmap, uint64_t offset, uint64_t length)
{
    uint64_t first, end;
    if (!bits_of(bitmap, offset, length, &first, &end))
        return;
    for (uint64_t word = first / 64; word * 64 < end; word++) {
        uint64_t mask = word_mask(word, first, end);
        // Mostly the bits are set already: then the line of memory need not be taken from others.
        if ((atomic_load(&bitmap->words[word]) & mask) == mask)
            continue;
        uint64_t old = atomic_fetch_or(&bitmap->words[word], mask);
        atomic_fetch_add(&bitmap->dirty_bits, ones(mask & ~old));
    }
}

void block_bitmap_clear(struct block_bitmap *bitmap, uint64_t offset, uint64_t length)
{
    uint64_t first, end;
    if (!bits_of(bitmap, offset, length, &first, &end))
        return;
    for (uint64_t word = first / 64; word * 64 < end; word++) {
        uint64_t mask = word_mask(word, first, end);
        uint64_t old = atomic_fetch_and(&bitmap->words[word], ~mask);
        atomic_fetch_sub(&bitmap->dirty_bits, ones(mask & old));
    }
}

bool block_bitmap_any(const struct block_bitmap *bitmap, uint64_t offset, uint64_t length)
{
    uint64_t first, end;
    if (!bits_of(bitmap, offset, length, &first, &end))
        return false;
    for (uint64_t word = first / 64; word * 64 < end; word++) {
        if (atomic_load(&bitmap->words[word]) & word_mask(word, first, end))
            return true;
    }
    return false;
}

// The first bit at or after `from` that is set (or clear); `bits` when there is none.
static uint64_t find(const struct block_bitmap *bitmap, uint64_t from, bool set)
{
    for (uint64_t word = from / 64; word * 64 < bitmap->bits; word++) {
        uint64_t value = atomic_load(&bitmap->words[word]);
        value = (set ? value : ~value) & word_mask(word, from, bitmap->bits);
        if (value)
            return word * 64 + (unsigned)__builtin_ctzll(value);
    }
    return bitmap->bits;
}

bool block_bitmap_next(const struct block_bitmap *bitmap, uint64_t from, uint64_t max,
                       uint64_t *offset, uint64_t *length)
{
    if (from >= bitmap->size)
        return false;
    uint64_t first = find(bitmap, from >> bitmap->granularity_bits, true);
    if (first >= bitmap->bits)
        return false;
    uint64_t end = find(bitmap, first, false);
    // Beside those who clear, the bit may be gone again: it is the caller's stretch all the same.
    if (end == first)
        end++;
    *offset = first << bitmap->granularity_bits;
    uint64_t to = end << bitmap->granularity_bits;
    *length = (to > bitmap->size ? bitmap->size : to) - *offset;
    if (*length > max)
        *length = max;
    return true;
}

uint64_t block_bitmap_dirty_bytes(const struct block_bitmap *bitmap)
{
    uint64_t bytes = atomic_load(&bitmap->dirty_bits) << bitmap->granularity_bits;
    return bytes > bitmap->size ? bitmap->size : bytes;
}

void block_bitmap_merge(struct block_bitmap *to, const struct block_bitmap *from)
{
    uint64_t offset = 0, length = 0;
    while (block_bitmap_next(from, offset + length, UINT64_MAX, &offset, &length))
        block_bitmap_mark(to, offset, length);
}

int block_bitmap_resize(struct block_bitmap *bitmap, uint64_t size)
{
    uint64_t bits = bits_for(size, bitmap->granularity_bits), old_size = bitmap->size;
    if (bitmap->inconsistent)
        return 0;
    if (size < old_size)
        block_bitmap_clear(bitmap, align_up(size, 1ull << bitmap->granularity_bits),
                           old_size - size);
    _Atomic uint64_t *words = calloc(words_for(bits) + 1, sizeof(*words));
    if (!words)
        return -ENOMEM;
    uint64_t kept = words_for(bits < bitmap->bits ? bits : bitmap->bits);
    for (uint64_t word = 0; word < kept; word++)
        words[word] = bitmap->words[word];
    free(bitmap->words);
    bitmap->words = words;
    bitmap->bits = bits;
    bitmap->size = size;
    if (size > old_size)
        block_bitmap_mark(bitmap, old_size, size - old_size);
    return 0;
}

struct block_bitmap *block_bitmap_find(struct block_bitmap *list, const char *name)
{
    while (list && (!list->name || strcmp(list->name, name) != 0))
        list = list->next;
    return list;
}

void block_bitmap_add(struct block_bitmap **list, struct block_bitmap *bitmap)
{
    while (*list)
        list = &(*list)->next;
    bitmap->next = NULL;
    *list = bitmap;
}

void block_bitmap_remove(struct block_bitmap **list, struct block_bitmap *bitmap)
{
    while (*list && *list != bitmap)
        list = &(*list)->next;
    if (*list)
        *list = bitmap->next;
    bitmap->next = NULL;
}

void block_bitmap_mark_all(struct block_bitmap *list, uint64_t offset, uint64_t length)
{
    for (; list; list = list->next) {
        if (list->recording)
            block_bitmap_mark(list, offset, length);
    }
}
