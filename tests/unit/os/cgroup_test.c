// SPDX-License-Identifier: Apache-2.0
//
// Control groups of version 2 in a folder that looks like them; of version 1 and for real: tests/node/scope_test.py.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "os/cgroup.h"
#include "os/directory.h"

static char top[64];

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", top, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void assert_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", top, name);
    char *found = os_file_read_all(path, 4096, NULL, NULL);
    assert_non_null(found);
    assert_string_equal(found, text);
    free(found);
}

static void make_folder(const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", top, name);
    assert_int_equal(mkdir(path, 0755), 0);
}

static int make_top(void **state)
{
    (void)state;
    snprintf(top, sizeof(top), "/tmp/wirt-cgroup-XXXXXX");
    return mkdtemp(top) ? 0 : -1;
}

struct row {
    const char *folder, *kind, *options; // below top; ends with a NULL kind
};

static void open_groups(struct os_cgroups *groups, const struct row *rows)
{
    char path[128], text[1024];
    size_t used = 0;
    struct err err = {0};
    for (; rows->kind; rows++)
        used += (size_t)snprintf(text + used, sizeof(text) - used,
                                 "30 1 0:26 / %s%s rw shared:1 - %s none rw%s\n", top, rows->folder,
                                 rows->kind, rows->options);
    write_file("mountinfo", text);
    snprintf(path, sizeof(path), "%s/mountinfo", top);
    assert_int_equal(os_cgroups_open(groups, path, "wirt-abc", &err), 0);
}

static void version_2_hands_controllers_down_and_limits_them(void **state)
{
    (void)state;
    struct os_cgroups groups;
    struct err err = {0};
    write_file("cgroup.subtree_control", "");
    make_folder("wirt-abc");
    write_file("wirt-abc/cgroup.controllers", "cpuset cpu memory pids\n");
    write_file("wirt-abc/cgroup.subtree_control", "");
    open_groups(&groups, (const struct row[]){{"", "cgroup2", ",nsdelegate"}, {0}});
    assert_int_equal(groups.version, 2);
    assert_true(groups.trees[0].cpu && groups.trees[0].memory);
    assert_file("wirt-abc/cgroup.subtree_control",
                "+memory"); // the last word written: a file is no kernel
    make_folder("wirt-abc/100");
    write_file("wirt-abc/100/cpu.weight", "");
    write_file("wirt-abc/100/cpu.max", "");
    write_file("wirt-abc/100/memory.max", "");
    struct os_cgroup_limits limits = {
        .cpu_weight = 250, .cpu_percent = 150, .memory_bytes = 1u << 30};
    assert_int_equal(os_cgroup_make(&groups, "100", &limits, &err), 0);
    assert_file("wirt-abc/100/cpu.weight", "250");
    assert_file("wirt-abc/100/cpu.max", "150000 100000");
    assert_file("wirt-abc/100/memory.max", "1073741824");
}

static void a_controller_that_is_missing_is_left_out(void **state)
{
    (void)state;
    struct os_cgroups groups;
    struct err err = {0};
    write_file("cgroup.subtree_control", "");
    make_folder("wirt-abc");
    write_file("wirt-abc/cgroup.controllers", "pids\n");
    open_groups(&groups, (const struct row[]){{"", "cgroup2", ""}, {0}});
    assert_false(groups.trees[0].cpu || groups.trees[0].memory);
    struct os_cgroup_limits limits = {.cpu_percent = 50};
    assert_int_equal(os_cgroup_make(&groups, "100", &limits, &err), 0);
}

static void version_1_has_a_tree_for_each_controller(void **state)
{
    (void)state;
    struct os_cgroups groups;
    struct err err = {0};
    make_folder("cpu");
    make_folder("memory");
    open_groups(&groups, (const struct row[]){{"/cpu", "cgroup", ",cpu"},
                                              {"/memory", "cgroup", ",memory"},
                                              {"/none", "cgroup2", ""},
                                              {0}});
    assert_int_equal(groups.version, 1);
    assert_int_equal(groups.count, 2);
    make_folder("cpu/wirt-abc/7");
    make_folder("memory/wirt-abc/7");
    write_file("cpu/wirt-abc/7/cpu.shares", "");
    write_file("cpu/wirt-abc/7/cpu.cfs_quota_us", "");
    write_file("memory/wirt-abc/7/memory.limit_in_bytes", "");
    struct os_cgroup_limits limits = {.memory_bytes = 4096};
    assert_int_equal(os_cgroup_make(&groups, "7", &limits, &err), 0);
    assert_file("cpu/wirt-abc/7/cpu.shares", "1024");
    assert_file("cpu/wirt-abc/7/cpu.cfs_quota_us", "-1");
    assert_file("memory/wirt-abc/7/memory.limit_in_bytes", "4096");
}

static void without_trees_there_are_no_groups(void **state)
{
    (void)state;
    struct os_cgroups groups;
    struct err err = {0};
    assert_int_equal(os_cgroups_open(&groups, "/dev/null", "wirt-abc", &err), -1);
    assert_int_equal(groups.version, 0);
    assert_true(err.text[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(version_2_hands_controllers_down_and_limits_them, make_top),
        cmocka_unit_test_setup(a_controller_that_is_missing_is_left_out, make_top),
        cmocka_unit_test_setup(version_1_has_a_tree_for_each_controller, make_top),
        cmocka_unit_test(without_trees_there_are_no_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
