// SPDX-License-Identifier: Apache-2.0
//
// Limits on failed log-ins: so many for a name and for an address within a minute, then none are heard for a while. In memory; any thread.
#ifndef WIRT_NODE_AUTH_LIMIT_H
#define WIRT_NODE_AUTH_LIMIT_H

#include <stdint.h>

struct limit;

struct limit *limit_create(unsigned failures_max, unsigned window_s);
void limit_destroy(struct limit *limit);

// Seconds until `who` is heard again; 0: now.
unsigned limit_wait_s(struct limit *limit, const char *who, uint64_t now_s);
void limit_failed(struct limit *limit, const char *who, uint64_t now_s);
void limit_succeeded(struct limit *limit, const char *who);

#endif
