// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/rest/resource_rows.h"

static struct store_entry entry(char *key, int64_t revision)
{
    return (struct store_entry){.key = key, .revision = revision};
}

static json_t *row_of(int number, const char *pool)
{
    json_t *row = json_pack("{s:i}", "vmid", number);
    if (pool)
        json_object_set_new(row, "pool", json_string(pool));
    return row;
}

// One pass in which this guest alone is made and kept.
static json_t *keep_one(struct resource_rows *rows, char *key, int64_t revision, const char *pool)
{
    struct store_entry guest = entry(key, revision);
    json_t *row = row_of(100, pool);
    resource_rows_begin(rows, 1);
    resource_rows_keep(rows, &guest, row);
    resource_rows_end(rows);
    return row;
}

static bool taken(struct resource_rows *rows, char *key, int64_t revision, const char *pool)
{
    struct store_entry guest = entry(key, revision);
    resource_rows_begin(rows, 1);
    json_t *row = resource_rows_take(rows, &guest, pool);
    resource_rows_end(rows);
    json_decref(row);
    return row;
}

static char first[] = "/guest/100";

static void test_a_kept_row_is_the_same_row(void **state)
{
    struct resource_rows *rows = *state;
    struct store_entry guest = entry(first, 7);
    json_t *row = keep_one(rows, first, 7, NULL);
    for (int pass = 0; pass < 3; pass++) { // what is taken is kept for the next pass
        resource_rows_begin(rows, 1);
        json_t *again = resource_rows_take(rows, &guest, NULL);
        assert_ptr_equal(again, row);
        resource_rows_end(rows);
        json_decref(again);
    }
    assert_int_equal(row->refcount, 2); // ours and the pass's
    json_decref(row);
}

static void test_another_revision_is_another_row(void **state)
{
    json_decref(keep_one(*state, first, 7, NULL));
    assert_false(taken(*state, first, 8, NULL));
    assert_false(taken(*state, first, 7, NULL)); // forgotten: it was neither taken nor kept
}

static void test_another_pool_is_another_row(void **state)
{
    static const struct {
        const char *kept, *asked;
        bool same;
    } cases[] = {{NULL, NULL, true},
                 {"a", "a", true},
                 {NULL, "a", false},
                 {"a", NULL, false},
                 {"a", "b", false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_decref(keep_one(*state, first, 7, cases[i].kept));
        assert_int_equal(taken(*state, first, 7, cases[i].asked), cases[i].same);
    }
}

// Guests come, go and stay between two passes; the keys are in the store's order.
static void test_each_guest_finds_its_own_row(void **state)
{
    enum { COUNT = 200 };
    char keys[COUNT][32];
    json_t *made[COUNT] = {0};
    unsigned seed = 1;
    for (int i = 0; i < COUNT; i++)
        snprintf(keys[i], sizeof(keys[i]), "/guest/%d", 100 + i);
    for (int pass = 0; pass < 50; pass++) {
        resource_rows_begin(*state, COUNT);
        for (int i = 0; i < COUNT; i++) {
            struct store_entry guest = entry(keys[i], 1);
            seed = seed * 1103515245 + 12345;
            if (seed >> 16 & 1) { // it is not there in this pass
                json_decref(made[i]);
                made[i] = NULL;
                continue;
            }
            json_t *row = resource_rows_take(*state, &guest, NULL);
            assert_ptr_equal(row, made[i]);
            if (!row) {
                row = made[i] = row_of(100 + i, NULL);
                json_incref(row);
                resource_rows_keep(*state, &guest, row);
            }
            assert_int_equal(json_integer_value(json_object_get(row, "vmid")), 100 + i);
            json_decref(row);
        }
        resource_rows_end(*state);
    }
    for (int i = 0; i < COUNT; i++)
        json_decref(made[i]);
}

static void test_more_than_was_told_are_not_kept(void **state)
{
    char keys[3][32] = {"/guest/100", "/guest/101", "/guest/102"};
    resource_rows_begin(*state, 2);
    for (int i = 0; i < 3; i++) {
        struct store_entry guest = entry(keys[i], 1);
        json_t *row = row_of(100 + i, NULL);
        resource_rows_keep(*state, &guest, row);
        json_decref(row);
    }
    resource_rows_end(*state);
    struct store_entry last = entry(keys[2], 1), second = entry(keys[1], 1);
    resource_rows_begin(*state, 3);
    json_t *row = resource_rows_take(*state, &second, NULL);
    assert_non_null(row);
    assert_null(resource_rows_take(*state, &last, NULL));
    resource_rows_end(*state);
    json_decref(row);
}

static void test_a_long_key_is_not_kept(void **state)
{
    char key[] = "/guest/10000000000000000000000000000000000";
    json_decref(keep_one(*state, key, 1, NULL));
    assert_false(taken(*state, key, 1, NULL));
}

static int setup(void **state)
{
    *state = resource_rows_create();
    return 0;
}

static int teardown(void **state)
{
    resource_rows_destroy(*state);
    resource_rows_destroy(NULL);
    return 0;
}

#define CASE(NAME) cmocka_unit_test_setup_teardown(NAME, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_a_kept_row_is_the_same_row),      CASE(test_another_revision_is_another_row),
        CASE(test_another_pool_is_another_row),     CASE(test_each_guest_finds_its_own_row),
        CASE(test_more_than_was_told_are_not_kept), CASE(test_a_long_key_is_not_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
