// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/crc32c.h"
#include "machine/state/state.h"

struct thing {
    struct device device;
    uint8_t a;
    uint16_t b[3];
    uint32_t c;
    uint64_t d;
    bool e;
    int outside; // no field
    unsigned loaded, saved;
};

static const struct field fields[] = {
    FIELD_U8_MAX(struct thing, a, 10),
    FIELD_U16S(struct thing, b),
    FIELD_RANGE(FIELD_TYPE_U32, struct thing, c, 1, 5, 100),
    FIELD_U64(struct thing, d),
    FIELD_BOOL(struct thing, e),
};

static int check(const void *device, struct err *err)
{
    const struct thing *t = device;
    return t->d == t->a ? err_set(err, ERR_INPUT, "a is d") : 0;
}

static void loaded(void *device)
{
    ((struct thing *)device)->loaded++;
}

static void save_begin(void *device)
{
    ((struct thing *)device)->saved++;
}

static const struct device_ops ops = {"thing", 3,     fields, ARRAY_LENGTH(fields),
                                      NULL,    check, loaded, save_begin};

static struct thing make(const char *name)
{
    return (struct thing){.device = {.ops = &ops, .name = name},
                          .a = 7,
                          .b = {1, 2, 65535},
                          .c = 50,
                          .d = 1ull << 60,
                          .e = true,
                          .outside = 5};
}

static int load(struct thing *t, const struct state_buffer *buffer, struct err *err)
{
    size_t used;
    t->device.self = t;
    return state_load_device(&t->device, buffer->bytes, buffer->length, &used, err);
}

static void save(struct thing *t, struct state_buffer *buffer)
{
    t->device.self = t;
    assert_int_equal(state_save_device(&t->device, buffer, NULL), 0);
}

static void reseal(struct state_buffer *buffer)
{
    store_le32(buffer->bytes + buffer->length - 4, crc32c(0, buffer->bytes, buffer->length - 4));
}

// Where the field's values stand.
static size_t value_at(const struct state_buffer *buffer, const char *name)
{
    for (size_t i = 0; i + strlen(name) < buffer->length; i++)
        if (buffer->bytes[i] == strlen(name) && !memcmp(buffer->bytes + i + 1, name, strlen(name)))
            return i + 1 + strlen(name) + 5;
    fail();
    return 0;
}

