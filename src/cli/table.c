// SPDX-License-Identifier: Apache-2.0
#include "cli/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/units.h"
#include "os/tty.h"

#define COLUMNS_MAX   16
#define GAP           2
#define NARROWEST     8
#define COLUMNS_LEAST 3

void cli_json_print(const json_t *value)
{
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
    putchar('\n');
}

// ---- cells

static void duration_text(double seconds, char text[CLI_CELL_BYTES])
{
    unsigned long s = (unsigned long)seconds;
    if (s >= 86400)
        snprintf(text, CLI_CELL_BYTES, "%lud %luh", s / 86400, s % 86400 / 3600);
    else if (s >= 3600)
        snprintf(text, CLI_CELL_BYTES, "%luh %lum", s / 3600, s % 3600 / 60);
    else if (s >= 60)
        snprintf(text, CLI_CELL_BYTES, "%lum %lus", s / 60, s % 60);
    else
        snprintf(text, CLI_CELL_BYTES, "%.1fs", seconds);
}

static void time_text(double seconds, char text[CLI_CELL_BYTES])
{
    time_t when = (time_t)seconds;
    struct tm parts;
    localtime_r(&when, &parts);
    strftime(text, CLI_CELL_BYTES, "%Y-%m-%d %H:%M:%S", &parts);
}

const char *cli_plain_text(const char *from, char *text, size_t size)
{
    size_t i;
    for (i = 0; i < size - 1 && from[i]; i++)
        text[i] = (unsigned char)from[i] < ' ' || from[i] == 127 ? ' ' : from[i];
    text[i] = 0;
    return text;
}

const char *cli_cell_text(const json_t *value, enum cli_cell kind, char text[CLI_CELL_BYTES])
{
    double number = json_number_value(value);
    snprintf(text, CLI_CELL_BYTES, "-");
    if (!value || json_is_null(value))
        return text;
    if (json_is_string(value)) {
        cli_plain_text(json_string_value(value), text, CLI_CELL_BYTES);
        return text;
    }
    if (!json_is_number(value)) {
        char *dump = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        cli_plain_text(dump, text, CLI_CELL_BYTES);
        free(dump);
        return text;
    }
    switch (kind) {
    case CELL_SIZE: {
        char size[UNITS_SIZE_TEXT_BYTES];
        snprintf(text, CLI_CELL_BYTES, "%s", units_format_size((uint64_t)number, size));
        break;
    }
    case CELL_FRACTION:
        snprintf(text, CLI_CELL_BYTES, "%.1f%%", number * 100);
        break;
    case CELL_SECONDS:
        duration_text(number, text);
        break;
    case CELL_TIME: // 0 is how "never" is written
        if (number > 0)
            time_text(number, text);
        break;
    case CELL_FLAG:
        snprintf(text, CLI_CELL_BYTES, "%s", number != 0 ? "yes" : "no");
        break;
    case CELL_TEXT:
    case CELL_NUMBER:
    case CELL_STATE:
        if (json_is_integer(value))
            snprintf(text, CLI_CELL_BYTES, "%lld", (long long)json_integer_value(value));
        else
            snprintf(text, CLI_CELL_BYTES, "%.2f", number);
        break;
    }
    return text;
}

// ---- widths: in characters, not bytes (UTF-8 continuation bytes take no place)

static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

// The text cut to `width` characters, with an ellipsis where something is left out.
static void cut(char *text, size_t width)
{
    if (width_of(text) <= width)
        return;
    size_t at = 0, count = 0;
    while (text[at] && count < width - 1) {
        at++;
        while (((unsigned char)text[at] & 0xc0) == 0x80)
            at++;
        count++;
    }
    snprintf(text + at, CLI_CELL_BYTES - at, "…");
}

static size_t measure(const json_t *rows, const struct cli_column *columns,
                      size_t width[COLUMNS_MAX])
{
    size_t count = 0, i;
    const json_t *row;
    char text[CLI_CELL_BYTES];
    for (; count < COLUMNS_MAX && columns[count].title; count++) {
        width[count] = strlen(columns[count].title);
        json_array_foreach(rows, i, row)
        {
            const json_t *value = json_object_get(row, columns[count].key);
            size_t one = width_of(cli_cell_text(value, columns[count].kind, text));
            if (one > width[count])
                width[count] = one;
        }
    }
    return count;
}

