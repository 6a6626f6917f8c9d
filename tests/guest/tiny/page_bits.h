// SPDX-License-Identifier: Apache-2.0
//
// What the guests that walk page tables share: the bits of an entry, SMAP's, and the page with its entry that they change.
#ifndef WIRT_TESTS_GUEST_TINY_PAGE_BITS_H
#define WIRT_TESTS_GUEST_TINY_PAGE_BITS_H

#include "tiny.h"

#define P  1ull
#define RW 2ull
#define US 4ull
#define A  0x20ull
#define D  0x40ull
#define PS 0x80ull

#define CR4_SMAP (1ull << 21)
#define EBX_SMAP (1u << 20)
#define FLAG_AC  (1ull << 18)

#define PAGE  (USER_PAGES + 0x100000)
#define ENTRY user_table[256]
#define FRAME SCRATCH

#endif
