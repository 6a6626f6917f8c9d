// SPDX-License-Identifier: Apache-2.0
//
// The words after a verb, by a table of its options: operands, "--name value" or "--name=value", flags, and what follows "--".
#ifndef WIRT_CLI_WORDS_H
#define WIRT_CLI_WORDS_H

#include <stdbool.h>

#include "base/err.h"

struct cli_option {
    const char *name;  // without the dashes; NULL ends a table
    const char *value; // what stands for its value in the help ("SIZE"); NULL: a flag
    const char *about;
};

#define CLI_OPERANDS_MAX 64
#define CLI_OPTIONS_MAX  32

struct cli_words {
    const char *operand[CLI_OPERANDS_MAX];
    int operands;
    struct {
        const char *name, *value; // a flag's value is ""
    } option[CLI_OPTIONS_MAX];
    int options;
    char **rest; // after "--"; NULL when there was none
    int rest_count;
};

// `tables` ends with NULL. The strings stay the caller's.
int cli_words_parse(const struct cli_option *const *tables, int argc, char **argv,
                    struct cli_words *words, struct err *err);

// The value given last, NULL when the option was not given.
const char *cli_word(const struct cli_words *words, const char *name);
bool cli_has(const struct cli_words *words, const char *name);

// How many letters must be put in, taken out or changed to make one word of the other; words longer than this many bytes are far from all.
#define CLI_DISTANCE_BYTES 32
unsigned cli_word_distance(const char *one, const char *other);

#endif
