// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "node/auth/limit.h"
#include "node/auth/secret.h"

// RFC 6238, appendix B, SHA-1, the last six of the eight digits.
static void one_time_passwords_are_those_of_the_rfc(void **state)
{
    static const char secret[] = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    static const struct {
        uint64_t time_s;
        const char *code;
    } vectors[] = {{59, "287082"},         {1111111109, "081804"}, {1111111111, "050471"},
                   {1234567890, "005924"}, {2000000000, "279037"}, {20000000000, "353130"}};
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        char code[7];
        assert_int_equal(secret_totp_code(secret, vectors[i].time_s / 30, code, NULL), 0);
        assert_string_equal(code, vectors[i].code);
    }
    assert_int_equal(secret_totp_check(secret, "005924", 1234567890), 1234567890 / 30);
    assert_int_equal(secret_totp_check(secret, "005924", 1234567890 + 30), 1234567890 / 30);
    assert_int_equal(secret_totp_check(secret, "005924", 1234567890 + 90), 0);
    assert_int_equal(secret_totp_check("not base32!", "005924", 1234567890), 0);
}

static void a_password_is_known_by_its_hash_only(void **state)
{
    char stored[SECRET_PASSWORD_BYTES];
    assert_int_equal(secret_password_hash("correct horse", stored, NULL), 0);
    assert_memory_equal(stored, "$y$", 3);
    assert_true(secret_password_check("correct horse", stored));
    assert_false(secret_password_check("correct horsf", stored));
    assert_false(secret_password_check("", stored));
}

static void a_signature_depends_on_key_and_text(void **state)
{
    uint8_t key[SECRET_KEY_BYTES] = {1}, other[SECRET_KEY_BYTES] = {2};
    char a[SECRET_SIGNATURE_BYTES], b[SECRET_SIGNATURE_BYTES];
    secret_sign(key, "x", a);
    secret_sign(key, "x", b);
    assert_string_equal(a, b);
    secret_sign(other, "x", b);
    assert_string_not_equal(a, b);
    secret_sign(key, "y", b);
    assert_string_not_equal(a, b);
}

static void after_so_many_failures_nobody_is_heard_for_a_while(void **state)
{
    struct limit *limit = limit_create(3, 60);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(limit_wait_s(limit, "eve", 1000), 0);
        limit_failed(limit, "eve", 1000);
    }
    assert_int_equal(limit_wait_s(limit, "eve", 1010), 50);
    assert_int_equal(limit_wait_s(limit, "eve", 1060), 0);
    limit_failed(limit, "eve", 1060);
    assert_int_equal(limit_wait_s(limit, "eve", 1061), 0);
    limit_destroy(limit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_time_passwords_are_those_of_the_rfc),
        cmocka_unit_test(a_password_is_known_by_its_hash_only),
        cmocka_unit_test(a_signature_depends_on_key_and_text),
        cmocka_unit_test(after_so_many_failures_nobody_is_heard_for_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
