// SPDX-License-Identifier: Apache-2.0
//
// What tests of random sequences share: random numbers by a seed, the loop over sequences, and a CHECK that tells how to repeat the one that failed.
// Each sequence has a seed of its own, the first one's and its number, and is repeated alone by it.
#ifndef WIRT_TESTS_UNIT_BLOCK_SEQUENCE_H
#define WIRT_TESTS_UNIT_BLOCK_SEQUENCE_H

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition))                                                                          \
            sequence_failed(__FILE__, __LINE__, #condition, __VA_ARGS__);                          \
    } while (0)

_Noreturn void sequence_failed(const char *file, int line, const char *condition,
                               const char *format, ...) __attribute__((format(printf, 4, 5)));

uint64_t random_u64(void);
uint64_t below(uint64_t n);

// Runs `run` as often as the first word says (else `count` times), from the seed of the second, of the environment (SEED, as make soak gives it) or
// by the clock. `name` is the program with the words that come before.
void sequences_run(const char *name, int argc, char **argv, uint64_t count, void (*run)(void));

// One sequence, by hand: from here on its random numbers are those of this seed.
void sequence_begin(const char *name, uint64_t seed);

// An empty file in memory.
int memory_file(void);
// `to` becomes what `from` is.
void copy_file(int from, int to);

#endif
