// SPDX-License-Identifier: Apache-2.0
//
// Zydis as the oracle of the decoder: decode the same bytes with both and say where they differ.
#ifndef WIRT_TESTS_UNIT_ENGINE_DECODE_ZYDIS_H
#define WIRT_TESTS_UNIT_ENGINE_DECODE_ZYDIS_H

#include "machine/engine/decode.h"

// What is compared, in this order; the first difference counts.
enum difference {
    SAME,
    ONLY_OURS,  // we accept what Zydis refuses
    ONLY_ZYDIS, // the other way round
    LENGTH,
    NAME,     // operation
    OPERANDS, // number, kind, register numbers, address parts, immediates
    ACCESS,   // read and written, by operand
    MEMORY_SIZE,
    FLAGS_READ,
    FLAGS_CHANGED,
    FLAGS_UNDEFINED,
    REGISTERS_READ, // all general registers, implicit ones and addresses too
    REGISTERS_WRITTEN,
    DIFFERENCE_COUNT
};

struct comparison {
    enum difference difference;
    const char *reason;  // from the table of known differences, or NULL: unexplained
    char zydis_name[24]; // "" when Zydis refuses the bytes
    char text[400];      // for people: bytes, both decodings
};

void compare_with_zydis(const uint8_t *bytes, size_t available, enum code_mode mode,
                        struct comparison *out);

// Are the bytes an instruction of an extension that wirt's CPU models do not have (but a host may)?
bool is_instruction_of_absent_extension(const uint8_t *bytes, size_t available,
                                        enum code_mode mode);

// One line of Intel syntax, or "(bad)".
void disassemble(const uint8_t *bytes, size_t available, enum code_mode mode, char *text,
                 size_t text_bytes);

#endif
