// SPDX-License-Identifier: Apache-2.0
//
// `wirt ctl SOCKET console`: this process's standard input and output become the machine's console.
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/ctl.h"
#include "cli/terminal.h"
#include "os/file.h"
#include "os/signals.h"
#include "os/tty.h"
#include "os/unix_socket.h"

#define LINE_BYTES 1024

// The line that answers `console`, byte by byte: what follows it is the console's. NULL when there is none.
static json_t *receive_answer(int socket)
{
    char line[LINE_BYTES];
    size_t used = 0, ignored;
    while (used < sizeof(line) && os_unix_receive(socket, line + used, 1, NULL, 0, &ignored) == 1) {
        if (line[used++] != '\n')
            continue;
        json_t *object = json_loadb(line, used, 0, NULL);
        if (object && json_object_get(object, "id"))
            return object;
        json_decref(object); // an event
        used = 0;
    }
    return NULL;
}

static int attach(int socket, struct err *err)
{
    static const char request[] = "{\"id\":1,\"do\":\"console\"}\n";
    os_unix_send(socket, request, sizeof(request) - 1, NULL, 0);
    json_t *answer = receive_answer(socket);
    const char *refusal =
        json_string_value(json_object_get(json_object_get(answer, "error"), "message"));
    int result = 0;
    if (!answer)
        result = err_set(err, ERR_IO, "the machine closed the connection without an answer");
    else if (refusal)
        result = err_set(err, ERR_BUSY, "%s", refusal);
    json_decref(answer);
    return result;
}

int ctl_console(const char *path, struct err *err)
{
    struct os_tty_state tty;
    int end = TERMINAL_FAILED;
    int socket = os_unix_connect(path, err);
    if (socket >= 0 && !attach(socket, err)) {
        os_tty_save(&tty, 0);
        end = terminal_run(socket, path, &tty, err);
    }
    os_file_close(&socket);
    if (end > 0)
        os_signals_die(end);
    if (end == TERMINAL_DETACHED)
        printf("[wirt: detached; the machine goes on]\n");
    return end == TERMINAL_FAILED ? -1 : 0;
}
