// SPDX-License-Identifier: Apache-2.0
//
// Two arrays sorted by key: that of the pass before, and that of the present one. As guests come in the same order, what is kept of one is
// found by going forward, so that a pass over n guests is n comparisons.
#include "node/rest/resource_rows.h"

#include <stdlib.h>
#include <string.h>

#define KEY_BYTES 32 // "/guest/" and a number

struct row {
    char key[KEY_BYTES];
    int64_t revision;
    json_t *row; // owned
};

struct pass {
    struct row *rows;
    size_t count, room;
};

struct resource_rows {
    struct pass before, now;
    size_t at; // the next of `before` to look at
};

static void clear(struct pass *pass)
{
    for (size_t i = 0; i < pass->count; i++)
        json_decref(pass->rows[i].row);
    free(pass->rows);
    *pass = (struct pass){0};
}

struct resource_rows *resource_rows_create(void)
{
    struct resource_rows *rows = calloc(1, sizeof(*rows));
    if (!rows)
        abort();
    return rows;
}

void resource_rows_destroy(struct resource_rows *rows)
{
    if (!rows)
        return;
    clear(&rows->before);
    clear(&rows->now);
    free(rows);
}

void resource_rows_begin(struct resource_rows *rows, size_t guests)
{
    rows->at = 0;
    rows->now = (struct pass){.rows = calloc(guests + 1, sizeof(struct row)), .room = guests};
}

static bool same_pool(const json_t *row, const char *pool)
{
    const char *kept = json_string_value(json_object_get(row, "pool"));
    return kept && pool ? !strcmp(kept, pool) : !kept && !pool;
}

json_t *resource_rows_take(struct resource_rows *rows, const struct store_entry *guest,
                           const char *pool)
{
    int order = -1;
    while (rows->at < rows->before.count &&
           (order = strcmp(rows->before.rows[rows->at].key, guest->key)) < 0)
        rows->at++;
    if (rows->at == rows->before.count || order != 0)
        return NULL;
    const struct row *kept = &rows->before.rows[rows->at];
    if (kept->revision != guest->revision || !same_pool(kept->row, pool))
        return NULL;
    resource_rows_keep(rows, guest, kept->row);
    return json_incref(kept->row);
}

void resource_rows_keep(struct resource_rows *rows, const struct store_entry *guest, json_t *row)
{
    struct pass *now = &rows->now;
    size_t length = strlen(guest->key);
    if (!now->rows || now->count == now->room || length >= KEY_BYTES)
        return;
    struct row *kept = &now->rows[now->count++];
    memcpy(kept->key, guest->key, length + 1);
    kept->revision = guest->revision;
    kept->row = json_incref(row);
}

void resource_rows_end(struct resource_rows *rows)
{
    clear(&rows->before);
    rows->before = rows->now;
    rows->now = (struct pass){0};
}
