// SPDX-License-Identifier: Apache-2.0
#include "cli/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cli/ctl.h"
#include "os/file.h"
#include "os/poll_set.h"
#include "os/signals.h"
#include "os/stream.h"
#include "os/unix_socket.h"

#define ESCAPE_KEY   0x1D // Ctrl-]
#define BUFFER_BYTES 4096

struct buffer {
    size_t used, length;
    uint8_t bytes[BUFFER_BYTES];
};

struct terminal {
    int connection;                 // borrowed
    const char *control;            // borrowed, or NULL
    const struct os_tty_state *tty; // borrowed
    int signals;
    bool menu; // the escape key was pressed
    bool input_ended;
    int end; // enum terminal_end or a signal; valid once `ended`
    bool ended;
    struct buffer keys, screen; // read, and not yet given away
};

static const char start_text[] = "[wirt: Ctrl-] opens the menu]\r\n";
static const char menu_text[] = "\r\n[wirt: p power button, r reset, k kill, s statistics, d "
                                "detach, Ctrl-] itself, other keys go back] ";

static void say(const char *text)
{
    os_stream_write_all(1, text, strlen(text));
}

static void finish(struct terminal *t, int end)
{
    t->end = end;
    t->ended = true;
}

// ---- The menu.

// Printed in the terminal's own mode, so that lines end as lines do there.
static void command(const struct terminal *t, const char *name)
{
    struct err err = {0};
    os_tty_restore(t->tty);
    if (!t->control)
        printf("wirt: the machine has no control socket\n");
    else if (ctl_send(t->control, name, &err))
        printf("wirt: %s\n", err.text);
    fflush(stdout);
    os_tty_raw(t->tty);
}

static void menu_key(struct terminal *t, uint8_t key)
{
    t->menu = false;
    say("\r\n");
    switch (key) {
    case 'p':
        command(t, "power-button");
        break;
    case 'r':
        command(t, "reset");
        break;
    case 'k':
        command(t, "stop");
        break;
    case 's':
        command(t, "statistics");
        break;
    case 'd':
        if (t->control)
            finish(t, TERMINAL_DETACHED);
        else
            say("[wirt: without a control socket there is no way back]\r\n");
        break;
    default:
        break;
    }
}

// ---- From the person to the machine.

static void send_keys(struct terminal *t, size_t length)
{
    ssize_t n = os_unix_send_ready(t->connection, t->keys.bytes + t->keys.used, length);
    if (n < 0 && errno != EAGAIN)
        n = (ssize_t)length; // the other end is gone: what it printed last is still to be read
    t->keys.used += n > 0 ? (size_t)n : 0;
}

// Gives away what was read, up to what the machine does not take now. Typed in the menu, the escape key means itself.
static void deliver_keys(struct terminal *t)
{
    while (!t->ended && t->keys.used < t->keys.length) {
        const uint8_t *bytes = t->keys.bytes + t->keys.used;
        size_t length = t->keys.length - t->keys.used;
        if (t->menu && *bytes != ESCAPE_KEY) {
            t->keys.used++;
            menu_key(t, *bytes);
            continue;
        }
        const uint8_t *escape = t->tty->saved ? memchr(bytes, ESCAPE_KEY, length) : NULL;
        if (escape == bytes && !t->menu) {
            t->keys.used++;
            t->menu = true;
            say(menu_text);
            continue;
        }
        if (escape == bytes)
            say("\r\n");
        size_t before = t->keys.used;
        size_t wanted = t->menu ? 1 : escape ? (size_t)(escape - bytes) : length;
        t->menu = false;
        send_keys(t, wanted);
        if (t->keys.used - before < wanted)
            return;
    }
}

static void read_keys(struct terminal *t)
{
    ssize_t n = os_stream_read(0, t->keys.bytes, sizeof(t->keys.bytes));
    t->keys.used = 0;
    t->keys.length = n > 0 ? (size_t)n : 0;
    if (n == 0 || (n < 0 && n != -EAGAIN && n != -EINTR))
        t->input_ended = true;
    deliver_keys(t);
}

// ---- From the machine to the person.

static void show(struct terminal *t)
{
    ssize_t n =
        os_stream_write(1, t->screen.bytes + t->screen.used, t->screen.length - t->screen.used);
    if (n < 0)
        t->screen.used = t->screen.length; // nobody looks; the machine goes on
    else
        t->screen.used += (size_t)n;
}

static void read_screen(struct terminal *t)
{
    size_t ignored;
    ssize_t n =
        os_unix_receive(t->connection, t->screen.bytes, sizeof(t->screen.bytes), NULL, 0, &ignored);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    t->screen.used = 0;
    t->screen.length = n > 0 ? (size_t)n : 0;
    if (n <= 0)
        finish(t, TERMINAL_CLOSED);
    else
        show(t);
}

// ---- Both.

static void handle_signals(struct terminal *t)
{
    int number;
    while ((number = os_signals_next(t->signals)))
        switch (number) {
        case SIGTSTP: // sent by somebody: in raw mode no key does
            os_tty_restore(t->tty);
            os_signals_stop();
            os_tty_raw(t->tty);
            break;
        case SIGCONT:
            os_tty_raw(t->tty);
            break;
        default:
            finish(t, number);
            break;
        }
}

static void turn(struct terminal *t)
{
    bool keys = t->keys.used < t->keys.length, screen = t->screen.used < t->screen.length;
    struct pollfd fds[] = {
        {.fd = t->signals, .events = POLLIN},
        {.fd = t->connection, .events = (short)((screen ? 0 : POLLIN) | (keys ? POLLOUT : 0))},
        {.fd = keys || t->input_ended ? -1 : 0, .events = POLLIN},
        {.fd = screen ? 1 : -1, .events = POLLOUT},
    };
    if (screen && !keys)
        fds[1].fd = -1; // a hangup is reported unasked, and what it printed last comes first
    if (os_poll(fds, 4, -1) <= 0)
        return;
    if (fds[0].revents)
        handle_signals(t);
    if (!t->ended && fds[3].revents)
        show(t);
    if (!t->ended && fds[2].revents)
        read_keys(t);
    if (!t->ended && (fds[1].revents & POLLOUT))
        deliver_keys(t);
    if (!t->ended && !screen && (fds[1].revents & (POLLIN | POLLHUP | POLLERR)))
        read_screen(t);
}

int terminal_run(int connection, const char *control, const struct os_tty_state *tty,
                 struct err *err)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, 0};
    struct terminal t = {.connection = connection, .control = control, .tty = tty};
    t.signals = os_signals_open(signals, err);
    if (t.signals < 0)
        return TERMINAL_FAILED;
    os_signals_ignore_pipe();
    os_tty_raw(tty);
    if (tty->saved)
        say(start_text);
    while (!t.ended)
        turn(&t);
    os_tty_restore(tty);
    os_file_close(&t.signals);
    return t.end;
}
