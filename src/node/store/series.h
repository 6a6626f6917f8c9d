// SPDX-License-Identifier: Apache-2.0
//
// Measurements over time, in a file of fixed size: for each timeframe a ring of slots, in which what came within a slot's time is summed up.
//
//     hour 60 s a slot, day 30 min, week 3 h, month 12 h, year 7 d; 70 slots each, as Proxmox VE's clients expect
//
// One writer; readers may read at the same time: a slot is written in one transfer.
#ifndef WIRT_NODE_STORE_SERIES_H
#define WIRT_NODE_STORE_SERIES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SERIES_VALUES_MAX 16

// Adds one sample of `count` values at a time.
int series_add(const char *path, uint64_t time_s, const double *values, size_t count,
               struct err *err);
// [{"time", NAME: value, …}], oldest first; `maximum`: the largest of each slot instead of the average. Slots without samples have the time only.
// NULL for a timeframe that is none.
json_t *series_read(const char *path, const char *timeframe, bool maximum, const char *const *names,
                    size_t count, uint64_t now_s);

#endif
