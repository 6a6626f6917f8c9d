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

#include "launch/user_net.h"

struct launch_how {
    launch_start_function *start;
    void *user;
    int first_number; // the child has its descriptors at this number and up, in order; 0: where we have them
    int console; // the connection that becomes the machine's console, taken over; 0: as the configuration says
    const char *const
        *backing_folders; // where backing images may lie, ends with NULL; NULL: beside the image
};

struct launch;

// `config` is changed, and must live as long as the launch; `how` must, too.
struct launch *launch_create(json_t *config, const struct launch_how *how);
// Opens everything and chooses how the machine executes. -1 and *err; what was opened or started by then is known to the launch.
int launch_open(struct launch *launch, struct err *err);
int launch_start(struct launch *launch, pid_t *pid, struct err *err);
// Closes the descriptors here, among them the sockets to wirt-net, which ends when the machine's are closed too; what was started keeps its own.
void launch_release(struct launch *launch);
// The wirt-net processes that were started.
const pid_t *launch_helpers(const struct launch *launch, size_t *count);
// The listening sockets' files: at the machine's end, or when it was not started.
void launch_remove_sockets(struct launch *launch);
void launch_destroy(struct launch *launch); // NULL is fine; releases

#endif
