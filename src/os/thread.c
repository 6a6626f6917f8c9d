// SPDX-License-Identifier: Apache-2.0
#include "os/thread.h"

#include <sched.h>
#include <signal.h>

int os_thread_start(pthread_t *thread, const char *name, void *(*main)(void *), void *argument,
                    struct err *err)
{
    sigset_t all, before;
    sigfillset(&all);
    // Faults that the engine handles arrive at the thread that caused them.
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    sigdelset(&all, SIGTRAP);
    sigdelset(&all, SIGSYS);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = pthread_create(thread, NULL, main, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result)
        return err_set_errno(err, result, "cannot start the thread %s", name);
    return 0;
}

// Naming another thread would open a file in /proc.
void os_thread_set_name(const char *name)
{
    pthread_setname_np(pthread_self(), name);
}

void os_thread_yield(void)
{
    sched_yield();
}
