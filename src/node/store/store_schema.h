// SPDX-License-Identifier: Apache-2.0
//
// The tables of the store's file and how they came about: a list of steps, of which a file remembers how many it has had (user_version).
#ifndef WIRT_NODE_STORE_STORE_SCHEMA_H
#define WIRT_NODE_STORE_STORE_SCHEMA_H

#include <sqlite3.h>

#include "base/err.h"

// Takes each missing step in a transaction of its own. Refuses a file that had more steps than this program knows.
int store_schema_migrate(sqlite3 *db, struct err *err);

#endif
