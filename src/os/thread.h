// SPDX-License-Identifier: Apache-2.0
//
// Threads.
#ifndef WIRT_OS_THREAD_H
#define WIRT_OS_THREAD_H

#include <pthread.h>

#include "base/err.h"

// `name` is for the message on failure. All signals are blocked in it: the main thread handles them. Joined with pthread_join().
int os_thread_start(pthread_t *thread, const char *name, void *(*main)(void *), void *argument,
                    struct err *err);

// Name the calling thread, as ps and top show it (15 bytes).
void os_thread_set_name(const char *name);

// Another thread that waits for this CPU goes first.
void os_thread_yield(void);

#endif
