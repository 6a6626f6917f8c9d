// SPDX-License-Identifier: Apache-2.0
//
// The bits of a page table's entry, for guests and for the walker's unit test: written down apart from src, which they judge.
#ifndef WIRT_TESTS_GUEST_TINY_PAGE_ENTRY_H
#define WIRT_TESTS_GUEST_TINY_PAGE_ENTRY_H

#define P  1ull
#define RW 2ull
#define US 4ull
#define A  0x20ull
#define D  0x40ull
#define PS 0x80ull

#endif
