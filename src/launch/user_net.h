// SPDX-License-Identifier: Apache-2.0
//
// Starting the process behind a user-mode network: a wirt-net for each card, joined to the machine by a socket pair. It ends when the machine's end is closed.
#ifndef WIRT_LAUNCH_USER_NET_H
#define WIRT_LAUNCH_USER_NET_H

#include <jansson.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

// Starts "wirt-vm" or "wirt-net" with these words (words[0] is the name) and descriptors. 0, or -1 and *err.
typedef int launch_start_function(void *user, const char *program, char *const words[],
                                  const int *fds, size_t count, pid_t *pid, struct err *err);

// `net` is the configuration's object with its `forward`s. The child has its descriptor as `number`, 0: where we have it. Returns the machine's end when
// wirt-net has said that all forwards stand, or -1. *pid is the process once it has been started, else 0: also where -1 is returned.
int launch_user_net(const json_t *net, launch_start_function *start, void *user, int number,
                    pid_t *pid, struct err *err);

#endif
