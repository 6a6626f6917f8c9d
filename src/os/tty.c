// SPDX-License-Identifier: Apache-2.0
#include "os/tty.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool os_tty_is_terminal(int fd)
{
    return isatty(fd);
}

unsigned os_tty_columns(int fd)
{
    struct winsize size;
    return ioctl(fd, TIOCGWINSZ, &size) ? 0 : size.ws_col;
}

unsigned os_tty_rows(int fd)
{
    struct winsize size;
    return ioctl(fd, TIOCGWINSZ, &size) ? 0 : size.ws_row;
}

void os_tty_save(struct os_tty_state *state, int fd)
{
    state->fd = fd;
    state->saved = isatty(fd) && !tcgetattr(fd, &state->settings);
}

void os_tty_raw(const struct os_tty_state *state)
{
    if (!state->saved)
        return;
    struct termios raw = state->settings;
    cfmakeraw(&raw);
    tcsetattr(state->fd, TCSADRAIN, &raw);
}

bool os_tty_is_raw(const struct os_tty_state *state)
{
    struct termios raw = state->settings, now;
    cfmakeraw(&raw);
    return state->saved && !tcgetattr(state->fd, &now) && now.c_iflag == raw.c_iflag &&
           now.c_oflag == raw.c_oflag && now.c_lflag == raw.c_lflag;
}

void os_tty_hide(const struct os_tty_state *state)
{
    if (!state->saved)
        return;
    struct termios hidden = state->settings;
    hidden.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(state->fd, TCSADRAIN, &hidden);
}

// A process in the background would be stopped by SIGTTOU for this; it is blocked meanwhile.
void os_tty_restore(const struct os_tty_state *state)
{
    if (!state->saved)
        return;
    sigset_t output, before;
    sigemptyset(&output);
    sigaddset(&output, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &output, &before);
    tcsetattr(state->fd, TCSADRAIN, &state->settings);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
