// SPDX-License-Identifier: Apache-2.0
#include "os/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/clock.h"

#define NS_PER_MS 1000000ull

static void be_child(os_child_work *work, void *context, int to, char *answer, size_t bytes)
{
    // It may outlive us by a moment: it must not hold a pipe that somebody reads to its end.
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3 && nothing >= 0; fd++)
        dup2(nothing, fd);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    work(context, answer, bytes);
    size_t length = strlen(answer);
    ssize_t written = write(to, answer, length);
    close(to);
    _exit(written == (ssize_t)length ? 0 : 1);
}

void os_child_limit(unsigned limit_ms)
{
    const struct itimerval limit = {.it_value = {limit_ms / 1000, limit_ms % 1000 * 1000}};
    signal(SIGPROF, SIG_DFL);
    setitimer(ITIMER_PROF, &limit, NULL);
}

// Everything until the child closes its end. -1: too late.
static int read_answer(int from, uint64_t deadline_ns, char *answer, size_t bytes)
{
    size_t used = 0;
    for (;;) {
        uint64_t now = os_clock_monotonic_ns();
        struct pollfd wait = {.fd = from, .events = POLLIN};
        int left_ms = now < deadline_ns ? (int)((deadline_ns - now) / NS_PER_MS) + 1 : 0;
        int ready = left_ms ? poll(&wait, 1, left_ms) : 0;
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            return -1;
        ssize_t n = read(from, answer + used, bytes - 1 - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            answer[used] = 0;
            return n < 0 ? -1 : 0;
        }
        used += (size_t)n;
    }
}

int os_child_answer(os_child_work *work, void *context, unsigned limit_ms, char *answer,
                    size_t bytes)
{
    int ends[2], status;
    uint64_t deadline_ns = os_clock_monotonic_ns() + limit_ms * NS_PER_MS;
    answer[0] = 0;
    if (pipe(ends))
        return -1;
    pid_t pid = fork();
    if (pid == 0)
        be_child(work, context, ends[1], answer, bytes);
    close(ends[1]);
    int result = pid < 0 ? -1 : read_answer(ends[0], deadline_ns, answer, bytes);
    close(ends[0]);
    if (pid < 0)
        return -1;
    // With its answer given, or killed, it may need long to end inside of a driver: init reaps it after us.
    if (result)
        kill(pid, SIGKILL);
    waitpid(pid, &status, WNOHANG);
    return result || !answer[0] ? -1 : 0;
}
