// SPDX-License-Identifier: Apache-2.0
#include "os/detach.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// First all out of the way, then each to its place: numbers may be those of other descriptors. Right above the highest number, because an ordinary
// user's limit may be 1024.
static int place(const struct os_process_detached *what, int nowhere, int *report)
{
    int high[256], above = 3;
    if (what->count > 250)
        return -1;
    for (size_t i = 0; i < what->count; i++)
        if (what->numbers[i] >= above)
            above = what->numbers[i] + 1;
    for (size_t i = 0; i < what->count; i++)
        if ((high[i] = fcntl(what->fds[i], F_DUPFD_CLOEXEC, above)) < 0)
            return -1;
    int out = fcntl(nowhere, F_DUPFD_CLOEXEC, above);
    *report = fcntl(*report, F_DUPFD_CLOEXEC, above);
    if (out < 0 || *report < 0 || dup2(out, 0) < 0 || dup2(out, 1) < 0)
        return -1;
    for (size_t i = 0; i < what->count; i++)
        if (dup2(high[i], what->numbers[i]) < 0)
            return -1;
    return dup2(1, 2) < 0 ? -1 : 0;
}

static _Noreturn void child(const struct os_process_detached *what, int nowhere, int report)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    if (what->enter)
        what->enter(what->user);
    setsid();
    if (!place(what, nowhere, &report))
        execv(what->program, what->arguments);
    int reason = errno;
    (void)!write(report, &reason, sizeof(reason));
    _exit(127);
}

int os_process_detach(const struct os_process_detached *what, pid_t *pid, struct err *err)
{
    int report[2], nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nowhere < 0 || pipe2(report, O_CLOEXEC)) {
        int failed = errno;
        if (nowhere >= 0)
            close(nowhere);
        return err_set_errno(err, failed, "cannot start %s", what->program);
    }
    *pid = fork();
    if (*pid == 0)
        child(what, nowhere, report[1]);
    int reason = *pid < 0 ? errno : 0;
    close(nowhere);
    close(report[1]);
    ssize_t n = 0;
    if (*pid > 0)
        do
            n = read(report[0], &reason, sizeof(reason));
        while (n < 0 && errno == EINTR);
    close(report[0]);
    if (*pid > 0 && n != sizeof(reason))
        return 0;
    return err_set_errno(err, reason, "cannot start %s", what->program);
}

void os_process_ignore_children(void)
{
    struct sigaction action = {.sa_handler = SIG_IGN, .sa_flags = SA_NOCLDWAIT};
    sigaction(SIGCHLD, &action, NULL);
}

void os_process_heed_children(void)
{
    signal(SIGCHLD, SIG_DFL);
}

// ---- Running to the end.

static _Noreturn void run_child(const struct os_process_command *command, int in, int out)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (command->enter)
        command->enter(command->user);
    if (dup2(in, 0) == 0 && dup2(out, 1) == 1 && dup2(out, 2) == 2)
        execv(command->program, command->arguments);
    _exit(127);
}

// What it says, in one line.
static void read_words(int fd, char *text, size_t size)
{
    size_t used = 0;
    char rest[512];
    for (;;) {
        bool room = used + 1 < size;
        ssize_t n = room ? read(fd, text + used, size - 1 - used) : read(fd, rest, sizeof(rest));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        if (room)
            used += (size_t)n;
    }
    while (used && text[used - 1] == '\n')
        used--;
    text[used] = 0;
    for (char *at = text; *at; at++)
        if (*at == '\n')
            *at = ' ';
}

static int run_to_end(const struct os_process_command *command, int in[2], int out[2], char *text,
                      size_t size)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        run_child(command, in[0], out[1]);
    close(in[0]);
    close(out[1]);
    if (pid > 0 && command->input)
        (void)!write(in[1], command->input, strlen(command->input));
    close(in[1]);
    if (pid > 0)
        read_words(out[0], text, size);
    close(out[0]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pid > 0 ? status : -1;
}

