// SPDX-License-Identifier: Apache-2.0
#include "os/random.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <sys/random.h>

void os_random_bytes(void *buffer, size_t length)
{
    uint8_t *at = buffer;
    while (length) {
        ssize_t n = getrandom(at, length, 0);
        assert(n > 0 || errno == EINTR);
        if (n > 0) {
            at += n;
            length -= (size_t)n;
        }
    }
}
