// SPDX-License-Identifier: Apache-2.0
//
// Saving walks the table; loading walks the bytes with a cursor that knows what remains, looks each
// field up in the table, and decodes into a scratch copy of the device's struct. Only when
// everything was good the fields, and nothing else, are copied to the device.
#include "machine/state/state.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/crc32c.h"

#define SECTION_MAGIC 0x56454457u // "WDEV"
#define HEAD_BYTES    8u          // magic and length
#define CRC_BYTES     4u

static const uint8_t type_bytes[] = {1, 2, 4, 8, 1};
static_assert(ARRAY_LENGTH(type_bytes) == FIELD_TYPE_COUNT, "a size for each type");

// ---- Writing

void state_buffer_fini(struct state_buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct state_buffer){0};
}

static int reserve(struct state_buffer *buffer, size_t more, struct err *err)
{
    if (more <= buffer->capacity - buffer->length)
        return 0;
    size_t capacity = (buffer->length + more) * 2;
    uint8_t *bytes = realloc(buffer->bytes, capacity);
    if (!bytes)
        return err_set(err, ERR_LIMIT, "no memory");
    buffer->bytes = bytes;
    buffer->capacity = capacity;
    return 0;
}

// The room was reserved.
static void put(struct state_buffer *buffer, const void *bytes, size_t length)
{
    memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
}

static void put_u32(struct state_buffer *buffer, uint32_t value)
{
    put(buffer, &value, sizeof(value));
}

static void put_name(struct state_buffer *buffer, const char *name)
{
    size_t length = strlen(name);
    assert(length < STATE_NAME_BYTES);
    uint8_t byte = (uint8_t)length;
    put(buffer, &byte, 1);
    put(buffer, name, length);
}

static size_t field_bytes(const struct field *field)
{
    return (size_t)field->count * type_bytes[field->type];
}

static size_t section_bytes(const struct device *device)
{
    const struct device_ops *ops = device->ops;
    size_t bytes = HEAD_BYTES + 1 + strlen(ops->kind) + 1 + strlen(device->name) + 8 + CRC_BYTES;
    for (size_t i = 0; i < ops->field_count; i++)
        bytes += 1 + strlen(ops->fields[i].name) + 1 + 4 + field_bytes(&ops->fields[i]);
    return bytes;
}

int state_save_device(const struct device *device, struct state_buffer *buffer, struct err *err)
{
    const struct device_ops *ops = device->ops;
    size_t start = buffer->length, bytes = section_bytes(device);
    if (bytes > UINT32_MAX || reserve(buffer, bytes, err) != 0)
        return err_wrap(err, "cannot save %s", device->name);
    if (ops->save_begin)
        ops->save_begin(device->self);
    put_u32(buffer, SECTION_MAGIC);
    put_u32(buffer, (uint32_t)bytes);
    put_name(buffer, ops->kind);
    put_name(buffer, device->name);
    put_u32(buffer, ops->version);
    put_u32(buffer, (uint32_t)ops->field_count);
    for (size_t i = 0; i < ops->field_count; i++) {
        const struct field *field = &ops->fields[i];
        uint8_t type = (uint8_t)field->type;
        put_name(buffer, field->name);
        put(buffer, &type, 1);
        put_u32(buffer, field->count);
        put(buffer, (const uint8_t *)device->self + field->offset, field_bytes(field));
    }
    put_u32(buffer, crc32c(0, buffer->bytes + start, buffer->length - start));
    assert(buffer->length - start == bytes);
    return 0;
}

// ---- Reading

struct cursor {
    const uint8_t *at;
    size_t left;
};

static const uint8_t *take(struct cursor *cursor, size_t length)
{
    if (length > cursor->left)
        return NULL;
    const uint8_t *at = cursor->at;
    cursor->at += length;
    cursor->left -= length;
    return at;
}

static bool take_u32(struct cursor *cursor, uint32_t *value)
{
    const uint8_t *at = take(cursor, 4);
    if (at)
        *value = load_le32(at);
    return at;
}

// A name is made of printable characters and is not empty.
static bool take_name(struct cursor *cursor, char name[STATE_NAME_BYTES])
{
    const uint8_t *length = take(cursor, 1), *bytes = length ? take(cursor, *length) : NULL;
    if (!bytes || !*length)
        return false;
    for (unsigned i = 0; i < *length; i++) {
        if (bytes[i] <= ' ' || bytes[i] > '~')
            return false;
        name[i] = (char)bytes[i];
    }
    name[*length] = 0;
    return true;
}

