// SPDX-License-Identifier: Apache-2.0
//
// Files that are loaded by descriptor: their bytes arrive, and one that becomes shorter meanwhile is an error, no signal.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "machine/boot/boot.h"
#include "os/file.h"
#include "os/memory.h"

#define FILE_BYTES (3 * PAGE_BYTES + 123)
#define MEMORY     (4 * MIB)
#define AT         (MIB + 77)

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 7 + i / 251);
}

static struct boot_file make_file(void)
{
    char path[] = "/tmp/wirt-boot-file-XXXXXX";
    struct boot_file file = {.name = "kernel", .length = FILE_BYTES, .fd = mkstemp(path)};
    uint8_t bytes[FILE_BYTES];
    assert_true(file.fd >= 0);
    unlink(path);
    for (size_t i = 0; i < FILE_BYTES; i++)
        bytes[i] = byte_at(i);
    assert_int_equal(os_pwrite(file.fd, bytes, FILE_BYTES, 0), 0);
    return file;
}

static void a_part_of_a_file_arrives_where_it_should(void **state)
{
    (void)state;
    struct err err = {0};
    struct boot_file file = make_file();
    struct guest_memory *memory = guest_memory_create(MEMORY, -1, &err);
    const uint64_t from = 5, length = FILE_BYTES - 10;
    uint8_t got[FILE_BYTES];
    guest_memory_track_dirty(memory, true);
    assert_int_equal(boot_file_load(&file, from, length, memory, AT, &err), 0);
    assert_int_equal(guest_memory_read(memory, gpa(AT - 1), got, length + 2), 0);
    assert_int_equal(got[0], 0);
    for (size_t i = 0; i < length; i++)
        assert_int_equal(got[i + 1], byte_at(from + i));
    assert_int_equal(got[length + 1], 0);
    uint64_t dirty[MEMORY / PAGE_BYTES / 64] = {0};
    assert_int_equal(guest_memory_collect_dirty(memory, dirty), 4);
    assert_int_equal(dirty[MIB / PAGE_BYTES / 64], 15);
    guest_memory_destroy(memory);
    os_file_close(&file.fd);
}

static void a_file_that_became_shorter_is_an_error(void **state)
{
    (void)state;
    struct err err = {0};
    struct boot_file file = make_file();
    struct guest_memory *memory = guest_memory_create(MEMORY, -1, &err);
    assert_int_equal(os_file_truncate(file.fd, PAGE_BYTES), 0);
    assert_int_equal(boot_file_load(&file, 0, FILE_BYTES, memory, AT, &err), -1);
    assert_string_equal(err.text, "\"kernel\" became shorter while it was read");
    assert_int_equal(err.code, ERR_INPUT);
    uint8_t tail[16];
    assert_int_equal(boot_file_read(&file, FILE_BYTES - 16, tail, 16, &err), 0); // zeros
    guest_memory_destroy(memory);
    os_file_close(&file.fd);
}

static void memory_that_is_too_small_is_an_error(void **state)
{
    (void)state;
    struct err err = {0};
    struct boot_file file = make_file();
    struct guest_memory *memory = guest_memory_create(MEMORY, -1, &err);
    assert_int_equal(boot_file_load(&file, 0, FILE_BYTES, memory, MEMORY - PAGE_BYTES, &err), -1);
    assert_string_equal(err.text, "guest memory is too small to boot");
    guest_memory_destroy(memory);
    os_file_close(&file.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_part_of_a_file_arrives_where_it_should),
        cmocka_unit_test(a_file_that_became_shorter_is_an_error),
        cmocka_unit_test(memory_that_is_too_small_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
