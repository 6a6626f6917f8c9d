// SPDX-License-Identifier: Apache-2.0
//
// Starting the process behind a remote disk: for the process that may (the launcher, `wirt ctl`, `wirt disk`).
#ifndef WIRT_MACHINE_BLOCK_BLOCK_REMOTE_H
#define WIRT_MACHINE_BLOCK_BLOCK_REMOTE_H

#include <stdbool.h>

#include "base/err.h"

// Is this the name of a remote disk, nbd://…, iscsi://…, nfs://…?
bool block_is_remote(const char *name);
// Start wirt-io-SCHEME for it and wait until it is connected. Returns the socket to hand over as the image's descriptor, or -1. *status: a packet
// socket on which the process tells "lost REASON" and "connected" from then on; may be NULL. The process ends when the socket is closed.
int block_remote_start(const char *url, bool read_only, int *status, struct err *err);

#endif
