// SPDX-License-Identifier: Apache-2.0
//
// The guest agent: JSON lines on the port org.qemu.guest_agent.0. Each command takes the port for itself, and begins with guest-sync, whose
// number tells a late answer to somebody else's command from ours.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/guest/guest_internal.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/poll_set.h"
#include "os/random.h"
#include "os/unix_socket.h"

#define ANSWER_BYTES (4 * 1024 * 1024)

static int absent(struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "QEMU guest agent is not running");
}

int agent_port_send(struct agent_port *port, const char *command, json_t *arguments)
{
    json_t *request = json_pack("{s:s, s:o*}", "execute", command, "arguments", arguments);
    char *line = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    if (!line)
        return -1;
    size_t length = strlen(line);
    line[length] = '\n';
    ssize_t sent = os_unix_send(port->fd, line, length + 1, NULL, 0);
    free(line);
    return sent == (ssize_t)length + 1 ? 0 : -1;
}

json_t *agent_port_next(struct agent_port *port)
{
    char *newline;
    while ((newline = memchr(port->text, '\n', port->used))) {
        size_t length = (size_t)(newline - port->text);
        json_t *answer = json_loadb(port->text, length, 0, NULL);
        port->used -= length + 1;
        memmove(port->text, newline + 1, port->used);
        if (json_is_object(answer))
            return answer;
        json_decref(answer);
    }
    return NULL;
}

bool agent_port_receive(struct agent_port *port)
{
    size_t none;
    if (port->used == ANSWER_BYTES)
        return false;
    ssize_t n = os_unix_receive(port->fd, port->text + port->used, ANSWER_BYTES - port->used, NULL,
                                0, &none);
    port->used += n > 0 ? (size_t)n : 0;
    return n > 0 || (n < 0 && errno == EINTR);
}

// The next answer; NULL when none comes in time.
static json_t *next_answer(struct agent_port *port, uint64_t deadline_ns)
{
    for (;;) {
        json_t *answer = agent_port_next(port);
        if (answer)
            return answer;
        uint64_t now = os_clock_monotonic_ns();
        struct pollfd poll = {.fd = port->fd, .events = POLLIN};
        if (now >= deadline_ns ||
            os_poll(&poll, 1, (int)((deadline_ns - now) / 1000000) + 1) == 0 ||
            !agent_port_receive(port))
            return NULL;
    }
}

int agent_port_sync(struct agent_port *port)
{
    return agent_port_send(port, "guest-sync", json_pack("{s:I}", "id", port->sync));
}

bool agent_port_is_synced(const struct agent_port *port, const json_t *answer)
{
    const json_t *number = json_object_get(answer, "return");
    return json_is_integer(number) && json_integer_value(number) == port->sync;
}

int agent_port_open(struct guests *guests, int64_t vmid, struct agent_port *port)
{
    *port = (struct agent_port){.fd = guest_connect(guests, vmid, "agent", NULL)};
    if (port->fd < 0)
        return -1;
    uint32_t number;
    os_random_bytes(&number, sizeof(number));
    port->sync = number & 0x7FFFFFFF;
    port->text = malloc(ANSWER_BYTES);
    if (!port->text)
        abort();
    return 0;
}

void agent_port_close(struct agent_port *port)
{
    free(port->text);
    port->text = NULL;
    os_file_close(&port->fd);
}

static int sync_port(struct agent_port *port)
{
    if (agent_port_sync(port))
        return -1;
    uint64_t deadline_ns = os_clock_monotonic_ns() + AGENT_SYNC_SECONDS * UINT64_C(1000000000);
    for (;;) {
        json_t *answer = next_answer(port, deadline_ns);
        bool ours = agent_port_is_synced(port, answer);
        json_decref(answer);
        if (!answer || ours)
            return answer ? 0 : -1;
    }
}

static json_t *ask(struct agent_port *port, const char *command, json_t *arguments, double seconds,
                   struct err *err)
{
    if (sync_port(port)) {
        json_decref(arguments);
        absent(err);
        return NULL;
    }
    json_t *answer = NULL;
    if (!agent_port_send(port, command, arguments))
        answer = next_answer(port, os_clock_monotonic_ns() + (uint64_t)(seconds * 1e9));
    const json_t *error = json_object_get(answer, "error");
    json_t *result = json_incref(json_object_get(answer, "return"));
    const char *text = json_string_value(json_object_get(error, "desc"));
    if (!answer)
        err_set(err, ERR_HOST, "VM QEMU guest agent: '%s' got no answer in time", command);
    else if (!result)
        err_set(err, ERR_HOST, "Agent error: %s", text ? text : "unknown");
    json_decref(answer);
    return result;
}

json_t *guest_agent(struct guests *guests, int64_t vmid, const char *command, json_t *arguments,
                    double seconds, struct err *err)
{
    if (!guest_exists(guests, vmid) || !guest_is_running(guests, vmid)) {
        json_decref(arguments);
        if (!guest_exists(guests, vmid))
            guest_missing(guests, vmid, err);
        else
            err_set(err, ERR_BUSY, "VM %lld is not running", (long long)vmid);
        return NULL;
    }
    struct agent_port port;
    json_t *result = NULL;
    if (!agent_port_open(guests, vmid, &port)) {
        result = ask(&port, command, arguments, seconds, err);
        agent_port_close(&port);
    } else {
        json_decref(arguments);
        absent(err);
    }
    return result;
}
