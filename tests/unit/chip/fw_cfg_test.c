// SPDX-License-Identifier: Apache-2.0
#include "bench.h"
#include "machine/chip/debug_ports.h"
#include "machine/chip/fw_cfg.h"
#include "machine/memory/guest_memory.h"
#include <stdio.h>

#define SELECT 0x510
#define DATA   0x511
#define DMA    0x514

struct fixture {
    struct bench bench;
    struct guest_memory *memory;
    struct fw_cfg *fw;
    char shown[64];
    size_t shown_count;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    bench_init(&f->bench);
    f->memory = guest_memory_create(MIB, -1, &f->bench.err);
    f->fw = fw_cfg_create(f->bench.ports, f->memory, &f->bench.err);
    assert_non_null(f->fw);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    fw_cfg_destroy(f->fw);
    guest_memory_destroy(f->memory);
    bench_fini(&f->bench);
    free(f);
    return 0;
}

static uint32_t read_be(struct fixture *f, unsigned bytes)
{
    uint32_t value = 0;
    while (bytes--)
        value = value << 8 | inb(&f->bench, DATA);
    return value;
}

static void it_is_recognized(void **state)
{
    struct fixture *f = *state;
    out(&f->bench, SELECT, FW_CFG_SIGNATURE, 2);
    assert_int_equal(read_be(f, 4), 0x51454D55); // "QEMU"
    assert_int_equal(read_be(f, 4), 0);
    out(&f->bench, SELECT, FW_CFG_ID, 2);
    assert_int_equal(read_be(f, 4), 0x03000000);
    assert_int_equal(in(&f->bench, DMA, 4), 0x554D4551); // "QEMU" in guest order
    assert_int_equal(in(&f->bench, DMA + 4, 4), 0x47464320);
}

static void files_are_found_through_the_directory(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(fw_cfg_add_file(f->fw, "etc/one", "1", 1, &f->bench.err), 0);
    assert_int_equal(fw_cfg_add_file(f->fw, "etc/two", "zwei", 4, &f->bench.err), 0);
    out(&f->bench, SELECT, FW_CFG_FILE_DIR, 2);
    assert_int_equal(read_be(f, 4), 2);
    read_be(f, 4 + 2 + 2);
    for (unsigned i = 0; i < FW_CFG_NAME_BYTES; i++)
        inb(&f->bench, DATA);
    assert_int_equal(read_be(f, 4), 4);
    uint32_t key = read_be(f, 2);
    read_be(f, 2);
    char name[FW_CFG_NAME_BYTES];
    for (unsigned i = 0; i < FW_CFG_NAME_BYTES; i++)
        name[i] = (char)inb(&f->bench, DATA);
    assert_string_equal(name, "etc/two");
    out(&f->bench, SELECT, key, 2);
    assert_int_equal(read_be(f, 4), 0x7A776569);
}

static void what_cannot_be_added_is_refused(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    assert_int_equal(fw_cfg_add_u16(f->fw, FW_CFG_NB_CPUS, 2, &err), 0);
    assert_int_equal(fw_cfg_add_u16(f->fw, FW_CFG_NB_CPUS, 2, &err), -1);
    assert_int_equal(fw_cfg_add(f->fw, FW_CFG_FILE_FIRST, "", 0, &err), -1);
    assert_int_equal(fw_cfg_add(f->fw, 0x4001, "", 0, &err), -1);
    assert_int_equal(fw_cfg_add_file(f->fw, "", "", 0, &err), -1);
    assert_int_equal(fw_cfg_add_file(f->fw,
                                     "0123456789012345678901234567890123456789012345678901234", "",
                                     0, &err),
                     0);
    assert_int_equal(fw_cfg_add_file(f->fw,
                                     "01234567890123456789012345678901234567890123456789012345", "",
                                     0, &err),
                     -1);
    assert_int_equal(fw_cfg_add_file(f->fw,
                                     "0123456789012345678901234567890123456789012345678901234", "",
                                     0, &err),
                     -1);
    char name[8];
    int added = 0;
    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "n%u", i);
        added += fw_cfg_add_file(f->fw, name, "x", 1, &err) == 0;
    }
    assert_int_equal(added, FW_CFG_FILES - 1);
}

static void start_dma(struct fixture *f, uint64_t at, uint32_t control, uint32_t length,
                      uint64_t address)
{
    uint8_t access[16];
    for (unsigned i = 0; i < 4; i++) {
        access[i] = (uint8_t)(control >> (24 - 8 * i));
        access[4 + i] = (uint8_t)(length >> (24 - 8 * i));
    }
    for (unsigned i = 0; i < 8; i++)
        access[8 + i] = (uint8_t)(address >> (56 - 8 * i));
    guest_memory_write(f->memory, gpa(at), access, sizeof(access));
    out(&f->bench, DMA, __builtin_bswap32((uint32_t)(at >> 32)), 4);
    out(&f->bench, DMA + 4, __builtin_bswap32((uint32_t)at), 4);
}

