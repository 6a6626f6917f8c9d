// SPDX-License-Identifier: Apache-2.0
#include "machine/boot/aml.h"

#include <assert.h>
#include <string.h>

#include "base/bits.h"

// Opcodes (ACPI 6.4, 20.3 "AML Byte Stream Byte Values").
enum {
    OP_ZERO = 0x00,
    OP_ONE = 0x01,
    OP_NAME = 0x08,
    OP_BYTE = 0x0A,
    OP_WORD = 0x0B,
    OP_DWORD = 0x0C,
    OP_STRING = 0x0D,
    OP_QWORD = 0x0E,
    OP_SCOPE = 0x10,
    OP_BUFFER = 0x11,
    OP_PACKAGE = 0x12,
    OP_METHOD = 0x14,
    OP_DUAL_NAME = 0x2E,
    OP_MULTI_NAME = 0x2F,
    OP_EXTENDED = 0x5B,
    OP_LOCAL0 = 0x60,
    OP_ARG0 = 0x68,
    OP_STORE = 0x70,
    OP_AND = 0x7B,
    OP_NOTIFY = 0x86,
    OP_IF = 0xA0,
    OP_RETURN = 0xA4,
    EXT_REGION = 0x80,
    EXT_FIELD = 0x81,
    EXT_DEVICE = 0x82,
};
#define PKG_LENGTH_BYTES 3u
#define REGION_IO        1u

void aml_bytes(struct aml *aml, const void *bytes, size_t length)
{
    if (aml->overflow || length > aml->capacity - aml->length) {
        aml->overflow = true;
        return;
    }
    memcpy(aml->bytes + aml->length, bytes, length);
    aml->length += length;
}

void aml_u8(struct aml *aml, uint8_t value)
{
    aml_bytes(aml, &value, 1);
}

static void put_u16(struct aml *aml, uint16_t value)
{
    aml_bytes(aml, &value, sizeof(value));
}

static void put_u32(struct aml *aml, uint32_t value)
{
    aml_bytes(aml, &value, sizeof(value));
}

static void put_u64(struct aml *aml, uint64_t value)
{
    aml_bytes(aml, &value, sizeof(value));
}

static void put_segment(struct aml *aml, const char *text, size_t length)
{
    char segment[4] = {'_', '_', '_', '_'};
    assert(length >= 1 && length <= 4);
    memcpy(segment, text, length);
    aml_bytes(aml, segment, sizeof(segment));
}

void aml_name_string(struct aml *aml, const char *name)
{
    for (; *name == '\\' || *name == '^'; name++)
        aml_u8(aml, (uint8_t)*name);
    unsigned segments = 1;
    for (const char *p = name; *p; p++)
        segments += *p == '.';
    if (segments == 2) {
        aml_u8(aml, OP_DUAL_NAME);
    } else if (segments > 2) {
        aml_u8(aml, OP_MULTI_NAME);
        aml_u8(aml, (uint8_t)segments);
    }
    for (;;) {
        size_t length = strcspn(name, ".");
        put_segment(aml, name, length);
        if (!name[length])
            break;
        name += length + 1;
    }
}

void aml_integer(struct aml *aml, uint64_t value)
{
    if (value <= 1) {
        aml_u8(aml, value ? OP_ONE : OP_ZERO);
    } else if (value <= UINT8_MAX) {
        aml_u8(aml, OP_BYTE);
        aml_u8(aml, (uint8_t)value);
    } else if (value <= UINT16_MAX) {
        aml_u8(aml, OP_WORD);
        put_u16(aml, (uint16_t)value);
    } else if (value <= UINT32_MAX) {
        aml_u8(aml, OP_DWORD);
        put_u32(aml, (uint32_t)value);
    } else {
        aml_u8(aml, OP_QWORD);
        put_u64(aml, value);
    }
}

void aml_string(struct aml *aml, const char *text)
{
    aml_u8(aml, OP_STRING);
    aml_bytes(aml, text, strlen(text) + 1);
}

