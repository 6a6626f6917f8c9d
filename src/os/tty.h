// SPDX-License-Identifier: Apache-2.0
//
// The terminal: raw mode and back.
#ifndef WIRT_OS_TTY_H
#define WIRT_OS_TTY_H

#include <stdbool.h>
#include <termios.h>

struct os_tty_state {
    int fd;
    bool saved;
    struct termios settings;
};

bool os_tty_is_terminal(int fd);
// Its width in characters; 0 when it is no terminal or does not tell.
unsigned os_tty_columns(int fd);
unsigned os_tty_rows(int fd);

// Remember the settings of the terminal behind `fd`; nothing happens when it is none.
void os_tty_save(struct os_tty_state *state, int fd);
// Every byte at once and unchanged in both directions, no signals from keys.
void os_tty_raw(const struct os_tty_state *state);
// Whether the terminal is still as os_tty_raw() left it: nobody has taken it over since.
bool os_tty_is_raw(const struct os_tty_state *state);
// As it was, but for what is typed not being shown.
void os_tty_hide(const struct os_tty_state *state);
void os_tty_restore(const struct os_tty_state *state);

#endif