// Takes from the widest text column until the table fits; where that is not enough, the last columns go. How many stay.
static size_t fit(const struct cli_column *columns, size_t width[COLUMNS_MAX], size_t count,
                  size_t room)
{
    size_t all = GAP * (count - 1);
    for (size_t c = 0; c < count; c++)
        all += width[c];
    while (all > room) {
        size_t widest = COLUMNS_MAX;
        for (size_t c = 0; c < count; c++)
            if (columns[c].kind == CELL_TEXT && width[c] > NARROWEST &&
                (widest == COLUMNS_MAX || width[c] > width[widest]))
                widest = c;
        if (widest == COLUMNS_MAX && count <= COLUMNS_LEAST)
            break;
        if (widest == COLUMNS_MAX) {
            all -= width[--count] + GAP;
        } else {
            width[widest]--;
            all--;
        }
    }
    return count;
}

// ---- printing

static bool coloured(void)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return os_tty_is_terminal(1) && !(no && *no) && !(term && !strcmp(term, "dumb"));
}

static const char *colour_of(const char *state)
{
    if (!strcmp(state, "running") || !strcmp(state, "online") || !strcmp(state, "OK") ||
        !strcmp(state, "available"))
        return "\033[32m";
    if (!strcmp(state, "paused") || !strcmp(state, "suspended"))
        return "\033[33m";
    return !strcmp(state, "stopped") ? "\033[2m" : "\033[31m";
}

static bool to_the_right(enum cli_cell kind)
{
    return kind == CELL_NUMBER || kind == CELL_SIZE || kind == CELL_FRACTION ||
           kind == CELL_SECONDS;
}

static void print_cell(char *text, enum cli_cell kind, size_t width, bool last, bool colours)
{
    cut(text, width);
    int pad = (int)(width - width_of(text));
    const char *colour = colours && kind == CELL_STATE ? colour_of(text) : "";
    bool right = to_the_right(kind);
    printf("%*s%s%s%s%*s", right ? pad : 0, "", colour, text, *colour ? "\033[0m" : "",
           right || last ? 0 : pad, "");
    fputs(last ? "\n" : "  ", stdout);
}

void cli_table_print(const json_t *rows, const struct cli_column *columns, bool json)
{
    size_t width[COLUMNS_MAX], i;
    const json_t *row;
    char text[CLI_CELL_BYTES];
    if (json) {
        cli_json_print(rows);
        return;
    }
    size_t count = measure(rows, columns, width);
    unsigned room = os_tty_columns(1);
    bool colours = coloured();
    if (room)
        count = fit(columns, width, count, room);
    for (size_t c = 0; c < count; c++) {
        snprintf(text, sizeof(text), "%s", columns[c].title);
        print_cell(text, to_the_right(columns[c].kind) ? CELL_NUMBER : CELL_TEXT, width[c],
                   c + 1 == count, false);
    }
    json_array_foreach(rows, i, row)
    {
        for (size_t c = 0; c < count; c++) {
            cli_cell_text(json_object_get(row, columns[c].key), columns[c].kind, text);
            print_cell(text, columns[c].kind, width[c], c + 1 == count, colours);
        }
    }
}

static void print_fact(const char *name, const json_t *value, enum cli_cell kind)
{
    char text[CLI_CELL_BYTES];
    printf("%-18s %s\n", name, cli_cell_text(value, kind, text));
}

void cli_facts_print(const json_t *object, const struct cli_column *rows, bool json)
{
    const char *name;
    json_t *value;
    if (json) {
        cli_json_print(object);
        return;
    }
    for (const struct cli_column *row = rows; row && row->title; row++)
        if ((value = json_object_get(object, row->key)))
            print_fact(row->title, value, row->kind);
    if (rows)
        return;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
        print_fact(name, value, CELL_TEXT);
}
