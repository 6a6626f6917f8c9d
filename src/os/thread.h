// SPDX-License-Identifier: Apache-2.0
//
// Threads.
#ifndef WIRT_OS_THREAD_H
#define WIRT_OS_THREAD_H

#include <pthread.h>

#include "base/err.h"

// `name` is shown by ps and top (15 bytes). All signals are blocked in it: the main thread handles them. Joined with pthread_join().
int os_thread_start(pthread_t *thread, const char *name, void *(*main)(void *), void *argument, struct err *err);

#endif
