// SPDX-License-Identifier: Apache-2.0
//
// TAP interfaces.
#ifndef WIRT_OS_TAP_H
#define WIRT_OS_TAP_H

#include "base/err.h"

// Attach to the existing TAP interface `name` (made by its administrator for this user), with virtio-net headers of 12 bytes before each
// frame, not blocking, close-on-exec. -1 and *err on failure.
int os_tap_open(const char *name, struct err *err);

#endif
