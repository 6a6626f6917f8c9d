// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/units.h"

static void sizes_are_binary_and_exact(void **state)
{
    uint64_t n = 0;
    assert_true(units_parse_size("512", MIB, &n));
    assert_int_equal(n, 512 * MIB);
    assert_true(units_parse_size("3G", MIB, &n));
    assert_int_equal(n, 3 * GIB);
    assert_true(units_parse_size("7k", MIB, &n));
    assert_int_equal(n, 7 * KIB);
}

static void anything_else_is_refused(void **state)
{
    static const char *const wrong[] = {
        "", "G", "-1", "1.5G", "1GB", "1 G", "0x10", "18446744073709551616", "99999999T"};
    for (size_t i = 0; i < ARRAY_LENGTH(wrong); i++) {
        uint64_t n;
        assert_false(units_parse_size(wrong[i], 1, &n));
    }
    uint64_t n;
    assert_false(units_parse_number("9", 1, 8, &n));
    assert_false(units_parse_number("", 0, 8, &n));
    assert_true(units_parse_number("8", 1, 8, &n));
}

static void sizes_are_short_to_read(void **state)
{
    char text[UNITS_SIZE_TEXT_BYTES];
    assert_string_equal(units_format_size(1536 * MIB, text), "1.5G");
    assert_string_equal(units_format_size(512, text), "512B");
    assert_string_equal(units_format_size(4 * KIB, text), "4K");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_binary_and_exact),
        cmocka_unit_test(anything_else_is_refused),
        cmocka_unit_test(sizes_are_short_to_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
