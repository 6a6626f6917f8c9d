// SPDX-License-Identifier: Apache-2.0
//
// Memory for transfers.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "os/file.h"

#define PAGE      4096u
#define HUGE_PAGE (2 * MIB)

static void expect(size_t length, size_t alignment)
{
    uint8_t *memory = os_aligned_alloc(length);
    assert_non_null(memory);
    assert_int_equal((uintptr_t)memory % alignment, 0);
    memset(memory, 1, length);
    assert_int_equal(memory[length - 1], 1);
    os_aligned_free(memory);
}

static void memory_of_a_mib_begins_at_a_huge_page_and_less_at_a_page(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        expect(512, PAGE);
        expect(MIB - 1, PAGE);
        expect(MIB, HUGE_PAGE);
        expect(3 * MIB + 1, HUGE_PAGE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_of_a_mib_begins_at_a_huge_page_and_less_at_a_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