static unsigned hex_digit(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'A') + 10;
}

void aml_eisa_id(struct aml *aml, const char id[7])
{
    // Three letters of five bits, four hexadecimal digits, stored big-endian (ACPI 6.4, 19.3.4 "EISAID").
    uint16_t letters = (uint16_t)((id[0] - '@') << 10 | (id[1] - '@') << 5 | (id[2] - '@'));
    uint16_t digits = 0;
    for (unsigned i = 3; i < 7; i++)
        digits = (uint16_t)(digits << 4 | hex_digit(id[i]));
    uint8_t bytes[4] = {(uint8_t)(letters >> 8), (uint8_t)letters, (uint8_t)(digits >> 8),
                        (uint8_t)digits};
    aml_u8(aml, OP_DWORD);
    aml_bytes(aml, bytes, sizeof(bytes));
}

void aml_name(struct aml *aml, const char *name)
{
    aml_u8(aml, OP_NAME);
    aml_name_string(aml, name);
}

void aml_name_integer(struct aml *aml, const char *name, uint64_t value)
{
    aml_name(aml, name);
    aml_integer(aml, value);
}

static size_t open_length(struct aml *aml)
{
    size_t mark = aml->length;
    const uint8_t room[PKG_LENGTH_BYTES] = {0};
    aml_bytes(aml, room, sizeof(room));
    return mark;
}

size_t aml_open_scope(struct aml *aml, const char *name)
{
    aml_u8(aml, OP_SCOPE);
    size_t mark = open_length(aml);
    aml_name_string(aml, name);
    return mark;
}

size_t aml_open_device(struct aml *aml, const char *name)
{
    aml_u8(aml, OP_EXTENDED);
    aml_u8(aml, EXT_DEVICE);
    size_t mark = open_length(aml);
    aml_name_string(aml, name);
    return mark;
}

size_t aml_open_method(struct aml *aml, const char *name, unsigned arguments, bool serialized)
{
    aml_u8(aml, OP_METHOD);
    size_t mark = open_length(aml);
    aml_name_string(aml, name);
    aml_u8(aml, (uint8_t)(arguments | (serialized ? 8 : 0)));
    return mark;
}

size_t aml_open_package(struct aml *aml, unsigned elements)
{
    aml_u8(aml, OP_PACKAGE);
    size_t mark = open_length(aml);
    aml_u8(aml, (uint8_t)elements);
    return mark;
}

size_t aml_open_if(struct aml *aml)
{
    aml_u8(aml, OP_IF);
    return open_length(aml);
}

void aml_close(struct aml *aml, size_t mark)
{
    if (aml->overflow)
        return;
    // Three bytes: low four bits and the count of further bytes, then eight bits each (ACPI 6.4, 20.2.4).
    size_t length = aml->length - mark;
    assert(length < 1u << 20);
    aml->bytes[mark] = (uint8_t)((PKG_LENGTH_BYTES - 1) << 6 | (length & 15));
    aml->bytes[mark + 1] = (uint8_t)(length >> 4);
    aml->bytes[mark + 2] = (uint8_t)(length >> 12);
}

void aml_return(struct aml *aml)
{
    aml_u8(aml, OP_RETURN);
}

void aml_store(struct aml *aml)
{
    aml_u8(aml, OP_STORE);
}

void aml_and(struct aml *aml)
{
    aml_u8(aml, OP_AND);
}

void aml_end_and(struct aml *aml)
{
    aml_u8(aml, OP_ZERO); // NullName
}

void aml_notify(struct aml *aml)
{
    aml_u8(aml, OP_NOTIFY);
}

void aml_local(struct aml *aml, unsigned number)
{
    aml_u8(aml, (uint8_t)(OP_LOCAL0 + number));
}

void aml_argument(struct aml *aml, unsigned number)
{
    aml_u8(aml, (uint8_t)(OP_ARG0 + number));
}

