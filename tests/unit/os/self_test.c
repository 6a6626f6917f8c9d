// SPDX-License-Identifier: Apache-2.0
//
// The process's memory by what it is for.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "os/file.h"
#include "os/memory.h"
#include "os/self.h"

#define LENGTH    (8 * MIB)
#define HUGE_PAGE (2 * MIB) // by which the host may round up

static uint64_t bytes_of(const char *name)
{
    struct os_self_part parts[OS_SELF_PARTS_MAX];
    unsigned count = os_self_memory(parts);
    assert_int_not_equal(count, 0);
    for (unsigned i = 0; i < count; i++)
        if (!strcmp(parts[i].name, name))
            return parts[i].bytes;
    return 0;
}

static void a_named_range_counts_what_was_touched(void **state)
{
    (void)state;
    struct err err;
    char *at = os_memory_reserve(LENGTH, &err);
    assert_non_null(at);
    assert_int_equal(os_memory_place_zeroed(at, LENGTH, OS_MEMORY_READ | OS_MEMORY_WRITE, &err), 0);
    os_memory_name(at, LENGTH, "test-range");
    assert_int_equal(bytes_of("test-range"), 0);
    memset(at, 1, LENGTH / 2);
    assert_in_range(bytes_of("test-range"), LENGTH / 2, LENGTH / 2 + HUGE_PAGE);
    os_memory_release(at, LENGTH);
    assert_null(os_memory_name_at((uintptr_t)at));
    assert_int_equal(bytes_of("test-range"), 0);
}

// Two neighbours of the same kind are two mappings: a page lies between them.
static void neighbours_are_told_apart(void **state)
{
    (void)state;
    struct err err;
    char *at[2];
    static const char *const names[] = {"test-one", "test-two"};
    for (unsigned i = 0; i < 2; i++) {
        at[i] = os_memory_reserve(LENGTH, &err);
        assert_int_equal(
            os_memory_place_zeroed(at[i], LENGTH, OS_MEMORY_READ | OS_MEMORY_WRITE, &err), 0);
        os_memory_name(at[i], LENGTH, names[i]);
        memset(at[i], 1, (4 * i + 1) * MIB);
    }
    for (unsigned i = 0; i < 2; i++)
        assert_in_range(bytes_of(names[i]), (4 * i + 1) * MIB, (4 * i + 1) * MIB + HUGE_PAGE);
    for (unsigned i = 0; i < 2; i++)
        os_memory_release(at[i], LENGTH);
}

static void a_memfd_counts_under_its_name(void **state)
{
    (void)state;
    struct err err;
    char *at = os_memory_reserve(LENGTH, &err);
    int fd = os_memfd_create("test-file", LENGTH, &err);
    assert_int_equal(
        os_memory_place_file(at, LENGTH, OS_MEMORY_READ | OS_MEMORY_WRITE, fd, 0, &err), 0);
    memset(at, 1, MIB);
    assert_in_range(bytes_of("test-file"), MIB, MIB + HUGE_PAGE);
    assert_true(bytes_of("program") > 0);
    assert_true(bytes_of("heap and stacks") > 0);
    os_memory_release(at, LENGTH);
    os_file_close(&fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_named_range_counts_what_was_touched),
        cmocka_unit_test(neighbours_are_told_apart),
        cmocka_unit_test(a_memfd_counts_under_its_name),
    };
    os_self_open();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
