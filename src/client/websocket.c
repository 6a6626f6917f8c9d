// SPDX-License-Identifier: Apache-2.0
//
// The client's side of a WebSocket (RFC 6455) over a connection that curl makes (TLS or not): the opening handshake (section 4.1),
// masked frames out (5.3), frames in (5.2), ping answered by pong and close by close (5.5). Messages in pieces are given as they
// come: for a console their borders mean nothing.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/big_endian.h"
#include "client/client_internal.h"
#include "os/poll_set.h"
#include "os/random.h"

#define HEAD_BYTES_MAX    16384
#define FRAME_HEAD_MAX    14
#define CONTROL_BYTES_MAX 125

enum opcode {
    OP_CONTINUATION = 0,
    OP_TEXT = 1,
    OP_BINARY = 2,
    OP_CLOSE = 8,
    OP_PING = 9,
    OP_PONG = 10
};

struct client_socket {
    struct client *client;
    curl_socket_t fd;
    uint8_t head[FRAME_HEAD_MAX]; // of the frame that comes, as far as it is here
    size_t head_length;
    uint64_t left;   // bytes of the frame's content that are still to come
    uint8_t opcode;  // of the frame
    bool in_content; // the head is complete
    uint8_t control[CONTROL_BYTES_MAX];
    size_t control_length;
};

static void wait_for(const struct client_socket *s, short events)
{
    struct pollfd fd = {.fd = s->fd, .events = events};
    os_poll(&fd, 1, -1);
}

// ---- the handshake

static void make_key(char key[25])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t random[16];
    os_random_bytes(random, sizeof(random));
    for (size_t i = 0; i < 21; i++)
        key[i] = digits[random[i % 16] & 63];
    key[21] = 'A'; // 16 bytes are 21 digits and 2 bits: the last digit's low bits are zero
    memcpy(key + 22, "==", 3);
}

static int send_all(struct client_socket *s, const void *bytes, size_t length, struct err *err)
{
    const char *at = bytes;
    while (length) {
        size_t sent = 0;
        CURLcode code = curl_easy_send(s->client->curl, at, length, &sent);
        if (code == CURLE_AGAIN) {
            wait_for(s, POLLOUT);
            continue;
        }
        if (code != CURLE_OK)
            return client_fail(s->client, code, err);
        at += sent;
        length -= sent;
    }
    return 0;
}

static int read_head(struct client_socket *s, char *head, struct err *err)
{
    size_t used = 0;
    // Byte by byte: what follows the head belongs to the frames.
    while (used < 4 || memcmp(head + used - 4, "\r\n\r\n", 4) != 0) {
        size_t n = 0;
        if (used == HEAD_BYTES_MAX - 1)
            return err_set(err, ERR_INPUT, "the node's answer is too long");
        CURLcode code = curl_easy_recv(s->client->curl, head + used, 1, &n);
        if (code == CURLE_AGAIN) {
            wait_for(s, POLLIN);
            continue;
        }
        if (code != CURLE_OK || n == 0)
            return err_set(err, ERR_IO, "the node closed the connection");
        used++;
        head[used] = 0;
    }
    return 0;
}

static int handshake(struct client_socket *s, const char *path, const char *query, struct err *err)
{
    char request[4096], key[25];
    char *head = malloc(HEAD_BYTES_MAX);
    const char *host = strstr(s->client->url, "://");
    make_key(key);
    int length = snprintf(
        request, sizeof(request),
        "GET /api2/json%s?%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: "
        "binary\r\n%s%s%s\r\n",
        path, query ? query : "", host ? host + 3 : "localhost", key,
        s->client->token ? "Authorization: PVEAPIToken=" : "",
        s->client->token ? s->client->token : "", s->client->token ? "\r\n" : "");
    int result = -1;
    if (length < 0 || (size_t)length >= sizeof(request))
        err_set(err, ERR_USAGE, "the request is too long");
    else if (!send_all(s, request, (size_t)length, err) && !read_head(s, head, err)) {
        const char *reason = strchr(head, ' ');
        if (reason && !strncmp(reason + 1, "101", 3))
            result = 0;
        else
            err_set(err, ERR_DENIED, "the node refused the console: %.*s",
                    (int)strcspn(reason ? reason + 1 : head, "\r\n"), reason ? reason + 1 : head);
    }
    free(head);
    return result;
}

struct client_socket *client_socket_open(struct client *client, const char *path,
                                         const json_t *query, struct err *err)
{
    struct curl_slist *headers = NULL;
    struct client_socket *s = calloc(1, sizeof(*s));
    client_prepare(client, &headers);
    curl_slist_free_all(headers); // the handshake's are our own
    curl_easy_setopt(client->curl, CURLOPT_URL, client->url);
    curl_easy_setopt(client->curl, CURLOPT_CONNECT_ONLY, 1L);
    CURLcode code = curl_easy_perform(client->curl);
    char *form = client_encode(client->curl, query);
    s->client = client;
    bool well = code == CURLE_OK &&
                curl_easy_getinfo(client->curl, CURLINFO_ACTIVESOCKET, &s->fd) == CURLE_OK;
    if (!well)
        client_fail(client, code, err);
    if (well && handshake(s, path, form, err))
        well = false;
    free(form);
    if (well)
        return s;
    free(s);
    return NULL;
}