int os_process_run(const struct os_process_command *command, struct err *err)
{
    int in[2], out[2];
    char text[256] = "";
    if (pipe2(in, O_CLOEXEC))
        return err_set_errno(err, errno, "cannot run %s", command->program);
    if (pipe2(out, O_CLOEXEC)) {
        int reason = errno;
        close(in[0]);
        close(in[1]);
        return err_set_errno(err, reason, "cannot run %s", command->program);
    }
    os_process_heed_children();
    int status = run_to_end(command, in, out, text, sizeof(text));
    os_process_ignore_children();
    while (waitpid(-1, NULL, WNOHANG) > 0) // others that ended meanwhile
        ;
    if (status == 0)
        return 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return err_set(err, ERR_NOT_FOUND, "%s is missing", command->program);
    return err_set(err, ERR_HOST, "%s: %s", command->program,
                   text[0] ? text : "failed without a word");
}

int os_process_watch(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

int os_process_kill(int watch)
{
    return syscall(SYS_pidfd_send_signal, watch, SIGKILL, NULL, 0) ? -errno : 0;
}

int os_process_reload(int watch)
{
    return syscall(SYS_pidfd_send_signal, watch, SIGHUP, NULL, 0) ? -errno : 0;
}

bool os_process_is(pid_t pid, const char *program)
{
    char path[64], exe[PATH_MAX], line[PATH_MAX];
    snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
    ssize_t n = readlink(path, exe, sizeof(exe) - 1);
    if (n > 0) {
        exe[n] = 0;
        if (!strcmp(exe, program))
            return true;
    }
    // Started through the dynamic loader (os/layout.h): the program's path is among its words.
    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
    if (fd >= 0)
        close(fd);
    const char *name = strrchr(program, '/') ? strrchr(program, '/') + 1 : program;
    for (ssize_t at = 0; at < n; at += (ssize_t)strnlen(line + at, (size_t)(n - at)) + 1) {
        line[n] = 0;
        const char *slash = strrchr(line + at, '/');
        if (!strcmp(slash ? slash + 1 : line + at, name))
            return true;
    }
    return false;
}

int os_process_usage(pid_t pid, uint64_t *cpu_ns, uint64_t *memory_bytes)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *at = strrchr(text, ')'); // the name may hold anything
    unsigned long long user = 0, system = 0;
    long resident = 0;
    if (!at || sscanf(at,
                      ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d "
                      "%*d %*d %*u %*u %ld",
                      &user, &system, &resident) != 3)
        return -EINVAL;
    *cpu_ns = (user + system) * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
    *memory_bytes = (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
    return 0;
}

int os_process_end_signals(struct err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? err_set_errno(err, errno, "cannot wait for signals") : fd;
}

int os_process_run_forked(void (*work)(void *user), void *user, pid_t *pid, struct err *err)
{
    *pid = fork();
    if (*pid < 0)
        return err_set_errno(err, errno, "cannot start a process");
    if (*pid == 0) {
        work(user);
        _exit(0);
    }
    return 0;
}

int os_process_become(uid_t uid, gid_t gid, struct err *err)
{
    if (geteuid() != 0)
        return 0;
    if (setgroups(0, NULL) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
        return err_set_errno(err, errno, "cannot become uid %u", uid);
    return 0;
}

void os_process_private_files(void)
{
    umask(077);
}

bool os_process_is_root(void)
{
    return geteuid() == 0;
}

bool os_process_folder(char *path, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", path, size - 1);
    if (n <= 0)
        return false;
    path[n] = 0;
    *strrchr(path, '/') = 0;
    return true;
}

bool os_process_uid_is_used(uid_t uid)
{
    struct passwd entry, *found = NULL;
    char buffer[4096];
    return !getpwuid_r(uid, &entry, buffer, sizeof(buffer), &found) && found;
}

bool os_process_find_user(const char *name, uid_t *uid, gid_t *gid)
{
    struct passwd entry, *found = NULL;
    char buffer[4096];
    if (getpwnam_r(name, &entry, buffer, sizeof(buffer), &found) || !found)
        return false;
    *uid = entry.pw_uid;
    *gid = entry.pw_gid;
    return true;
}
