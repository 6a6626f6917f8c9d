// SPDX-License-Identifier: Apache-2.0
//
// `wirt init`: the first administrator of a node, made in its state directory, or through wirtd while it runs.
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "node/daemon/daemon.h"
#include "os/stream.h"
#include "os/tty.h"

#define PASSWORD_BYTES 256

struct init_words {
    char default_state[4096];
    const char *state, *socket, *admin;
    bool password_stdin;
};

static int parse(int argc, char **argv, struct init_words *words, struct err *err)
{
    daemon_default_state(words->default_state, sizeof(words->default_state));
    words->state = words->default_state;
    for (int i = 1; i < argc; i++) {
        const char **to = !strcmp(argv[i], "--state")    ? &words->state
                          : !strcmp(argv[i], "--socket") ? &words->socket
                          : !strcmp(argv[i], "--admin")  ? &words->admin
                                                         : NULL;
        if (!strcmp(argv[i], "--password-stdin"))
            words->password_stdin = true;
        else if (!to || ++i == argc)
            return err_set(err, ERR_USAGE, "'%s' is unknown or lacks its value; see wirt help init",
                           argv[i - (to != NULL)]);
        else
            *to = argv[i];
    }
    return 0;
}

// All of standard input; one newline at its end is not the password's.
static int read_stdin(char password[PASSWORD_BYTES], struct err *err)
{
    size_t used = 0;
    int c;
    while ((c = getchar()) != EOF) {
        if (used == PASSWORD_BYTES - 1 || !c)
            return err_set(err, ERR_USAGE, "the password is too long, or holds a zero byte");
        password[used++] = (char)c;
    }
    used -= used && password[used - 1] == '\n';
    password[used] = 0;
    return 0;
}

// A line that is not shown.
static int read_hidden(const char *prompt, char password[PASSWORD_BYTES], struct err *err)
{
    struct os_tty_state tty;
    size_t used = 0;
    char key = 0;
    os_tty_save(&tty, 0);
    os_tty_raw(&tty);
    fputs(prompt, stderr); // now: what is typed as soon as it is read must not be shown
    while (os_stream_read_wait(0, &key, 1) == 1 && key != '\r' && key != '\n' && key != 3) {
        if (key == 127)
            used -= used > 0;
        else if (used < PASSWORD_BYTES - 1)
            password[used++] = key;
    }
    os_tty_restore(&tty);
    fputc('\n', stderr);
    password[used] = 0;
    return key == '\r' || key == '\n' ? 0 : err_set(err, ERR_CANCELLED, "no password was given");
}

static int ask(char password[PASSWORD_BYTES], struct err *err)
{
    char again[PASSWORD_BYTES];
    if (!os_tty_is_terminal(0))
        return err_set(err, ERR_USAGE,
                       "no terminal to ask for the password: give --password-stdin");
    if (read_hidden("Password of the administrator: ", password, err) ||
        read_hidden("Once more: ", again, err))
        return -1;
    return strcmp(password, again) ? err_set(err, ERR_USAGE, "the two passwords differ") : 0;
}

int cli_init(int argc, char **argv)
{
    struct err err = {0};
    struct init_words words = {0};
    char password[PASSWORD_BYTES];
    if (parse(argc, argv, &words, &err))
        return cli_fail("init", &err);
    const char *admin = words.admin ? words.admin : "root@wirt";
    if ((words.password_stdin ? read_stdin(password, &err) : ask(password, &err)) ||
        daemon_init(words.state, words.socket, admin, password, &err))
        return cli_fail("init", &err);
    printf("%s may log in now\n", admin);
    return 0;
}
