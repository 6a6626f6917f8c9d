// SPDX-License-Identifier: Apache-2.0
//
// Preloaded into wirt-vm (LD_PRELOAD): takes up all of the slot that src/os/layout.h wants, as a kernel does that randomizes by more. What the
// environment's WIRT_LAYOUT says decides when: "random" with randomization only, "always" without it, too.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>

#define SLOT_SHIFT 41
#define SLOT       0x15u
#define LARGEST    (1ull << 40)
#define PAGE       4096u

static void fill(size_t length)
{
    for (;;) {
        void *at =
            mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED)
            return;
        if ((uintptr_t)at >> SLOT_SHIFT == SLOT &&
            ((uintptr_t)at + length - 1) >> SLOT_SHIFT == SLOT)
            continue;
        munmap(at, length);
        return;
    }
}

__attribute__((constructor)) static void take_slot(void)
{
    const char *when = getenv("WIRT_LAYOUT");
    if (!when || (strcmp(when, "always") && personality(0xFFFFFFFF) & ADDR_NO_RANDOMIZE))
        return;
    for (size_t length = LARGEST; length >= PAGE; length /= 2)
        fill(length);
}
