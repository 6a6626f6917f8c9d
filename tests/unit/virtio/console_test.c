// SPDX-License-Identifier: Apache-2.0
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "driver.h"
#include "machine/virtio/virtio_console.h"

#define CONTROL_IN  2u
#define CONTROL_OUT 3u
#define AGENT_IN    4u
#define AGENT_OUT   5u

struct fixture {
    struct test_machine machine;
    struct test_driver driver;
    struct virtio_console *console;
    // The agent's back end.
    char output[4096];
    size_t output_length, room;
    atomic_uint wanted, opened;
};

static size_t take_output(void *context, const uint8_t *bytes, size_t length)
{
    struct fixture *f = context;
    size_t n = length < f->room ? length : f->room;
    memcpy(f->output + f->output_length, bytes, n);
    f->output_length += n;
    f->room -= n;
    return n;
}

static void input_wanted(void *context)
{
    struct fixture *f = context;
    atomic_fetch_add(&f->wanted, 1);
}

static void opened(void *context, bool open)
{
    struct fixture *f = context;
    atomic_store(&f->opened, open ? 1 : 2);
}

static const struct char_backend_ops backend_ops = {take_output, input_wanted};

static void init(struct fixture *f)
{
    struct err err;
    memset(f, 0, sizeof(*f));
    f->room = sizeof(f->output);
    test_machine_init(&f->machine, false);
    const struct virtio_console_port_params ports[2] = {
        {.name = "con", .console = true},
        {.name = "org.qemu.guest_agent.0",
         .backend = {&backend_ops, f},
         .opened = opened,
         .context = f},
    };
    struct virtio_console_params params = {.name = "console0", .ports = ports, .port_count = 2};
    f->console = virtio_console_create(&f->machine.environment, &params, &err);
    assert_non_null(f->console);
    test_driver_attach(&f->driver, &f->machine, virtio_console_device(f->console));
    test_driver_start(&f->driver, ~0ull, 32);
}

static void fini(struct fixture *f)
{
    pci_host_unplug(&virtio_console_device(f->console)->pci);
    virtio_console_destroy(f->console);
    test_machine_fini(&f->machine);
}

static uint64_t add_in(struct fixture *f, unsigned queue, unsigned head, uint32_t length)
{
    uint64_t at = test_alloc(&f->driver, length, 1);
    struct test_buffer buffer = {at, length, true};
    test_add(&f->driver, queue, head, &buffer, 1);
    return at;
}

static void control(struct fixture *f, uint32_t port, uint16_t event, uint16_t value)
{
    uint8_t bytes[8];
    store_le32(bytes, port);
    store_le16(bytes + 4, event);
    store_le16(bytes + 6, value);
    struct test_buffer buffer = {test_alloc(&f->driver, 8, 4), 8, false};
    test_store(&f->driver, buffer.at, bytes, 8);
    test_add(&f->driver, CONTROL_OUT, 0, &buffer, 1);
    test_notify(&f->driver, CONTROL_OUT);
    test_wait_used(&f->driver, CONTROL_OUT, NULL);
}

static void expect_control(struct fixture *f, const uint64_t *buffers, uint32_t port,
                           uint16_t event, uint16_t value, const char *name)
{
    uint8_t bytes[128] = {0};
    uint32_t length;
    assert_true(test_has_used(&f->driver, CONTROL_IN));
    unsigned head = test_wait_used(&f->driver, CONTROL_IN, &length);
    test_load(&f->driver, buffers[head], bytes, length);
    assert_int_equal(load_le32(bytes), port);
    assert_int_equal(load_le16(bytes + 4), event);
    assert_int_equal(load_le16(bytes + 6), value);
    assert_int_equal(length, 8 + strlen(name));
    assert_memory_equal(bytes + 8, name, strlen(name));
}

