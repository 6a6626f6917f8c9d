// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "machine/memory/guest_memory.h"
#include "os/file.h"
#include "os/memory.h"

#define ROM_START 0xFFFC0000ull
#define ROM_BYTES 0x40000ull

struct watched {
    unsigned calls;
    uint64_t last;
    uint32_t bytes;
};

static void watch(void *context, struct gpa gpa, uint32_t length)
{
    struct watched *w = context;
    assert_int_equal(gpa.at >> PAGE_SHIFT, (gpa.at + length - 1) >> PAGE_SHIFT);
    w->calls++;
    w->last = gpa.at;
    w->bytes += length;
}

static struct guest_memory *make(uint64_t bytes)
{
    struct err err = {0};
    struct guest_memory *memory = guest_memory_create(bytes, -1, &err);
    if (!memory)
        fail_msg("%s", err.text);
    return memory;
}

static void set_flag(struct guest_memory *memory, uint64_t at, uint8_t flag)
{
    void *host;
    uint8_t *flags;
    guest_memory_page(memory, gpa(at), &host, &flags);
    __atomic_fetch_or(flags, flag, __ATOMIC_SEQ_CST);
}

static void sizes_that_are_not_memory_are_refused(void **state)
{
    static const uint64_t bad[] = {0,          PAGE_BYTES,        MIB - PAGE_BYTES, MIB + 1,
                                   UINT64_MAX, UINT64_MAX - 4095, 257 * GIB};
    for (unsigned i = 0; i < ARRAY_LENGTH(bad); i++) {
        struct err err = {0};
        assert_null(guest_memory_create(bad[i], -1, &err));
        assert_int_equal(err.code, ERR_USAGE);
    }
}

static void a_file_that_is_too_small_is_refused(void **state)
{
    struct err err = {0};
    int fd = os_memfd_create("test", MIB, &err);
    assert_null(guest_memory_create(2 * MIB, fd, &err));
    assert_int_equal(err.code, ERR_INPUT);
}

static void ram_is_the_file(void **state)
{
    struct err err = {0};
    int fd = os_memfd_create("test", 2 * MIB, &err);
    struct guest_memory *memory = guest_memory_create(MIB, fd, &err);
    assert_non_null(memory);
    assert_int_equal(guest_memory_write(memory, gpa(0x1234), "abc", 3), 0);
    char bytes[3];
    assert_int_equal(os_pread(guest_memory_fd(memory), bytes, 3, 0x1234), 0);
    assert_memory_equal(bytes, "abc", 3);
    guest_memory_destroy(memory);
}

static void ranges_outside_and_wrapping_fail(void **state)
{
    struct guest_memory *memory = make(MIB);
    char buffer[64] = {0};
    static const uint64_t bad[] = {
        MIB,        MIB - 63,        GUEST_LOW_RAM_LIMIT, GUEST_HIGH_RAM_START,
        UINT64_MAX, UINT64_MAX - 63, UINT64_MAX - 32};
    for (unsigned i = 0; i < ARRAY_LENGTH(bad); i++) {
        assert_int_equal(guest_memory_read(memory, gpa(bad[i]), buffer, 64), -EFAULT);
        assert_int_equal(guest_memory_write(memory, gpa(bad[i]), buffer, 64), -EFAULT);
        assert_null(guest_memory_map(memory, gpa(bad[i]), 64, false));
        assert_null(guest_memory_map(memory, gpa(bad[i]), 64, true));
    }
    assert_null(guest_memory_map(memory, gpa(16), SIZE_MAX, false));
    assert_null(guest_memory_map(memory, gpa(16), SIZE_MAX - 15, false));
    assert_null(guest_memory_map(memory, gpa(MIB), 0, false));
    assert_int_equal(guest_memory_read(memory, gpa(MIB - 64), buffer, 64), 0);
    assert_int_equal(guest_memory_read(memory, gpa(UINT64_MAX), buffer, 0), 0);
    guest_memory_destroy(memory);
}

static void memory_above_the_hole_starts_at_4_gib(void **state)
{
    struct guest_memory *memory = make(4 * GIB);
    assert_int_equal(guest_memory_low_bytes(memory), GUEST_LOW_RAM_LIMIT);
    assert_int_equal(guest_memory_high_bytes(memory), GIB);
    char c = 'x', buffer[2];
    assert_int_equal(guest_memory_write(memory, gpa(GUEST_LOW_RAM_LIMIT - 1), &c, 1), 0);
    assert_int_equal(guest_memory_write(memory, gpa(GUEST_HIGH_RAM_START), &c, 1), 0);
    assert_int_equal(guest_memory_write(memory, gpa(GUEST_HIGH_RAM_START + GIB - 1), &c, 1), 0);
    assert_int_equal(guest_memory_write(memory, gpa(GUEST_HIGH_RAM_START + GIB), &c, 1), -EFAULT);
    assert_int_equal(guest_memory_read(memory, gpa(GUEST_LOW_RAM_LIMIT - 1), buffer, 2), -EFAULT);
    assert_int_equal(guest_memory_read(memory, gpa(GUEST_HIGH_RAM_START - 1), buffer, 2), -EFAULT);
    assert_int_equal(os_pread(guest_memory_fd(memory), buffer, 1, GUEST_LOW_RAM_LIMIT), 0);
    assert_int_equal(buffer[0], 'x');
    guest_memory_destroy(memory);
}

