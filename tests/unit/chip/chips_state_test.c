// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "all_chips.h"
#include "machine/state/state.h"

#define ROUNDS 60
#define STEPS  2000

static uint64_t random_state;

static void random_bytes(uint8_t bytes[8])
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    uint64_t mixed = random_state ^ random_state >> 29;
    memcpy(bytes, &mixed, 8);
}

static void traffic(struct all_chips *chips, unsigned steps)
{
    uint8_t bytes[8];
    while (steps--) {
        random_bytes(bytes);
        all_chips_step(chips, bytes);
    }
}

static void assert_same(const struct state_buffer *a, const struct state_buffer *b)
{
    assert_int_equal(a->length, b->length);
    assert_memory_equal(a->bytes, b->bytes, a->length);
}

// The other machine's clock stands where this one's does, as it does when a machine is loaded.
static void set_clock(struct all_chips *to, const struct all_chips *from)
{
    vm_clock_pause(to->clock);
    vm_clock_set_ns(to->clock, vm_clock_now_ns(from->clock));
    vm_clock_resume(to->clock);
}

static void loaded_chips_are_the_saved_ones(void **state)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct all_chips a, b;
        struct state_buffer saved = {0}, again = {0};
        struct err err = {0};
        random_state = round;
        all_chips_init(&a);
        all_chips_init(&b);
        traffic(&a, STEPS);
        traffic(&b, STEPS / 2); // something else was there
        set_clock(&b, &a);
        assert_int_equal(state_save_devices(a.devices, &saved, &err), 0);
        if (state_load_devices(b.devices, saved.bytes, saved.length, &err) != 0)
            fail_msg("round %u: %s", round, err.text);
        assert_int_equal(state_save_devices(b.devices, &again, &err), 0);
        assert_same(&saved, &again);
        state_buffer_fini(&saved);
        state_buffer_fini(&again);
        all_chips_fini(&a);
        all_chips_fini(&b);
    }
}

// Nothing that the guest could see is left out of the tables: both machines go on alike.
static void loaded_chips_go_on_alike(void **state)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct all_chips a, b;
        struct state_buffer saved = {0}, after_a = {0}, after_b = {0};
        struct err err = {0};
        random_state = 1000 + round;
        all_chips_init(&a);
        all_chips_init(&b);
        traffic(&a, STEPS);
        set_clock(&b, &a);
        assert_int_equal(state_save_devices(a.devices, &saved, &err), 0);
        assert_int_equal(state_load_devices(b.devices, saved.bytes, saved.length, &err), 0);
        // The guest's memory is not part of this: DMA control structures are all zeroes in both.
        uint64_t seed = random_state;
        a.digest = b.digest = 0; // loading drove lines
        traffic(&a, STEPS);
        random_state = seed;
        traffic(&b, STEPS);
        assert_int_equal(state_save_devices(a.devices, &after_a, &err), 0);
        assert_int_equal(state_save_devices(b.devices, &after_b, &err), 0);
        assert_same(&after_a, &after_b);
        assert_true(a.digest == b.digest);
        state_buffer_fini(&saved);
        state_buffer_fini(&after_a);
        state_buffer_fini(&after_b);
        all_chips_fini(&a);
        all_chips_fini(&b);
    }
}

static void reset_chips_are_like_new_ones(void **state)
{
    struct all_chips a;
    random_state = 4711;
    all_chips_init(&a);
    for (struct device *d = a.devices; d; d = d->next) {
        struct state_buffer fresh = {0}, after = {0};
        // The others keep a clock's phase, the levels of lines that are not theirs, or old bytes in
        // empty queues.
        bool all_reset = !strcmp(d->ops->kind, "hpet") || !strcmp(d->ops->kind, "pit") ||
                         !strcmp(d->ops->kind, "fw-cfg");
        d->ops->reset(d->self);
        assert_int_equal(state_save_device(d, &fresh, NULL), 0);
        traffic(&a, STEPS);
        d->ops->reset(d->self);
        assert_int_equal(state_save_device(d, &after, NULL), 0);
        if (all_reset)
            assert_same(&fresh, &after);
        state_buffer_fini(&fresh);
        state_buffer_fini(&after);
    }
    all_chips_fini(&a);
}

static void traffic_does_not_grow_the_process(void **state)
{
    struct all_chips a;
    random_state = 815;
    all_chips_init(&a);
    traffic(&a, 200000);
    all_chips_fini(&a); // the sanitizer build sees leaks
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loaded_chips_are_the_saved_ones),
        cmocka_unit_test(loaded_chips_go_on_alike),
        cmocka_unit_test(reset_chips_are_like_new_ones),
        cmocka_unit_test(traffic_does_not_grow_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
