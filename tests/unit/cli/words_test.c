// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/table.h"
#include "cli/words.h"

static const struct cli_option options[] = {
    {"size", "SIZE", "a size"}, {"force", NULL, "a flag"}, {NULL, NULL, NULL}};
static const struct cli_option more[] = {{"json", NULL, "print JSON"}, {NULL, NULL, NULL}};
static const struct cli_option *const tables[] = {options, more, NULL};

#define PARSE(words, err, ...) parse(words, err, (const char *[]){__VA_ARGS__, NULL})

static int parse(struct cli_words *words, struct err *err, const char *const *given)
{
    static char *copy[16]; // the words are kept by pointer
    int count = 0;
    for (; given[count]; count++)
        copy[count] = (char *)(uintptr_t)given[count];
    return cli_words_parse(tables, count, copy, words, err);
}

static void words_and_options_mix(void **state)
{
    struct cli_words words;
    struct err err;
    assert_int_equal(PARSE(&words, &err, "vm1", "--size", "3G", "vm2", "--json"), 0);
    assert_int_equal(words.operands, 2);
    assert_string_equal(words.operand[1], "vm2");
    assert_string_equal(cli_word(&words, "size"), "3G");
    assert_true(cli_has(&words, "json"));
    assert_false(cli_has(&words, "force"));
    assert_null(words.rest);
}

static void the_last_value_counts_and_may_be_joined(void **state)
{
    struct cli_words words;
    struct err err;
    assert_int_equal(PARSE(&words, &err, "--size=1G", "--size", "2G"), 0);
    assert_string_equal(cli_word(&words, "size"), "2G");
    assert_int_equal(PARSE(&words, &err, "--size="), 0);
    assert_string_equal(cli_word(&words, "size"), "");
}

static void what_follows_two_dashes_is_left_alone(void **state)
{
    struct cli_words words;
    struct err err;
    assert_int_equal(PARSE(&words, &err, "vm", "--", "ls", "--size", "x"), 0);
    assert_int_equal(words.rest_count, 3);
    assert_string_equal(words.rest[1], "--size");
    assert_null(cli_word(&words, "size"));
}

static void wrong_words_are_refused_by_name(void **state)
{
    struct cli_words words;
    struct err err;
    assert_int_equal(PARSE(&words, &err, "--sizes", "3G"), -1);
    assert_non_null(strstr(err.text, "--sizes"));
    assert_int_equal(PARSE(&words, &err, "--size"), -1);
    assert_non_null(strstr(err.text, "SIZE"));
    assert_int_equal(PARSE(&words, &err, "--force=1"), -1);
}

static void distances_count_letters(void **state)
{
    assert_int_equal(cli_word_distance("start", "start"), 0);
    assert_int_equal(cli_word_distance("strat", "start"), 2);
    assert_int_equal(cli_word_distance("snapshots", "snapshot"), 1);
    assert_int_equal(cli_word_distance("", "top"), 3);
    assert_int_equal(cli_word_distance("kitten", "sitting"), 3);
    assert_int_equal(cli_word_distance("a word that is longer than all commands", "ls"),
                     CLI_DISTANCE_BYTES);
}

static void check_cell(json_t *value, enum cli_cell kind, const char *expected)
{
    char text[CLI_CELL_BYTES];
    assert_string_equal(cli_cell_text(value, kind, text), expected);
    json_decref(value);
}

static void cells_read_well(void **state)
{
    check_cell(json_integer(1610612736), CELL_SIZE, "1.5G");
    check_cell(json_real(0.256), CELL_FRACTION, "25.6%");
    check_cell(json_integer(93784), CELL_SECONDS, "1d 2h");
    check_cell(json_integer(75), CELL_SECONDS, "1m 15s");
    check_cell(json_integer(1), CELL_FLAG, "yes");
    check_cell(json_null(), CELL_SIZE, "-");
}

// A guest chooses its name and tags: they must not steer the operator's terminal.
static void cells_carry_no_control_characters(void **state)
{
    check_cell(json_string("a\033[2Jb\x7f"), CELL_TEXT, "a [2Jb ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_and_options_mix),
        cmocka_unit_test(the_last_value_counts_and_may_be_joined),
        cmocka_unit_test(what_follows_two_dashes_is_left_alone),
        cmocka_unit_test(wrong_words_are_refused_by_name),
        cmocka_unit_test(distances_count_letters),
        cmocka_unit_test(cells_read_well),
        cmocka_unit_test(cells_carry_no_control_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
