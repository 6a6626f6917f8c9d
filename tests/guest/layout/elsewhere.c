// SPDX-License-Identifier: Apache-2.0
//
// Preloaded into wirt-vm (LD_PRELOAD): what it maps lies outside of the slot that src/os/layout.h wants, as under a kernel that randomizes by
// more. What the environment's WIRT_LAYOUT says decides when: "random" with randomization only, "always" without it, too.
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OUTSIDE 0x100000000000ul

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    static int away = -1; // decided by the first call: later ones may be within the sandbox
    if (away < 0) {
        const char *when = getenv("WIRT_LAYOUT");
        bool random = !(personality(0xFFFFFFFF) & ADDR_NO_RANDOMIZE);
        away = when && (random || !strcmp(when, "always"));
    }
    if (!address && away)
        address = (void *)OUTSIDE; // a wish, which the kernel grants while the place is free
    return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}
