// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "node/auth/privilege.h"

static privilege_set named(const char *names)
{
    privilege_set set;
    struct err err = {0};
    assert_int_equal(privilege_parse(names, &set, &err), 0);
    return set;
}

// A role that a client of version 8 made does what version 9 splits it into.
static void the_old_name_grants_the_new_ones(void **state)
{
    privilege_set agent = named("VM.GuestAgent.Audit,VM.GuestAgent.FileRead VM.GuestAgent.FileWrite"
                                ";VM.GuestAgent.FileSystemMgmt,VM.GuestAgent.Unrestricted");
    assert_true((privilege_widen(named("VM.Monitor")) & agent) == agent);
    assert_true(privilege_widen(named("VM.Monitor")) == (agent | named("VM.Monitor")));
}

static void all_the_new_ones_grant_the_old_name(void **state)
{
    assert_true(privilege_widen(named("VM.GuestAgent.Unrestricted")) & named("VM.Monitor"));
    // A part of what the old name means is not the old name.
    static const char *const parts[] = {"VM.GuestAgent.Audit", "VM.GuestAgent.FileRead",
                                        "VM.GuestAgent.FileWrite", "VM.GuestAgent.FileSystemMgmt",
                                        "VM.Audit"};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        assert_true(privilege_widen(named(parts[i])) == named(parts[i]));
    assert_true(privilege_widen(0) == 0);
}

// Whoever lists privileges sees both.
static void roles_hold_both(void **state)
{
    privilege_set set;
    assert_true(role_builtin_find("PVEVMAdmin", &set));
    privilege_set both = named("VM.Monitor,VM.GuestAgent.Unrestricted,VM.Snapshot.Rollback");
    assert_true((set & both) == both);
    json_t *object = privilege_object(privilege_widen(named("VM.Monitor")));
    assert_int_equal(json_integer_value(json_object_get(object, "VM.Monitor")), 1);
    assert_int_equal(json_integer_value(json_object_get(object, "VM.GuestAgent.Unrestricted")), 1);
    json_decref(object);
}

static void unknown_names_are_told(void **state)
{
    privilege_set set;
    struct err err = {0};
    assert_int_equal(privilege_parse("VM.Audit,VM.GuestAgent", &set, &err), -1);
    assert_non_null(strstr(err.text, "'VM.GuestAgent'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_old_name_grants_the_new_ones),
        cmocka_unit_test(all_the_new_ones_grant_the_old_name),
        cmocka_unit_test(roles_hold_both),
        cmocka_unit_test(unknown_names_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