static void rom_is_read_and_never_written(void **state)
{
    struct guest_memory *memory = make(MIB);
    struct err err = {0};
    static uint8_t rom[ROM_BYTES];
    rom[0] = 0xEA;
    rom[ROM_BYTES - 1] = 0x55;
    assert_int_equal(guest_memory_add_rom(memory, gpa(ROM_START), rom, ROM_BYTES, &err), 0);
    uint8_t b = 0;
    assert_int_equal(guest_memory_read(memory, gpa(0xFFFFFFFF), &b, 1), 0);
    assert_int_equal(b, 0x55);
    assert_int_equal(guest_memory_write(memory, gpa(ROM_START), &b, 1), -EFAULT);
    assert_null(guest_memory_map(memory, gpa(ROM_START), 1, true));
    assert_non_null(guest_memory_map(memory, gpa(ROM_START), ROM_BYTES, false));
    void *host;
    uint8_t *flags;
    assert_int_equal(guest_memory_page(memory, gpa(ROM_START + 0x1010), &host, &flags), PAGE_ROM);
    assert_int_equal(guest_memory_page(memory, gpa(0), &host, &flags), PAGE_RAM);
    assert_int_equal(guest_memory_page(memory, gpa(MIB), &host, &flags), PAGE_ABSENT);
    assert_null(host);
    guest_memory_destroy(memory);
}

static void rom_over_memory_is_refused(void **state)
{
    struct guest_memory *memory = make(MIB);
    struct err err = {0};
    static uint8_t rom[2 * PAGE_BYTES];
    assert_int_equal(guest_memory_add_rom(memory, gpa(MIB - PAGE_BYTES), rom, 2 * PAGE_BYTES, &err),
                     -1);
    assert_int_equal(err.code, ERR_EXISTS);
    assert_int_equal(guest_memory_add_rom(memory, gpa(ROM_START), rom, 2 * PAGE_BYTES, &err), 0);
    assert_int_equal(
        guest_memory_add_rom(memory, gpa(ROM_START + PAGE_BYTES), rom, PAGE_BYTES, &err), -1);
    assert_int_equal(
        guest_memory_add_rom(memory, gpa(ROM_START + 8 * PAGE_BYTES + 1), rom, PAGE_BYTES, &err),
        -1);
    assert_int_equal(
        guest_memory_add_rom(memory, gpa(-(uint64_t)PAGE_BYTES), rom, 2 * PAGE_BYTES, &err), -1);
    assert_int_equal(guest_memory_add_rom(memory, gpa(ROM_START + 8 * PAGE_BYTES), rom, 0, &err),
                     -1);
    guest_memory_destroy(memory);
}

static void the_watcher_hears_of_writes_to_code_by_page(void **state)
{
    struct guest_memory *memory = make(MIB);
    struct watched w = {0};
    guest_memory_set_code_watcher(memory, watch, &w);
    static uint8_t bytes[3 * PAGE_BYTES];
    guest_memory_write(memory, gpa(0x1000), bytes, sizeof(bytes));
    assert_int_equal(w.calls, 0);
    set_flag(memory, 0x2000, PAGE_CODE);
    guest_memory_write(memory, gpa(0x1800), bytes, sizeof(bytes));
    assert_int_equal(w.calls, 1);
    assert_int_equal(w.last, 0x2000);
    assert_int_equal(w.bytes, PAGE_BYTES);
    set_flag(memory, 0x3000, PAGE_CODE);
    assert_non_null(guest_memory_map(memory, gpa(0x2FFE), 4, true));
    guest_memory_wrote(memory, gpa(0x2FFE), 4);
    assert_int_equal(w.calls, 3);
    assert_int_equal(w.bytes, PAGE_BYTES + 4);
    assert_int_equal(guest_memory_discard(memory, gpa(0x3000), PAGE_BYTES), 0);
    assert_int_equal(w.calls, 4);
    guest_memory_destroy(memory);
}

