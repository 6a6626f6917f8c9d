// SPDX-License-Identifier: Apache-2.0
//
// `wirt init`. A store belongs to one process: while wirtd runs it is asked, by its Unix socket; else the store is opened here.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/auth/auth.h"
#include "node/daemon/daemon.h"
#include "os/directory.h"
#include "os/file.h"
#include "os/unix_socket.h"

#define PATH_BYTES   4096
#define ANSWER_BYTES 65536

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

// One request and its whole answer, as the owner of the socket.
static int ask(const char *socket, const char *path, json_t *body, int *status, struct err *err)
{
    char head[512], *text = json_dumps(body, JSON_COMPACT), *answer = malloc(ANSWER_BYTES);
    json_decref(body);
    int fd = os_unix_connect(socket, err);
    int length = snprintf(head, sizeof(head),
                          "POST /api2/json%s HTTP/1.1\r\nHost: local\r\nConnection: close\r\n"
                          "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                          path, text ? strlen(text) : 0);
    size_t used = 0, none;
    ssize_t n = -1;
    if (fd >= 0 && text && answer && os_unix_send(fd, head, (size_t)length, NULL, 0) == length &&
        os_unix_send(fd, text, strlen(text), NULL, 0) == (ssize_t)strlen(text))
        while (used < ANSWER_BYTES - 1 &&
               (n = os_unix_receive(fd, answer + used, ANSWER_BYTES - 1 - used, NULL, 0, &none)) >
                   0)
            used += (size_t)n;
    int result = -1;
    if (used) {
        answer[used] = 0;
        result = sscanf(answer, "HTTP/1.1 %d", status) == 1 ? 0 : -1;
        const char *reason = answer + strcspn(answer, " ");
        if (!result && *status != 200)
            result =
                err_set(err, ERR_HOST, "wirtd says:%.*s", (int)strcspn(reason, "\r\n"), reason);
    } else if (fd >= 0) {
        err_set(err, ERR_HOST, "wirtd does not answer on '%s'", socket);
    }
    os_file_close(&fd);
    free(text);
    free(answer);
    return result;
}

static int init_there(const char *socket, const char *admin, const char *password, struct err *err)
{
    int status = 0;
    return ask(socket, "/access/init",
               json_pack("{s:s, s:s}", "userid", admin, "password", password), &status, err);
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