// The frame: magic, length, checksum, names. The cursor is left at the field count, without the
// checksum.
static int open_section(const uint8_t *bytes, size_t length, struct state_section *section,
                        struct cursor *cursor, struct err *err)
{
    uint32_t magic = 0, size = 0;
    *cursor = (struct cursor){bytes, length};
    if (!take_u32(cursor, &magic) || !take_u32(cursor, &size) || magic != SECTION_MAGIC)
        return err_set(err, ERR_INPUT, "this is no section of a saved machine");
    if (size > length || size < HEAD_BYTES + CRC_BYTES)
        return err_set(err, ERR_INPUT, "a section of a saved machine is cut off");
    if (crc32c(0, bytes, size - CRC_BYTES) != load_le32(bytes + size - CRC_BYTES))
        return err_set(err, ERR_INPUT,
                       "a section of a saved machine is damaged: its checksum is wrong");
    cursor->left = size - HEAD_BYTES - CRC_BYTES;
    section->length = size;
    if (!take_name(cursor, section->kind) || !take_name(cursor, section->name) ||
        !take_u32(cursor, &section->version))
        return err_set(err, ERR_INPUT, "a section of a saved machine has no proper head");
    return 0;
}

int state_read_section(const uint8_t *bytes, size_t length, struct state_section *section,
                       struct err *err)
{
    struct cursor cursor;
    return open_section(bytes, length, section, &cursor, err);
}

static const struct field *find_field(const struct device_ops *ops, const char *name)
{
    for (size_t i = 0; i < ops->field_count; i++)
        if (!strcmp(ops->fields[i].name, name))
            return &ops->fields[i];
    return NULL;
}

static uint64_t element(const struct field *field, const uint8_t *values, uint32_t index)
{
    uint64_t value = 0;
    memcpy(&value, values + (size_t)index * type_bytes[field->type], type_bytes[field->type]);
    return value;
}

static int check_values(const struct field *field, const uint8_t *values, struct err *err)
{
    uint64_t max = field->type == FIELD_TYPE_BOOL ? 1 : field->max,
             min = field->type == FIELD_TYPE_BOOL ? 0 : field->min;
    for (uint32_t i = 0; i < field->count; i++) {
        uint64_t value = element(field, values, i);
        if (value < min || value > max)
            return err_set(err, ERR_INPUT, "field %s[%u] is %llu, not from %llu to %llu",
                           field->name, i, (unsigned long long)value, (unsigned long long)min,
                           (unsigned long long)max);
    }
    return 0;
}

// One field into the scratch copy; marks it as seen.
static int load_field(const struct device_ops *ops, struct cursor *cursor, uint8_t *scratch,
                      bool *seen, struct err *err)
{
    char name[STATE_NAME_BYTES];
    uint32_t count = 0;
    const uint8_t *type = NULL;
    if (!take_name(cursor, name) || !(type = take(cursor, 1)) || !take_u32(cursor, &count))
        return err_set(err, ERR_INPUT, "a field is cut off");
    const struct field *field = find_field(ops, name);
    if (!field)
        return err_set(err, ERR_INPUT, "field %s is not known here", name);
    if (*type != field->type || count != field->count)
        return err_set(err, ERR_INPUT, "field %s has another type or length here", name);
    if (seen[field - ops->fields])
        return err_set(err, ERR_INPUT, "field %s is there twice", name);
    const uint8_t *values = take(cursor, field_bytes(field));
    if (!values)
        return err_set(err, ERR_INPUT, "field %s is cut off", name);
    if (check_values(field, values, err) != 0)
        return -1;
    seen[field - ops->fields] = true;
    memcpy(scratch + field->offset, values, field_bytes(field));
    return 0;
}

static int load_fields(const struct device_ops *ops, struct cursor *cursor, uint8_t *scratch,
                       bool *seen, struct err *err)
{
    uint32_t count = 0;
    if (!take_u32(cursor, &count) || count != ops->field_count)
        return err_set(err, ERR_INPUT, "%u fields where there are %zu", count, ops->field_count);
    for (uint32_t i = 0; i < count; i++)
        if (load_field(ops, cursor, scratch, seen, err) != 0)
            return -1;
    if (cursor->left)
        return err_set(err, ERR_INPUT, "%zu bytes behind the last field", cursor->left);
    return ops->check ? ops->check(scratch, err) : 0;
}

