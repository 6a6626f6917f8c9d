// SPDX-License-Identifier: Apache-2.0
//
// TAP interfaces.
#ifndef WIRT_OS_TAP_H
#define WIRT_OS_TAP_H

#include <stdbool.h>

#include "base/err.h"

// Attach to the existing TAP interface `name` (made by its administrator for this user), with virtio-net headers of 12 bytes before each
// frame, not blocking, close-on-exec. -1 and *err on failure.
int os_tap_open(const char *name, struct err *err);

// The same, but one that is missing is made, when the caller may, and goes with its last descriptor; "%d" in `pattern` becomes a number that is free. `name`
// becomes what it is called.
int os_tap_attach(const char *pattern, char name[16], struct err *err);

// What the reader of frames can take: partial checksums, and segments of TCP over IPv4 and IPv6 larger than the wire's. 0 or -errno.
int os_tap_set_offload(int tap, bool checksum, bool tso4, bool tso6);

#endif
