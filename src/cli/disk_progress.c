// SPDX-License-Identifier: Apache-2.0
//
// One line that is written over: how much, how fast, how long still. Work that tells its progress is also asked here whether to go on: Ctrl-C, SIGTERM
// and SIGHUP end it where it can clean up, and only then the process.
#include <signal.h>
#include <stdio.h>

#include "base/units.h"
#include "cli/disk.h"
#include "os/clock.h"
#include "os/signals.h"
#include "os/tty.h"

static int signals = -1; // os_signals_open(); one command is one process
static int interrupted;  // the signal that came

void disk_heed_signals(void)
{
    static const int all[] = {SIGINT, SIGTERM, SIGHUP};
    int heeded[4] = {0}, n = 0;
    struct err err;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (!os_signals_ignored(all[i]))
            heeded[n++] = all[i];
    }
    if (signals < 0)
        signals = os_signals_open(heeded, &err);
}

int disk_interrupted(void)
{
    if (!interrupted && signals >= 0)
        interrupted = os_signals_next(signals);
    return interrupted;
}

void disk_progress_begin(struct disk_progress *progress, const char *what)
{
    *progress = (struct disk_progress){what, os_tty_is_terminal(2), os_clock_monotonic_ns()};
}

bool disk_progress_tell(void *user, uint64_t done, uint64_t total)
{
    struct disk_progress *progress = user;
    if (disk_interrupted())
        return false;
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
