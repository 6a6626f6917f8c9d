// SPDX-License-Identifier: Apache-2.0
//
// Waits for a machine's process to end, and does meanwhile what somebody has to: hands a signal on, shows what the machine says to people,
// and lets go of the terminal when the process at it asks to.
#ifndef WIRT_CLI_KEEPER_H
#define WIRT_CLI_KEEPER_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

// What the processes at both ends of the channel say to each other, a byte each.
#define KEEPER_STARTED 's' // to the terminal: the machine runs
#define KEEPER_ENDED   'e' // to the terminal: the byte behind it is the exit status
#define KEEPER_DETACH  'd' // from the terminal, and back when it is done
#define KEEPER_NOTHING (-1)

struct keeper {
    int signals; // os_signals_open()
    int channel; // to the process at the terminal, KEEPER_NOTHING without one. When it closes without a word, the machine ends
    int messages;  // the machine's error output, read end, KEEPER_NOTHING where it writes by itself
    int ended_by;  // the signal that was handed on, 0
    bool detached; // nobody sees messages any more
};

// Before the machine is started: from now on signals wait until keeper_wait().
int keeper_init(struct keeper *keeper, int channel, struct err *err);
// The machine's exit status, or minus the number of the signal that killed it.
int keeper_wait(struct keeper *keeper, pid_t pid);
void keeper_fini(struct keeper *keeper);

#endif
