// SPDX-License-Identifier: Apache-2.0
//
// What makes cases, in pieces: values (diff_values.c), bytes (diff_bytes.c), single instructions (diff_case.c),
// sequences (diff_sequence.c).
#ifndef WIRT_TESTS_DIFF_DIFF_MAKE_H
#define WIRT_TESTS_DIFF_DIFF_MAKE_H

#include "diff_case.h"

unsigned diff_below(uint64_t *random, unsigned limit);
bool diff_one_in(uint64_t *random, unsigned n);
void diff_random_bytes(uint64_t *random, void *to, size_t count);

uint64_t diff_random_integer(uint64_t *random);
void diff_random_extended(uint64_t *random, uint8_t to[10]);
void diff_random_vector(uint64_t *random, uint8_t *to, unsigned count); // a multiple of 8 bytes

// Registers, flags and extended state before the instruction.
void diff_random_state(struct diff_case *c, uint64_t *random);

// c->bytes, c->length and c->insn for a form in c->mode. False: no bytes were found.
bool diff_make_bytes(struct diff_case *c, unsigned form, uint64_t *random);

#endif
