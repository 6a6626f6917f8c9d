// SPDX-License-Identifier: Apache-2.0
//
// Starts `wirt-vm` for a configuration: opens every file and socket that it names, hands the descriptors over, and waits.
//
// wirt-vm itself opens nothing: it gets the configuration with `fd` beside each `file`, in a memfd, and the descriptors by inheritance.
#ifndef WIRT_CLI_LAUNCH_H
#define WIRT_CLI_LAUNCH_H

#include <jansson.h>

#include "base/err.h"

// Runs the machine to its end. Returns its exit status, or -1 and *err when it could not be started. `config` is changed.
int launch_vm(json_t *config, struct err *err);

#endif
