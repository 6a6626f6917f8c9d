// SPDX-License-Identifier: Apache-2.0
#include "cli/keeper.h"

#include <signal.h>
#include <string.h>

#include "os/file.h"
#include "os/poll_set.h"
#include "os/process.h"
#include "os/signals.h"
#include "os/stream.h"
#include "os/tty.h"
#include "os/unix_socket.h"

#define TEXT_BYTES 4096

// A terminal in raw mode wants a carriage return before each line feed.
static void show(const struct keeper *keeper, const char *text, size_t length)
{
    bool terminal = os_tty_is_terminal(2);
    while (length && !keeper->detached) {
        const char *end = terminal ? memchr(text, '\n', length) : NULL;
        size_t part = end ? (size_t)(end - text) : length;
        os_stream_write_all(2, text, part);
        if (end)
            os_stream_write_all(2, "\r\n", 2);
        part += end ? 1 : 0;
        text += part;
        length -= part;
    }
}

// False at the end: the machine is gone.
static bool relay(const struct keeper *keeper)
{
    char text[TEXT_BYTES];
    ssize_t n = os_stream_read(keeper->messages, text, sizeof(text));
    if (n > 0)
        show(keeper, text, (size_t)n);
    return n > 0;
}

static void end_machine(struct keeper *keeper, pid_t pid, int number)
{
    keeper->ended_by = number;
    os_process_terminate(pid);
}

static void listen_to_terminal(struct keeper *keeper, pid_t pid)
{
    char word = 0;
    size_t ignored;
    ssize_t n = os_unix_receive(keeper->channel, &word, 1, NULL, 0, &ignored);
    if (n == 1 && word == KEEPER_DETACH) {
        keeper->detached = !os_process_leave_terminal(NULL);
        os_unix_send(keeper->channel, &word, 1, NULL, 0);
    } else if (!keeper->detached) {
        end_machine(keeper, pid, SIGHUP); // the process at the terminal is gone
    }
    if (n <= 0 || keeper->detached)
        os_file_close(&keeper->channel);
}

// Returns whether the machine has ended.
static bool turn(struct keeper *keeper, pid_t pid, int *status)
{
    struct pollfd fds[] = {
        {.fd = keeper->signals, .events = POLLIN},
        {.fd = keeper->channel, .events = POLLIN},
        {.fd = keeper->messages, .events = POLLIN},
    };
    if (os_poll(fds, 3, -1) <= 0)
        return false;
    if (fds[2].revents && !relay(keeper))
        os_file_close(&keeper->messages);
    if (fds[1].revents)
        listen_to_terminal(keeper, pid);
    int number;
    while ((number = os_signals_next(keeper->signals)))
        if (number != SIGCHLD)
            end_machine(keeper, pid, number);
    return os_process_has_ended(pid, status);
}

int keeper_init(struct keeper *keeper, int channel, struct err *err)
{
    static const int signals[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT, 0};
    *keeper = (struct keeper){.channel = channel, .messages = KEEPER_NOTHING};
    keeper->signals = os_signals_open(signals, err);
    return keeper->signals < 0 ? -1 : 0;
}

int keeper_wait(struct keeper *keeper, pid_t pid)
{
    int status = 0;
    while (!turn(keeper, pid, &status))
        continue;
    while (keeper->messages >= 0 && relay(keeper))
        continue; // what it said last
    return status;
}

void keeper_fini(struct keeper *keeper)
{
    os_file_close(&keeper->messages);
    os_file_close(&keeper->signals);
}
