// SPDX-License-Identifier: Apache-2.0
#include "machine/vm/gdb_packet.h"

#include <string.h>

#define INTERRUPT_BYTE 0x03

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static enum gdb_event take_sum(struct gdb_input *input, char byte)
{
    int digit = hex_digit(byte);
    if (input->state == GDB_SUM_1) {
        input->claimed = (uint8_t)((digit & 15) << 4);
        input->state = digit < 0 ? GDB_IDLE : GDB_SUM_2;
        return digit < 0 ? GDB_BAD_PACKET : GDB_NOTHING;
    }
    input->state = GDB_IDLE;
    input->text[input->length] = 0;
    return digit >= 0 && (input->claimed | digit) == input->sum ? GDB_PACKET : GDB_BAD_PACKET;
}

enum gdb_event gdb_input_byte(struct gdb_input *input, char byte)
{
    switch (input->state) {
    case GDB_IDLE:
        if (byte == '$') {
            input->state = GDB_TEXT;
            input->length = 0;
            input->sum = 0;
        }
        return byte == INTERRUPT_BYTE ? GDB_INTERRUPT : GDB_NOTHING;
    case GDB_TEXT:
        if (byte == '#') {
            input->state = GDB_SUM_1;
            return GDB_NOTHING;
        }
        if (input->length == GDB_TEXT_BYTES) {
            input->state = GDB_IDLE;
            return GDB_BAD_PACKET;
        }
        input->text[input->length++] = byte;
        input->sum = (uint8_t)(input->sum + (uint8_t)byte);
        return GDB_NOTHING;
    case GDB_SUM_1:
    case GDB_SUM_2:
        break;
    }
    return take_sum(input, byte);
}

void gdb_put(struct gdb_output *output, const char *text)
{
    size_t length = strlen(text);
    if (length > sizeof(output->text) - output->length) {
        output->overflow = true;
        return;
    }
    memcpy(output->text + output->length, text, length);
    output->length += length;
}

void gdb_put_bytes(struct gdb_output *output, const void *bytes, size_t length)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *at = bytes;
    for (size_t i = 0; i < length; i++)
        gdb_put(output, (const char[]){digits[at[i] >> 4], digits[at[i] & 15], 0});
}

size_t gdb_frame(const struct gdb_output *output, char *frame)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t sum = 0;
    size_t n = 0;
    frame[n++] = '$';
    for (size_t i = 0; i < output->length; i++) {
        sum = (uint8_t)(sum + (uint8_t)output->text[i]);
        frame[n++] = output->text[i];
    }
    frame[n++] = '#';
    frame[n++] = digits[sum >> 4];
    frame[n++] = digits[sum & 15];
    return n;
}

bool gdb_take_number(const char **at, uint64_t *value)
{
    unsigned digits = 0;
    *value = 0;
    for (; hex_digit(**at) >= 0 && digits < 16; digits++)
        *value = *value << 4 | (uint64_t)hex_digit(*(*at)++);
    return digits > 0 && hex_digit(**at) < 0;
}

bool gdb_take_char(const char **at, char expected)
{
    if (**at != expected)
        return false;
    ++*at;
    return true;
}

bool gdb_take_bytes(const char **at, void *bytes, size_t length)
{
    uint8_t *to = bytes;
    for (size_t i = 0; i < length; i++) {
        int high = hex_digit(**at), low = high < 0 ? -1 : hex_digit((*at)[1]);
        if (low < 0)
            return false;
        to[i] = (uint8_t)(high << 4 | low);
        *at += 2;
    }
    return true;
}
