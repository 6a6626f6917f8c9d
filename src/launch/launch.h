// SPDX-License-Identifier: Apache-2.0
//
// Starts `wirt-vm` for a configuration: opens every file and socket that it names and hands the descriptors over. For `wirt run`, which waits
// for the machine's end, and for wirtd, whose machines outlive it.
//
// wirt-vm itself opens nothing: it gets the configuration with `fd` beside each `file`, in a memfd, and the descriptors by inheritance. How a
// process is started is the caller's business (`struct launch_how`): wirt does it itself, wirtd asks its helper.
//
// Threads: a launch belongs to one; several may run at once.
#ifndef WIRT_LAUNCH_LAUNCH_H
#define WIRT_LAUNCH_LAUNCH_H

#include <jansson.h>
#include <sys/types.h>

#include "base/err.h"

struct launch_how {
    // Starts "wirt-vm" or "wirt-net" with these words (words[0] is the name) and descriptors. 0, or -1 and *err.
    int (*start)(void *user, const char *program, char *const words[], const int *fds, size_t count,
                 pid_t *pid, struct err *err);
    void *user;
    int first_number; // the child has its descriptors at this number and up, in order; 0: where we have them
    int console; // the connection that becomes the machine's console, taken over; 0: as the configuration says
    const char *const
        *backing_folders; // where backing images may lie, ends with NULL; NULL: beside the image
};

struct launch;

// Opens everything. `config` is changed, and must live as long as the launch.
struct launch *launch_open(json_t *config, const struct launch_how *how, struct err *err);
int launch_start(struct launch *launch, pid_t *pid, struct err *err);
// Closes the descriptors here; what was started keeps its own.
void launch_release(struct launch *launch);
// The wirt-net processes that were started.
const pid_t *launch_helpers(const struct launch *launch, size_t *count);
// The listening sockets' files: at the machine's end.
void launch_remove_sockets(struct launch *launch);
void launch_close(struct launch *launch); // NULL is fine

#endif
