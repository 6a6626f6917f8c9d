// SPDX-License-Identifier: Apache-2.0
#include "bench.h"
#include "machine/boot/acpi.h"
#include "machine/chip/acpi_pm.h"
#include "machine/device/memory_map.h"
#include <assert.h>

static_assert(ACPI_S5_TYPE == ACPI_PM_S5_TYPE, "the DSDT and the chip agree");

enum {
    STATUS = MAP_PORT_PM1_EVENT,
    ENABLE = STATUS + 2,
    CONTROL = MAP_PORT_PM1_CONTROL,
    GPE_STATUS = MAP_PORT_GPE0,
    GPE_ENABLE = GPE_STATUS + 2
};
#define SCI MAP_IRQ_SCI

struct fixture {
    struct bench bench;
    struct acpi_pm *pm;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    bench_init(&f->bench);
    f->pm = acpi_pm_create(f->bench.ports, f->bench.clock, bench_irq(&f->bench, SCI),
                           bench_events(&f->bench), &f->bench.err);
    assert_non_null(f->pm);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    acpi_pm_destroy(f->pm);
    bench_fini(&f->bench);
    free(f);
    return 0;
}

static void s5_powers_off_and_nothing_else_does(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(in(&f->bench, CONTROL, 2) & 1, 1); // always in ACPI mode
    for (unsigned type = 0; type < 8; type++)
        if (type != ACPI_PM_S5_TYPE)
            out(&f->bench, CONTROL, type << 10 | 1 << 13, 2);
    out(&f->bench, CONTROL, ACPI_PM_S5_TYPE << 10, 2); // without SLP_EN
    assert_int_equal(f->bench.power_offs, 0);
    out(&f->bench, CONTROL, ACPI_PM_S5_TYPE << 10 | 1 << 13, 2);
    assert_int_equal(f->bench.power_offs, 1);
    assert_int_equal(in(&f->bench, CONTROL, 2) & (1 << 13), 0); // write only
    outb(&f->bench, CONTROL + 1, (ACPI_PM_S5_TYPE << 10 | 1 << 13) >> 8);
    assert_int_equal(f->bench.power_offs, 2);
}

static void the_power_button_raises_the_sci_until_it_is_cleared(void **state)
{
    struct fixture *f = *state;
    acpi_pm_press_power_button(f->pm);
    assert_false(f->bench.level[SCI]);
    out(&f->bench, ENABLE, 0x100, 2);
    assert_true(f->bench.level[SCI]);
    assert_int_equal(in(&f->bench, STATUS, 2), 0x100);
    out(&f->bench, STATUS, 0xFEFF, 2);
    assert_true(f->bench.level[SCI]);
    out(&f->bench, STATUS, 0x100, 2);
    assert_false(f->bench.level[SCI]);
    assert_int_equal(in(&f->bench, ENABLE, 2), 0x100);
}

static void general_purpose_events_too(void **state)
{
    struct fixture *f = *state;
    out(&f->bench, GPE_ENABLE, 0x0002, 2);
    acpi_pm_raise_gpe(f->pm, 2);
    acpi_pm_raise_gpe(f->pm, 16);
    acpi_pm_raise_gpe(f->pm, 1000);
    assert_false(f->bench.level[SCI]);
    acpi_pm_raise_gpe(f->pm, 1);
    assert_true(f->bench.level[SCI]);
    assert_int_equal(in(&f->bench, GPE_STATUS, 4), 0x00020006);
    outb(&f->bench, GPE_STATUS, 2);
    assert_false(f->bench.level[SCI]);
    assert_int_equal(inb(&f->bench, GPE_STATUS), 4);
    outb(&f->bench, GPE_ENABLE, 4);
    assert_true(f->bench.level[SCI]);
}

static void the_timer_counts_and_tells_its_top_bit(void **state)
{
    struct fixture *f = *state;
    bench_pass(&f->bench, 1000000000);
    assert_int_equal(in(&f->bench, MAP_PORT_PM_TIMER, 4), 3579545);
    out(&f->bench, MAP_PORT_PM_TIMER, 0, 4);
    assert_int_equal(in(&f->bench, MAP_PORT_PM_TIMER, 4), 3579545);
    out(&f->bench, ENABLE, 1, 2);
    bench_pass(&f->bench, 600ull * 1000000000); // 2^31 ticks are 599.9 s
    assert_true(f->bench.level[SCI]);
    out(&f->bench, STATUS, 1, 2);
    assert_false(f->bench.level[SCI]);
    bench_pass(&f->bench, 600ull * 1000000000);
    assert_int_equal(f->bench.edges[SCI], 2);
}

static void the_reset_register_wants_an_edge(void **state)
{
    struct fixture *f = *state;
    acpi_pm_reset_control(f->pm, 0x02);
    assert_int_equal(f->bench.resets, 0);
    acpi_pm_reset_control(f->pm, 0x06);
    acpi_pm_reset_control(f->pm, 0x06);
    assert_int_equal(f->bench.resets, 1);
    acpi_pm_reset_control(f->pm, 0x00);
    acpi_pm_reset_control(f->pm, 0x0E);
    assert_int_equal(f->bench.resets, 2);
}

static void port_92_resets_and_keeps_a20(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(inb(&f->bench, 0x92), 2);
    outb(&f->bench, 0x92, 0);
    assert_int_equal(inb(&f->bench, 0x92), 0);
    assert_int_equal(f->bench.resets, 0);
    outb(&f->bench, 0x92, 3);
    outb(&f->bench, 0x92, 3);
    assert_int_equal(f->bench.resets, 1);
}

static void reset_forgets_events(void **state)
{
    struct fixture *f = *state;
    out(&f->bench, ENABLE, 0x100, 2);
    acpi_pm_press_power_button(f->pm);
    struct device *device = acpi_pm_device(f->pm);
    device->ops->reset(device->self);
    assert_false(f->bench.level[SCI]);
    assert_int_equal(in(&f->bench, STATUS, 4), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(s5_powers_off_and_nothing_else_does),
        TEST(the_power_button_raises_the_sci_until_it_is_cleared),
        TEST(general_purpose_events_too),
        TEST(the_timer_counts_and_tells_its_top_bit),
        TEST(the_reset_register_wants_an_edge),
        TEST(port_92_resets_and_keeps_a20),
        TEST(reset_forgets_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
