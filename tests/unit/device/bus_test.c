// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/device/bus.h"

// A device that is memory and notes its accesses.
struct probe {
    uint8_t bytes[64];
    unsigned accesses;
    uint64_t offset;
    unsigned size;
};

static uint64_t probe_read(void *device, uint64_t offset, unsigned size)
{
    struct probe *p = device;
    uint64_t value = 0;
    memcpy(&value, p->bytes + offset, size);
    p->accesses++;
    p->offset = offset;
    p->size = size;
    return value | (size < 8 ? ~0ull << (size * 8) : 0); // what lies above is dropped by the bus
}

static void probe_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
    struct probe *p = device;
    memcpy(p->bytes + offset, &value, size);
    p->accesses++;
    p->offset = offset;
    p->size = size;
}

static const struct bus_ops any_size = {probe_read, probe_write, 0, 0};
static const struct bus_ops bytes_only = {probe_read, probe_write, 1, 1};
static const struct bus_ops dwords_only = {probe_read, probe_write, 4, 4};
static const struct bus_ops silent = {NULL, NULL, 0, 0};

static struct bus_range range_of(const struct bus_ops *ops, struct probe *p, uint64_t start,
                                 uint64_t length)
{
    return (struct bus_range){
        .name = "probe", .start = start, .length = length, .ops = ops, .device = p};
}

static uint64_t read_at(struct bus *bus, uint64_t address, unsigned size)
{
    uint64_t value = 0;
    bus_read(bus, address, size, &value);
    return value;
}

static void nobody_reads_as_ones(void **state)
{
    struct bus *bus = bus_create(BUS_MMIO);
    uint64_t value = 0;
    assert_false(bus_read(bus, 0x1000, 2, &value));
    assert_int_equal(value, 0xFFFF);
    assert_false(bus_read(bus, UINT64_MAX - 3, 8, &value));
    assert_int_equal(value, UINT64_MAX);
    assert_false(bus_write(bus, 0x1000, 0, 8));
    bus_destroy(bus);
}

static void overlaps_and_impossible_places_are_refused(void **state)
{
    struct bus *bus = bus_create(BUS_PORT);
    struct err err = {0};
    struct probe p = {0};
    struct bus_range first = range_of(&any_size, &p, 0x100, 8);
    assert_int_equal(bus_add(bus, &first, &err), 0);
    static const uint64_t bad[][2] = {{0x100, 8},   {0xFF, 2},  {0x107, 1},
                                      {0xF0, 0x40}, {0x102, 2}, {0xFFFF, 2},
                                      {0x10000, 1}, {0x200, 0}, {UINT64_MAX, 2}};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct bus_range r = range_of(&any_size, &p, bad[i][0], bad[i][1]);
        assert_int_equal(bus_add(bus, &r, &err), -1);
    }
    struct bus_range before = range_of(&any_size, &p, 0xFF, 1),
                     after = range_of(&any_size, &p, 0x108, 1);
    assert_int_equal(bus_add(bus, &before, &err), 0);
    assert_int_equal(bus_add(bus, &after, &err), 0);
    bus_remove(bus, &first);
    assert_int_equal(bus_add(bus, &first, &err), 0);
    bus_destroy(bus);
}

static void one_access_fits_the_device(void **state)
{
    struct bus *bus = bus_create(BUS_MMIO);
    struct probe p = {.bytes = {1, 2, 3, 4, 5, 6, 7, 8}};
    struct bus_range r = range_of(&any_size, &p, 0x1000, 64);
    assert_int_equal(bus_add(bus, &r, NULL), 0);
    assert_int_equal(read_at(bus, 0x1000, 8), 0x0807060504030201);
    assert_int_equal(p.accesses, 1);
    assert_int_equal(read_at(bus, 0x1002, 2), 0x0403);
    assert_int_equal(p.offset, 2);
    bus_destroy(bus);
}