int client_socket_fd(const struct client_socket *socket)
{
    return (int)socket->fd;
}

// ---- frames out

static int send_frame(struct client_socket *s, enum opcode opcode, const void *bytes, size_t length,
                      struct err *err)
{
    uint8_t *frame = malloc(FRAME_HEAD_MAX + length);
    uint8_t mask[4];
    size_t head = 2;
    os_random_bytes(mask, sizeof(mask));
    frame[0] = (uint8_t)(0x80 | opcode); // FIN
    if (length < 126) {
        frame[1] = (uint8_t)(0x80 | length); // MASK
    } else if (length < 65536) {
        frame[1] = 0x80 | 126;
        store_be16(frame + 2, (uint16_t)length);
        head = 4;
    } else {
        frame[1] = 0x80 | 127;
        store_be64(frame + 2, length);
        head = 10;
    }
    memcpy(frame + head, mask, 4);
    head += 4;
    for (size_t i = 0; i < length; i++)
        frame[head + i] = ((const uint8_t *)bytes)[i] ^ mask[i & 3];
    int result = send_all(s, frame, head + length, err);
    free(frame);
    return result;
}

int client_socket_send(struct client_socket *socket, const void *bytes, size_t length,
                       struct err *err)
{
    return send_frame(socket, OP_BINARY, bytes, length, err);
}

void client_socket_close(struct client_socket *socket)
{
    static const uint8_t normal[2] = {0x03, 0xe8}; // 1000
    if (!socket)
        return;
    struct err ignored;
    send_frame(socket, OP_CLOSE, normal, sizeof(normal), &ignored);
    free(socket);
}

// ---- frames in

static ssize_t receive(struct client_socket *s, void *buffer, size_t size, struct err *err)
{
    size_t n = 0;
    CURLcode code = curl_easy_recv(s->client->curl, buffer, size, &n);
    if (code == CURLE_AGAIN)
        return 0;
    if (code != CURLE_OK || n == 0)
        return err_set(err, ERR_IO, "the node closed the connection");
    return (ssize_t)n;
}

static size_t head_size(const struct client_socket *s)
{
    if (s->head_length < 2)
        return 2;
    uint8_t length = s->head[1] & 127;
    return length < 126 ? 2 : length == 126 ? 4 : 10;
}

// 1 when the head is complete, 0 when more has to come.
static int read_frame_head(struct client_socket *s, struct err *err)
{
    while (s->head_length < head_size(s)) {
        ssize_t n = receive(s, s->head + s->head_length, head_size(s) - s->head_length, err);
        if (n <= 0)
            return (int)n;
        s->head_length += (size_t)n;
    }
    uint8_t length = s->head[1] & 127;
    s->opcode = s->head[0] & 15;
    s->left = length < 126    ? length
              : length == 126 ? load_be16(s->head + 2)
                              : load_be64(s->head + 2);
    if (s->head[1] & 0x80 || (s->opcode >= OP_CLOSE && s->left > CONTROL_BYTES_MAX))
        return err_set(err, ERR_INPUT, "the node sent a malformed frame");
    s->in_content = true;
    s->control_length = 0;
    return 1;
}

// A control frame is taken whole and acted upon. 1 when done, 0 when more has to come.
static int take_control(struct client_socket *s, struct err *err)
{
    while (s->left) {
        ssize_t n = receive(s, s->control + s->control_length, (size_t)s->left, err);
        if (n <= 0)
            return (int)n;
        s->control_length += (size_t)n;
        s->left -= (uint64_t)n;
    }
    if (s->opcode == OP_PING && send_frame(s, OP_PONG, s->control, s->control_length, err))
        return -1;
    if (s->opcode == OP_CLOSE)
        return err_set(err, ERR_CANCELLED, "%.*s",
                       s->control_length > 2 ? (int)(s->control_length - 2) : 0, s->control + 2);
    return 1;
}

ssize_t client_socket_receive(struct client_socket *s, void *buffer, size_t size, struct err *err)
{
    for (;;) {
        if (!s->in_content) {
            int head = read_frame_head(s, err);
            if (head <= 0)
                return head;
        }
        if (s->opcode >= OP_CLOSE) {
            int done = take_control(s, err);
            if (done <= 0)
                return done;
        } else if (s->left) {
            ssize_t n = receive(s, buffer, s->left < size ? (size_t)s->left : size, err);
            if (n <= 0)
                return n;
            s->left -= (uint64_t)n;
            if (!s->left) {
                s->in_content = false;
                s->head_length = 0;
            }
            return n;
        }
        s->in_content = false;
        s->head_length = 0;
    }
}
