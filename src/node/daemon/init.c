// SPDX-License-Identifier: Apache-2.0
//
// `wirt init`, and `wirtd --stop-guests`: short requests to a wirtd that runs, by its Unix socket. A store belongs to one process: only while nobody runs on it
// it is opened here.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/auth/auth.h"
#include "node/daemon/daemon.h"
#include "node/task/task.h"
#include "os/directory.h"
#include "os/file.h"
#include "os/poll_set.h"
#include "os/unix_socket.h"

#define PATH_BYTES   4096
#define ANSWER_BYTES 65536
#define ASK_AGAIN_MS 500

static int init_here(const char *state, const char *admin, const char *password, struct err *err)
{
    char store_path[PATH_BYTES], key_path[PATH_BYTES];
    snprintf(store_path, sizeof(store_path), "%.3000s/store.db", state);
    snprintf(key_path, sizeof(key_path), "%.3000s/auth.key", state);
    struct store *store = store_open(store_path, err);
    struct auth_options options = {.store = store, .key_path = key_path};
    struct auth *auth = store ? auth_create(&options, err) : NULL;
    int result = auth ? auth_make_admin(auth, admin, password, err) : -1;
    auth_destroy(auth);
    store_close(store);
    return result;
}

// One request and its whole answer, as the owner of the socket: its `data`, or NULL and *err. Takes the body's reference.
static json_t *ask(const char *socket, const char *method, const char *path, json_t *body,
                   struct err *err)
{
    char head[768], *text = json_dumps(body, JSON_COMPACT), *answer = malloc(ANSWER_BYTES);
    json_decref(body);
    int fd = os_unix_connect(socket, err);
    bool bare = !strcmp(method, "GET");
    size_t length = !bare && text ? strlen(text) : 0;
    int head_length = snprintf(head, sizeof(head),
                               "%s /api2/json%s HTTP/1.1\r\nHost: local\r\nConnection: close\r\n"
                               "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                               method, path, length);
    size_t used = 0, none;
    ssize_t n = -1;
    if (fd >= 0 && text && answer && !os_unix_send_all(fd, head, (size_t)head_length) &&
        !os_unix_send_all(fd, text, length))
        while (used < ANSWER_BYTES - 1 &&
               (n = os_unix_receive(fd, answer + used, ANSWER_BYTES - 1 - used, NULL, 0, &none)) >
                   0)
            used += (size_t)n;
    if (fd >= 0 && !used)
        err_set(err, ERR_HOST, "wirtd does not answer on '%s'", socket);
    os_file_close(&fd);
    free(text);
    json_t *data = NULL;
    int status;
    if (used) {
        answer[used] = 0;
        const char *reason = answer + strcspn(answer, " "), *rest = strstr(answer, "\r\n\r\n");
        json_t *whole = rest ? json_loads(rest + 4, 0, NULL) : NULL;
        if (sscanf(answer, "HTTP/1.1 %d", &status) == 1 && status == 200)
            data = json_incref(json_object_get(whole, "data"));
        if (!data)
            err_set(err, ERR_HOST, "wirtd says:%.*s", (int)strcspn(reason, "\r\n"), reason);
        json_decref(whole);
    }
    free(answer);
    return data;
}

static int init_there(const char *socket, const char *admin, const char *password, struct err *err)
{
    json_t *data = ask(socket, "POST", "/access/init",
                       json_pack("{s:s, s:s}", "userid", admin, "password", password), err);
    json_decref(data);
    return data ? 0 : -1;
}

int daemon_init(const char *state, const char *socket, const char *admin, const char *password,
                struct err *err)
{
    char id[AUTH_ID_BYTES], lock_path[PATH_BYTES], socket_path[PATH_BYTES];
    if (auth_canonical(admin, "wirt", id, err))
        return -1;
    if (strcmp(strchr(id, '@'), "@wirt") != 0)
        return err_set(err, ERR_USAGE,
                       "the first administrator is of the realm wirt, as root@wirt");
    if (strlen(password) < 8)
        return err_set(err, ERR_USAGE, "the password has less than 8 characters");
    if (os_directory_make_all(state, 0700, err))
        return -1;
    snprintf(lock_path, sizeof(lock_path), "%.3000s/lock", state);
    snprintf(socket_path, sizeof(socket_path), "%.3000s/wirtd.sock", state);
    int lock = os_file_open(lock_path, OS_FILE_WRITE | OS_FILE_CREATE, err);
    if (lock < 0)
        return -1;
    int result = os_file_lock(lock, 0, 1, true)
                     ? init_there(socket ? socket : socket_path, id, password, err)
                     : init_here(state, id, password, err);
    os_file_close(&lock);
    return result;
}

// ---- Before the machine goes down.

// How the task ended, once it has; NULL and *err when nobody tells any more.
static json_t *wait_task(const char *socket, const char *upid, struct err *err)
{
    char path[TASK_UPID_BYTES + 64];
    snprintf(path, sizeof(path), "/nodes/localhost/tasks/%s/status", upid);
    for (;;) {
        json_t *status = ask(socket, "GET", path, json_object(), err);
        const char *state = json_string_value(json_object_get(status, "status"));
        if (!status || (state && !strcmp(state, "stopped")))
            return status;
        json_decref(status);
        os_poll(NULL, 0, ASK_AGAIN_MS);
    }
}

int daemon_stop_guests(const char *state, const char *socket, struct err *err)
{
    char socket_path[PATH_BYTES];
    snprintf(socket_path, sizeof(socket_path), "%.3000s/wirtd.sock", state);
    const char *path = socket ? socket : socket_path;
    json_t *upid = ask(path, "POST", "/nodes/localhost/stopall", json_object(), err);
    json_t *status = upid ? wait_task(path, json_string_value(upid), err) : NULL;
    const char *end = json_string_value(json_object_get(status, "exitstatus"));
    int result = !status                     ? -1
                 : end && !strcmp(end, "OK") ? 0
                                             : err_set(err, ERR_HOST, "%s", end ? end : "unknown");
    json_decref(status);
    json_decref(upid);
    return result;
}
