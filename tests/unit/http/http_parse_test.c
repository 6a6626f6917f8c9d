// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/http/http.h"

static void expect_form(const char *form, const char *json)
{
    json_t *object = json_object(), *wanted = json_loads(json, 0, NULL);
    assert_int_equal(http_parse_form(form, strlen(form), object, NULL), 0);
    assert_true(json_equal(object, wanted));
    json_decref(object);
    json_decref(wanted);
}

static void forms_become_objects(void **state)
{
    expect_form("a=1&b=x+y%2B&c", "{\"a\": \"1\", \"b\": \"x y+\", \"c\": \"\"}");
    expect_form("a=1&a=2&a=3&&", "{\"a\": [\"1\", \"2\", \"3\"]}");
    expect_form("", "{}");
}

static void broken_forms_are_refused(void **state)
{
    static const char *const forms[] = {"a=%", "a=%4", "a=%zz", "=1", "a=%00", "a=%ff"};
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        json_t *object = json_object();
        assert_int_equal(http_parse_form(forms[i], strlen(forms[i]), object, NULL), -1);
        json_decref(object);
    }
}

static void json_is_bounded_in_depth(void **state)
{
    char text[200] = "{\"a\": ";
    size_t used = strlen(text);
    for (int i = 0; i < 40; i++)
        text[used++] = '[';
    for (int i = 0; i < 40; i++)
        text[used++] = ']';
    text[used++] = '}';
    assert_null(http_parse_json(text, used, NULL));
    assert_null(http_parse_json("[1]", 3, NULL));
    assert_null(http_parse_json("{\"a\":1,\"a\":2}", 13, NULL));
}

static void a_cookie_is_found_and_decoded_without_plus(void **state)
{
    char value[64];
    assert_true(http_cookie("x=1; PVEAuthCookie=PVE%3Ar+t; y=2", "PVEAuthCookie", value, 64));
    assert_string_equal(value, "PVE:r+t");
    assert_true(http_cookie("PVEAuthCookie=PVE:raw==", "PVEAuthCookie", value, 64));
    assert_string_equal(value, "PVE:raw==");
    assert_false(http_cookie("XPVEAuthCookie=1", "PVEAuthCookie", value, 64));
    assert_false(http_cookie("PVEAuthCookie=12345678", "PVEAuthCookie", value, 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms_become_objects),
        cmocka_unit_test(broken_forms_are_refused),
        cmocka_unit_test(json_is_bounded_in_depth),
        cmocka_unit_test(a_cookie_is_found_and_decoded_without_plus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
