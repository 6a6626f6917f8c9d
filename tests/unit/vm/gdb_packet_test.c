// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "machine/vm/gdb_packet.h"
#include "machine/vm/gdb_registers.h"

static enum gdb_event feed(struct gdb_input *input, const char *bytes)
{
    enum gdb_event event = GDB_NOTHING;
    for (; *bytes; bytes++)
        event = gdb_input_byte(input, *bytes);
    return event;
}

static void a_packet_with_its_sum_is_taken(void **state)
{
    static struct gdb_input input;
    assert_int_equal(feed(&input, "+$m0,4#fd"), GDB_PACKET);
    assert_string_equal(input.text, "m0,4");
}

static void a_wrong_sum_is_refused_and_the_next_packet_taken(void **state)
{
    static struct gdb_input input;
    assert_int_equal(feed(&input, "$m0,4#fe"), GDB_BAD_PACKET);
    assert_int_equal(feed(&input, "$m0,4#zz"), GDB_NOTHING);
    assert_int_equal(feed(&input, "$?#3f"), GDB_PACKET);
    assert_string_equal(input.text, "?");
}

static void an_endless_packet_is_refused(void **state)
{
    static struct gdb_input input;
    enum gdb_event event = gdb_input_byte(&input, '$');
    for (unsigned i = 0; i < GDB_TEXT_BYTES && event == GDB_NOTHING; i++)
        event = gdb_input_byte(&input, 'a');
    assert_int_equal(event, GDB_NOTHING);
    assert_int_equal(gdb_input_byte(&input, 'a'), GDB_BAD_PACKET);
    assert_int_equal(feed(&input, "$?#3f"), GDB_PACKET);
}

static void the_interrupt_byte_is_no_packet(void **state)
{
    static struct gdb_input input;
    assert_int_equal(gdb_input_byte(&input, 3), GDB_INTERRUPT);
}

static void a_frame_is_read_back(void **state)
{
    static struct gdb_output output;
    static struct gdb_input input;
    char frame[GDB_TEXT_BYTES + 5];
    gdb_put(&output, "m");
    gdb_put_bytes(&output, "\x01\xfe", 2);
    frame[gdb_frame(&output, frame)] = 0;
    assert_int_equal(feed(&input, frame), GDB_PACKET);
    assert_string_equal(input.text, "m01fe");
}

static void too_long_an_answer_is_noticed(void **state)
{
    static struct gdb_output output;
    for (unsigned i = 0; i < GDB_TEXT_BYTES; i++)
        gdb_put(&output, "x");
    assert_false(output.overflow);
    gdb_put(&output, "x");
    assert_true(output.overflow);
}

static void numbers_end_where_their_digits_end(void **state)
{
    const char *text = "10,ffffffffffffffff,1ffffffffffffffff";
    uint64_t value;
    assert_true(gdb_take_number(&text, &value) && value == 0x10 && gdb_take_char(&text, ','));
    assert_true(gdb_take_number(&text, &value) && value == UINT64_MAX && gdb_take_char(&text, ','));
    assert_false(gdb_take_number(&text, &value)); // more than 64 bits
}

static void every_register_is_written_and_read_back_or_kept(void **state)
{
    static struct cpu_state cpu;
    uint8_t value[GDB_REGISTER_BYTES_MAX], before[GDB_REGISTER_BYTES_MAX],
        after[GDB_REGISTER_BYTES_MAX];
    for (unsigned i = 0; i < gdb_register_count(); i++) {
        gdb_register_read(&cpu, i, before);
        memset(value, 0x52 + (int)i % 8, sizeof(value));
        gdb_register_write(&cpu, i, value);
        gdb_register_read(&cpu, i, after);
        bool kept = !memcmp(before, after, gdb_register_bytes(i));
        unsigned stored =
            gdb_register_bytes(i) == 4 ? 2 : gdb_register_bytes(i); // control words of 16 bits
        assert_true(kept || !memcmp(value, after, stored));
    }
    assert_int_equal(cpu.cr3, 0);
    assert_int_equal(cpu.segment[SEG_CS].selector, 0);
}

static void the_description_names_every_register(void **state)
{
    const char *at = gdb_target_xml();
    unsigned count = 0;
    while ((at = strstr(at, "<reg ")) != NULL) {
        at++;
        count++;
    }
    assert_int_equal(count, gdb_register_count());
    assert_non_null(strstr(gdb_target_xml(), "</target>"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_packet_with_its_sum_is_taken),
        cmocka_unit_test(a_wrong_sum_is_refused_and_the_next_packet_taken),
        cmocka_unit_test(an_endless_packet_is_refused),
        cmocka_unit_test(the_interrupt_byte_is_no_packet),
        cmocka_unit_test(a_frame_is_read_back),
        cmocka_unit_test(too_long_an_answer_is_noticed),
        cmocka_unit_test(numbers_end_where_their_digits_end),
        cmocka_unit_test(every_register_is_written_and_read_back_or_kept),
        cmocka_unit_test(the_description_names_every_register),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