static uint32_t dma(struct fixture *f, uint32_t control, uint32_t length, uint64_t address)
{
    uint32_t answer = 0;
    start_dma(f, 0x1000, control, length, address);
    guest_memory_read(f->memory, gpa(0x1000), &answer, 4);
    return __builtin_bswap32(answer);
}

static void dma_reads_skips_and_fills(void **state)
{
    struct fixture *f = *state;
    char bytes[16] = "................";
    assert_int_equal(fw_cfg_add_file(f->fw, "f", "0123456789", 10, &f->bench.err), 0);
    guest_memory_write(f->memory, gpa(0x2000), bytes, 16);
    assert_int_equal(dma(f, 0x20 << 16 | 8 | 4, 3, 0), 0); // select and skip
    assert_int_equal(dma(f, 2, 4, 0x2000), 0);
    guest_memory_read(f->memory, gpa(0x2000), bytes, 16);
    assert_memory_equal(bytes, "3456............", 16);
    assert_int_equal(dma(f, 2, 8, 0x2000), 0); // beyond the end: zeroes
    guest_memory_read(f->memory, gpa(0x2000), bytes, 16);
    assert_memory_equal(bytes, "789\0\0\0\0\0........", 16);
    assert_int_equal(dma(f, 8 | 0x7777u << 16 | 2, 8, 0x2000), 0); // no such item
    guest_memory_read(f->memory, gpa(0x2000), bytes, 16);
    assert_int_equal(bytes[0], 0);
}

static void dma_to_nowhere_is_an_error(void **state)
{
    struct fixture *f = *state;
    static const uint64_t bad[] = {MIB, MIB - 1, UINT64_MAX, UINT64_MAX - 1, 0xFEC00000};
    for (unsigned i = 0; i < ARRAY_LENGTH(bad); i++) {
        assert_int_equal(dma(f, 8 | 2, 4, bad[i]), 1);
        assert_int_equal(dma(f, 8 | 0x7777u << 16 | 2, 4, bad[i]), 1);
    }
    assert_int_equal(dma(f, 8 | 2, UINT32_MAX, 0x2000), 1);
    assert_int_equal(dma(f, 8 | 16, 4, 0x2000), 1); // nothing can be written
    for (unsigned i = 0; i < ARRAY_LENGTH(bad); i++)
        start_dma(f, bad[i], 2, 4, 0x2000);
}

static size_t show(void *context, const uint8_t *bytes, size_t length)
{
    struct fixture *f = context;
    memcpy(f->shown + f->shown_count, bytes, length);
    f->shown_count += length;
    return length;
}

static void debug_ports_tell_the_machine(void **state)
{
    struct fixture *f = *state;
    static const struct char_backend_ops ops = {show, NULL};
    struct char_backend backend = {&ops, f}, none = {0};
    struct debug_ports *d =
        debug_ports_create(f->bench.ports, backend, none, bench_events(&f->bench), &f->bench.err);
    assert_non_null(d);
    assert_int_equal(inb(&f->bench, 0xE9), 0xE9);
    assert_int_equal(inb(&f->bench, 0x402), 0xE9);
    outb(&f->bench, 0xE9, 'h');
    outb(&f->bench, 0x402, 'x');
    outb(&f->bench, 0xE9, 'i');
    outb(&f->bench, 0x80, 0x55);
    assert_int_equal(f->shown_count, 2);
    assert_memory_equal(f->shown, "hi", 2);
    out(&f->bench, 0xF4, 0x12345678, 4);
    assert_int_equal(f->bench.exit_value, 0x12345678);
    outb(&f->bench, 0xF4, 7);
    assert_int_equal(f->bench.exit_value, 7);
    assert_int_equal(inb(&f->bench, 0x505), 3);
    outb(&f->bench, 0x505, 0);
    assert_int_equal(f->bench.panics, 0);
    outb(&f->bench, 0x505, 1);
    assert_int_equal(f->bench.panics, 1);
    debug_ports_destroy(d);
    assert_int_equal(inb(&f->bench, 0xE9), 0xFF);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(it_is_recognized),
        TEST(files_are_found_through_the_directory),
        TEST(what_cannot_be_added_is_refused),
        TEST(dma_reads_skips_and_fills),
        TEST(dma_to_nowhere_is_an_error),
        TEST(debug_ports_tell_the_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
