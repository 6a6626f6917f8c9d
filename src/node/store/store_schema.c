// SPDX-License-Identifier: Apache-2.0
#include "node/store/store_schema.h"

#include <stdio.h>

// A step is never changed once a release has it; what it did wrong is mended by a later one.
static const char *const steps[] = {
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE kv(key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL)"
    " WITHOUT ROWID;",
};
#define STEP_COUNT ((int)(sizeof(steps) / sizeof(steps[0])))

static int fail(sqlite3 *db, const char *what, struct err *err)
{
    return err_set(err, ERR_IO, "the store: %s: %s", what, sqlite3_errmsg(db));
}

static int version_of(sqlite3 *db, int *version, struct err *err)
{
    sqlite3_stmt *query;
    if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &query, NULL) != SQLITE_OK)
        return fail(db, "cannot be read", err);
    int result = sqlite3_step(query);
    *version = result == SQLITE_ROW ? sqlite3_column_int(query, 0) : 0;
    sqlite3_finalize(query);
    return result == SQLITE_ROW ? 0 : fail(db, "cannot be read", err);
}

static int take_step(sqlite3 *db, int step, struct err *err)
{
    char set_version[64];
    snprintf(set_version, sizeof(set_version), "PRAGMA user_version = %d", step + 1);
    if (sqlite3_exec(db, steps[step], NULL, NULL, NULL) == SQLITE_OK &&
        sqlite3_exec(db, set_version, NULL, NULL, NULL) == SQLITE_OK)
        return 0;
    return fail(db, "cannot be brought up to date", err);
}

int store_schema_migrate(sqlite3 *db, struct err *err)
{
    // WAL: a commit is one write and one flush. FULL: it is on the disk when it returns.
    if (sqlite3_exec(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;", NULL, NULL,
                     NULL) != SQLITE_OK)
        return fail(db, "cannot be opened", err);
    if (sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
        return fail(db, "cannot be locked", err);
    int version = 0;
    int result = version_of(db, &version, err);
    if (!result && version > STEP_COUNT)
        result = err_set(err, ERR_UNSUPPORTED,
                         "the store was written by a later version of wirt (tables %d, this "
                         "program knows %d)",
                         version, STEP_COUNT);
    for (int step = version; step < STEP_COUNT && !result; step++)
        result = take_step(db, step, err);
    if (result) {
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
        return result;
    }
    return sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK
               ? 0
               : fail(db, "cannot be brought up to date", err);
}
