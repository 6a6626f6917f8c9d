// SPDX-License-Identifier: Apache-2.0
//
// What the guests that walk page tables share beside the bits of an entry: SMAP's, and the page with its entry that they change.
#ifndef WIRT_TESTS_GUEST_TINY_PAGE_BITS_H
#define WIRT_TESTS_GUEST_TINY_PAGE_BITS_H

#include "page_entry.h"
#include "tiny.h"

#define CR4_SMAP (1ull << 21)
#define EBX_SMAP (1u << 20)
#define FLAG_AC  (1ull << 18)

#define PAGE  (USER_PAGES + 0x100000)
#define ENTRY user_table[256]
#define FRAME SCRATCH

#endif
