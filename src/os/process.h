// SPDX-License-Identifier: Apache-2.0
//
// Starting other programs of wirt and waiting for them.
//
// The child gets no descriptors but 0, 1, 2 and those it is given by number (all others are close-on-exec or closed), dies with its
// parent, and starts with default signal handling.
#ifndef WIRT_OS_PROCESS_H
#define WIRT_OS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

// `fds` keep their numbers in the child. -1 and *err when the program cannot be started (also when exec fails).
int os_process_start(const char *program, char *const arguments[], const int *fds, size_t fd_count,
                     pid_t *pid, struct err *err);

// The same, with other standard input, output and error output than this process has: -1 keeps its own.
int os_process_start_with(const char *program, char *const arguments[], const int *fds,
                          size_t fd_count, const int standard[3], pid_t *pid, struct err *err);

// A second process like this one: 0 in it, its id here. -1 and *err.
pid_t os_process_fork(struct err *err);
_Noreturn void os_process_exit(
    int status); // at once: what the first process has not written yet is its own to write
// Leaves the terminal's session and takes /dev/null for standard input, output and error output.
int os_process_leave_terminal(struct err *err);
// Asks a process to end.
void os_process_terminate(pid_t pid);

// The same for one that outlives its parent: a session of its own, nobody's child, with nothing on 0, 1 and 2.
int os_process_start_detached(const char *program, char *const arguments[], const int *fds,
                              size_t fd_count, struct err *err);

// Waits for the end: the exit status, or minus the number of the signal that killed it.
int os_process_wait(pid_t pid);
// The same without waiting: false while it runs.
bool os_process_has_ended(pid_t pid, int *status);

// This process goes on as another program, with all it has open. Returns only when that fails: -1.
int os_process_become_program(const char *program, char *const arguments[], struct err *err);

// The path of another program of wirt beside the running one: in its folder (build tree), else in ../libexec/wirt. 0 or -1.
int os_process_find_program(const char *name, char *path, size_t path_bytes, struct err *err);

#endif