static void handshake(struct fixture *f)
{
    uint64_t buffers[16];
    for (unsigned i = 0; i < 16; i++)
        buffers[i] = add_in(f, CONTROL_IN, i, 128);
    test_notify(&f->driver, CONTROL_IN);
    control(f, 0, 0, 1);
    expect_control(f, buffers, 0, 1, 1, "");
    expect_control(f, buffers, 1, 1, 1, "");
    control(f, 0, 3, 1);
    expect_control(f, buffers, 0, 4, 1, "");
    expect_control(f, buffers, 0, 7, 1, "con");
    expect_control(f, buffers, 0, 6, 1, "");
    control(f, 1, 3, 1);
    expect_control(f, buffers, 1, 7, 1, "org.qemu.guest_agent.0");
    expect_control(f, buffers, 1, 6, 0, "");
    virtio_console_connect(f->console, 1, true);
    expect_control(f, buffers, 1, 6, 1, "");
    assert_false(test_has_used(&f->driver, CONTROL_IN));
}

static void ports_are_announced_with_their_names(void **state)
{
    struct fixture f;
    init(&f);
    assert_int_equal(test_read(&f.driver, f.driver.config + 4, 4), 2);
    handshake(&f);
    control(&f, 77, 3, 1); // a port that is not there
    fini(&f);
}

static void input_waits_until_the_port_is_open_and_has_buffers(void **state)
{
    struct fixture f;
    init(&f);
    handshake(&f);
    uint64_t at = add_in(&f, AGENT_IN, 0, 3);
    assert_int_equal(virtio_console_input(f.console, 1, (const uint8_t *)"hello", 5), 0);
    control(&f, 1, 6, 1);
    assert_int_equal(atomic_load(&f.opened), 1);
    assert_true(atomic_load(&f.wanted) >= 1);
    assert_int_equal(virtio_console_input(f.console, 1, (const uint8_t *)"hello", 5), 3);
    uint32_t length;
    char bytes[8] = {0};
    test_wait_used(&f.driver, AGENT_IN, &length);
    assert_int_equal(length, 3);
    test_load(&f.driver, at, bytes, 3);
    assert_string_equal(bytes, "hel");
    unsigned before = atomic_load(&f.wanted);
    add_in(&f, AGENT_IN, 1, 10);
    test_notify(&f.driver, AGENT_IN);
    assert_int_equal(atomic_load(&f.wanted), before + 1);
    assert_int_equal(virtio_console_input(f.console, 1, (const uint8_t *)"lo", 2), 2);
    control(&f, 1, 6, 0);
    assert_int_equal(atomic_load(&f.opened), 2);
    fini(&f);
}

static void put(struct fixture *f, unsigned head, const char *text)
{
    struct test_buffer buffer = {test_alloc(&f->driver, strlen(text), 1), (uint32_t)strlen(text),
                                 false};
    test_store(&f->driver, buffer.at, text, strlen(text));
    test_add(&f->driver, AGENT_OUT, head, &buffer, 1);
    test_notify(&f->driver, AGENT_OUT);
}

static void output_that_is_not_taken_waits_and_none_is_lost(void **state)
{
    struct fixture f;
    init(&f);
    handshake(&f);
    control(&f, 1, 6, 1);
    f.room = 4;
    put(&f, 0, "abcdef");
    put(&f, 1, "ghi");
    assert_int_equal(f.output_length, 4);
    assert_false(test_has_used(&f.driver, AGENT_OUT));
    f.room = 3;
    virtio_console_output_ready(f.console, 1);
    assert_int_equal(test_wait_used(&f.driver, AGENT_OUT, NULL), 0);
    assert_false(test_has_used(&f.driver, AGENT_OUT));
    f.room = 100;
    virtio_console_output_ready(f.console, 1);
    assert_int_equal(test_wait_used(&f.driver, AGENT_OUT, NULL), 1);
    assert_memory_equal(f.output, "abcdefghi", 9);
    assert_int_equal(f.output_length, 9);
    fini(&f);
}

static void output_to_nobody_is_dropped(void **state)
{
    struct fixture f;
    init(&f);
    put(&f, 0, "lost");
    assert_int_equal(test_wait_used(&f.driver, AGENT_OUT, NULL), 0);
    assert_int_equal(f.output_length, 0);
    fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ports_are_announced_with_their_names),
        cmocka_unit_test(input_waits_until_the_port_is_open_and_has_buffers),
        cmocka_unit_test(output_that_is_not_taken_waits_and_none_is_lost),
        cmocka_unit_test(output_to_nobody_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
