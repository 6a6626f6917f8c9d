// SPDX-License-Identifier: Apache-2.0
//
// Starts `wirt-vm` for a configuration: opens every file and socket that it names, hands the descriptors over, and waits.
//
// wirt-vm itself opens nothing: it gets the configuration with `fd` beside each `file`, in a memfd, and the descriptors by inheritance.
#ifndef WIRT_CLI_LAUNCH_H
#define WIRT_CLI_LAUNCH_H

#include <jansson.h>

#include "base/err.h"

// What a machine that is talked to at a terminal gets instead of this process's standard input and output.
struct launch_seat {
    int console; // the connection that becomes the machine's console; taken over
    int channel; // to the process at the terminal (cli/keeper.h), borrowed until launch_vm() returns; -1 then when it detached
    int ended_by; // set: the signal that ended the machine, 0
};

// Runs the machine to its end. Returns its exit status, or -1 and *err when it could not be started. `config` is changed. `seat` is NULL
// without a terminal; then a signal that ends the machine ends this process too.
int launch_vm(json_t *config, struct launch_seat *seat, struct err *err);

#endif