static void unaligned_and_wide_accesses_are_cut(void **state)
{
    struct bus *bus = bus_create(BUS_MMIO);
    struct probe p = {.bytes = {1, 2, 3, 4, 5, 6, 7, 8}};
    struct bus_range r = range_of(&any_size, &p, 0x1000, 64);
    assert_int_equal(bus_add(bus, &r, NULL), 0);
    assert_int_equal(read_at(bus, 0x1001, 4), 0x05040302); // 1, 2, 1
    assert_int_equal(p.accesses, 3);
    bus_remove(bus, &r);
    r.ops = &bytes_only;
    p.accesses = 0;
    assert_int_equal(bus_add(bus, &r, NULL), 0);
    assert_true(bus_write(bus, 0x1008, 0x1122334455667788, 8));
    assert_int_equal(p.accesses, 8);
    assert_int_equal(p.bytes[8], 0x88);
    assert_int_equal(p.bytes[15], 0x11);
    bus_destroy(bus);
}

static void narrow_accesses_are_widened(void **state)
{
    struct bus *bus = bus_create(BUS_MMIO);
    struct probe p = {.bytes = {1, 2, 3, 4, 5, 6, 7, 8}};
    struct bus_range r = range_of(&dwords_only, &p, 0x1000, 64);
    assert_int_equal(bus_add(bus, &r, NULL), 0);
    assert_int_equal(read_at(bus, 0x1006, 1), 7);
    assert_int_equal(p.offset, 4);
    assert_int_equal(p.size, 4);
    assert_true(bus_write(bus, 0x1006, 0xAABB, 2));
    static const uint8_t expected[] = {1, 2, 3, 4, 0, 0, 0xBB, 0xAA};
    assert_memory_equal(p.bytes, expected, 8);
    bus_destroy(bus);
}

static void an_access_across_an_end_is_shared(void **state)
{
    struct bus *bus = bus_create(BUS_PORT);
    struct probe a = {.bytes = {1, 2, 3, 4}}, b = {.bytes = {5, 6, 7, 8}};
    struct bus_range ra = range_of(&any_size, &a, 0x10, 4), rb = range_of(&any_size, &b, 0x14, 4);
    assert_int_equal(bus_add(bus, &ra, NULL), 0);
    assert_int_equal(bus_add(bus, &rb, NULL), 0);
    assert_int_equal(read_at(bus, 0x12, 4), 0x06050403);
    assert_int_equal(read_at(bus, 0x16, 4), 0xFFFF0807);
    assert_int_equal(read_at(bus, 0x0E, 4), 0x0201FFFF);
    assert_true(bus_write(bus, 0x13, 0x2211, 2));
    assert_int_equal(a.bytes[3], 0x11);
    assert_int_equal(b.bytes[0], 0x22);
    bus_destroy(bus);
}

static void missing_handlers_are_ones_and_nothing(void **state)
{
    struct bus *bus = bus_create(BUS_PORT);
    struct bus_range r = range_of(&silent, NULL, 0x80, 1);
    assert_int_equal(bus_add(bus, &r, NULL), 0);
    uint64_t value;
    assert_true(bus_read(bus, 0x80, 1, &value));
    assert_int_equal(value, 0xFF);
    assert_true(bus_write(bus, 0x80, 1, 1));
    bus_destroy(bus);
}

struct seen {
    unsigned calls;
    const struct bus_range *range;
    uint64_t value;
    bool write;
};

static void see(void *context, const struct bus_range *range, uint64_t address, unsigned size,
                bool write, uint64_t value)
{
    struct seen *s = context;
    *s = (struct seen){s->calls + 1, range, value, write};
}

static void the_hook_sees_each_piece(void **state)
{
    struct bus *bus = bus_create(BUS_PORT);
    struct probe p = {.bytes = {0x5A}};
    struct seen s = {0};
    struct bus_range r = range_of(&any_size, &p, 0x80, 1);
    assert_int_equal(bus_add(bus, &r, NULL), 0);
    bus_set_trace(bus, see, &s);
    read_at(bus, 0x80, 1);
    assert_ptr_equal(s.range, &r);
    assert_int_equal(s.value, 0x5A);
    bus_write(bus, 0x90, 0x1FF, 1);
    assert_int_equal(s.calls, 2);
    assert_null(s.range);
    assert_true(s.write);
    assert_int_equal(s.value, 0xFF);
    bus_destroy(bus);
}

// A handler that stays until it is let go.
struct gate {
    struct bus *bus;
    struct bus_range range;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool entered, open, finished;
    bool removes_itself;
};

