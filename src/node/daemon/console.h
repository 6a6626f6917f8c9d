// SPDX-License-Identifier: Apache-2.0
//
// Consoles: a WebSocket on one side, a machine's console socket on the other.
//
// `termproxy` promises one: a port number and a ticket, for a user and a guest, used once within half a minute. The WebSocket comes with
// both, and with a cookie or a token of the user; the ticket alone will do too, so that a URL can be handed to a browser. Two ways of
// speaking: plain bytes both ways, or what Proxmox VE's xterm.js speaks, when the first message is "user:ticket\n": then bytes come as "0:N:bytes",
// a new size as "1:COLUMNS:ROWS:", and "2" keeps the connection.
//
// Threads: the event loop; console_promise() from any.
#ifndef WIRT_NODE_DAEMON_CONSOLE_H
#define WIRT_NODE_DAEMON_CONSOLE_H

#include "node/http/http.h"
#include "node/rest/rest.h"

// Room for what credentials are decoded into.
struct front_credentials {
    char ticket[AUTH_TICKET_BYTES], token[1024];
};
void front_credentials(const struct http_request *from, struct front_credentials *room,
                       struct api_request *to);

int console_upgrade(void *user, const struct http_request *request, struct http_socket *socket,
                    void **mine);
void console_opened(void *mine);
void console_received(void *mine, const void *bytes, size_t length);
void console_drained(void *mine);
void console_closed(void *mine);

#endif
