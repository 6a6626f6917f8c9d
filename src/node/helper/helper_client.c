// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/helper/helper_internal.h"
#include "os/file.h"
#include "os/unix_socket.h"

#define FDS_MAX 240

struct helper {
    int socket; // packets; any thread sends
    pid_t pid;
};

struct child {
    int ends[2];
};

static void child_main(void *context)
{
    struct child *child = context;
    os_file_close(&child->ends[0]);
    helper_serve(child->ends[1]);
}

struct helper *helper_start(struct err *err)
{
    struct child child;
    struct helper *helper = calloc(1, sizeof(*helper));
    if (!helper)
        abort();
    if (os_unix_pair(child.ends, true, err)) {
        free(helper);
        return NULL;
    }
    int failed = os_process_run_forked(child_main, &child, &helper->pid, err);
    os_file_close(&child.ends[1]);
    helper->socket = child.ends[0];
    if (!failed)
        return helper;
    helper_stop(helper);
    return NULL;
}

void helper_stop(struct helper *helper)
{
    if (!helper)
        return;
    os_file_close(&helper->socket); // it ends by that
    free(helper);
}

// The answer's error, as ours.
static int take_error(const json_t *error, struct err *err)
{
    const char *text = json_string_value(json_object_get(error, "text"));
    json_int_t code = json_integer_value(json_object_get(error, "code"));
    bool known = code > ERR_NONE && code < ERR_CODE_COUNT;
    return err_set(err, known ? (enum err_code)code : ERR_HOST, "%s",
                   text ? text : "the helper failed");
}

static json_t *receive(int socket, struct err *err)
{
    char packet[4096];
    size_t none;
    ssize_t n;
    do
        n = os_unix_receive(socket, packet, sizeof(packet), NULL, 0, &none);
    while (n < 0 && errno == EINTR);
    json_t *answer = n > 0 ? json_loadb(packet, (size_t)n, 0, NULL) : NULL;
    const json_t *error = json_object_get(answer, "error");
    if (answer && !error)
        return answer;
    if (error)
        take_error(error, err);
    else
        err_set(err, ERR_HOST, "the helper process is gone");
    json_decref(answer);
    return NULL;
}

// Takes the request's reference. `fds` go beside it, behind the answering socket.
static json_t *ask(struct helper *helper, json_t *request, const int *fds, size_t count,
                   struct err *err)
{
    int ends[2], all[FDS_MAX + 1];
    if (count > FDS_MAX || os_unix_pair(ends, true, err)) {
        json_decref(request);
        if (count > FDS_MAX)
            err_set(err, ERR_LIMIT, "a process takes %d descriptors at most", FDS_MAX);
        return NULL;
    }
    all[0] = ends[1];
    if (count)
        memcpy(all + 1, fds, count * sizeof(*fds));
    char *text = json_dumps(request, JSON_COMPACT);
    ssize_t sent = text ? os_unix_send(helper->socket, text, strlen(text), all, count + 1) : -1;
    if (text)
        explicit_bzero(text, strlen(text)); // it may hold a password
    free(text);
    json_decref(request);
    os_file_close(&ends[1]);
    json_t *answer = NULL;
    if (sent < 0)
        err_set_errno(err, errno, "the helper process cannot be reached");
    else
        answer = receive(ends[0], err);
    os_file_close(&ends[0]);
    return answer;
}

int helper_spawn(struct helper *helper, const struct helper_spawn *spawn, pid_t *pid,
                 struct err *err)
{
    json_t *words = json_array(), *numbers = json_array();
    for (size_t i = 0; spawn->words[i]; i++)
        json_array_append_new(words, json_string(spawn->words[i]));
    for (size_t i = 0; i < spawn->count; i++)
        json_array_append_new(numbers, json_integer(spawn->numbers[i]));
    json_t *answer =
        ask(helper,
            json_pack("{s:s, s:s, s:o, s:o, s:s}", "do", "spawn", "program", spawn->program,
                      "words", words, "numbers", numbers, "scope", spawn->scope),
            spawn->fds, spawn->count, err);
    if (!answer)
        return -1;
    *pid = (pid_t)json_integer_value(json_object_get(answer, "pid"));
    json_decref(answer);
    return 0;
}

int helper_kill(struct helper *helper, pid_t pid, struct err *err)
{
    json_t *answer =
        ask(helper, json_pack("{s:s, s:i}", "do", "kill", "pid", (int)pid), NULL, 0, err);
    json_decref(answer);
    return answer ? 0 : -1;
}

int helper_pam(void *helper, const char *user, const char *password, struct err *err)
{
    json_t *answer =
        ask(helper, json_pack("{s:s, s:s, s:s}", "do", "pam", "user", user, "password", password),
            NULL, 0, err);
    json_decref(answer);
    return answer ? 0 : -1;
}
