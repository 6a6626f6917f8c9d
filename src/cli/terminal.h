// SPDX-License-Identifier: Apache-2.0
//
// A person's end of a machine's serial console: copies between standard input and output and a connection, for `wirt run` on a terminal
// and for `wirt ctl SOCKET console`.
//
// On a terminal every key goes to the guest but Ctrl-], which opens a menu of one line; its commands go to the machine's control socket.
// Elsewhere bytes are copied as they are, and the end of the input ends nothing. The terminal's mode is put back however this ends, but for SIGKILL.
#ifndef WIRT_CLI_TERMINAL_H
#define WIRT_CLI_TERMINAL_H

#include "base/err.h"
#include "os/tty.h"

enum terminal_end {
    TERMINAL_CLOSED = 0,    // the machine has ended
    TERMINAL_DETACHED = -1, // the person wants the shell back; the machine goes on
    TERMINAL_FAILED = -2,   // *err
};                          // positive: the signal that asked this process to end

// `control` is the path of the control socket, NULL for none: then the menu can do nothing. The connection stays the caller's.
int terminal_run(int connection, const char *control, const struct os_tty_state *tty,
                 struct err *err);

#endif
