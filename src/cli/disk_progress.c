// SPDX-License-Identifier: Apache-2.0
//
// One line that is written over: how much, how fast, how long still.
#include <stdio.h>

#include "base/units.h"
#include "cli/disk.h"
#include "os/clock.h"
#include "os/tty.h"

void disk_progress_begin(struct disk_progress *progress, const char *what)
{
    *progress = (struct disk_progress){what, os_tty_is_terminal(2), os_clock_monotonic_ns()};
}

bool disk_progress_tell(void *user, uint64_t done, uint64_t total)
{
    struct disk_progress *progress = user;
    if (!progress->shown)
        return true;
    double seconds = (double)(os_clock_monotonic_ns() - progress->start_ns) / 1e9;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    char rate_text[UNITS_SIZE_TEXT_BYTES];
    unsigned left = rate > 0 ? (unsigned)((double)(total - done) / rate) : 0;
    fprintf(stderr, "\r%s %5.1f %%  %s/s  %u:%02u left \033[K", progress->what,
            total ? 100.0 * (double)done / (double)total : 100.0,
            units_format_size((uint64_t)rate, rate_text), left / 60, left % 60);
    fflush(stderr);
    return true;
}

void disk_progress_end(struct disk_progress *progress)
{
    if (progress->shown)
        fputs("\r\033[K", stderr);
}
