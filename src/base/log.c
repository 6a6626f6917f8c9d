// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LINE_BYTES           1024
#define LIMIT_LINES_A_SECOND 5

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static_assert(sizeof(level_names) / sizeof(level_names[0]) == LOG_LEVEL_COUNT,
              "a name for each level");

static void sink_stderr(enum log_level level, const char *line)
{
    (void)level;
    fprintf(stderr, "%s\n", line);
}

static _Atomic enum log_level current_level = LOG_WARN;
static log_sink *_Atomic current_sink = sink_stderr;

void log_set_level(enum log_level level)
{
    current_level = level;
}

bool log_level_parse(const char *name, enum log_level *level)
{
    for (unsigned i = 0; i < LOG_LEVEL_COUNT; i++)
        if (!strcmp(name, level_names[i])) {
            *level = (enum log_level)i;
            return true;
        }
    return false;
}

void log_set_sink(log_sink *sink)
{
    current_sink = sink ? sink : sink_stderr;
}

__attribute__((format(printf, 3, 0))) static void emit(enum log_level level, const char *module,
                                                       const char *format, va_list args)
{
    char line[LINE_BYTES];
    int n = snprintf(line, sizeof(line), "%s: %s: ", level_names[level], module);
    vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
    current_sink(level, line);
}

void log_line(enum log_level level, const char *module, const char *format, ...)
{
    if (level > current_level)
        return;
    va_list args;
    va_start(args, format);
    emit(level, module, format, args);
    va_end(args);
}

// The window is a whole second; a line that loses the race for a new window is counted in either.
void log_line_limited(struct log_limit *limit, enum log_level level, const char *module,
                      const char *format, ...)
{
    if (level > current_level)
        return;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    uint64_t second = (uint64_t)ts.tv_sec + 1;
    uint64_t window = limit->window;
    if (window != second && atomic_compare_exchange_strong(&limit->window, &window, second)) {
        limit->count = 0;
        unsigned dropped = atomic_exchange(&limit->dropped, 0);
        if (dropped)
            log_line(level, module, "(%u more lines like the next were left out)", dropped);
    }
    if (atomic_fetch_add(&limit->count, 1) >= LIMIT_LINES_A_SECOND) {
        atomic_fetch_add(&limit->dropped, 1);
        return;
    }
    va_list args;
    va_start(args, format);
    emit(level, module, format, args);
    va_end(args);
}
