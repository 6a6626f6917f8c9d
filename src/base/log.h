// SPDX-License-Identifier: Apache-2.0
//
// Log lines for operators. A file names its module before including this header:
//
//     #define LOG_MODULE "pci"
//     #include "base/log.h"
//
// Nothing else in the tree prints to standard error, except the command line's own messages.
// Thread safe. log_guest() is for what a guest did wrong: limited to a few lines a second for each
// call site, with a count of what was left out, so that a guest cannot fill a disk.
#ifndef WIRT_BASE_LOG_H
#define WIRT_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_LEVEL_COUNT };

struct log_limit {
    _Atomic uint64_t window; // second in which `count` was started
    atomic_uint count;
    atomic_uint dropped;
};

// Everything above this level is dropped; LOG_WARN at start.
void log_set_level(enum log_level level);
bool log_level_parse(const char *name, enum log_level *level);

// Where lines go: called with one whole line, without newline. The default writes to standard error.
typedef void log_sink(enum log_level level, const char *line);
void log_set_sink(log_sink *sink);

void log_line(enum log_level level, const char *module, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void log_line_limited(struct log_limit *limit, enum log_level level, const char *module,
                      const char *format, ...) __attribute__((format(printf, 4, 5)));

#ifndef LOG_MODULE
#define LOG_MODULE "wirt"
#endif
#define log_error(...) log_line(LOG_ERROR, LOG_MODULE, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, LOG_MODULE, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, LOG_MODULE, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, LOG_MODULE, __VA_ARGS__)
#define log_guest(...)                                                                             \
    do {                                                                                           \
        static struct log_limit log_limit_here;                                                    \
        log_line_limited(&log_limit_here, LOG_WARN, LOG_MODULE, __VA_ARGS__);                      \
    } while (0)

#endif
