// SPDX-License-Identifier: Apache-2.0
//
// A timerfd of its own among the loop's descriptors. Setting it clears what has expired, so that nobody needs to read it.
#include "os/alarm.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SECOND 1000000000u

int os_alarm_open(struct os_alarm *alarm, struct os_loop *loop,
                  void (*expired)(void *context, unsigned events), void *context, struct err *err)
{
    alarm->loop = loop;
    alarm->watch = (struct os_loop_watch){.ready = expired, .context = context};
    alarm->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (alarm->fd < 0)
        return err_set_errno(err, errno, "cannot make a timer");
    return os_loop_watch(loop, &alarm->watch, alarm->fd, OS_LOOP_READ, err);
}

void os_alarm_close(struct os_alarm *alarm)
{
    if (alarm->fd < 0)
        return;
    os_loop_unwatch(alarm->loop, &alarm->watch);
    close(alarm->fd);
    alarm->fd = -1;
}

void os_alarm_set(struct os_alarm *alarm, uint64_t deadline_ns)
{
    struct itimerspec spec = {0}; // never
    if (deadline_ns == 0)
        deadline_ns = 1;
    if (deadline_ns != UINT64_MAX)
        spec.it_value = (struct timespec){.tv_sec = (time_t)(deadline_ns / NS_PER_SECOND),
                                          .tv_nsec = (long)(deadline_ns % NS_PER_SECOND)};
    timerfd_settime(alarm->fd, TFD_TIMER_ABSTIME, &spec, NULL);
}
