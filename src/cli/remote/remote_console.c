// SPDX-License-Identifier: Apache-2.0
//
// `wirt console VM`: the serial console through a WebSocket. First goes "USER:TICKET\n", then "0:LENGTH:bytes" for what is typed and
// "1:COLUMNS:ROWS:" for the terminal's size; what comes is the console as it is, after an "OK". Ctrl-] ends it.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/remote/remote.h"
#include "os/poll_set.h"
#include "os/stream.h"
#include "os/tty.h"

#define ESCAPE   0x1d // Ctrl-]
#define CHUNK    4096
#define ALIVE_MS 30000

static int send_typed(struct client_socket *socket, const char *bytes, size_t length,
                      struct err *err)
{
    char message[CHUNK + 32];
    int head = snprintf(message, sizeof(message), "0:%zu:", length);
    memcpy(message + head, bytes, length);
    return client_socket_send(socket, message, (size_t)head + length, err);
}

static int send_size(struct client_socket *socket, struct err *err)
{
    char message[64];
    unsigned columns = os_tty_columns(0), rows = os_tty_rows(0);
    if (!columns || !rows)
        return 0;
    int length = snprintf(message, sizeof(message), "1:%u:%u:", columns, rows);
    return client_socket_send(socket, message, (size_t)length, err);
}

// What has come goes to the terminal. 0: nothing waits now.
static int show(struct client_socket *socket, size_t *greeting, struct err *err)
{
    char buffer[CHUNK];
    ssize_t n;
    while ((n = client_socket_receive(socket, buffer, sizeof(buffer), err)) > 0) {
        size_t skip = *greeting < (size_t)n ? *greeting : (size_t)n; // of "OK"
        *greeting -= skip;
        if (os_stream_write_all(1, buffer + skip, (size_t)n - skip) < 0)
            return err_set(err, ERR_IO, "standard output is closed");
    }
    return (int)n;
}

// What was typed goes to the guest. 1: the escape key, or the end of input.
static int type(struct client_socket *socket, struct err *err)
{
    char buffer[CHUNK];
    ssize_t n = os_stream_read(0, buffer, sizeof(buffer));
    if (n == -EAGAIN)
        return 0;
    if (n <= 0)
        return 1;
    char *escape = memchr(buffer, ESCAPE, (size_t)n);
    size_t length = escape ? (size_t)(escape - buffer) : (size_t)n;
    if (length && send_typed(socket, buffer, length, err))
        return -1;
    return escape != NULL;
}

static int talk(struct client_socket *socket, struct err *err)
{
    size_t greeting = 2;
    for (;;) {
        struct pollfd fds[2] = {{.fd = client_socket_fd(socket), .events = POLLIN},
                                {.fd = 0, .events = POLLIN}};
        if (show(socket, &greeting, err))
            return -1;
        int ready = os_poll(fds, 2, ALIVE_MS);
        if (ready == 0 && client_socket_send(socket, "2", 1, err))
            return -1;
        if (fds[1].revents) {
            int ended = type(socket, err);
            if (ended)
                return ended < 0 ? -1 : 0;
        }
    }
}

static int greet(struct client_socket *socket, const json_t *proxy, struct err *err)
{
    char line[1024];
    int length =
        snprintf(line, sizeof(line), "%s:%s\n", json_string_value(json_object_get(proxy, "user")),
                 json_string_value(json_object_get(proxy, "ticket")));
    if (client_socket_send(socket, line, (size_t)length, err))
        return -1;
    return send_size(socket, err);
}

int remote_console(struct remote *remote, struct err *err)
{
    struct remote_guest guest;
    char path[PATH_BYTES + 32];
    json_t *proxy = NULL;
    if (remote_find(remote, remote->words->operand[0], &guest, err) ||
        remote_call(remote, "POST", NULL, &proxy, err, "%s/termproxy", guest.path))
        return -1;
    snprintf(path, sizeof(path), "%s/vncwebsocket", guest.path);
    json_t *query = json_pack("{s:O, s:O}", "port", json_object_get(proxy, "port"), "vncticket",
                              json_object_get(proxy, "ticket"));
    struct client_socket *socket = client_socket_open(remote->client, path, query, err);
    int result = socket ? greet(socket, proxy, err) : -1;
    if (!result) {
        struct os_tty_state terminal;
        fprintf(stderr, "Connected to %s. Ctrl-] ends the connection, not the VM.\n", guest.name);
        os_tty_save(&terminal, 0);
        os_tty_raw(&terminal);
        result = talk(socket, err);
        os_tty_restore(&terminal);
        fputs("\n", stderr);
    }
    client_socket_close(socket);
    json_decref(query);
    json_decref(proxy);
    return result;
}
