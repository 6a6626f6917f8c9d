// SPDX-License-Identifier: Apache-2.0
//
// `wirt ctl SOCKET COMMAND [MEMBER=VALUE]…`: one request of the control protocol, and its answer as a table.
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/units.h"
#include "cli/cli.h"
#include "cli/ctl.h"
#include "os/file.h"
#include "os/unix_socket.h"
#include "wire/schema.h"

#define LINE_BYTES 65536

static const struct schema_member *find_member(const struct schema_object *schema, const char *name,
                                               size_t length)
{
    for (const struct schema_member *m = schema->members; m->name; m++)
        if (strlen(m->name) == length && !memcmp(m->name, name, length))
            return m;
    return NULL;
}

// "member=value": numbers may carry a size suffix, objects are JSON.
static int add_member(json_t *request, const struct schema_object *schema, const char *word,
                      struct err *err)
{
    size_t length = strcspn(word, "=");
    const struct schema_member *member = find_member(schema, word, length);
    if (!word[length] || !member)
        return err_set(err, ERR_USAGE, "%s: %s has no such member; see doc/control-protocol.md",
                       word, schema->name);
    const char *value = word + length + 1;
    json_t *json = NULL;
    uint64_t number;
    if (member->type == SCHEMA_STRING)
        json = json_string(value);
    else if (member->type == SCHEMA_INTEGER && units_parse_size(value, 1, &number) &&
             number <= INT64_MAX)
        json = json_integer((json_int_t)number);
    else if (member->type != SCHEMA_INTEGER)
        json = json_loads(value, JSON_DECODE_ANY, NULL);
    if (!json)
        return err_set(err, ERR_USAGE, "%s: the value is not of the member's type", word);
    return json_object_set_new(request, member->name, json);
}

static json_t *make_request(int argc, char **argv, struct err *err)
{
    const struct schema_command *command = schema_find_command(argv[0]);
    if (!command) {
        err_set(err, ERR_USAGE, "%s: there is no such command; `wirt help ctl` lists them",
                argv[0]);
        return NULL;
    }
    json_t *request = json_object();
    for (int i = 1; i < argc; i++)
        if (add_member(request, &command->request, argv[i], err))
            goto failed;
    if (schema_check(&command->request, request, "", err))
        goto failed;
    json_object_set_new(request, "do", json_string(command->name));
    return request;
failed:
    json_decref(request);
    return NULL;
}

static int send_request(int socket, json_t *request, const struct ctl_files *files, struct err *err)
{
    char *text = json_dumps(request, JSON_COMPACT);
    size_t length = strlen(text);
    text[length] = '\n'; // in place of the terminator
    ssize_t n = os_unix_send(socket, text, length + 1, files->fds, files->count);
    free(text);
    return n == (ssize_t)(length + 1) ? 0 : err_set_errno(err, errno, "cannot send the request");
}

// The next line that is an answer; events before it are passed over.
static json_t *receive_answer(int socket, struct err *err)
{
    char *line = malloc(LINE_BYTES);
    size_t used = 0;
    json_t *answer = NULL;
    while (!answer) {
        size_t ignored;
        ssize_t n = os_unix_receive(socket, line + used, LINE_BYTES - used, NULL, 0, &ignored);
        if (n <= 0) {
            err_set(err, ERR_IO, "the machine closed the connection without an answer");
            break;
        }
        used += (size_t)n;
        char *end;
        while (!answer && (end = memchr(line, '\n', used))) {
            json_t *object = json_loadb(line, (size_t)(end - line), 0, NULL);
            used -= (size_t)(end + 1 - line);
            memmove(line, end + 1, used);
            if (object && json_object_get(object, "id") && !json_object_get(object, "event"))
                answer = object;
            else
                json_decref(object);
        }
    }
    free(line);
    return answer;
}

static void print_value(const char *name, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    printf("%-26s %s\n", name, json_is_string(value) ? json_string_value(value) : text);
    free(text);
}

