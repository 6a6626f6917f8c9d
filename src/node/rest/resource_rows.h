// SPDX-License-Identifier: Apache-2.0
//
// Rows of the list of resources for guests that do not run, kept from one request to the next: nothing of such a row changes but with the
// guest's record, whose revision tells, or with its pool. Of 10,000 guests most are such.
//
// Rows are shared and never changed once they are here. For the event loop's thread.
#ifndef WIRT_NODE_REST_RESOURCE_ROWS_H
#define WIRT_NODE_REST_RESOURCE_ROWS_H

#include <jansson.h>
#include <stdint.h>

#include "node/store/store.h"

struct resource_rows;
struct resource_rows *resource_rows_create(void);
void resource_rows_destroy(struct resource_rows *rows);

// One pass over the guests in the order of the store's keys: begin, for each guest take what is kept, or keep what was made, end. Guests
// that were neither taken nor kept are forgotten at the end.
void resource_rows_begin(struct resource_rows *rows, size_t guests);
// The row of this revision and pool (NULL: none); the caller's to release. NULL when there is none.
json_t *resource_rows_take(struct resource_rows *rows, const struct store_entry *guest,
                           const char *pool);
void resource_rows_keep(struct resource_rows *rows, const struct store_entry *guest, json_t *row);
void resource_rows_end(struct resource_rows *rows);

#endif
