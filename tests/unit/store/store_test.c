// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "node/store/store.h"

static char path[64];

static int setup(void **state)
{
    snprintf(path, sizeof(path), "/tmp/wirt-store-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    *state = store_open(path, NULL);
    assert_non_null(*state);
    return 0;
}

static int teardown(void **state)
{
    char other[80];
    store_close(*state);
    unlink(path);
    snprintf(other, sizeof(other), "%s-wal", path);
    unlink(other);
    snprintf(other, sizeof(other), "%s-shm", path);
    unlink(other);
    return 0;
}

static int64_t number_at(struct store *store, const char *key)
{
    json_t *value = store_get(store, key, NULL);
    int64_t number = value ? json_integer_value(json_object_get(value, "n")) : -1;
    json_decref(value);
    return number;
}

static void what_was_put_is_there_after_reopening(void **state)
{
    assert_int_equal(store_put_now(*state, "/a", json_pack("{s:i}", "n", 7), NULL), 0);
    int64_t revision = store_revision(*state);
    store_close(*state);
    *state = store_open(path, NULL);
    assert_non_null(*state);
    assert_int_equal(number_at(*state, "/a"), 7);
    assert_int_equal(store_revision(*state), revision);
}

static void deleted_revisions_are_not_used_again(void **state)
{
    store_put_now(*state, "/a", json_pack("{s:i}", "n", 1), NULL);
    store_delete_now(*state, "/a", NULL);
    store_close(*state);
    *state = store_open(path, NULL);
    assert_int_equal(store_revision(*state), 2);
    assert_int_equal(number_at(*state, "/a"), -1);
}

static void an_expectation_that_fails_changes_nothing(void **state)
{
    struct store_txn txn;
    struct err err = {0};
    int64_t revision;
    store_put_now(*state, "/a", json_pack("{s:i}", "n", 1), NULL);
    json_decref(store_get(*state, "/a", &revision));
    store_put_now(*state, "/a", json_pack("{s:i}", "n", 2), NULL);
    store_txn_begin(&txn);
    store_put(&txn, "/b", json_pack("{s:i}", "n", 3));
    store_expect(&txn, "/a", revision);
    store_put(&txn, "/a", json_pack("{s:i}", "n", 4));
    assert_int_equal(store_commit(*state, &txn, &err), -1);
    assert_int_equal(err.code, ERR_BUSY);
    assert_int_equal(number_at(*state, "/a"), 2);
    assert_int_equal(number_at(*state, "/b"), -1);
}

static void a_key_expected_absent_is_made_once(void **state)
{
    for (int i = 0; i < 2; i++) {
        struct store_txn txn;
        store_txn_begin(&txn);
        store_expect(&txn, "/guest/100", 0);
        store_put(&txn, "/guest/100", json_pack("{s:i}", "n", i));
        assert_int_equal(store_commit(*state, &txn, NULL), i ? -1 : 0);
    }
    assert_int_equal(number_at(*state, "/guest/100"), 0);
}

static void a_list_has_the_prefix_in_order(void **state)
{
    static const char *const keys[] = {"/b/2", "/a", "/b/1", "/c", "/b/10", "/b"};
    struct store_list list;
    for (size_t i = 0; i < 6; i++)
        store_put_now(*state, keys[i], json_object(), NULL);
    store_list(*state, "/b/", &list);
    assert_int_equal(list.count, 3);
    assert_string_equal(list.entries[0].key, "/b/1");
    assert_string_equal(list.entries[1].key, "/b/10");
    assert_string_equal(list.entries[2].key, "/b/2");
    store_list_free(&list);
}

static void count_calls(void *user)
{
    ++*(int *)user;
}

static void a_watch_hears_of_its_prefix_only(void **state)
{
    int calls = 0;
    store_watch(*state, "/acl/", count_calls, &calls);
    store_put_now(*state, "/acl/x", json_object(), NULL);
    store_put_now(*state, "/task/x", json_object(), NULL);
    store_delete_now(*state, "/acl/x", NULL);
    assert_int_equal(calls, 2);
}

static void too_many_steps_are_refused_whole(void **state)
{
    struct store_txn txn;
    store_txn_begin(&txn);
    for (int i = 0; i <= STORE_STEPS_MAX; i++)
        store_put(&txn, "/x", json_object());
    assert_int_equal(store_commit(*state, &txn, NULL), -1);
    assert_int_equal(number_at(*state, "/x"), -1);
}

int main(void)
{
#define TEST(NAME) cmocka_unit_test_setup_teardown(NAME, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_was_put_is_there_after_reopening),
        TEST(deleted_revisions_are_not_used_again),
        TEST(an_expectation_that_fails_changes_nothing),
        TEST(a_key_expected_absent_is_made_once),
        TEST(a_list_has_the_prefix_in_order),
        TEST(a_watch_hears_of_its_prefix_only),
        TEST(too_many_steps_are_refused_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
