// SPDX-License-Identifier: Apache-2.0
#include "cli/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/keeper.h"
#include "cli/launch.h"
#include "cli/terminal.h"
#include "machine/vm/vm_status.h"
#include "os/file.h"
#include "os/process.h"
#include "os/self.h"
#include "os/signals.h"
#include "os/tty.h"
#include "os/unix_socket.h"

struct session {
    int console[2], channel[2]; // [0] the terminal's, [1] the keeper's; owned
    struct os_tty_state tty;    // as it was found
    const char *control;        // path, borrowed from the configuration
};

bool session_wanted(const json_t *config)
{
    const json_t *console = json_object_get(config, "console");
    const char *kind = json_string_value(json_object_get(console, "kind"));
    return (!kind || !strcmp(kind, "stdio")) && os_tty_is_terminal(0) && os_tty_is_terminal(1);
}

// Where the machine can be reached after detaching.
static const char *control_path(json_t *config)
{
    json_t *control = json_object_get(config, "control");
    if (!control) {
        char path[4096];
        const char *folder = getenv("XDG_RUNTIME_DIR");
        if (!folder || !*folder)
            folder = "/tmp";
        snprintf(path, sizeof(path), "%s/wirt-%d.sock", folder, os_self_pid());
        control = json_pack("{s:s}", "file", path);
        json_object_set_new(config, "control", control);
    }
    return json_string_value(json_object_get(control, "file"));
}

// ---- The keeper.

static _Noreturn void keep(struct session *s, json_t *config)
{
    struct err err = {0};
    struct launch_seat seat = {.console = s->console[1], .channel = s->channel[1]};
    os_file_close(&s->console[0]);
    os_file_close(&s->channel[0]);
    int status = launch_vm(config, &seat, &err);
    if (status < 0) {
        cli_fail("run", &err);
        status = err_input_status(err.code);
    }
    if (os_tty_is_raw(&s->tty) && seat.ended_by)
        os_tty_restore(&s->tty); // the process at the terminal had no time to
    const char words[2] = {KEEPER_ENDED, (char)status};
    os_unix_send(seat.channel, words, sizeof(words), NULL, 0);
    os_process_exit(status);
}

// ---- The terminal.

// The next byte of the keeper, 0 when it is gone.
static char hear(const struct session *s)
{
    char word;
    size_t ignored;
    return os_unix_receive(s->channel[0], &word, 1, NULL, 0, &ignored) == 1 ? word : 0;
}

// What the keeper says last: the machine's exit status.
static int end_status(const struct session *s, char word)
{
    if (word == KEEPER_ENDED)
        return (unsigned char)hear(s);
    fprintf(stderr, "wirt run: the process that keeps the machine was killed\n");
    return VM_STATUS_FAILURE;
}

static int detach(const struct session *s)
{
    const char request = KEEPER_DETACH;
    os_unix_send(s->channel[0], &request, 1, NULL, 0);
    char word = hear(s);
    if (word != KEEPER_DETACH)
        return end_status(s, word); // it ended at the same time
    printf("[wirt: detached; the machine goes on. To come back: wirt ctl %s console]\n",
           s->control);
    return 0;
}

static int sit(struct session *s, struct err *err)
{
    os_file_close(&s->console[1]);
    os_file_close(&s->channel[1]);
    char word = hear(s);
    if (word != KEEPER_STARTED)
        return end_status(s, word);
    int end = terminal_run(s->console[0], s->control, &s->tty, err);
    if (end == TERMINAL_DETACHED)
        return detach(s);
    if (end == TERMINAL_CLOSED)
        return end_status(s, hear(s));
    os_file_close(&s->channel[0]); // ends the machine
    if (end > 0)
        os_signals_die(end);
    return -1;
}

int session_run(json_t *config, struct err *err)
{
    struct session s = {.console = {-1, -1}, .channel = {-1, -1}};
    int status = -1;
    os_tty_save(&s.tty, 0);
    s.control = control_path(config);
    if (os_unix_pair(s.console, false, err) || os_unix_pair(s.channel, false, err))
        goto out;
    pid_t pid = os_process_fork(err);
    if (pid == 0)
        keep(&s, config);
    if (pid > 0)
        status = sit(&s, err);
out:
    for (int i = 0; i < 2; i++) {
        os_file_close(&s.console[i]);
        os_file_close(&s.channel[i]);
    }
    return status;
}
