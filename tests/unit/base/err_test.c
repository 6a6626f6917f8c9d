// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static void context_is_put_before_the_reason(void **state)
{
    struct err err = {0};
    assert_int_equal(err_set_errno(&err, EACCES, "cannot open"), -1);
    assert_int_equal(err_wrap(&err, "disk \"%s\"", "root.img"), -1);
    assert_string_equal(err.text, "disk \"root.img\": cannot open: Permission denied");
    assert_int_equal(err.code, ERR_DENIED);
    assert_int_equal(err.os_errno, EACCES);
}

static void a_long_text_is_cut_and_terminated(void **state)
{
    struct err err = {0};
    char long_text[2 * ERR_TEXT_BYTES];
    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = 0;
    err_set(&err, ERR_INPUT, "%s", long_text);
    err_wrap(&err, "%s", long_text);
    assert_int_equal(strlen(err.text), ERR_TEXT_BYTES - 1);
}

static void our_exit_statuses_are_even(void **state)
{
    for (unsigned code = 0; code < ERR_CODE_COUNT; code++)
        assert_int_equal(err_exit_status((enum err_code)code) % 2, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(context_is_put_before_the_reason),
        cmocka_unit_test(a_long_text_is_cut_and_terminated),
        cmocka_unit_test(our_exit_statuses_are_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