static size_t extent(const struct device_ops *ops)
{
    size_t end = 1;
    for (size_t i = 0; i < ops->field_count; i++)
        if (ops->fields[i].offset + field_bytes(&ops->fields[i]) > end)
            end = ops->fields[i].offset + field_bytes(&ops->fields[i]);
    return end;
}

static int load_section(struct device *device, const struct state_section *section,
                        struct cursor *cursor, struct err *err)
{
    const struct device_ops *ops = device->ops;
    if (strcmp(section->kind, ops->kind) != 0 || strcmp(section->name, device->name) != 0)
        return err_set(err, ERR_INPUT, "the section is that of %s \"%s\"", section->kind,
                       section->name);
    if (section->version != ops->version)
        return err_set(err, ERR_UNSUPPORTED, "the section has version %u, and here it is %u",
                       section->version, ops->version);
    size_t size = extent(ops);
    uint8_t *scratch = malloc(size);
    bool *seen = calloc(ops->field_count + 1, sizeof(*seen));
    int rc = -1;
    if (!scratch || !seen) {
        err_set(err, ERR_LIMIT, "no memory");
        goto out;
    }
    memcpy(scratch, device->self, size);
    rc = load_fields(ops, cursor, scratch, seen, err);
    if (rc != 0)
        goto out;
    for (size_t i = 0; i < ops->field_count; i++)
        memcpy((uint8_t *)device->self + ops->fields[i].offset, scratch + ops->fields[i].offset,
               field_bytes(&ops->fields[i]));
    if (ops->loaded)
        ops->loaded(device->self);
out:
    free(scratch);
    free(seen);
    return rc;
}

int state_load_device(struct device *device, const uint8_t *bytes, size_t length, size_t *used,
                      struct err *err)
{
    struct state_section section = {.length = 0};
    struct cursor cursor;
    if (open_section(bytes, length, &section, &cursor, err) != 0 ||
        load_section(device, &section, &cursor, err) != 0)
        return err_wrap(err, "cannot load %s", device->name);
    *used = section.length;
    return 0;
}

// ---- Lists

int state_save_devices(const struct device *first, struct state_buffer *buffer, struct err *err)
{
    for (const struct device *device = first; device; device = device->next)
        if (state_save_device(device, buffer, err) != 0)
            return -1;
    return 0;
}

static struct device *find_device(struct device *first, const struct state_section *section,
                                  unsigned *index)
{
    *index = 0;
    for (struct device *device = first; device; device = device->next, ++*index)
        if (!strcmp(device->ops->kind, section->kind) && !strcmp(device->name, section->name))
            return device;
    return NULL;
}

static int load_next(struct device *first, struct cursor *cursor, bool *loaded, struct err *err)
{
    struct state_section section = {.length = 0};
    size_t used = 0;
    unsigned index;
    if (state_read_section(cursor->at, cursor->left, &section, err) != 0)
        return -1;
    struct device *device = find_device(first, &section, &index);
    if (!device)
        return err_set(err, ERR_INPUT, "this machine has no %s \"%s\"", section.kind, section.name);
    if (loaded[index])
        return err_set(err, ERR_INPUT, "%s \"%s\" is there twice", section.kind, section.name);
    if (state_load_device(device, cursor->at, cursor->left, &used, err) != 0)
        return -1;
    loaded[index] = true;
    take(cursor, used);
    return 0;
}

int state_load_devices(struct device *first, const uint8_t *bytes, size_t length, struct err *err)
{
    struct cursor cursor = {bytes, length};
    size_t count = 0;
    for (const struct device *device = first; device; device = device->next)
        count++;
    bool *loaded = calloc(count + 1, sizeof(*loaded));
    if (!loaded)
        return err_set(err, ERR_LIMIT, "no memory");
    int rc = 0;
    while (rc == 0 && cursor.left)
        rc = load_next(first, &cursor, loaded, err);
    count = 0;
    for (const struct device *device = first; rc == 0 && device; device = device->next)
        if (!loaded[count++])
            rc = err_set(err, ERR_INPUT, "the state of %s \"%s\" is missing", device->ops->kind,
                         device->name);
    free(loaded);
    return rc;
}