void aml_io_region(struct aml *aml, const char *name, uint16_t port, uint8_t length)
{
    aml_u8(aml, OP_EXTENDED);
    aml_u8(aml, EXT_REGION);
    aml_name_string(aml, name);
    aml_u8(aml, REGION_IO);
    aml_integer(aml, port);
    aml_integer(aml, length);
}

size_t aml_open_field(struct aml *aml, const char *region, uint8_t access_bytes)
{
    aml_u8(aml, OP_EXTENDED);
    aml_u8(aml, EXT_FIELD);
    size_t mark = open_length(aml);
    aml_name_string(aml, region);
    // Access type 1 byte, 2 word, 3 dword; no lock; write as zeros (ACPI 6.4, 20.2.5.2 "FieldFlags").
    aml_u8(aml, (uint8_t)((access_bytes == 1 ? 1 : access_bytes == 2 ? 2 : 3) | 2 << 5));
    return mark;
}

void aml_field_unit(struct aml *aml, const char *name, unsigned bits)
{
    assert(bits < 64);
    put_segment(aml, name, strlen(name));
    aml_u8(aml, (uint8_t)bits);
}

// A template is a buffer whose size stands before the bytes: room for a word, patched at the close.
size_t aml_open_resources(struct aml *aml, const char *name)
{
    aml_name(aml, name);
    aml_u8(aml, OP_BUFFER);
    size_t mark = open_length(aml);
    aml_u8(aml, OP_WORD);
    put_u16(aml, 0);
    return mark;
}

void aml_close_resources(struct aml *aml, size_t mark)
{
    const uint8_t end_tag[2] = {0x79, 0};
    aml_bytes(aml, end_tag, sizeof(end_tag));
    if (aml->overflow)
        return;
    size_t start = mark + PKG_LENGTH_BYTES + 3;
    store_le16(aml->bytes + start - 2, (uint16_t)(aml->length - start));
    aml_close(aml, mark);
}

void aml_resource_io(struct aml *aml, uint16_t start, uint8_t length)
{
    aml_u8(aml, 0x47); // small item: I/O port, 7 bytes
    aml_u8(aml, 1);    // decodes 16 bits
    put_u16(aml, start);
    put_u16(aml, start);
    aml_u8(aml, 1);
    aml_u8(aml, length);
}

void aml_resource_irq(struct aml *aml, unsigned irq)
{
    aml_u8(aml, 0x22); // small item: IRQ, edge, active high
    put_u16(aml, (uint16_t)(1u << irq));
}

void aml_resource_fixed_memory(struct aml *aml, uint32_t start, uint32_t length)
{
    aml_u8(aml, 0x86); // large item: 32-bit fixed memory range
    put_u16(aml, 9);
    aml_u8(aml, 1); // writable
    put_u32(aml, start);
    put_u32(aml, length);
}

void aml_resource_word_range(struct aml *aml, enum aml_range kind, uint16_t first, uint16_t last)
{
    aml_u8(aml, 0x88); // large item: word address space
    put_u16(aml, 13);
    aml_u8(aml, (uint8_t)kind);
    aml_u8(aml, 0x0C); // minimum and maximum are fixed, positive decode, producer
    aml_u8(aml, kind == AML_RANGE_IO ? 3 : 0); // the whole range, ISA and not
    put_u16(aml, 0);
    put_u16(aml, first);
    put_u16(aml, last);
    put_u16(aml, 0);
    put_u16(aml, (uint16_t)(last - first + 1));
}

void aml_resource_memory_range(struct aml *aml, uint64_t first, uint64_t last)
{
    aml_u8(aml, 0x8A); // large item: quad-word address space
    put_u16(aml, 43);
    aml_u8(aml, AML_RANGE_MEMORY);
    aml_u8(aml, 0x0C);
    aml_u8(aml, 1); // not cacheable, writable
    put_u64(aml, 0);
    put_u64(aml, first);
    put_u64(aml, last);
    put_u64(aml, 0);
    put_u64(aml, last - first + 1);
}
