// SPDX-License-Identifier: Apache-2.0
#include "node/daemon/console.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/daemon/front.h"
#include "os/file.h"
#include "os/loop.h"
#include "os/stream.h"

#define PIECE_BYTES  16384
#define FRAME_DIGITS 8

struct console {
    struct front *front;
    struct http_socket *socket;
    int fd; // the machine's console
    struct os_loop_watch watch;
    bool stopped;      // the browser does not keep up: nothing is read meanwhile
    bool first, xterm; // the first message is looked at
    char id[AUTH_ID_BYTES];
};

static const char *param(const struct http_request *request, const char *name)
{
    return json_string_value(json_object_get(request->query, name));
}

// "/api2/json/nodes/NODE/qemu/VMID/vncwebsocket"
static bool parse_path(const char *path, int64_t *vmid)
{
    char node[64], end[16];
    long long number;
    if (sscanf(path, "/api2/json/nodes/%63[^/]/qemu/%lld/%15s", node, &number, end) != 3 ||
        strcmp(end, "vncwebsocket") != 0)
        return false;
    *vmid = number;
    return true;
}

// Somebody who may, or who holds the ticket that somebody who may was given.
static int admit(struct console *console, const struct http_request *request, int64_t vmid)
{
    struct front_credentials room;
    struct api_request call = {0};
    struct auth_identity who;
    char path[64], user[AUTH_ID_BYTES] = "";
    const char *ticket = param(request, "vncticket"), *port = param(request, "port");
    struct node *node = console->front->node;
    if (!ticket || !port || !rest_console_redeem(node, vmid, strtoll(port, NULL, 10), ticket, user))
        return -1;
    front_credentials(request, &room, &call);
    if (call.cookie_ticket || call.header_ticket || call.token) {
        snprintf(path, sizeof(path), "/vms/%lld", (long long)vmid);
        if (api_identify(console->front->api, &call, &who, NULL) ||
            !auth_may(node->auth, &who, path, "VM.Console"))
            return -1;
    }
    snprintf(console->id, sizeof(console->id), "%s", user);
    return 0;
}

static void readable(void *context, unsigned events)
{
    struct console *console = context;
    char bytes[PIECE_BYTES];
    (void)events;
    ssize_t n = os_stream_read(console->fd, bytes, sizeof(bytes));
    struct os_loop *loop = console->front->node->loop;
    if (n > 0) {
        if (!http_socket_send(console->socket, bytes, (size_t)n)) {
            console->stopped = true;
            os_loop_unwatch(loop, &console->watch);
        }
        return;
    }
    if (n == 0 || (n < 0 && n != -EAGAIN)) { // the machine has ended
        os_loop_unwatch(loop, &console->watch);
        http_socket_close(console->socket);
    }
}

int console_upgrade(void *user, const struct http_request *request, struct http_socket *socket,
                    void **mine)
{
    struct front *front = user;
    int64_t vmid;
    if (!parse_path(request->path, &vmid))
        return -1;
    struct console *console = calloc(1, sizeof(*console));
    if (!console)
        abort();
    *console = (struct console){.front = front, .socket = socket, .fd = -1, .first = true};
    if (!admit(console, request, vmid))
        console->fd = guest_connect(front->node->guests, vmid, "console", NULL);
    if (console->fd < 0) {
        free(console);
        return -1;
    }
    *mine = console;
    return 0;
}

void console_opened(void *mine)
{
    struct console *console = mine;
    console->watch = (struct os_loop_watch){.ready = readable, .context = console};
    if (os_loop_watch(console->front->node->loop, &console->watch, console->fd, OS_LOOP_READ, NULL))
        http_socket_close(console->socket);
}

static void type(struct console *console, const char *bytes, size_t length)
{
    os_stream_write_all(console->fd, bytes, length);
}

// "0:N:bytes", "1:C:R:", "2", one after the other.
static void take_frames(struct console *console, const char *at, size_t length)
{
    const char *end = at + length;
    while (at < end) {
        if (*at == '2') {
            at++;
            continue;
        }
        char head[FRAME_DIGITS + 4];
        snprintf(head, sizeof(head), "%.*s", (int)(end - at), at);
        char *stop;
        unsigned long n = strtoul(head + 2, &stop, 10);
        if (head[1] != ':' || *stop != ':')
            return;
        at += stop - head + 1;
        if (head[0] == '1') { // the serial port knows no size
            const char *rest = memchr(at, ':', (size_t)(end - at));
            at = rest ? rest + 1 : end;
            continue;
        }
        if (n > (size_t)(end - at))
            n = (size_t)(end - at);
        type(console, at, n);
        at += n;
    }
}

void console_received(void *mine, const void *bytes, size_t length)
{
    struct console *console = mine;
    size_t id = strlen(console->id);
    if (console->first) {
        console->first = false;
        console->xterm = length > id && !memcmp(bytes, console->id, id) &&
                         ((const char *)bytes)[id] == ':' && memchr(bytes, '\n', length);
        if (console->xterm) {
            http_socket_send(console->socket, "OK", 2);
            return;
        }
    }
    if (console->xterm)
        take_frames(console, bytes, length);
    else
        type(console, bytes, length);
}

void console_drained(void *mine)
{
    struct console *console = mine;
    if (!console->stopped)
        return;
    console->stopped = false;
    os_loop_watch(console->front->node->loop, &console->watch, console->fd, OS_LOOP_READ, NULL);
}

void console_closed(void *mine)
{
    struct console *console = mine;
    os_loop_unwatch(console->front->node->loop, &console->watch);
    os_file_close(&console->fd);
    free(console);
}
