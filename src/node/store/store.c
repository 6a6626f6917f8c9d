// SPDX-License-Identifier: Apache-2.0
//
// How it works: a sorted array of entries mirrors the table. `write_lock` is held by the one who commits, through SQLite's own commit;
// `map_lock` only while the array is read or changed, so that readers never wait for the disk. A commit goes to the disk first and into
// the array after it: nobody sees what a power cut could take back.
#include "node/store/store.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "node/store/store_schema.h"

#define WATCHES_MAX 16

struct entry {
    char *key;
    json_t *value;
    int64_t revision;
};

struct store {
    // Constant after opening.
    sqlite3 *db;
    sqlite3_stmt *put, *remove;
    struct watch {
        char *prefix;
        void (*changed)(void *user);
        void *user;
    } watches[WATCHES_MAX];
    size_t watch_count;

    pthread_mutex_t write_lock; // before map_lock
    int64_t revision;           // under both locks when changed

    pthread_mutex_t map_lock;
    struct entry *entries; // by key
    size_t count, room;
};

// ---- The array. Under map_lock.

// The first entry whose key is not before `key`.
static size_t position(const struct store *store, const char *key)
{
    size_t low = 0, high = store->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(store->entries[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct entry *find(const struct store *store, const char *key)
{
    size_t at = position(store, key);
    return at < store->count && !strcmp(store->entries[at].key, key) ? &store->entries[at] : NULL;
}

// Takes the value over. Memory for a few bytes that is not there ends the program: there is no configuration without it.
static void map_put(struct store *store, const char *key, json_t *value, int64_t revision)
{
    struct entry *entry = find(store, key);
    if (entry) {
        json_decref(entry->value);
        entry->value = value;
        entry->revision = revision;
        return;
    }
    if (store->count == store->room) {
        store->room = store->room ? store->room * 2 : 64;
        store->entries = realloc(store->entries, store->room * sizeof(*store->entries));
        if (!store->entries)
            abort();
    }
    size_t at = position(store, key);
    memmove(store->entries + at + 1, store->entries + at,
            (store->count - at) * sizeof(*store->entries));
    store->entries[at] = (struct entry){strdup(key), value, revision};
    store->count++;
}

static void map_remove(struct store *store, const char *key)
{
    struct entry *entry = find(store, key);
    if (!entry)
        return;
    free(entry->key);
    json_decref(entry->value);
    size_t at = (size_t)(entry - store->entries);
    store->count--;
    memmove(entry, entry + 1, (store->count - at) * sizeof(*entry));
}

// ---- SQLite.

static int db_fail(struct store *store, const char *what, struct err *err)
{
    return err_set(err, ERR_IO, "the store: %s: %s", what,
                   store->db ? sqlite3_errmsg(store->db) : "no memory");
}

static int db_exec(struct store *store, const char *sql, struct err *err)
{
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0
                                                                       : db_fail(store, sql, err);
}

static int db_run(struct store *store, sqlite3_stmt *statement, struct err *err)
{
    int result = sqlite3_step(statement);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return result == SQLITE_DONE ? 0 : db_fail(store, "writing", err);
}

static int load(struct store *store, struct err *err)
{
    sqlite3_stmt *query;
    if (sqlite3_prepare_v2(store->db, "SELECT key, value, revision FROM kv ORDER BY key", -1,
                           &query, NULL) != SQLITE_OK)
        return db_fail(store, "reading", err);
    int result, bad = 0;
    while (!bad && (result = sqlite3_step(query)) == SQLITE_ROW) {
        const char *key = (const char *)sqlite3_column_text(query, 0);
        const char *text = (const char *)sqlite3_column_text(query, 1);
        json_t *value = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
        int64_t revision = sqlite3_column_int64(query, 2);
        if (!value) {
            bad = err_set(err, ERR_INPUT, "the store: the value of %s is not JSON", key);
            break;
        }
        map_put(store, key, value, revision);
        if (revision > store->revision)
            store->revision = revision;
    }
    sqlite3_finalize(query);
    if (bad)
        return -1;
    return result == SQLITE_DONE ? 0 : db_fail(store, "reading", err);
}

static int last_revision(struct store *store, struct err *err)
{
    sqlite3_stmt *query;
    if (sqlite3_prepare_v2(store->db, "SELECT value FROM meta WHERE name = 'revision'", -1, &query,
                           NULL) != SQLITE_OK)
        return db_fail(store, "reading", err);
    if (sqlite3_step(query) == SQLITE_ROW)
        store->revision = sqlite3_column_int64(query, 0);
    sqlite3_finalize(query);
    return 0;
}

static int prepare(struct store *store, struct err *err)
{
    static const char put[] = "INSERT INTO kv(key, value, revision) VALUES(?1, ?2, ?3)"
                              " ON CONFLICT(key) DO UPDATE SET value = ?2, revision = ?3";
    if (sqlite3_prepare_v2(store->db, put, -1, &store->put, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(store->db, "DELETE FROM kv WHERE key = ?1", -1, &store->remove, NULL) !=
            SQLITE_OK)
        return db_fail(store, "preparing", err);
    return 0;
}

struct store *store_open(const char *path, struct err *err)
{
    struct store *store = calloc(1, sizeof(*store));
    if (!store) {
        err_set(err, ERR_LIMIT, "no memory for the store");
        return NULL;
    }
    pthread_mutex_init(&store->write_lock, NULL);
    pthread_mutex_init(&store->map_lock, NULL);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(path, &store->db, flags, NULL) != SQLITE_OK) {
        db_fail(store, path, err);
        goto failed;
    }
    if (store_schema_migrate(store->db, err) || last_revision(store, err) || load(store, err) ||
        prepare(store, err))
        goto failed;
    return store;
failed:
    store_close(store);
    return NULL;
}

void store_close(struct store *store)
{
    if (!store)
        return;
    sqlite3_finalize(store->put);
    sqlite3_finalize(store->remove);
    sqlite3_close(store->db);
    for (size_t i = 0; i < store->count; i++) {
        free(store->entries[i].key);
        json_decref(store->entries[i].value);
    }
    for (size_t i = 0; i < store->watch_count; i++)
        free(store->watches[i].prefix);
    free(store->entries);
    pthread_mutex_destroy(&store->map_lock);
    pthread_mutex_destroy(&store->write_lock);
    free(store);
}

// ---- Reading.

json_t *store_get(struct store *store, const char *key, int64_t *revision)
{
    pthread_mutex_lock(&store->map_lock);
    const struct entry *entry = find(store, key);
    json_t *value = entry ? json_incref(entry->value) : NULL;
    if (revision)
        *revision = entry ? entry->revision : 0;
    pthread_mutex_unlock(&store->map_lock);
    return value;
}

void store_list(struct store *store, const char *prefix, struct store_list *list)
{
    size_t length = strlen(prefix);
    pthread_mutex_lock(&store->map_lock);
    size_t first = position(store, prefix), end = first;
    while (end < store->count && !strncmp(store->entries[end].key, prefix, length))
        end++;
    list->count = 0;
    list->entries = calloc(end - first + 1, sizeof(*list->entries));
    for (size_t i = first; list->entries && i < end; i++) {
        const struct entry *entry = &store->entries[i];
        list->entries[list->count++] =
            (struct store_entry){strdup(entry->key), json_incref(entry->value), entry->revision};
    }
    pthread_mutex_unlock(&store->map_lock);
}

void store_list_free(struct store_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->entries[i].key);
        json_decref(list->entries[i].value);
    }
    free(list->entries);
    *list = (struct store_list){0};
}

int64_t store_revision(struct store *store)
{
    pthread_mutex_lock(&store->map_lock);
    int64_t revision = store->revision;
    pthread_mutex_unlock(&store->map_lock);
    return revision;
}

// ---- Transactions.

void store_txn_begin(struct store_txn *txn)
{
    txn->count = 0;
}

static void add(struct store_txn *txn, enum store_step_kind kind, const char *key, json_t *value,
                int64_t revision)
{
    if (txn->count >= STORE_STEPS_MAX) {
        json_decref(value);
        txn->count = STORE_STEPS_MAX + 1;
        return;
    }
    txn->steps[txn->count++] = (struct store_step){kind, strdup(key), value, revision};
}

void store_expect(struct store_txn *txn, const char *key, int64_t revision)
{
    add(txn, STORE_EXPECT, key, NULL, revision);
}

void store_put(struct store_txn *txn, const char *key, json_t *value)
{
    add(txn, STORE_PUT, key, value, 0);
}

void store_delete(struct store_txn *txn, const char *key)
{
    add(txn, STORE_DELETE, key, NULL, 0);
}

void store_txn_abandon(struct store_txn *txn)
{
    size_t count = txn->count > STORE_STEPS_MAX ? STORE_STEPS_MAX : txn->count;
    for (size_t i = 0; i < count; i++) {
        free(txn->steps[i].key);
        json_decref(txn->steps[i].value);
    }
    txn->count = 0;
}

// Under write_lock: what was read cannot change before the commit.
static int check_expectations(struct store *store, const struct store_txn *txn, struct err *err)
{
    int result = 0;
    pthread_mutex_lock(&store->map_lock);
    for (size_t i = 0; i < txn->count && !result; i++) {
        const struct store_step *step = &txn->steps[i];
        if (step->kind != STORE_EXPECT)
            continue;
        const struct entry *entry = find(store, step->key);
        if ((entry ? entry->revision : 0) != step->revision)
            result = err_set(err, ERR_BUSY, "%s was changed by somebody else meanwhile", step->key);
    }
    pthread_mutex_unlock(&store->map_lock);
    return result;
}

static int write_step(struct store *store, const struct store_step *step, int64_t revision,
                      struct err *err)
{
    if (step->kind == STORE_DELETE) {
        sqlite3_bind_text(store->remove, 1, step->key, -1, SQLITE_STATIC);
        return db_run(store, store->remove, err);
    }
    char *text = step->value ? json_dumps(step->value, JSON_COMPACT) : NULL;
    if (!text)
        return err_set(err, ERR_INPUT, "the store: the new value of %s is not JSON", step->key);
    sqlite3_bind_text(store->put, 1, step->key, -1, SQLITE_STATIC);
    sqlite3_bind_text(store->put, 2, text, -1, SQLITE_STATIC);
    sqlite3_bind_int64(store->put, 3, revision);
    int result = db_run(store, store->put, err);
    free(text);
    return result;
}

static int write_steps(struct store *store, const struct store_txn *txn, int64_t revision,
                       struct err *err)
{
    if (db_exec(store, "BEGIN IMMEDIATE", err))
        return -1;
    int result = 0;
    for (size_t i = 0; i < txn->count && !result; i++)
        if (txn->steps[i].kind != STORE_EXPECT)
            result = write_step(store, &txn->steps[i], revision, err);
    if (!result)
        result = db_exec(store,
                         "INSERT INTO meta(name, value) VALUES('revision', 1)"
                         " ON CONFLICT(name) DO UPDATE SET value = value + 1",
                         err);
    if (!result)
        result = db_exec(store, "COMMIT", err);
    if (result)
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return result;
}

static void apply(struct store *store, struct store_txn *txn, int64_t revision)
{
    pthread_mutex_lock(&store->map_lock);
    store->revision = revision;
    for (size_t i = 0; i < txn->count; i++) {
        struct store_step *step = &txn->steps[i];
        if (step->kind == STORE_PUT) {
            map_put(store, step->key, step->value, revision);
            step->value = NULL;
        } else if (step->kind == STORE_DELETE) {
            map_remove(store, step->key);
        }
    }
    pthread_mutex_unlock(&store->map_lock);
}

static bool touches(const struct store_txn *txn, const char *prefix)
{
    for (size_t i = 0; i < txn->count; i++)
        if (txn->steps[i].kind != STORE_EXPECT &&
            !strncmp(txn->steps[i].key, prefix, strlen(prefix)))
            return true;
    return false;
}

int store_commit(struct store *store, struct store_txn *txn, struct err *err)
{
    if (txn->count > STORE_STEPS_MAX) {
        store_txn_abandon(txn);
        return err_set(err, ERR_LIMIT, "a transaction has at most %d steps", STORE_STEPS_MAX);
    }
    pthread_mutex_lock(&store->write_lock);
    int64_t revision = store->revision + 1;
    int result = check_expectations(store, txn, err);
    if (!result)
        result = write_steps(store, txn, revision, err);
    if (!result)
        apply(store, txn, revision);
    pthread_mutex_unlock(&store->write_lock);
    for (size_t i = 0; i < store->watch_count && !result; i++)
        if (touches(txn, store->watches[i].prefix))
            store->watches[i].changed(store->watches[i].user);
    store_txn_abandon(txn);
    return result;
}

int store_put_now(struct store *store, const char *key, json_t *value, struct err *err)
{
    struct store_txn txn;
    store_txn_begin(&txn);
    store_put(&txn, key, value);
    return store_commit(store, &txn, err);
}

int store_delete_now(struct store *store, const char *key, struct err *err)
{
    struct store_txn txn;
    store_txn_begin(&txn);
    store_delete(&txn, key);
    return store_commit(store, &txn, err);
}

void store_watch(struct store *store, const char *prefix, void (*changed)(void *user), void *user)
{
    if (store->watch_count < WATCHES_MAX)
        store->watches[store->watch_count++] = (struct watch){strdup(prefix), changed, user};
}