static int print_answer(const json_t *answer, bool as_json)
{
    const json_t *error = json_object_get(answer, "error");
    if (error) {
        fprintf(stderr, "wirt ctl: %s\n", json_string_value(json_object_get(error, "message")));
        return err_exit_status(ERR_BUSY);
    }
    json_t *ok = json_object_get(answer, "ok");
    if (as_json) {
        json_dumpf(ok, stdout, JSON_INDENT(2));
        putchar('\n');
        return 0;
    }
    const char *name;
    json_t *value;
    json_object_foreach(ok, name, value) print_value(name, value);
    return 0;
}

json_t *ctl_ask(int socket, json_t *request, const struct ctl_files *files, struct err *err)
{
    static const struct ctl_files none;
    json_object_set_new(request, "id", json_integer(1));
    json_t *answer = NULL;
    if (!send_request(socket, request, files ? files : &none, err))
        answer = receive_answer(socket, err);
    return answer;
}

// With `--wait`, and always for what is done at once, the job's end is the answer.
static json_t *wait_for_job(int socket, json_t *answer, bool wait, struct err *err)
{
    const json_t *job = json_object_get(json_object_get(answer, "ok"), "job");
    if (!wait || !job)
        return answer;
    json_t *request = json_pack("{s:s, s:O}", "do", "job-wait", "job", job);
    json_decref(answer);
    answer = ctl_ask(socket, request, NULL, err);
    json_decref(request);
    return answer;
}

static bool take_word(int *argc, char **argv, const char *word)
{
    bool last = *argc > 1 && !strcmp(argv[*argc - 1], word);
    *argc -= last;
    return last;
}

// Did a job that was waited for come to a bad end?
static bool job_failed(const json_t *answer, struct err *err)
{
    const char *reason =
        json_string_value(json_object_get(json_object_get(answer, "ok"), "reason"));
    if (reason)
        err_set(err, ERR_IO, "%s", reason);
    return reason;
}

int ctl_send(const char *path, const char *name, struct err *err)
{
    char *words[] = {(char *)(uintptr_t)name, NULL};
    json_t *request = make_request(1, words, err);
    int socket = request ? os_unix_connect(path, err) : -1;
    json_t *answer = socket >= 0 ? ctl_ask(socket, request, NULL, err) : NULL;
    const json_t *error = json_object_get(answer, "error");
    if (error)
        err_set(err, ERR_BUSY, "%s", json_string_value(json_object_get(error, "message")));
    else if (answer)
        print_answer(answer, false);
    int result = answer && !error ? 0 : -1;
    json_decref(request);
    json_decref(answer);
    os_file_close(&socket);
    return result;
}

int cli_ctl(int argc, char **argv)
{
    struct err err = {0};
    bool as_json = take_word(&argc, argv, "--json"), wait = take_word(&argc, argv, "--wait");
    as_json |= take_word(&argc, argv, "--json");
    if (argc < 3) {
        err_set(&err, ERR_USAGE, "needs a socket and a command; `wirt help ctl` lists them");
        return cli_fail("ctl", &err);
    }
    if (argc == 3 && !strcmp(argv[2], "console"))
        return ctl_console(argv[1], &err) ? cli_fail("ctl", &err) : 0;
    int status = -1;
    int socket = -1;
    json_t *answer = NULL;
    struct ctl_files files = {.count = 0};
    json_t *request = make_request(argc - 2, argv + 2, &err);
    wait |= !strcmp(argv[2], "disk-snapshot");
    if (request && (socket = os_unix_connect(argv[1], &err)) >= 0 &&
        !ctl_open_files(socket, request, &files, &err))
        answer = ctl_ask(socket, request, &files, &err);
    if (answer)
        answer = wait_for_job(socket, answer, wait, &err);
    bool failed = !answer || json_object_get(answer, "error") || job_failed(answer, &err);
    ctl_close_files(&files, failed);
    if (answer && !err.code)
        status = print_answer(answer, as_json);
    json_decref(request);
    json_decref(answer);
    os_file_close(&socket);
    return status < 0 ? cli_fail("ctl", &err) : status;
}
