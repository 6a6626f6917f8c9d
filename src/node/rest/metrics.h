// SPDX-License-Identifier: Apache-2.0
//
// What the node, its running guests and its datastores use, measured by a thread of its own every few seconds and kept as series (store/series.h).
#ifndef WIRT_NODE_REST_METRICS_H
#define WIRT_NODE_REST_METRICS_H

#include "node/rest/rest.h"

struct metrics;
// `folder` is made.
struct metrics *metrics_start(struct node *node, const char *folder, struct err *err);
void metrics_stop(struct metrics *metrics); // NULL is fine

#endif
