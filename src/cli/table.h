// SPDX-License-Identifier: Apache-2.0
//
// Rows of JSON as a table for people: columns as wide as their content, cut to the terminal's width, numbers to the
// right, states in colour on a terminal (not with NO_COLOR). What is printed for programs is the rows themselves.
#ifndef WIRT_CLI_TABLE_H
#define WIRT_CLI_TABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum cli_cell {
    CELL_TEXT,
    CELL_NUMBER,
    CELL_SIZE,     // bytes
    CELL_FRACTION, // 0 to 1, as percent
    CELL_SECONDS,  // a duration
    CELL_TIME,     // seconds since 1970
    CELL_STATE,    // "running", "OK": coloured
    CELL_FLAG,     // 1: yes
};

struct cli_column {
    const char *title; // NULL ends a table
    const char *key;
    enum cli_cell kind;
};

// `rows` is an array of objects. With `json` they are printed as they are.
void cli_table_print(const json_t *rows, const struct cli_column *columns, bool json);

// One object as "name  value" lines; nested values as JSON. With `rows` only those, by their titles, without what the object lacks.
void cli_facts_print(const json_t *object, const struct cli_column *rows, bool json);

void cli_json_print(const json_t *value);

// Text of the node's for a terminal: what could steer the terminal is replaced. Returns `text`.
const char *cli_plain_text(const char *from, char *text, size_t size);

#define CLI_CELL_BYTES 2048
const char *cli_cell_text(const json_t *value, enum cli_cell kind, char text[CLI_CELL_BYTES]);

#endif
