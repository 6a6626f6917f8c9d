// SPDX-License-Identifier: Apache-2.0
#include "cli/words.h"

#include <string.h>

static const struct cli_option *find(const struct cli_option *const *tables, const char *name,
                                     size_t length)
{
    for (; *tables; tables++)
        for (const struct cli_option *o = *tables; o->name; o++)
            if (strlen(o->name) == length && !memcmp(o->name, name, length))
                return o;
    return NULL;
}

// Takes argv[*i] and, where it is the option's value, the word after it.
static int take_option(const struct cli_option *const *tables, int argc, char **argv, int *i,
                       struct cli_words *words, struct err *err)
{
    const char *name = argv[*i] + 2;
    size_t length = strcspn(name, "=");
    const struct cli_option *option = find(tables, name, length);
    if (!option)
        return err_set(err, ERR_USAGE, "%s is not known here; --help lists the options", argv[*i]);
    const char *value = name[length] ? name + length + 1 : NULL;
    if (!option->value && value)
        return err_set(err, ERR_USAGE, "--%s takes no value", option->name);
    if (option->value && !value && *i + 1 < argc)
        value = argv[++*i];
    if (option->value && !value)
        return err_set(err, ERR_USAGE, "--%s needs a value: %s", option->name, option->value);
    if (words->options == CLI_OPTIONS_MAX)
        return err_set(err, ERR_USAGE, "too many options");
    words->option[words->options].name = option->name;
    words->option[words->options++].value = value ? value : "";
    return 0;
}

int cli_words_parse(const struct cli_option *const *tables, int argc, char **argv,
                    struct cli_words *words, struct err *err)
{
    *words = (struct cli_words){0};
    for (int i = 0; i < argc; i++) {
        if (!strcmp(argv[i], "--")) {
            words->rest = argv + i + 1;
            words->rest_count = argc - i - 1;
            return 0;
        }
        if (!strncmp(argv[i], "--", 2)) {
            if (take_option(tables, argc, argv, &i, words, err))
                return -1;
        } else if (words->operands == CLI_OPERANDS_MAX) {
            return err_set(err, ERR_USAGE, "more than %d words", CLI_OPERANDS_MAX);
        } else {
            words->operand[words->operands++] = argv[i];
        }
    }
    return 0;
}

const char *cli_word(const struct cli_words *words, const char *name)
{
    for (int i = words->options - 1; i >= 0; i--)
        if (!strcmp(words->option[i].name, name))
            return words->option[i].value;
    return NULL;
}

bool cli_has(const struct cli_words *words, const char *name)
{
    return cli_word(words, name) != NULL;
}

static unsigned least(unsigned a, unsigned b, unsigned c)
{
    unsigned ab = a < b ? a : b;
    return ab < c ? ab : c;
}

unsigned cli_word_distance(const char *one, const char *other)
{
    size_t length = strlen(one), width = strlen(other);
    unsigned row[CLI_DISTANCE_BYTES +
                 1]; // from the letters of `one` so far to the first ones of `other`
    if (length > CLI_DISTANCE_BYTES || width > CLI_DISTANCE_BYTES)
        return CLI_DISTANCE_BYTES;
    for (unsigned j = 0; j <= width; j++)
        row[j] = j;
    for (unsigned i = 0; i < length; i++) {
        unsigned before = row[0]; // of the row above, one to the left
        row[0] = i + 1;
        for (size_t j = 0; j < width; j++) {
            unsigned above = row[j + 1];
            row[j + 1] = least(row[j] + 1, above + 1, before + (one[i] != other[j]));
            before = above;
        }
    }
    return row[width];
}
