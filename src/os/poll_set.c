// SPDX-License-Identifier: Apache-2.0
#include "os/poll_set.h"

#include <errno.h>

int os_poll(struct pollfd *fds, unsigned count, int timeout_ms)
{
    int result = poll(fds, count, timeout_ms);
    return result < 0 ? -errno : result;
}
