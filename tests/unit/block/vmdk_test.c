// SPDX-License-Identifier: Apache-2.0
//
// Random writes to VMDK images of plain and of compressed grains, compared with plain memory, also after reopening.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/err.h"
#include "machine/block/block_image.h"
#include "os/file.h"

#define DISK_BYTES (3 * MIB + 512)

static uint32_t random_state = 12345;

static uint32_t below(uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

static struct block_disk *open_image(int fd)
{
    struct err err = {0};
    struct block_image image = {.fd = os_file_duplicate(fd), .format = "vmdk", .name = "test.vmdk"};
    struct block_disk *disk =
        block_disk_open(&(struct block_options){.chain = &image, .chain_length = 1}, &err);
    if (!disk)
        fail_msg("%s", err.text);
    return disk;
}

static void random_writes(bool compressed)
{
    static uint8_t want[DISK_BYTES], is[DISK_BYTES];
    struct err err = {0};
    int fd = memfd_create("vmdk", MFD_CLOEXEC);
    struct block_create create = {.format = "vmdk", .size = DISK_BYTES, .compressed = compressed};
    memset(want, 0, sizeof(want));
    if (block_image_create(fd, "test.vmdk", &create, &err))
        fail_msg("%s", err.text);
    struct block_disk *disk = open_image(fd);
    for (int i = 0; i < 200; i++) {
        uint32_t at = below(DISK_BYTES), n = 1 + below(below(4) ? 3000 : 200000);
        n = n < DISK_BYTES - at ? n : (uint32_t)(DISK_BYTES - at);
        if (below(6) == 0) {
            memset(want + at, 0, n);
            assert_int_equal(block_write_zeroes(disk, at, n, 0), 0);
        } else {
            memset(want + at, (int)below(256), n);
            assert_int_equal(block_write(disk, at, want + at, n), 0);
        }
        if (below(40) == 0) {
            assert_int_equal(block_disk_close(disk), 0);
            disk = open_image(fd);
        }
    }
    assert_int_equal(block_read(disk, 0, is, DISK_BYTES), 0);
    assert_memory_equal(is, want, DISK_BYTES);
    assert_int_equal(block_disk_close(disk), 0);
    disk = open_image(fd);
    assert_int_equal(block_read(disk, 0, is, DISK_BYTES), 0);
    assert_memory_equal(is, want, DISK_BYTES);
    assert_int_equal(block_disk_close(disk), 0);
    close(fd);
}

static void plain_grains_hold_what_is_written(void **state)
{
    random_writes(false);
}

static void compressed_grains_hold_what_is_written(void **state)
{
    random_writes(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_grains_hold_what_is_written),
        cmocka_unit_test(compressed_grains_hold_what_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
