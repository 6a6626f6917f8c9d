// SPDX-License-Identifier: Apache-2.0
//
// The node's configuration: keys with revisions, and transactions that compare before they swap.
//
// A key is a path ("/guest/100"), its value a JSON object. Every commit has a revision of its own, one more than the last, which becomes the
// revision of each key that it puts. A transaction first names what it expects (a key at a revision, or no such key), then what it puts and
// deletes; all of it happens, durably, or nothing does. This is etcd's model, so that a cluster can put etcd in SQLite's place.
//
// All values lie parsed in memory too, so that reading costs no query; a value handed out is never changed again, whoever holds it: put a
// new one. Functions may be called from any thread. A commit waits for the disk; reading never waits for a commit.
#ifndef WIRT_NODE_STORE_STORE_H
#define WIRT_NODE_STORE_STORE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct store;

// Opens or makes the file and brings its tables up to this version's. NULL and *err; a file of a later version is refused.
struct store *store_open(const char *path, struct err *err);
void store_close(struct store *store); // NULL is fine

// The value (a new reference), or NULL. `revision` may be NULL; it becomes 0 where there is no such key.
json_t *store_get(struct store *store, const char *key, int64_t *revision);

// All keys that begin with `prefix`, in order, as they are at one moment.
struct store_entry {
    char *key;
    json_t *value;
    int64_t revision;
};
struct store_list {
    struct store_entry *entries;
    size_t count;
};
void store_list(struct store *store, const char *prefix, struct store_list *list);
void store_list_free(struct store_list *list);

// ---- Transactions: begin, expect and change, commit. Storage of the transaction is its own; keys are copied.
#define STORE_STEPS_MAX 128
struct store_txn {
    struct store_step {
        enum store_step_kind { STORE_EXPECT, STORE_PUT, STORE_DELETE } kind;
        char *key;
        json_t *value;    // of a put, owned
        int64_t revision; // expected; 0: there is no such key
    } steps[STORE_STEPS_MAX];
    size_t count; // one more than STORE_STEPS_MAX: too many, the commit fails
};
void store_txn_begin(struct store_txn *txn);
void store_expect(struct store_txn *txn, const char *key, int64_t revision);
void store_put(struct store_txn *txn, const char *key, json_t *value); // takes the reference over
void store_delete(struct store_txn *txn, const char *key);
// Ends the transaction whatever happens. -1 and ERR_BUSY when an expectation does not hold, other codes when the disk failed.
int store_commit(struct store *store, struct store_txn *txn, struct err *err);
void store_txn_abandon(struct store_txn *txn);

// One key alone.
int store_put_now(struct store *store, const char *key, json_t *value, struct err *err);
int store_delete_now(struct store *store, const char *key, struct err *err);

// Called after each commit that touched a key with the prefix, once, on the committing thread. At most a handful; before other threads start.
void store_watch(struct store *store, const char *prefix, void (*changed)(void *user), void *user);

int64_t store_revision(struct store *store);

#endif
