// SPDX-License-Identifier: Apache-2.0
//
// The framing of gdb's remote serial protocol: $text#checksum, hexadecimal numbers and bytes. Pure.
#ifndef WIRT_MACHINE_VM_GDB_PACKET_H
#define WIRT_MACHINE_VM_GDB_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GDB_TEXT_BYTES 8192 // the longest text of a packet, either way

// What is being received. Feed it bytes; it says when a packet is whole.
struct gdb_input {
    char text[GDB_TEXT_BYTES + 1]; // terminated when whole
    size_t length;
    enum { GDB_IDLE, GDB_TEXT, GDB_SUM_1, GDB_SUM_2 } state;
    uint8_t sum, claimed;
};

enum gdb_event { GDB_NOTHING, GDB_PACKET, GDB_BAD_PACKET, GDB_INTERRUPT };
enum gdb_event gdb_input_byte(struct gdb_input *input, char byte);

// A text being written. What does not fit is dropped, and `overflow` set.
struct gdb_output {
    char text[GDB_TEXT_BYTES];
    size_t length;
    bool overflow;
};

void gdb_put(struct gdb_output *output, const char *text);
void gdb_put_bytes(struct gdb_output *output, const void *bytes, size_t length); // as hexadecimal
// "$text#checksum" into `frame`, which holds GDB_TEXT_BYTES + 4; returns the length.
size_t gdb_frame(const struct gdb_output *output, char *frame);

// Parsing: each moves *at past what it took, or returns false.
bool gdb_take_number(const char **at, uint64_t *value);
bool gdb_take_char(const char **at, char expected);
bool gdb_take_bytes(const char **at, void *bytes, size_t length);

#endif
