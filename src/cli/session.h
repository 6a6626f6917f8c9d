// SPDX-License-Identifier: Apache-2.0
//
// `wirt run` on a terminal: two processes, so that one can give the terminal back while the other keeps the machine.
//
//     wirt run (the terminal: cli/terminal.h) --channel-- its child (the keeper: cli/keeper.h) --parent of-- wirt-vm
//             \--------------------------- the console's connection ----------------------------------/
//
// Detaching ends the first; the keeper leaves the terminal and goes on, and `wirt ctl SOCKET console` attaches again. A machine that was given
// no control socket gets one for that. Whatever else ends the first process ends the machine, and the keeper puts the terminal back where
// the first could not (SIGKILL).
#ifndef WIRT_CLI_SESSION_H
#define WIRT_CLI_SESSION_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

// Whether this configuration's console is a terminal.
bool session_wanted(const json_t *config);
// As launch_vm(), from a terminal.
int session_run(json_t *config, struct err *err);

#endif
