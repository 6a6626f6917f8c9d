// SPDX-License-Identifier: Apache-2.0
//
// Bytes on a connection to wirtd's front door: the real server on its Unix socket, as libwebsockets takes requests, bodies, uploads and WebSockets
// apart. What reaches the program behind it is within what http.h promises, every connection ends, and no upload's file is left over.
//
// One thread plays both ends: it writes, lets the server serve what is ready, hangs up, and serves until the server has let go.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "node/http/http_internal.h"
#include "os/loop.h"

#define TURNS     4
#define TURNS_MAX 2000

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static char folder[] = "/tmp/front-fuzz-XXXXXX", socket_path[64], upload_path[64];
static struct http_server *server;
static unsigned sockets_open;

static void demand(bool true_of_it)
{
    if (!true_of_it)
        abort();
}

static void check_request(const struct http_request *request)
{
    const char *name;
    json_t *value;
    demand(request->method && request->path[0] == '/' && json_is_object(request->query));
    demand(json_object_size(request->query) <= HTTP_PARAMS_MAX);
    demand(!request->body || json_is_object(request->body));
    demand(json_object_size(request->body) <= HTTP_PARAMS_MAX);
    json_object_foreach(request->query, name, value)
        demand(json_is_string(value) || json_is_array(value));
    demand(request->owner && !strcmp(request->address, "local"));
}

// Says the path again, so that whatever was read is written too.
static void on_request(void *user, struct http_exchange *exchange,
                       const struct http_request *request)
{
    (void)user;
    check_request(request);
    if (request->upload[0])
        demand(!access(request->upload, F_OK) && request->body);
    struct http_reply reply = {.status = 200,
                               .type = "text/plain",
                               .body = strdup(request->path),
                               .length = strlen(request->path)};
    http_answer(exchange, &reply);
}

static int on_upload(void *user, const struct http_request *request, uint64_t length,
                     char path[HTTP_PATH_BYTES], int *status, struct err *err)
{
    (void)user;
    check_request(request);
    if (length > 1 << 20) {
        *status = 413;
        return err_set(err, ERR_LIMIT, "too long");
    }
    int fd = open(upload_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    demand(fd >= 0);
    snprintf(path, HTTP_PATH_BYTES, "%s", upload_path);
    return fd;
}

static int on_upgrade(void *user, const struct http_request *request, struct http_socket *socket,
                      void **mine)
{
    (void)user;
    check_request(request);
    sockets_open++;
    *mine = socket;
    return 0;
}

static void on_opened(void *mine)
{
    http_socket_send(mine, "hello", 5);
}

static void on_received(void *mine, const void *bytes, size_t length)
{
    if (length && *(const char *)bytes == 'q')
        http_socket_close(mine);
    else
        http_socket_send(mine, bytes, length);
}

static void on_drained(void *mine)
{
    demand(mine != NULL);
}

static void on_closed(void *mine)
{
    demand(mine != NULL && sockets_open-- > 0);
}

static void clean_up(void)
{
    unlink(socket_path);
    unlink(upload_path);
    rmdir(folder);
}

static void open_server(void)
{
    static const struct http_ops ops = {.request = on_request,
                                        .upload = on_upload,
                                        .upgrade = on_upgrade,
                                        .opened = on_opened,
                                        .received = on_received,
                                        .drained = on_drained,
                                        .closed = on_closed};
    struct err err = {0};
    demand(mkdtemp(folder) != NULL);
    snprintf(socket_path, sizeof(socket_path), "%s/s", folder);
    snprintf(upload_path, sizeof(upload_path), "%s/u", folder);
    atexit(clean_up);
    struct http_options options = {
        .ops = &ops, .loop = os_loop_create(&err), .socket = socket_path};
    server = http_create(&options, &err);
    demand(server != NULL);
}

static int hang_on(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    demand(fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof(address)));
    return fd;
}

// A turn of the server, which waits for nothing; false when it has hung up.
static bool turn(int fd)
{
    char answer[8192];
    lws_service(server->context, -1);
    ssize_t n = recv(fd, answer, sizeof(answer), 0);
    return n > 0 || (n < 0 && errno == EAGAIN);
}

// Whoever waits for its answer before it asks again keeps its connection.
static void check_keeps_on(void)
{
    static const char request[] = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nb=c";
    int fd = hang_on();
    for (unsigned i = 0; i < 3; i++) {
        char answer[4096];
        ssize_t n = -1;
        demand(send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request));
        for (unsigned turns = 0; n < 0 && turns < TURNS_MAX; turns++) {
            lws_service(server->context, -1);
            n = recv(fd, answer, sizeof(answer), 0);
        }
        demand(n > 12 && !memcmp(answer, "HTTP/1.1 200", 12));
    }
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    if (!server) {
        open_server();
        check_keeps_on();
    }
    int fd = hang_on();
    bool there = true;
    // In two halves, as a network may cut it.
    size_t half = length / 2;
    there = turn(fd) && send(fd, bytes, half, MSG_NOSIGNAL) == (ssize_t)half;
    for (unsigned i = 0; i < TURNS && there; i++)
        there = turn(fd);
    if (there)
        send(fd, bytes + half, length - half, MSG_NOSIGNAL);
    for (unsigned i = 0; i < TURNS && there; i++)
        there = turn(fd);
    shutdown(fd, SHUT_WR);
    unsigned turns = 0;
    while (there && turns++ < TURNS_MAX)
        there = turn(fd);
    close(fd);
    lws_service(server->context, -1);
    demand(!there && !sockets_open && access(upload_path, F_OK) != 0);
    return 0;
}
