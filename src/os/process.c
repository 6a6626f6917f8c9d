// SPDX-License-Identifier: Apache-2.0
#include "os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

// In the child: everything that must not fail silently reports errno through the pipe, which exec closes.
static _Noreturn void child(const char *program, char *const arguments[], const int *fds,
                            size_t fd_count, const int standard[3], pid_t parent, int report)
{
    if (prctl(PR_SET_PDEATHSIG, SIGTERM))
        goto failed;
    if (getppid() != parent)
        _exit(1);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (size_t i = 0; i < fd_count; i++)
        if (fcntl(fds[i], F_SETFD, 0))
            goto failed;
    for (int i = 0; standard && i < 3; i++)
        if (standard[i] >= 0 && dup2(standard[i], i) < 0)
            goto failed;
    execv(program, arguments);
failed:;
    int reason = errno;
    (void)!write(report, &reason, sizeof(reason));
    _exit(127);
}

int os_process_start(const char *program, char *const arguments[], const int *fds, size_t fd_count,
                     pid_t *pid, struct err *err)
{
    return os_process_start_with(program, arguments, fds, fd_count, NULL, pid, err);
}

int os_process_start_with(const char *program, char *const arguments[], const int *fds,
                          size_t fd_count, const int standard[3], pid_t *pid, struct err *err)
{
    int report[2];
    if (pipe2(report, O_CLOEXEC))
        return err_set_errno(err, errno, "cannot start %s", program);
    pid_t parent = getpid();
    // Nothing of us is copied for the moment until exec: the child only makes system calls.
    pid_t child_pid =
        vfork(); // NOLINT(clang-analyzer-security.insecureAPI.vfork): signals are as they were
    if (child_pid < 0) {
        int reason = errno;
        close(report[0]);
        close(report[1]);
        return err_set_errno(err, reason, "cannot start %s", program);
    }
    if (child_pid == 0)
        // NOLINTNEXTLINE(clang-analyzer-unix.Vfork): it never returns, and writes to no memory of ours
        child(program, arguments, fds, fd_count, standard, parent, report[1]);
    *pid = child_pid;
    close(report[1]);
    int reason;
    ssize_t n;
    do
        n = read(report[0], &reason, sizeof(reason));
    while (n < 0 && errno == EINTR);
    close(report[0]);
    if (n != sizeof(reason))
        return 0;
    os_process_wait(*pid);
    return err_set_errno(err, reason, "cannot start %s", program);
}

static _Noreturn void detached_child(const char *program, char *const arguments[], const int *fds,
                                     size_t fd_count, int report)
{
    setsid();
    pid_t pid = fork();
    if (pid > 0)
        _exit(0);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    // Whoever reads what the parent prints must not wait for this one's end.
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool ready = pid == 0 && null >= 0;
    for (int i = 0; i < 3 && ready; i++)
        ready = dup2(null, i) >= 0;
    for (size_t i = 0; i < fd_count && ready; i++)
        ready = !fcntl(fds[i], F_SETFD, 0);
    if (ready)
        execv(program, arguments);
    int reason = errno;
    (void)!write(report, &reason, sizeof(reason));
    _exit(127);
}

int os_process_start_detached(const char *program, char *const arguments[], const int *fds,
                              size_t fd_count, struct err *err)
{
    int report[2];
    if (pipe2(report, O_CLOEXEC))
        return err_set_errno(err, errno, "cannot start %s", program);
    pid_t pid = fork();
    if (pid == 0)
        detached_child(program, arguments, fds, fd_count, report[1]);
    int reason = errno;
    close(report[1]);
    ssize_t n = sizeof(reason);
    if (pid > 0) {
        do
            n = read(report[0], &reason, sizeof(reason));
        while (n < 0 && errno == EINTR);
        os_process_wait(pid);
    }
    close(report[0]);
    return n == sizeof(reason) ? err_set_errno(err, reason, "cannot start %s", program) : 0;
}

pid_t os_process_fork(struct err *err)
{
    pid_t pid = fork();
    return pid >= 0 ? pid : err_set_errno(err, errno, "cannot start a process");
}

void os_process_exit(int status)
{
    _exit(status);
}

int os_process_leave_terminal(struct err *err)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
        return err_set_errno(err, errno, "cannot leave the terminal");
    close(null);
    setsid();
    return 0;
}

void os_process_terminate(pid_t pid)
{
    kill(pid, SIGTERM);
}

static int status_of(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

bool os_process_has_ended(pid_t pid, int *status)
{
    int raw;
    if (waitpid(pid, &raw, WNOHANG) != pid)
        return false;
    *status = status_of(raw);
    return true;
}

int os_process_wait(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return 127;
    return status_of(status);
}

int os_process_become_program(const char *program, char *const arguments[], struct err *err)
{
    execv(program, arguments);
    return err_set_errno(err, errno, "%s cannot be started", program);
}

int os_process_find_program(const char *name, char *path, size_t path_bytes, struct err *err)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n < 0)
        return err_set_errno(err, errno, "cannot find out where this program is");
    self[n] = 0;
    *strrchr(self, '/') = 0;
    static const char *const places[] = {"", "../libexec/wirt/"};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        int length = snprintf(path, path_bytes, "%s/%s%s", self, places[i], name);
        if (length > 0 && (size_t)length < path_bytes && !access(path, X_OK))
            return 0;
    }
    return err_set(err, ERR_HOST,
                   "%s is neither in %s nor in its ../libexec/wirt; was wirt installed whole?",
                   name, self);
}