static void dirty_pages_are_collected_once(void **state)
{
    struct guest_memory *memory = make(MIB);
    uint64_t bitmap[MIB / PAGE_BYTES / 64] = {0};
    guest_memory_write(memory, gpa(0), "x", 1);
    guest_memory_track_dirty(memory, true);
    assert_int_equal(guest_memory_collect_dirty(memory, bitmap), 0);
    guest_memory_write(memory, gpa(0x5FFF), "xy", 2);
    guest_memory_wrote(memory, gpa(MIB - 1), 1);
    assert_int_equal(guest_memory_collect_dirty(memory, bitmap), 3);
    assert_int_equal(bitmap[0], BIT(5) | BIT(6));
    assert_int_equal(bitmap[3], BIT(63));
    assert_int_equal(guest_memory_collect_dirty(memory, bitmap), 0);
    assert_int_equal(bitmap[0], BIT(5) | BIT(6));
    guest_memory_write(memory, gpa(0x7000), "x", 1);
    guest_memory_track_dirty(memory, false);
    guest_memory_track_dirty(memory, true);
    assert_int_equal(guest_memory_collect_dirty(memory, bitmap), 0);
    guest_memory_destroy(memory);
}

// One store across both is in both, wherever they lie; what is no RAM has no place beside another.
static void two_pages_are_joined(void **state)
{
    static const uint64_t pairs[][2] = {
        {0x2000, 0x3000}, {0x5000, 0x2000}, {0x5000, 0x7000}, {0x4000, 0x4000}};
    struct guest_memory *memory = make(MIB);

    for (unsigned i = 0; i < ARRAY_LENGTH(pairs); i++) {
        char *joined = guest_memory_join(memory, gpa(pairs[i][0]), gpa(pairs[i][1]));
        assert_non_null(joined);
        uint64_t value = 0x1122334455667788ull + i, back[2] = {0};
        memcpy(joined + PAGE_BYTES - 4, &value, sizeof(value));
        guest_memory_read(memory, gpa(pairs[i][0] + PAGE_BYTES - 4), &back[0], 4);
        guest_memory_read(memory, gpa(pairs[i][1]), &back[1], 4);
        assert_int_equal(back[1] << 32 | back[0], value);
    }
    assert_null(guest_memory_join(memory, gpa(MIB - PAGE_BYTES), gpa(MIB)));
    assert_null(guest_memory_join(memory, gpa(GUEST_HIGH_RAM_START), gpa(0)));
    guest_memory_destroy(memory);
}

static void collecting_leaves_the_code_flag(void **state)
{
    struct guest_memory *memory = make(MIB);
    uint64_t bitmap[MIB / PAGE_BYTES / 64] = {0};
    struct watched w = {0};
    guest_memory_set_code_watcher(memory, watch, &w);
    set_flag(memory, 0, PAGE_CODE);
    guest_memory_track_dirty(memory, true);
    guest_memory_write(memory, gpa(0), "x", 1);
    assert_int_equal(guest_memory_collect_dirty(memory, bitmap), 1);
    guest_memory_write(memory, gpa(0), "x", 1);
    assert_int_equal(w.calls, 2);
    guest_memory_destroy(memory);
}

static void discarded_pages_read_as_zeroes(void **state)
{
    struct guest_memory *memory = make(MIB);
    uint8_t b = 7;
    guest_memory_write(memory, gpa(0x2000), &b, 1);
    guest_memory_write(memory, gpa(0x3000), &b, 1);
    assert_int_equal(guest_memory_discard(memory, gpa(0x2000), PAGE_BYTES), 0);
    guest_memory_read(memory, gpa(0x2000), &b, 1);
    assert_int_equal(b, 0);
    guest_memory_read(memory, gpa(0x3000), &b, 1);
    assert_int_equal(b, 7);
    assert_int_equal(guest_memory_discard(memory, gpa(0x2001), PAGE_BYTES), -EINVAL);
    assert_int_equal(guest_memory_discard(memory, gpa(0x2000), 1), -EINVAL);
    assert_int_equal(guest_memory_discard(memory, gpa(MIB), PAGE_BYTES), -EFAULT);
    assert_int_equal(guest_memory_discard(memory, gpa(MIB - PAGE_BYTES), 2 * PAGE_BYTES), -EFAULT);
    assert_int_equal(guest_memory_discard(memory, gpa(0x2000), 0), 0);
    guest_memory_destroy(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_that_are_not_memory_are_refused),
        cmocka_unit_test(a_file_that_is_too_small_is_refused),
        cmocka_unit_test(ram_is_the_file),
        cmocka_unit_test(ranges_outside_and_wrapping_fail),
        cmocka_unit_test(memory_above_the_hole_starts_at_4_gib),
        cmocka_unit_test(rom_is_read_and_never_written),
        cmocka_unit_test(rom_over_memory_is_refused),
        cmocka_unit_test(the_watcher_hears_of_writes_to_code_by_page),
        cmocka_unit_test(dirty_pages_are_collected_once),
        cmocka_unit_test(two_pages_are_joined),
        cmocka_unit_test(collecting_leaves_the_code_flag),
        cmocka_unit_test(discarded_pages_read_as_zeroes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
