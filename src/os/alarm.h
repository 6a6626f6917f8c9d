// SPDX-License-Identifier: Apache-2.0
//
// A deadline that any thread sets and that a loop's thread sees expire, for a clock whose timers are armed far more often than they are waited for by the loop
// itself: a guest's. os_loop_timer is the loop's thread's own, and whoever else wants one armed has to wake that thread by a post; setting an alarm
// is one system call and wakes nobody before its time.
//
// Threads: os_alarm_set() from any; the others from the loop's thread, or while it does not run. The structure is embedded; who owns it must not move it while it
// is open.
#ifndef WIRT_OS_ALARM_H
#define WIRT_OS_ALARM_H

#include <stdint.h>

#include "base/err.h"
#include "os/loop.h"

struct os_alarm {
    int fd; // a timerfd; -1: closed
    struct os_loop *loop;
    struct os_loop_watch watch;
};

// `expired` is called for as long as the alarm is not set anew: it has to set it, if only to UINT64_MAX.
int os_alarm_open(struct os_alarm *alarm, struct os_loop *loop,
                  void (*expired)(void *context, unsigned events), void *context, struct err *err);
void os_alarm_close(struct os_alarm *alarm); // fine when it was never opened but has fd -1

// In nanoseconds of os_clock_monotonic_ns(): at once when that has passed, never when it is UINT64_MAX. Replaces what was set before. Two threads that
// set one alarm agree by a lock of their own on whose deadline holds.
void os_alarm_set(struct os_alarm *alarm, uint64_t deadline_ns);

#endif
