// SPDX-License-Identifier: Apache-2.0
//
// Daemons and what outlives them: processes without a parent, watched by descriptors; giving up root.
#ifndef WIRT_OS_DETACH_H
#define WIRT_OS_DETACH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

// Starts a process that is to outlive us: a session of its own, no parent to die with, standard input from nowhere. `fds[i]` becomes
// `numbers[i]` in the child; 1 is its standard output and error, which lead nowhere otherwise. `enter` (or NULL) runs in the child before
// everything else, with the child's pid: for its cgroup.
struct os_process_detached {
    const char *program;
    char *const *arguments;
    const int *fds, *numbers;
    size_t count;
    void (*enter)(void *user);
    void *user;
};
int os_process_detach(const struct os_process_detached *what, pid_t *pid, struct err *err);

// Runs a program of the system to its end, which must be soon: `input` is what it reads. `enter` as above. For a process that ignores its children otherwise.
// 0, or -1 and *err with what the program said.
struct os_process_command {
    const char *program;
    char *const *arguments;
    const char *input; // at most some pages; NULL: nothing
    void (*enter)(void *user);
    void *user;
};
int os_process_run(const struct os_process_command *command, struct err *err);

// Children that end leave nothing behind and are never waited for.
void os_process_ignore_children(void);
void os_process_heed_children(void); // as it was before

// A descriptor that becomes readable when the process ends; -1 when there is no such process (errno ESRCH).
int os_process_watch(pid_t pid);
// SIGKILL to the process behind such a descriptor. 0 or a negative errno.
int os_process_kill(int watch);
int os_process_reload(int watch);                   // SIGHUP: it reads its files again
bool os_process_is(pid_t pid, const char *program); // does it run this program (a path)?

// CPU time since its start, and resident memory. 0 or a negative errno.
int os_process_usage(pid_t pid, uint64_t *cpu_ns, uint64_t *memory_bytes);

// Signals that ask a daemon to end, as a descriptor to watch; SIGPIPE is ignored. Before other threads start.
int os_process_end_signals(struct err *err);

// Runs `work` in a child and forgets it. 0, or -1 and *err.
int os_process_run_forked(void (*work)(void *user), void *user, pid_t *pid, struct err *err);

// Gives up root: groups, group, user, for good. No-op for somebody else than root.
int os_process_become(uid_t uid, gid_t gid, struct err *err);
void os_process_private_files(void); // what is made from now on is for its owner alone
bool os_process_is_root(void);
bool os_process_folder(char *path, size_t size); // where the running program lies
// The ids of a user by name; false when there is none.
bool os_process_uid_is_used(uid_t uid);
bool os_process_find_user(const char *name, uid_t *uid, gid_t *gid);

#endif