static uint64_t gate_read(void *device, uint64_t offset, unsigned size)
{
    struct gate *g = device;
    if (offset == 1)
        return 0; // still there
    if (g->removes_itself)
        bus_remove(g->bus, &g->range);
    pthread_mutex_lock(&g->lock);
    g->entered = true;
    pthread_cond_broadcast(&g->changed);
    while (!g->open)
        pthread_cond_wait(&g->changed, &g->lock);
    g->finished = true;
    pthread_mutex_unlock(&g->lock);
    return 0x42;
}

static const struct bus_ops gate_ops = {gate_read, NULL, 1, 1};

static void *reader(void *argument)
{
    struct gate *g = argument;
    return (void *)(uintptr_t)read_at(g->bus, 0x100, 1);
}

static void *opener(void *argument)
{
    struct gate *g = argument;
    // Once the range is gone from the bus, remove waits for the handler.
    while (read_at(g->bus, 0x101, 1) != 0xFF)
        sched_yield();
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

static void removal_waits_for_running_handlers(void **state)
{
    struct gate g = {.bus = bus_create(BUS_PORT),
                     .lock = PTHREAD_MUTEX_INITIALIZER,
                     .changed = PTHREAD_COND_INITIALIZER};
    g.range = (struct bus_range){
        .name = "gate", .start = 0x100, .length = 2, .ops = &gate_ops, .device = &g};
    assert_int_equal(bus_add(g.bus, &g.range, NULL), 0);
    pthread_t a, b;
    pthread_create(&a, NULL, reader, &g);
    pthread_mutex_lock(&g.lock);
    while (!g.entered)
        pthread_cond_wait(&g.changed, &g.lock);
    pthread_mutex_unlock(&g.lock);
    pthread_create(&b, NULL, opener, &g);
    bus_remove(g.bus, &g.range);
    assert_true(g.finished);
    assert_int_equal(g.range.running, 0);
    void *value;
    pthread_join(a, &value);
    pthread_join(b, NULL);
    assert_int_equal((uintptr_t)value, 0x42);
    assert_int_equal(read_at(g.bus, 0x100, 1), 0xFF);
    bus_destroy(g.bus);
}

static void a_handler_may_remove_its_own_range(void **state)
{
    struct gate g = {.bus = bus_create(BUS_PORT),
                     .lock = PTHREAD_MUTEX_INITIALIZER,
                     .changed = PTHREAD_COND_INITIALIZER,
                     .removes_itself = true,
                     .open = true};
    g.range = (struct bus_range){
        .name = "gate", .start = 0x100, .length = 2, .ops = &gate_ops, .device = &g};
    assert_int_equal(bus_add(g.bus, &g.range, NULL), 0);
    assert_int_equal(read_at(g.bus, 0x100, 1), 0x42);
    assert_false(g.range.linked);
    assert_int_equal(g.range.running, 0);
    bus_remove(g.bus, &g.range); // again: nothing to do
    bus_destroy(g.bus);
}

static void *hammer(void *argument)
{
    struct bus *bus = argument;
    for (unsigned i = 0; i < 20000; i++)
        read_at(bus, 0x10, 1);
    return NULL;
}

// The range is freed right after its removal: the sanitizer would see a late touch.
static void ranges_come_and_go_under_load(void **state)
{
    struct bus *bus = bus_create(BUS_PORT);
    static struct probe p;
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, hammer, bus);
    for (unsigned i = 0; i < 2000; i++) {
        struct bus_range *r = malloc(sizeof(*r));
        *r = range_of(&any_size, &p, 0x10, 1);
        assert_int_equal(bus_add(bus, r, NULL), 0);
        bus_remove(bus, r);
        assert_int_equal(r->running, 0);
        memset(r, 0xAA, sizeof(*r));
        free(r);
    }
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    bus_destroy(bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_reads_as_ones),
        cmocka_unit_test(overlaps_and_impossible_places_are_refused),
        cmocka_unit_test(one_access_fits_the_device),
        cmocka_unit_test(unaligned_and_wide_accesses_are_cut),
        cmocka_unit_test(narrow_accesses_are_widened),
        cmocka_unit_test(an_access_across_an_end_is_shared),
        cmocka_unit_test(missing_handlers_are_ones_and_nothing),
        cmocka_unit_test(the_hook_sees_each_piece),
        cmocka_unit_test(removal_waits_for_running_handlers),
        cmocka_unit_test(a_handler_may_remove_its_own_range),
        cmocka_unit_test(ranges_come_and_go_under_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
