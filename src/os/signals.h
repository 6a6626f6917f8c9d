// SPDX-License-Identifier: Apache-2.0
//
// Signals as events, for programs of one thread that wait with os_poll().
#ifndef WIRT_OS_SIGNALS_H
#define WIRT_OS_SIGNALS_H

#include <stdbool.h>

#include "base/err.h"

// Blocks the signals of the list, which ends with 0, and returns a descriptor that is readable while one of them waits. -1 and *err.
int os_signals_open(const int *signals, struct err *err);
int os_signals_next(int fd); // the next one that waits, 0 when there is none
// Was this program started so that the signal does nothing (nohup)? A signal that is blocked waits nevertheless.
bool os_signals_ignored(int signal);

// Ends this process by the signal, as if it had never been blocked, so that whoever waits sees the cause.
_Noreturn void os_signals_die(int signal);
// Stops this process as the signal would have; returns when it goes on.
void os_signals_stop(void);

// Writing where nobody reads any more is an error like others, not the end of the process.
void os_signals_ignore_pipe(void);

#endif
