// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/helper/helper_internal.h"
#include "os/file.h"
#include "os/process.h"
#include "os/unix_socket.h"

#define FDS_MAX 240

struct helper {
    int socket; // packets; any thread sends
    pid_t pid;
};

struct child {
    int ends[2];
    const char *instance;
    int lock;
};

static void child_main(void *context)
{
    struct child *child = context;
    os_file_close(&child->ends[0]);
    helper_serve(child->ends[1], child->instance, child->lock);
}

struct helper *helper_start(const char *instance, const char *lock_path, struct err *err)
{
    struct child child = {.instance = instance,
                          .lock = os_file_open(lock_path, OS_FILE_WRITE | OS_FILE_CREATE, err)};
    if (child.lock < 0)
        return NULL;
    struct helper *helper = calloc(1, sizeof(*helper));
    if (!helper)
        abort();
    if (os_unix_pair(child.ends, true, err)) {
        os_file_close(&child.lock);
        free(helper);
        return NULL;
    }
    int failed = os_process_run_forked(child_main, &child, &helper->pid, err);
    os_file_close(&child.ends[1]);
    os_file_close(&child.lock);
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
    os_file_close(&helper->socket); // it ends by that, and has taken its network away then
    if (helper->pid > 0)
        os_process_wait(helper->pid);
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

// *fd becomes the descriptor beside it, or -1; NULL: none is expected.
static json_t *receive(int socket, int *fd, struct err *err)
{
    char packet[4096];
    size_t count;
    ssize_t n;
    do
        n = os_unix_receive(socket, packet, sizeof(packet), fd, fd ? 1 : 0, &count);
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

// Takes the request's reference. `fds` go beside it, behind `answer_to`, where the answer goes.
static int post(struct helper *helper, json_t *request, int answer_to, const int *fds, size_t count,
                struct err *err)
{
    int all[FDS_MAX + 1] = {answer_to};
    if (count > FDS_MAX) {
        json_decref(request);
        return err_set(err, ERR_LIMIT, "a process takes %d descriptors at most", FDS_MAX);
    }
    if (count)
        memcpy(all + 1, fds, count * sizeof(*fds));
    char *text = json_dumps(request, JSON_COMPACT);
    ssize_t sent = text ? os_unix_send(helper->socket, text, strlen(text), all, count + 1) : -1;
    int reason = errno;
    if (text)
        explicit_bzero(text, strlen(text)); // it may hold a password
    free(text);
    json_decref(request);
    return sent < 0 ? err_set_errno(err, reason, "the helper process cannot be reached") : 0;
}

static json_t *ask_for(struct helper *helper, json_t *request, const int *fds, size_t count,
                       int *fd, struct err *err)
{
    int ends[2];
    if (os_unix_pair(ends, true, err)) {
        json_decref(request);
        return NULL;
    }
    int failed = post(helper, request, ends[1], fds, count, err);
    os_file_close(&ends[1]);
    json_t *answer = failed ? NULL : receive(ends[0], fd, err);
    os_file_close(&ends[0]);
    return answer;
}

static json_t *ask(struct helper *helper, json_t *request, const int *fds, size_t count,
                   struct err *err)
{
    return ask_for(helper, request, fds, count, NULL, err);
}

int helper_spawn(struct helper *helper, const struct helper_spawn *spawn,
                 struct helper_spawned *spawned, struct err *err)
{
    json_t *words = json_array(), *numbers = json_array();
    for (size_t i = 0; spawn->words[i]; i++)
        json_array_append_new(words, json_string(spawn->words[i]));
    for (size_t i = 0; i < spawn->count; i++)
        json_array_append_new(numbers, json_integer(spawn->numbers[i]));
    json_t *answer = ask(
        helper,
        json_pack("{s:s, s:s, s:o, s:o, s:s, s:i, s:i, s:I}", "do", "spawn", "program",
                  spawn->program, "words", words, "numbers", numbers, "scope", spawn->scope,
                  "cpu_weight", (int)spawn->limits.cpu_weight, "cpu_percent",
                  (int)spawn->limits.cpu_percent, "memory", (json_int_t)spawn->limits.memory_bytes),
        spawn->fds, spawn->count, err);
    if (!answer)
        return -1;
    const char *scope = json_string_value(json_object_get(answer, "scope"));
    spawned->pid = (pid_t)json_integer_value(json_object_get(answer, "pid"));
    snprintf(spawned->scope, sizeof(spawned->scope), "%s", scope ? scope : "none");
    json_decref(answer);
    return 0;
}

int helper_limit(struct helper *helper, const char *scope, pid_t pid,
                 const struct os_cgroup_limits *limits, struct err *err)
{
    json_t *answer =
        ask(helper,
            json_pack("{s:s, s:s, s:i, s:i, s:i, s:I}", "do", "limit", "scope", scope, "pid",
                      (int)pid, "cpu_weight", (int)limits->cpu_weight, "cpu_percent",
                      (int)limits->cpu_percent, "memory", (json_int_t)limits->memory_bytes),
            NULL, 0, err);
    json_decref(answer);
    return answer ? 0 : -1;
}

void helper_release(struct helper *helper, const char *scope)
{
    int ends[2];
    if (os_unix_pair(ends, true, NULL))
        return; // it is swept away at the next start
    post(helper, json_pack("{s:s, s:s}", "do", "release", "scope", scope), ends[1], NULL, 0, NULL);
    os_file_close(&ends[0]);
    os_file_close(&ends[1]);
}

int helper_bridge(struct helper *helper, const char *subnet, char interface[16], struct err *err)
{
    json_t *answer =
        ask(helper, json_pack("{s:s, s:s}", "do", "bridge", "subnet", subnet), NULL, 0, err);
    const char *name = json_string_value(json_object_get(answer, "interface"));
    if (answer)
        snprintf(interface, 16, "%s", name ? name : "");
    json_decref(answer);
    return answer ? 0 : -1;
}

int helper_tap(struct helper *helper, const char *mac, const char *address, const char *name,
               struct err *err)
{
    int fd = -1;
    json_t *answer = ask_for(helper,
                             json_pack("{s:s, s:s, s:s, s:s}", "do", "tap", "mac", mac, "address",
                                       address, "name", name),
                             NULL, 0, &fd, err);
    if (answer && fd < 0)
        err_set(err, ERR_HOST, "the helper gave no interface");
    json_decref(answer);
    return fd;
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
