// SPDX-License-Identifier: Apache-2.0
//
// poll(2), for programs that live in somebody else's library's loop; all others use os/loop.h.
#ifndef WIRT_OS_POLL_SET_H
#define WIRT_OS_POLL_SET_H

#include <poll.h>

// How many are ready, or a negative errno. `timeout_ms` -1: without end.
int os_poll(struct pollfd *fds, unsigned count, int timeout_ms);

#endif