static void what_was_saved_is_loaded(void **state)
{
    struct state_buffer buffer = {0};
    struct thing a = make("x"), b = {.device = {.ops = &ops, .name = "x"}, .outside = 9};
    struct err err = {0};
    save(&a, &buffer);
    assert_int_equal(a.saved, 1);
    if (load(&b, &buffer, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(b.a, 7);
    assert_memory_equal(b.b, a.b, sizeof(a.b));
    assert_int_equal(b.c, 50);
    assert_int_equal(b.d, 1ull << 60);
    assert_true(b.e);
    assert_int_equal(b.outside, 9);
    assert_int_equal(b.loaded, 1);
    state_buffer_fini(&buffer);
}

static void every_flipped_bit_is_found(void **state)
{
    struct state_buffer buffer = {0};
    struct thing a = make("x"), b = make("x");
    save(&a, &buffer);
    for (size_t bit = 0; bit < buffer.length * 8; bit++) {
        buffer.bytes[bit / 8] ^= (uint8_t)BIT(bit % 8);
        assert_int_equal(load(&b, &buffer, NULL), -1);
        buffer.bytes[bit / 8] ^= (uint8_t)BIT(bit % 8);
    }
    assert_int_equal(b.loaded, 0);
    state_buffer_fini(&buffer);
}

static void every_truncation_is_found(void **state)
{
    struct state_buffer buffer = {0};
    struct thing a = make("x"), b = make("x");
    save(&a, &buffer);
    size_t whole = buffer.length;
    for (buffer.length = 0; buffer.length < whole; buffer.length++)
        assert_int_equal(load(&b, &buffer, NULL), -1);
    state_buffer_fini(&buffer);
}

static void values_out_of_range_change_nothing(void **state)
{
    static const struct {
        const char *field;
        uint8_t bytes[8];
        unsigned length;
    } bad[] = {{"a", {11}, 1},
               {"c", {4}, 1},
               {"c", {101}, 1},
               {"e", {2}, 1},
               {"d", {7, 0, 0, 0, 0, 0, 0, 0}, 8}};
    for (unsigned i = 0; i < ARRAY_LENGTH(bad); i++) {
        struct state_buffer buffer = {0};
        struct thing a = make("x"), b = make("x");
        b.c = 99;
        struct err err = {0};
        save(&a, &buffer);
        memcpy(buffer.bytes + value_at(&buffer, bad[i].field), bad[i].bytes, bad[i].length);
        reseal(&buffer);
        assert_int_equal(load(&b, &buffer, &err), -1);
        assert_int_equal(err.code, ERR_INPUT);
        assert_int_equal(b.c, 99);
        assert_int_equal(b.loaded, 0);
        state_buffer_fini(&buffer);
    }
}

static void another_device_or_version_is_refused(void **state)
{
    struct state_buffer buffer = {0};
    struct thing a = make("x"), b = make("y");
    struct err err = {0};
    save(&a, &buffer);
    assert_int_equal(load(&b, &buffer, &err), -1);
    static const struct device_ops newer = {"thing", 4,    fields, ARRAY_LENGTH(fields),
                                            NULL,    NULL, NULL,   NULL};
    struct thing c = make("x");
    c.device.ops = &newer;
    assert_int_equal(load(&c, &buffer, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    static const struct device_ops other = {"other", 3,    fields, ARRAY_LENGTH(fields),
                                            NULL,    NULL, NULL,   NULL};
    c.device.ops = &other;
    assert_int_equal(load(&c, &buffer, &err), -1);
    state_buffer_fini(&buffer);
}

static void unknown_missing_and_doubled_fields_are_refused(void **state)
{
    static const struct field other_fields[] = {
        FIELD_U8(struct thing, a), FIELD_U16S(struct thing, b), FIELD_U32(struct thing, c),
        FIELD_U64(struct thing, d), FIELD_U8(struct thing, outside)};
    static const struct field doubled[] = {FIELD_U8(struct thing, a), FIELD_U8(struct thing, a),
                                           FIELD_U32(struct thing, c), FIELD_U64(struct thing, d),
                                           FIELD_BOOL(struct thing, e)};
    static const struct field wider[] = {FIELD_U16(struct thing, a), FIELD_U16S(struct thing, b),
                                         FIELD_U32(struct thing, c), FIELD_U64(struct thing, d),
                                         FIELD_BOOL(struct thing, e)};
    static const struct device_ops writers[] = {
        {"thing", 3, other_fields, 5, NULL, NULL, NULL, NULL},
        {"thing", 3, other_fields, 4, NULL, NULL, NULL, NULL},
        {"thing", 3, doubled, 5, NULL, NULL, NULL, NULL},
        {"thing", 3, wider, 5, NULL, NULL, NULL, NULL},
    };
    for (unsigned i = 0; i < ARRAY_LENGTH(writers); i++) {
        struct state_buffer buffer = {0};
        struct thing a = make("x"), b = make("x");
        a.device.ops = &writers[i];
        save(&a, &buffer);
        assert_int_equal(load(&b, &buffer, NULL), -1);
        state_buffer_fini(&buffer);
    }
}

static void a_list_needs_each_device_once(void **state)
{
    struct thing a = make("a"), b = make("b");
    a.device.self = &a;
    b.device.self = &b;
    a.device.next = &b.device;
    struct state_buffer both = {0}, one = {0}, twice = {0};
    assert_int_equal(state_save_devices(&a.device, &both, NULL), 0);
    save(&b, &one);
    save(&b, &twice);
    save(&b, &twice);
    struct err err = {0};
    assert_int_equal(state_load_devices(&a.device, both.bytes, both.length, &err), 0);
    assert_int_equal(a.loaded + b.loaded, 2);
    assert_int_equal(state_load_devices(&a.device, one.bytes, one.length, &err), -1);
    assert_non_null(strstr(err.text, "missing"));
    assert_int_equal(state_load_devices(&a.device, twice.bytes, twice.length, &err), -1);
    assert_non_null(strstr(err.text, "twice"));
    assert_int_equal(state_load_devices(&b.device, both.bytes, both.length, &err), -1);
    assert_int_equal(state_load_devices(&a.device, both.bytes, both.length - 1, &err), -1);
    state_buffer_fini(&both);
    state_buffer_fini(&one);
    state_buffer_fini(&twice);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_saved_is_loaded),
        cmocka_unit_test(every_flipped_bit_is_found),
        cmocka_unit_test(every_truncation_is_found),
        cmocka_unit_test(values_out_of_range_change_nothing),
        cmocka_unit_test(another_device_or_version_is_refused),
        cmocka_unit_test(unknown_missing_and_doubled_fields_are_refused),
        cmocka_unit_test(a_list_needs_each_device_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
