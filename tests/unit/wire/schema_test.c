// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/schema.h"

static void expect_refused(const char *text, const char *reason)
{
    json_t *config = json_loads(text, 0, NULL);
    struct err err = {0};
    assert_non_null(config);
    assert_int_equal(schema_check(&schema_config, config, "", &err), -1);
    assert_string_equal(err.text, reason);
    json_decref(config);
}

static void a_full_configuration_passes(void **state)
{
    json_t *config = json_loads(
        "{\"cpus\": 2, \"memory\": 536870912, \"boot\": {\"kernel\": {\"file\": \"vmlinuz\"}},"
        " \"disks\": [{\"file\": \"a.img\", \"readonly\": true}], \"trace\": [\"exits\"],"
        " \"nets\": [{\"kind\": \"user\", \"forward\": [{\"host_port\": 1, \"guest_port\": 2}]}]}",
        0, NULL);
    assert_int_equal(schema_check(&schema_config, config, "", NULL), 0);
    json_decref(config);
}

static void what_is_wrong_is_named(void **state)
{
    expect_refused("{\"cpu\": 1}", "cpu: 1 is not a string");
    expect_refused("{\"cpus\": 9}", "cpus: 9 is not in 1 to 8");
    expect_refused("{\"colour\": 1}", "colour: there is no such member in config");
    expect_refused("{\"disks\": [{\"file\": \"a\"}, {\"queues\": 99}]}",
                   "disks[1].queues: 99 is not in 1 to 16");
    expect_refused("{\"nets\": [{}]}", "nets[0].kind: is missing");
    expect_refused("{\"accel\": \"magic\"}",
                   "accel: \"magic\" is none of auto, kvm, engine, interpreter");
    expect_refused("{\"trace\": [3]}", "trace[0]: 3 is not a string");
    expect_refused("{\"name\": \"\"}", "name: has 0 bytes, not 1 to 63");
}

static void every_command_is_found(void **state)
{
    for (unsigned i = 0; i < schema_command_count; i++)
        assert_ptr_equal(schema_find_command(schema_commands[i].name), &schema_commands[i]);
    assert_null(schema_find_command("fly"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_configuration_passes),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(every_command_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
