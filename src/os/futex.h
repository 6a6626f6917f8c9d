// SPDX-License-Identifier: Apache-2.0
//
// Sleeping on a word of memory until another thread changes it.
#ifndef WIRT_OS_FUTEX_H
#define WIRT_OS_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

// Sleep while *word is `expected`. Returns when woken, when the word differed, or for no reason: look again.
void os_futex_wait(_Atomic uint32_t *word, uint32_t expected);
// Likewise, for about so many nanoseconds at most; less than a second.
void os_futex_wait_for(_Atomic uint32_t *word, uint32_t expected, uint32_t ns);
// Wake every thread that sleeps on the word; change it first.
void os_futex_wake_all(_Atomic uint32_t *word);

#endif
